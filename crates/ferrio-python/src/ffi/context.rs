//! Entering and leaving `contextvars.Context`s around native calls.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::core::panic_message;

/// A copy of the current context, as `contextvars.copy_context()` makes it.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the interpreter is attached; the result is new or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// Runs `f` inside `context`.
///
/// # Errors
/// RuntimeError if the context is entered already; `f` is not run then, as with `Context.run`. A panic, too, becomes a
/// RuntimeError: one that PyO3 has raised in Python as an exception returns to Rust as a panic, and whoever calls a
/// user's method must go on in order.
#[inline]
pub fn run_in<R>(py: Python<'_>, context: &Bound<'_, PyAny>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    if !enter(context) {
        return Err(PyErr::fetch(py));
    }
    let result = catch_unwind(AssertUnwindSafe(f));
    leave(context);
    result.unwrap_or_else(|panic| {
        Err(PyRuntimeError::new_err(format!("panic in native code: {}", panic_message(&*panic))))
    })
}

/// Enters `context`, to be left by [`leave`], for what cannot panic. False if it is entered already: a RuntimeError is set
/// then.
#[inline(always)]
pub fn enter(context: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; the callee checks that it is a context.
    unsafe { ffi::PyContext_Enter(context.as_ptr()) == 0 }
}

/// Leaves a `context` that was entered. No error is set.
#[inline(always)]
pub fn leave(context: &Bound<'_, PyAny>) {
    // SAFETY: as the caller promises, so that no error is overwritten. Leaving fails only if somebody else has left this
    // context in between.
    unsafe {
        if ffi::PyContext_Exit(context.as_ptr()) < 0 {
            ffi::PyErr_WriteUnraisable(context.as_ptr());
        }
    }
}

/// A copy of a context.
pub fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the callee checks that it is a context; the result is new or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}
