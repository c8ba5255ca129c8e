//! Who waits for a primitive: futures of the running loop, first come, first served.

use std::collections::VecDeque;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::guarded::Guarded;
use crate::imports::imports;

/// The futures of those who wait, in order.
#[derive(Default)]
pub struct Waiters(VecDeque<Py<PyAny>>);

impl Waiters {
    pub const fn new() -> Self {
        Waiters(VecDeque::new())
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, waiter: &Bound<'_, PyAny>) {
        self.0.push_back(waiter.clone().unbind());
    }

    /// The one who has waited longest.
    pub fn first<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.front().map(|waiter| waiter.bind(py).clone())
    }

    /// Takes out the one who has waited longest.
    pub fn pop(&mut self) -> Option<Py<PyAny>> {
        self.0.pop_front()
    }

    /// Takes one out, to be dropped by the caller (see [`Guarded`]).
    #[must_use]
    pub fn remove(&mut self, waiter: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        let place = self.0.iter().position(|one| one.is(waiter))?;
        self.0.remove(place)
    }

    /// All of them, as they are now.
    pub fn all<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.0.iter().map(|waiter| waiter.bind(py).clone()).collect()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().try_for_each(|waiter| visit.call(waiter))
    }
}

/// Wakes a waiter, unless it is over (cancelled, mostly). Whether it was woken.
#[inline]
pub fn wake(waiter: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = waiter.py();
    if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(false);
    }
    waiter.call_method1(intern!(py, "set_result"), (result,))?;
    Ok(true)
}

/// The loop that a primitive belongs to: the first on which somebody had to wait.
#[derive(Default)]
pub struct OwnLoop(Guarded<Option<Py<PyAny>>>);

impl OwnLoop {
    pub const fn new() -> Self {
        OwnLoop(Guarded::new(None))
    }

    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.with(py, |own| own.as_ref().map(|own| own.bind(py).clone()))
    }

    /// A future to wait on, of the running loop.
    ///
    /// # Errors
    /// RuntimeError if no loop runs, or if it is not the one that `owner` belongs to.
    pub fn waiter<'py>(&self, owner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        let running = imports(py)?.get_running_loop.bind(py).call0()?;
        let is_own = self.0.with(py, |own| own.get_or_insert_with(|| running.clone().unbind()).is(&running));
        if !is_own {
            let message = format!("{} is bound to a different event loop", owner.repr()?);
            return Err(PyRuntimeError::new_err(message));
        }
        running.call_method0(intern!(py, "create_future"))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.for_collector(|own| own.as_ref().map_or(Ok(()), |own| visit.call(own))).unwrap_or(Ok(()))
    }

    pub fn clear(&self) {
        drop(self.0.take());
    }
}
