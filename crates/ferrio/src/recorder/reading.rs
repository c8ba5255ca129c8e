//! Looking at a page: another process's, or a dead one's, through its file.
//!
//! A reader writes nothing but two words of the header, and only when it is told to: the wanted level, and the count of
//! snapshots asked for. What it reads may change meanwhile; whatever must be whole is checked for that, and dropped or
//! read again.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::page::{BUCKETS, CHUNKS, Histogram, MAGIC, NAMES, SNAPSHOT, SNAPSHOTS, Slot, State, VERSION, bucket_end};
use super::ring::{self, Kind};
use super::stamp::Scale;
use crate::cause::Cause;

/// Somebody's page.
pub struct View {
    page: mapping::Mapping,
}

/// What a process says of itself.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its command line.
    pub title: String,
    /// What runs it.
    pub runtime: String,
    /// When the page was made, in nanoseconds since 1970.
    pub began: u64,
    /// The same moment of the monotonic clock.
    pub began_monotonic: u64,
    /// The level that is wanted: see [`Level`](super::Level).
    pub level: u32,
    /// The signal that has every thread's stack written to the file beside the page; 0 for none.
    pub signal: u32,
    /// What there was no room for: 1 the ring, 2 snapshots.
    pub missing: u32,
    /// How many records there have been.
    pub records: u64,
    /// How many loops live that have no place in the page.
    pub unwatched: u32,
}

/// One loop's counters. Times in nanoseconds, moments of the monotonic clock.
#[derive(Clone, Debug)]
pub struct LoopView {
    /// Its place in the page, for [`View::snapshot`].
    pub slot: usize,
    /// Whether there is room for its snapshots.
    pub has_room: bool,
    /// Its number among the loops that the process has made.
    pub number: u64,
    /// What it is doing.
    pub state: State,
    /// The thread that runs it, as the kernel numbers it.
    pub thread: u32,
    /// Steps begun.
    pub steps: u64,
    /// Turns begun.
    pub turns: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// For how long in all, without a sleep that lasts.
    pub slept: u64,
    /// When its run began.
    pub run_began: u64,
    /// When it last fell asleep or woke up.
    pub since: u64,
    /// Since when it has run no step: it fell asleep then, and has at most been woken to be looked at. None if it has run one.
    pub quiet: Option<u64>,
    /// When it last looked for news, to a few milliseconds; 0 while it sleeps.
    pub looked: u64,
    /// How long it did not sleep while it ran, up to `since`.
    pub worked: u64,
    /// The newest request for a snapshot that it has heard of.
    pub heard: u32,
    /// How many timers are set, as of the last sleep.
    pub timers: u32,
    /// How many turns took a tenth of a second or longer.
    pub slow_turns: u32,
    /// The longest of them.
    pub longest_turn: u64,
    /// When that ended.
    pub longest_turn_at: u64,
    /// How late timers fired.
    pub late: Times,
    /// How long it was busy between two sleeps.
    pub busy: Times,
}

/// A histogram's content.
#[derive(Clone, Debug)]
pub struct Times {
    /// How many there ever were.
    pub count: u64,
    /// The longest ever.
    pub longest: u64,
    /// The longest time of a bucket and how many were counted in it; empty buckets are left out.
    pub buckets: Vec<(u64, u32)>,
}

impl LoopView {
    /// What a loop's counters say.
    pub(crate) fn of(index: usize, slot: &Slot) -> Self {
        let state = State::from_number(slot.state.load(Ordering::Acquire));
        let (steps, quiet) = (slot.steps.load(Ordering::Relaxed), slot.quiet.load(Ordering::Relaxed));
        let is_quiet = quiet != 0 && slot.quiet_steps.load(Ordering::Relaxed) == steps;
        LoopView {
            slot: index,
            has_room: index < SNAPSHOTS,
            number: slot.number.load(Ordering::Relaxed),
            state,
            thread: slot.thread.load(Ordering::Relaxed),
            steps,
            turns: slot.turns.load(Ordering::Relaxed),
            sleeps: slot.sleeps.load(Ordering::Relaxed),
            slept: slot.slept.load(Ordering::Relaxed),
            run_began: slot.run_began.load(Ordering::Relaxed),
            since: slot.since.load(Ordering::Relaxed),
            quiet: is_quiet.then_some(quiet),
            looked: slot.looked.load(Ordering::Relaxed),
            worked: slot.worked.load(Ordering::Relaxed),
            heard: slot.heard.load(Ordering::Relaxed),
            timers: slot.timers.load(Ordering::Relaxed),
            slow_turns: slot.slow_turns.load(Ordering::Relaxed),
            longest_turn: slot.longest_turn.load(Ordering::Relaxed),
            longest_turn_at: slot.longest_turn_at.load(Ordering::Relaxed),
            late: Times::of(&slot.late),
            busy: Times::of(&slot.busy),
        }
    }
}

