//! A handle that waits in the loop, and what the garbage collector knows of it.
//!
//! It is nobody's garbage while the loop will call it, so it is not tracked: the collector would look at 50,000 timers again
//! and again (a sixth of what each of them costs), and every `call_soon` would enter and leave its lists. The loop
//! reports what such a handle refers to as its own. As soon as the loop lets go of it, one that somebody else still has is
//! tracked like any object.
//!
//! Until then the references of one that somebody else has, too, count as a living object's. That is what they are, unless
//! the loop itself is garbage, left with callbacks and never closed; hence [`Core::traverse`] has these handles tracked for
//! the next collection.
//!
//! [`Core::traverse`]: crate::core::Core::traverse

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::freeing::references;
use super::{HandleObject, TRACKED};

/// The loop's own reference to a handle of ours.
pub struct Scheduled(Py<PyAny>);

impl Scheduled {
    /// `handle` is one of ours.
    #[inline(always)]
    pub fn new(handle: Bound<'_, PyAny>) -> Self {
        Scheduled(handle.unbind())
    }

    /// The handle, for whoever drops it by [`release`].
    #[inline(always)]
    pub(super) fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so that its reference is handed over.
        unsafe { ptr::read(&raw const this.0) }.into_bound(py)
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Scheduled(self.0.clone_ref(py))
    }

    /// For the garbage collector. False if it cannot be told yet whether somebody else keeps alive what this refers to.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<bool, PyTraverseError> {
        let object = self.0.as_ptr().cast::<HandleObject>();
        // SAFETY: a living handle, while nothing else runs. Its fields are null or owned references, as `Option<Py>` is.
        unsafe {
            if (*object).flags & TRACKED != 0 {
                visit.call(&self.0)?;
            } else if ffi::Py_REFCNT(self.0.as_ptr()) > 1 {
                return Ok(false);
            } else {
                for reference in &references(object) {
                    visit.call(&*ptr::from_ref(reference).cast::<Option<Py<PyAny>>>())?;
                }
            }
        }
        Ok(true)
    }

    /// Has the collector know of it if somebody else has it, too. The caller is attached.
    pub fn reveal(&self) {
        // SAFETY: a living handle, and the caller is attached.
        unsafe { track_if_shared(self.0.as_ptr()) }
    }
}

impl Deref for Scheduled {
    type Target = Py<PyAny>;

    #[inline(always)]
    fn deref(&self) -> &Py<PyAny> {
        &self.0
    }
}

impl Drop for Scheduled {
    /// Dropped without its turn: the loop was closed, say, or the timer cancelled.
    fn drop(&mut self) {
        Python::try_attach(|_| self.reveal());
    }
}

/// Drops the loop's reference to a handle.
#[inline]
pub(super) fn release(handle: Bound<'_, PyAny>) {
    // SAFETY: a living handle, and the caller is attached.
    unsafe { track_if_shared(handle.as_ptr()) }
}

/// Has the garbage collector know of a handle that somebody has beside the loop.
///
/// # Safety
/// As for [`track`].
#[inline(always)]
unsafe fn track_if_shared(handle: *mut ffi::PyObject) {
    // SAFETY: as the caller promises.
    unsafe {
        if ffi::Py_REFCNT(handle) > 1 {
            track(handle);
        }
    }
}

/// Has the garbage collector know of a handle.
///
/// # Safety
/// `handle` is a living handle, and the caller is attached.
#[inline]
pub(super) unsafe fn track(handle: *mut ffi::PyObject) {
    // SAFETY: as the caller promises; the flag says whether the collector has it already.
    unsafe {
        let flags = &raw mut (*handle.cast::<HandleObject>()).flags;
        if *flags & TRACKED == 0 {
            *flags |= TRACKED;
            ffi::PyObject_GC_Track(handle.cast());
        }
    }
}
