//! What tools look at: the ready queue, the timers and the watched descriptors, under the names that asyncio's own loop
//! has for them.
//!
//! They are made when they are asked for; changing them changes nothing in the loop.

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::Loop;
use crate::awaitable::OwnedWaker;
use crate::core::Job;
use crate::ffi::context::copy_current;
use crate::handle;
use crate::imports::imports;

#[pymethods]
impl Loop {
    /// The handles that run in the next turn, in order.
    #[getter]
    fn _ready<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let py = this.py();
        let mut jobs = Vec::new();
        this.get().core.engine()?.for_each_ready(|job| keep(py, &mut jobs, job))?;
        let handles: PyResult<Vec<_>> = jobs.into_iter().map(|job| as_handle(this, job)).collect();
        PyList::new(py, handles?)
    }

    /// The timer handles that wait for their time, earliest first.
    #[getter]
    fn _scheduled<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let py = this.py();
        let mut jobs = Vec::new();
        this.get().core.engine()?.for_each_timer(|job| keep(py, &mut jobs, job))?;
        let timers =
            PyList::new(py, jobs.iter().filter_map(Job::object).filter(|timer| handle::is_timer(timer.bind(py))))?;
        timers.call_method0(intern!(py, "sort"))?;
        Ok(timers)
    }

    /// Who watches which descriptor: a `selectors.BaseSelector` in its `get_map()` and `get_key()`, and in nothing else.
    fn _watched_descriptors<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let mut jobs = Vec::new();
        let mut places = Vec::new();
        this.get().core.engine()?.for_each_watcher(|fd, direction, job| {
            places.push((fd, direction as usize));
            keep(py, &mut jobs, job)
        })?;
        let mut watchers = Vec::new();
        for ((fd, direction), job) in places.into_iter().zip(jobs) {
            watchers.push((fd, direction, as_handle(this, job)?));
        }
        imports(py)?.helpers.bind(py).getattr(intern!(py, "WatchedDescriptors"))?.call1((watchers,))
    }

    /// Who waits for which descriptor: (number, "read" or "write", who). That is a transport or another native object,
    /// the handle of an `add_reader()`, or the awaitable of a `sock_recv()`.
    fn _descriptors<'py>(this: &Bound<'py, Self>) -> PyResult<Vec<(RawFd, &'static str, Bound<'py, PyAny>)>> {
        let py = this.py();
        let mut all = Vec::new();
        let engine = this.get().core.engine()?;
        engine.for_each_watcher(|fd, direction, job| {
            all.extend(job.object().map(|object| (fd, word(direction), object.bind(py).clone())));
            Ok::<_, PyErr>(())
        })?;
        engine.for_each_waiter(|fd, direction, waker| {
            let awaitable = OwnedWaker::awaitable_of(waker, py);
            all.extend(awaitable.map(|awaitable| (fd, word(direction), awaitable.into_bound(py).into_any())));
            Ok::<_, PyErr>(())
        })?;
        Ok(all)
    }
}

pub(super) fn word(direction: Direction) -> &'static str {
    if direction == Direction::Read { "read" } else { "write" }
}

/// Notes a job while the loop may not be called; what is made of it comes later.
fn keep(py: Python<'_>, jobs: &mut Vec<Job>, job: &Job) -> PyResult<()> {
    jobs.push(job.clone_ref(py));
    Ok(())
}

/// The handle of a job. A native step shows as a handle of the object that it belongs to.
fn as_handle<'py>(this: &Bound<'py, Loop>, job: Job) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    match job {
        Job::Handle(handle) => Ok(handle.bind(py).clone()),
        Job::Callback(call) => call.handle(this.as_any()),
        // SAFETY: the callback is borrowed from `native`, which outlives the call.
        native => unsafe {
            let callback = native.object().map_or(this.as_ptr(), Py::as_ptr);
            let handle = handle::new(this.as_any(), callback, &[], copy_current(py)?)?;
            handle::track(&handle);
            Ok(handle)
        },
    }
}
