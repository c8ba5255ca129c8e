//! A native object's mutable half, which its loop's thread alone may touch.

use pyo3::prelude::*;

use super::{Core, wrong_thread};

/// State that belongs to a loop's thread: a native object's mutable half.
///
/// `get` hands it out to the thread that may touch the loop. `T` holds its parts in cells, and no borrow of them may
/// last while Python code runs.
pub struct Confined<T>(T);

// SAFETY: the content is reached only through `get` and `get_in_turn`, which admit one thread at a time (see `Core::engine` and
// `Core::engine_in_turn`), through `unguarded`, whose callers are alone, and through drop.
unsafe impl<T: Send> Sync for Confined<T> {}

impl<T> Confined<T> {
    pub fn new(content: T) -> Self {
        Confined(content)
    }

    /// # Errors
    /// RuntimeError if another thread runs the loop.
    #[inline]
    pub fn get(&self, core: &Core) -> PyResult<&T> {
        if core.is_mine() { Ok(&self.0) } else { Err(wrong_thread()) }
    }

    /// As [`get`](Self::get), also for another thread than the one that runs the loop: as that holds the interpreter lock
    /// whenever it is here, it is between two lines of Python, where no borrow lasts, as far as anybody can tell.
    ///
    /// # Errors
    /// RuntimeError if another thread runs the loop and there is no such lock.
    #[inline]
    pub fn get_in_turn(&self, core: &Core) -> PyResult<&T> {
        if cfg!(Py_GIL_DISABLED) { self.get(core) } else { Ok(&self.0) }
    }

    /// The content for the garbage collector, during which nothing else runs.
    pub fn unguarded(&self) -> &T {
        &self.0
    }
}
