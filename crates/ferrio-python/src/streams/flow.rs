//! `FlowControl`: what a protocol of streams does about a full transport. Writers wait until it has room again, or is
//! gone.

use std::mem;

use pyo3::exceptions::{PyAssertionError, PyConnectionResetError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::attributes::{flags, references};
use super::inherited::has_from;
use super::settle;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{install_noargs, noargs};
use crate::imports::imports;
use crate::operation::{self, Event, Kind, Outcome, Running, Step};

/// The native half of asyncio's `FlowControlMixin`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
#[derive(Default)]
pub struct FlowControl {
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    the_loop: Option<Py<PyAny>>,
    /// The transport has told us to pause.
    paused: bool,
    lost: bool,
    /// Who waits in `drain()`: futures. Boxed, because most connections never have any.
    #[expect(clippy::box_collection)]
    waiters: Option<Box<Vec<Py<PyAny>>>>,
    /// A subclass may have a `_drain_helper` of its own.
    is_plain: bool,
}

/// `loop`, or the current one.
pub(super) fn loop_or_current<'py>(
    py: Python<'py>,
    the_loop: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match the_loop {
        Some(the_loop) => Ok(the_loop),
        None => imports(py)?.events.bind(py).call_method0(intern!(py, "get_event_loop")),
    }
}

static DRAIN: Kind = Kind { name: "FlowControlMixin._drain_helper", step: drain };

/// Waits until the transport has room.
fn drain(running: &Running<'_>, event: Event) -> Outcome {
    let py = running.py();
    let flow = running.subject::<FlowControl>().get();
    match event {
        Event::Begin => {
            if flow.has_room(py)? {
                return Step::done(py);
            }
            let the_loop = flow._loop(py).unwrap_or_else(|| py.None());
            let waiter = the_loop.bind(py).call_method0(intern!(py, "create_future"))?;
            flow.state.with(py, |state| state.waiters.get_or_insert_default().push(waiter.clone().unbind()));
            running.set_item(Some(waiter.clone()));
            Ok(Step::Await(waiter.unbind()))
        }
        Event::Result => {
            flow.leave(running);
            Step::done(py)
        }
        Event::Error(error) => {
            flow.leave(running);
            Err(error)
        }
    }
}

impl FlowControl {
    /// What `__init__` does.
    pub(super) fn begin(this: &Bound<'_, Self>, the_loop: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let is_plain = has_from::<FlowControl>(this, intern!(py, "_drain_helper"))?;
        let new = State { the_loop: Some(the_loop.unbind()), is_plain, ..State::default() };
        let former = this.get().state.with(py, |state| mem::replace(state, new));
        drop(former);
        Ok(())
    }

    /// Whether `_drain_helper` is the one of this file.
    #[inline]
    pub fn is_plain(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.is_plain)
    }

    /// # Errors
    /// ConnectionResetError once the connection is lost.
    #[inline]
    pub fn has_room(&self, py: Python<'_>) -> PyResult<bool> {
        let (lost, paused) = self.state.with(py, |state| (state.lost, state.paused));
        if lost { Err(PyConnectionResetError::new_err("Connection lost")) } else { Ok(!paused) }
    }

    /// The one whose step runs does not wait any more.
    fn leave(&self, running: &Running<'_>) {
        if let Some(waiter) = running.item() {
            let left = self.state.with(running.py(), |state| {
                let waiters = state.waiters.as_mut()?;
                let place = waiters.iter().position(|one| one.is(&waiter))?;
                Some(waiters.remove(place))
            });
            drop(left);
        }
    }

    /// # Errors
    /// AssertionError unless the state changes.
    fn set_paused(this: &Bound<'_, Self>, paused: bool, format: &str) -> PyResult<()> {
        let py = this.py();
        let (former, the_loop) = this.get().state.with(py, |state| {
            let the_loop = state.the_loop.as_ref().map(|the_loop| the_loop.clone_ref(py));
            (mem::replace(&mut state.paused, paused), the_loop)
        });
        if former == paused {
            return Err(PyAssertionError::new_err(()));
        }
        let the_loop = the_loop.unwrap_or_else(|| py.None());
        if the_loop.bind(py).call_method0(intern!(py, "get_debug"))?.is_truthy()? {
            let logger = imports(py)?.helpers.bind(py).getattr(intern!(py, "logger"))?;
            logger.call_method1("debug", (format, this))?;
        }
        Ok(())
    }

    fn resume(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        Self::set_paused(this, false, "%r resumes writing")?;
        this.get().waiters(py).iter().try_for_each(|waiter| settle(waiter, None))
    }

    fn waiters<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.state.with(py, |state| {
            let waiters = state.waiters.iter().flat_map(|waiters| waiters.iter());
            waiters.map(|waiter| waiter.bind(py).clone()).collect()
        })
    }

    /// What `connection_lost` does: those who wait are told.
    pub(super) fn end(&self, reason: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = reason.py();
        let is_paused = self.state.with(py, |state| {
            state.lost = true;
            state.paused
        });
        let waiters = if is_paused { self.waiters(py) } else { Vec::new() };
        let reason = Some(reason).filter(|reason| !reason.is_none());
        waiters.iter().try_for_each(|waiter| settle(waiter, reason))
    }
}

/// The methods that are called all the time.
pub(super) fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<FlowControl>();
    install_noargs(&class, c"_drain_helper", c"", noargs!(FlowControl, |flow| operation::new(flow, &DRAIN, None)))?;
    install_noargs(
        &class,
        c"pause_writing",
        c"pause_writing($self, /)\n--\n\nCalled by a transport that is full.",
        noargs!(FlowControl, |flow| {
            FlowControl::set_paused(flow, true, "%r pauses writing")?;
            Ok(flow.py().None().into_bound(flow.py()))
        }),
    )?;
    install_noargs(
        &class,
        c"resume_writing",
        c"resume_writing($self, /)\n--\n\nCalled by a transport that has room again.",
        noargs!(FlowControl, |flow| {
            FlowControl::resume(flow)?;
            Ok(flow.py().None().into_bound(flow.py()))
        }),
    )
}

references!(FlowControl { _loop / replace_loop: the_loop, });
flags!(FlowControl {
    _paused / replace_paused: paused,
    _connection_lost / replace_connection_lost: lost,
});

#[pymethods]
impl FlowControl {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        FlowControl::default()
    }

    #[pyo3(signature = (r#loop=None))]
    fn __init__(this: &Bound<'_, Self>, r#loop: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::begin(this, loop_or_current(this.py(), r#loop)?)
    }

    /// Called by a transport whose connection has ended.
    fn connection_lost(&self, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end(exc)
    }

    /// The futures of those who wait; a copy.
    #[getter]
    fn _drain_waiters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.waiters(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit_all = |state: &State| {
            state.the_loop.as_ref().map_or(Ok(()), |the_loop| visit.call(the_loop))?;
            state.waiters.iter().flat_map(|waiters| waiters.iter()).try_for_each(|waiter| visit.call(waiter))
        };
        self.state.for_collector(visit_all).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.take());
    }
}
