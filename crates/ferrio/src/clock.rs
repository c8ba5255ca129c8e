//! The loop's one clock: the operating system's monotonic clock, or a virtual one that tests advance.
//!
//! Every reading is in nanoseconds. The real clock is the one behind Python's `time.monotonic()`, so that
//! `loop.time()` and `time.monotonic()` can be mixed. The virtual clock never moves by itself: a loop that has nothing
//! to do but wait for a timer jumps to it, so an hour of sleeping takes microseconds and always the same turns.

use std::cell::Cell;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use crate::task;

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

    /// A count that grows every few milliseconds, and is the cheapest to read (5 ns against 23). Virtual time has none.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        match self {
            Clock::Real => coarse(),
            Clock::Virtual(_) => 0,
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

/// A moment of a loop's clock, real or virtual. Moments of two loops with virtual clocks cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub(crate) u64);

impl Instant {
    /// Now, by the clock of the loop that runs on this thread.
    ///
    /// # Panics
    /// If no loop runs on this thread.
    #[track_caller]
    pub fn now() -> Instant {
        Instant(task::current(|reactor| reactor.now()))
    }

    /// The time since this moment; nothing if it has not come yet.
    ///
    /// # Panics
    /// If no loop runs on this thread.
    #[track_caller]
    pub fn elapsed(self) -> Duration {
        Instant::now() - self
    }
}

/// Ends at the end of time, some 584 years after the beginning, instead of overflowing.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// The time between two moments; nothing if the first is the earlier.
impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
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

/// The time of the kernel's last timer interrupt: 1 to 4 milliseconds coarse.
#[cfg(target_os = "linux")]
fn coarse() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC_COARSE)
}

#[cfg(not(target_os = "linux"))]
fn coarse() -> u64 {
    monotonic() / 4_000_000
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
