//! What a loop writes down of itself, kept out of the hot functions: see [`recorder`](crate::recorder). What happens one by
//! one is in `flight`.
//!
//! Pulse costs a question and a store per step, two per turn and two readings of the clock per sleep; the rest is behind one branch.

mod flight;

use std::cell::Cell;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Engine;
use crate::cause::Cause;
use crate::clock::Clock;
use crate::fork;
use crate::host::Host;
use crate::recorder::page::{Page, SLOTS, SLOW_TURN, SNAPSHOT, SNAPSHOTS, Slot, State, add};
use crate::recorder::reading::LoopView;
use crate::recorder::ring::{self, Kind, Pen};
use crate::recorder::{Level, Observed, file, stamp, watch};

/// Without the feature nothing below is compiled into the loop.
const ON: bool = cfg!(feature = "recorder");

/// Nanoseconds after the first run begins until a loop leaves a snapshot that nobody has asked for.
const FIRST_SNAPSHOT: u64 = 1_000_000_000;

/// Nanoseconds: what [`Clock::tick`] may lag behind, with CONFIG_HZ=100.
const LONGEST_TICK: u64 = 10_000_000;

/// One loop's part of the record.
pub(super) struct Recording {
    level: Cell<Level>,
    /// Whether the ring is written: the page asks for flight or more, and there is memory for it.
    rings: Cell<bool>,
    /// Whether the host is told of everything, whatever the page asks for.
    observed: Cell<bool>,
    slot: Cell<&'static Slot>,
    /// Its place in the page; [`SLOTS`] if it is in none.
    index: Cell<usize>,
    /// In which process it got that, by its forks.
    forks: Cell<u32>,
    pen: Pen,
    /// This process's, which is always at the same address.
    page: &'static Page,
    /// A step that takes so many nanoseconds is slow; 0 for none.
    slow_after: AtomicU64,
    /// What the page's header said when it was last looked at.
    wanted: Cell<u32>,
    answered: Cell<u32>,
    /// At which tick it was last told what a stamp and the clock say.
    told: Cell<u64>,
    /// When the next snapshot is due, in nanoseconds of the monotonic clock.
    snapshot_due: Cell<u64>,
    /// None has been left yet, and somebody could read it: the loop does not sleep beyond its time.
    owes_snapshot: Cell<bool>,
    /// A snapshot is being taken, slice by slice: what it has cost so far, and at which tick the last slice was.
    taking: Cell<bool>,
    taken: Cell<(u64, u64)>,
    /// What runs, and since which stamp; or since when the loop sleeps.
    subject: Cell<u64>,
    begun: Cell<u64>,
    /// What runs is over when this step ends.
    is_last: Cell<bool>,
    /// The last reading of the stamp, at the end of a step or the first record since the loop asked the operating system:
    /// what begins or happens now has it, until a step ends. 0 if there is none to go by.
    read: Cell<u64>,
}

impl Recording {
    pub(super) fn new(number: u64) -> Self {
        if ON {
            file::after_fork();
        }
        let (slot, index) = claim(number);
        let wanted = if ON { Page::own().header.level.load(Ordering::Relaxed) } else { 0 };
        let rings = ON && Level::from_number(wanted) >= Level::Flight && ring::prepare(Page::own());
        // Deep begins when the host can be told of it: when the loop first looks at the page.
        let level = match (ON, rings) {
            (false, _) => Level::Off,
            (true, true) => Level::Flight,
            (true, false) => Level::Pulse,
        };
        let wanted = wanted.min(Level::Flight as u32);
        Recording {
            level: Cell::new(level),
            rings: Cell::new(rings),
            observed: Cell::new(false),
            slot: Cell::new(slot),
            index: Cell::new(index),
            forks: Cell::new(fork::count()),
            pen: Pen::default(),
            page: Page::own(),
            told: Cell::new(0),
            slow_after: AtomicU64::new(0),
            wanted: Cell::new(wanted),
            answered: Cell::new(0),
            snapshot_due: Cell::new(0),
            owes_snapshot: Cell::new(false),
            taking: Cell::new(false),
            taken: Cell::new((0, 0)),
            subject: Cell::new(0),
            begun: Cell::new(0),
            is_last: Cell::new(false),
            read: Cell::new(0),
        }
    }

    #[inline]
    pub(super) fn is_flight(&self) -> bool {
        ON && self.level.get() > Level::Pulse
    }

    /// Whether a snapshot is to be gone on with, so that the loop must not sleep.
    #[inline]
    pub(super) fn is_taking(&self) -> bool {
        ON && self.taking.get()
    }

    #[inline]
    pub(super) fn count_step(&self, number: u64) {
        if ON {
            self.slot.get().steps.store(number, Ordering::Relaxed);
        }
    }

