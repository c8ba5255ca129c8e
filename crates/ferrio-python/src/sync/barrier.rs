//! `Barrier`: so many tasks wait for each other.
//!
//! Its `wait()` is here, on a [`Condition`] of ours; `reset()`, `abort()` and what is asked of it are asyncio's, on the
//! attributes below.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::{Condition, Lock, follows_methods};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{install_noargs, noargs};
use crate::imports::imports;
use crate::operation::{self, Event, Kind, Outcome, Running, Step};

/// The native half of `ferrio.Barrier`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Barrier {
    content: Guarded<Content>,
    /// A subclass has its own versions of methods that must be called.
    by_methods: bool,
}

#[derive(Default)]
struct Content {
    condition: Option<Py<PyAny>>,
    parties: Option<Py<PyAny>>,
    count: i64,
    state: State,
}

/// asyncio's `_BarrierState`.
#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    /// Some are still missing.
    #[default]
    Filling,
    /// All have come, and leave.
    Draining,
    /// Those who wait have to leave with an error.
    Resetting,
    Broken,
}

static WAIT: Kind = Kind { name: "Barrier.wait", step: wait };

/// Phases of `wait()`: it gets the lock, waits until those before have left, waits until all have come.
const ENTERS: u8 = 1;
const IS_BLOCKED: u8 = 2;
const WAITS: u8 = 3;

fn wait(running: &Running<'_>, event: Event) -> Outcome {
    let py = running.py();
    let barrier = running.subject::<Barrier>().get();
    let (condition, lock) = barrier.parts(py)?;
    let phase = running.phase();
    match event {
        Event::Begin => {
            running.set_phase(ENTERS);
            if !lock.get().try_acquire(py)? {
                return Ok(Step::Await(Lock::acquire(&lock)?.unbind()));
            }
        }
        Event::Error(error) if phase == ENTERS => return Err(error),
        Event::Error(error) => {
            let left = if phase == WAITS { barrier.leave(py, &condition) } else { Ok(()) };
            lock.get().release(py)?;
            return Err(left.err().unwrap_or(error));
        }
        Event::Result => {}
    }
    if phase != WAITS {
        running.set_phase(IS_BLOCKED);
        match barrier.state(py) {
            State::Draining | State::Resetting => return Ok(Step::Await(Condition::wait(&condition)?.unbind())),
            State::Broken => {
                lock.get().release(py)?;
                return Err(broken(py, "Barrier aborted"));
            }
            State::Filling => {}
        }
        running.set_phase(WAITS);
        let index = barrier.content.with(py, |content| {
            content.count += 1;
            content.count - 1
        });
        let index = index.into_pyobject(py)?.into_any();
        running.set_item(Some(index.clone()));
        if index.add(1)?.eq(barrier.parties(py))? {
            barrier.content.with(py, |content| content.state = State::Draining);
            condition.get().wake_all(py)?;
            return barrier.finish(running, &condition, &lock, Ok(()));
        }
    }
    let outcome = match barrier.state(py) {
        State::Filling => return Ok(Step::Await(Condition::wait(&condition)?.unbind())),
        State::Draining => Ok(()),
        State::Broken | State::Resetting => Err(broken(py, "Abort or reset of barrier")),
    };
    barrier.finish(running, &condition, &lock, outcome)
}

fn broken(py: Python<'_>, message: &'static str) -> PyErr {
    match imports(py) {
        Ok(imports) => match imports.broken_barrier_error.bind(py).call1((message,)) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        },
        Err(error) => error,
    }
}

impl Barrier {
    fn state(&self, py: Python<'_>) -> State {
        self.content.with(py, |content| content.state)
    }

    fn parties(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.content.with(py, |content| content.parties.as_ref().map(|parties| parties.clone_ref(py)))
    }

    fn condition<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.content.with(py, |content| content.condition.as_ref().map(|condition| condition.bind(py).clone()))
    }

    /// The condition and its lock, if both are ours.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, Condition>, Bound<'py, Lock>)> {
        let condition = self.condition(py).and_then(|condition| condition.cast_into::<Condition>().ok());
        condition
            .and_then(|condition| condition.get().own_lock(py).map(|lock| (condition, lock)))
            .ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("the barrier's condition has been replaced"))
    }

    /// One leaves; after the last one there is room for others.
    fn leave(&self, py: Python<'_>, condition: &Bound<'_, Condition>) -> PyResult<()> {
        let is_last = self.content.with(py, |content| {
            content.count -= 1;
            let is_last = content.count == 0;
            if is_last && matches!(content.state, State::Resetting | State::Draining) {
                content.state = State::Filling;
            }
            is_last
        });
        if is_last { condition.get().wake_all(py) } else { Ok(()) }
    }

    fn finish(
        &self,
        running: &Running<'_>,
        condition: &Bound<'_, Condition>,
        lock: &Bound<'_, Lock>,
        outcome: PyResult<()>,
    ) -> Outcome {
        let py = running.py();
        let left = self.leave(py, condition);
        lock.get().release(py)?;
        outcome.and(left)?;
        Ok(Step::Return(running.item().map_or_else(|| py.None(), Bound::unbind)))
    }
}

/// `wait()` without its frame.
fn start_wait<'py>(this: &Bound<'py, Barrier>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    if this.get().by_methods || this.get().parts(py).is_err() {
        return this.getattr(intern!(py, "_stands_for"))?.getattr(intern!(py, "wait"))?.call1((this,));
    }
    operation::new(this, &WAIT, None)
}

/// The methods that are called all the time.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    install_noargs(&py.get_type::<Barrier>(), c"_start_wait", c"", noargs!(Barrier, start_wait))
}

#[pymethods]
impl Barrier {
    /// Takes what `__init__` may take, which is asyncio's.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        class: &Bound<'_, PyType>,
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Barrier { content: Guarded::default(), by_methods: follows_methods(class)? })
    }

    #[getter(_cond)]
    fn get_cond<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.condition(py)
    }

    #[setter(_cond)]
    fn set_cond(&self, value: &Bound<'_, PyAny>) {
        self.content.put(value.py(), |content| &mut content.condition, Some(value.clone().unbind()));
    }

    #[getter(_parties)]
    fn get_parties(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parties(py)
    }

    #[setter(_parties)]
    fn set_parties(&self, value: &Bound<'_, PyAny>) {
        self.content.put(value.py(), |content| &mut content.parties, Some(value.clone().unbind()));
    }

    #[getter(_count)]
    fn get_count(&self, py: Python<'_>) -> i64 {
        self.content.with(py, |content| content.count)
    }

    #[setter(_count)]
    fn set_count(&self, py: Python<'_>, value: i64) {
        self.content.with(py, |content| content.count = value);
    }

    #[getter(_state)]
    fn get_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let name = match self.state(py) {
            State::Filling => intern!(py, "FILLING"),
            State::Draining => intern!(py, "DRAINING"),
            State::Resetting => intern!(py, "RESETTING"),
            State::Broken => intern!(py, "BROKEN"),
        };
        imports(py)?.barrier_state.bind(py).getattr(name)
    }

    #[setter(_state)]
    fn set_state(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = match value.getattr(intern!(value.py(), "name"))?.extract()? {
            "DRAINING" => State::Draining,
            "RESETTING" => State::Resetting,
            "BROKEN" => State::Broken,
            _ => State::Filling,
        };
        self.content.with(value.py(), |content| content.state = state);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let traverse = |content: &Content| {
            visit.call(&content.condition)?;
            visit.call(&content.parties)
        };
        self.content.for_collector(traverse).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.content.take());
    }
}
