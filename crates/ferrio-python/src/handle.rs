//! `Handle` and `TimerHandle`: one scheduled callback with its arguments and its context.
//!
//! Raw types, because one is made per `call_soon`: arguments lie inline, and freed handles are kept for the next call
//! (14 ns to make and drop one; 29 as a PyO3 class). A handle that has run, or was cancelled, lets go of callback and
//! arguments, but never while it runs: the arguments are the callee's until it returns.
//!
//! Behaviour follows CPython's `asyncio.events.Handle` and `TimerHandle`.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use ferrio::event_loop::Due;
use ferrio::timers::TimerId;
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::core::{Core, Job};
use crate::event_loop::Loop;
use crate::ffi::method::guarded;
use crate::ffi::{error, exit};
use crate::imports::imports;

/// Arguments up to this many lie in the handle itself; more are kept as a tuple.
const INLINE: usize = 3;

/// How many freed handles wait for the next `call_soon`: 2,048 of 128 bytes are a quarter of a megabyte.
const SPARE_HANDLES: usize = 2048;

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

/// A handle for `callback(*arguments)` in `context`.
///
/// # Safety
/// `callback` and `arguments` are borrowed references to living objects.
#[inline]
pub unsafe fn new<'py>(
    the_loop: &Bound<'py, PyAny>,
    callback: *mut ffi::PyObject,
    arguments: &[*mut ffi::PyObject],
    context: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = the_loop.py();
    let types = TYPES.get_or_try_init(py, || make_types(py))?;
    let object = match spare::take(py, &types.handle) {
        Some(object) => object,
        // SAFETY: a type of ours, whose allocation gives zeroed fields.
        None => unsafe { ffi::PyType_GenericAlloc(types.handle.as_ptr().cast(), 0) },
    };
    // SAFETY: new or null; the caller vouches for callback and arguments.
    unsafe { fill(the_loop, object, callback, arguments, context) }
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
    // SAFETY: a type of ours, whose allocation gives zeroed fields; the caller vouches for the rest.
    unsafe {
        let object = ffi::PyType_GenericAlloc(types.timer.as_ptr().cast(), 0);
        let handle = fill(the_loop, object, callback, arguments, context)?;
        let timer = object.cast::<TimerHandleObject>();
        (*timer).when = when;
        (*timer).id = None;
        Ok(handle)
    }
}

/// # Safety
/// `object` is a fresh object of one of our types, or null with an error set.
#[inline]
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

/// Marks a handle that runs many times.
pub fn set_repeats(handle: &Bound<'_, PyAny>) {
    // SAFETY: only handles come here.
    unsafe { (*raw(handle)).flags |= REPEATS };
}

/// Debug mode: remembers where it was scheduled.
pub fn set_traceback(handle: &Bound<'_, PyAny>, traceback: Bound<'_, PyAny>) {
    // SAFETY: only handles come here; the field owns its reference and was null.
    unsafe { (*raw(handle)).traceback = traceback.into_ptr() };
}

/// Notes which timer fires it.
pub fn set_timer(handle: &Bound<'_, PyAny>, id: TimerId) {
    // SAFETY: only timer handles come here.
    unsafe {
        (*handle.as_ptr().cast::<TimerHandleObject>()).id = Some(id);
        (*raw(handle)).flags |= SCHEDULED;
    }
}

/// Runs the callback in its context, unless it was cancelled. An exception goes to the loop's exception handler;
/// KeyboardInterrupt and SystemExit are returned.
#[inline]
pub fn run(py: Python<'_>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
    // A callback that runs its own handle (`handle._run()`) still has its arguments in use afterwards.
    // SAFETY: only handles come here.
    let is_nested = unsafe { (*raw(handle)).flags & RUNNING != 0 };
    let outcome = call(py, handle);
    if !is_nested {
        finish(handle);
    }
    outcome
}

