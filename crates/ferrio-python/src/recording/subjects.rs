//! What runs: a job's subject and what that is called, for the flight ring. On the way of every step that is recorded, so it
//! asks CPython's objects where it can, and Python code only where it must.

use ferrio::recorder::Title;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

use crate::core::Job;
use crate::handle;
use crate::step::Names;

/// What tells a job's subject from others: a task's address; for callbacks and native steps that of their code.
#[inline(always)]
pub fn key(job: &Job) -> u64 {
    match job {
        // SAFETY: the engine asks on the loop's thread, which is attached.
        Job::Step(step) => match step.known_task(unsafe { Python::assume_attached() }) {
            Some(task) => task.as_ptr() as u64,
            None => step.task_address() as u64,
        },
        Job::Handle(handle) => handle::code_address(handle) as u64,
        job => key_of_others(job),
    }
}

fn key_of_others(job: &Job) -> u64 {
    match job {
        Job::Step(_) | Job::Handle(_) => 0,
        Job::Callback(call) => call.code_address() as u64,
        Job::Call(_, call) => *call as usize as u64,
        Job::Wake(waker) => waker.awaitable().as_ptr() as u64,
        #[cfg(unix)]
        Job::Signals => 1,
    }
}

/// What the task is called whose step it is, without asking Python, if that can be done.
#[inline(always)]
fn names(job: &Job) -> Option<Names<'_, '_>> {
    let Job::Step(step) = job else { return None };
    // SAFETY: the engine asks on the loop's thread, which is attached.
    step.names(unsafe { Python::assume_attached() })
}

/// What stands for its name, of a task of C that runs one of Python's coroutines: there may be a great many of these.
#[inline(always)]
pub fn title(job: &Job) -> Option<Title> {
    let Names { own, coroutine } = names(job)?;
    let coroutine = coroutine?;
    // Of these very classes: looking at a number or a text and hashing one call nothing of Python's.
    let is_plain = own.is_exact_instance_of::<PyInt>() || own.is_exact_instance_of::<PyString>();
    if is_plain && coroutine.is_exact_instance_of::<PyString>() { titled(&coroutine, &own) } else { None }
}

/// The same of any other task.
pub fn asked_title(job: &Job) -> Title {
    let Job::Step(step) = job else { return Title::default() };
    // SAFETY: the engine asks on the loop's thread, which is attached.
    let task = step.task(unsafe { Python::assume_attached() });
    let titled = coroutine_name(&task).and_then(|coroutine| Ok(titled(&coroutine, &own_name(&task)?)));
    titled.ok().flatten().unwrap_or_default()
}

/// The address of what a task is called, which is another once it has got another name; 0 if only Python tells.
#[inline]
pub fn name_stamp(job: &Job) -> usize {
    names(job).map_or(0, |names| names.own.as_ptr() as usize)
}

/// What stands for the name of a task that is called `own` and runs `coroutine`.
#[inline]
fn titled(coroutine: &Bound<'_, PyAny>, own: &Bound<'_, PyAny>) -> Option<Title> {
    let stamp = own.as_ptr() as usize;
    Some(match number_of(own) {
        Some(number) => Title { text: hash(coroutine)?, number, stamp },
        // (Turned, because a task may have the name of its coroutine.)
        None => Title { text: hash(coroutine)?.rotate_left(17) ^ hash(own)? | 1, number: 0, stamp },
    })
}

#[inline]
fn hash(text: &Bound<'_, PyAny>) -> Option<u64> {
    #[cold]
    fn ask(text: &Bound<'_, PyAny>) -> Option<isize> {
        text.hash().ok()
    }
    let is_string = text.is_exact_instance_of::<PyString>();
    // SAFETY: a string has its hash in it, or -1 as long as nobody has asked for that.
    let known = if is_string { unsafe { (*text.as_ptr().cast::<ffi::PyASCIIObject>()).hash } } else { -1 };
    // Never 0, which stands for no hash.
    Some(if known == -1 { ask(text)? } else { known } as u64 | 1)
}

/// What people call it.
pub fn name(job: &Job) -> String {
    Python::attach(|py| match job {
        Job::Step(step) => name_of_task(&step.task(py)).unwrap_or_default(),
        Job::Handle(handle) => {
            let callback = handle.bind(py).getattr(intern!(py, "_callback"));
            callback.map_or_else(|_| "a callback".to_owned(), |callback| name_of(&callback))
        }
        Job::Callback(call) => name_of(call.callable().bind(py)),
        Job::Call(object, _) => name_of(object.bind(py).get_type().as_any()),
        Job::Wake(waker) => name_of(waker.awaitable().bind(py)),
        #[cfg(unix)]
        Job::Signals => "signal handlers".to_owned(),
    })
}

/// `fetch` for the task `Task-12` of the coroutine `fetch()`; `crawler (fetch)` for one with a name.
fn name_of_task(task: &Bound<'_, PyAny>) -> PyResult<String> {
    let (coroutine, name) = (coroutine_name(task)?, own_name(task)?);
    Ok(if number_of(&name).is_some() { coroutine.to_string() } else { format!("{name} ({coroutine})") })
}

/// What a task is called: a string, or the number that makes it `Task-12`.
fn own_name<'py>(task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match Names::of(task.as_borrowed()) {
        Some(names) => Ok(names.own.to_owned()),
        None => task.call_method0(intern!(task.py(), "get_name")),
    }
}

/// 12 for `Task-12`.
#[inline]
fn number_of(name: &Bound<'_, PyAny>) -> Option<u64> {
    match name.cast::<PyString>() {
        Ok(name) => number_in(name),
        // SAFETY: an integer, as it is no string; a task's number is too small for an error.
        Err(_) => Some(unsafe { ffi::PyLong_AsUnsignedLongLongMask(name.as_ptr()) }),
    }
}

#[inline(never)]
fn number_in(name: &Bound<'_, PyString>) -> Option<u64> {
    name.to_str().ok()?.strip_prefix("Task-")?.parse::<u32>().ok().map(u64::from)
}

/// The qualified name of a task's coroutine.
pub fn coroutine_name<'py>(task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = task.py();
    match Names::of(task.as_borrowed()).and_then(|names| names.coroutine) {
        Some(name) => Ok(name.to_owned()),
        None => {
            let coroutine = task.call_method0(intern!(py, "get_coro"))?;
            Ok(PyString::new(py, &name_of(&coroutine)).into_any())
        }
    }
}

fn name_of(object: &Bound<'_, PyAny>) -> String {
    let py = object.py();
    let name = object.getattr(intern!(py, "__qualname__")).and_then(|name| name.extract());
    let of_type = |_| object.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
    name.unwrap_or_else(of_type)
}
