//! Bytes objects that are filled in place.

use std::mem::MaybeUninit;

use pyo3::ffi::{self, compat};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// As much is received on the stack, in bytes. Copying it is cheaper than memory of that size which is cut to length.
const SMALL: usize = 1024;

/// A bytes object of the length that `fill` returns. `fill` gets the address of `capacity` uninitialised bytes; it
/// must not call Python.
pub fn filled_in_place<E>(
    py: Python<'_>,
    capacity: usize,
    fill: impl FnOnce(*mut u8) -> Result<usize, E>,
) -> PyResult<Result<Bound<'_, PyBytes>, E>> {
    if capacity <= SMALL {
        let mut memory = MaybeUninit::<[u8; SMALL]>::uninit();
        let memory = memory.as_mut_ptr().cast::<u8>();
        // SAFETY: `fill` has written that many bytes at the beginning of the memory.
        return Ok(fill(memory)
            .map(|length| unsafe { PyBytes::new(py, std::slice::from_raw_parts(memory, length.min(capacity))) }));
    }
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
