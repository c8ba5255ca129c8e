//! `TaskGroup`: making its tasks, and hearing that they are done.
//!
//! Both happen once per task and are native, and so is entering and leaving a group in which nothing has failed. What
//! follows from failures and cancellations is asyncio's own: its methods run on the attributes that this class shows
//! under asyncio's names.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PySet, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::{
    Edges, Method, add_done_callback, asyncio, current_task, exception, is_cancelled, is_done, running_loop,
};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{
    Arguments, attribute, fastcall, install, install_attribute, install_noargs, install_onearg, noargs, onearg,
};
use crate::sync::futures;

/// The native half of `ferrio.TaskGroup`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct TaskGroup(Guarded<State>);

#[derive(Default)]
struct State {
    entered: bool,
    exiting: bool,
    aborting: bool,
    parent_cancel_requested: bool,
    cancel_on_enter: bool,
    /// `cancel()` has cancelled the parent.
    was_cancelled: bool,
    the_loop: Option<Py<PyAny>>,
    parent_task: Option<Py<PyAny>>,
    /// The set of those that are not done, made when it is first needed.
    tasks: Option<Py<PyAny>>,
    /// A list, made when it is first needed.
    errors: Option<Py<PyAny>>,
    base_error: Option<Py<PyAny>>,
    on_completed: Option<Py<PyAny>>,
}

/// What asyncio calls these fields, flags first.
const ATTRIBUTES: [&CStr; 12] = [
    c"_entered",
    c"_exiting",
    c"_aborting",
    c"_parent_cancel_requested",
    c"_cancel_on_enter",
    c"_was_cancelled",
    c"_loop",
    c"_parent_task",
    c"_tasks",
    c"_errors",
    c"_base_error",
    c"_on_completed_fut",
];

enum Field<'a> {
    Flag(&'a mut bool),
    Object(&'a mut Option<Py<PyAny>>),
}

impl State {
    fn field(&mut self, which: usize) -> Field<'_> {
        match which {
            0 => Field::Flag(&mut self.entered),
            1 => Field::Flag(&mut self.exiting),
            2 => Field::Flag(&mut self.aborting),
            3 => Field::Flag(&mut self.parent_cancel_requested),
            4 => Field::Flag(&mut self.cancel_on_enter),
            5 => Field::Flag(&mut self.was_cancelled),
            6 => Field::Object(&mut self.the_loop),
            7 => Field::Object(&mut self.parent_task),
            8 => Field::Object(&mut self.tasks),
            9 => Field::Object(&mut self.errors),
            10 => Field::Object(&mut self.base_error),
            _ => Field::Object(&mut self.on_completed),
        }
    }
}

fn get<'py>(this: &Bound<'py, TaskGroup>, which: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    if ATTRIBUTES[which] == c"_tasks" {
        return Ok(this.get().tasks(py)?.into_any());
    }
    if ATTRIBUTES[which] == c"_errors" {
        let fresh = PyList::empty(py).into_any().unbind();
        return Ok(this.get().0.with(py, |state| state.errors.get_or_insert(fresh).bind(py).clone()));
    }
    let (flag, object) = this.get().0.with(py, |state| match state.field(which) {
        Field::Flag(flag) => (*flag, None),
        Field::Object(object) => (false, Some(object.as_ref().map(|object| object.bind(py).clone()))),
    });
    match object {
        Some(object) => Ok(object.unwrap_or_else(|| py.None().into_bound(py))),
        None => truth(py, flag),
    }
}

fn set(this: &Bound<'_, TaskGroup>, which: usize, value: Bound<'_, PyAny>) -> PyResult<()> {
    let py = this.py();
    let is_true = value.is_truthy()?;
    let former = this.get().0.with(py, |state| match state.field(which) {
        Field::Flag(flag) => {
            *flag = is_true;
            None
        }
        Field::Object(object) => object.replace(value.unbind()),
    });
    drop(former);
    Ok(())
}

/// What a task of a group calls when it is done.
pub const TASK_IS_DONE: ffi::PyCFunction = onearg!(TaskGroup, |this, task| {
    TaskGroup::task_is_done(this, &task)?;
    Ok(task.py().None().into_bound(task.py()))
});

