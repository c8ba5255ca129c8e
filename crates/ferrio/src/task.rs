//! Rust futures as tasks of a loop, and how a future finds the loop that polls it.
//!
//! `async-task` keeps the task's state machine; scheduling one means pushing its [`Runnable`] to the ready queue if the
//! waker fires on the loop's own thread, and to the inbox otherwise.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use async_task::Runnable;

use crate::cause::Cause;
use crate::descriptors::{Direction, WaitId};
use crate::event_loop::{Due, Engine, Remote, Work};
use crate::host::Host;
use crate::poll::RawFd;
use crate::pool::Pool;
use crate::timers::TimerId;

/// What a future may ask of the loop that polls it, whatever language that loop serves.
pub trait Reactor: Any {
    /// The loop's clock, in nanoseconds.
    fn now(&self) -> u64;
    /// Wakes `waker` at `when` (nanoseconds of the loop's clock).
    fn wake_at(&self, when: u64, waker: Waker) -> TimerId;
    /// Cancels a timer of [`wake_at`](Self::wake_at); one that has fired is no error.
    fn forget_timer(&self, id: TimerId);
    /// Wakes `waker` the next time `fd` has news, together with whoever else waits for it. `cause` is what it is news of,
    /// if not of the descriptor itself.
    ///
    /// # Errors
    /// The operating system's, if it cannot watch `fd`; `AlreadyExists` if the host language watches it.
    fn wake_on(&self, fd: RawFd, direction: Direction, waker: Waker, cause: Option<Cause>) -> io::Result<WaitId>;
    /// Whether a wait of [`wake_on`](Self::wake_on) is still on; if it is, `waker` is the one that will be woken.
    fn renew(&self, fd: RawFd, direction: Direction, id: WaitId, waker: &Waker) -> bool;
    /// Ends a wait of [`wake_on`](Self::wake_on); one that is over is no error.
    fn forget(&self, fd: RawFd, direction: Direction, id: WaitId);
    /// `fd` is about to be closed.
    fn release(&self, fd: RawFd);
    /// Makes one poll of a task ready.
    fn schedule(&self, runnable: Runnable);
    /// The way back to this loop for the wakers of its tasks.
    fn scheduler(&self) -> Arc<dyn Schedule>;
    /// The number of a new task.
    fn next_task(&self) -> u64;
    /// Enters a task into the list of those that are cancelled when the loop ends.
    fn adopt(&self, number: u64, task: Canceller);
    /// A task has ended.
    fn disown(&self, number: u64);
    /// The threads for calls that block.
    fn pool(&self) -> &Pool;
    /// One more call runs on another thread, and virtual time must not overtake it.
    fn hold_clock(&self);
    /// The call of [`hold_clock`](Self::hold_clock) is over.
    fn let_clock_go(&self);
    /// The number of this loop, which no other loop of the process has.
    fn identity(&self) -> u64;
}

impl<H: Host> Reactor for Engine<H> {
    fn now(&self) -> u64 {
        Engine::now(self)
    }

    fn wake_at(&self, when: u64, waker: Waker) -> TimerId {
        self.timer(when, Due::Wake(waker))
    }

    fn forget_timer(&self, id: TimerId) {
        drop(self.cancel_timer(id));
    }

    fn wake_on(&self, fd: RawFd, direction: Direction, waker: Waker, cause: Option<Cause>) -> io::Result<WaitId> {
        self.join_wait_for(fd, direction, waker, cause)
    }

    fn renew(&self, fd: RawFd, direction: Direction, id: WaitId, waker: &Waker) -> bool {
        self.renew_wait(fd, direction, id, waker)
    }

    fn forget(&self, fd: RawFd, direction: Direction, id: WaitId) {
        self.leave_wait(fd, direction, id);
    }

    fn release(&self, fd: RawFd) {
        Engine::release(self, fd);
    }

    fn schedule(&self, runnable: Runnable) {
        self.enqueue(Work::Rust(runnable), self.cause());
    }

    fn scheduler(&self) -> Arc<dyn Schedule> {
        self.remote().clone()
    }

    fn next_task(&self) -> u64 {
        self.new_task_number()
    }

    fn adopt(&self, number: u64, task: Canceller) {
        self.adopt_task(number, task);
    }

