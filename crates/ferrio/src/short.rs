//! [`Short`]: a `RefCell` that can only be borrowed for the length of a closure.
//!
//! The loop's containers live in these. The rule that makes re-entrancy safe is that *no closure calls out*: it moves
//! things in or out and returns them, and whatever may run foreign code (a callback, a waker, the drop of a Python
//! object) happens after the borrow has ended. A broken rule is a panic, never undefined behaviour; the check costs
//! half a nanosecond.

use std::cell::RefCell;

/// Interior mutability with borrows that cannot be held.
#[derive(Default)]
pub(crate) struct Short<T>(RefCell<T>);

impl<T> Short<T> {
    pub(crate) fn new(value: T) -> Self {
        Short(RefCell::new(value))
    }

    /// Runs `f` on the content. `f` must not call out. Always a part of its caller: what goes through a closure goes through
    /// memory otherwise.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}
