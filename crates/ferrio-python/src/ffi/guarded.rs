//! State of a native object that belongs to no loop (a lock, a queue): whoever holds the interpreter lock may touch it.

use std::cell::RefCell;
#[cfg(Py_GIL_DISABLED)]
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// A `T` that is reached with the interpreter attached only, for a moment at a time.
///
/// The rule: what runs inside [`with`](Guarded::with) never calls Python, and never drops a reference (which may run a
/// `__del__`): it moves out what is to be dropped. Breaking it is a panic, which becomes a RuntimeError, not more.
pub struct Guarded<T> {
    #[cfg(not(Py_GIL_DISABLED))]
    content: RefCell<T>,
    #[cfg(Py_GIL_DISABLED)]
    content: Mutex<RefCell<T>>,
}

// SAFETY: `with` wants proof that the interpreter lock is held; the collector, which `for_collector` serves, holds it
// too. (Without an interpreter lock the Mutex does what it says.)
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T: Default> Default for Guarded<T> {
    fn default() -> Self {
        Guarded::new(T::default())
    }
}

impl<T> Guarded<T> {
    pub const fn new(content: T) -> Self {
        let content = RefCell::new(content);
        #[cfg(Py_GIL_DISABLED)]
        let content = Mutex::new(content);
        Guarded { content }
    }

    /// Calls `f` with the content.
    #[inline]
    pub fn with<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(Py_GIL_DISABLED)]
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(not(Py_GIL_DISABLED))]
        let content = &self.content;
        f(&mut content.borrow_mut())
    }

    /// Puts `value` into a place of the content. What was there is dropped afterwards, as that may run a `__del__`.
    #[inline]
    pub fn put<V>(&self, py: Python<'_>, place: impl FnOnce(&mut T) -> &mut V, value: V) {
        let former = self.with(py, |content| std::mem::replace(place(content), value));
        drop(former);
    }

    /// The content for `__traverse__`; None while it is in use, when the collector must leave it alone.
    pub fn for_collector<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        #[cfg(Py_GIL_DISABLED)]
        let content = self.content.try_lock().ok()?;
        #[cfg(not(Py_GIL_DISABLED))]
        let content = &self.content;
        content.try_borrow().ok().map(|content| f(&content))
    }

    /// The content itself, for `__clear__`.
    pub fn take(&self) -> Option<T>
    where
        T: Default,
    {
        #[cfg(Py_GIL_DISABLED)]
        let content = self.content.try_lock().ok()?;
        #[cfg(not(Py_GIL_DISABLED))]
        let content = &self.content;
        content.try_borrow_mut().ok().map(|mut content| std::mem::take(&mut *content))
    }
}
