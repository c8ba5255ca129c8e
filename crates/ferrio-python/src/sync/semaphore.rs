//! `Semaphore` and `BoundedSemaphore`: so many tasks at a time.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::futures::{is_cancelled, is_done};
use super::waiters::{OwnLoop, Waiters, join, leave, truth, waiting_attributes, waiting_references};
use super::{enter_by_methods, follows_methods, leave_by_methods, was_cancelled};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{fastcall, install, install_noargs, noargs};
use crate::imports::imports;
use crate::operation::{self, Event, Kind, Outcome, Running, Step};

/// The native half of `ferrio.Semaphore` and `ferrio.BoundedSemaphore`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Semaphore {
    own_loop: OwnLoop,
    state: Guarded<State>,
    waiters: Waiters,
    /// A subclass has its own `acquire`, `release` or `locked`, which must be called.
    by_methods: bool,
}

#[derive(Default)]
struct State {
    value: Count,
    /// Of a BoundedSemaphore.
    bound: Option<Count>,
}

/// How many there are: an integer, mostly. (`Semaphore(math.inf)` is one that never blocks.)
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Count {
    Whole(i64),
    Real(f64),
}

impl Default for Count {
    fn default() -> Self {
        Count::Whole(0)
    }
}

impl Count {
    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        match value.is_exact_instance_of::<PyFloat>() {
            true => Ok(Count::Real(value.extract()?)),
            false => Ok(Count::Whole(value.extract()?)),
        }
    }

    fn plus(self, number: i64) -> Self {
        match self {
            Count::Whole(value) => Count::Whole(value.saturating_add(number)),
            Count::Real(value) => Count::Real(value + number as f64),
        }
    }

    fn real(self) -> f64 {
        match self {
            Count::Whole(value) => value as f64,
            Count::Real(value) => value,
        }
    }

    fn is_at_least(self, other: Count) -> bool {
        match (self, other) {
            (Count::Whole(one), Count::Whole(other)) => one >= other,
            _ => self.real() >= other.real(),
        }
    }

    fn is_positive(self) -> bool {
        self.real() > 0.0
    }

    fn is_zero(self) -> bool {
        self.real() == 0.0
    }

    fn object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Count::Whole(value) => Ok(value.into_pyobject(py)?.into_any()),
            Count::Real(value) => Ok(value.into_pyobject(py)?.into_any()),
        }
    }
}

static WAIT: Kind = Kind { name: "Semaphore.acquire", step: wait };

/// Waits until it is our turn, although there was room a moment ago.
fn wait(running: &Running<'_>, event: Event<'_>) -> Outcome {
    let py = running.py();
    let this = running.subject::<Semaphore>();
    let semaphore = this.get();
    match event {
        Event::Begin => {
            if !semaphore.by_methods && Semaphore::try_acquire(this)? {
                return Step::done(py);
            }
            join(running, this, &semaphore.own_loop, &semaphore.waiters)
        }
        Event::Result(_) => {
            // The one who woke us has counted us.
            leave(running, &semaphore.waiters)?;
            semaphore.wake_others(py)?;
            Step::done(py)
        }
        Event::Error(error) => {
            let waiter = leave(running, &semaphore.waiters)?;
            let wakes_all = imports(py)?.semaphore_wakes_all;
            if was_cancelled(py, &error)? && !is_cancelled(&waiter)? && (!wakes_all || is_done(&waiter)?) {
                // Woken and cancelled at once: somebody else's turn.
                semaphore.add(py, 1);
                if !wakes_all {
                    semaphore.wake_next(py)?;
                }
            }
            if wakes_all {
                semaphore.wake_others(py)?;
            }
            Err(error)
        }
    }
}

impl Semaphore {
    fn value(&self, py: Python<'_>) -> Count {
        self.state.with(py, |state| state.value)
    }

    fn add(&self, py: Python<'_>, number: i64) {
        self.state.with(py, |state| state.value = state.value.plus(number));
    }

