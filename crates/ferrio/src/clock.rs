//! The loop's one clock: the operating system's monotonic clock, or a virtual one that tests advance.
//!
//! Every reading is in nanoseconds. The real clock is the one behind Python's `time.monotonic()`, so that
//! `loop.time()` and `time.monotonic()` can be mixed. The virtual clock never moves by itself: a loop that has nothing
//! to do but wait for a timer jumps to it, so an hour of sleeping takes microseconds and always the same turns.

use std::cell::Cell;

/// Where a loop reads the time from.
#[derive(Debug)]
pub enum Clock {
    /// The operating system's monotonic clock.
    Real,
    /// Nanoseconds that move only when the loop jumps to its next timer.
    Virtual(Cell<u64>),
}

impl Clock {
    /// A virtual clock that reads `start` nanoseconds.
    pub fn starting_at(start: u64) -> Self {
        Clock::Virtual(Cell::new(start))
    }

    /// Nanoseconds since an arbitrary, fixed point.
    #[inline]
    pub fn now(&self) -> u64 {
        match self {
            Clock::Real => monotonic(),
            Clock::Virtual(now) => now.get(),
        }
    }

    /// Whether waiting is skipped by jumping ahead.
    pub fn is_virtual(&self) -> bool {
        matches!(self, Clock::Virtual(_))
    }

    /// Moves a virtual clock forward to `when`; a real one, or an earlier `when`, is left alone.
    pub(crate) fn jump_to(&self, when: u64) {
        if let Clock::Virtual(now) = self {
            now.set(now.get().max(when));
        }
    }
}

/// `CLOCK_MONOTONIC`, as Python's `time.monotonic()` reads it on Linux and the BSDs.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn monotonic() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_UPTIME_RAW` is `mach_absolute_time()` in nanoseconds, which is what Python reads on macOS.
#[cfg(target_vendor = "apple")]
fn monotonic() -> u64 {
    read_clock(libc::CLOCK_UPTIME_RAW)
}

#[cfg(unix)]
fn read_clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to write; the call cannot fail for these clocks.
    unsafe { libc::clock_gettime(id, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(not(unix))]
fn monotonic() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_clock_never_goes_back() {
        let clock = Clock::Real;
        let first = clock.now();
        assert!(clock.now() >= first);
    }

    #[test]
    fn a_virtual_clock_moves_only_by_jumps_and_never_back() {
        let clock = Clock::starting_at(5);
        assert_eq!(clock.now(), 5);
        clock.jump_to(9);
        clock.jump_to(7);
        assert_eq!(clock.now(), 9);
    }
}
