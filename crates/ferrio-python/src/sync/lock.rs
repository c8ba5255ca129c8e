//! `Lock`: one task at a time. (The shortest of the primitives: the others are made the same way.)

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::holder::Holder;
use super::waiters::{OwnLoop, Waiters, join, leave, truth, waiting_attributes, waiting_references};
use super::{enter_by_methods, follows_methods, leave_by_methods, was_cancelled};
use crate::ffi::method::{fastcall, install, install_noargs, noargs};
use crate::operation::{self, Event, Kind, Outcome, Running, Step};

/// The native half of `ferrio.Lock`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Lock {
    own_loop: OwnLoop,
    /// Written and read with the interpreter attached.
    locked: AtomicBool,
    /// Who has it, while somebody has.
    holder: Holder,
    waiters: Waiters,
    /// A subclass has its own `acquire` or `release`, which `async with` must call.
    by_methods: bool,
}

static WAIT: Kind = Kind { name: "Lock.acquire", step: wait };

/// Waits until the lock is ours, although it was free a moment ago.
fn wait(running: &Running<'_>, event: Event) -> Outcome {
    let py = running.py();
    let this = running.subject::<Lock>();
    let lock = this.get();
    match event {
        Event::Begin => {
            if lock.try_acquire(py)? {
                return Step::done(py);
            }
            join(running, this, &lock.own_loop, &lock.waiters)
        }
        Event::Result => {
            leave(running, &lock.waiters)?;
            lock.take(py);
            Step::done(py)
        }
        Event::Error(error) => {
            leave(running, &lock.waiters)?;
            // Woken and cancelled at once: the next one is woken instead.
            if was_cancelled(py, &error)? && !lock.is_locked(py) {
                lock.waiters.wake_first(py, true)?;
            }
            Err(error)
        }
    }
}

impl Lock {
    #[inline]
    pub(super) fn is_locked(&self, _py: Python<'_>) -> bool {
        self.locked.load(Relaxed)
    }

    /// It belongs to whoever runs.
    #[inline]
    fn take(&self, py: Python<'_>) {
        self.locked.store(true, Relaxed);
        self.holder.take(py);
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Takes a lock that is free and that nobody waits for.
    #[inline]
    pub(super) fn try_acquire(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_locked(py) || !self.waiters.all_are_cancelled(py)? {
            return Ok(false);
        }
        self.take(py);
        Ok(true)
    }

    /// What waits until the lock is ours.
    pub(super) fn acquire<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        operation::new(this, &WAIT, None)
    }

    /// Whether nothing but these functions here decides what it does.
    pub(super) fn is_plain(&self) -> bool {
        !self.by_methods
    }

    /// `async with` awaits what this returns at once, so a lock that is free may be taken at once, too.
    pub(super) fn enter<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        if this.get().by_methods {
            enter_by_methods(this)
        } else if this.get().try_acquire(py)? {
            operation::done(py)
        } else {
            Lock::acquire(this)
        }
    }

    pub(super) fn exit<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if this.get().by_methods {
            return leave_by_methods(this);
        }
        this.get().release(this.py())?;
        operation::done(this.py())
    }

    pub(super) fn release(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_locked(py) {
            return Err(PyRuntimeError::new_err("Lock is not acquired."));
        }
        self.locked.store(false, Relaxed);
        self.waiters.wake_first(py, true)
    }
}

/// The methods that are called all the time.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Lock>();
    install_noargs(
        &class,
        c"_try_acquire",
        c"",
        noargs!(Lock, |lock| Ok(truth(lock.py(), lock.get().try_acquire(lock.py())?))),
    )?;
    install_noargs(&class, c"_wait", c"", noargs!(Lock, Lock::acquire))?;
    install_noargs(
        &class,
        c"release",
        c"release($self, /)\n--\n\nGive it back; the one who has waited longest is woken.\n\n\
          :raises RuntimeError: if nobody has it.",
        noargs!(Lock, |lock| lock.get().release(lock.py()).map(|()| lock.py().None().into_bound(lock.py()))),
    )?;
    install_noargs(
        &class,
        c"locked",
        c"locked($self, /)\n--\n\nWhether somebody has it.",
        noargs!(Lock, |lock| Ok(truth(lock.py(), lock.get().is_locked(lock.py())))),
    )?;
    install_noargs(&class, c"__aenter__", c"", noargs!(Lock, Lock::enter))?;
    install(&class, c"__aexit__", c"", fastcall!(Lock, |lock, _| Lock::exit(lock)))
}

#[pymethods]
impl Lock {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        class: &Bound<'_, PyType>,
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Lock {
            own_loop: OwnLoop::default(),
            locked: AtomicBool::new(false),
            holder: Holder::default(),
            waiters: Waiters::default(),
            by_methods: follows_methods(class)?,
        })
    }

    fn __init__(&self) {}

    #[getter(_locked)]
    fn get_locked(&self, py: Python<'_>) -> bool {
        self.is_locked(py)
    }

    #[setter(_locked)]
    fn set_locked(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.locked.store(value.is_truthy()?, Relaxed);
        self.holder.forget(value.py());
        Ok(())
    }
}

waiting_attributes!(Lock, get);
waiting_references!(Lock);