pub fn install_all(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<TaskGroup>();
    module.add("TaskGroup", &class)?;
    for (which, name) in ATTRIBUTES.iter().enumerate() {
        install_attribute(&class, name, attribute!(TaskGroup, get, set), which)?;
    }
    install_noargs(&class, c"_enter", c"", noargs!(TaskGroup, |this| truth(this.py(), TaskGroup::enter(this)?)))?;
    install_noargs(&class, c"_leave", c"", noargs!(TaskGroup, |this| this.get().leave(this.py())))?;
    install_noargs(&class, c"_left", c"", noargs!(TaskGroup, |this| truth(this.py(), this.get().left(this.py())?)))?;
    install(
        &class,
        c"create_task",
        if asyncio(module.py())?.create_task_takes_all {
            c"create_task($self, coro, **kwargs)\n--\n\nRun a coroutine as a task of this group, which is returned."
        } else {
            c"create_task($self, coro, *, name=None, context=None)\n--\n\n\
              Run a coroutine as a task of this group, which is returned."
        },
        fastcall!(TaskGroup, TaskGroup::create_task),
    )?;
    install_onearg(&class, c"_on_task_done", c"", TASK_IS_DONE)?;
    install_noargs(
        &class,
        c"cancel",
        c"cancel($self)\n--\n\nCancel the tasks of the group that are not done, and what else is inside `async with`.\n\n\
          The group then ends without CancelledError. One that is not entered yet ends as soon as it is.",
        noargs!(TaskGroup, |this| {
            TaskGroup::cancel(this)?;
            Ok(this.py().None().into_bound(this.py()))
        }),
    )
}

fn truth(py: Python<'_>, yes: bool) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyBool::new(py, yes).to_owned().into_any())
}

// --- its life ------------------------------------------------------------------------------------------------------

