//! `Condition`: wait, with a lock given up meanwhile, until somebody says that things have changed.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::waiters::{OwnLoop, Waiters, join, leave, waiting_attributes};
use super::{Lock, enter_by_methods, leave_by_methods, was_cancelled};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{fastcall, install, install_noargs, noargs};
use crate::imports::imports;
use crate::operation::{self, Event, Kind, Outcome, Running, Step};

/// The native half of `ferrio.Condition`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Condition {
    own_loop: OwnLoop,
    waiters: Waiters,
    lock: Guarded<Option<AnyLock>>,
}

/// A lock of ours, or anything with `acquire`, `release` and `locked`: then the condition has attributes of these names.
enum AnyLock {
    Own(Py<Lock>),
    Other(Py<PyAny>),
}

impl AnyLock {
    fn object(&self) -> &Py<PyAny> {
        match self {
            AnyLock::Own(lock) => lock.as_any(),
            AnyLock::Other(lock) => lock,
        }
    }
}

static WAIT: Kind = Kind { name: "Condition.wait", step: wait };

/// Phases of `wait()`: the operation's item is the future that it waits for, then the error that it will raise.
const WAITS: u8 = 1;
const ACQUIRES: u8 = 2;
/// As before, and has been cancelled at it.
const STILL_ACQUIRES: u8 = 3;

fn wait(running: &Running<'_>, event: Event) -> Outcome {
    let py = running.py();
    let this = running.subject::<Condition>();
    match event {
        Event::Begin => begin(running),
        Event::Result if running.phase() == WAITS => {
            let left = leave(running, &this.get().waiters);
            running.set_phase(ACQUIRES);
            running.set_item(None);
            left.map_or_else(|error| keep(running, error), |_| Ok(()))?;
            acquire(running)
        }
        Event::Error(error) if running.phase() == WAITS => {
            let left = leave(running, &this.get().waiters);
            acquire_after(running, error, left.err())
        }
        Event::Result => finish(running),
        Event::Error(error) if was_cancelled(py, &error)? => {
            // The lock must be ours when wait() raises, so the cancellation has to wait.
            let error = match imports(py)?.condition_notifies_again {
                true => error,
                false => PyErr::from_value(imports(py)?.cancelled_error.bind(py).call0()?),
            };
            keep(running, error)?;
            running.set_phase(STILL_ACQUIRES);
            acquire(running)
        }
        Event::Error(error) => {
            keep(running, error)?;
            finish(running)
        }
    }
}

fn begin(running: &Running<'_>) -> Outcome {
    let this = running.subject::<Condition>();
    let condition = this.get();
    if !Condition::is_locked(this)? {
        return Err(PyRuntimeError::new_err("cannot wait on un-acquired lock"));
    }
    running.set_phase(WAITS);
    if !imports(running.py())?.condition_notifies_again {
        Condition::release(this)?;
        return join(running, this, &condition.own_loop, &condition.waiters)
            .or_else(|error| acquire_after(running, error, None));
    }
    // Nothing is given up unless there is something to wait for.
    let waiter = condition.own_loop.waiter(this)?;
    Condition::release(this)?;
    condition.waiters.push(&waiter)?;
    running.set_item(Some(waiter.clone()));
    Ok(Step::Await(waiter.unbind()))
}

/// The wait has failed, and perhaps so has what had to be done then: that will be raised, once the lock is ours.
fn acquire_after(running: &Running<'_>, error: PyErr, then: Option<PyErr>) -> Outcome {
    running.set_phase(ACQUIRES);
    running.set_item(None);
    keep(running, error)?;
    then.map_or(Ok(()), |error| keep(running, error))?;
    acquire(running)
}

/// An error to be raised at the end. The one with which the wait ended is its context, as if it were raised while that is
/// handled; one that was kept since is forgotten.
fn keep(running: &Running<'_>, error: PyErr) -> PyResult<()> {
    let py = running.py();
    let context = intern!(py, "__context__");
    let error = error.into_value(py).into_bound(py).into_any();
    let mut handled = running.item();
    if let (Some(kept), STILL_ACQUIRES) = (&handled, running.phase()) {
        handled = Some(kept.getattr(context)?).filter(|handled| !handled.is_none());
    }
    if let Some(handled) = handled {
        let mut end = error.clone();
        while !end.is(&handled) {
            let next = end.getattr(context)?;
            if next.is_none() {
                end.setattr(context, &handled)?;
                break;
            }
            end = next;
        }
    }
    running.set_item(Some(error));
    Ok(())
}

