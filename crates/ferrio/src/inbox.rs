//! The inbox: how other threads reach a loop, with one wake however many messages.
//!
//! A vector behind a lock, which is held for a push or a swap and never while foreign code runs. (A lock-free list was
//! slower: each message was allocated by one thread and freed by another.)
//!
//! The loop's thread is the only reader. It announces, with the lock held, that it is about to sleep, unless there is a
//! message; a thread that pushes takes that announcement down, with the lock held, and then must wake the loop. So no
//! message is slept through, and of a thousand pushes to a sleeping loop only the first makes a system call
//! (`tests/inbox_loom.rs` checks both under the interleavings of two and three threads).

use std::mem;

use sync::{AtomicBool, Mutex, MutexGuard, Ordering};

#[cfg(not(all(loom, test)))]
mod sync {
    pub use std::sync::atomic::{AtomicBool, Ordering};
    pub use std::sync::{Mutex, MutexGuard};
}
// `tests/inbox_loom.rs` compiles this file once more, with a lock and atomics that loom can interleave.
#[cfg(all(loom, test))]
mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering};
    pub use loom::sync::{Mutex, MutexGuard};
}

/// Messages from any thread to one loop.
pub struct Inbox<T> {
    /// First come first.
    messages: Mutex<Vec<T>>,
    /// Whether there are some, for a look without the lock; changes with the lock held.
    filled: AtomicBool,
    /// Becomes true with the lock held.
    asleep: AtomicBool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Inbox { messages: Mutex::new(Vec::new()), filled: AtomicBool::new(false), asleep: AtomicBool::new(false) }
    }
}

impl<T> Inbox<T> {
    /// Room for so many messages is kept.
    const ROOM: usize = 4096;

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.messages.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Leaves a message; from any thread. True if the loop sleeps and the caller must wake it.
    #[must_use = "the caller must wake the loop"]
    pub fn push(&self, value: T) -> bool {
        let mut messages = self.lock();
        messages.push(value);
        self.filled.store(true, Ordering::Relaxed);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }

    /// Whether no message waits. Only the loop's thread may rely on the answer, and only on a no.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    /// The loop's thread is about to sleep. False if a message came meanwhile: then it must not.
    #[must_use = "false means: do not sleep"]
    pub fn fall_asleep(&self) -> bool {
        let messages = self.lock();
        self.asleep.store(messages.is_empty(), Ordering::Relaxed);
        messages.is_empty()
    }

    /// The loop's thread is awake again: pushes need no wake.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Shows every message, first come first; none if somebody is just leaving one. (It does not wait, because in the child
    /// of a fork the one who holds the lock may not be there.)
    pub fn peek<E>(&self, visit: impl FnMut(&T) -> Result<(), E>) -> Result<(), E> {
        self.messages.try_lock().map_or(Ok(()), |messages| messages.iter().try_for_each(visit))
    }

    /// Takes every message, first come first, into `empty`, whose room is used for the next ones.
    pub fn drain(&self, empty: &mut Vec<T>) {
        debug_assert!(empty.is_empty());
        if empty.capacity() > Self::ROOM {
            *empty = Vec::new();
        }
        let mut messages = self.lock();
        self.filled.store(false, Ordering::Relaxed);
        mem::swap(&mut *messages, empty);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_the_order_they_were_left() {
        let inbox = Inbox::default();
        let mut taken = Vec::new();
        for round in 0..3 {
            (0..5).for_each(|n| assert!(!inbox.push(5 * round + n)));
            assert!(!inbox.is_empty());
            inbox.drain(&mut taken);
            assert!(inbox.is_empty());
            assert!(taken.drain(..).eq(5 * round..5 * round + 5));
        }
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
    fn room_for_a_flood_is_not_kept() {
        let inbox = Inbox::default();
        let mut taken = Vec::new();
        (0..100_000).for_each(|n| assert!(!inbox.push(n)));
        inbox.drain(&mut taken);
        taken.clear();
        inbox.drain(&mut taken);
        inbox.drain(&mut taken);
        assert!(inbox.lock().capacity() + taken.capacity() <= Inbox::<i32>::ROOM);
    }
}
