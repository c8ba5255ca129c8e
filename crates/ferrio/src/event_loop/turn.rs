//! Running: the turn, and what is made ready in it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::{Due, Engine, NOBODY, Work};
use crate::cause::{Cause, Kind};
use crate::descriptors::{Direction, Watcher, split};
use crate::host::Host;
use crate::inbox::Inbox;
use crate::poll::{Event, Poller, RawFd};
use crate::recorder::{Level, Observed};
use crate::task::{self};

/// How many turns may go by without a look at the operating system while there is work. A look is a system call (120 ns),
/// as much as a cheap turn. Only where descriptors are quiet: a program that yields twice (`sleep(0)`) so that I/O can
/// happen is right to expect it.
const UNPOLLED_TURNS: u32 = 32;

/// Descriptors are quiet when none was watched anew or had news within so many looks.
const QUIET_LOOKS: u32 = 64;

/// With more steps than these since the last look another one is small change. Slow steps are looked after by
/// [`Clock::tick`](crate::clock::Clock::tick): news never waits longer than a tick and a step.
const UNPOLLED_STEPS: u64 = 64;

/// After so many looks in a row that found news without letting go of the interpreter, other threads get their chance.
const EAGER_LOOKS: i32 = 8;

/// After a look in vain, so many waits go by before the next such look.
const PATIENT_LOOKS: i32 = 16;

/// Nanoseconds; a turn of looking at the clock and the descriptors takes 200.
const SHORTEST_SLEEP: u64 = 5_000;

impl<H: Host> Engine<H> {
    /// Turns until [`stop`](Self::stop): at least once, and the turn in which `stop` was called to its end.
    ///
    /// # Errors
    /// What a step has raised to end the run; everything else stays queued, and the loop can run again.
    pub fn run(&self, cx: H::Cx<'_>) -> Result<(), H::Abort> {
        let _current = task::Current::enter(self);
        // The first turn of a run looks.
        self.unpolled.set(UNPOLLED_TURNS);
        self.record_run();
        let result = loop {
            if let Err(abort) = self.turn(cx) {
                break Err(abort);
            }
            if self.stopping.get() {
                break Ok(());
            }
        };
        self.stopping.set(false);
        H::settle(self, cx);
        self.recording.idle(self.now());
        result
    }

    /// Ends the run after the present turn, or the next run after one turn.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// Poll, then I/O, then due timers, then a snapshot of what is ready.
    pub fn turn(&self, cx: H::Cx<'_>) -> Result<(), H::Abort> {
        if self.may_put_off_poll() {
            self.unpolled.set(self.unpolled.get() + 1);
            H::settle(self, cx);
            self.drain_inbox();
        } else {
            self.poll(cx)?;
            self.unpolled.set(0);
            let tick = self.clock.tick();
            self.polled_at.set((self.steps.get(), tick));
            self.record_look(cx, tick)?;
        }
        self.recording.count_turn();
        self.fire_timers();
        let mut left = self.ready_len();
        while left > 0 {
            if self.recording.is_flight() {
                left = self.steps_recorded(cx, left)?;
                continue;
            }
            let Some((work, cause)) = self.ready.with(|ready| ready.pick(left)) else { break };
            left -= 1;
            self.begin_step();
            self.step::<false>(cx, work, cause)?;
        }
        self.cause.set(Cause::OUTSIDE);
        Ok(())
    }

    /// The turn's steps, recorded one by one, for as long as that is wanted. How many are left.
    ///
    /// A loop of its own, so that the hot one need not keep anything at hand for whoever records (25 instructions a step). Its
    /// own hot way asks for the subject of the next step while that is still in the queue, and keeps as little at hand.
    #[cold]
    #[inline(never)]
    fn steps_recorded(&self, cx: H::Cx<'_>, mut left: usize) -> Result<usize, H::Abort> {
        while left > 0 && self.recording.is_flight() {
            let (subject, number) = match self.next_subject() {
                Some(subject) => (Some(subject), self.begin_step()),
                None => match self.tell_next(left) {
                    Some(told) => told,
                    None => return Ok(0),
                },
            };
            let Some((work, cause)) = self.ready.with(|ready| ready.pick(1)) else { return Ok(0) };
            left -= 1;
            if let Some(subject) = subject {
                self.record_begin(subject);
            }
            let result = self.step::<true>(cx, work, cause);
            self.record_end(number, cause);
            result?;
        }
        Ok(left)
    }

