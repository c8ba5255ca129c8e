//! `Handle` and `TimerHandle`: one scheduled callback with its arguments and its context.
//!
//! Raw types, because one is made per `call_soon`: arguments lie inline, and freed handles are kept for the next call
//! (14 ns to make and drop one; 29 as a PyO3 class). A handle that has run, or was cancelled, lets go of callback and
//! arguments, but never while it runs: the arguments are the callee's until it returns.
//!
//! Behaviour follows CPython's `asyncio.events.Handle` and `TimerHandle`.

mod freeing;
mod running;
mod scheduled;
mod types;

use std::ptr;

use ferrio::event_loop::Due;
use ferrio::timers::TimerId;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::core::{Core, Job};
use crate::ffi::bound_method::{function_of, self_of};
use crate::ffi::spare::Spares;

use types::make_types;

pub use running::{call, cancel, finish, report, run_once};
pub use scheduled::Scheduled;

/// Arguments up to this many lie in the handle itself; more are kept as a tuple.
const INLINE: usize = 3;

const CANCELLED: u8 = 1;
const RUNNING: u8 = 2;
/// Runs more than once (a reader or writer): callback and arguments stay until it is cancelled.
const REPEATS: u8 = 4;
/// The timer is set in the loop.
const SCHEDULED: u8 = 8;
/// Cancelled in debug mode: `many` is the text that `repr()` shows, for callback and arguments are gone.
const DESCRIBED: u8 = 16;
/// Made by `call_soon_threadsafe` (3.14 and later): another thread that cancels it while it runs waits for its end.
const THREAD_SAFE: u8 = 32;
/// The garbage collector knows it (see [`Scheduled`]).
const TRACKED: u8 = 64;

#[repr(C)]
struct HandleObject {
    head: ffi::PyObject,
    weak_references: *mut ffi::PyObject,
    the_loop: *mut ffi::PyObject,
    context: *mut ffi::PyObject,
    /// Stays right before `arguments`: a vectorcall may use the place before its arguments for `self`.
    callback: *mut ffi::PyObject,
    arguments: [*mut ffi::PyObject; INLINE],
    /// The arguments as a tuple if they are more than fit; a text (see [`DESCRIBED`]); null otherwise.
    many: *mut ffi::PyObject,
    /// Debug mode: where the callback was scheduled; null otherwise.
    traceback: *mut ffi::PyObject,
    count: u8,
    flags: u8,
}

#[repr(C)]
struct TimerHandleObject {
    handle: HandleObject,
    when: f64,
    id: Option<TimerId>,
}

/// Freed handles that wait for the next `call_soon`: 2,048 of 128 bytes are a quarter of a megabyte. (Timer handles are none
/// the faster for it.)
static SPARE_HANDLES: Spares = Spares::new(2048);

struct Types {
    handle: Py<PyType>,
    timer: Py<PyType>,
}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();

/// The two types, made on first use.
pub fn types(py: Python<'_>) -> PyResult<(Py<PyType>, Py<PyType>)> {
    let types = TYPES.get_or_try_init(py, || make_types(py))?;
    Ok((types.handle.clone_ref(py), types.timer.clone_ref(py)))
}

// --- making one ----------------------------------------------------------------------------------------------------

/// A handle for `callback(*arguments)` in `context`, of which the garbage collector does not know: it goes to the loop as
/// a [`Scheduled`], or is [`track`]ed.
///
/// # Safety
/// `callback` and `arguments` are borrowed references to living objects.
#[inline(always)] // as the two that it stands between: without a profile three calls else, and results through memory
pub unsafe fn new<'py>(
    the_loop: &Bound<'py, PyAny>,
    callback: *mut ffi::PyObject,
    arguments: &[*mut ffi::PyObject],
    context: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = the_loop.py();
    let types = TYPES.get_or_try_init(py, || make_types(py))?;
    // SAFETY: the type that is kept there; the caller vouches for callback and arguments.
    unsafe {
        let object = SPARE_HANDLES.take(py).unwrap_or_else(|| allocate::<HandleObject>(&types.handle));
        fill(the_loop, object, callback, arguments, context)
    }
}

/// A timer handle for `when` (seconds of `loop.time()`); its timer is not set yet.
///
/// # Safety
/// As for [`new`].
pub unsafe fn new_timer<'py>(
    the_loop: &Bound<'py, PyAny>,
    when: f64,
    callback: *mut ffi::PyObject,
    arguments: &[*mut ffi::PyObject],
    context: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = the_loop.py();
    let types = TYPES.get_or_try_init(py, || make_types(py))?;
    // SAFETY: a type of ours; the caller vouches for the rest.
    unsafe {
        let object = allocate::<TimerHandleObject>(&types.timer);
        let handle = fill(the_loop, object, callback, arguments, context)?;
        let timer = object.cast::<TimerHandleObject>();
        (*timer).when = when;
        (*timer).id = None;
        Ok(handle)
    }
}

/// An object of one of our types, whose own fields are empty and which is not tracked; null with an error set.
///
/// # Safety
/// `T` is what lies in an object of `kind`, and the caller is attached.
#[inline(never)]
unsafe fn allocate<T>(kind: &Py<PyType>) -> *mut ffi::PyObject {
    // SAFETY: as the caller promises. What lies behind the head is plain data for which zero is empty.
    unsafe {
        let object = ffi::PyObject_GC_New::<ffi::PyObject>(kind.as_ptr().cast());
        if !object.is_null() {
            ptr::write_bytes(object.add(1).cast::<u8>(), 0, size_of::<T>() - size_of::<ffi::PyObject>());
        }
        object
    }
}