/// The first half of [`run`]: the callback has run, and is still there to be looked at.
#[inline]
pub fn call(py: Python<'_>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let object = raw(handle);
    // SAFETY: a living handle. `callback`, `arguments` and `context` stay in place while RUNNING is set, whatever the
    // callback does to the handle; the argument before the first is `callback`, which the callee puts back.
    unsafe {
        (*object).flags &= !SCHEDULED;
        // Cancelled, or it has run and let go of its callback.
        if (*object).flags & CANCELLED != 0 || (*object).callback.is_null() {
            return Ok(());
        }
        (*object).flags |= RUNNING;
        let result = if ffi::PyContext_Enter((*object).context) < 0 {
            ptr::null_mut()
        } else {
            let result = if (*object).many.is_null() {
                let count = (*object).count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
                exit::vectorcall((*object).callback, (*object).arguments.as_ptr(), count)
            } else {
                exit::call((*object).callback, (*object).many)
            };
            leave((*object).context, result.is_null());
            result
        };
        if result.is_null() {
            let error = error::take(py);
            if ffi::PyContext_CheckExact((*object).context) == 0 {
                // What asyncio says of a context that is none: it has no `run`.
                let kind = Bound::<PyAny>::from_borrowed_ptr(py, (*object).context).get_type();
                let missing = format!("'{}' object has no attribute 'run'", kind.name()?);
                return report(py, handle, PyAttributeError::new_err(missing));
            }
            return report(py, handle, error);
        }
        ffi::Py_DECREF(result);
        Ok(())
    }
}

/// The second half of [`run`]: lets go of what is not needed any more.
#[inline]
pub fn finish(handle: &Bound<'_, PyAny>) {
    let object = raw(handle);
    // SAFETY: a living handle, which does not run any more.
    unsafe {
        (*object).flags &= !RUNNING;
        if (*object).flags & THREAD_SAFE != 0 {
            HAS_RUN.1.notify_all();
        }
        if (*object).flags & CANCELLED != 0 {
            if let Err(error) = let_go_described(handle) {
                error.write_unraisable(handle.py(), Some(handle));
            }
        } else if (*object).flags & REPEATS == 0 && (*object).traceback.is_null() {
            // (One made in debug mode keeps what it called, for its repr, as asyncio's do.)
            let_go(object);
        }
    }
}

/// Lets go of callback and arguments of a cancelled handle; one made in debug mode keeps its description.
fn let_go_described(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = handle.py();
    let object = raw(handle);
    // SAFETY: a living handle that is not running; `many` is empty once it has let go.
    unsafe {
        if (*object).traceback.is_null() || (*object).callback.is_null() {
            let_go(object);
            return Ok(());
        }
        let text = imports(py)?.helpers.bind(py).call_method1("handle_repr", (handle,));
        let_go(object);
        (*object).many = text?.into_ptr();
        (*object).flags |= DESCRIBED;
    }
    Ok(())
}

/// # Safety
/// `context` is the entered context. `failed` says that an error is set, which survives.
#[inline]
unsafe fn leave(context: *mut ffi::PyObject, failed: bool) {
    // SAFETY: as above.
    unsafe {
        if failed {
            let py = Python::assume_attached();
            let error = error::save(py);
            ffi::PyContext_Exit(context);
            error.restore(py);
        } else if ffi::PyContext_Exit(context) < 0 {
            ffi::PyErr_WriteUnraisable(context);
        }
    }
}

#[cold]
fn report(py: Python<'_>, handle: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    // SAFETY: a living handle, whose loop is always set.
    let the_loop: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, (*raw(handle)).the_loop) };
    let core = &the_loop.cast::<Loop>()?.get().core;
    let described = imports(py)?.helpers.bind(py).call_method1("describe_callback", (handle,))?;
    core.report(py, error, &format!("Exception in callback {described}"), |context| {
        context.set_item(intern!(py, "handle"), handle)?;
        // SAFETY: null or an owned list.
        let traceback = unsafe { Bound::<PyAny>::from_borrowed_ptr_or_opt(py, (*raw(handle)).traceback) };
        traceback.map_or(Ok(()), |traceback| context.set_item(intern!(py, "source_traceback"), traceback))
    })
}

/// Marks a handle of `call_soon_threadsafe`.
pub fn set_thread_safe(handle: &Bound<'_, PyAny>) {
    // SAFETY: only handles come here.
    unsafe { (*raw(handle)).flags |= THREAD_SAFE };
}

/// Fires whenever a thread-safe handle has run.
static HAS_RUN: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

