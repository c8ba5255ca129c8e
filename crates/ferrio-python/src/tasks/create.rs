//! `create_task` and `ensure_future`: the functions of the module, for the running loop.

use std::ffi::CStr;

use pyo3::intern;
use pyo3::prelude::*;

use super::asyncio::{asyncio, ensure_future, running_loop};
use crate::event_loop::Loop;
use crate::ffi::method::{Arguments, add_function, function};

pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let doc: &CStr = if asyncio(module.py())?.create_task_takes_all {
        c"create_task(coro, **kwargs)\n--\n\nRun a coroutine as a task of the running loop, which is returned."
    } else {
        c"create_task(coro, *, name=None, context=None)\n--\n\nRun a coroutine as a task of the running loop, which is returned."
    };
    add_function(module, c"ferrio.tasks", c"create_task", doc, function!(create_task))?;
    add_function(
        module,
        c"ferrio.tasks",
        c"ensure_future",
        c"ensure_future(coro_or_future, *, loop=None)\n--\n\n\
          The future itself, or a task in which the coroutine or awaitable runs.",
        function!(make_sure_of_future),
    )
}

/// A coroutine without keywords, on ferrio's loop: all of asyncio's versions ask the loop the same then.
fn create_task<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    if let (Some(coro), 1, false) = (arguments.get(0), arguments.len(), arguments.has_keywords())
        && let Some(the_loop) = running_loop(py)?
        && the_loop.is_instance_of::<Loop>()
    {
        return the_loop.call_method1(intern!(py, "create_task"), (coro,));
    }
    arguments.call(asyncio(py)?.create_task.bind(py))
}

fn make_sure_of_future<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    match arguments.one_and("loop") {
        Some((object, the_loop)) => ensure_future(&object, the_loop.filter(|one| !one.is_none()).as_ref()),
        None => arguments.call(asyncio(py)?.ensure_future.bind(py)),
    }
}
