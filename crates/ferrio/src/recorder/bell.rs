//! The thread that watches for slow steps, if there is one, sleeps while all loops do. The first loop that wakes up rings
//! for it: that is one load per sleep, and a system call if somebody listens.
//!
//! There is no lock in this, so that a forked child cannot inherit one that is held.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::page::{Page, State};

/// 1 while somebody listens.
static LISTENING: AtomicU32 = AtomicU32::new(0);

/// A loop runs from now on; its state says so already.
#[inline]
pub(crate) fn ring() {
    // Either `park` sees the loop's new state, or this sees that somebody listens.
    fence(Ordering::SeqCst);
    if LISTENING.load(Ordering::Relaxed) != 0 {
        unpark();
    }
}

/// Ends a [`park`].
#[cold]
pub fn unpark() {
    if LISTENING.swap(0, Ordering::AcqRel) != 0 {
        wait::wake(&LISTENING);
    }
}

/// Sleeps until a loop of this process runs. Returns at once if one does.
pub fn park() {
    LISTENING.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let running = |slot: &super::page::Slot| slot.state.load(Ordering::Acquire) == State::Running as u32;
    while LISTENING.load(Ordering::Acquire) != 0 && !Page::own().slots.iter().any(running) {
        wait::sleep(&LISTENING);
    }
    LISTENING.store(0, Ordering::Relaxed);
}

#[cfg(target_os = "linux")]
mod wait {
    use std::ptr;
    use std::sync::atomic::AtomicU32;

    /// Sleeps while the word is 1; may return for no reason.
    pub fn sleep(word: &AtomicU32) {
        let flags = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word lives for ever; no time limit is given.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), flags, 1, ptr::null::<libc::timespec>()) };
    }

    pub fn wake(word: &AtomicU32) {
        // SAFETY: the word lives for ever.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
    }
}

#[cfg(not(target_os = "linux"))]
mod wait {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    pub fn sleep(_word: &AtomicU32) {
        std::thread::sleep(Duration::from_millis(20));
    }

    pub fn wake(_word: &AtomicU32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_parked_is_woken() {
        let parked = std::thread::spawn(park);
        while !parked.is_finished() {
            unpark();
            std::thread::yield_now();
        }
        parked.join().expect("does not panic");
    }
}
