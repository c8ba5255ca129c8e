//! Calls into Python that a daemon thread may not come back from.
//!
//! When the interpreter ends, CPython before 3.14 ends every other thread as soon as it wants the interpreter lock
//! again: `pthread_exit` unwinds its stack, and Rust aborts the process where it meets frames that call C functions
//! which "cannot unwind". The calls here can be unwound, and stop that thread for good instead, as CPython itself does
//! from 3.14 on. They stand where a loop spends its time: running callbacks, and coming back from its sleep.

use std::mem;
use std::thread;

use pyo3::ffi::{PyObject, PyThreadState};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::error;

unsafe extern "C-unwind" {
    fn PyObject_Vectorcall(
        callable: *mut PyObject,
        arguments: *const *mut PyObject,
        count: usize,
        names: *mut PyObject,
    ) -> *mut PyObject;
    fn PyObject_VectorcallMethod(
        name: *mut PyObject,
        arguments: *const *mut PyObject,
        count: usize,
        names: *mut PyObject,
    ) -> *mut PyObject;
    fn PyObject_Call(callable: *mut PyObject, arguments: *mut PyObject, names: *mut PyObject) -> *mut PyObject;
    fn PyEval_SaveThread() -> *mut PyThreadState;
    fn PyEval_RestoreThread(state: *mut PyThreadState);
}

/// Stops the thread if it is unwound by anything but a panic.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        while !thread::panicking() {
            thread::park();
        }
    }
}

/// Runs `call`, from which the thread may be told to exit.
#[inline]
fn or_stop<R>(call: impl FnOnce() -> R) -> R {
    let stop = Stop;
    let result = call();
    mem::forget(stop);
    result
}

/// `PyObject_Vectorcall` without keywords.
///
/// # Safety
/// As for the C function.
#[inline]
pub unsafe fn vectorcall(callable: *mut PyObject, arguments: *const *mut PyObject, count: usize) -> *mut PyObject {
    // SAFETY: as the caller promises.
    or_stop(|| unsafe { PyObject_Vectorcall(callable, arguments, count, std::ptr::null_mut()) })
}

/// `PyObject_Call` without keywords.
///
/// # Safety
/// As for the C function.
pub unsafe fn call(callable: *mut PyObject, arguments: *mut PyObject) -> *mut PyObject {
    // SAFETY: as the caller promises.
    or_stop(|| unsafe { PyObject_Call(callable, arguments, std::ptr::null_mut()) })
}

/// `object.name(*arguments)`. A panic that PyO3 has made an exception of comes back as that exception.
pub fn call_method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    /// Protocols' methods have two arguments at most.
    const ROOM: usize = 3;
    const { assert!(N < ROOM) };
    let py = object.py();
    let mut all = [object.as_ptr(); ROOM];
    for (place, argument) in all[1..].iter_mut().zip(arguments) {
        *place = argument.as_ptr();
    }
    // SAFETY: the object and its arguments outlive the call; the result is new or null with an error set.
    unsafe {
        let result = or_stop(|| PyObject_VectorcallMethod(name.as_ptr(), all.as_ptr(), N + 1, std::ptr::null_mut()));
        if result.is_null() { Err(error::take(py)) } else { Ok(Bound::from_owned_ptr(py, result)) }
    }
}

/// `callable(argument)`, likewise.
pub fn call_with<'py>(callable: &Bound<'py, PyAny>, argument: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [argument.as_ptr()];
    // SAFETY: the callable and its argument outlive the call; the result is new or null with an error set.
    unsafe {
        let result = vectorcall(callable.as_ptr(), arguments.as_ptr(), 1);
        if result.is_null() {
            Err(error::take(callable.py()))
        } else {
            Ok(Bound::from_owned_ptr(callable.py(), result))
        }
    }
}

/// Runs `f`, which must have nothing to do with Python, without the interpreter lock.
pub fn detached<R: Send>(_py: Python<'_>, f: impl FnOnce() -> R + Send) -> R {
    struct Restore(*mut PyThreadState);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the state that this thread has saved below.
            or_stop(|| unsafe { PyEval_RestoreThread(self.0) });
        }
    }
    // SAFETY: attached, as `_py` proves.
    let _restore = Restore(unsafe { PyEval_SaveThread() });
    f()
}