    /// The number of the step that begins.
    #[inline(always)]
    pub(super) fn begin_step(&self) -> u64 {
        let number = self.steps.get() + 1;
        self.steps.set(number);
        self.cause.set(Cause::new(Kind::Step, number));
        self.recording.count_step(number);
        number
    }

    /// Runs what was picked. (Catching its panic costs nothing measurable: tables, no code on the good path. What ends the
    /// run is boxed: an error is seven words, which would be moved where all is well, too.)
    ///
    /// A part of its callers, so that `work` is not handed over through memory (50 instructions a step).
    #[inline(always)]
    fn step<const RECORDED: bool>(&self, cx: H::Cx<'_>, work: Work<H::Job>, cause: Cause) -> Result<(), H::Abort> {
        let run = || self.run_work::<RECORDED>(cx, work, cause).err().map(Box::new);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(None) => Ok(()),
            Ok(Some(abort)) => Err(*abort),
            Err(panic) => {
                H::panicked(self, cx, panic);
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn run_work<const RECORDED: bool>(&self, cx: H::Cx<'_>, work: Work<H::Job>, cause: Cause) -> Result<(), H::Abort> {
        match work {
            Work::Host(job) if RECORDED => H::run_recorded(self, cx, job, cause),
            Work::Host(job) => H::run(self, cx, job, cause),
            Work::Rust(runnable) => {
                runnable.run();
                Ok(())
            }
        }
    }

    /// Whether this turn may do without a look at the operating system: there is work, and the last look was a moment ago.
    #[inline]
    fn may_put_off_poll(&self) -> bool {
        let (step, tick) = self.polled_at.get();
        self.quiet_looks.get() >= QUIET_LOOKS
            && self.unpolled.get() < UNPOLLED_TURNS
            && self.steps.get() - step < UNPOLLED_STEPS
            && !self.stopping.get()
            && !self.ready.with(|ready| ready.is_empty())
            && self.clock.tick() == tick
    }

    fn poll(&self, cx: H::Cx<'_>) -> Result<(), H::Abort> {
        H::settle(self, cx);
        let mut events = self.events.take();
        self.recording.forget_reading();
        let waited = self.wait(cx, &mut events);
        self.drain_inbox();
        self.quiet_looks.set(if events.is_empty() { self.quiet_looks.get().saturating_add(1) } else { 0 });
        if waited.is_ok() {
            self.dispatch(cx, &events);
        }
        events.clear();
        self.events.set(events);
        waited.or_else(|error| H::wait_failed(self, cx, error))
    }

    fn wait(&self, cx: H::Cx<'_>, events: &mut Vec<Event>) -> io::Result<()> {
        self.notice_fork()?;
        let busy = self.stopping.get() || !self.ready.with(|ready| ready.is_empty()) || self.recording.is_taking();
        if busy || !self.remote.inbox.is_empty() {
            return self.look(events);
        }
        let next = self.timers.with(|timers| timers.earliest());
        let deadline = next.map(|(_, when)| when);
        if let (Some(deadline), true, 0) = (deadline, self.clock.is_virtual(), self.elsewhere.get()) {
            self.look(events)?;
            if events.is_empty() && self.remote.inbox.is_empty() {
                self.observe(Observed::Sleeps(next));
                self.clock.jump_to(deadline);
                self.observe(Observed::Wakes);
            }
            return Ok(());
        }
        // Virtual time stands still here: its timers cannot end the wait, only another thread or a descriptor can.
        let deadline = deadline.filter(|_| !self.clock.is_virtual());
        let timeout = deadline.map(|deadline| deadline.saturating_sub(self.now()));
        // A wait shorter than falling asleep and waking up takes (18 us of CPU for a timer of 1 us) is spent awake.
        if timeout.is_some_and(|timeout| timeout <= SHORTEST_SLEEP) {
            return self.look(events);
        }
        // (Whoever watches is told of every wait.)
        if self.level() < Level::Deep && self.looks_eagerly(events)? {
            return Ok(());
        }
        let timeout = self.until_first_snapshot(timeout);
        let poller = self.poller()?;
        let inbox = &self.remote.inbox;
        let spin = timeout.map_or(self.spin.get(), |timeout| timeout.min(self.spin.get()));
        self.record_sleep(next);
        let waited = H::park(cx, || {
            if spin > 0 && ask_again(&poller, inbox, Duration::from_nanos(spin), events)? {
                return Ok(());
            }
            if !inbox.fall_asleep() {
                return poller.wait(Some(0), events);
            }
            let waited = poller.wait(timeout.map(|timeout| timeout - spin), events);
            inbox.wake_up();
            waited
        });
        self.record_awake();
        waited
    }

    /// A loop with many busy descriptors need not sleep: whether a look finds news at once. It saves the host letting go
    /// of its language and taking hold of it again (80 ns in Python), and costs a system call where there is none.
    fn looks_eagerly(&self, events: &mut Vec<Event>) -> io::Result<bool> {
        let eagerness = self.eagerness.get();
        if eagerness <= 0 {
            self.eagerness.set(eagerness + 1);
            return Ok(false);
        }
        match self.alone_again.get() {
            token if token != NOBODY && self.is_still_readable(split(token).0) => {
                events.push(Event { token, readable: true, writable: false });
            }
            _ => self.look(events)?,
        }
        let found = !events.is_empty();
        self.eagerness.set(match found {
            true if eagerness < EAGER_LOOKS => eagerness + 1,
            true => 0,
            false => -PATIENT_LOOKS,
        });
        Ok(found)
    }

    /// Makes ready what other threads have left.
    pub(super) fn drain_inbox(&self) {
        if !self.remote.inbox.is_empty() {
            let mut messages = self.messages.take();
            self.remote.inbox.drain(&mut messages);
            messages.drain(..).for_each(|(work, cause)| self.push(work, cause));
            self.messages.set(messages);
        }
    }

    fn dispatch(&self, cx: H::Cx<'_>, events: &[Event]) {
        let mut alone = NOBODY;
        for event in events {
            if self.tell_reader(cx, event) {
                alone = event.token;
                continue;
            }
            let (fd, generation) = split(event.token);
            if event.readable {
                self.tell(cx, fd, generation, Direction::Read);
            }
            if event.writable {
                self.tell(cx, fd, generation, Direction::Write);
            }
            self.rearm_reported(fd, generation);
        }
        if events.len() != 1 {
            alone = NOBODY;
        }
        let again = self.alone.replace(alone) == alone;
        self.alone_again.set(if again { alone } else { NOBODY });
        self.cause.set(Cause::OUTSIDE);
    }

    /// The way of nearly all news: there is something to read, and a job that is told so always is all that watches.
    #[inline]
    fn tell_reader(&self, cx: H::Cx<'_>, event: &Event) -> bool {
        if !event.readable || event.writable {
            return false;
        }
        let (fd, generation) = split(event.token);
        let told = self.descriptors.with(|all| {
            let slot = all.get(fd).filter(|slot| slot.generation == generation)?;
            slot.only_reader().map(|job| H::again(cx, job))
        });
        let Some(job) = told else { return false };
        self.enqueue(Work::Host(job), Cause::descriptor(fd as i64, false));
        true
    }

    fn tell(&self, cx: H::Cx<'_>, fd: RawFd, generation: u32, direction: Direction) {
        let cause = Cause::descriptor(fd as i64, direction == Direction::Write);
        let told = self.descriptors.with(|all| {
            let slot = all.get(fd).filter(|slot| slot.generation == generation)?;
            match slot.watcher(direction)? {
                Watcher::Always(job) => Some(Watcher::Always(H::again(cx, job))),
                Watcher::Once(..) => slot.replace(direction, None),
            }
        });
        // Out of the borrow: who observes the loop hears of it, and may look at what is watched.
        let waiters = match told {
            Some(Watcher::Always(job)) => {
                return self.enqueue(Work::Host(job), cause);
            }
            waiters => waiters,
        };
        for waiter in waiters.into_iter().flat_map(Watcher::into_waiters) {
            self.cause.set(waiter.cause);
            waiter.waker.wake();
        }
    }

    fn fire_timers(&self) {
        if self.timers.with(|timers| timers.is_empty()) {
            return;
        }
        let now = self.now();
        while let Some((id, when, due)) = self.timers.with(|timers| timers.pop_due(now)) {
            let cause = Cause::new(Kind::Timer, id.sequence());
            self.recording.count_late(now.saturating_sub(when));
            match due {
                Due::Job(job) => self.enqueue(Work::Host(job), cause),
                Due::Wake(waker) => {
                    self.cause.set(cause);
                    waker.wake();
                }
            }
        }
        self.cause.set(Cause::OUTSIDE);
    }
}

/// Asks the operating system for `time`, again and again, instead of sleeping: whether it has news, or another thread.
fn ask_again<T>(poller: &Poller, inbox: &Inbox<T>, time: Duration, events: &mut Vec<Event>) -> io::Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        poller.wait(Some(0), events)?;
        if !events.is_empty() || !inbox.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
