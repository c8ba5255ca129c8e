//! The loop under observation: a Python object hears of everything that happens in a loop, as it happens.
//!
//! `explain` and the deep record are such observers. Its methods are called on the loop's thread, in the middle of the
//! loop's work, with the objects themselves; it may look at them, and must not run the loop. What it raises is reported
//! and changes nothing. Nobody pays for it who does not watch: it stands behind `Level::Deep`.

use std::cell::{Cell, RefCell};

use ferrio::cause::Cause;
use ferrio::event_loop::Engine;
use ferrio::recorder::Observed;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::core::{Core, Job, PyHost};
use crate::event_loop::Loop;

/// Who watches.
#[derive(Default)]
pub struct Observer {
    object: RefCell<Option<Py<PyAny>>>,
    /// It is being told something: what it causes itself is not told.
    busy: Cell<bool>,
}

impl Observer {
    #[must_use = "drop it where that may run foreign code"]
    pub fn replace(&self, observer: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        self.object.replace(observer)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.object.try_borrow().map_or(Ok(()), |object| visit.call(&*object))
    }
}

/// Has `observer` told of everything that happens in the loop; nobody from now on if it is None.
pub fn observe(core: &Core, py: Python<'_>, observer: Option<Py<PyAny>>) -> PyResult<()> {
    let engine = core.engine()?;
    let observed = observer.is_some();
    let former = engine.host.observer.replace(observer);
    engine.set_observed(observed);
    former.map_or(Ok(()), |former| {
        drop(former.into_bound(py));
        Ok(())
    })
}

/// Calls the method of the observer that is named after the event.
pub fn tell(engine: &Engine<PyHost>, event: Observed<'_, Job>) {
    Python::attach(|py| {
        let observer = &engine.host.observer;
        let object = observer.object.borrow().as_ref().map(|object| object.bind(py).clone());
        let Some(object) = object else { return };
        if observer.busy.replace(true) {
            return;
        }
        // An error that is set is somebody else's, who is on the way to hear of it.
        let error = PyErr::take(py);
        if let Err(error) = call(&object, event) {
            error.write_unraisable(py, Some(&object));
        }
        if let Some(error) = error {
            error.restore(py);
        }
        observer.busy.set(false);
    });
}

fn call(observer: &Bound<'_, PyAny>, event: Observed<'_, Job>) -> PyResult<()> {
    let py = observer.py();
    let subject = |job: Option<&Job>| job.and_then(|job| job.subject(py)).unwrap_or_else(|| py.None().into_bound(py));
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let (name, arguments): (&Bound<'_, PyString>, Bound<'_, PyTuple>) = match event {
        Observed::Queued(job, cause) => {
            let (kind, payload) = words(cause);
            (intern!(py, "queued"), (subject(job), kind, payload).into_pyobject(py)?)
        }
        Observed::Begins(number, job, cause) => {
            let (kind, payload) = words(cause);
            (intern!(py, "begins"), (number, subject(job), kind, payload).into_pyobject(py)?)
        }
        Observed::Ends(number) => (intern!(py, "ends"), (number,).into_pyobject(py)?),
        Observed::Sleeps(timer) => {
            (intern!(py, "sleeps"), (timer.map(|(number, when)| (number, seconds(when))),).into_pyobject(py)?)
        }
        Observed::Wakes => (intern!(py, "wakes"), PyTuple::empty(py)),
        Observed::TimerSet(number, when, job) => {
            (intern!(py, "timer_set"), (number, seconds(when), subject(job)).into_pyobject(py)?)
        }
        Observed::TimerGone(number) => (intern!(py, "timer_gone"), (number,).into_pyobject(py)?),
    };
    observer.call_method1(name, arguments).map(drop)
}

/// A cause in Python's words: its kind in lower case, and its payload (see [`ferrio::cause::Kind`]).
fn words(cause: Cause) -> (String, u64) {
    (format!("{:?}", cause.kind()).to_lowercase(), cause.payload())
}

#[pymethods]
impl Loop {
    /// Have the methods of `observer` called for everything that happens in this loop, as it happens; None ends it.
    ///
    /// `queued(subject, cause, payload)`, `begins(number, subject, cause, payload)`, `ends(number)`,
    /// `sleeps((timer, when) or None)`, `wakes()`, `timer_set(timer, when, subject)`, `timer_gone(timer)`. A subject is a
    /// Handle, a Task, a native object, or None for a Rust future; a time is in seconds of `loop.time()`. They are called
    /// on the loop's thread and must not run the loop.
    #[pyo3(signature = (observer, /))]
    fn _observe(&self, py: Python<'_>, observer: Option<Py<PyAny>>) -> PyResult<()> {
        observe(&self.core, py, observer)
    }
}
