//! `call_soon` and its family, and `time`: the methods that run millions of times.
//!
//! Raw method descriptors (see `ffi::method`), because PyO3's argument parsing alone costs a fifth of a `call_soon`.

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

use super::{Loop, creating, executors, watchers};
use crate::core::{Core, Job};
use crate::ffi::context::copy_current;
use crate::ffi::method::{Arguments, KnownKeyword, guarded_untold, install};
use crate::handle;
use crate::imports::imports;
use crate::step;

/// Installs the methods of this file into the finished class.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Loop>();
    install(
        &class,
        c"call_soon",
        c"call_soon($self, callback, *args, context=None)\n--\n\n\
          Run callback(*args) in the next turn of the loop. From another thread it goes through the inbox.",
        raw_call_soon,
    )?;
    install(
        &class,
        c"call_soon_threadsafe",
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n\
          Like call_soon(), from any thread; wakes the loop if it sleeps.",
        raw_call_soon_threadsafe,
    )?;
    install(
        &class,
        c"call_later",
        c"call_later($self, delay, callback, *args, context=None)\n--\n\n\
          Run callback(*args) after delay seconds.",
        raw_call_later,
    )?;
    install(
        &class,
        c"call_at",
        c"call_at($self, when, callback, *args, context=None)\n--\n\n\
          Run callback(*args) when time() reaches when (seconds).",
        raw_call_at,
    )?;
    install(&class, c"time", c"time($self, /)\n--\n\nThe loop's clock in seconds: time.monotonic().", raw_time)?;
    executors::install_methods(py)?;
    watchers::install_methods(&class)?;
    creating::install_methods(&class)
}

type Raw = *mut ffi::PyObject;

/// Runs the body of a raw method of `Loop`, which drops no `Py`.
///
/// # Safety
/// The pointers must be those of a method call by the interpreter on an instance of `Loop`.
#[inline]
unsafe fn method(
    this: Raw,
    values: *const Raw,
    count: ffi::Py_ssize_t,
    names: Raw,
    body: impl for<'py> FnOnce(&Bound<'py, Loop>, Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>>,
) -> Raw {
    guarded_untold(|py| {
        // SAFETY: as the caller promises; the method descriptor has checked the class.
        let (this, arguments) = unsafe {
            let this = Bound::ref_from_ptr(py, &this).cast_unchecked::<Loop>();
            (this, Arguments::new(py, values, count, names))
        };
        body(this, arguments).map(Bound::into_ptr)
    })
}

macro_rules! raw_method {
    ($name:ident, |$this:ident, $arguments:ident| $body:block) => {
        unsafe extern "C" fn $name(this: Raw, values: *const Raw, count: ffi::Py_ssize_t, names: Raw) -> Raw {
            #[inline]
            fn body<'py>(
                $this: &Bound<'py, Loop>,
                $arguments: Arguments<'_, 'py>,
            ) -> PyResult<Bound<'py, PyAny>> $body
            // SAFETY: called by the interpreter through the descriptor that `install_methods` made.
            unsafe { method(this, values, count, names, body) }
        }
    };
}

raw_method!(raw_call_soon, |this, arguments| {
    let core = &this.get().core;
    if !core.debug()
        && !core.is_closed()
        && let Some(job) = step::recognise(this, &arguments)
    {
        core.soon(job);
        return Ok(this.py().None().into_bound(this.py()));
    }
    let handle = new_handle(this, &arguments, "call_soon")?;
    this.get().core.soon(Job::Handle(handle::Scheduled::new(handle.clone())));
    Ok(handle)
});

raw_method!(raw_call_soon_threadsafe, |this, arguments| {
    let handle = new_handle(this, &arguments, "call_soon_threadsafe")?;
    if cfg!(Py_3_14) {
        handle::set_thread_safe(&handle);
    }
    this.get().core.soon(Job::Handle(handle::Scheduled::new(handle.clone())));
    Ok(handle)
});

