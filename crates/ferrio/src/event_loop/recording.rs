//! The loop under observation: what happens at the levels above [`Level::Pulse`], kept out of the hot functions.

use super::{Due, Engine, Work};
use crate::cause::Cause;
use crate::host::Host;
use crate::recorder::{Level, Observed};
use crate::timers::TimerId;

impl<H: Host> Engine<H> {
    /// How much is recorded.
    pub fn level(&self) -> Level {
        self.level.get()
    }

    /// Changes how much is recorded, from now on.
    pub fn set_level(&self, level: Level) {
        self.level.set(level);
    }

    /// Tells the host, if it wants to know.
    #[inline]
    pub(super) fn observe(&self, event: Observed<'_, H::Job>) {
        if self.level.get() == Level::Deep {
            H::observe(self, event);
        }
    }

    #[cold]
    pub(super) fn record_wake(&self, work: &Work<H::Job>, cause: Cause) {
        self.observe(Observed::Queued(work.job(), cause));
    }

    #[cold]
    pub(super) fn record_begin(&self, number: u64, work: &Work<H::Job>, cause: Cause) {
        self.observe(Observed::Begins(number, work.job(), cause));
    }

    #[cold]
    pub(super) fn record_end(&self, number: u64) {
        self.observe(Observed::Ends(number));
    }

    #[cold]
    pub(super) fn record_timer(&self, when: u64, due: Due<H::Job>) -> TimerId {
        let job = if let Due::Job(job) = &due { Some(job) } else { None };
        self.observe(Observed::TimerSet(self.timers.with(|timers| timers.upcoming()), when, job));
        self.timers.with(|timers| timers.insert(when, due))
    }
}

impl<J> Work<J> {
    fn job(&self) -> Option<&J> {
        match self {
            Work::Host(job) => Some(job),
            Work::Rust(_) => None,
        }
    }
}
