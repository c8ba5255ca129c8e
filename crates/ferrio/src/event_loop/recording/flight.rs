//! The flight: each wake-up and each step of a loop, written into the ring ([`ring`]) or told to the host.
//!
//! Nothing of a job is moved, and nothing looked up twice, on the way of a known subject: what was found out when it was made
//! ready is noted in the ready queue, and is all that its step's record needs.

use std::sync::atomic::Ordering;

use super::Recording;
use crate::cause::Cause;
use crate::event_loop::{Due, Engine, Work};
use crate::host::Host;
use crate::recorder::page::State;
use crate::recorder::ring::{self, Kind};
use crate::recorder::{Level, Observed, Title, stamp};
use crate::timers::TimerId;

impl<H: Host> Engine<H> {
    /// The job's subject is over: another may have its key.
    #[inline(never)]
    pub fn forget_subject(&self, key: u64) {
        let Recording { pen, rings, subject, begun, is_last, .. } = &self.recording;
        match pen.forget(key) {
            0 => {}
            known if known == subject.get() && begun.get() != 0 => is_last.set(true),
            known if rings.get() => self.record_over(known),
            _ => {}
        }
    }

    /// A subject is over that does not run.
    #[cold]
    #[inline(never)]
    fn record_over(&self, subject: u64) {
        self.write(Kind::End, subject, 0, self.cause.get(), self.moment());
    }

    #[inline]
    pub(super) fn write(&self, kind: Kind, subject: u64, word: u64, cause: Cause, begun: u64) {
        let Recording { pen, page, index, .. } = &self.recording;
        pen.write(page, ring::about(kind, index.get(), subject), word, cause, begun);
    }

    /// The time of what begins or happens now. A reading of the counter is half of what a record costs, so there is one a
    /// step, at its end; what happens within the step has the time of its beginning.
    #[inline]
    fn moment(&self) -> u64 {
        match self.recording.read.get() {
            0 => self.read_stamp(),
            read => read,
        }
    }

    #[inline]
    pub(super) fn read_stamp(&self) -> u64 {
        let now = stamp::now();
        // Outside of a run nothing says how much time has gone by.
        if self.recording.slot.get().state.load(Ordering::Relaxed) == State::Running as u32 {
            self.recording.read.set(now);
        }
        now
    }

    fn title(&self, work: &Work<H::Job>) -> Title {
        work.job().map(|job| H::title(job).unwrap_or_else(|| H::asked_title(job))).unwrap_or_default()
    }

    /// The subject that the next record is about, and the word that tells its name.
    fn introduce(&self, key: u64, title: Title, work: &Work<H::Job>) -> (u64, u64) {
        let name = || work.job().map_or_else(|| "a Rust future".to_owned(), H::name);
        self.recording.pen.introduce(self.recording.page, key, title, name)
    }

    /// The subject of what begins to run, if the ring knows what it is called.
    fn beginning(&self, work: &Work<H::Job>) -> Option<u64> {
        let stamp = || work.job().map_or(0, H::name_stamp);
        self.recording.pen.begins(self.recording.page, key::<H>(work), stamp)
    }

    /// The subject of the next step, if that was found out when it was made ready, and is called now what it was called then.
    #[inline(always)]
    pub(in crate::event_loop) fn next_subject(&self) -> Option<u64> {
        self.ready.with(|ready| {
            let (subject, stamp) = ready.take_note()?;
            if stamp != 0 && stamp != ready.first()?.0.job().map_or(0, H::name_stamp) {
                return None;
            }
            Some(subject)
        })
    }

    /// Has the ring know what the subject of what begins to run is called.
    #[cold]
    fn name(&self, work: &Work<H::Job>) -> u64 {
        let title = Title { stamp: 0, ..self.title(work) };
        let (subject, name) = self.introduce(key::<H>(work), title, work);
        self.write(Kind::Name, subject, name, Cause::OUTSIDE, self.moment());
        subject
    }

