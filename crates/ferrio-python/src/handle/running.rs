//! A handle runs, or is cancelled; either way it lets go of what it does not need any more.

use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use ferrio::event_loop::Due;
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::freeing::retire;
use super::scheduled::release;
use super::{
    CANCELLED, DESCRIBED, HandleObject, INLINE, REPEATS, RUNNING, SCHEDULED, Scheduled, THREAD_SAFE, TimerHandleObject,
    raw,
};
use crate::core::{Core, Job};
use crate::event_loop::Loop;
use crate::ffi::error;
use crate::imports::imports;

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

/// As [`run`], of a handle whose turn in the loop it is, and which the loop lets go of.
#[inline]
pub fn run_once(py: Python<'_>, handle: Scheduled) -> PyResult<()> {
    let handle = handle.into_bound(py);
    // SAFETY: only handles come here.
    let is_nested = unsafe { (*raw(&handle)).flags & RUNNING != 0 };
    let outcome = call(py, &handle);
    if is_nested {
        release(handle)
    } else {
        retire(handle)
    }
    outcome
}

/// The first half of [`run`]: the callback has run, and is still there to be looked at.
#[inline(always)]
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
                ffi::PyObject_Vectorcall((*object).callback, (*object).arguments.as_ptr(), count, ptr::null_mut())
            } else {
                ffi::PyObject_Call((*object).callback, (*object).many, ptr::null_mut())
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
        if (*object).flags & THREAD_SAFE != 0 && WAITING.load(Ordering::SeqCst) > 0 {
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

/// Lets go of callback and arguments.
///
/// # Safety
/// A living handle that is not running.
#[inline]
pub(super) unsafe fn let_go(object: *mut HandleObject) {
    // SAFETY: the fields own their references; each is emptied before it is released, because the release may run
    // code that looks at the handle.
    unsafe {
        let callback = std::mem::replace(&mut (*object).callback, ptr::null_mut());
        let many = std::mem::replace(&mut (*object).many, ptr::null_mut());
        let count = std::mem::take(&mut (*object).count) as usize;
        if count > 0 {
            let arguments = std::mem::replace(&mut (*object).arguments, [ptr::null_mut(); INLINE]);
            for argument in &arguments[..count] {
                ffi::Py_XDECREF(*argument);
            }
        }
        ffi::Py_XDECREF(many);
        ffi::Py_XDECREF(callback);
    }
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

/// Hands what a callback has raised to the loop's exception handler. KeyboardInterrupt and SystemExit are returned.
#[cold]
pub fn report(py: Python<'_>, handle: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
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

// --- cancelling ----------------------------------------------------------------------------------------------------

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
            forget_timer(py, core, object.cast());
        }
        if (*object).flags & RUNNING == 0 {
            let_go_described(handle)?;
        }
    }
    Ok(())
}

/// # Safety
/// `timer` is a living timer handle.
unsafe fn forget_timer(py: Python<'_>, core: &Core, timer: *mut TimerHandleObject) {
    // SAFETY: as above.
    let id = unsafe { (*timer).id.take() };
    // From another thread the cancelled flag must do: the timer finds it when it is due.
    if let (Some(id), Ok(engine)) = (id, core.engine())
        && let Some(Due::Job(Job::Handle(handle))) = engine.cancel_timer(id)
    {
        release(handle.into_bound(py));
    }
}

/// Fires whenever a thread-safe handle has run.
static HAS_RUN: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

/// How many threads wait for that: telling them is a system call even if there are none.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Another thread waits until a thread-safe handle does not run, so that what it learns or does then is final.
pub(super) fn wait_for_end(handle: &Bound<'_, PyAny>) -> PyResult<()> {
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
            WAITING.fetch_add(1, Ordering::SeqCst);
            // The end may come between the look at the flag and the wait: a millisecond bounds what that can cost.
            drop(has_run.wait_timeout(guard, Duration::from_millis(1)));
            WAITING.fetch_sub(1, Ordering::SeqCst);
        });
    }
    Ok(())
}
