//! [`spawn_blocking`]: a call that blocks, on a thread of its own.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::task;
use crate::tasks::{JoinHandle, Panic, create_task};

/// Runs `call`, which may block, on another thread, so that the loop goes on meanwhile: `asyncio.to_thread`.
///
/// Cancelling it before a thread was free means that it never runs; a call that runs already cannot be stopped, only
/// its result is given up. The end of [`run`](crate::run) waits for such a call. Virtual time stands still as long as
/// somebody waits for a call.
///
/// ```
/// ferrio::run(async {
///     let text = ferrio::spawn_blocking(|| std::fs::read_to_string("Cargo.toml")).await.unwrap();
///     assert!(text.unwrap().contains("ferrio"));
/// });
/// ```
///
/// # Panics
/// If no loop runs on this thread, or if the operating system refuses to start any thread.
#[track_caller]
pub fn spawn_blocking<T, F>(call: F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let reply = Arc::new(Mutex::new(Reply { result: None, waker: None }));
    // A weak reference: with nobody left to take the reply, there is no reason to begin.
    let destination = Arc::downgrade(&reply);
    let job = Box::new(move || {
        if destination.strong_count() == 0 {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(call));
        let Some(reply) = destination.upgrade() else { return };
        let waker = {
            let mut reply = lock(&reply);
            reply.result = Some(result);
            reply.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    let clock = HeldClock::new();
    if let Err(error) = task::current(|reactor| reactor.pool().submit(job)) {
        panic!("no thread can be started for a blocking call: {error}");
    }
    create_task(async move {
        let _clock = clock;
        let result = poll_fn(|cx| {
            let mut reply = lock(&reply);
            match reply.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    reply.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        result.await.unwrap_or_else(|panic| Panic::new(panic).resume())
    })
}

/// Where a call's result waits for its task.
struct Reply<T> {
    result: Option<Result<T, Box<dyn Any + Send>>>,
    waker: Option<Waker>,
}

fn lock<T>(reply: &Mutex<Reply<T>>) -> MutexGuard<'_, Reply<T>> {
    reply.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Virtual time stands still while this lives.
struct HeldClock {
    identity: u64,
}

impl HeldClock {
    #[track_caller]
    fn new() -> Self {
        task::current(|reactor| {
            reactor.hold_clock();
            HeldClock { identity: reactor.identity() }
        })
    }
}

impl Drop for HeldClock {
    fn drop(&mut self) {
        task::with_loop(self.identity, |reactor| reactor.let_clock_go());
    }
}
