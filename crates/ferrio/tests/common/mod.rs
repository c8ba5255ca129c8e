//! A host for tests: its callbacks are closures that write into a log.
// Each test file uses its own part of this.
#![allow(dead_code)]

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};

use ferrio::cause::Cause;
use ferrio::clock::Clock;
use ferrio::event_loop::{Due, Engine};
use ferrio::host::Host;
use ferrio::ready::Order;
use ferrio::task::{Reactor, with_current};

/// What a test's loop has seen.
#[derive(Default)]
pub struct Log(pub RefCell<Vec<String>>);

type Callback = dyn Fn(&Engine<Log>, Cause) -> Result<(), &'static str> + Send + Sync;

/// A ready callback.
#[derive(Clone)]
pub struct Job(Arc<Callback>);

impl Host for Log {
    type Cx<'a> = ();
    type Job = Job;
    type Abort = &'static str;

    fn run(engine: &Engine<Self>, (): (), job: Job, cause: Cause) -> Result<(), &'static str> {
        (job.0)(engine, cause)
    }

    fn again((): (), job: &Job) -> Job {
        job.clone()
    }

    fn settle(_: &Engine<Self>, (): ()) {}

    fn park<R: Send>((): (), wait: impl FnOnce() -> R + Send) -> R {
        wait()
    }

    fn wait_failed(_: &Engine<Self>, (): (), error: io::Error) -> Result<(), &'static str> {
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        Ok(())
    }

    fn panicked(engine: &Engine<Self>, (): (), panic: Box<dyn Any + Send>) {
        let text = panic.downcast_ref::<&str>().unwrap_or(&"?");
        engine.host.0.borrow_mut().push(format!("panic: {text}"));
    }
}

/// A loop on the real clock.
pub fn new_loop() -> Engine<Log> {
    Engine::new(Log::default(), Clock::Real, Order::Fifo).unwrap()
}

/// A callback.
pub fn job(callback: impl Fn(&Engine<Log>) + Send + Sync + 'static) -> Job {
    Job(Arc::new(move |engine, _| {
        callback(engine);
        Ok(())
    }))
}

/// A callback that ends the run at once.
pub fn abort(reason: &'static str) -> Job {
    Job(Arc::new(move |_, _| Err(reason)))
}

/// A callback that writes its name.
pub fn note(name: &str) -> Job {
    let name = name.to_owned();
    job(move |engine| engine.host.0.borrow_mut().push(name.clone()))
}

/// A callback that writes why it runs.
pub fn note_cause() -> Job {
    Job(Arc::new(|engine: &Engine<Log>, cause| {
        engine.host.0.borrow_mut().push(format!("{:?}", cause.kind()));
        Ok(())
    }))
}

/// A timer's callback.
pub fn due(job: Job) -> Due<Job> {
    Due::Job(job)
}

/// What was written since the last call.
pub fn written(engine: &Engine<Log>) -> Vec<String> {
    engine.host.0.take()
}

/// Runs `f` with the test's loop, from inside whatever runs on it.
pub fn with_engine<R>(f: impl FnOnce(&Engine<Log>) -> R) -> Option<R> {
    with_current(|reactor: &dyn Reactor| {
        let any: &dyn Any = reactor;
        any.downcast_ref().map(f)
    })
    .flatten()
}

struct Calls<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Calls<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

/// A waker that calls `f`.
pub fn waker(f: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Calls(f)))
}

/// A waker that writes a name into the log of the loop that runs.
pub fn noting_waker(name: &str) -> Waker {
    let name = name.to_owned();
    waker(move || {
        with_engine(|engine| engine.host.0.borrow_mut().push(name.clone()));
    })
}
