//! The inbox: how other threads reach a loop. A lock-free push, and one wake however many pushes.
//!
//! The loop's thread is the only reader. It announces that it is about to sleep, looks once more, and sleeps; a thread
//! that pushes looks whether the loop sleeps and, if so, takes that flag down and wakes it. Both sides put a
//! sequentially consistent fence between their write and their read, so at least one of them sees the other: no
//! message is slept through, and of a thousand pushes to a sleeping loop only the first makes a system call
//! (`tests/inbox_loom.rs` checks both under the interleavings of two and three threads).

use std::ptr;

use sync::{AtomicBool, AtomicPtr, Ordering, fence};

#[cfg(not(all(loom, test)))]
mod sync {
    pub use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
}
// `tests/inbox_loom.rs` compiles this file once more, with atomics that loom can interleave.
#[cfg(all(loom, test))]
mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
}

struct Node<T> {
    value: T,
    next: *mut Node<T>,
}

/// Messages from any thread to one loop.
pub struct Inbox<T> {
    /// A stack, newest first; the reader takes it whole and turns it round.
    head: AtomicPtr<Node<T>>,
    asleep: AtomicBool,
}

// SAFETY: the inbox moves values of `T` between threads and hands each to one reader only; it shares a `&T` with that reader
// only (`peek`).
unsafe impl<T: Send> Send for Inbox<T> {}
// SAFETY: as above; all shared state is atomic.
unsafe impl<T: Send> Sync for Inbox<T> {}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Inbox { head: AtomicPtr::new(ptr::null_mut()), asleep: AtomicBool::new(false) }
    }
}

impl<T> Inbox<T> {
    /// Leaves a message; from any thread. True if the loop sleeps and the caller must wake it.
    #[must_use = "the caller must wake the loop"]
    pub fn push(&self, value: T) -> bool {
        let node = Box::into_raw(Box::new(Node { value, next: ptr::null_mut() }));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: until the exchange below succeeds, this thread alone owns `node`.
            unsafe { (*node).next = head };
            match self.head.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(newer) => head = newer,
            }
        }
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Whether a message waits. Only the loop's thread may rely on the answer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// The loop's thread is about to sleep. False if a message came meanwhile: then it must not.
    #[must_use = "false means: do not sleep"]
    pub fn fall_asleep(&self) -> bool {
        // A swap, though its result says nothing: reading what the last sender left puts this after it for everybody.
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if self.is_empty() {
            return true;
        }
        self.wake_up();
        false
    }

    /// The loop's thread is awake again: pushes need no wake.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Shows every message, newest first. Only for the loop's thread, or while it stands still: nobody may take
    /// messages out meanwhile.
    pub fn peek<E>(&self, mut visit: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        let mut node = self.head.load(Ordering::Acquire);
        while !node.is_null() {
            // SAFETY: nodes leave only through `drain`, which nobody calls meanwhile; senders put new ones in front and
            // touch no other.
            let Node { value, next } = unsafe { &*node };
            visit(value)?;
            node = *next;
        }
        Ok(())
    }

    /// Takes every message, oldest first.
    pub fn drain(&self) -> Drain<T> {
        let mut newest = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: the swap made this thread the only owner of the whole chain, and every node in it came from
            // `Box::into_raw` in `push`.
            let node = unsafe { &mut *newest };
            newest = std::mem::replace(&mut node.next, oldest);
            oldest = node;
        }
        Drain { next: oldest }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        drop(self.drain());
    }
}

/// The messages of one [`Inbox::drain`], oldest first.
pub struct Drain<T> {
    next: *mut Node<T>,
}

impl<T> Iterator for Drain<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: the chain belongs to this iterator alone (see `Inbox::drain`), and each node leaves it once.
        let node = unsafe { Box::from_raw(self.next) };
        self.next = node.next;
        Some(node.value)
    }
}

impl<T> Drop for Drain<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_the_order_they_were_left() {
        let inbox = Inbox::default();
        (0..5).for_each(|n| assert!(!inbox.push(n)));
        assert_eq!(inbox.drain().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn only_the_first_push_to_a_sleeping_loop_wakes_it() {
        let inbox = Inbox::default();
        assert!(inbox.fall_asleep());
        assert!(inbox.push(1));
        assert!(!inbox.push(2));
    }

    #[test]
    fn a_loop_does_not_fall_asleep_over_a_message() {
        let inbox = Inbox::default();
        assert!(!inbox.push(1));
        assert!(!inbox.fall_asleep());
        assert!(!inbox.push(2), "the loop is awake");
    }

    #[test]
    fn messages_left_behind_are_dropped_with_the_inbox() {
        let counted = std::sync::Arc::new(());
        let inbox = Inbox::default();
        let _ = inbox.push(counted.clone());
        drop(inbox);
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }
}
