//! `Event`: a flag that tasks wait for.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::waiters::{OwnLoop, Waiters, join, leave, truth, waiting_attributes, waiting_references};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{install_noargs, noargs};
use crate::operation::{self, Event as Happens, Kind, Outcome, Running, Step};

/// The native half of `ferrio.Event`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Event {
    own_loop: OwnLoop,
    value: Guarded<bool>,
    waiters: Waiters,
}

static WAIT: Kind = Kind { name: "Event.wait", step: wait };

fn wait(running: &Running<'_>, event: Happens<'_>) -> Outcome {
    let this = running.subject::<Event>();
    let waiters = &this.get().waiters;
    match event {
        Happens::Begin => join(running, this, &this.get().own_loop, waiters),
        Happens::Result(_) => {
            leave(running, waiters)?;
            Step::done(running.py())
        }
        Happens::Error(error) => {
            leave(running, waiters)?;
            Err(error)
        }
    }
}

impl Event {
    pub(super) fn is_set(&self, py: Python<'_>) -> bool {
        self.value.with(py, |value| *value)
    }

    /// Sets the flag and wakes everybody.
    pub(super) fn set(&self, py: Python<'_>) -> PyResult<()> {
        if !self.value.with(py, |value| std::mem::replace(value, true)) {
            self.waiters.wake_sleeping(py, usize::MAX, true)?;
        }
        Ok(())
    }

    pub(super) fn write(&self, py: Python<'_>, value: bool) {
        self.value.with(py, |content| *content = value);
    }
}

/// The methods that are called all the time.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Event>();
    install_noargs(
        &class,
        c"is_set",
        c"is_set($self, /)\n--\n\nWhether the flag is set.",
        noargs!(Event, |this| Ok(truth(this.py(), this.get().is_set(this.py())))),
    )?;
    install_noargs(
        &class,
        c"set",
        c"set($self, /)\n--\n\nSet the flag and wake all who wait for it; until clear() nobody waits.",
        noargs!(Event, |this| this.get().set(this.py()).map(|()| this.py().None().into_bound(this.py()))),
    )?;
    install_noargs(
        &class,
        c"clear",
        c"clear($self, /)\n--\n\nReset the flag: from here on wait() waits.",
        noargs!(Event, |this| {
            this.get().write(this.py(), false);
            Ok(this.py().None().into_bound(this.py()))
        }),
    )?;
    install_noargs(&class, c"_wait", c"", noargs!(Event, |this| operation::new(this, &WAIT, None)))
}

#[pymethods]
impl Event {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Event { own_loop: OwnLoop::default(), value: Guarded::new(false), waiters: Waiters::default() }
    }

    fn __init__(&self) {}

    #[getter(_value)]
    fn get_value(&self, py: Python<'_>) -> bool {
        self.is_set(py)
    }

    #[setter(_value)]
    fn set_value(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.write(value.py(), value.is_truthy()?);
        Ok(())
    }
}

waiting_attributes!(Event, always);
waiting_references!(Event);