impl TaskGroup {
    /// The set of the tasks that are not done.
    fn tasks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        let tasks = match self.0.with(py, |state| state.tasks.as_ref().map(|tasks| tasks.bind(py).clone())) {
            Some(tasks) => tasks,
            None => {
                let tasks = PySet::empty(py)?.into_any();
                self.0.with(py, |state| state.tasks = Some(tasks.clone().unbind()));
                tasks
            }
        };
        Ok(tasks.cast_into()?)
    }

    /// Whether the group is entered now; false if asyncio has something to say about it.
    fn enter(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        let state = &this.get().0;
        let (entered, own) =
            state.with(py, |state| (state.entered, state.the_loop.as_ref().map(|own| own.bind(py).clone())));
        let Some(own) = own.map_or_else(|| running_loop(py), |own| Ok(Some(own)))? else { return Ok(false) };
        let Some(parent) = current_task(&own)?.filter(|_| !entered) else { return Ok(false) };
        let (cancel_on_enter, former) = state.with(py, |state| {
            state.entered = true;
            let former = (state.the_loop.replace(own.unbind()), state.parent_task.replace(parent.unbind()));
            (state.cancel_on_enter, former)
        });
        drop(former);
        if cancel_on_enter {
            this.call_method0(intern!(py, "cancel"))?;
        }
        Ok(true)
    }

    /// Nothing was raised inside: what is to be awaited until the tasks are done, or None.
    fn leave<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let own = self.0.with(py, |state| {
            state.exiting = true;
            state.the_loop.as_ref().map(|own| own.bind(py).clone())
        });
        let Some(own) = own.filter(|_| self.tasks(py).is_ok_and(|tasks| !tasks.is_empty())) else {
            return Ok(py.None().into_bound(py));
        };
        let waiter = futures::create(&own)?;
        let former = self.0.with(py, |state| state.on_completed.replace(waiter.clone().unbind()));
        drop(former);
        Ok(waiter)
    }

    /// The tasks are done: whether nothing is to be raised. False leaves everything to asyncio.
    fn left(&self, py: Python<'_>) -> PyResult<bool> {
        let (former, errors) = self.0.with(py, |state| {
            let errors = state.errors.as_ref().map(|errors| errors.bind(py).clone());
            (state.on_completed.take(), errors)
        });
        drop(former);
        let has_errors = errors.map_or(Ok(false), |errors| errors.is_truthy())?;
        let all_done = self.tasks(py)?.is_empty();
        let clears = asyncio(py)?.group_clears;
        let none = py.None();
        let (all_well, former) = self.0.with(py, |state| {
            let all_well = all_done && !has_errors && !state.parent_cancel_requested && state.base_error.is_none();
            let former = (all_well && clears).then(|| (state.parent_task.take(), state.errors.replace(none)));
            (all_well, former)
        });
        drop(former);
        Ok(all_well)
    }

    fn create_task<'py>(this: &Bound<'py, Self>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let asyncio = asyncio(py)?;
        let tasks = this.get().tasks(py)?;
        let (is_open, own, parent) = this.get().0.with(py, |state| {
            (
                state.entered && !state.aborting && !(state.exiting && tasks.is_empty()),
                state.the_loop.as_ref().map(|own| own.bind(py).clone()),
                state.parent_task.as_ref().map(|parent| parent.bind(py).clone()),
            )
        });
        // A group that refuses, and keywords that this version translates, are asyncio's business.
        let is_plain = arguments.len() == 1 && (asyncio.create_task_takes_all || !arguments.has_keywords());
        let Some(own) = own.filter(|_| is_open && is_plain) else {
            return arguments.call_method_of(asyncio.group_create_task.bind(py), this);
        };
        let task = arguments.call(&own.getattr(intern!(py, "create_task"))?)?;
        Edges::to_add(py, parent)?.of(&task)?;
        if asyncio.group_counts_done_at_once && is_done(&task)? {
            this.call_method1(intern!(py, "_on_task_done"), (&task,))?;
            return Ok(task);
        }
        tasks.add(&task)?;
        add_done_callback(&task, &this.getattr(intern!(py, "_on_task_done"))?)?;
        // One that has begun already may have cancelled the group.
        if this.get().0.with(py, |state| state.aborting) && !is_done(&task)? {
            Method::Cancel.call(&task)?;
        }
        Ok(task)
    }

    fn task_is_done<'py>(this: &Bound<'py, Self>, task: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = this.py();
        if !is_cancelled(task)? && exception(task)?.is_some() {
            return asyncio(py)?.group_on_task_done.bind(py).call1((this, task)).map(drop);
        }
        let tasks = this.get().tasks(py)?;
        tasks.discard(task)?;
        let (parent, waiter) = this.get().0.with(py, |state| {
            let parent = state.parent_task.as_ref().map(|parent| parent.bind(py).clone());
            (parent, state.on_completed.as_ref().map(|waiter| waiter.bind(py).clone()))
        });
        Edges::to_discard(py, parent)?.of(task)?;
        if let Some(waiter) = waiter.filter(|_| tasks.is_empty())
            && !is_done(&waiter)?
        {
            Method::SetResult.call_with(&waiter, PyBool::new(py, true).to_owned().as_any())?;
        }
        Ok(())
    }

    fn cancel(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let is_empty = this.get().tasks(py)?.is_empty();
        let is_running = this.get().0.with(py, |state| {
            state.cancel_on_enter |= !state.entered;
            state.entered && !state.aborting && !(state.exiting && is_empty)
        });
        if !is_running {
            return Ok(());
        }
        this.call_method0(intern!(py, "_abort"))?;
        let parent = this.get().0.with(py, |state| {
            let parent = state.parent_task.as_ref().filter(|_| !state.parent_cancel_requested);
            let parent = parent.map(|parent| parent.bind(py).clone());
            state.parent_cancel_requested |= parent.is_some();
            state.was_cancelled |= parent.is_some();
            parent
        });
        parent.map_or(Ok(()), |parent| Method::Cancel.call(&parent).map(drop))
    }
}

#[pymethods]
impl TaskGroup {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        TaskGroup(Guarded::default())
    }

    fn __init__(&self) {}

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visited = self.0.for_collector(|state| {
            let State { the_loop, parent_task, tasks, errors, base_error, on_completed, .. } = state;
            [the_loop, parent_task, tasks, errors, base_error, on_completed]
                .into_iter()
                .try_for_each(|one| visit.call(one))
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.0.take());
    }
}
