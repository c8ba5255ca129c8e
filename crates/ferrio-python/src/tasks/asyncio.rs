//! asyncio as it was when ferrio was imported: its own functions, and in what this interpreter's version is special.
//! And futures and tasks, whosever they are, as the rest of this folder speaks to them.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyString};

use super::timeout::PHASES;
use crate::event_loop::Loop;
use crate::ffi::c_method::{CAttribute, CMethod};
use crate::ffi::construct::construct_as;
use crate::imports::imports;

/// asyncio's own functions and classes, by which whatever is rare is done; and facts of its version.
pub struct Asyncio {
    pub create_task: Py<PyAny>,
    pub ensure_future: Py<PyAny>,
    pub gather: Py<PyAny>,
    pub shield: Py<PyAny>,
    pub gathering_future: Py<PyAny>,
    pub cancelled_error: Py<PyAny>,
    task: Py<PyAny>,
    future: Py<PyAny>,
    task_methods: Vec<CMethod>,
    future_methods: Vec<CMethod>,
    /// Of tasks, whether to complain if they are dropped before they are done.
    log_destroy_pending: CAttribute,
    pub group_create_task: Py<PyAny>,
    pub group_on_task_done: Py<PyAny>,
    pub timeout_aexit: Py<PyAny>,
    pub timeout_reschedule: Py<PyAny>,
    /// `asyncio.timeouts._State`
    pub timeout_phases: [Py<PyAny>; PHASES.len()],
    /// Since 3.12 a task may be done when it has just been made, and `gather` counts it at once.
    pub has_eager_tasks: bool,
    /// Since 3.14 futures know who awaits them through `gather` and its kin, and `gather` takes the running loop.
    pub has_edges: bool,
    /// Later releases of 3.14 take these edges away when `gather` ends early.
    pub gather_discards_edges: bool,
    /// Until 3.13 an exception that comes when `shield` has been cancelled already counts as retrieved.
    pub shield_retrieves: bool,
    /// In some releases of 3.13 and 3.14 it is told to the loop's exception handler.
    pub log_shielded: Option<Py<PyAny>>,
    /// Since 3.14 a group that is over refers to no task and no error.
    pub group_clears: bool,
    /// 3.12, and 3.13 at first: a group does not wait for a task that was done at once.
    pub group_counts_done_at_once: bool,
    /// Since 3.13.3 `create_task()` takes whatever keywords the loop takes.
    pub create_task_takes_all: bool,
}

static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();

/// Filled when the extension module is made, before anything can have been installed.
pub fn asyncio(py: Python<'_>) -> PyResult<&'static Asyncio> {
    ASYNCIO.get_or_try_init(py, || {
        let tasks = py.import("asyncio.tasks")?;
        let timeouts = py.import("asyncio.timeouts")?;
        let timeout = timeouts.getattr("Timeout")?;
        let group = py.import("asyncio.taskgroups")?.getattr("TaskGroup")?;
        let version = py.version_info();
        let imports = imports(py)?;
        let get = |name: &str| tasks.getattr(name).map(Bound::unbind);
        let log_shielded = tasks.getattr_opt("_log_on_exception")?.map(Bound::unbind);
        Ok(Asyncio {
            create_task: get("create_task")?,
            ensure_future: get("ensure_future")?,
            gather: get("gather")?,
            shield: get("shield")?,
            gathering_future: get("_GatheringFuture")?,
            cancelled_error: py.import("asyncio.exceptions")?.getattr("CancelledError")?.unbind(),
            group_create_task: group.getattr("create_task")?.unbind(),
            group_on_task_done: group.getattr("_on_task_done")?.unbind(),
            timeout_aexit: timeout.getattr("__aexit__")?.unbind(),
            timeout_reschedule: timeout.getattr("reschedule")?.unbind(),
            timeout_phases: all_of(&timeouts.getattr("_State")?, &PHASES)?,
            task: imports.task.clone_ref(py),
            future: imports.future.clone_ref(py),
            task_methods: methods_of(imports.task.bind(py), &METHODS)?,
            future_methods: methods_of(imports.future.bind(py), &METHODS[..METHODS.len() - 1])?,
            log_destroy_pending: CAttribute::of(imports.task.bind(py).cast()?, "_log_destroy_pending")?,
            has_eager_tasks: version >= (3, 12),
            has_edges: version >= (3, 14),
            gather_discards_edges: tasks.hasattr("_discard_awaited_by")?,
            shield_retrieves: version < (3, 14) && log_shielded.is_none(),
            log_shielded,
            group_clears: version >= (3, 14),
            group_counts_done_at_once: ((3, 12)..(3, 14)).contains(&(version.major, version.minor))
                && group.getattr("create_task")?.getattr("__code__")?.getattr("co_names")?.contains("done")?,
            create_task_takes_all: version >= (3, 13, 3),
        })
    })
}

fn methods_of(class: &Bound<'_, PyAny>, names: &[&str]) -> PyResult<Vec<CMethod>> {
    names.iter().map(|name| CMethod::of(class.cast()?, name)).collect()
}

/// The attributes of these names.
fn all_of<const N: usize>(object: &Bound<'_, PyAny>, names: &[&str; N]) -> PyResult<[Py<PyAny>; N]> {
    let values: Vec<_> = names.iter().map(|name| object.getattr(*name).map(Bound::unbind)).collect::<PyResult<_>>()?;
    values.try_into().map_err(|_| PyRuntimeError::new_err("fewer names than wanted"))
}

/// Something that asyncio's modules refer to by name each time, because tests and tools replace it.
fn named<'py>(module: &Py<PyDict>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    module.bind(name.py()).get_item(name)
}

