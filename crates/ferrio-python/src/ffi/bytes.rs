//! Bytes objects that are filled in place.

use pyo3::ffi::{self, compat};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A bytes object of the length that `fill` returns. `fill` gets the address of `capacity` uninitialised bytes; it
/// must not call Python.
pub fn filled_in_place<E>(
    py: Python<'_>,
    capacity: usize,
    fill: impl FnOnce(*mut u8) -> Result<usize, E>,
) -> PyResult<Result<Bound<'_, PyBytes>, E>> {
    // SAFETY: the writer is given back exactly once on every path, and filled no further than it reaches.
    unsafe {
        let writer = compat::PyBytesWriter_Create(capacity as ffi::Py_ssize_t);
        if writer.is_null() {
            return Err(PyErr::fetch(py));
        }
        match fill(compat::PyBytesWriter_GetData(writer).cast()) {
            Ok(length) => {
                let length = length.min(capacity) as ffi::Py_ssize_t;
                let bytes = compat::PyBytesWriter_FinishWithSize(writer, length);
                Ok(Ok(Bound::from_owned_ptr_or_err(py, bytes)?.cast_into_unchecked()))
            }
            Err(error) => {
                compat::PyBytesWriter_Discard(writer);
                Ok(Err(error))
            }
        }
    }
}
