//! The timers behind sleeps, waits and timeouts: on ferrio's own loop an entry of the engine, without a `TimerHandle` and
//! without a context of its own; on any other loop, and for times that only Python can reckon with, a handle.

use ferrio::event_loop::Due;
use ferrio::timers::TimerId;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString};
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::own_loop;
use crate::core::{Call, Job};
use crate::event_loop::{Loop, nanoseconds};

#[derive(Default)]
pub enum Timer {
    #[default]
    Unset,
    Handle(Py<PyAny>),
    Own(Py<Loop>, TimerId),
}

impl Timer {
    /// Calls `strike` with `object` when the clock of ferrio's own loop reaches `when` (seconds).
    #[inline]
    pub fn own<'py>(own: &Bound<'py, Loop>, when: f64, object: &Bound<'py, PyAny>, strike: Call) -> PyResult<Self> {
        let due = Due::Job(Job::Call(object.clone().unbind(), strike));
        let id = own.get().core.engine()?.timer(nanoseconds(when), due);
        Ok(Timer::Own(own.clone().unbind(), id))
    }

    /// Calls `strike` with `object` in `delay` seconds; on a loop that is not ferrio's its method `name`.
    pub fn after<'py>(
        running: &Bound<'py, PyAny>,
        delay: &Bound<'py, PyAny>,
        object: &Bound<'py, PyAny>,
        strike: Call,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Self> {
        if let (Some(own), Some(delay)) = (own_loop(running)?, seconds(delay)) {
            return Timer::own(own, own.get().core.time() + delay, object, strike);
        }
        let callback = object.getattr(name)?;
        let handle = running.call_method1(intern!(running.py(), "call_later"), (delay, callback))?;
        Ok(Timer::Handle(handle.unbind()))
    }

    pub fn cancel(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Timer::Unset => {}
            Timer::Handle(handle) => drop(handle.bind(py).call_method0(intern!(py, "cancel"))?),
            Timer::Own(the_loop, id) => {
                // From a wrong thread it stays, and strikes nobody.
                if let Ok(engine) = the_loop.get().core.engine() {
                    drop(engine.cancel_timer(id));
                }
            }
        }
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Timer::Unset => Ok(()),
            Timer::Handle(handle) => visit.call(handle),
            Timer::Own(the_loop, _) => visit.call(the_loop),
        }
    }
}

/// A plain number of seconds. Anything else that can be added and compared is left to Python's own arithmetic.
#[inline]
pub fn seconds(value: &Bound<'_, PyAny>) -> Option<f64> {
    let seconds = if let Ok(float) = value.cast_exact::<PyFloat>() {
        float.value()
    } else if value.is_exact_instance_of::<PyInt>() {
        value.extract().ok()?
    } else {
        return None;
    };
    Some(seconds).filter(|seconds| seconds.is_finite())
}