impl Times {
    fn of(histogram: &Histogram) -> Self {
        let counts = (0..BUCKETS).map(|bucket| (bucket_end(bucket), histogram.buckets[bucket].load(Ordering::Relaxed)));
        Times {
            count: histogram.count.load(Ordering::Relaxed),
            longest: histogram.longest.load(Ordering::Relaxed),
            buckets: counts.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// One record of the flight ring. Times in nanoseconds of the monotonic clock.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it tells.
    pub kind: Kind,
    /// The loop's place in the page.
    pub slot: u8,
    /// When it happened, or began.
    pub at: u64,
    /// What it is about; a timer's number.
    pub subject: u64,
    /// A step's number (its low 32 bits), or a name's subject's own (0 for none).
    pub number: u32,
    /// How long a step or sleep took.
    pub length: u64,
    /// A timer's deadline.
    pub when: u64,
    /// Why.
    pub cause: Cause,
    /// What a subject is called.
    pub name: String,
}

/// A snapshot that a loop wrote of itself.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When, in nanoseconds of the monotonic clock.
    pub at: u64,
    /// The request that it answers.
    pub answers: u32,
    /// What it says; the host knows in which form.
    pub text: Vec<u8>,
}

impl View {
    /// Opens a page's file.
    ///
    /// # Errors
    /// The operating system's; `InvalidData` for a file that is no page, or one of another [`VERSION`].
    pub fn open(path: &Path) -> io::Result<View> {
        // What all versions begin with; the rest of another may be as long as it likes.
        let mut beginning = Vec::new();
        File::open(path)?.take(MAGIC.len() as u64 + 4).read_to_end(&mut beginning)?;
        let version = beginning.strip_prefix(&MAGIC).and_then(|rest| Some(u32::from_le_bytes(rest.try_into().ok()?)));
        let refused = match version {
            Some(VERSION) => return Ok(View { page: mapping::Mapping::open(path)? }),
            Some(other) => format!("a page of version {other}; this ferrio reads version {VERSION}"),
            None => "not a page of ferrio's".to_owned(),
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, refused))
    }

    /// What the process says of itself.
    pub fn process(&self) -> Process {
        let header = &self.page.header;
        Process {
            pid: header.pid.load(Ordering::Relaxed),
            title: header.title.get(),
            runtime: header.runtime.get(),
            began: header.began.load(Ordering::Relaxed),
            began_monotonic: header.began_monotonic.load(Ordering::Relaxed),
            level: header.level.load(Ordering::Relaxed),
            signal: header.signal.load(Ordering::Relaxed),
            missing: header.missing.load(Ordering::Relaxed),
            records: ring::written(&self.page),
            unwatched: header.unwatched.load(Ordering::Relaxed),
        }
    }

    /// The loops of the process.
    pub fn loops(&self) -> Vec<LoopView> {
        self.slots().filter(|one| one.state != State::Free).collect()
    }

    /// The loops that are gone, as far as no other has their place yet.
    pub fn past_loops(&self) -> Vec<LoopView> {
        self.slots().filter(|one| one.state == State::Free && one.steps > 0).collect()
    }

    fn slots(&self) -> impl Iterator<Item = LoopView> {
        self.page.slots().iter().enumerate().map(|(index, slot)| LoopView::of(index, slot))
    }

    /// The newest snapshot of the loop in this slot, if it has written one.
    pub fn snapshot(&self, slot: usize) -> Option<Snapshot> {
        let counters = self.page.slots().get(slot)?;
        let rooms = self.page.snapshots.0.get(slot)?;
        // Written in turns: the other one may be under way.
        for _ in 0..8 {
            let newest = counters.newest.load(Ordering::Acquire) as usize & 1;
            let known = &counters.snapshots[newest];
            let before = known.sequence.load(Ordering::Acquire);
            let length = (known.length.load(Ordering::Relaxed) as usize).min(SNAPSHOT);
            if length == 0 {
                return None;
            }
            let text = rooms[newest][..length].iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
            let (at, answers) = (known.at.load(Ordering::Relaxed), counters.answered.load(Ordering::Relaxed));
            std::sync::atomic::fence(Ordering::Acquire);
            if before.is_multiple_of(2) && known.sequence.load(Ordering::Relaxed) == before {
                return Some(Snapshot { at, answers, text });
            }
        }
        None
    }

    /// The records that are in the ring: of each loop, the oldest first.
    pub fn records(&self) -> Vec<Record> {
        let scale = self.scale();
        // Those that nobody has taken have no memory yet, and where there is none left, looking at them would be the end.
        let taken = CHUNKS.min(self.page.header.chunks.load(Ordering::Acquire) as usize);
        let mut chunks: Vec<_> = (0..taken).filter_map(|place| ring::read_chunk(&self.page, place)).collect();
        chunks.sort_unstable_by_key(|(number, _)| *number);
        chunks.iter().flat_map(|(_, records)| records).flat_map(|words| self.told(words, &scale)).collect()
    }