/// Another thread waits until a thread-safe handle does not run, so that what it learns or does then is final.
fn wait_for_end(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = handle.py();
    let object = raw(handle);
    // SAFETY: a living handle. Atomic, because the loop's thread changes the flags while this one waits.
    let flags = || unsafe { AtomicU8::from_ptr(&raw mut (*object).flags) }.load(Ordering::Acquire);
    while flags() & (THREAD_SAFE | RUNNING) == THREAD_SAFE | RUNNING {
        // SAFETY: a living handle, whose loop is always set.
        let the_loop: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, (*object).the_loop) };
        if the_loop.cast::<Loop>()?.get().core.is_mine() {
            return Ok(());
        }
        py.detach(|| {
            let (mutex, has_run) = &HAS_RUN;
            let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
            // The end may come between the look at the flag and the wait: a millisecond bounds what that can cost.
            drop(has_run.wait_timeout(guard, Duration::from_millis(1)));
        });
    }
    Ok(())
}

/// Cancels: the callback will not run. Callback and arguments are let go, or, if they are being run, afterwards.
pub fn cancel(handle: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = handle.py();
    wait_for_end(handle)?;
    let object = raw(handle);
    // SAFETY: a living handle.
    unsafe {
        if (*object).flags & CANCELLED != 0 {
            return Ok(());
        }
        (*object).flags |= CANCELLED;
        if (*object).flags & SCHEDULED != 0 {
            (*object).flags &= !SCHEDULED;
            let the_loop: Bound<'_, PyAny> = Bound::from_borrowed_ptr(py, (*object).the_loop);
            let core = &the_loop.cast::<Loop>()?.get().core;
            forget_timer(core, object.cast());
        }
        if (*object).flags & RUNNING == 0 {
            let_go_described(handle)?;
        }
    }
    Ok(())
}

/// # Safety
/// `timer` is a living timer handle.
unsafe fn forget_timer(core: &Core, timer: *mut TimerHandleObject) {
    // SAFETY: as above.
    let id = unsafe { (*timer).id.take() };
    // From another thread the cancelled flag must do: the timer finds it when it is due.
    if let (Some(id), Ok(engine)) = (id, core.engine()) {
        drop(engine.cancel_timer(id));
    }
}

/// Lets go of callback and arguments.
///
/// # Safety
/// A living handle that is not running.
#[inline]
unsafe fn let_go(object: *mut HandleObject) {
    // SAFETY: the fields own their references; each is emptied before it is released, because the release may run
    // code that looks at the handle.
    unsafe {
        let count = std::mem::take(&mut (*object).count) as usize;
        let arguments = std::mem::replace(&mut (*object).arguments, [ptr::null_mut(); INLINE]);
        let callback = std::mem::replace(&mut (*object).callback, ptr::null_mut());
        let many = std::mem::replace(&mut (*object).many, ptr::null_mut());
        for argument in &arguments[..count] {
            ffi::Py_XDECREF(*argument);
        }
        ffi::Py_XDECREF(many);
        ffi::Py_XDECREF(callback);
    }
}