    /// The newest entry of the ready queue has just got there.
    #[cold]
    #[inline(never)]
    pub(in crate::event_loop) fn record_queued(&self) {
        if self.level() == Level::Deep {
            return self.record_newest();
        }
        let (pen, page) = (&self.recording.pen, self.recording.page);
        // Subject and name, as far as they are known without a call of the host's language.
        let known = self.ready.with(|ready| {
            let (work, cause) = ready.newest()?;
            let (key, cause) = (key::<H>(work), *cause);
            let (subject, name, stamp) = pen.wakes(page, key, || H::title(work.job()?))?;
            ready.note((subject, stamp));
            Some((subject, name, cause))
        });
        match known {
            Some((subject, name, cause)) => self.write(Kind::Wake, subject, name, cause, self.moment()),
            None => self.record_newest(),
        }
    }

    #[cold]
    #[inline(never)]
    fn record_newest(&self) {
        // Out of the queue while it is told of, or named: whoever is called then may call the loop.
        if let Some((work, cause)) = self.ready.with(|ready| ready.take_newest()) {
            self.observe(Observed::Queued(work.job(), cause));
            let mut note = None;
            if self.recording.rings.get() {
                let key = key::<H>(&work);
                let known = self.recording.pen.wakes(self.recording.page, key, || None);
                let (subject, name, stamp) = known.unwrap_or_else(|| {
                    let title = self.title(&work);
                    let (subject, name) = self.introduce(key, title, &work);
                    (subject, name, title.stamp)
                });
                self.write(Kind::Wake, subject, name, cause, self.moment());
                note = Some((subject, stamp));
            }
            // (The level may be another by now.)
            let note = note.filter(|_| self.level() == Level::Flight);
            self.ready.with(|ready| {
                ready.push(work, cause);
                match note {
                    Some(note) => ready.note(note),
                    None => ready.forget_notes(),
                }
            });
        }
    }

    /// A step of this subject begins.
    #[inline(always)]
    pub(in crate::event_loop) fn record_begin(&self, subject: u64) {
        self.recording.subject.set(subject);
        self.recording.begun.set(self.moment());
    }

    /// Begins the step of one of the first `among` entries, which may be to be told to others than the ring, or may have no
    /// name yet: it is the first of all then. Returns its subject, if there is a ring, and the step's number.
    ///
    /// (It goes back into the queue because a reference to it would keep it in memory on the hot way, too.)
    #[cold]
    #[inline(never)]
    pub(in crate::event_loop) fn tell_next(&self, among: usize) -> Option<(Option<u64>, u64)> {
        // Out of the queue meanwhile: whoever is called may call the loop.
        let (work, cause) = self.ready.with(|ready| ready.pick(among))?;
        let number = self.begin_step();
        self.observe(Observed::Begins(number, work.job(), cause));
        let subject = || self.beginning(&work).unwrap_or_else(|| self.name(&work));
        let subject = self.recording.rings.get().then(subject);
        self.ready.with(|ready| ready.put_back(work, cause));
        Some((subject, number))
    }

    #[inline(always)]
    pub(in crate::event_loop) fn record_end(&self, number: u64, cause: Cause) {
        if self.recording.level.get() == Level::Deep {
            self.observe(Observed::Ends(number));
        }
        let Recording { rings, subject, begun, is_last, .. } = &self.recording;
        let kind = if is_last.take() { Kind::LastStep } else { Kind::Step };
        if rings.get() && begun.get() != 0 {
            let ended = self.read_stamp();
            let word = ring::step_word(number, ended.saturating_sub(begun.get()));
            self.write(kind, subject.get(), word, cause, begun.replace(0));
        }
    }

    #[inline(never)]
    pub(in crate::event_loop) fn record_timer(&self, when: u64, due: Due<H::Job>) -> TimerId {
        let job = if let Due::Job(job) = &due { Some(job) } else { None };
        let number = self.timers.with(|timers| timers.upcoming());
        self.observe(Observed::TimerSet(number, when, job));
        if self.recording.rings.get() {
            // (A reading of its own: a deadline is told from the moment at which it was set.)
            self.write(Kind::Timer, number, when, self.cause.get(), stamp::now());
        }
        self.timers.with(|timers| timers.insert(when, due))
    }
}

/// What tells its subject from others.
#[inline(always)]
fn key<H: Host>(work: &Work<H::Job>) -> u64 {
    match work {
        Work::Host(job) => H::key(job),
        Work::Rust(_) => 0,
    }
}

impl<J> Work<J> {
    #[inline]
    fn job(&self) -> Option<&J> {
        match self {
            Work::Host(job) => Some(job),
            Work::Rust(_) => None,
        }
    }
}
