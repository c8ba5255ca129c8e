//! `create_task` and `create_future`: asyncio's own objects, made the short way.
//!
//! A C task takes 228 ns by way of Python, 183 if its class is called with keywords, 166 like this (3.14): through the
//! class's slots, with keywords that are kept while the loop runs. That holds for the very classes of `_asyncio`; any
//! other that a user has put in their place, and any keyword beside `loop`, goes the general way.

use pyo3::exceptions::{PyNameError, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::Loop;
use crate::core::future_of;
use crate::ffi::construct::construct;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, fastcall, install, install_noargs, noargs};
use crate::imports::imports;

const CREATE_TASK: ffi::PyCFunctionFastWithKeywords = fastcall!(Loop, create_task);

pub fn install_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    install_noargs(
        class,
        c"create_future",
        c"create_future($self, /)\n--\n\nA new asyncio.Future of this loop.",
        noargs!(Loop, create_future),
    )?;
    install(
        class,
        c"create_task",
        c"create_task($self, coro, **kwargs)\n--\n\n\
          Schedule a coroutine as a task. Keywords go to the task factory, or to asyncio.Task.",
        CREATE_TASK,
    )?;
    // Every task and every future asks for it when it is made.
    install_noargs(
        class,
        c"get_debug",
        c"get_debug($self, /)\n--\n\nWhether the loop is in debug mode.",
        noargs!(Loop, |this| Ok(PyBool::new(this.py(), this.get().core.debug()).to_owned().into_any())),
    )
}

/// `{"loop": the loop}`, kept while the loop runs. (No longer: a loop that is let go must not wait for the garbage
/// collector.)
#[derive(Default)]
pub struct Keywords(Guarded<Option<Py<PyDict>>>);

impl Keywords {
    #[inline]
    fn get<'py>(&self, this: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyDict>> {
        let py = this.py();
        let core = &this.get().core;
        // Only the loop's own thread uses the kept one: nobody then changes it while somebody reads it.
        let may_keep = core.is_running() && core.is_mine();
        if may_keep && let Some(kept) = self.0.with(py, |kept| kept.as_ref().map(|kept| kept.bind(py).clone())) {
            return Ok(kept);
        }
        let made = PyDict::new(py);
        made.set_item(intern!(py, "loop"), this)?;
        if may_keep {
            let former = self.0.with(py, |kept| kept.replace(made.clone().unbind()));
            drop(former);
        }
        Ok(made)
    }

    /// Taken out, to be dropped.
    #[must_use]
    pub fn take(&self) -> Option<Py<PyDict>> {
        self.0.take().flatten()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.for_collector(|kept| kept.as_ref().map_or(Ok(()), |kept| visit.call(kept))).unwrap_or(Ok(()))
    }
}

impl Loop {
    /// `{"loop": self}`
    pub fn keywords<'py>(&self, this: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyDict>> {
        self.keywords.get(this)
    }

    /// Whether `method` is the loop's `create_task` as it is here: not a subclass's, and not put in its place.
    pub fn is_own_create_task(this: &Bound<'_, Loop>, method: &Bound<'_, PyAny>) -> bool {
        // SAFETY: a living object; only of a builtin function its parts are asked.
        unsafe {
            ffi::PyCFunction_Check(method.as_ptr()) != 0
                && ffi::PyCFunction_GetSelf(method.as_ptr()) == this.as_ptr()
                && ffi::PyCFunction_GetFunction(method.as_ptr())
                    .is_some_and(|function| function as usize == CREATE_TASK as usize)
        }
    }

    /// `create_task(coro)` if that is to be a C task which begins in the next turn.
    #[inline]
    pub fn create_plain_task<'py>(
        this: &Bound<'py, Loop>,
        coro: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let imports = imports(py)?;
        if this.get().core.is_closed() || this.get().task_factory.with(py, |factory| factory.is_some()) {
            return Ok(None);
        }
        let class = class_named(imports.tasks.bind(py), intern!(py, "Task"))?;
        if !class.is(&imports.task) {
            return Ok(None);
        }
        construct(imports.task.bind(py).cast()?, Some(coro), &this.get().keywords.get(this)?).map(Some)
    }
}

/// `loop.create_future()`
pub fn create_future<'py>(this: &Bound<'py, Loop>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let imports = imports(py)?;
    let class = class_named(imports.futures.bind(py), intern!(py, "Future"))?;
    if class.is(&imports.future) {
        return construct(imports.future.bind(py).cast()?, None, &this.get().keywords.get(this)?);
    }
    future_of(&class, this.as_any())
}

fn create_task<'py>(this: &Bound<'py, Loop>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let the_loop = this.get();
    the_loop.core.check_closed()?;
    let mut coro = arguments.positional().first().map(|coro| {
        // SAFETY: a borrowed reference that outlives the call.
        unsafe { Bound::<PyAny>::from_borrowed_ptr(py, *coro) }
    });
    if arguments.positional().len() > 1 {
        return Err(PyTypeError::new_err("create_task() takes 1 positional argument: the coroutine"));
    }
    if !arguments.has_keywords()
        && let Some(coro) = &coro
        && let Some(task) = Loop::create_plain_task(this, coro)?
    {
        return Ok(task);
    }
    let keywords = PyDict::new(py);
    for (name, value) in arguments.keywords() {
        if coro.is_none() && name.eq(intern!(py, "coro"))? {
            coro = Some(value);
        } else {
            keywords.set_item(name, value)?;
        }
    }
    let Some(coro) = coro else {
        return Err(PyTypeError::new_err("create_task() missing 1 required positional argument: 'coro'"));
    };
    match the_loop.task_factory(py) {
        None => {
            keywords.set_item(intern!(py, "loop"), this)?;
            let class = class_named(imports(py)?.tasks.bind(py), intern!(py, "Task"))?;
            class.call((coro,), Some(&keywords))
        }
        Some(factory) => call_factory(this, factory.bind(py), coro, keywords),
    }
}

fn class_named<'py>(module: &Bound<'py, PyDict>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    module.get_item(name)?.ok_or_else(|| PyNameError::new_err(format!("name '{name}' is not defined")))
}

/// Since 3.13.3 a factory gets every keyword; before, only `context` if one was given, and the loop sets the name.
fn call_factory<'py>(
    this: &Bound<'py, Loop>,
    factory: &Bound<'py, PyAny>,
    coro: Bound<'py, PyAny>,
    keywords: Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    if py.version_info() >= (3, 13, 3) {
        return factory.call((this, coro), Some(&keywords));
    }
    let name = keywords.get_item(intern!(py, "name"))?.filter(|name| !name.is_none());
    for optional in ["name", "context"] {
        let absent = keywords.get_item(optional)?.is_none_or(|value| value.is_none() || optional == "name");
        if absent && keywords.contains(optional)? {
            keywords.del_item(optional)?;
        }
    }
    let task = factory.call((this, coro), Some(&keywords))?;
    if let Some(name) = name
        && let Ok(set_name) = task.getattr(intern!(py, "set_name"))
    {
        set_name.call1((name,))?;
    }
    Ok(task)
}