// --- the types -----------------------------------------------------------------------------------------------------

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, data: *mut c_void) -> c_int {
    let handle = object.cast::<HandleObject>();
    // SAFETY: called by the collector with a living handle; every non-null field is an owned reference.
    unsafe {
        let fixed = [
            ffi::Py_TYPE(object).cast(),
            (*handle).the_loop,
            (*handle).context,
            (*handle).callback,
            (*handle).many,
            (*handle).traceback,
        ];
        for reference in fixed.into_iter().chain((*handle).arguments) {
            if !reference.is_null() {
                let stop = visit(reference, data);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    let handle = object.cast::<HandleObject>();
    // SAFETY: called by the collector with a living handle. The loop stays: the other methods rely on it.
    unsafe {
        ffi::Py_CLEAR(&mut (*handle).traceback);
        let_go(handle);
        ffi::Py_CLEAR(&mut (*handle).context);
        (*handle).flags |= CANCELLED;
    }
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    let handle = object.cast::<HandleObject>();
    // SAFETY: the last reference is gone; the object leaves the collector before its fields are emptied.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        if !(*handle).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        nesting::one_by_one(handle);
    }
}

/// Handles that are arguments of handles: a chain of a million must not be freed a million calls deep.
/// (CPython has the same for its own containers, but offers it to others from 3.14 on only.)
mod nesting {
    use std::cell::Cell;

    use super::{HandleObject, free};

    /// How many handles may be freed within each other.
    const DEEP: usize = 50;

    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
        /// Dead handles that wait for their turn, each leading to the next by its `weak_references`.
        static WAITING: Cell<*mut HandleObject> = const { Cell::new(std::ptr::null_mut()) };
    }

    /// Frees the handle: now, or once those that are being freed are done.
    ///
    /// # Safety
    /// The handle is dead and untracked, and nothing refers to it weakly any more.
    pub unsafe fn one_by_one(handle: *mut HandleObject) {
        let depth = DEPTH.get();
        if depth >= DEEP {
            // SAFETY: as the caller promises; the field is not used any more.
            unsafe { (*handle).weak_references = WAITING.replace(handle).cast() };
            return;
        }
        DEPTH.set(depth + 1);
        // SAFETY: as the caller promises.
        unsafe { free(handle) };
        while depth == 0 && !WAITING.get().is_null() {
            let next = WAITING.get();
            // SAFETY: it was put there above, dead, and leads to the next.
            unsafe {
                WAITING.set(std::mem::replace(&mut (*next).weak_references, std::ptr::null_mut()).cast());
                free(next);
            }
        }
        DEPTH.set(depth);
    }
}

/// Empties a dead handle and gives its memory back.
///
/// # Safety
/// The handle is dead and untracked, and nothing refers to it weakly any more.
unsafe fn free(handle: *mut HandleObject) {
    let object = handle.cast::<ffi::PyObject>();
    // SAFETY: as the caller promises.
    unsafe {
        ffi::Py_CLEAR(&mut (*handle).traceback);
        let_go(handle);
        ffi::Py_CLEAR(&mut (*handle).context);
        ffi::Py_CLEAR(&mut (*handle).the_loop);
        let kind = ffi::Py_TYPE(object);
        if !spare::keep(object) {
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}

/// Freed handles, kept for the next one. A free-threaded build does without: a lock would cost what they save.
mod spare {
    use super::*;

    struct Spares(UnsafeCell<Vec<*mut ffi::PyObject>>);

    // SAFETY: touched only with the interpreter lock held (see `take` and `keep`).
    unsafe impl Sync for Spares {}

    static SPARES: Spares = Spares(UnsafeCell::new(Vec::new()));

    #[inline]
    pub fn take(_py: Python<'_>, kind: &Py<PyType>) -> Option<*mut ffi::PyObject> {
        if cfg!(Py_GIL_DISABLED) {
            return None;
        }
        // SAFETY: `_py` proves that the lock is held. A kept block is an empty, untracked handle, whose head
        // PyObject_Init makes anew (and which takes a reference to its type).
        unsafe {
            let object = (*SPARES.0.get()).pop()?;
            ffi::PyObject_Init(object, kind.as_ptr().cast());
            ffi::PyObject_GC_Track(object.cast());
            Some(object)
        }
    }

    /// # Safety
    /// Called from `dealloc`, which holds the lock, with an untracked handle whose fields are all empty.
    #[inline]
    pub unsafe fn keep(object: *mut ffi::PyObject) -> bool {
        if cfg!(Py_GIL_DISABLED) {
            return false;
        }
        // SAFETY: as above. Only plain handles are kept: a timer handle is larger.
        unsafe {
            let spares = &mut *SPARES.0.get();
            let plain = TYPES
                .get(Python::assume_attached())
                .is_some_and(|types| ptr::eq(types.handle.as_ptr(), ffi::Py_TYPE(object).cast()));
            let room = plain && spares.len() < SPARE_HANDLES;
            if room {
                spares.push(object);
            }
            room
        }
    }
}

unsafe extern "C" fn method_cancel(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        let handle = unsafe { Bound::from_borrowed_ptr(py, object) };
        cancel(&handle)?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn method_cancelled(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        unsafe {
            wait_for_end(&Bound::from_borrowed_ptr(py, object))?;
            Ok(ffi::PyBool_FromLong(((*object.cast::<HandleObject>()).flags & CANCELLED).into()))
        }
    })
}

unsafe extern "C" fn method_get_context(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a living handle.
    unsafe { new_reference((*object.cast::<HandleObject>()).context) }
}

unsafe extern "C" fn method_when(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a living timer handle.
    unsafe { ffi::PyFloat_FromDouble((*object.cast::<TimerHandleObject>()).when) }
}

unsafe extern "C" fn method_run(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        let handle = unsafe { Bound::from_borrowed_ptr(py, object) };
        run(py, &handle)?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        let handle: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, object) };
        Ok(imports(py)?.helpers.bind(py).call_method1("handle_repr", (handle,))?.into_ptr())
    })
}

unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: the interpreter passes a living timer handle.
    let value = unsafe { ffi::PyFloat_FromDouble((*object.cast::<TimerHandleObject>()).when) };
    if value.is_null() {
        return -1;
    }
    // SAFETY: a float that we own.
    unsafe {
        let hash = ffi::PyObject_Hash(value);
        ffi::Py_DECREF(value);
        hash
    }
}

/// Timer handles compare by deadline; equal ones also by what they call.
unsafe extern "C" fn compare(a: *mut ffi::PyObject, b: *mut ffi::PyObject, operator: c_int) -> *mut ffi::PyObject {
    guarded(|py| {
        let not_implemented = || Ok(py.NotImplemented().into_ptr());
        let Some(types) = TYPES.get(py) else { return not_implemented() };
        // SAFETY: the interpreter passes living objects; both are checked to be timer handles before they are read.
        unsafe {
            let kind = types.timer.as_ptr().cast();
            if ffi::PyObject_TypeCheck(a, kind) == 0 || ffi::PyObject_TypeCheck(b, kind) == 0 {
                return not_implemented();
            }
            let (first, second) = (a.cast::<TimerHandleObject>(), b.cast::<TimerHandleObject>());
            let (x, y) = ((*first).when, (*second).when);
            let same = || -> PyResult<bool> {
                let whole = |object| attribute_tuple(py, object);
                Ok(ptr::eq(a, b) || (x == y && whole(a)?.eq(whole(b)?)?))
            };
            let answer = match operator {
                ffi::Py_LT => x < y,
                ffi::Py_LE => x < y || same()?,
                ffi::Py_GT => x > y,
                ffi::Py_GE => x > y || same()?,
                ffi::Py_EQ => same()?,
                ffi::Py_NE => !same()?,
                _ => return not_implemented(),
            };
            Ok(ffi::PyBool_FromLong(answer.into()))
        }
    })
}

fn attribute_tuple(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Bound<'_, PyTuple>> {
    // SAFETY: a living handle.
    let handle: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, object) };
    (handle.getattr("_callback")?, handle.getattr("_args")?, handle.getattr("_cancelled")?).into_pyobject(py)
}

/// # Safety
/// `object` is null or a living object.
unsafe fn new_reference(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as above; None stands for null.
    unsafe {
        let object = if object.is_null() { ffi::Py_None() } else { object };
        ffi::Py_INCREF(object);
        object
    }
}

/// Attributes that asyncio's handles have and that tools read. The pointer says which.
unsafe extern "C" fn attribute(object: *mut ffi::PyObject, which: *mut c_void) -> *mut ffi::PyObject {
    guarded(|py| {
        let handle = object.cast::<HandleObject>();
        // SAFETY: the interpreter passes a living handle, and a timer handle where only those have the attribute.
        unsafe {
            Ok(match which as usize {
                0 => new_reference((*handle).callback),
                1 if (*handle).callback.is_null() => new_reference(ptr::null_mut()),
                1 if !(*handle).many.is_null() => new_reference((*handle).many),
                1 => {
                    let inline = &(&(*handle).arguments)[..(*handle).count as usize];
                    PyTuple::new(py, inline.iter().map(|a| Bound::<PyAny>::from_borrowed_ptr(py, *a)))?.into_ptr()
                }
                2 => ffi::PyBool_FromLong(((*handle).flags & CANCELLED).into()),
                3 => new_reference((*handle).the_loop),
                4 => new_reference((*handle).traceback),
                5 => new_reference((*handle).context),
                6 if (*handle).flags & DESCRIBED == 0 => new_reference(ptr::null_mut()),
                6 => new_reference((*handle).many),
                // What `isinstance(handle, asyncio.Handle)` asks.
                9 if (*handle).flags & THREAD_SAFE != 0 => imports(py)?.thread_safe_handle.clone_ref(py).into_ptr(),
                9 => imports(py)?.handle.clone_ref(py).into_ptr(),
                10 => imports(py)?.timer_handle.clone_ref(py).into_ptr(),
                7 => ffi::PyFloat_FromDouble((*object.cast::<TimerHandleObject>()).when),
                _ => ffi::PyBool_FromLong(((*handle).flags & SCHEDULED).into()),
            })
        }
    })
}

