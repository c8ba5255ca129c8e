//! `Lock`: one task at a time. (The shortest of the primitives: the others are made the same way.)

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::waiters::{OwnLoop, Waiters, wake};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{fastcall, install, install_noargs, noargs};
use crate::imports::imports;
use crate::operation::{self, Event, Kind, Outcome, Running, Step};

/// The native half of `ferrio.Lock`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Lock {
    own_loop: OwnLoop,
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    locked: bool,
    waiters: Waiters,
}

static WAIT: Kind = Kind { name: "Lock.acquire", step: wait };

/// Waits until the lock is ours, although it was free a moment ago.
fn wait(running: &Running<'_>, event: Event<'_>) -> Outcome {
    let py = running.py();
    let this = running.subject::<Lock>();
    let lock = this.get();
    match event {
        Event::Begin => {
            if lock.try_acquire(py)? {
                return Step::done(py);
            }
            let waiter = lock.own_loop.waiter(this)?;
            lock.state.with(py, |state| state.waiters.push(&waiter));
            running.set_item(Some(waiter.clone()));
            Ok(Step::Await(waiter.unbind()))
        }
        Event::Result(_) => {
            lock.leave(running);
            lock.state.with(py, |state| state.locked = true);
            Step::done(py)
        }
        Event::Error(error) => {
            lock.leave(running);
            // Woken and cancelled at once: the next one is woken instead.
            let is_cancelled = error.matches(py, imports(py)?.cancelled_error.bind(py))?;
            if is_cancelled && !lock.state.with(py, |state| state.locked) {
                lock.wake_first(py)?;
            }
            Err(error)
        }
    }
}

impl Lock {
    /// Takes a lock that is free and that nobody waits for.
    #[inline]
    fn try_acquire(&self, py: Python<'_>) -> PyResult<bool> {
        let (locked, alone) = self.state.with(py, |state| (state.locked, state.waiters.is_empty()));
        if locked || !(alone || self.all_are_cancelled(py)?) {
            return Ok(false);
        }
        self.state.with(py, |state| state.locked = true);
        Ok(true)
    }

    fn all_are_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        for waiter in self.state.with(py, |state| state.waiters.all(py)) {
            if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The one whose step runs does not wait any more.
    fn leave(&self, running: &Running<'_>) {
        if let Some(waiter) = running.item() {
            let left = self.state.with(running.py(), |state| state.waiters.remove(&waiter));
            drop(left);
        }
    }

    /// `async with` awaits what this returns at once, so a lock that is free may be taken at once, too.
    fn enter<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        if this.get().try_acquire(py)? { operation::done(py) } else { operation::new(this, &WAIT, None) }
    }

    fn release<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (was_locked, waits) =
            self.state.with(py, |state| (std::mem::replace(&mut state.locked, false), !state.waiters.is_empty()));
        if !was_locked {
            return Err(PyRuntimeError::new_err("Lock is not acquired."));
        }
        if waits {
            self.wake_first(py)?;
        }
        Ok(py.None().into_bound(py))
    }

    fn wake_first(&self, py: Python<'_>) -> PyResult<()> {
        let Some(first) = self.state.with(py, |state| state.waiters.first(py)) else { return Ok(()) };
        wake(&first, &answer(py, true)?).map(drop)
    }
}

fn answer(py: Python<'_>, yes: bool) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyBool::new(py, yes).to_owned().into_any())
}

/// The methods that are called all the time.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Lock>();
    install_noargs(
        &class,
        c"_try_acquire",
        c"",
        noargs!(Lock, |lock| answer(lock.py(), lock.get().try_acquire(lock.py())?)),
    )?;
    install_noargs(&class, c"_wait", c"", noargs!(Lock, |lock| operation::new(lock, &WAIT, None)))?;
    install_noargs(
        &class,
        c"release",
        c"release($self, /)\n--\n\nGive it back; the one who has waited longest is woken.\n\n\
          :raises RuntimeError: if nobody has it.",
        noargs!(Lock, |lock| lock.get().release(lock.py())),
    )?;
    install_noargs(&class, c"__aenter__", c"", noargs!(Lock, Lock::enter))?;
    install(
        &class,
        c"__aexit__",
        c"",
        fastcall!(Lock, |lock, _| lock.get().release(lock.py()).and_then(|_| operation::done(lock.py()))),
    )
}

#[pymethods]
impl Lock {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Lock { own_loop: OwnLoop::new(), state: Guarded::default() }
    }

    fn __init__(&self) {}

    /// Whether somebody has it.
    fn locked(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.locked)
    }

    #[getter]
    fn _locked(&self, py: Python<'_>) -> bool {
        self.locked(py)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.own_loop.get(py)
    }

    /// The futures of those who wait; a copy.
    #[getter]
    fn _waiters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.state.with(py, |state| state.waiters.all(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.own_loop.traverse(&visit)?;
        self.state.for_collector(|state| state.waiters.traverse(&visit)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        self.own_loop.clear();
        drop(self.state.take());
    }
}