    /// The loop is about to ask the operating system, or has done something else for a while: the last reading is none to
    /// go by any more.
    #[inline]
    pub(super) fn forget_reading(&self) {
        if ON {
            self.read.set(0);
        }
    }

    #[inline]
    pub(super) fn count_turn(&self) {
        if ON {
            add(&self.slot.get().turns, 1);
        }
    }

    #[inline]
    pub(super) fn count_late(&self, nanoseconds: u64) {
        if ON {
            self.slot.get().late.add(nanoseconds);
        }
    }

    /// The run has ended.
    pub(super) fn idle(&self, now: u64) {
        if ON {
            let slot = self.slot.get();
            self.forget_reading();
            slot.set_state(State::Idle);
            add(&slot.worked, now.saturating_sub(slot.since.load(Ordering::Relaxed)));
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let (slot, is_spare) = (self.slot.get(), self.index.get() == SLOTS);
        // A loop that the child of a fork has inherited and never used has nothing in the child's page.
        if ON && self.forks.get() == fork::count() {
            if is_spare {
                self.page.header.unwatched.fetch_sub(1, Ordering::Relaxed);
            } else {
                slot.set_state(State::Free);
            }
        }
        if is_spare {
            spare().push(slot);
        }
    }
}

/// Slots for loops that found none free in the page: there are as many as such loops ever lived at once.
fn spare() -> std::sync::MutexGuard<'static, Vec<&'static Slot>> {
    static SPARE: Mutex<Vec<&'static Slot>> = Mutex::new(Vec::new());
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn claim(number: u64) -> (&'static Slot, usize) {
    if ON {
        let page = Page::own();
        if let Some((index, slot)) = page.claim_slot(number) {
            return (slot, index);
        }
        page.header.unwatched.fetch_add(1, Ordering::Relaxed);
    }
    (spare().pop().unwrap_or_else(|| Box::leak(Slot::private())), SLOTS)
}

/// The kernel's number of this thread.
fn thread_number() -> u32 {
    #[cfg(target_os = "linux")]
    {
        thread_local!(static NUMBER: Cell<(u32, u32)> = const { Cell::new((0, 0)) });
        let forks = fork::count();
        let (number, at) = NUMBER.get();
        if number != 0 && at == forks {
            return number;
        }
        // SAFETY: no arguments, cannot fail.
        let number = unsafe { libc::gettid() } as u32;
        NUMBER.set((number, forks));
        number
    }
    #[cfg(not(target_os = "linux"))]
    0
}

fn store(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

fn store32(counter: &AtomicU32, value: usize) {
    counter.store(value.try_into().unwrap_or(u32::MAX), Ordering::Relaxed);
}

impl<H: Host> Engine<H> {
    /// Whether wake-ups and steps are recorded one by one.
    #[inline]
    pub fn is_flight(&self) -> bool {
        self.recording.is_flight()
    }

    /// How much is recorded.
    pub fn level(&self) -> Level {
        self.recording.level.get()
    }

    /// Changes how much is recorded, from now on. Flight needs memory for its ring: without it nothing changes.
    pub fn set_level(&self, level: Level) {
        let rings = ON && level >= Level::Flight && ring::prepare(Page::own());
        if !ON || (level == Level::Flight && !rings) {
            return;
        }
        if rings && !self.recording.rings.replace(rings) {
            self.recording.pen.forget_all();
        }
        self.recording.rings.set(rings);
        self.recording.forget_reading();
        self.change_level(if self.recording.observed.get() { Level::Deep } else { level });
        self.tell_time();
    }

    /// This loop's counters.
    pub fn counters(&self) -> LoopView {
        LoopView::of(self.recording.index.get(), self.recording.slot.get())
    }

    /// Steps of this loop are slow that take so many nanoseconds (0: as many as in all loops). For any thread.
    pub fn set_slow_after(&self, nanoseconds: u64) {
        store(&self.recording.slow_after, nanoseconds);
        store(&self.recording.slot.get().slow_after, nanoseconds);
    }

    /// Has the host told of everything, or not any more; what the page asks for goes on besides.
    pub fn set_observed(&self, observed: bool) {
        if ON {
            self.recording.observed.set(observed);
            let rest = if self.recording.rings.get() { Level::Flight } else { Level::Pulse };
            self.change_level(if observed { Level::Deep } else { rest });
        }
    }

    fn change_level(&self, level: Level) {
        self.recording.level.set(level);
        // They are made at flight alone.
        self.ready.with(|ready| ready.forget_notes());
    }

    /// Tells the host, if it wants to know.
    #[inline]
    pub(super) fn observe(&self, event: Observed<'_, H::Job>) {
        if ON && self.recording.level.get() == Level::Deep {
            H::observe(self, event);
        }
    }

    // --- pulse -------------------------------------------------------------------------------------------------------

    pub(super) fn record_run(&self) {
        if ON {
            let (slot, now) = (self.recording.slot.get(), self.now());
            slot.thread.store(thread_number(), Ordering::Relaxed);
            [&slot.run_began, &slot.since, &slot.looked].into_iter().for_each(|moment| store(moment, now));
            self.recording.forget_reading();
            slot.set_state(State::Running);
            watch::ring();
            if self.recording.snapshot_due.get() == 0 {
                // Where there is no file, nobody can come later.
                let is_owed = file::path().is_some();
                self.recording.owes_snapshot.set(is_owed);
                self.recording.snapshot_due.set(if is_owed { now + FIRST_SNAPSHOT } else { u64::MAX });
            }
        }
    }

    /// The loop has looked for news, at this tick of the clock.
    #[inline]
    pub(super) fn record_look(&self, cx: H::Cx<'_>, tick: u64) -> Result<(), H::Abort> {
        if !ON {
            return Ok(());
        }
        let (slot, header) = (self.recording.slot.get(), &Page::own().header);
        let looked = slot.looked.load(Ordering::Relaxed);
        store(&slot.looked, tick);
        if looked != 0 && tick.saturating_sub(looked) >= SLOW_TURN {
            self.record_slow(tick, tick - looked);
        }
        if header.level.load(Ordering::Relaxed) != self.recording.wanted.get()
            || header.requests.load(Ordering::Relaxed) != self.recording.answered.get()
            || tick >= self.recording.snapshot_due.get()
            || self.recording.is_taking()
            || self.recording.is_flight() && tick != self.recording.told.replace(tick)
        {
            return self.heed_page(cx, tick);
        }
        Ok(())
    }

    #[cold]
    fn record_slow(&self, now: u64, length: u64) {
        let slot = self.recording.slot.get();
        slot.slow_turns.fetch_add(1, Ordering::Relaxed);
        if length > slot.longest_turn.load(Ordering::Relaxed) {
            store(&slot.longest_turn, length);
            store(&slot.longest_turn_at, now);
        }
    }

    /// Does what the page's header asks for.
    #[inline(never)]
    fn heed_page(&self, cx: H::Cx<'_>, tick: u64) -> Result<(), H::Abort> {
        let (recording, header) = (&self.recording, &Page::own().header);
        self.tell_time();
        let wanted = header.level.load(Ordering::Relaxed);
        let before = recording.wanted.replace(wanted);
        if wanted != before {
            self.set_level(Level::from_number(wanted));
            let [was, is] = [before, wanted].map(|level| level == Level::Deep as u32);
            if was != is && is != recording.observed.get() {
                H::deepen(self, cx, is)?;
            }
        }
        // What is asked for may have taken a while.
        recording.forget_reading();
        let requests = header.requests.load(Ordering::Acquire);
        recording.slot.get().heard.store(requests, Ordering::Relaxed);
        if requests != recording.answered.replace(requests)
            || tick >= recording.snapshot_due.get()
            || self.may_go_on_taking()
        {
            let taken = self.take_snapshot(cx);
            recording.forget_reading();
            return taken;
        }
        Ok(())
    }

    /// Whether the next slice of a snapshot is to be taken: at once while nothing else is to be done, else once a tick.
    fn may_go_on_taking(&self) -> bool {
        let (recording, ready) = (&self.recording, self.ready.with(|ready| ready.len()));
        recording.taking.get() && (ready == 0 || Clock::Real.tick() != recording.taken.get().1)
    }

    fn take_snapshot(&self, cx: H::Cx<'_>) -> Result<(), H::Abort> {
        let (recording, begun) = (&self.recording, self.now());
        recording.snapshot_due.set(u64::MAX);
        recording.owes_snapshot.set(false);
        let left = H::snapshot(self, cx);
        let cost = recording.taken.get().0 + self.now().saturating_sub(begun);
        let more = *left.as_ref().unwrap_or(&false);
        recording.taking.set(more);
        recording.taken.set((if more { cost } else { 0 }, Clock::Real.tick()));
        if !more {
            // Whatever it costs, it costs a hundredth of the time at the most.
            recording.snapshot_due.set(begun.saturating_add(FIRST_SNAPSHOT.max(100 * cost)));
        }
        left.map(drop)
    }

    /// Takes down what a stamp and the clock say at this moment.
    fn tell_time(&self) {
        let header = &Page::own().header;
        store(&header.moments[1][0], stamp::now());
        store(&header.moments[1][1], Clock::Real.now());
    }

    /// How long the loop may sleep that wanted to for `timeout`: a loop that hangs from its first second on wakes up once, to
    /// say at what. (Who observes it knows; and virtual time stands still.)
    #[inline]
    pub(super) fn until_first_snapshot(&self, timeout: Option<u64>) -> Option<u64> {
        if !ON || !self.recording.owes_snapshot.get() || self.level() == Level::Deep || self.clock.is_virtual() {
            return timeout;
        }
        // By the clock's ticks, which lag behind the clock, it is due somewhat later.
        let left = (self.recording.snapshot_due.get() + LONGEST_TICK).saturating_sub(self.now()).max(LONGEST_TICK);
        Some(timeout.map_or(left, |timeout| timeout.min(left)))
    }

    pub(super) fn record_sleep(&self, next: Option<(u64, u64)>) {
        if !ON {
            return;
        }
        self.observe(Observed::Sleeps(next));
        let (slot, now) = (self.recording.slot.get(), self.now());
        let (since, looked) = (slot.since.load(Ordering::Relaxed), slot.looked.load(Ordering::Relaxed));
        slot.busy.add(now.saturating_sub(since));
        add(&slot.worked, now.saturating_sub(since));
        if looked != 0 && now.saturating_sub(looked) >= SLOW_TURN {
            self.record_slow(now, now - looked);
        }
        slot.late.fade(now);
        slot.busy.fade(now);
        store(&slot.since, now);
        let (steps, quiet_steps) = (self.steps.get(), slot.quiet_steps.load(Ordering::Relaxed));
        if steps != quiet_steps || slot.quiet.load(Ordering::Relaxed) == 0 {
            store(&slot.quiet_steps, steps);
            store(&slot.quiet, now);
        }
        store(&slot.looked, 0);
        add(&slot.sleeps, 1);
        store32(&slot.timers, self.timers.with(|timers| timers.len()));
        slot.set_state(State::Asleep);
        if self.recording.is_flight() {
            self.recording.begun.set(stamp::now());
        }
    }

    pub(super) fn record_awake(&self) {
        if !ON {
            return;
        }
        let (slot, now) = (self.recording.slot.get(), self.now());
        slot.set_state(State::Running);
        watch::ring();
        add(&slot.slept, now.saturating_sub(slot.since.load(Ordering::Relaxed)));
        store(&slot.since, now);
        if self.recording.rings.get() && self.recording.begun.get() != 0 {
            let woken = self.read_stamp();
            self.write(Kind::Sleep, 0, woken, Cause::OUTSIDE, self.recording.begun.replace(0));
        }
        self.observe(Observed::Wakes);
    }

    // --- snapshots ---------------------------------------------------------------------------------------------------

    /// Leaves a text in the page that tells what everything waits for, in answer to the request of this number; the newest
    /// counts. False if there is no room for it (texts of more than [`SNAPSHOT`] bytes, many loops, a full tmpfs).
    pub fn write_snapshot(&self, text: &[u8], answers: u32) -> bool {
        let (page, slot, index) = (Page::own(), self.recording.slot.get(), self.recording.index.get());
        if !ON || index >= SNAPSHOTS || text.len() > SNAPSHOT {
            return false;
        }
        let first = slot.snapshots.iter().all(|snapshot| snapshot.length.load(Ordering::Relaxed) == 0);
        if first && !file::reserve(offset_of!(Page, snapshots) + index * 2 * SNAPSHOT, 2 * SNAPSHOT) {
            page.header.missing.fetch_or(2, Ordering::Relaxed);
            return false;
        }
        let next = (slot.newest.load(Ordering::Relaxed) as usize + 1) & 1;
        let about = &slot.snapshots[next];
        about.sequence.fetch_add(1, Ordering::AcqRel);
        for (place, byte) in page.snapshots.0[index][next].iter().zip(text) {
            place.store(*byte, Ordering::Relaxed);
        }
        about.length.store(text.len() as u64, Ordering::Relaxed);
        about.at.store(Clock::Real.now(), Ordering::Relaxed);
        about.sequence.fetch_add(1, Ordering::Release);
        slot.answered.store(answers, Ordering::Relaxed);
        slot.newest.store(next as u32, Ordering::Release);
        true
    }

    /// In the child of a fork: a page of its own.
    pub(super) fn record_after_fork(&self) {
        if ON {
            file::after_fork();
            let (slot, index) = claim(self.remote.id);
            store(&slot.slow_after, self.recording.slow_after.load(Ordering::Relaxed));
            self.recording.slot.set(slot);
            self.recording.index.set(index);
            self.recording.forks.set(fork::count());
            self.recording.pen.begin_anew();
            self.ready.with(|ready| ready.forget_notes());
            // The new page's ring may find no memory.
            if self.recording.rings.get() && !ring::prepare(Page::own()) {
                self.recording.rings.set(false);
                self.set_observed(self.recording.observed.get());
            }
        }
    }
}
