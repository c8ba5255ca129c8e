//! What the engine asks of Python: run a job that is ready, do what was put off to the end of the turn, sleep without the
//! interpreter lock. The way of every step: [`PyHost`] as the engine's [`Host`].

use std::any::Any;
use std::io;
use std::sync::atomic::Ordering;

use ferrio::cause::Cause;
use ferrio::event_loop::Engine;
use ferrio::host::Host;
use ferrio::recorder::{Observed, Title};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::core::{Job, PyHost, call_exception_handler, ends_the_run, panic_message};
use crate::errors::from_io;
#[cfg(unix)]
use crate::event_loop::signals;
use crate::handle;
use crate::imports::imports;
use crate::observing;
use crate::recording::{leaving, subjects};

/// Room for so much that was put off is kept.
const MOST_ROOM: usize = 1024;

/// Does what was put off to the end of the turn.
pub fn settle(engine: &Engine<PyHost>, py: Python<'_>) {
    let unsettled = &engine.host.unsettled;
    while !unsettled.borrow().is_empty() {
        let mut batch = unsettled.take();
        for (object, call) in batch.drain(..).map(|(object, call)| (object.into_bound(py), call)) {
            if let Err(error) = call(&object) {
                error.write_unraisable(py, Some(&object));
            }
        }
        // Its room serves the next turn, unless there is some again.
        if unsettled.borrow().capacity() == 0 && batch.capacity() <= MOST_ROOM {
            unsettled.replace(batch);
        }
    }
}

impl Host for PyHost {
    type Cx<'a> = Python<'a>;
    type Job = Job;
    type Abort = PyErr;

    #[inline]
    fn run(engine: &Engine<Self>, py: Python<'_>, job: Job, _cause: Cause) -> PyResult<()> {
        if engine.host.debug.load(Ordering::Relaxed) {
            return run_in_debug(engine, py, job);
        }
        run::<false>(engine, py, job)
    }

    #[inline(always)]
    fn run_recorded(engine: &Engine<Self>, py: Python<'_>, job: Job, _cause: Cause) -> PyResult<()> {
        if engine.host.debug.load(Ordering::Relaxed) {
            return run_in_debug(engine, py, job);
        }
        run::<true>(engine, py, job)
    }

    fn again(py: Python<'_>, job: &Job) -> Job {
        job.clone_ref(py)
    }

    #[inline]
    fn settle(engine: &Engine<Self>, py: Python<'_>) {
        if !engine.host.unsettled.borrow().is_empty() {
            settle(engine, py);
        }
    }

    fn park<R: Send>(py: Python<'_>, wait: impl FnOnce() -> R + Send) -> R {
        py.detach(wait)
    }

    fn wait_failed(_engine: &Engine<Self>, py: Python<'_>, error: io::Error) -> PyResult<()> {
        if error.kind() == io::ErrorKind::Interrupted { py.check_signals() } else { Err(from_io(error)) }
    }

    #[cold]
    fn observe(engine: &Engine<Self>, event: Observed<'_, Job>) {
        observing::tell(engine, event);
    }

    #[inline(always)]
    fn key(job: &Job) -> u64 {
        subjects::key(job)
    }

    #[inline]
    fn title(job: &Job) -> Option<Title> {
        subjects::title(job)
    }

    fn asked_title(job: &Job) -> Title {
        subjects::asked_title(job)
    }

    fn name_stamp(job: &Job) -> usize {
        subjects::name_stamp(job)
    }

    fn name(job: &Job) -> String {
        subjects::name(job)
    }

    fn snapshot(engine: &Engine<Self>, py: Python<'_>) -> PyResult<bool> {
        engine.host.loop_object(py).map_or(Ok(false), |the_loop| leaving::snapshot(&the_loop))
    }

    fn deepen(engine: &Engine<Self>, py: Python<'_>, deep: bool) -> PyResult<()> {
        engine.host.loop_object(py).map_or(Ok(()), |the_loop| leaving::deepen(&the_loop, deep))
    }

    fn panicked(engine: &Engine<Self>, py: Python<'_>, panic: Box<dyn Any + Send>) {
        let error = PyRuntimeError::new_err(format!("panic in native code: {}", panic_message(&*panic)));
        if let Err(error) = report_from(engine, py, error, py.None().bind(py)) {
            error.write_unraisable(py, None);
        }
    }
}

/// Runs a job; if that is recorded, the record hears of a task that is over.
#[inline(always)]
fn run<const RECORDED: bool>(engine: &Engine<PyHost>, py: Python<'_>, job: Job) -> PyResult<()> {
    match job {
        Job::Handle(handle) => handle::run_once(py, handle),
        Job::Step(call) => call.run::<RECORDED>(engine, py),
        Job::Callback(call) => call.run::<false>(engine, py),
        Job::Call(object, call) => {
            let object = object.into_bound(py);
            call(&object).or_else(|error| report_from(engine, py, error, &object))
        }
        Job::Wake(waker) => {
            waker.resume(py).or_else(|error| report_from(engine, py, error, waker.awaitable().bind(py)))
        }
        // What a handler raises ends the run, whatever it is: nobody else could receive it.
        #[cfg(unix)]
        Job::Signals => engine.host.loop_object(py).map_or(Ok(()), |the_loop| signals::arrived(the_loop.cast()?)),
    }
}

/// Debug mode: `loop._current_handle` tells the exception handler what runs, and a step that held the others up is
/// logged.
#[cold]
fn run_in_debug(engine: &Engine<PyHost>, py: Python<'_>, job: Job) -> PyResult<()> {
    let Some(the_loop) = engine.host.loop_object(py) else { return run::<true>(engine, py, job) };
    let Some(object) = job.object().map(|object| object.bind(py).clone()) else { return run::<true>(engine, py, job) };
    let is_handle = matches!(job, Job::Handle(_));
    let current = intern!(py, "_current_handle");
    the_loop.setattr(current, if is_handle { Some(&object) } else { None })?;
    let begun = engine.now();
    // A handle keeps its callback for the log, and lets go of it afterwards.
    let ran = if is_handle { handle::call(py, &object) } else { run::<true>(engine, py, job) };
    let seconds = engine.now().saturating_sub(begun) as f64 / 1e9;
    let logged = ran.and_then(|()| {
        if seconds < the_loop.getattr(intern!(py, "slow_callback_duration"))?.extract()? {
            return Ok(());
        }
        imports(py)?.helpers.bind(py).call_method1("log_slow", (&object, seconds)).map(drop)
    });
    if is_handle {
        handle::finish(&object);
    }
    the_loop.setattr(current, py.None())?;
    logged
}

#[cold]
fn report_from(engine: &Engine<PyHost>, py: Python<'_>, error: PyErr, object: &Bound<'_, PyAny>) -> PyResult<()> {
    if ends_the_run(py, &error) {
        return Err(error);
    }
    let Some(the_loop) = engine.host.loop_object(py) else {
        error.write_unraisable(py, Some(object));
        return Ok(());
    };
    let context = PyDict::new(py);
    context.set_item(intern!(py, "message"), "Exception in a native step of the loop")?;
    context.set_item(intern!(py, "exception"), error.value(py))?;
    if !object.is_none() {
        context.set_item(intern!(py, "source"), object)?;
    }
    call_exception_handler(&the_loop, &error, context)
}
