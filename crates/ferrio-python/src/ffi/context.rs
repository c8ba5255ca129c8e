//! Entering and leaving `contextvars.Context`s around native calls.

use pyo3::ffi;
use pyo3::prelude::*;

/// A copy of the current context, as `contextvars.copy_context()` makes it.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the interpreter is attached; the result is new or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// Runs `f` inside `context`.
///
/// # Errors
/// RuntimeError if the context is entered already; `f` is not run then, as with `Context.run`.
#[inline]
pub fn run_in<R>(py: Python<'_>, context: &Bound<'_, PyAny>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    // SAFETY: the callee checks that it is a context.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let leave = Leave(context);
    let result = f();
    drop(leave);
    result
}

/// Leaves the context even if `f` panics.
struct Leave<'a, 'py>(&'a Bound<'py, PyAny>);

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: entered by `run_in`. An error that is set belongs to the caller of `f` as a `PyErr`, not to the
        // interpreter, so nothing is overwritten. Leaving fails only if somebody else has left this context in between.
        unsafe {
            if ffi::PyContext_Exit(self.0.as_ptr()) < 0 {
                ffi::PyErr_WriteUnraisable(self.0.as_ptr());
            }
        }
    }
}

/// A copy of a context.
pub fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the callee checks that it is a context; the result is new or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}
