//! Calling Python objects without what PyO3 does around a call: the arguments lie in an array already, nothing is cloned.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::error;

/// `object.name(*arguments)`. A panic that PyO3 has made an exception of comes back as that exception.
pub fn call_method<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    /// Protocols' methods have two arguments at most.
    const ROOM: usize = 3;
    const { assert!(N < ROOM) };
    let mut all = [object.as_ptr(); ROOM];
    for (place, argument) in all[1..].iter_mut().zip(arguments) {
        *place = argument.as_ptr();
    }
    // SAFETY: the object and its arguments outlive the call.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(name.as_ptr(), all.as_ptr(), N + 1, ptr::null_mut());
        owned_or_raised(object.py(), result)
    }
}

/// `callable(argument)`.
pub fn call_with<'py>(callable: &Bound<'py, PyAny>, argument: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    try_with(callable, argument).ok_or_else(|| error::take(callable.py()))
}

/// `callable(argument)`; None if that has raised, and what is still set.
#[inline(always)]
pub fn try_with<'py>(callable: &Bound<'py, PyAny>, argument: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let arguments = [argument.as_ptr()];
    // SAFETY: the callable and its argument outlive the call; the result is new or null with an error set.
    unsafe {
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), arguments.as_ptr(), 1, ptr::null_mut());
        Bound::from_owned_ptr_or_opt(callable.py(), result)
    }
}

/// `callable()`, likewise, through its type's `tp_call` with the empty tuple: the quickest way to one without vectorcall.
#[inline(always)]
pub fn try_alone<'py>(callable: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the callable outlives the call; the empty tuple is a singleton; the result is as above.
    unsafe {
        let nothing = ffi::PyTuple_New(0);
        let result = ffi::PyObject_Call(callable.as_ptr(), nothing, ptr::null_mut());
        ffi::Py_DECREF(nothing);
        Bound::from_owned_ptr_or_opt(callable.py(), result)
    }
}

/// # Safety
/// The result of a call: a new reference, or null with an exception set.
unsafe fn owned_or_raised<'py>(py: Python<'py>, result: *mut ffi::PyObject) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: as the caller promises.
    unsafe { if result.is_null() { Err(error::take(py)) } else { Ok(Bound::from_owned_ptr(py, result)) } }
}
