//! The loop: one [`turn`](Engine::turn) serves callbacks of the host language and Rust futures alike.
//!
//! A turn is asyncio's: ask the operating system (sleeping only if nothing is ready), append what it reports, append
//! the timers that are due, then run what the ready queue held at that moment. What a step makes ready belongs to the
//! next turn. While there is work, a few cheap turns in a row share one question to the operating system.
//!
//! An engine belongs to one thread at a time (it is not `Sync`); its [`Remote`] is for the others. Everything takes
//! `&self`, because a step may call any function of the loop that runs it; the module `short` has the rule that makes
//! this safe.

mod ending;
mod recording;
mod showing;
mod turn;
mod watching;

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use async_task::Runnable;

use crate::cause::Cause;
use crate::clock::Clock;
use crate::descriptors::Descriptors;
use crate::fork;
use crate::host::Host;
use crate::inbox::Inbox;
use crate::poll::{self, Event, Poller};
use crate::pool::Pool;
use crate::ready::{Order, Ready};
use crate::recorder::Observed;
use crate::short::Short;
use crate::task::Canceller;
use crate::timers::{TimerId, Timers};
use recording::Recording;

/// What the ready queue holds.
pub(crate) enum Work<J> {
    /// A callback of the host language.
    Host(J),
    /// One poll of a Rust future.
    Rust(Runnable),
}

/// What another thread leaves in the inbox.
type Message<J> = (Work<J>, Cause);

/// What a timer does when it is due.
pub enum Due<J> {
    /// Makes a callback ready.
    Job(J),
    /// Wakes a Rust future.
    Wake(Waker),
}

/// No descriptor's token.
const NOBODY: u64 = u64::MAX;

/// One event loop.
pub struct Engine<H: Host> {
    /// The language's own state.
    pub host: H,
    clock: Clock,
    /// Gone once the loop is closed.
    poller: Short<Option<Arc<Poller>>>,
    /// In which process that poller was opened: see [`fork`].
    forks: Cell<u32>,
    remote: Arc<Remote<H::Job>>,
    /// Room for what comes out of the inbox.
    messages: Cell<Vec<Message<H::Job>>>,
    ready: Short<Ready<Work<H::Job>>>,
    timers: Short<Timers<Due<H::Job>>>,
    descriptors: Short<Descriptors<H::Job>>,
    events: Cell<Vec<Event>>,
    /// Why whatever runs now runs: it is the cause of all that it makes ready.
    cause: Cell<Cause>,
    /// The number of steps begun so far.
    steps: Cell<u64>,
    recording: Recording,
    /// How many turns ago the operating system was asked, and at which step and tick that was.
    unpolled: Cell<u32>,
    polled_at: Cell<(u64, u64)>,
    /// How many times in a row it had no news, with nothing watched anew meanwhile.
    quiet_looks: Cell<u32>,
    /// Rust tasks that have not ended, in the order in which they were made.
    tasks: Short<BTreeMap<u64, Canceller>>,
    /// The number of Rust tasks made so far.
    born: Cell<u64>,
    /// Threads for calls that block, once there was one.
    pool: OnceCell<Pool>,
    /// How many calls on other threads virtual time has to wait for.
    elsewhere: Cell<usize>,
    /// The number of waits for descriptors begun so far.
    waits: Cell<u64>,
    stopping: Cell<bool>,
    /// How many looks in a row found news at once; or, below zero, how many waits must go by before the next such look.
    eagerness: Cell<i32>,
    /// The token of the descriptor that alone had something to be read in the last look, of those that are told of as long
    /// as they have it; or [`NOBODY`].
    alone: Cell<u64>,
    /// The same, if it had so in the look before, too. Such a one (a reader that takes its bytes piece by piece, say)
    /// probably has more, and asking for it takes two thirds of asking for all: `epoll_wait` with one socket 440 ns, `poll`
    /// of it 300. All are asked for again after some such looks, and whenever it has none.
    alone_again: Cell<u64>,
    /// For how many nanoseconds a wait goes on asking before it sleeps.
    spin: Cell<u64>,
}

