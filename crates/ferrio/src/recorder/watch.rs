//! Watching for slow steps while they are being done: what a thread of its own does, if there is one.
//!
//! It reads the loops' states and step counters and nothing else, so it needs no lock that a blocked loop might hold, and
//! costs a loop one load per sleep. While all loops sleep so does it; the first that wakes up rings for it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::page::{Page, Slot, State};
use crate::clock::Clock;

/// 1 while the watcher waits for a loop to wake up.
static LISTENING: AtomicU32 = AtomicU32::new(0);
/// 1 when the watcher is to end.
static STOPPED: AtomicU32 = AtomicU32::new(0);
/// A step of any loop that takes so many nanoseconds is slow.
static THRESHOLD: AtomicU64 = AtomicU64::new(u64::MAX);

/// How often it looks, in nanoseconds: an eighth of the time that it looks for, within these.
const SHORTEST_LOOK: u64 = 1_000_000;
const LONGEST_LOOK: u64 = 50_000_000;

/// A slow step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The loop's place in the page.
    pub slot: usize,
    /// The loop's number in its process.
    pub number: u64,
    /// The step's.
    pub step: u64,
    /// How long it has taken so far, in nanoseconds, without time in which this thread could not run either (a stopped
    /// process, a machine that was suspended).
    pub length: u64,
    /// It has ended.
    pub is_over: bool,
}

/// What the watcher knows of each loop.
pub struct Watch {
    seen: Vec<Seen>,
    /// Nanoseconds that count for nobody.
    lost: u64,
}

struct Seen {
    /// The loop's number, its step's, and when it last woke up; `None` if it was not running.
    step: Option<(u64, u64, u64)>,
    since: u64,
    /// Reported when it is as long as this.
    due: u64,
    reported: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { step: None, since: 0, due: u64::MAX, reported: false }
    }
}

/// Steps of any loop are slow that take so many nanoseconds; `u64::MAX` for none.
pub fn set_threshold(nanoseconds: u64) {
    THRESHOLD.store(nanoseconds, Ordering::Relaxed);
}

/// A loop runs from now on; its state says so already.
#[inline]
pub(crate) fn ring() {
    if LISTENING.load(Ordering::Relaxed) != 0 {
        wake_watcher();
    }
}

#[cold]
fn wake_watcher() {
    if LISTENING.swap(0, Ordering::AcqRel) != 0 {
        wait::wake(&LISTENING);
    }
}

/// Ends [`Watch::next_sight`], in whichever thread it is.
pub fn stop() {
    STOPPED.store(1, Ordering::Release);
    wait::wake(&STOPPED);
    wake_watcher();
}

impl Default for Watch {
    fn default() -> Self {
        STOPPED.store(0, Ordering::Release);
        Watch { seen: Vec::new(), lost: 0 }
    }
}

impl Watch {
    /// Waits for the next slow step, or for the end of one that it has told of. `None` after [`stop`], when it has told of
    /// all that have ended.
    pub fn next_sight(&mut self) -> Option<Sight> {
        loop {
            let stopped = STOPPED.load(Ordering::Acquire) != 0;
            let now = Clock::Real.now().saturating_sub(self.lost);
            let (mut running, mut shortest) = (false, u64::MAX);
            let slots = Page::own().slots();
            // There are more than before, or fewer in the child of a fork.
            self.seen.resize_with(slots.len(), Seen::default);
            for (index, (slot, seen)) in slots.iter().zip(&mut self.seen).enumerate() {
                let threshold = threshold(slot);
                if threshold == u64::MAX && !seen.reported {
                    continue;
                }
                if let Some(sight) = seen.look(index, slot, threshold, now).filter(|sight| sight.is_over || !stopped) {
                    return Some(sight);
                }
                running |= seen.step.is_some();
                shortest = shortest.min(threshold);
            }
            if stopped {
                return None;
            }
            let interval = (shortest / 8).clamp(SHORTEST_LOOK, LONGEST_LOOK);
            if running {
                self.tick(interval);
            } else {
                park();
            }
        }
    }

    /// The loop's present step is to be reported once more when it is as long as this.
    pub fn again(&mut self, slot: usize, nanoseconds: u64) {
        if let Some(seen) = self.seen.get_mut(slot) {
            seen.due = nanoseconds;
        }
    }

    fn tick(&mut self, interval: u64) {
        let begun = Clock::Real.now();
        wait::sleep(&STOPPED, 0, Some(Duration::from_nanos(interval)));
        let slept = Clock::Real.now().saturating_sub(begun);
        // Nobody can be blamed for the time in which this thread did not run: the loop's may not have, either.
        self.lost += slept.saturating_sub(2 * interval);
    }
}

