//! Freed objects of one raw type, kept for the next that is made (3 to 10 ns cheaper than the allocator).
//!
//! A free-threaded build does without: a lock would cost what they save.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::prelude::*;

/// The spare blocks of one type, which must be made by `PyType_FromSpec` and take part in garbage collection.
pub struct Spares {
    blocks: UnsafeCell<Vec<*mut ffi::PyObject>>,
    room: usize,
}

// SAFETY: touched only with the interpreter lock held (see `take` and `keep`).
unsafe impl Sync for Spares {}

impl Spares {
    /// At most `room` blocks wait.
    pub const fn new(room: usize) -> Self {
        Spares { blocks: UnsafeCell::new(Vec::new()), room }
    }

    /// A new object in a spare block, if there is one: its own fields are as they were left, that is empty.
    ///
    /// # Safety
    /// `class` is the type whose blocks are kept here.
    #[inline]
    pub unsafe fn take(&self, _py: Python<'_>, class: *mut ffi::PyTypeObject) -> Option<*mut ffi::PyObject> {
        if cfg!(Py_GIL_DISABLED) {
            return None;
        }
        // SAFETY: `_py` proves that the lock is held. A block is an empty, untracked object, whose head PyObject_Init
        // makes anew (and which takes a reference to its type).
        unsafe {
            let object = (*self.blocks.get()).pop()?;
            ffi::PyObject_Init(object, class);
            ffi::PyObject_GC_Track(object.cast());
            Some(object)
        }
    }

    /// Whether another block can be kept. The caller holds the lock.
    #[inline]
    pub fn has_room(&self) -> bool {
        // SAFETY: as said.
        !cfg!(Py_GIL_DISABLED) && unsafe { &*self.blocks.get() }.len() < self.room
    }

    /// Keeps the block of a dead object, if there is room. If not, the caller gives it back.
    ///
    /// # Safety
    /// Called with the lock held and an untracked object of the type, not finalized, whose fields are all empty, and which
    /// nobody refers to.
    #[inline]
    pub unsafe fn keep(&self, object: *mut ffi::PyObject) -> bool {
        let room = self.has_room();
        if room {
            // SAFETY: the lock is held.
            unsafe { &mut *self.blocks.get() }.push(object);
        }
        room
    }
}