// --- loops ---------------------------------------------------------------------------------------------------------

/// The running loop, or None.
pub fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let imports = imports(py)?;
    let mut running = imports.running_loop.bind(py).call0()?;
    if running.is_none() {
        // As far as CPython knows. A loop that runs inside of another library's (trio-asyncio's) is told by a function
        // which that has put there.
        running = imports.events.bind(py).call_method0(intern!(py, "_get_running_loop"))?;
    }
    Ok(Some(running).filter(|running| !running.is_none()))
}

/// The running loop.
///
/// # Errors
/// RuntimeError if there is none.
pub fn get_running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    running_loop(py)?.ok_or_else(|| PyRuntimeError::new_err("no running event loop"))
}

/// The loop if it is ferrio's own, and not of a class that somebody has derived from it: its clock and its timers may be
/// used directly.
#[inline]
pub fn own_loop<'a, 'py>(the_loop: &'a Bound<'py, PyAny>) -> PyResult<Option<&'a Bound<'py, Loop>>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = the_loop.py();
    let class =
        CLASS.get_or_try_init(py, || py.import("ferrio.event_loop")?.getattr("EventLoop").map(Bound::unbind))?;
    if the_loop.get_type_ptr().cast() != class.as_ptr() {
        return Ok(None);
    }
    // SAFETY: the class is derived from `Loop`.
    Ok(Some(unsafe { the_loop.cast_unchecked::<Loop>() }))
}

/// The task that runs in `the_loop`, or None.
pub fn current_task<'py>(the_loop: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = the_loop.py();
    let Some(current_task) = named(&imports(py)?.tasks, intern!(py, "current_task"))? else { return Ok(None) };
    Ok(Some(current_task.call1((the_loop,))?).filter(|task| !task.is_none()))
}

/// The class of what `gather` returns.
pub fn gathering_future(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let class = named(&imports(py)?.tasks, intern!(py, "_GatheringFuture"))?;
    class.map_or_else(|| Ok(asyncio(py)?.gathering_future.bind(py).clone()), Ok)
}

/// How tasks of a loop are made.
pub enum Maker<'a, 'py> {
    /// By ferrio's loop, whose `create_task` nobody has replaced.
    Own(&'a Bound<'py, Loop>),
    Other(&'a Bound<'py, PyAny>),
}

impl<'a, 'py> Maker<'a, 'py> {
    pub fn of(the_loop: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(own) = the_loop.cast::<Loop>()
            && Loop::is_own_create_task(own, &own.getattr(intern!(own.py(), "create_task"))?)
        {
            return Ok(Maker::Own(own));
        }
        Ok(Maker::Other(the_loop))
    }

