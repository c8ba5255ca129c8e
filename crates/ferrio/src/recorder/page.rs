//! What is where in a process's page, and the counters that a loop keeps there.
//!
//! All fields that change are atomics, written relaxed (an ordinary store) by the one thread that owns them and read by
//! whoever looks, in this process or another.
//!
//! # Versions
//! A reader knows one [`VERSION`], and refuses every other, saying which it has found: a page is looked at by the ferrio
//! that wrote it. The number is raised by one in each release in which a reader of the release before would misread a
//! page: if anything in this file has moved or changed its meaning, if the words of a record have (`ring`), or what a
//! stamp is. Only the magic and the version stay where they are for ever. The form of a snapshot's text has a number of
//! its own, in the text, and is the host's affair. A test compares the layout with [`LAYOUT`], so that none is changed by
//! mistake.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Level, file, stamp};
use crate::clock::Clock;

/// How a page begins.
pub const MAGIC: [u8; 8] = *b"ferrio\r\n";
/// The layout described by this file.
pub const VERSION: u32 = 3;
/// What the layout of this version comes to: the sizes of the header, a slot and the page, and where its parts begin.
#[cfg(test)]
const LAYOUT: [usize; 7] = [1264, 1088, 25_726_976, 1280, 299_008, 17_076_224, 17_338_368];

/// How many loops of a process have their counters in its page; further ones keep theirs to themselves, and are counted.
/// A record has eight bits for a loop's slot, of which this number stands for none.
pub const SLOTS: usize = 255;
/// So many bytes of the page have memory from the beginning, which is room for two loops; more is got for the others.
pub(crate) const AT_FIRST: usize = 4096;
/// How many records the ring holds: 16 MiB of them.
pub const RECORDS: usize = CHUNKS * CHUNK;
/// A loop takes so many records' room at a time, and then writes without asking the others.
pub const CHUNK: usize = 256;
pub const CHUNKS: usize = 2048;
/// Room for the names that records refer to, in bytes.
pub const NAMES: usize = 256 * 1024;
/// How many loops have room for a snapshot.
pub const SNAPSHOTS: usize = 8;
/// Room for one snapshot, in bytes; there are two for each loop, written in turns.
pub const SNAPSHOT: usize = 512 * 1024;

/// The beginning of the page.
#[repr(C)]
pub struct Header {
    pub(crate) magic: [AtomicU32; 2],
    pub(crate) version: AtomicU32,
    /// The process that writes.
    pub pid: AtomicU32,
    /// Nanoseconds since 1970, and of the monotonic clock, when the page was made.
    pub began: AtomicU64,
    pub began_monotonic: AtomicU64,
    /// The [`Level`](super::Level) that is wanted: any process of the same user may write here.
    pub level: AtomicU32,
    /// How many snapshots have been asked for: likewise.
    pub requests: AtomicU32,
    /// The signal that has every thread's stack written to the file beside this one; 0 if there is none.
    pub signal: AtomicU32,
    /// Why something is missing: 1 no room for the ring, 2 none for snapshots.
    pub missing: AtomicU32,
    /// Two moments as stamp and nanoseconds of the monotonic clock: see [`Scale`](super::stamp::Scale).
    pub moments: [[AtomicU64; 2]; 2],
    /// How many chunks of records have ever been taken.
    pub chunks: AtomicU64,
    /// How many bytes of names there are.
    pub names: AtomicU64,
    /// How many slots have ever been taken: those behind are not to be touched.
    pub(crate) taken: AtomicU32,
    /// How many loops live that found no slot.
    pub unwatched: AtomicU32,
    /// What the process calls itself: its command line, and what runs it.
    pub title: Text<1024>,
    pub runtime: Text<128>,
}

/// A text of bounded length.
#[repr(C)]
pub struct Text<const N: usize> {
    length: AtomicU32,
    bytes: [std::sync::atomic::AtomicU8; N],
}

