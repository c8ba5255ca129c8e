//! The time of a record: the processor's counter where it ticks evenly (9 ns a record), else the monotonic clock (21 ns).
//!
//! A page holds two readings of counter and clock taken together, from which a reader converts one into the other.

/// A reading: ticks of the counter, or nanoseconds.
#[inline]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if counter::is_even() {
        return counter::read();
    }
    crate::clock::Clock::Real.now()
}

#[cfg(target_arch = "x86_64")]
mod counter {
    use std::arch::x86_64::{__cpuid, _rdtsc};
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Whether the counter ticks at one rate on all cores and through all states of saving power ("invariant TSC").
    #[inline]
    pub fn is_even() -> bool {
        static KNOWN: AtomicU8 = AtomicU8::new(0);
        match KNOWN.load(Ordering::Relaxed) {
            0 => {
                // AMD64 Architecture Programmer's Manual 3, CPUID Fn8000_0007_EDX bit 8.
                let even = __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0;
                KNOWN.store(1 + u8::from(even), Ordering::Relaxed);
                even
            }
            known => known == 2,
        }
    }

    #[inline]
    pub fn read() -> u64 {
        // SAFETY: the instruction reads a register; every x86-64 processor has it.
        unsafe { _rdtsc() }
    }
}

/// Converts stamps to nanoseconds of the monotonic clock, by two moments at which both were read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    stamp: u64,
    nanoseconds: u64,
    per_stamp: f64,
}

impl Scale {
    /// From two moments (stamp, nanoseconds). Where they are one, a stamp is taken for a nanosecond.
    pub fn new(first: (u64, u64), second: (u64, u64)) -> Self {
        let (stamps, nanoseconds) = (second.0.saturating_sub(first.0), second.1.saturating_sub(first.1));
        let per_stamp = if stamps == 0 { 1.0 } else { nanoseconds as f64 / stamps as f64 };
        Scale { stamp: first.0, nanoseconds: first.1, per_stamp }
    }

    /// The moment of a stamp.
    pub fn moment(&self, stamp: u64) -> u64 {
        let distance = stamp.wrapping_sub(self.stamp) as i64 as f64 * self.per_stamp;
        self.nanoseconds.saturating_add_signed(distance as i64)
    }

    /// The length of so many stamps in nanoseconds.
    pub fn length(&self, stamps: u64) -> u64 {
        (stamps as f64 * self.per_stamp) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_become_moments_of_the_clock() {
        let scale = Scale::new((1_000, 50), (3_000, 1_050));
        assert_eq!([scale.moment(1_000), scale.moment(2_000), scale.moment(5_000)], [50, 550, 2_050]);
        assert_eq!(scale.length(10), 5);
    }

    #[test]
    fn stamps_never_go_back_on_one_thread() {
        let first = now();
        assert!(now() >= first);
    }
}