/// # Safety
/// `object` is a fresh object of one of our types, or null with an error set.
#[inline(always)]
unsafe fn fill<'py>(
    the_loop: &Bound<'py, PyAny>,
    object: *mut ffi::PyObject,
    callback: *mut ffi::PyObject,
    arguments: &[*mut ffi::PyObject],
    context: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = the_loop.py();
    // SAFETY: as the caller promises; every reference stored here is owned (new, or increased).
    unsafe {
        let owner = Bound::from_owned_ptr_or_err(py, object)?;
        let handle = object.cast::<HandleObject>();
        (*handle).the_loop = the_loop.clone().into_ptr();
        (*handle).context = context.into_ptr();
        ffi::Py_INCREF(callback);
        (*handle).callback = callback;
        (*handle).flags = 0;
        if arguments.len() <= INLINE {
            for (place, argument) in (*handle).arguments.iter_mut().zip(arguments) {
                ffi::Py_INCREF(*argument);
                *place = *argument;
            }
            (*handle).count = arguments.len() as u8;
        } else {
            let many = PyTuple::new(py, arguments.iter().map(|a| Bound::<PyAny>::from_borrowed_ptr(py, *a)))?;
            (*handle).many = many.into_ptr();
            (*handle).count = 0;
        }
        if cfg!(Py_GIL_DISABLED) {
            scheduled::track(object);
        }
        Ok(owner)
    }
}

// --- using one -----------------------------------------------------------------------------------------------------

fn raw(handle: &Bound<'_, PyAny>) -> *mut HandleObject {
    handle.as_ptr().cast()
}

/// Whether the object is a `TimerHandle`.
pub fn is_timer(object: &Bound<'_, PyAny>) -> bool {
    TYPES.get(object.py()).is_some_and(|types| object.get_type().is(&types.timer))
}

/// The address of the code that the callback runs, as far as that is easily told: the same for every handle that calls
/// it.
#[inline]
pub fn code_address(handle: &Py<PyAny>) -> usize {
    let object = handle.as_ptr().cast::<HandleObject>();
    // SAFETY: only handles come here, and callers are attached; each check comes before what it allows. (A handle that
    // has let go of its callback has none.)
    unsafe {
        if (*object).callback.is_null() {
            return 0;
        }
        let callback = function_of((*object).callback);
        if ffi::PyFunction_Check(callback) != 0 {
            // (What PyFunction_GetCode gives.)
            (*callback.cast::<ffi::PyFunctionObject>()).func_code as usize
        } else if ffi::PyCFunction_CheckExact(callback) != 0 {
            ffi::PyCFunction_GetFunction(callback).map_or(0, |function| function as usize)
        } else {
            ffi::Py_TYPE(callback) as usize
        }
    }
}

/// Whose method the callback is; null if it is none of Python's. Borrowed from the handle.
pub fn callback_self(handle: &Py<PyAny>) -> *mut ffi::PyObject {
    let object = handle.as_ptr().cast::<HandleObject>();
    // SAFETY: only handles come here, and callers are attached; the check comes first.
    unsafe { if (*object).callback.is_null() { ptr::null_mut() } else { self_of((*object).callback) } }
}

/// The address of the callback's first argument; 0 if it has none.
pub fn first_argument(handle: &Py<PyAny>) -> usize {
    let object = handle.as_ptr().cast::<HandleObject>();
    // SAFETY: only handles come here, and callers are attached; as many arguments are there as are counted.
    unsafe { if (*object).count > 0 { (*object).arguments[0] as usize } else { 0 } }
}

/// Marks a handle that runs many times.
pub fn set_repeats(handle: &Bound<'_, PyAny>) {
    track(handle);
    // SAFETY: only handles come here.
    unsafe { (*raw(handle)).flags |= REPEATS };
}

/// Has the garbage collector know of a handle that the loop may never hold.
pub fn track(handle: &Bound<'_, PyAny>) {
    // SAFETY: only handles come here.
    unsafe { scheduled::track(handle.as_ptr()) };
}

/// Debug mode: remembers where it was scheduled.
pub fn set_traceback(handle: &Bound<'_, PyAny>, traceback: Bound<'_, PyAny>) {
    // SAFETY: only handles come here; the field owns its reference and was null.
    unsafe { (*raw(handle)).traceback = traceback.into_ptr() };
}

/// Marks a handle of `call_soon_threadsafe`.
pub fn set_thread_safe(handle: &Bound<'_, PyAny>) {
    // SAFETY: only handles come here.
    unsafe { (*raw(handle)).flags |= THREAD_SAFE };
}

/// Notes which timer fires it.
pub fn set_timer(handle: &Bound<'_, PyAny>, id: TimerId) {
    // SAFETY: only timer handles come here.
    unsafe {
        (*handle.as_ptr().cast::<TimerHandleObject>()).id = Some(id);
        (*raw(handle)).flags |= SCHEDULED;
    }
}

/// Puts a timer handle's timer into the loop.
pub fn schedule(core: &Core, handle: &Bound<'_, PyAny>, when: u64) -> PyResult<()> {
    let id = core.engine()?.timer(when, Due::Job(Job::Handle(Scheduled::new(handle.clone()))));
    set_timer(handle, id);
    Ok(())
}
