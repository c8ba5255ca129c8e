//! Objects of one raw type that nobody needs any more, kept for the next that is made (3 to 10 ns cheaper than the
//! allocator). They stay alive: the spares are who refers to them, and to their type.
//!
//! A free-threaded build does without: a lock would cost what they save.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::prelude::*;

/// The spare objects of one type, which must be made by `PyType_FromSpec` and take part in garbage collection.
pub struct Spares {
    objects: UnsafeCell<Vec<*mut ffi::PyObject>>,
    room: usize,
}

// SAFETY: touched only with the interpreter lock held (see `take` and `keep`).
unsafe impl Sync for Spares {}

impl Spares {
    /// At most `room` objects wait.
    pub const fn new(room: usize) -> Self {
        Spares { objects: UnsafeCell::new(Vec::new()), room }
    }

    /// A spare object, if there is one: its own fields are as they were left, that is empty, and the garbage collector
    /// does not know it.
    #[inline(always)]
    pub fn take(&self, _py: Python<'_>) -> Option<*mut ffi::PyObject> {
        if cfg!(Py_GIL_DISABLED) {
            return None;
        }
        // SAFETY: `_py` proves that the lock is held.
        unsafe { (*self.objects.get()).pop() }
    }

    /// Whether another object can be kept. The caller holds the lock.
    #[inline]
    pub fn has_room(&self) -> bool {
        // SAFETY: as said.
        !cfg!(Py_GIL_DISABLED) && unsafe { &*self.objects.get() }.len() < self.room
    }

    /// Keeps an object, for which there is room; the reference to it is handed over.
    ///
    /// # Safety
    /// Called with the lock held and an untracked object of the type, whose fields are all empty, and which nobody else
    /// refers to.
    #[inline]
    pub unsafe fn keep(&self, object: *mut ffi::PyObject) {
        // SAFETY: the lock is held.
        unsafe { &mut *self.objects.get() }.push(object);
    }

    /// Keeps an object that has just died, if there is room. If not, the caller gives its memory back.
    ///
    /// # Safety
    /// Called with the lock held and an untracked object of the type, not finalized, whose fields are all empty.
    #[inline]
    pub unsafe fn keep_dead(&self, object: *mut ffi::PyObject) -> bool {
        let room = self.has_room();
        if room {
            // SAFETY: as the caller promises. Its head is made anew, which takes a reference to the type.
            unsafe {
                ffi::PyObject_Init(object, ffi::Py_TYPE(object));
                self.keep(object);
            }
        }
        room
    }
}
