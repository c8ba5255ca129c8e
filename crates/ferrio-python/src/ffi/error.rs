//! The error that CPython has set, as it is. PyO3's `PyErr::fetch` would turn a panic that PyO3 has raised as a Python
//! exception back into a panic, and the step that must be left in order would be torn out instead.

#![allow(deprecated)] // PyErr_Fetch and its kin: their successors came with 3.12.
use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;

/// An error taken out of the interpreter, to be put back unchanged.
pub struct Saved([*mut ffi::PyObject; 3]);

/// Takes the error that is set.
pub fn save(_py: Python<'_>) -> Saved {
    let mut parts = [std::ptr::null_mut(); 3];
    let [kind, value, traceback] = &mut parts;
    // SAFETY: attached; the three become owned references or null.
    unsafe { ffi::PyErr_Fetch(kind, value, traceback) };
    Saved(parts)
}

impl Saved {
    /// Sets it again.
    pub fn restore(self, _py: Python<'_>) {
        let [kind, value, traceback] = self.0;
        // SAFETY: attached; the references are handed over.
        unsafe { ffi::PyErr_Restore(kind, value, traceback) };
    }
}

/// Runs `f` for something that is dropped, if the interpreter still lives. The error that may be set is put aside
/// meanwhile: what is on the stack of a coroutine that has failed is dropped while its error is on its way, and code that
/// runs with an error set takes it for its own.
pub fn aside<R>(f: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    Python::try_attach(|py| {
        let error = save(py);
        let result = f(py);
        error.restore(py);
        result
    })
}

/// Takes the error that is set, as an exception with its traceback.
pub fn take(py: Python<'_>) -> PyErr {
    let [mut kind, mut value, mut traceback] = save(py).0;
    if kind.is_null() {
        return PySystemError::new_err("an error was reported but none is set");
    }
    // SAFETY: owned references, which stay owned: normalising replaces them in place.
    unsafe {
        ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut traceback);
        if !traceback.is_null() {
            ffi::PyException_SetTraceback(value, traceback);
            ffi::Py_DECREF(traceback);
        }
        ffi::Py_DECREF(kind);
        PyErr::from_value(Bound::from_owned_ptr(py, value))
    }
}
