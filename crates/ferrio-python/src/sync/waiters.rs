//! Who waits for a primitive: futures of the running loop, first come, first served.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use pyo3::{PyTraverseError, PyVisit};

use super::deque::Deque;
use super::futures;
use crate::ffi::guarded::Guarded;
use crate::operation::{Outcome, Running, Step};
use crate::tasks::asyncio::running_loop;

/// The futures of those who wait, in order: a deque, which is made when somebody must wait or asks for it.
#[derive(Default)]
pub struct Waiters(Guarded<Option<Deque>>);

impl Waiters {
    #[inline]
    pub fn is_empty(&self, py: Python<'_>) -> bool {
        self.0.with(py, |deque| deque.as_ref().is_none_or(|deque| deque.len() == 0))
    }

    /// The deque, if there is anybody in it.
    #[inline]
    fn some(&self, py: Python<'_>) -> Option<Deque> {
        self.0.with(py, |deque| deque.as_ref().filter(|deque| deque.len() != 0).map(|deque| deque.clone_ref(py)))
    }

    /// The deque.
    pub fn deque(&self, py: Python<'_>) -> PyResult<Deque> {
        if let Some(deque) = self.0.with(py, |deque| deque.as_ref().map(|deque| deque.clone_ref(py))) {
            return Ok(deque);
        }
        let fresh = Deque::new(py)?;
        Ok(self.0.with(py, |deque| deque.get_or_insert(fresh).clone_ref(py)))
    }

    /// The deque for `_waiters`; None, as in asyncio, if there is none yet.
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.0.with(py, |deque| deque.as_ref().map(|deque| deque.bind(py).clone())))
    }

    /// The deque for `_waiters`, made if there is none yet.
    pub fn always<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(Some(self.deque(py)?.bind(py).clone()))
    }

    /// Replaces the deque: `_waiters = …`.
    pub fn set(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let new = if value.is_none() { None } else { Some(Deque::from(value)?) };
        self.0.put(value.py(), |deque| deque, new);
        Ok(())
    }

    pub fn push(&self, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        self.deque(waiter.py())?.append(waiter)
    }

    /// Takes one out.
    ///
    /// # Errors
    /// ValueError if it is not there.
    pub fn remove(&self, waiter: &Bound<'_, PyAny>) -> PyResult<()> {
        self.deque(waiter.py())?.remove(waiter)
    }

    /// Wakes the one who has waited longest, unless it is woken already; it stays until it leaves by itself.
    #[inline]
    pub fn wake_first(&self, py: Python<'_>, result: bool) -> PyResult<()> {
        if self.is_empty(py) { Ok(()) } else { self.wake_one(py, result) }
    }

    #[inline(never)]
    fn wake_one(&self, py: Python<'_>, result: bool) -> PyResult<()> {
        match self.some(py).and_then(|deque| deque.first(py)) {
            Some(first) => wake(&first, &truth(py, result)).map(drop),
            None => Ok(()),
        }
    }

    /// Wakes up to `most` of those who sleep; they stay. How many were woken.
    pub fn wake_sleeping(&self, py: Python<'_>, most: usize, result: bool) -> PyResult<usize> {
        let mut woken = 0;
        if let Some(deque) = self.some(py) {
            let result = truth(py, result);
            let mut sleepers = deque.bind(py).try_iter()?;
            while woken < most
                && let Some(waiter) = sleepers.next()
            {
                woken += usize::from(wake(&waiter?, &result)?);
            }
        }
        Ok(woken)
    }

    /// Takes out the first until there is one that sleeps, and wakes it.
    pub fn wake_next(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(deque) = self.some(py) {
            if wake(&deque.popleft(py)?, &py.None().into_bound(py))? {
                break;
            }
        }
        Ok(())
    }

    /// Whether there is nobody, or nobody who has not been cancelled.
    #[inline]
    pub fn all_are_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_empty(py) { Ok(true) } else { self.each_is_cancelled(py) }
    }

    #[inline(never)]
    fn each_is_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(deque) = self.some(py) {
            for waiter in deque.bind(py).try_iter()? {
                if !futures::is_cancelled(&waiter?)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let traverse = |deque: &Option<Deque>| deque.as_ref().map_or(Ok(()), |deque| deque.traverse(visit));
        self.0.for_collector(traverse).unwrap_or(Ok(()))
    }

    pub fn clear(&self) {
        drop(self.0.take());
    }
}

