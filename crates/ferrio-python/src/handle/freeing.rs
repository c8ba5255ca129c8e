//! A handle's memory: what the garbage collector asks, how a dead handle is freed, and which are kept for the next.

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::running::{finish, let_go};
use super::scheduled::release;
use super::{CANCELLED, HandleObject, INLINE, REPEATS, SPARE_HANDLES, TRACKED, TYPES, raw};

pub(super) unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    data: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with a living handle; every non-null field is an owned reference.
    unsafe {
        for reference in references(object.cast()) {
            if !reference.is_null() {
                let stop = visit(reference, data);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

/// What a handle refers to; null where it does not.
///
/// # Safety
/// A living handle.
pub(super) unsafe fn references(handle: *mut HandleObject) -> [*mut ffi::PyObject; 6 + INLINE] {
    // SAFETY: as the caller promises.
    unsafe {
        let HandleObject { the_loop, context, callback, arguments: [first, second, third], many, traceback, .. } =
            *handle;
        let kind = ffi::Py_TYPE(handle.cast()).cast();
        [kind, the_loop, context, callback, first, second, third, many, traceback]
    }
}

pub(super) unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    let handle = object.cast::<HandleObject>();
    // SAFETY: called by the collector with a living handle. The loop stays: the other methods rely on it.
    unsafe {
        ffi::Py_CLEAR(&mut (*handle).traceback);
        let_go(handle);
        ffi::Py_CLEAR(&mut (*handle).context);
        (*handle).flags |= CANCELLED;
    }
    0
}

pub(super) unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    let handle = object.cast::<HandleObject>();
    // SAFETY: the last reference is gone; the object leaves the collector before its fields are emptied.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        if !(*handle).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        nesting::one_by_one(handle);
    }
}

/// Handles that are arguments of handles: a chain of a million must not be freed a million calls deep.
/// (CPython has the same for its own containers, but offers it to others from 3.14 on only.)
mod nesting {
    use std::cell::Cell;

    use super::{HandleObject, free};

    /// How many handles may be freed within each other.
    const DEEP: usize = 50;

    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
        /// Dead handles that wait for their turn, each leading to the next by its `weak_references`.
        static WAITING: Cell<*mut HandleObject> = const { Cell::new(std::ptr::null_mut()) };
    }

    /// Frees the handle: now, or once those that are being freed are done.
    ///
    /// # Safety
    /// The handle is dead and untracked, and nothing refers to it weakly any more.
    pub unsafe fn one_by_one(handle: *mut HandleObject) {
        let depth = DEPTH.get();
        if depth >= DEEP {
            // SAFETY: as the caller promises; the field is not used any more.
            unsafe { (*handle).weak_references = WAITING.replace(handle).cast() };
            return;
        }
        DEPTH.set(depth + 1);
        // SAFETY: as the caller promises.
        unsafe { free(handle) };
        while depth == 0 && !WAITING.get().is_null() {
            let next = WAITING.get();
            // SAFETY: it was put there above, dead, and leads to the next.
            unsafe {
                WAITING.set(std::mem::replace(&mut (*next).weak_references, std::ptr::null_mut()).cast());
                free(next);
            }
        }
        DEPTH.set(depth);
    }
}

/// Empties a dead handle and gives its memory back.
///
/// # Safety
/// The handle is dead and untracked, and nothing refers to it weakly any more.
unsafe fn free(handle: *mut HandleObject) {
    let object = handle.cast::<ffi::PyObject>();
    // SAFETY: as the caller promises.
    unsafe {
        ffi::Py_CLEAR(&mut (*handle).traceback);
        let_go(handle);
        ffi::Py_CLEAR(&mut (*handle).context);
        ffi::Py_CLEAR(&mut (*handle).the_loop);
        let kind = ffi::Py_TYPE(object);
        if !(is_plain(kind) && SPARE_HANDLES.keep_dead(object)) {
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}

/// Whether it is the type of handles that are kept.
///
/// # Safety
/// Attached.
#[inline]
unsafe fn is_plain(kind: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: as the caller promises.
    let types = TYPES.get(unsafe { Python::assume_attached() });
    types.is_some_and(|types| ptr::eq(kind, types.handle.as_ptr().cast()))
}

/// Lets go of a handle that has run its callback, or was cancelled before. One that nobody else has, as most, becomes a
/// spare without dying first (5 ns less).
#[inline]
pub fn retire(handle: Bound<'_, PyAny>) {
    let object = raw(&handle);
    // SAFETY: a living handle, and the lock is held: nobody can get hold of one that only we have.
    unsafe {
        let only_ours = cfg!(not(any(Py_GIL_DISABLED, py_sys_config = "Py_TRACE_REFS")))
            && ffi::Py_REFCNT(handle.as_ptr()) == 1
            && is_plain(ffi::Py_TYPE(handle.as_ptr()))
            && (*object).flags & (CANCELLED | REPEATS | TRACKED) == 0
            && (*object).traceback.is_null()
            && (*object).weak_references.is_null()
            && SPARE_HANDLES.has_room();
        if !only_ours {
            finish(&handle);
            release(handle);
            return;
        }
        let handle = handle.into_ptr();
        let HandleObject { the_loop, context, callback, arguments, many, count, .. } = *object;
        (*object).the_loop = ptr::null_mut();
        (*object).context = ptr::null_mut();
        (*object).callback = ptr::null_mut();
        (*object).many = ptr::null_mut();
        if count > 0 {
            (*object).arguments = [ptr::null_mut(); INLINE];
        }
        SPARE_HANDLES.keep(handle);
        // Only now: these may run anything.
        for argument in &arguments[..count as usize] {
            ffi::Py_XDECREF(*argument);
        }
        ffi::Py_XDECREF(many);
        ffi::Py_XDECREF(callback);
        ffi::Py_XDECREF(context);
        ffi::Py_XDECREF(the_loop);
    }
}