const fn method(name: &'static CStr, function: ffi::PyCFunction, doc: &'static CStr) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

const fn getter(name: &'static CStr, which: usize) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(attribute),
        set: None,
        doc: ptr::null(),
        closure: which as *mut c_void,
    }
}

fn make_types(py: Python<'_>) -> PyResult<Types> {
    // The definitions live as long as the types: for ever.
    let methods = Box::leak(Box::new([
        method(c"cancel", method_cancel, c"cancel($self, /)\n--\n\nCancel the callback; no effect once it has run."),
        method(c"cancelled", method_cancelled, c"cancelled($self, /)\n--\n\nWhether cancel() was called."),
        method(c"get_context", method_get_context, c"get_context($self, /)\n--\n\nThe contextvars.Context it runs in."),
        method(c"_run", method_run, c"_run($self, /)\n--\n\nRun the callback now."),
        ffi::PyMethodDef::zeroed(),
    ]));
    let getters = Box::leak(Box::new([
        getter(c"__class__", 9),
        getter(c"_callback", 0),
        getter(c"_args", 1),
        getter(c"_cancelled", 2),
        getter(c"_loop", 3),
        getter(c"_source_traceback", 4),
        getter(c"_context", 5),
        getter(c"_repr", 6),
        ffi::PyGetSetDef::default(),
    ]));
    let members = Box::leak(Box::new([
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: std::mem::offset_of!(HandleObject, weak_references) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        },
        ffi::PyMemberDef::default(),
    ]));
    let handle = make_type(
        py,
        c"ferrio.Handle",
        size_of::<HandleObject>(),
        ptr::null_mut(),
        &mut [
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
            slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
            slot(ffi::Py_tp_doc, c"A scheduled callback, as loop.call_soon() returns it.".as_ptr() as *mut c_void),
            slot(0, ptr::null_mut()),
        ],
    )?;
    let timer_methods = Box::leak(Box::new([
        method(c"when", method_when, c"when($self, /)\n--\n\nThe deadline in seconds of loop.time()."),
        ffi::PyMethodDef::zeroed(),
    ]));
    let timer_getters = Box::leak(Box::new([
        getter(c"__class__", 10),
        getter(c"_when", 7),
        getter(c"_scheduled", 8),
        ffi::PyGetSetDef::default(),
    ]));
    let timer = make_type(
        py,
        c"ferrio.TimerHandle",
        size_of::<TimerHandleObject>(),
        handle.as_ptr(),
        &mut [
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_hash, hash as *mut c_void),
            slot(ffi::Py_tp_richcompare, compare as *mut c_void),
            slot(ffi::Py_tp_methods, timer_methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, timer_getters.as_mut_ptr().cast()),
            slot(
                ffi::Py_tp_doc,
                c"A callback with a deadline, as loop.call_later() returns it.".as_ptr() as *mut c_void,
            ),
            slot(0, ptr::null_mut()),
        ],
    )?;
    Ok(Types { handle, timer })
}

const fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

fn make_type(
    py: Python<'_>,
    name: &'static CStr,
    size: usize,
    base: *mut ffi::PyObject,
    slots: &mut [ffi::PyType_Slot],
) -> PyResult<Py<PyType>> {
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_BASETYPE
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size as c_int,
        itemsize: 0,
        flags: flags as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and ends with an empty slot; `base` is null or a type.
    let made = unsafe { Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_FromSpecWithBases(&mut spec, base))? };
    Ok(made.cast_into::<PyType>()?.unbind())
}

/// Puts a timer handle's timer into the loop.
pub fn schedule(core: &Core, handle: &Bound<'_, PyAny>, when: u64) -> PyResult<()> {
    let id = core.engine()?.timer(when, Due::Job(Job::Handle(handle.clone().unbind())));
    set_timer(handle, id);
    Ok(())
}