/// An operation begins to wait for `owner`: what its step returns.
pub fn join<'py>(running: &Running<'py>, owner: &Bound<'py, PyAny>, own_loop: &OwnLoop, waiters: &Waiters) -> Outcome {
    let waiter = own_loop.waiter(owner)?;
    waiters.push(&waiter)?;
    running.set_item(Some(waiter.clone()));
    Ok(Step::Await(waiter.unbind()))
}

/// The operation that has joined waits no more. Returns what it has waited for.
pub fn leave<'py>(running: &Running<'py>, waiters: &Waiters) -> PyResult<Bound<'py, PyAny>> {
    let waiter = running.item().unwrap_or_else(|| running.py().None().into_bound(running.py()));
    waiters.remove(&waiter)?;
    Ok(waiter)
}

/// The attributes of asyncio's names that every lock has: `waiting_attributes!(Lock, get);`. `get` is how `_waiters` gets
/// the deque: by [`Waiters::get`], which may be None, or by [`Waiters::always`].
macro_rules! waiting_attributes {
    ($class:ident, $get:ident) => {
        #[pymethods]
        impl $class {
            #[getter(_loop)]
            fn get_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
                self.own_loop.get(py)
            }

            #[setter(_loop)]
            fn set_loop(&self, value: &Bound<'_, PyAny>) {
                self.own_loop.set(value);
            }

            #[getter(_waiters)]
            fn get_waiters<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
                self.waiters.$get(py)
            }

            #[setter(_waiters)]
            fn set_waiters(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
                self.waiters.set(value)
            }
        }
    };
}
pub(crate) use waiting_attributes;

/// Garbage collection of a primitive that refers to nothing but its loop and its waiters.
macro_rules! waiting_references {
    ($class:ident) => {
        #[pymethods]
        impl $class {
            fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
                self.own_loop.traverse(&visit)?;
                self.waiters.traverse(&visit)
            }

            fn __clear__(&self) {
                self.own_loop.clear();
                self.waiters.clear();
            }
        }
    };
}
pub(crate) use waiting_references;

/// Wakes a waiter, unless it is over (cancelled, mostly). Whether it was woken.
#[inline]
fn wake(waiter: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<bool> {
    let sleeps = !futures::is_done(waiter)?;
    if sleeps {
        futures::set_result(waiter, result)?;
    }
    Ok(sleeps)
}

/// True or False.
#[inline]
pub fn truth(py: Python<'_>, yes: bool) -> Bound<'_, PyAny> {
    PyBool::new(py, yes).to_owned().into_any()
}

/// The loop that a primitive belongs to: the first on which somebody had to wait.
#[derive(Default)]
pub struct OwnLoop(Guarded<Option<Py<PyAny>>>);

impl OwnLoop {
    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.with(py, |own| own.as_ref().map(|own| own.bind(py).clone()))
    }

    /// Replaces it: `_loop = …`.
    pub fn set(&self, value: &Bound<'_, PyAny>) {
        self.0.put(value.py(), |own| own, (!value.is_none()).then(|| value.clone().unbind()));
    }

    /// A future to wait on, of the running loop.
    ///
    /// # Errors
    /// RuntimeError if the running loop is not the one that `owner` belongs to.
    pub fn waiter<'py>(&self, owner: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        let running = running_loop(py)?.unwrap_or_else(|| py.None().into_bound(py));
        let is_own = self.0.with(py, |own| match own {
            Some(own) => own.is(&running),
            // (If no loop runs, the error is None's, as in asyncio.)
            None => {
                *own = (!running.is_none()).then(|| running.clone().unbind());
                true
            }
        });
        if !is_own {
            let message = format!("{} is bound to a different event loop", owner.repr()?);
            return Err(PyRuntimeError::new_err(message));
        }
        futures::create(&running)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.for_collector(|own| own.as_ref().map_or(Ok(()), |own| visit.call(own))).unwrap_or(Ok(()))
    }

    pub fn clear(&self) {
        drop(self.0.take());
    }
}
