//! [`run`] and [`Loop`]: a Rust program on a loop of its own.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::cause::Cause;
use crate::clock::Clock;
use crate::event_loop::{Engine, Remote};
use crate::host::Host;
use crate::ready::Order;
use crate::task::{self, Current, with_current};

/// Runs `future` on a new loop and gives its result: `asyncio.run`.
///
/// When it has ended, tasks that have not are cancelled, eldest first, and blocking calls that run are waited for. A
/// panic of `future` goes on here; that of a task comes out of its [`JoinHandle`](crate::JoinHandle) instead.
///
/// ```
/// let answer = ferrio::run(async { 6 * 7 });
/// assert_eq!(answer, 42);
/// ```
///
/// # Panics
/// If a loop runs on this thread already, and if the operating system gives no poller (out of descriptors):
/// [`Builder::build`] gives the latter as an error.
#[track_caller]
pub fn run<F: Future>(future: F) -> F::Output {
    match Loop::new() {
        Ok(new) => new.run(future),
        Err(error) => panic!("the operating system gives no poller for a loop: {error}"),
    }
}

/// A loop that serves a Rust program. Most programs need only [`run`].
pub struct Loop {
    engine: Engine<Program>,
    /// Its tasks need not be `Send`, so the loop stays where it was made.
    _stays: PhantomData<*const ()>,
}

impl Loop {
    /// A loop with the real clock that runs what is ready in the order in which it became so.
    ///
    /// # Errors
    /// The operating system's, if it gives no poller.
    pub fn new() -> io::Result<Loop> {
        Self::builder().build()
    }

    /// A loop with other properties.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Runs `future` and gives its result, as the function [`run`] does. The loop can run again afterwards.
    ///
    /// # Panics
    /// If a loop runs on this thread already.
    #[track_caller]
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        assert!(with_current(|_| ()).is_none(), "a loop runs on this thread already: await the future instead");
        let engine = &self.engine;
        let main = Arc::new(MainWaker { remote: engine.remote().clone(), is_queued: AtomicBool::new(true) });
        let waker = Waker::from(main.clone());
        let outcome = Cell::new(None);
        let is_done = Cell::new(false);
        {
            let future = pin!(future);
            let future = RefCell::new(future);
            let poll_main = || {
                main.is_queued.store(false, Ordering::Release);
                if is_done.get() {
                    return;
                }
                let poll = || future.borrow_mut().as_mut().poll(&mut Context::from_waker(&waker));
                let result = match catch_unwind(AssertUnwindSafe(poll)) {
                    Ok(Poll::Pending) => return,
                    Ok(Poll::Ready(value)) => Ok(value),
                    Err(panic) => Err(panic),
                };
                outcome.set(Some(result));
                is_done.set(true);
                engine.stop();
            };
            engine.soon(Main);
            if let Err(error) = engine.run(&poll_main).and_then(|()| self.end(&poll_main)) {
                panic!("the operating system refuses to wait: {error}");
            }
        }
        // A waker that somebody kept must not reach into a later run.
        main.is_queued.store(true, Ordering::Release);
        match outcome.take() {
            Some(Ok(value)) => value,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("the loop stops when the outcome is there"),
        }
    }

    /// Cancels what has not ended until nothing is left: a future that is dropped may make new tasks.
    fn end(&self, poll_main: &dyn Fn()) -> io::Result<()> {
        let _current = Current::enter(&self.engine);
        while self.engine.cancel_tasks() {
            self.engine.turn(poll_main)?;
        }
        self.engine.join_threads();
        self.engine.clear();
        Ok(())
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop").field("now", &self.engine.now()).field("steps", &self.engine.steps()).finish()
    }
}

/// The properties of a [`Loop`].
///
/// ```
/// use std::time::Duration;
///
/// // A test that sleeps for a day in a moment, and runs what is ready in one of many possible orders.
/// let day = Duration::from_secs(24 * 3600);
/// let test = ferrio::Loop::builder().virtual_clock().seed(7).build()?;
/// test.run(ferrio::sleep(day));
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "build() makes the loop"]
pub struct Builder {
    is_virtual: bool,
    order: Order,
}

impl Builder {
    /// Time that jumps to the next timer whenever there is nothing else to do, so that sleeping takes no time and lasts
    /// exactly as long as it should.
    pub fn virtual_clock(mut self) -> Self {
        self.is_virtual = true;
        self
    }

    /// Shuffles what is ready within a turn. The same seed gives the same order; a program that works with some seeds
    /// only depends on an order that nobody promised.
    pub fn seed(mut self, seed: u64) -> Self {
        self.order = Order::Seeded(seed);
        self
    }

    /// Makes the loop.
    ///
    /// # Errors
    /// The operating system's, if it gives no poller.
    pub fn build(self) -> io::Result<Loop> {
        let clock = if self.is_virtual { Clock::starting_at(0) } else { Clock::Real };
        Ok(Loop { engine: Engine::new(Program, clock, self.order)?, _stays: PhantomData })
    }
}

/// The host of a loop that serves no other language: its one callback polls the main future.
struct Program;

/// "Poll the main future."
#[derive(Clone, Copy)]
struct Main;

impl Host for Program {
    /// How to poll the main future, which lies on the stack of [`Loop::run`].
    type Cx<'a> = &'a dyn Fn();
    type Job = Main;
    type Abort = io::Error;

    fn run(_: &Engine<Self>, poll_main: Self::Cx<'_>, Main: Main, _: Cause) -> io::Result<()> {
        poll_main();
        Ok(())
    }

    fn again(_: Self::Cx<'_>, Main: &Main) -> Main {
        Main
    }

    fn key(Main: &Main) -> u64 {
        1
    }

    fn name(Main: &Main) -> String {
        "the main future".to_owned()
    }

    fn settle(_: &Engine<Self>, _: Self::Cx<'_>) {}

    fn park<R: Send>(_: Self::Cx<'_>, wait: impl FnOnce() -> R + Send) -> R {
        wait()
    }

    fn wait_failed(_: &Engine<Self>, _: Self::Cx<'_>, error: io::Error) -> io::Result<()> {
        if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
    }

    /// Tasks catch their panics: this one came out of a waker, and the panic hook has told of it.
    fn panicked(_: &Engine<Self>, _: Self::Cx<'_>, _: Box<dyn Any + Send>) {}
}

/// Makes the main future ready, once until it is polled.
struct MainWaker {
    remote: Arc<Remote<Main>>,
    is_queued: AtomicBool,
}

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let here = task::with_loop(self.remote.id, |reactor| {
            let any: &dyn Any = reactor;
            any.downcast_ref::<Engine<Program>>().map(|engine| engine.soon(Main))
        });
        if here.flatten().is_none() {
            self.remote.soon(Main, Cause::THREAD);
        }
    }
}
