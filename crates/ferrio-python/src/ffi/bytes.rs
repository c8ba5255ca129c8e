//! Bytes objects that are filled in place.

use std::mem::MaybeUninit;

use pyo3::ffi::{self, compat};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// As much is received on the stack, in bytes. Copying it is cheaper than memory of that size which is cut to length.
const SMALL: usize = 1024;

/// A bytes object of the length that `fill` returns. `fill` gets the address of `capacity` uninitialised bytes,
/// which nobody else has.
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

/// A bytes object that is being filled from the front. Nobody else has it before it is full.
pub struct Block {
    object: Py<PyBytes>,
    size: usize,
    filled: usize,
}

impl Block {
    /// # Errors
    /// MemoryError.
    pub fn new(py: Python<'_>, size: usize) -> PyResult<Self> {
        // SAFETY: without content the object's bytes are uninitialised; they are looked at as far as they are filled.
        let object = unsafe {
            let made = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size as ffi::Py_ssize_t);
            Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked().unbind()
        };
        Ok(Block { object, size, filled: 0 })
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// How many bytes are missing.
    pub fn room(&self) -> usize {
        self.size - self.filled
    }

    fn start(&self) -> *mut u8 {
        // SAFETY: a living bytes object.
        unsafe { ffi::PyBytes_AsString(self.object.as_ptr()).cast() }
    }

    #[inline]
    pub fn filled(&self) -> &[u8] {
        // SAFETY: that many bytes have been written, and nobody writes to them again.
        unsafe { std::slice::from_raw_parts(self.start(), self.filled) }
    }

    /// Has `fill` write to at most `most` bytes at the end; it returns how many it has written, and must not call Python.
    pub fn fill<E>(&mut self, most: usize, fill: impl FnOnce(*mut u8, usize) -> Result<usize, E>) -> Result<usize, E> {
        let most = most.min(self.room());
        // SAFETY: within the object, which has at least `most` more bytes.
        let count = fill(unsafe { self.start().add(self.filled) }, most)?.min(most);
        self.filled += count;
        Ok(count)
    }

    /// `data` at the end, for which there is room.
    pub fn extend(&mut self, data: &[u8]) {
        let Ok(_) = self.fill(data.len(), |end, room| {
            // SAFETY: two objects' memory, and there is room.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), end, room) };
            Ok::<usize, std::convert::Infallible>(room)
        });
    }

    /// The object. (It must be full.)
    pub fn into_bytes(self, py: Python<'_>) -> Bound<'_, PyBytes> {
        debug_assert_eq!(self.room(), 0);
        self.object.into_bound(py)
    }
}
