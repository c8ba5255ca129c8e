//! `as_completed`: every future reports to one native object, which puts it into a queue. Taking them out of it, one by
//! one, is written in Python (`python/ferrio/tasks.py`).

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PySet;
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::{
    Edges, Maker, add_done_callback, asyncio, current_task, ensure_future, get_running_loop, is_plain_coroutine,
    remove_done_callback,
};
use super::timer::Timer;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, add_function, function, install_noargs, install_onearg, noargs, onearg};
use crate::sync::Queue;

/// What a future calls when it is done.
pub const ONE_IS_DONE: ffi::PyCFunction = onearg!(Completing, |completing, future| {
    completing.get().one_is_done(&future)?;
    Ok(future.py().None().into_bound(future.py()))
});

pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<Completing>();
    install_onearg(&class, c"_handle_completion", c"", ONE_IS_DONE)?;
    install_noargs(
        &class,
        c"_handle_timeout",
        c"",
        noargs!(Completing, |completing| {
            completing.get().time_is_over(completing.py())?;
            Ok(completing.py().None().into_bound(completing.py()))
        }),
    )?;
    add_function(module, c"ferrio.tasks", c"_complete_into", c"", function!(begin))
}

/// What the futures of one `as_completed` report to.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Completing {
    queue: Py<Queue>,
    /// The task that called `as_completed`, for call graphs.
    task: Option<Py<PyAny>>,
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    /// Those that are not done.
    todo: Option<Py<PySet>>,
    /// What they report by.
    callback: Option<Py<PyAny>>,
    timer: Timer,
}

/// `_complete_into(queue, awaitables, timeout)`: how many there are, of which each comes into the queue when it is done,
/// or None in its place when the time is over.
fn begin<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let queue = arguments.required(0, "queue")?.cast_into::<Queue>()?;
    let (given, timeout) = (arguments.required(1, "awaitables")?, arguments.required(2, "timeout")?);
    let running = get_running_loop(py)?;
    let task = if asyncio(py)?.has_edges { current_task(&running)? } else { None };

    let todo = PySet::empty(py)?;
    let maker = Maker::of(&running)?;
    for object in py.get_type::<PySet>().call1((given,))?.cast::<PySet>()? {
        if is_plain_coroutine(&object) {
            todo.add(maker.make(&object)?.0)?;
        } else {
            todo.add(ensure_future(&object, Some(&running))?)?;
        }
    }

    let completing = Completing {
        queue: queue.unbind(),
        task: task.as_ref().map(|task| task.clone().unbind()),
        state: Guarded::default(),
    };
    let completing = Bound::new(py, completing)?;
    let callback = completing.getattr(intern!(py, "_handle_completion"))?;
    let edges = Edges::to_add(py, task)?;
    for future in todo.iter() {
        add_done_callback(&future, &callback)?;
        edges.of(&future)?;
    }
    let timer = if todo.is_empty() || timeout.is_none() {
        Timer::Unset
    } else {
        let strike =
            |completing: &Bound<'_, PyAny>| completing.cast::<Completing>()?.get().time_is_over(completing.py());
        Timer::after(&running, &timeout, completing.as_any(), strike, intern!(py, "_handle_timeout"))?
    };
    let count = todo.len();
    completing.get().state.with(py, |state| {
        *state = State { todo: Some(todo.unbind()), callback: Some(callback.unbind()), timer };
    });
    Ok(count.into_pyobject(py)?.into_any())
}

impl Completing {
    fn one_is_done(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        let Some(todo) = self.state.with(py, |state| state.todo.as_ref().map(|todo| todo.bind(py).clone())) else {
            // The time was over first.
            return Ok(());
        };
        todo.discard(future)?;
        self.edges(py)?.of(future)?;
        self.put(future.clone())?;
        if todo.is_empty() {
            self.state.with(py, |state| std::mem::take(&mut state.timer)).cancel(py)?;
        }
        Ok(())
    }

    fn time_is_over(&self, py: Python<'_>) -> PyResult<()> {
        let State { todo: Some(todo), callback: Some(callback), .. } = self.state.with(py, std::mem::take) else {
            return Ok(());
        };
        let edges = self.edges(py)?;
        for future in todo.bind(py).iter() {
            remove_done_callback(&future, callback.bind(py))?;
            edges.of(&future)?;
            self.put(py.None().into_bound(py))?;
        }
        Ok(())
    }

    fn put(&self, item: Bound<'_, PyAny>) -> PyResult<()> {
        Queue::put_nowait(self.queue.bind(item.py()), item).map(drop)
    }

    /// What the edges of the futures are taken away by.
    fn edges<'py>(&self, py: Python<'py>) -> PyResult<Edges<'py>> {
        Edges::to_discard(py, self.task.as_ref().map(|task| task.bind(py).clone()))
    }
}

#[pymethods]
impl Completing {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        visit.call(&self.task)?;
        let visited = self.state.for_collector(|state| {
            visit.call(&state.todo)?;
            visit.call(&state.callback)?;
            state.timer.traverse(&visit)
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.take());
    }
}
