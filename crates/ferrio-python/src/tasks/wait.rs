//! `wait`: every future reports to one native object instead of a closure in Python, and one future wakes the caller.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyList, PySet, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::{
    Edges, Method, add_done_callback, asyncio, current_task, exception, is_cancelled, is_done, is_future,
    remove_done_callback, running_loop,
};
use super::timer::Timer;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, add_function, function, install_noargs, install_onearg, noargs, onearg};
use crate::sync::futures;

/// What a future calls when it is done.
pub const ONE_IS_DONE: ffi::PyCFunction = onearg!(Waiting, |waiting, future| {
    waiting.get().one_is_done(&future)?;
    Ok(future.py().None().into_bound(future.py()))
});

pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<Waiting>();
    install_onearg(&class, c"_on_completion", c"", ONE_IS_DONE)?;
    install_noargs(
        &class,
        c"_release",
        c"",
        noargs!(Waiting, |waiting| {
            waiting.get().release(waiting.py())?;
            Ok(waiting.py().None().into_bound(waiting.py()))
        }),
    )?;
    install_noargs(&class, c"end", c"", noargs!(Waiting, |waiting| waiting.get().end(waiting.py())))?;
    add_function(module, c"ferrio.tasks", c"_begin_waiting", c"", function!(begin))
}

/// One `wait`. Its caller awaits `waiter`, and calls `end` whatever comes of that.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub struct Waiting {
    until: Until,
    #[pyo3(get)]
    pub waiter: Py<PyAny>,
    /// The task that called `wait`, for call graphs.
    task: Option<Py<PyAny>>,
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    futures: Option<Py<PySet>>,
    /// How many have not reported yet.
    left: usize,
    /// What they report by.
    callback: Option<Py<PyAny>>,
    timer: Timer,
}

#[derive(Clone, Copy, PartialEq)]
enum Until {
    FirstCompleted,
    FirstException,
    AllCompleted,
}

impl Until {
    fn of(value: &Bound<'_, PyAny>) -> Option<Self> {
        match value.cast_exact::<PyString>().ok()?.to_str().ok()? {
            "FIRST_COMPLETED" => Some(Until::FirstCompleted),
            "FIRST_EXCEPTION" => Some(Until::FirstException),
            "ALL_COMPLETED" => Some(Until::AllCompleted),
            _ => None,
        }
    }
}

/// `_begin_waiting(fs, timeout, return_when)`: None if asyncio has something to say about the arguments.
fn begin<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let nothing = py.None().into_bound(py);
    let (Some(given), Some(timeout), Some(until)) = (arguments.get(0), arguments.get(1), arguments.get(2)) else {
        return Ok(nothing);
    };
    let (Some(until), Some(running), true) = (Until::of(&until), running_loop(py)?, is_collection(&given)) else {
        return Ok(nothing);
    };
    let set = py.get_type::<PySet>().call1((given,))?.cast_into::<PySet>()?;
    for future in set.iter() {
        if !is_future(&future)? {
            return Ok(nothing);
        }
    }
    if set.is_empty() {
        return Ok(nothing);
    }

    let task = if asyncio(py)?.has_edges { current_task(&running)? } else { None };
    let waiting = Waiting {
        until,
        waiter: futures::create(&running)?.unbind(),
        task: task.as_ref().map(|task| task.clone().unbind()),
        state: Guarded::default(),
    };
    let waiting = Bound::new(py, waiting)?;
    let callback = waiting.getattr(intern!(py, "_on_completion"))?;
    let timer = if timeout.is_none() {
        Timer::Unset
    } else {
        let strike = |waiting: &Bound<'_, PyAny>| waiting.cast::<Waiting>()?.get().release(waiting.py());
        Timer::after(&running, &timeout, waiting.as_any(), strike, intern!(py, "_release"))?
    };
    waiting.get().state.with(py, |state| {
        *state = State {
            left: set.len(),
            futures: Some(set.clone().unbind()),
            callback: Some(callback.clone().unbind()),
            timer,
        };
    });
    let edges = Edges::to_add(py, task)?;
    for future in set.iter() {
        add_done_callback(&future, &callback)?;
        edges.of(&future)?;
    }
    Ok(waiting.into_any())
}

/// Whether it is one of Python's own collections: what else can be iterated over may be empty by then.
fn is_collection(given: &Bound<'_, PyAny>) -> bool {
    given.is_exact_instance_of::<PyList>()
        || given.is_exact_instance_of::<PySet>()
        || given.is_exact_instance_of::<PyTuple>()
        || given.is_exact_instance_of::<PyFrozenSet>()
}

impl Waiting {
    fn one_is_done(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let is_last = self.state.with(py, |state| {
            state.left = state.left.saturating_sub(1);
            state.left == 0
        });
        if is_last
            || self.until == Until::FirstCompleted
            || self.until == Until::FirstException && !is_cancelled(future)? && exception(future)?.is_some()
        {
            self.stop_timer(py)?;
            self.release(py)?;
        }
        self.edges(py)?.of(future)
    }

    /// The caller goes on.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.waiter.bind(py);
        if is_done(waiter)? {
            return Ok(());
        }
        Method::SetResult.call_with(waiter, &py.None().into_bound(py)).map(drop)
    }

    fn stop_timer(&self, py: Python<'_>) -> PyResult<()> {
        self.state.with(py, |state| std::mem::take(&mut state.timer)).cancel(py)
    }

    /// What the edges of the futures are taken away by.
    fn edges<'py>(&self, py: Python<'py>) -> PyResult<Edges<'py>> {
        Edges::to_discard(py, self.task.as_ref().map(|task| task.bind(py).clone()))
    }

    /// Nobody waits any more: which are done, and which are not.
    fn end<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.stop_timer(py)?;
        let State { futures, callback, .. } = self.state.with(py, std::mem::take);
        let (done, pending) = (PySet::empty(py)?, PySet::empty(py)?);
        if let (Some(futures), Some(callback)) = (futures, callback) {
            let edges = self.edges(py)?;
            for future in futures.bind(py).iter() {
                edges.of(&future)?;
                if is_done(&future)? {
                    // It calls back no more, or has told the loop already, which is too late.
                    done.add(future)?;
                } else {
                    remove_done_callback(&future, callback.bind(py))?;
                    pending.add(future)?;
                }
            }
        }
        Ok(PyTuple::new(py, [done, pending])?.into_any())
    }
}

#[pymethods]
impl Waiting {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiter)?;
        visit.call(&self.task)?;
        let visited = self.state.for_collector(|state| {
            visit.call(&state.futures)?;
            visit.call(&state.callback)?;
            state.timer.traverse(&visit)
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.take());
    }
}
