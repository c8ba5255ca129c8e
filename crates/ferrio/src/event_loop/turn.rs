//! Running: the turn, and what is made ready in it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::{Due, Engine, Work};
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
            self.outcome(cx, catch_unwind(AssertUnwindSafe(|| self.run_work::<false>(cx, work, cause))))?;
        }
        self.cause.set(Cause::OUTSIDE);
        Ok(())
    }

    /// The turn's steps, recorded one by one, for as long as that is wanted. How many are left.
    ///
    /// A loop of its own, so that the hot one need not keep anything at hand for whoever records (25 instructions a step).
    #[cold]
    #[inline(never)]
    fn steps_recorded(&self, cx: H::Cx<'_>, mut left: usize) -> Result<usize, H::Abort> {
        while left > 0 && self.recording.is_flight() {
            let Some((work, cause)) = self.ready.with(|ready| ready.pick(left)) else { return Ok(0) };
            left -= 1;
            let number = self.begin_step();
            self.record_begin(number, &work, cause);
            let outcome = catch_unwind(AssertUnwindSafe(|| self.run_work::<true>(cx, work, cause)));
            let result = self.outcome(cx, outcome);
            self.record_end(number, cause);
            result?;
        }
        Ok(left)
    }

    /// The number of the step that begins.
    #[inline(always)]
    fn begin_step(&self) -> u64 {
        let number = self.steps.get() + 1;
        self.steps.set(number);
        self.cause.set(Cause::new(Kind::Step, number));
        self.recording.count_step(number);
        number
    }

    /// A part of its two callers, so that `work` is not handed over through memory (50 instructions a step).
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

    /// What a step has come to. (Catching its panic costs nothing measurable: tables, no code on the good path.)
    #[inline(always)]
    fn outcome(&self, cx: H::Cx<'_>, outcome: std::thread::Result<Result<(), H::Abort>>) -> Result<(), H::Abort> {
        outcome.unwrap_or_else(|panic| {
            H::panicked(self, cx, panic);
            Ok(())
        })
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
        let poller = self.poller()?;
        let busy = self.stopping.get() || !self.ready.with(|ready| ready.is_empty()) || self.recording.is_taking();
        if busy || !self.remote.inbox.is_empty() {
            return poller.wait(Some(0), events);
        }
        let next = self.timers.with(|timers| timers.earliest());
        let deadline = next.map(|(_, when)| when);
        if let (Some(deadline), true, 0) = (deadline, self.clock.is_virtual(), self.elsewhere.get()) {
            poller.wait(Some(0), events)?;
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
            return poller.wait(Some(0), events);
        }
        // (Whoever watches is told of every wait.)
        if self.level() < Level::Deep && self.looks_eagerly(&poller, events)? {
            return Ok(());
        }
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
    fn looks_eagerly(&self, poller: &Poller, events: &mut Vec<Event>) -> io::Result<bool> {
        let eagerness = self.eagerness.get();
        if eagerness <= 0 {
            self.eagerness.set(eagerness + 1);
            return Ok(false);
        }
        match self.alone.get() {
            Alone { token, again: true } if poller.is_still_readable(split(token).0) => {
                events.push(Event { token, readable: true, writable: false });
            }
            _ => poller.wait(Some(0), events)?,
        }
        let found = !events.is_empty();
        self.eagerness.set(match found {
            true if eagerness < EAGER_LOOKS => eagerness + 1,
            true => 0,
            false => -PATIENT_LOOKS,
        });
        Ok(found)
    }

    fn drain_inbox(&self) {
        if !self.remote.inbox.is_empty() {
            let mut messages = self.messages.take();
            self.remote.inbox.drain(&mut messages);
            messages.drain(..).for_each(|(work, cause)| self.enqueue(work, cause));
            self.messages.set(messages);
        }
    }

    fn dispatch(&self, cx: H::Cx<'_>, events: &[Event]) {
        let mut stays = false;
        for event in events {
            let (fd, generation) = split(event.token);
            for direction in [Direction::Read, Direction::Write] {
                let news = if direction == Direction::Read { event.readable } else { event.writable };
                if news {
                    stays = self.tell(cx, fd, generation, direction);
                }
            }
            self.rearm_reported(fd, generation);
        }
        if let [event] = events {
            let alone = stays && event.readable && !event.writable;
            let again = alone && self.alone.get().token == event.token;
            self.alone.set(Alone { token: if alone { event.token } else { NOBODY }, again });
        } else {
            self.alone.set(Alone::default());
        }
        self.cause.set(Cause::OUTSIDE);
    }

    /// Whether somebody is told who will be told again.
    fn tell(&self, cx: H::Cx<'_>, fd: RawFd, generation: u32, direction: Direction) -> bool {
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
                self.enqueue(Work::Host(job), cause);
                return true;
            }
            waiters => waiters,
        };
        for waiter in waiters.into_iter().flat_map(Watcher::into_waiters) {
            self.cause.set(waiter.cause);
            waiter.waker.wake();
        }
        false
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

/// Which descriptor alone had something to be read, of those that are told of as long as they have it.
///
/// One that had it twice in a row (a reader that takes its bytes piece by piece, say) probably has more, and asking for it
/// takes two thirds of asking for all: `epoll_wait` with one socket 440 ns, `poll` of it 300. All are asked for again after
/// [`EAGER_LOOKS`], and whenever it has none.
#[derive(Clone, Copy)]
pub(super) struct Alone {
    /// Its token, or [`NOBODY`].
    token: u64,
    /// It had so in the look before, too.
    again: bool,
}

/// No descriptor's token.
const NOBODY: u64 = u64::MAX;

impl Default for Alone {
    fn default() -> Self {
        Alone { token: NOBODY, again: false }
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