impl Seen {
    fn look(&mut self, index: usize, slot: &Slot, threshold: u64, now: u64) -> Option<Sight> {
        let word = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let running = slot.state.load(Ordering::Acquire) == State::Running as u32;
        let step = running.then(|| (word(&slot.number), word(&slot.steps), word(&slot.since)));
        let length = now.saturating_sub(self.since);
        let sight = |(number, step, _): (u64, u64, u64), is_over| Sight { slot: index, number, step, length, is_over };
        if step != self.step {
            let former = std::mem::replace(self, Seen { step, since: now, due: threshold, reported: false });
            return former.step.filter(|_| former.reported).map(|step| sight(step, true));
        }
        if step.is_some() && length >= self.due {
            self.due = u64::MAX;
            self.reported = true;
            return step.map(|step| sight(step, false));
        }
        None
    }
}

fn threshold(slot: &Slot) -> u64 {
    let own = slot.slow_after.load(Ordering::Relaxed);
    THRESHOLD.load(Ordering::Relaxed).min(if own == 0 { u64::MAX } else { own })
}

/// Sleeps until a loop of this process runs; may return for no reason.
fn park() {
    LISTENING.store(1, Ordering::SeqCst);
    // A loop that looked at the word just before has written its state by the end of this.
    wait::sleep(&STOPPED, 0, Some(Duration::from_nanos(SHORTEST_LOOK)));
    let is_running = |slot: &Slot| slot.state.load(Ordering::Acquire) == State::Running as u32;
    let is_watched = |slot: &&Slot| threshold(slot) != u64::MAX;
    if STOPPED.load(Ordering::SeqCst) == 0 && !Page::own().slots().iter().filter(is_watched).any(is_running) {
        wait::sleep(&LISTENING, 1, None);
    }
    LISTENING.store(0, Ordering::Relaxed);
}

#[cfg(target_os = "linux")]
mod wait {
    use std::ptr;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    /// Sleeps while the word has this value, and no longer than that; may return for no reason.
    pub fn sleep(word: &'static AtomicU32, value: u32, longest: Option<Duration>) {
        let limit = longest.map(|longest| libc::timespec {
            tv_sec: longest.as_secs() as libc::time_t,
            tv_nsec: longest.subsec_nanos() as libc::c_long,
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the word lives for ever, and the time limit for the call.
        unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, value, limit)
        };
    }

    pub fn wake(word: &'static AtomicU32) {
        // SAFETY: the word lives for ever.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
    }
}

#[cfg(not(target_os = "linux"))]
mod wait {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// As on Linux, but for some milliseconds at the most.
    pub fn sleep(word: &'static AtomicU32, value: u32, longest: Option<Duration>) {
        if word.load(Ordering::Acquire) == value {
            std::thread::sleep(longest.unwrap_or(Duration::MAX).min(Duration::from_millis(20)));
        }
    }

    pub fn wake(_word: &'static AtomicU32) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_step_is_told_of_once_and_when_it_is_over() {
        let (mut seen, slot) = (Seen::default(), Slot::private());
        let mut look = |now| seen.look(0, &slot, 100, now);
        slot.set_state(State::Running);
        slot.steps.store(7, Ordering::Relaxed);
        assert_eq!([look(1_000), look(1_050)], [None; 2]);
        assert_eq!(look(1_110), Some(Sight { slot: 0, number: 0, step: 7, length: 110, is_over: false }));
        assert_eq!(look(1_500), None);
        slot.steps.store(8, Ordering::Relaxed);
        assert_eq!(look(1_600), Some(Sight { slot: 0, number: 0, step: 7, length: 600, is_over: true }));
        // The next one is counted from where it was first seen.
        assert_eq!([look(1_650), look(1_699)], [None; 2]);
        assert!(look(1_700).is_some_and(|sight| sight.step == 8 && !sight.is_over));
    }

    #[test]
    fn a_sleep_is_no_step() {
        let (mut seen, slot) = (Seen::default(), Slot::private());
        let mut look = |now| seen.look(0, &slot, 100, now);
        slot.set_state(State::Running);
        assert_eq!(look(1_000), None);
        slot.set_state(State::Asleep);
        assert_eq!([look(1_500), look(2_000)], [None; 2]);
        slot.set_state(State::Running);
        assert_eq!([look(2_010), look(2_109)], [None; 2]);
    }

    #[test]
    fn whoever_waits_is_stopped() {
        let watcher = std::thread::spawn(|| Watch::default().next_sight());
        while !watcher.is_finished() {
            stop();
            std::thread::yield_now();
        }
        assert_eq!(watcher.join().expect("does not panic"), None);
    }
}
