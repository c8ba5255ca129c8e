//! Objects of classes that have a `__dict__`, made so that the garbage collector sees them whole or not at all.
//!
//! CPython 3.11 tracks a new object, then makes its dictionary (`_PyObject_InitializeDict` in `object_new`), and only then
//! does PyO3 fill in what is Rust's. Making the dictionary may start a collection, which would look into an object that
//! is not there yet. From 3.12 on a collection waits until the running C code has returned to the interpreter.

use pyo3::prelude::*;
use pyo3::pyclass::PyClass;
use pyo3::pyclass_init::PyClassInitializer;

/// `Bound::new`, for a class with `dict`.
pub fn new<T: PyClass>(py: Python<'_>, value: impl Into<PyClassInitializer<T>>) -> PyResult<Bound<'_, T>> {
    let _pause = Pause::begin(py);
    Bound::new(py, value)
}

#[cfg(Py_3_12)]
struct Pause;

#[cfg(Py_3_12)]
impl Pause {
    fn begin(_py: Python<'_>) -> Self {
        Pause
    }
}

/// While it lives the collector does not start by itself.
#[cfg(not(Py_3_12))]
struct Pause {
    was_enabled: bool,
}

#[cfg(not(Py_3_12))]
impl Pause {
    fn begin(_py: Python<'_>) -> Self {
        // SAFETY: attached, as `_py` proves.
        Pause { was_enabled: unsafe { pyo3::ffi::PyGC_Disable() } != 0 }
    }
}

#[cfg(not(Py_3_12))]
impl Drop for Pause {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: attached: it is dropped in the function that made it, which has the proof.
            unsafe { pyo3::ffi::PyGC_Enable() };
        }
    }
}
