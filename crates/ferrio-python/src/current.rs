//! Which task runs on this thread, told in a few instructions where the loop knows: it is the one whose step it runs.
//!
//! asyncio can be asked, which is always right, and costs as much as taking a free lock does. So a step leaves word of
//! itself for its length ([`Step`]), and whoever finds no word of this thread's asks asyncio: callbacks, tasks in pure
//! Python, other loops, threads that took turns within a step. An eager task begins within the step of another; before it
//! does, it asks its loop `is_running()`, and with that the word is taken back ([`forget`]).

use std::ptr;
#[cfg(not(Py_GIL_DISABLED))]
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::prelude::*;

#[cfg(not(Py_GIL_DISABLED))]
use crate::core::this_thread;
#[cfg(not(Py_GIL_DISABLED))]
use crate::step::task_behind;
use crate::tasks::asyncio;

/// The word: whose thread, what it calls (null if that is no step), and the how many-th step of the process it is. One for all
/// threads: they write and read it with the interpreter lock held. (Without such a lock asyncio is asked each time.)
#[cfg(not(Py_GIL_DISABLED))]
static THREAD: AtomicUsize = AtomicUsize::new(0);
#[cfg(not(Py_GIL_DISABLED))]
static CALLABLE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());
#[cfg(not(Py_GIL_DISABLED))]
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A step is being run on this thread, until this is dropped.
pub struct Step(());

impl Step {
    /// The step's callable outlives it.
    #[inline]
    pub fn begin(_callable: &Bound<'_, PyAny>) -> Self {
        #[cfg(not(Py_GIL_DISABLED))]
        {
            NUMBER.store(NUMBER.load(Relaxed) + 1, Relaxed);
            THREAD.store(this_thread(), Relaxed);
            CALLABLE.store(_callable.as_ptr(), Relaxed);
        }
        Step(())
    }
}

impl Drop for Step {
    #[inline]
    fn drop(&mut self) {
        forget();
    }
}

/// Until the next step, whoever wants to know asks asyncio.
#[inline]
pub fn forget() {
    #[cfg(not(Py_GIL_DISABLED))]
    CALLABLE.store(ptr::null_mut(), Relaxed);
}

/// The number of the step that runs on this thread; 0 if nobody has left word of it.
#[inline]
pub fn step() -> u64 {
    #[cfg(not(Py_GIL_DISABLED))]
    if !CALLABLE.load(Relaxed).is_null() && THREAD.load(Relaxed) == this_thread() {
        return NUMBER.load(Relaxed);
    }
    0
}

/// The task whose step that is, borrowed from it; null if nobody has left word of it.
pub fn known_task(_py: Python<'_>) -> *mut ffi::PyObject {
    #[cfg(not(Py_GIL_DISABLED))]
    if step() != 0 {
        // SAFETY: a step that is being run on this very thread keeps its callable.
        return unsafe { task_behind(_py, CALLABLE.load(Relaxed)) };
    }
    ptr::null_mut()
}

/// The task that runs on this thread, as asyncio tells it.
///
/// # Errors
/// Whatever a replaced `asyncio.current_task` raises.
#[cold]
pub fn ask(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    match asyncio::running_loop(py)? {
        Some(running) => asyncio::current_task(&running),
        None => Ok(None),
    }
}
