//! `object.method`: the function behind a bound method. Public C API that PyO3 does not declare.

use std::ptr;

use pyo3::ffi;

unsafe extern "C" {
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyMethod_Self(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// The function of a bound method, borrowed from it; anything else is returned as it is.
///
/// # Safety
/// `callable` is a living object, and the caller is attached.
#[inline]
pub unsafe fn function_of(callable: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the check comes first; such a method has a function.
    unsafe {
        if ptr::eq(ffi::Py_TYPE(callable), &raw const PyMethod_Type) { PyMethod_Function(callable) } else { callable }
    }
}

/// Whose method a bound method is, borrowed from it; null for anything else.
///
/// # Safety
/// As above.
#[inline]
pub unsafe fn self_of(callable: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the check comes first; such a method has an object.
    unsafe {
        if ptr::eq(ffi::Py_TYPE(callable), &raw const PyMethod_Type) {
            PyMethod_Self(callable)
        } else {
            ptr::null_mut()
        }
    }
}