fn acquire(running: &Running<'_>) -> Outcome {
    let py = running.py();
    let this = running.subject::<Condition>();
    let acquiring = match this.get().own_lock(py) {
        Some(lock) if lock.get().try_acquire(py)? => return finish(running),
        Some(lock) => Lock::acquire(&lock),
        None => this.call_method0(intern!(py, "acquire")),
    };
    match acquiring {
        Ok(acquiring) => Ok(Step::Await(acquiring.unbind())),
        Err(error) => {
            keep(running, error)?;
            finish(running)
        }
    }
}

fn finish(running: &Running<'_>) -> Outcome {
    let py = running.py();
    match running.item() {
        None => Step::done(py),
        Some(error) => {
            // It may have been notified, and will not act on it: somebody else shall.
            if imports(py)?.condition_notifies_again {
                running.subject::<Condition>().get().waiters.wake_sleeping(py, 1, false)?;
            }
            Err(PyErr::from_value(error))
        }
    }
}

impl Condition {
    /// What waits to be notified, for those who hold the lock.
    pub(super) fn wait<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        operation::new(this, &WAIT, None)
    }

    /// The lock, if it is one of ours that nobody has changed.
    pub(super) fn own_lock<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Lock>> {
        self.lock.with(py, |lock| match lock {
            Some(AnyLock::Own(lock)) => Some(lock.bind(py).clone()),
            _ => None,
        })
    }

    fn is_locked(this: &Bound<'_, Self>) -> PyResult<bool> {
        match this.get().own_lock(this.py()) {
            Some(lock) => Ok(lock.get().is_locked(this.py())),
            None => this.call_method0(intern!(this.py(), "locked"))?.is_truthy(),
        }
    }

    fn release(this: &Bound<'_, Self>) -> PyResult<()> {
        match this.get().own_lock(this.py()) {
            Some(lock) => lock.get().release(this.py()),
            None => this.call_method0(intern!(this.py(), "release")).map(drop),
        }
    }

    fn enter<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.get().own_lock(this.py()).map_or_else(|| enter_by_methods(this), |lock| Lock::enter(&lock))
    }

    fn exit<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.get().own_lock(this.py()).map_or_else(|| leave_by_methods(this), |lock| Lock::exit(&lock))
    }

    /// Wakes everybody, by the one who has the lock.
    pub(super) fn wake_all(&self, py: Python<'_>) -> PyResult<()> {
        self.waiters.wake_sleeping(py, usize::MAX, false).map(drop)
    }
}

/// The methods that are called all the time.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Condition>();
    install_noargs(&class, c"_start_wait", c"", noargs!(Condition, Condition::wait))?;
    install_noargs(&class, c"__aenter__", c"", noargs!(Condition, Condition::enter))?;
    install(&class, c"__aexit__", c"", fastcall!(Condition, |this, _| Condition::exit(this)))
}

#[pymethods]
impl Condition {
    /// Takes what `__init__` may take, which is asyncio's.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Condition { own_loop: OwnLoop::default(), waiters: Waiters::default(), lock: Guarded::default() }
    }

    /// Wake up to n of those who wait. They go on when they get the lock, which the caller has.
    ///
    /// :raises RuntimeError: if nobody has the lock.
    #[pyo3(signature = (n = None))]
    fn notify(this: &Bound<'_, Self>, n: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if !Condition::is_locked(this)? {
            return Err(PyRuntimeError::new_err("cannot notify on un-acquired lock"));
        }
        Condition::_notify(this, n)
    }

    #[pyo3(signature = (n = None))]
    fn _notify(this: &Bound<'_, Self>, n: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let most = match n {
            None => 1,
            Some(n) => n.extract::<i64>()?.max(0) as usize,
        };
        this.get().waiters.wake_sleeping(this.py(), most, false).map(drop)
    }

    #[getter(_lock)]
    fn get_lock<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.lock.with(py, |lock| lock.as_ref().map(|lock| lock.object().bind(py).clone()))
    }

    #[setter(_lock)]
    fn set_lock(&self, value: &Bound<'_, PyAny>) {
        let own = value.cast::<Lock>().ok().filter(|lock| lock.get().is_plain());
        let new = Some(match own {
            Some(lock) => AnyLock::Own(lock.clone().unbind()),
            None => AnyLock::Other(value.clone().unbind()),
        });
        self.lock.put(value.py(), |lock| lock, new);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.own_loop.traverse(&visit)?;
        self.waiters.traverse(&visit)?;
        let traverse = |lock: &Option<AnyLock>| lock.as_ref().map_or(Ok(()), |lock| visit.call(lock.object()));
        self.lock.for_collector(traverse).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        self.own_loop.clear();
        self.waiters.clear();
        drop(self.lock.take());
    }
}

waiting_attributes!(Condition, always);