/// The half of a loop that other threads may touch.
pub struct Remote<J> {
    /// No other loop of the process has it.
    pub(crate) id: u64,
    inbox: Inbox<Message<J>>,
    /// Gone once the loop is closed: nobody listens any more. Locked only to wake a sleeping loop.
    waker: Mutex<Option<poll::Waker>>,
}

impl<J: Send + 'static> Remote<J> {
    /// Makes `job` ready, from any thread, and wakes the loop if it sleeps.
    pub fn soon(&self, job: J, cause: Cause) {
        self.post(Work::Host(job), cause);
    }

    pub(crate) fn post(&self, work: Work<J>, cause: Cause) {
        if self.inbox.push((work, cause))
            && let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner)
        {
            waker.wake();
        }
    }
}

impl<H: Host> Engine<H> {
    /// A loop with nothing to do.
    pub fn new(host: H, clock: Clock, order: Order) -> io::Result<Self> {
        fork::watch_forks();
        let poller = Poller::new()?;
        static LOOPS: AtomicU64 = AtomicU64::new(0);
        let id = LOOPS.fetch_add(1, Ordering::Relaxed);
        let remote = Arc::new(Remote { id, inbox: Inbox::default(), waker: Mutex::new(Some(poller.waker())) });
        Ok(Engine {
            host,
            clock,
            poller: Short::new(Some(Arc::new(poller))),
            forks: Cell::new(fork::count()),
            remote,
            messages: Cell::default(),
            ready: Short::new(Ready::new(order)),
            timers: Short::default(),
            descriptors: Short::default(),
            events: Cell::default(),
            cause: Cell::new(Cause::OUTSIDE),
            steps: Cell::new(0),
            recording: Recording::new(id),
            unpolled: Cell::new(0),
            polled_at: Cell::default(),
            quiet_looks: Cell::new(0),
            tasks: Short::default(),
            born: Cell::new(0),
            pool: OnceCell::new(),
            elsewhere: Cell::new(0),
            waits: Cell::new(0),
            stopping: Cell::new(false),
            eagerness: Cell::new(0),
            alone: Cell::new(NOBODY),
            alone_again: Cell::new(NOBODY),
            spin: Cell::new(0),
        })
    }

    // --- the ready queue -------------------------------------------------------------------------------------------

    /// Makes `job` ready for the next turn; its cause is whatever runs now.
    #[inline(always)]
    pub fn soon(&self, job: H::Job) {
        self.enqueue(Work::Host(job), self.cause.get());
    }

    /// Makes `job` ready for the next turn with a cause that the caller knows better.
    pub fn soon_because(&self, job: H::Job, cause: Cause) {
        self.enqueue(Work::Host(job), cause);
    }

    /// The one way in: behind what other threads have left before. A part of its callers, so that `work` is not handed over
    /// through memory (6 ns a step).
    #[inline(always)]
    pub(crate) fn enqueue(&self, work: Work<H::Job>, cause: Cause) {
        self.ready.with(|ready| ready.push(work, cause));
        // Only then, and of what is in the queue: nothing of `work` is kept at hand for the inbox, or for whoever records.
        if !self.remote.inbox.is_empty() {
            self.let_inbox_pass();
        }
        if self.recording.is_flight() {
            self.record_queued();
        }
    }

    /// As [`enqueue`](Self::enqueue), for what comes out of the inbox.
    fn push(&self, work: Work<H::Job>, cause: Cause) {
        self.ready.with(|ready| ready.push(work, cause));
        if self.recording.is_flight() {
            self.record_queued();
        }
    }

    /// What other threads have left comes before the newest entry.
    #[cold]
    #[inline(never)]
    fn let_inbox_pass(&self) {
        let newest = self.ready.with(|ready| ready.take_newest());
        self.drain_inbox();
        if let Some((work, cause)) = newest {
            self.ready.with(|ready| ready.push(work, cause));
        }
    }