raw_method!(raw_call_later, |this, arguments| {
    let delay = seconds(this.py(), &arguments, "call_later", "delay")?;
    let core = &this.get().core;
    call_at(this, &arguments, "call_later", "delay", core.now() as f64 / 1e9 + delay)
});

raw_method!(raw_call_at, |this, arguments| {
    let when = seconds(this.py(), &arguments, "call_at", "when")?;
    call_at(this, &arguments, "call_at", "when", when)
});

raw_method!(raw_time, |this, arguments| {
    no_arguments("time", &arguments)?;
    Ok((this.get().core.now() as f64 / 1e9).into_pyobject(this.py())?.into_any())
});

fn no_arguments(name: &str, arguments: &Arguments<'_, '_>) -> PyResult<()> {
    if arguments.positional().is_empty() && !arguments.has_keywords() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("{name}() takes no arguments")))
}

/// A handle from the arguments `(callback, *args, context=None)`.
#[inline(always)]
fn new_handle<'py>(
    this: &Bound<'py, Loop>,
    arguments: &Arguments<'_, 'py>,
    name: &'static str,
) -> PyResult<Bound<'py, PyAny>> {
    let core = &this.get().core;
    core.check_closed()?;
    if let Some((callback, values)) = arguments.positional().split_first()
        && !arguments.has_keywords()
        && !core.debug()
    {
        // SAFETY: callback and values are borrowed references that outlive the call.
        return unsafe { handle::new(this.as_any(), *callback, values, copy_current(this.py())?) };
    }
    new_handle_in_full(this, arguments, name)
}

/// As [`new_handle`], with a context, or in debug mode, or wrongly asked for.
#[inline(never)]
fn new_handle_in_full<'py>(
    this: &Bound<'py, Loop>,
    arguments: &Arguments<'_, 'py>,
    name: &'static str,
) -> PyResult<Bound<'py, PyAny>> {
    let core = &this.get().core;
    let (callback, values, context) = parse(this.py(), arguments, name, None)?;
    if core.debug() {
        check_debug(this, core, callback, name)?;
    }
    // SAFETY: callback and values are borrowed references that outlive the call.
    let handle = unsafe { handle::new(this.as_any(), callback, values, context)? };
    if core.debug() {
        remember_origin(&handle)?;
    }
    Ok(handle)
}

fn call_at<'py>(
    this: &Bound<'py, Loop>,
    arguments: &Arguments<'_, 'py>,
    name: &'static str,
    first: &'static str,
    when: f64,
) -> PyResult<Bound<'py, PyAny>> {
    let core = &this.get().core;
    core.check_closed()?;
    let (callback, values, context) = parse(this.py(), arguments, name, Some(first))?;
    if core.debug() {
        check_debug(this, core, callback, name)?;
    }
    // SAFETY: callback and values are borrowed references that outlive the call.
    let handle = unsafe { handle::new_timer(this.as_any(), when, callback, values, context)? };
    if core.debug() {
        remember_origin(&handle)?;
    }
    if core.is_mine() {
        handle::schedule(core, &handle, nanoseconds(when))?;
    } else {
        handle::track(&handle);
        core.call_soon(&handle, |handle| {
            let the_loop = handle.getattr(intern!(handle.py(), "_loop"))?;
            let when = handle.getattr(intern!(handle.py(), "_when"))?.extract()?;
            handle::schedule(&the_loop.cast::<Loop>()?.get().core, handle, nanoseconds(when))
        });
    }
    Ok(handle)
}

/// The first nanosecond of the clock at which `loop.time() >= when`: a timer never fires early.
pub fn nanoseconds(when: f64) -> u64 {
    let rounded = (when * 1e9).ceil();
    if rounded >= u64::MAX as f64 {
        return u64::MAX;
    }
    let mut nanoseconds = rounded.max(0.0) as u64;
    // Rounding in the multiplication can leave it one step short; the clock divides, so compare that way.
    while (nanoseconds as f64 / 1e9) < when {
        nanoseconds += 1 + nanoseconds / (1 << 53);
    }
    nanoseconds
}