    /// A task for a coroutine, and whether it may have begun already. The coroutine is closed if that is refused.
    #[inline]
    pub fn make(&self, coro: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, bool)> {
        if let Maker::Own(own) = self
            && let Some(task) = Loop::create_plain_task(own, coro)?
        {
            return Ok((task, false));
        }
        let the_loop = match self {
            Maker::Own(own) => own.as_any(),
            Maker::Other(other) => other,
        };
        Ok((create_task(the_loop, coro)?, asyncio(coro.py())?.has_eager_tasks))
    }
}

fn create_task<'py>(the_loop: &Bound<'py, PyAny>, coro: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    let made = the_loop.call_method1(intern!(py, "create_task"), (coro,));
    made.or_else(|error| {
        if error.is_instance_of::<PyRuntimeError>(py) {
            coro.call_method0(intern!(py, "close"))?;
        }
        Err(error)
    })
}

// --- futures -------------------------------------------------------------------------------------------------------

/// Whether it is one of CPython's C futures or tasks, or of a class made of them.
#[inline]
fn is_native_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let future = imports(object.py())?.future.as_ptr();
    // SAFETY: a living object and a type.
    Ok(unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), future.cast()) != 0 })
}

/// Whether it is a future of any kind.
#[inline]
pub fn is_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(is_native_future(object)? || imports(object.py())?.is_future.bind(object.py()).call1((object,))?.is_truthy()?)
}

/// Whether it is a coroutine made by an `async def`.
#[inline]
pub fn is_plain_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a living object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// The loop of a future.
pub fn loop_of<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = future.py();
    match future.getattr_opt(intern!(py, "get_loop"))? {
        Some(get_loop) => get_loop.call0(),
        None => future.getattr(intern!(py, "_loop")),
    }
}

/// `asyncio.ensure_future(object, loop=the_loop)`; without a loop it is the running one, or the one that was set.
pub fn ensure_future<'py>(
    object: &Bound<'py, PyAny>,
    the_loop: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if is_plain_coroutine(object)
        && let Some(the_loop) = the_loop.cloned().map_or_else(|| running_loop(py), |given| Ok(Some(given)))?
    {
        return create_task(&the_loop, object);
    }
    if is_native_future(object)? && the_loop.map_or(Ok(true), |the_loop| loop_of(object).map(|own| own.is(the_loop)))? {
        return Ok(object.clone());
    }
    let keywords = PyDict::new(py);
    if let Some(the_loop) = the_loop {
        keywords.set_item(intern!(py, "loop"), the_loop)?;
    }
    asyncio(py)?.ensure_future.bind(py).call((object,), Some(&keywords))
}

/// An object of a Python class whose base is asyncio's C Future, initialised as that Future is: the class's own
/// `__init__` is left to the caller.
pub fn new_future_of<'py>(class: &Bound<'py, PyAny>, the_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let keywords = match the_loop.cast::<Loop>() {
        Ok(own) => own.get().keywords(own)?,
        Err(_) => {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "loop"), the_loop)?;
            keywords
        }
    };
    construct_as(class.cast()?, imports(py)?.future.bind(py).cast()?, None, &keywords)
}

/// Nobody but its maker can wait for this task: no "Task was destroyed but it is pending".
#[inline]
pub fn keep_quiet_when_dropped(task: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = task.py();
    let (asyncio, no) = (asyncio(py)?, PyBool::new(py, false));
    if task.get_type_ptr().cast() == asyncio.task.as_ptr() {
        // SAFETY: an instance of its class.
        return unsafe { asyncio.log_destroy_pending.set(task, &no) };
    }
    task.setattr(intern!(py, "_log_destroy_pending"), no)
}

/// A method of a future. Those of CPython's own classes are kept: looking one up by its name costs more than most of
/// them take (10 ns).
#[derive(Clone, Copy)]
pub enum Method {
    Done,
    Cancelled,
    Exception,
    Result,
    AddDoneCallback,
    RemoveDoneCallback,
    SetResult,
    Cancel,
    /// Of tasks alone.
    Cancelling,
}

const METHODS: [&str; 9] = [
    "done",
    "cancelled",
    "exception",
    "result",
    "add_done_callback",
    "remove_done_callback",
    "set_result",
    "cancel",
    "cancelling",
];