    /// How many entries are ready.
    pub fn ready_len(&self) -> usize {
        self.ready.with(|ready| ready.len())
    }

    /// Whether nothing is ready and nobody has asked the loop to stop.
    pub fn is_idle(&self) -> bool {
        !self.stopping.get() && self.ready.with(|ready| ready.is_empty()) && self.remote.inbox.is_empty()
    }

    /// Whether the operating system was asked for news a moment ago: less than a few milliseconds.
    pub fn has_looked_lately(&self) -> bool {
        self.clock.tick() == self.polled_at.get().1
    }

    /// What other threads need to reach this loop.
    pub fn remote(&self) -> &Arc<Remote<H::Job>> {
        &self.remote
    }

    /// Why whatever runs now runs.
    pub fn cause(&self) -> Cause {
        self.cause.get()
    }

    /// How many steps have begun.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    // --- time ------------------------------------------------------------------------------------------------------

    /// The loop's clock, in nanoseconds.
    #[inline]
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether waiting is skipped by jumping ahead.
    pub fn clock_is_virtual(&self) -> bool {
        self.clock.is_virtual()
    }

    /// Something goes on outside of the loop (a thread, a child process) whose end it will hear of: virtual time stands
    /// still until [`let_clock_go`](Self::let_clock_go).
    pub fn hold_clock(&self) {
        self.elsewhere.set(self.elsewhere.get() + 1);
    }

    /// It has ended.
    pub fn let_clock_go(&self) {
        self.elsewhere.set(self.elsewhere.get().saturating_sub(1));
    }

    /// For how many nanoseconds a wait goes on asking the operating system before it sleeps; 0, as at first, for not at
    /// all. Asking saves the time that falling asleep and waking up take, and costs the CPU time that it lasts.
    pub fn set_spin(&self, nanoseconds: u64) {
        self.spin.set(nanoseconds);
    }

    /// What [`set_spin`](Self::set_spin) was told.
    pub fn spin(&self) -> u64 {
        self.spin.get()
    }

    /// Sets a timer for `when` (nanoseconds of the loop's clock).
    #[inline]
    pub fn timer(&self, when: u64, due: Due<H::Job>) -> TimerId {
        if self.recording.is_flight() {
            return self.record_timer(when, due);
        }
        self.timers.with(|timers| timers.insert(when, due))
    }

    /// Cancels a timer. `None` if it has fired or was cancelled before.
    #[must_use = "dropping the value may run foreign code: do it where that is allowed"]
    pub fn cancel_timer(&self, id: TimerId) -> Option<Due<H::Job>> {
        let due = self.timers.with(|timers| timers.remove(id))?;
        self.observe(Observed::TimerGone(id.sequence()));
        Some(due)
    }

    // --- Rust tasks ------------------------------------------------------------------------------------------------

    pub(crate) fn new_task_number(&self) -> u64 {
        self.born.replace(self.born.get() + 1)
    }

    pub(crate) fn adopt_task(&self, number: u64, task: Canceller) {
        self.tasks.with(|tasks| tasks.insert(number, task));
    }

    pub(crate) fn disown_task(&self, number: u64) {
        let task = self.tasks.with(|tasks| tasks.remove(&number));
        drop(task);
    }

    /// Cancels every Rust task that has not ended, eldest first. False if there is none.
    pub(crate) fn cancel_tasks(&self) -> bool {
        let tasks: Vec<_> = self.tasks.with(|tasks| tasks.values().cloned().collect());
        tasks.iter().for_each(Canceller::cancel);
        !tasks.is_empty()
    }

    pub(crate) fn blocking(&self) -> &Pool {
        self.pool.get_or_init(Pool::default)
    }

    /// Waits for the calls that still run on the loop's threads and ends the threads.
    pub(crate) fn join_threads(&self) {
        if let Some(pool) = self.pool.get() {
            pool.shutdown();
        }
    }
}