    fn disown(&self, number: u64) {
        self.disown_task(number);
    }

    fn pool(&self) -> &Pool {
        self.blocking()
    }

    fn hold_clock(&self) {
        Engine::hold_clock(self);
    }

    fn let_clock_go(&self) {
        Engine::let_clock_go(self);
    }

    fn identity(&self) -> u64 {
        self.remote().id
    }
}

/// Where a task goes when it is woken, from any thread.
pub trait Schedule: Send + Sync {
    /// Makes one poll of a task ready.
    fn schedule(&self, runnable: Runnable);
}

/// Cancels one task, from any thread and as often as you like.
#[derive(Clone, Debug)]
pub struct Canceller {
    wanted: Arc<AtomicBool>,
    waker: Waker,
}

impl Canceller {
    /// `waker` makes the task look whether it is `wanted` that it ends.
    pub(crate) fn new(wanted: Arc<AtomicBool>, waker: Waker) -> Self {
        Canceller { wanted, waker }
    }

    /// Asks the task to end: when its turn comes, its future is dropped where it stands. A task that has ended is left
    /// alone.
    pub fn cancel(&self) {
        if !self.wanted.swap(true, Ordering::Relaxed) {
            self.waker.wake_by_ref();
        }
    }
}

thread_local! {
    static CURRENT: Cell<Option<NonNull<dyn Reactor>>> = const { Cell::new(None) };
}

/// Marks a loop as the one that runs on this thread, and puts the former one back when dropped.
pub(crate) struct Current(Option<NonNull<dyn Reactor>>);

impl Current {
    pub fn enter<H: Host>(engine: &Engine<H>) -> Self {
        let reactor: &dyn Reactor = engine;
        Current(CURRENT.replace(Some(NonNull::from(reactor))))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Calls `f` with the loop that runs on this thread, if one does.
pub fn with_current<R>(f: impl FnOnce(&dyn Reactor) -> R) -> Option<R> {
    // SAFETY: the pointer is set only while the engine is borrowed by whoever holds the `Current` further up this
    // thread's stack, and taken back before that borrow ends.
    CURRENT.get().map(|reactor| f(unsafe { reactor.as_ref() }))
}

/// As [`with_current`], for what makes no sense without a loop.
///
/// # Panics
/// If no loop runs on this thread.
#[track_caller]
pub(crate) fn current<R>(f: impl FnOnce(&dyn Reactor) -> R) -> R {
    match with_current(f) {
        Some(result) => result,
        None => panic!("no loop runs on this thread: this must be called or awaited inside ferrio::run"),
    }
}

/// Calls `f` with the loop of that number, if it is the one that runs on this thread. What a future has left with a
/// loop is taken back this way: a future that is dropped elsewhere must not disturb the loop it happens to meet there.
pub(crate) fn with_loop<R>(identity: u64, f: impl FnOnce(&dyn Reactor) -> R) -> Option<R> {
    with_current(|reactor| (reactor.identity() == identity).then(|| f(reactor))).flatten()
}

impl<J: Send + 'static> Remote<J> {
    /// Whether this is the loop that runs on the calling thread.
    pub fn is_current(&self) -> bool {
        with_loop(self.id, |_| ()).is_some()
    }
}

impl<J: Send + 'static> Schedule for Remote<J> {
    fn schedule(&self, runnable: Runnable) {
        if self.is_current() {
            with_current(|reactor| reactor.schedule(runnable));
        } else {
            self.post(Work::Rust(runnable), Cause::THREAD);
        }
    }
}

impl<H: Host> Engine<H> {
    /// Runs `future` as a task of this loop. Dropping the task cancels it; `detach` lets it go on by itself.
    pub fn spawn<F>(&self, future: F) -> async_task::Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let remote = self.remote().clone();
        let (runnable, task) = async_task::spawn(future, move |runnable| remote.schedule(runnable));
        runnable.schedule();
        task
    }

    /// As [`spawn`](Self::spawn), for a future that must stay on this thread.
    ///
    /// # Panics
    /// If the future is polled or dropped on another thread.
    pub fn spawn_local<F>(&self, future: F) -> async_task::Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let remote = self.remote().clone();
        let (runnable, task) = async_task::spawn_local(future, move |runnable| remote.schedule(runnable));
        runnable.schedule();
        task
    }
}