impl<const N: usize> Text<N> {
    /// As much of `text` as there is room for.
    pub fn set(&self, text: &str) {
        let mut length = text.len().min(N);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        for (place, byte) in self.bytes.iter().zip(text.bytes().take(length)) {
            place.store(byte, Ordering::Relaxed);
        }
        self.length.store(length as u32, Ordering::Release);
    }

    /// The text.
    pub fn get(&self) -> String {
        let length = (self.length.load(Ordering::Acquire) as usize).min(N);
        let bytes: Vec<_> = self.bytes[..length].iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// What a loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// Not running.
    Idle = 1,
    /// In a turn.
    Running = 2,
    /// In the operating system, until there is news.
    Asleep = 3,
}

impl State {
    pub(crate) fn from_number(number: u32) -> State {
        match number {
            0 => State::Free,
            2 => State::Running,
            3 => State::Asleep,
            _ => State::Idle,
        }
    }
}

/// One loop's counters.
#[repr(C, align(64))]
pub struct Slot {
    pub state: AtomicU32,
    /// The thread that runs the loop, as the kernel numbers it.
    pub thread: AtomicU32,
    /// The loop's number in its process.
    pub number: AtomicU64,
    /// Steps begun.
    pub steps: AtomicU64,
    /// Turns begun.
    pub turns: AtomicU64,
    /// How often the loop went to sleep, and for how many nanoseconds in all.
    pub sleeps: AtomicU64,
    pub slept: AtomicU64,
    /// When the run began, in nanoseconds of the monotonic clock, like all moments here.
    pub run_began: AtomicU64,
    /// When it last fell asleep or woke up.
    pub since: AtomicU64,
    /// When it last looked for news, to a few milliseconds.
    pub looked: AtomicU64,
    /// How long it did not sleep while it ran, in nanoseconds, up to `since`.
    pub worked: AtomicU64,
    /// A step that takes so many nanoseconds is slow: see [`watch`](super::watch); 0 for none.
    pub slow_after: AtomicU64,
    /// How many timers are set, as of the last sleep.
    pub timers: AtomicU32,
    /// How many turns took [`SLOW_TURN`] or longer, the longest, and when it ended.
    pub slow_turns: AtomicU32,
    pub longest_turn: AtomicU64,
    pub longest_turn_at: AtomicU64,
    /// How late timers fired, and how long the loop was busy between two looks at the operating system.
    pub late: Histogram,
    pub busy: Histogram,
    pub(crate) snapshots: [Snapshot; 2],
    /// The newest of the two.
    pub(crate) newest: AtomicU32,
    /// The request that it answers, and the newest that the loop has heard of.
    pub answered: AtomicU32,
    pub heard: AtomicU32,
    /// When it fell asleep for the first time after its last step, and how many steps there had been: waking up to be looked
    /// at is none.
    pub quiet: AtomicU64,
    pub quiet_steps: AtomicU64,
}

/// A turn of so many nanoseconds holds others up: asyncio's `slow_callback_duration`.
pub const SLOW_TURN: u64 = 100_000_000;

/// Where one of a loop's two snapshots has got to.
#[repr(C)]
pub(crate) struct Snapshot {
    /// Odd while it is written.
    pub sequence: AtomicU64,
    pub length: AtomicU64,
    /// When it was written.
    pub at: AtomicU64,
}

/// How many buckets a histogram has: four for each doubling from 1 microsecond to 64 seconds, and one below.
pub const BUCKETS: usize = 105;

/// Times by their length, the last minute and all in all: a minute's counts are halved when it is over, so that old
/// times fade.
#[repr(C)]
pub struct Histogram {
    pub count: AtomicU64,
    pub longest: AtomicU64,
    pub buckets: [AtomicU32; BUCKETS],
    fades_at: AtomicU64,
}

impl Histogram {
    /// Counts a time of so many nanoseconds.
    #[inline]
    pub fn add(&self, nanoseconds: u64) {
        add(&self.count, 1);
        let bucket = &self.buckets[bucket(nanoseconds)];
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if nanoseconds > self.longest.load(Ordering::Relaxed) {
            self.longest.store(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Halves all counts if a minute has passed since the last time.
    pub fn fade(&self, now: u64) {
        const MINUTE: u64 = 60_000_000_000;
        let at = self.fades_at.load(Ordering::Relaxed);
        if now >= at {
            self.fades_at.store(now + MINUTE, Ordering::Relaxed);
            if at != 0 {
                for bucket in &self.buckets {
                    bucket.store(bucket.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Which bucket counts a time.
#[inline]
pub fn bucket(nanoseconds: u64) -> usize {
    let quarters = nanoseconds >> 8; // 256 ns: four quarters are about a microsecond
    if quarters < 4 {
        return 0;
    }
    let doubling = quarters.ilog2() as usize;
    let quarter = ((quarters >> (doubling - 2)) & 3) as usize;
    ((doubling - 2) * 4 + quarter + 1).min(BUCKETS - 1)
}

/// The longest time that a bucket counts, in nanoseconds.
pub fn bucket_end(bucket: usize) -> u64 {
    match bucket.checked_sub(1) {
        None => 4 << 8,
        Some(above) => ((5 + (above % 4) as u64) << (above / 4)) << 8,
    }
}

/// `counter += more`, by the only thread that writes it.
#[inline]
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// The whole page. Only what is touched takes memory.
#[repr(C)]
pub struct Page {
    pub header: Header,
    /// Those that have been taken are [`Page::slots`].
    slots: [Slot; SLOTS],
    // Each of these begins on a boundary of the operating system's pages, and gets memory when it is first needed.
    /// Up to which number each chunk's records are written.
    pub(crate) filled: Aligned<[AtomicU64; CHUNKS]>,
    pub(crate) ring: Aligned<[[AtomicU64; 4]; RECORDS]>,
    pub(crate) names: Aligned<[std::sync::atomic::AtomicU8; NAMES]>,
    pub(crate) snapshots: Aligned<[[[std::sync::atomic::AtomicU8; SNAPSHOT]; 2]; SNAPSHOTS]>,
}

#[repr(C, align(4096))]
pub(crate) struct Aligned<T>(pub T);

impl Page {
    /// This process's page.
    pub fn own() -> &'static Page {
        file::own_page()
    }

    /// Fills a new page's header; what makes it a page comes last.
    pub(crate) fn seal(&self) {
        let (header, now) = (&self.header, Clock::Real.now());
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        header.pid.store(std::process::id(), Ordering::Relaxed);
        header.began.store(since_1970, Ordering::Relaxed);
        header.began_monotonic.store(now, Ordering::Relaxed);
        // FERRIO_LEVEL=flight records from the first step on.
        let level = match std::env::var("FERRIO_LEVEL").as_deref() {
            Ok("flight") => Level::Flight,
            Ok("deep") => Level::Deep,
            _ => Level::Pulse,
        };
        header.level.store(level as u32, Ordering::Relaxed);
        let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        header.title.set(&words.join(" "));
        for moment in &header.moments {
            moment[0].store(stamp::now(), Ordering::Relaxed);
            moment[1].store(now, Ordering::Relaxed);
        }
        self.header.version.store(VERSION, Ordering::Relaxed);
        for (place, part) in self.header.magic.iter().zip(MAGIC.chunks_exact(4)) {
            let number = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
            place.store(number, Ordering::Release);
        }
    }

    /// The slots that are, or were, a loop's.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots[..(self.header.taken.load(Ordering::Acquire) as usize).min(SLOTS)]
    }

    /// A slot for a new loop. None if all are taken, or there is no memory for one more.
    pub(crate) fn claim_slot(&self, number: u64) -> Option<(usize, &Slot)> {
        for (index, slot) in self.slots.iter().enumerate() {
            let (begins, length) = (offset_of!(Page, slots) + index * size_of::<Slot>(), size_of::<Slot>());
            let is_new = index >= self.slots().len();
            if is_new && begins + length > AT_FIRST && !file::reserve(begins, length) {
                return None;
            }
            let (free, idle) = (State::Free as u32, State::Idle as u32);
            if slot.state.compare_exchange(free, idle, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                slot.empty();
                slot.number.store(number, Ordering::Relaxed);
                self.header.taken.fetch_max(index as u32 + 1, Ordering::AcqRel);
                return Some((index, slot));
            }
        }
        None
    }
}

impl Slot {
    /// A slot outside of the page, for a loop that found none free in it.
    pub(crate) fn private() -> Box<Slot> {
        // SAFETY: a slot is made of atomics, for which zeros are valid.
        Box::new(unsafe { std::mem::zeroed() })
    }

    /// Sets everything back but the state.
    fn empty(&self) {
        let Slot { thread, steps, turns, sleeps, slept, run_began, since, looked, worked, slow_after, .. } = self;
        let Slot { timers, slow_turns, longest_turn, longest_turn_at, answered, heard, quiet, quiet_steps, .. } = self;
        let times = [slept, run_began, since, looked, worked, slow_after, longest_turn, longest_turn_at, quiet];
        for counter in [steps, turns, sleeps, quiet_steps].into_iter().chain(times) {
            counter.store(0, Ordering::Relaxed);
        }
        for counter in [thread, timers, slow_turns, answered, heard] {
            counter.store(0, Ordering::Relaxed);
        }
        for histogram in [&self.late, &self.busy] {
            for counter in [&histogram.count, &histogram.longest, &histogram.fades_at] {
                counter.store(0, Ordering::Relaxed);
            }
            histogram.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        }
        for snapshot in &self.snapshots {
            snapshot.length.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_follow_each_other() {
        for time in [0, 255, 1_000, 1_023, 1_024, 1_500, 70_000, 1_000_000, 250_000_000, 60_000_000_000] {
            let bucket = bucket(time);
            assert!(time < bucket_end(bucket), "{time} in {bucket}");
            assert!(bucket == 0 || time >= bucket_end(bucket - 1), "{time} in {bucket}");
            assert!(bucket == 0 || bucket_end(bucket) <= bucket_end(bucket - 1) * 5 / 4 + 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_changed_layout_has_a_new_version() {
        let sizes = [size_of::<Header>(), size_of::<Slot>(), size_of::<Page>()];
        let places =
            [offset_of!(Page, slots), offset_of!(Page, ring), offset_of!(Page, names), offset_of!(Page, snapshots)];
        let layout: Vec<_> = sizes.into_iter().chain(places).collect();
        assert!(offset_of!(Page, slots) + 2 * size_of::<Slot>() <= AT_FIRST);
        assert_eq!(layout, LAYOUT, "raise VERSION by one (once a release), and put this into LAYOUT");
        // These two stay for ever.
        assert_eq!([offset_of!(Header, magic), offset_of!(Header, version)], [0, MAGIC.len()]);
    }

    #[test]
    fn a_histogram_counts_and_fades() {
        let slot = Slot::private();
        (0..8).for_each(|_| slot.late.add(5_000_000));
        slot.late.fade(1);
        assert_eq!(slot.late.buckets[bucket(5_000_000)].load(Ordering::Relaxed), 8);
        slot.late.fade(61_000_000_000);
        assert_eq!(slot.late.buckets[bucket(5_000_000)].load(Ordering::Relaxed), 4);
        assert_eq!(slot.late.count.load(Ordering::Relaxed), 8);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        // SAFETY: made of atomics, for which zeros are valid.
        let text: Text<5> = unsafe { std::mem::zeroed() };
        text.set("Grüße");
        assert_eq!(text.get(), "Grü");
    }
}
