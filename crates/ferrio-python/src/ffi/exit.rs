//! Calls into Python that a daemon thread may not come back from.
//!
//! When the interpreter ends, CPython before 3.14 ends every other thread as soon as it wants the interpreter lock
//! again: `pthread_exit` unwinds its stack, and Rust aborts the process where it meets frames that call C functions
//! which "cannot unwind". The calls here can be unwound, and stop that thread for good instead, as CPython itself does
//! from 3.14 on. They stand where a loop spends its time: running callbacks, and coming back from its sleep.

use std::hint::black_box;
use std::mem;
use std::ptr;
use std::thread;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::error;

/// The same C function, declared as one that may be unwound.
///
/// Through a pointer that the optimiser cannot see through: elsewhere in the program the function is declared with the
/// promise not to unwind, and the promise of one declaration would be taken as that of all.
macro_rules! may_unwind {
    ($function:path as fn($($argument:ty),*) -> $result:ty) => {{
        let function: unsafe extern "C" fn($($argument),*) -> $result = $function;
        // SAFETY: the two types differ only in that the second allows for unwinding.
        unsafe {
            mem::transmute::<
                unsafe extern "C" fn($($argument),*) -> $result,
                unsafe extern "C-unwind" fn($($argument),*) -> $result,
            >(black_box(function))
        }
    }};
}

type Object = *mut ffi::PyObject;

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
pub unsafe fn vectorcall(callable: Object, arguments: *const Object, count: usize) -> Object {
    let vectorcall = may_unwind!(ffi::PyObject_Vectorcall as fn(Object, *const Object, usize, Object) -> Object);
    // SAFETY: as the caller promises.
    or_stop(|| unsafe { vectorcall(callable, arguments, count, ptr::null_mut()) })
}

/// `PyObject_Call` without keywords.
///
/// # Safety
/// As for the C function.
pub unsafe fn call(callable: Object, arguments: Object) -> Object {
    let call = may_unwind!(ffi::PyObject_Call as fn(Object, Object, Object) -> Object);
    // SAFETY: as the caller promises.
    or_stop(|| unsafe { call(callable, arguments, ptr::null_mut()) })
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
    let method = may_unwind!(ffi::PyObject_VectorcallMethod as fn(Object, *const Object, usize, Object) -> Object);
    // SAFETY: the object and its arguments outlive the call; the result is new or null with an error set.
    unsafe {
        let result = or_stop(|| method(name.as_ptr(), all.as_ptr(), N + 1, ptr::null_mut()));
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

/// `callable()`, through its type's `tp_call` with the empty tuple: the quickest way to one without vectorcall.
pub fn call_alone<'py>(callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = callable.py();
    // SAFETY: the callable outlives the call; the empty tuple is a singleton; the result is new or null with an error
    // set.
    unsafe {
        let nothing = ffi::PyTuple_New(0);
        let result = call(callable.as_ptr(), nothing);
        ffi::Py_DECREF(nothing);
        if result.is_null() { Err(error::take(py)) } else { Ok(Bound::from_owned_ptr(py, result)) }
    }
}

/// Runs `f`, which must have nothing to do with Python, without the interpreter lock.
pub fn detached<R: Send>(_py: Python<'_>, f: impl FnOnce() -> R + Send) -> R {
    struct Restore(*mut ffi::PyThreadState);
    impl Drop for Restore {
        fn drop(&mut self) {
            let restore = may_unwind!(ffi::PyEval_RestoreThread as fn(*mut ffi::PyThreadState) -> ());
            // SAFETY: the state that this thread has saved below.
            or_stop(|| unsafe { restore(self.0) });
        }
    }
    // SAFETY: attached, as `_py` proves.
    let _restore = Restore(unsafe { ffi::PyEval_SaveThread() });
    f()
}