    /// What a record tells, which may be two things.
    fn told(&self, words: &[u64; 4], scale: &Scale) -> impl Iterator<Item = Record> {
        let kinds = match (Kind::from_number((words[1] >> 56) as u8), words[2]) {
            (Some(Kind::LastStep), _) => [Some(Kind::Step), Some(Kind::End)],
            (Some(Kind::Wake), name) if name != 0 => [Some(Kind::Name), Some(Kind::Wake)],
            (kind, _) => [kind, None],
        };
        kinds.into_iter().flatten().map(|kind| self.record(kind, words, scale))
    }

    fn scale(&self) -> Scale {
        let [first, second] = &self.page.header.moments;
        let moment = |pair: &[std::sync::atomic::AtomicU64; 2]| {
            (pair[0].load(Ordering::Relaxed), pair[1].load(Ordering::Relaxed))
        };
        Scale::new(moment(first), moment(second))
    }

    fn record(&self, kind: Kind, words: &[u64; 4], scale: &Scale) -> Record {
        let [begun, about, word, cause] = *words;
        let stamps = (word & 0xffff_ffff) * ring::LENGTH_UNIT;
        Record {
            kind,
            slot: (about >> 48) as u8,
            at: scale.moment(if kind == Kind::End { begun.wrapping_add(stamps) } else { begun }),
            subject: about & 0xffff_ffff_ffff,
            number: match kind {
                Kind::Step => (word >> 32) as u32,
                Kind::Name => word as u32,
                _ => 0,
            },
            length: match kind {
                Kind::Step => scale.length(stamps),
                Kind::Sleep => scale.length(word.saturating_sub(begun)),
                _ => 0,
            },
            when: if kind == Kind::Timer { word } else { 0 },
            cause: if kind == Kind::Name { Cause::OUTSIDE } else { Cause::from_word(cause) },
            name: if kind == Kind::Name { self.name((word >> 32) as usize) } else { String::new() },
        }
    }

    fn name(&self, place: usize) -> String {
        let names = &self.page.names.0;
        let end = (self.page.header.names.load(Ordering::Acquire) as usize).min(NAMES);
        if place == 0 || place >= end {
            return String::new();
        }
        let length = names[place].load(Ordering::Relaxed) as usize;
        let bytes: Vec<_> = names[place + 1..].iter().take(length).map(|byte| byte.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks for another level, from the loops' next look at the operating system on.
    pub fn set_level(&self, level: u32) {
        self.page.header.level.store(level, Ordering::Release);
    }

    /// Asks every loop for a snapshot. Returns the request's number, which the answers bear.
    pub fn request(&self) -> u32 {
        self.page.header.requests.fetch_add(1, Ordering::AcqRel) + 1
    }
}

#[cfg(unix)]
mod mapping {
    use std::fs::OpenOptions;
    use std::io;
    use std::ops::Deref;
    use std::os::fd::AsRawFd;
    use std::path::Path;
    use std::ptr::{self, NonNull};

    use crate::recorder::page::Page;

    /// A mapped page.
    pub struct Mapping(NonNull<Page>);

    // SAFETY: the page is made of atomics.
    unsafe impl Send for Mapping {}
    // SAFETY: as above.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        pub fn open(path: &Path) -> io::Result<Self> {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            if file.metadata()?.len() != size_of::<Page>() as u64 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a page that is cut off"));
            }
            // SAFETY: the kernel chooses the addresses; the file is as long as the page, and its owner never cuts it.
            let mapped = unsafe {
                let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
                libc::mmap(ptr::null_mut(), size_of::<Page>(), access, libc::MAP_SHARED | libc::MAP_NORESERVE, fd, 0)
            };
            if mapped == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            NonNull::new(mapped.cast()).map(Mapping).ok_or_else(|| io::Error::other("mapped at zero"))
        }
    }

    impl Deref for Mapping {
        type Target = Page;

        fn deref(&self) -> &Page {
            // SAFETY: mapped until it is dropped, and made of atomics.
            unsafe { self.0.as_ref() }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: mapped with this length; nobody refers to it any more.
            unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Page>()) };
        }
    }
}

#[cfg(not(unix))]
mod mapping {
    use std::io;
    use std::ops::Deref;
    use std::path::Path;

    use crate::recorder::page::Page;

    /// Pages of other processes are not shared here yet.
    pub struct Mapping(std::convert::Infallible);

    impl Mapping {
        pub fn open(_path: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl Deref for Mapping {
        type Target = Page;

        fn deref(&self) -> &Page {
            match self.0 {}
        }
    }
}