/// The first argument, which may be given by its name `what`, as a number of seconds.
fn seconds(py: Python<'_>, arguments: &Arguments<'_, '_>, name: &str, what: &str) -> PyResult<f64> {
    let value: Bound<'_, PyAny> = match arguments.positional().first() {
        // SAFETY: a borrowed reference that outlives the call.
        Some(value) => unsafe { Bound::from_borrowed_ptr(py, *value) },
        None => match arguments.keywords().find(|(keyword, _)| keyword.eq(what).unwrap_or(false)) {
            Some((_, value)) => value,
            None => {
                return Err(PyTypeError::new_err(format!("{name}() missing 1 required positional argument: '{what}'")));
            }
        },
    };
    if value.is_none() {
        return Err(PyTypeError::new_err(format!("{what} must not be None")));
    }
    if !value.is_instance_of::<PyFloat>() && !value.is_instance_of::<PyInt>() {
        // What cannot be added to the clock's time is no number of seconds (a Decimal, say).
        value.add(0.0)?;
    }
    let seconds: f64 = value.extract()?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err(format!("{what} must be a number of seconds, not nan")));
    }
    Ok(seconds)
}

/// What every step of a task is scheduled with.
pub static CONTEXT: KnownKeyword = KnownKeyword::new("context");

type Parsed<'a, 'py> = (Raw, &'a [Raw], Bound<'py, PyAny>);

/// Callback, its arguments and its context, from `(first, callback, *args, context=None)`; `first` is for the caller.
#[inline]
fn parse<'a, 'py>(
    py: Python<'py>,
    arguments: &Arguments<'a, 'py>,
    name: &str,
    first: Option<&str>,
) -> PyResult<Parsed<'a, 'py>> {
    let skipped = usize::from(first.is_some());
    let mut callback = arguments.positional().get(skipped).copied();
    let mut context = arguments.only_keyword(&CONTEXT).filter(|context| !context.is_none());
    if context.is_none() && arguments.has_keywords() {
        for (keyword, value) in arguments.keywords() {
            if keyword.eq(intern!(py, "context"))? {
                context = Some(value).filter(|value| !value.is_none());
            } else if callback.is_none() && keyword.eq(intern!(py, "callback"))? {
                callback = Some(value.as_ptr());
            } else if arguments.positional().is_empty() && first.is_some_and(|first| keyword.eq(first).unwrap_or(false))
            {
                // The caller has it.
            } else {
                return Err(PyTypeError::new_err(format!("{name}() got an unexpected keyword argument '{keyword}'")));
            }
        }
    }
    let Some(callback) = callback else {
        return Err(PyTypeError::new_err(format!("{name}() missing 1 required positional argument: 'callback'")));
    };
    let context = match context {
        Some(context) => context,
        None => copy_current(py)?,
    };
    Ok((callback, arguments.positional().get(skipped + 1..).unwrap_or_default(), context))
}

/// Debug mode: the right thread, and something that can be called.
#[cold]
fn check_debug(this: &Bound<'_, Loop>, core: &Core, callback: Raw, name: &'static str) -> PyResult<()> {
    if name != "call_soon_threadsafe" && !core.is_mine() {
        return Err(PyRuntimeError::new_err(
            "Non-thread-safe operation invoked on an event loop other than the current one",
        ));
    }
    let py = this.py();
    // SAFETY: a borrowed reference that outlives the call.
    let callback: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, callback) };
    imports(py)?.helpers.bind(py).call_method1("check_callback", (callback, name)).map(drop)
}

#[cold]
fn remember_origin(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = handle.py();
    handle::set_traceback(handle, imports(py)?.helpers.bind(py).call_method0("extract_stack")?);
    Ok(())
}
