//! What waits in the ready queue.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::awaitable::OwnedWaker;
use crate::handle::Scheduled;
use crate::step::BareCall;

/// What a native step does: it gets the object that asked for it.
pub type Call = for<'py> fn(&Bound<'py, PyAny>) -> PyResult<()>;

/// An entry of the ready queue.
pub enum Job {
    /// A `Handle` or `TimerHandle`: runs once, then lets go of callback and arguments.
    Handle(Scheduled),
    /// A step or a wake-up of an `asyncio.Task`.
    Step(BareCall),
    /// A future is done, and tells one of ferrio's own objects (that of a `gather`, say).
    Callback(BareCall),
    /// A native step. What it returns as an error goes to the loop's exception handler.
    Call(Py<PyAny>, Call),
    /// A Rust future's waker fired.
    Wake(Arc<OwnedWaker>),
    /// CPython has noted a signal: its handlers run now.
    #[cfg(unix)]
    Signals,
}

impl Job {
    /// The same job once more.
    pub fn clone_ref(&self, py: Python<'_>) -> Job {
        match self {
            Job::Handle(handle) => Job::Handle(handle.clone_ref(py)),
            Job::Step(step) => Job::Step(step.clone_ref(py)),
            Job::Callback(call) => Job::Callback(call.clone_ref(py)),
            Job::Call(object, call) => Job::Call(object.clone_ref(py), *call),
            Job::Wake(waker) => Job::Wake(waker.clone()),
            #[cfg(unix)]
            Job::Signals => Job::Signals,
        }
    }

    /// What the job is about, in the eyes of somebody who watches the loop: a step is its task's.
    pub fn subject<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Job::Step(step) => Some(step.task(py)),
            job => job.object().map(|object| object.bind(py).clone()),
        }
    }

    /// The Python object that the job keeps alive, if it does.
    pub fn object(&self) -> Option<&Py<PyAny>> {
        match self {
            Job::Handle(handle) => Some(handle),
            Job::Call(object, _) => Some(object),
            Job::Step(call) | Job::Callback(call) => Some(call.callable()),
            Job::Wake(waker) => Some(waker.awaitable()),
            #[cfg(unix)]
            Job::Signals => None,
        }
    }
}
