//! Freed handles, kept for the next one. A free-threaded build does without: a lock would cost what they save.

use std::cell::UnsafeCell;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::TYPES;

/// How many freed handles wait for the next `call_soon`: 2,048 of 128 bytes are a quarter of a megabyte.
const SPARE_HANDLES: usize = 2048;

struct Spares(UnsafeCell<Vec<*mut ffi::PyObject>>);

// SAFETY: touched only with the interpreter lock held (see `take` and `keep`).
unsafe impl Sync for Spares {}

static SPARES: Spares = Spares(UnsafeCell::new(Vec::new()));

#[inline]
pub(super) fn take(_py: Python<'_>, kind: &Py<PyType>) -> Option<*mut ffi::PyObject> {
    if cfg!(Py_GIL_DISABLED) {
        return None;
    }
    // SAFETY: `_py` proves that the lock is held. A kept block is an empty, untracked handle, whose head
    // PyObject_Init makes anew (and which takes a reference to its type).
    unsafe {
        let object = (*SPARES.0.get()).pop()?;
        ffi::PyObject_Init(object, kind.as_ptr().cast());
        ffi::PyObject_GC_Track(object.cast());
        Some(object)
    }
}

/// # Safety
/// Called from `dealloc`, which holds the lock, with an untracked handle whose fields are all empty.
#[inline]
pub(super) unsafe fn keep(object: *mut ffi::PyObject) -> bool {
    if cfg!(Py_GIL_DISABLED) {
        return false;
    }
    // SAFETY: as above. Only plain handles are kept: a timer handle is larger.
    unsafe {
        let spares = &mut *SPARES.0.get();
        let plain = TYPES
            .get(Python::assume_attached())
            .is_some_and(|types| ptr::eq(types.handle.as_ptr(), ffi::Py_TYPE(object).cast()));
        let room = plain && spares.len() < SPARE_HANDLES;
        if room {
            spares.push(object);
        }
        room
    }
}
