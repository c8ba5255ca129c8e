//! `shield`: a future in front of another one, whose cancellation does not get through.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::{
    Edges, Method, add_done_callback, asyncio, current_task, ensure_future, exception, is_cancelled, is_done, loop_of,
    remove_done_callback, result, running_loop,
};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, add_function, function, install_onearg, onearg};
use crate::sync::futures;

/// What the outer future calls when it is done.
pub const OUTER_IS_DONE: ffi::PyCFunction = onearg!(Shield, |shield, outer| {
    shield.get().outer_is_done(outer.py())?;
    Ok(outer.py().None().into_bound(outer.py()))
});

/// What the inner future calls when it is done.
pub const INNER_IS_DONE: ffi::PyCFunction = onearg!(Shield, |shield, inner| {
    shield.get().inner_is_done(&inner)?;
    Ok(inner.py().None().into_bound(inner.py()))
});

pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<Shield>();
    install_onearg(&class, c"_inner_done_callback", c"", INNER_IS_DONE)?;
    install_onearg(&class, c"_outer_done_callback", c"", OUTER_IS_DONE)?;
    add_function(
        module,
        c"ferrio.tasks",
        c"shield",
        c"shield(arg)\n--\n\n\
          A future of the same result. Cancelling it, or a task that awaits it, leaves what is inside alone.\n\n\
          A coroutine runs as a task of its own, of which somebody should keep a reference.",
        function!(shield),
    )
}

/// What the inner future and the outer one report to.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Shield {
    /// The task that called `shield`, for call graphs.
    task: Option<Py<PyAny>>,
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    inner: Option<Py<PyAny>>,
    outer: Option<Py<PyAny>>,
    /// What the inner one reports by.
    callback: Option<Py<PyAny>>,
}

fn shield<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let asyncio = asyncio(py)?;
    let (1, false, Some(object), Some(running)) =
        (arguments.len(), arguments.has_keywords(), arguments.get(0), running_loop(py)?)
    else {
        return arguments.call(asyncio.shield.bind(py));
    };
    let inner = ensure_future(&object, None)?;
    if is_done(&inner)? {
        return Ok(inner);
    }
    let the_loop = loop_of(&inner)?;
    let outer = futures::create(&the_loop)?;
    let task = if !asyncio.has_edges {
        None
    } else if the_loop.is(&running) {
        current_task(&running)?
    } else {
        current_task(&the_loop)?
    };
    Edges::to_add(py, task.clone())?.of(&inner)?;
    let shield = Bound::new(py, Shield { task: task.map(Bound::unbind), state: Guarded::default() })?;
    let callback = shield.getattr(intern!(py, "_inner_done_callback"))?;
    shield.get().state.with(py, |state| {
        *state = State {
            inner: Some(inner.clone().unbind()),
            outer: Some(outer.clone().unbind()),
            callback: Some(callback.clone().unbind()),
        };
    });
    add_done_callback(&inner, &callback)?;
    add_done_callback(&outer, &shield.getattr(intern!(py, "_outer_done_callback"))?)?;
    Ok(outer)
}

impl Shield {
    fn inner_is_done(&self, inner: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = inner.py();
        self.edges(py)?.of(inner)?;
        let State { outer: Some(outer), .. } = self.state.with(py, std::mem::take) else { return Ok(()) };
        let outer = outer.bind(py);
        if is_cancelled(outer)? {
            if asyncio(py)?.shield_retrieves && !is_cancelled(inner)? {
                exception(inner)?;
            }
            Ok(())
        } else if is_cancelled(inner)? {
            Method::Cancel.call(outer).map(drop)
        } else if let Some(error) = exception(inner)? {
            outer.call_method1(intern!(py, "set_exception"), (error,)).map(drop)
        } else {
            Method::SetResult.call_with(outer, &result(inner)?).map(drop)
        }
    }

    /// If it was cancelled, the inner one reports to nobody any more.
    fn outer_is_done(&self, py: Python<'_>) -> PyResult<()> {
        let (inner, callback) = self.state.with(py, |state| {
            let clone = |object: &Option<Py<PyAny>>| object.as_ref().map(|object| object.bind(py).clone());
            (clone(&state.inner), clone(&state.callback))
        });
        if let (Some(inner), Some(callback)) = (inner, callback)
            && !is_done(&inner)?
        {
            remove_done_callback(&inner, &callback)?;
            self.edges(py)?.of(&inner)?;
            if let Some(log) = &asyncio(py)?.log_shielded {
                // Once, however many shields there were.
                remove_done_callback(&inner, log.bind(py))?;
                add_done_callback(&inner, log.bind(py))?;
            }
            drop(self.state.with(py, std::mem::take));
        }
        Ok(())
    }

    /// What the edge of the inner future is taken away by.
    fn edges<'py>(&self, py: Python<'py>) -> PyResult<Edges<'py>> {
        Edges::to_discard(py, self.task.as_ref().map(|task| task.bind(py).clone()))
    }
}

#[pymethods]
impl Shield {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)?;
        let visited = self.state.for_collector(|state| {
            visit.call(&state.inner)?;
            visit.call(&state.outer)?;
            visit.call(&state.callback)
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.take());
    }
}