    fn is_locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.value(py).is_zero() || !self.waiters.all_are_cancelled(py)?)
    }

    /// Takes one if there is one and nobody waits.
    #[inline]
    fn try_acquire(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        let semaphore = this.get();
        let is_locked = match semaphore.by_methods {
            true => this.call_method0(intern!(py, "locked"))?.is_truthy()?,
            false => semaphore.is_locked(py)?,
        };
        if !is_locked {
            semaphore.add(py, -1);
        }
        Ok(!is_locked)
    }

    fn acquire<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        operation::new(this, &WAIT, None)
    }

    /// `async with` awaits what this returns at once, so it may be taken at once, too.
    fn enter<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if this.get().by_methods {
            enter_by_methods(this)
        } else if Semaphore::try_acquire(this)? {
            operation::done(this.py())
        } else {
            Semaphore::acquire(this)
        }
    }

    fn exit<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if this.get().by_methods {
            return leave_by_methods(this);
        }
        this.get().release(this.py())?;
        operation::done(this.py())
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let is_full = self.state.with(py, |state| {
            let is_full = state.bound.is_some_and(|bound| state.value.is_at_least(bound));
            if !is_full {
                state.value = state.value.plus(1);
            }
            is_full
        });
        if is_full {
            return Err(PyValueError::new_err("BoundedSemaphore released too many times"));
        }
        self.wake_next(py).map(drop)
    }

    /// Gives one to the first who sleeps. Whether there was somebody.
    fn wake_next(&self, py: Python<'_>) -> PyResult<bool> {
        let woken = self.waiters.wake_sleeping(py, 1, true)? == 1;
        if woken {
            self.add(py, -1);
        }
        Ok(woken)
    }

    /// While we were on our way, new ones may have come and must not be forgotten: as many as there is room for, up to
    /// 3.12 one.
    fn wake_others(&self, py: Python<'_>) -> PyResult<()> {
        while self.value(py).is_positive() && self.wake_next(py)? && imports(py)?.semaphore_wakes_all {}
        Ok(())
    }
}

/// The methods that are called all the time.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Semaphore>();
    install_noargs(
        &class,
        c"_try_acquire",
        c"",
        noargs!(Semaphore, |this| Ok(truth(this.py(), Semaphore::try_acquire(this)?))),
    )?;
    install_noargs(&class, c"_wait", c"", noargs!(Semaphore, Semaphore::acquire))?;
    install_noargs(
        &class,
        c"release",
        c"release($self, /)\n--\n\nGive one back; the one who has waited longest is woken.",
        noargs!(Semaphore, |this| this.get().release(this.py()).map(|()| this.py().None().into_bound(this.py()))),
    )?;
    install_noargs(
        &class,
        c"locked",
        c"locked($self, /)\n--\n\nWhether acquire() would have to wait.",
        noargs!(Semaphore, |this| Ok(truth(this.py(), this.get().is_locked(this.py())?))),
    )?;
    install_noargs(&class, c"__aenter__", c"", noargs!(Semaphore, Semaphore::enter))?;
    install(&class, c"__aexit__", c"", fastcall!(Semaphore, |this, _| Semaphore::exit(this)))
}

#[pymethods]
impl Semaphore {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        class: &Bound<'_, PyType>,
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Semaphore {
            own_loop: OwnLoop::default(),
            state: Guarded::default(),
            waiters: Waiters::default(),
            by_methods: follows_methods(class)?,
        })
    }

    #[pyo3(signature = (value = None))]
    fn __init__(&self, py: Python<'_>, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(value) = value
            && value.lt(0)?
        {
            return Err(PyValueError::new_err("Semaphore initial value must be >= 0"));
        }
        let value = value.map_or(Ok(Count::Whole(1)), Count::from)?;
        self.state.with(py, |state| state.value = value);
        self.waiters.set(py.None().bind(py))
    }

    /// Gives the first who sleeps one; whether there was somebody (since 3.13).
    fn _wake_up_next<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let woken = self.wake_next(py)?;
        Ok(if imports(py)?.semaphore_wakes_all { truth(py, woken) } else { py.None().into_bound(py) })
    }

    #[getter(_value)]
    fn get_value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.value(py).object(py)
    }

    #[setter(_value)]
    fn set_value(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let count = Count::from(value)?;
        self.state.with(value.py(), |state| state.value = count);
        Ok(())
    }

    /// The value that a BoundedSemaphore began with.
    #[getter(_bound_value)]
    fn get_bound_value<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.state.with(py, |state| state.bound).map(|bound| bound.object(py)).transpose()
    }

    #[setter(_bound_value)]
    fn set_bound_value(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let bound = Count::from(value)?;
        self.state.with(value.py(), |state| state.bound = Some(bound));
        Ok(())
    }
}

waiting_attributes!(Semaphore, get);
waiting_references!(Semaphore);