impl Method {
    #[inline]
    fn kept<'a>(self, future: &Bound<'_, PyAny>, asyncio: &'a Asyncio) -> Option<&'a CMethod> {
        // SAFETY: a living object.
        let class = unsafe { ffi::Py_TYPE(future.as_ptr()) }.cast();
        if class == asyncio.task.as_ptr() {
            asyncio.task_methods.get(self as usize)
        } else if class == asyncio.future.as_ptr() || class == asyncio.gathering_future.as_ptr() && self.is_inherited()
        {
            asyncio.future_methods.get(self as usize)
        } else {
            None
        }
    }

    /// Whether `_GatheringFuture` has it from the C Future.
    fn is_inherited(self) -> bool {
        !matches!(self, Method::Cancel)
    }

    #[inline]
    pub fn call<'py>(self, future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = future.py();
        match self.kept(future, asyncio(py)?) {
            // SAFETY: an instance of its class.
            Some(method) => unsafe { method.call0(future) },
            None => future.call_method0(METHODS[self as usize]),
        }
    }

    #[inline]
    pub fn call_with<'py>(
        self,
        future: &Bound<'py, PyAny>,
        argument: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = future.py();
        match self.kept(future, asyncio(py)?) {
            // SAFETY: an instance of its class.
            Some(method) => unsafe { method.call1(future, argument) },
            None => future.call_method1(METHODS[self as usize], (argument,)),
        }
    }
}

#[inline]
pub fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    Method::Done.call(future)?.is_truthy()
}

#[inline]
pub fn is_cancelled(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    Method::Cancelled.call(future)?.is_truthy()
}

/// The exception of a future that is done and not cancelled; it counts as retrieved.
#[inline]
pub fn exception<'py>(future: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let exception = Method::Exception.call(future)?;
    Ok(Some(exception).filter(|exception| !exception.is_none()))
}

#[inline]
pub fn result<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    Method::Result.call(future)
}

#[inline]
pub fn add_done_callback(future: &Bound<'_, PyAny>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    Method::AddDoneCallback.call_with(future, callback).map(drop)
}

#[inline]
pub fn remove_done_callback(future: &Bound<'_, PyAny>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
    Method::RemoveDoneCallback.call_with(future, callback).map(drop)
}

/// The exception that a future was ended by, cancellation included.
pub fn failure<'py>(future: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if is_cancelled(future)? { make_cancelled_error(future).map(Some) } else { exception(future) }
}

/// The exception of a cancelled future, with its message. It may be asked for once.
pub fn make_cancelled_error<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    future.call_method0(intern!(future.py(), "_make_cancelled_error"))
}

// --- who awaits whom -----------------------------------------------------------------------------------------------

/// Notes who awaits a future, or does no more, for call graphs; there are none before 3.14.
pub struct Edges<'py> {
    note: Option<Bound<'py, PyAny>>,
    waiter: Option<Bound<'py, PyAny>>,
}

impl<'py> Edges<'py> {
    /// For edges to `waiter` that are to be added.
    pub fn to_add(py: Python<'py>, waiter: Option<Bound<'py, PyAny>>) -> PyResult<Self> {
        Edges::new(py, waiter, intern!(py, "future_add_to_awaited_by"))
    }

    /// For edges to `waiter` that are to be taken away.
    pub fn to_discard(py: Python<'py>, waiter: Option<Bound<'py, PyAny>>) -> PyResult<Self> {
        Edges::new(py, waiter, intern!(py, "future_discard_from_awaited_by"))
    }

    #[inline]
    fn new(py: Python<'py>, waiter: Option<Bound<'py, PyAny>>, name: &Bound<'py, PyString>) -> PyResult<Self> {
        let has_edges = asyncio(py)?.has_edges && waiter.is_some();
        let note = if has_edges { named(&imports(py)?.futures, name)? } else { None };
        Ok(Edges { note, waiter })
    }

    #[inline]
    pub fn of(&self, future: &Bound<'py, PyAny>) -> PyResult<()> {
        match (&self.note, &self.waiter) {
            (Some(note), Some(waiter)) => note.call1((future, waiter)).map(drop),
            _ => Ok(()),
        }
    }
}
