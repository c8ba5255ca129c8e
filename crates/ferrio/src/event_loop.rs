//! The loop: one [`turn`](Engine::turn) serves callbacks of the host language and Rust futures alike.
//!
//! A turn is asyncio's: ask the operating system (sleeping only if nothing is ready), append what it reports, append
//! the timers that are due, then run what the ready queue held at that moment. What a step makes ready belongs to the
//! next turn.
//!
//! An engine belongs to one thread at a time (it is not `Sync`); its [`Remote`] is for the others. Everything takes
//! `&self`, because a step may call any function of the loop that runs it; the module `short` has the rule that makes
//! this safe.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use async_task::Runnable;

use crate::cause::{Cause, Kind};
use crate::clock::Clock;
use crate::descriptors::{Descriptors, Direction, Slot, WaitId, Waiter, Watcher, split, token};
use crate::fork;
use crate::host::Host;
use crate::inbox::Inbox;
use crate::poll::{self, Event, Interest, Mode, Poller, RawFd};
use crate::pool::Pool;
use crate::ready::{Order, Ready};
use crate::short::Short;
use crate::task::{self, Canceller};
use crate::timers::{TimerId, Timers};

/// What the ready queue holds.
pub(crate) enum Work<J> {
    /// A callback of the host language.
    Host(J),
    /// One poll of a Rust future.
    Rust(Runnable),
}

/// What a timer does when it is due.
pub enum Due<J> {
    /// Makes a callback ready.
    Job(J),
    /// Wakes a Rust future.
    Wake(Waker),
}

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
    ready: Short<Ready<Work<H::Job>>>,
    timers: Short<Timers<Due<H::Job>>>,
    descriptors: Short<Descriptors<H::Job>>,
    events: Cell<Vec<Event>>,
    /// Why whatever runs now runs: it is the cause of all that it makes ready.
    cause: Cell<Cause>,
    /// The number of steps begun so far.
    steps: Cell<u64>,
    /// Rust tasks that have not ended, in the order in which they were made.
    tasks: Short<BTreeMap<u64, Canceller>>,
    /// The number of Rust tasks made so far.
    born: Cell<u64>,
    /// Threads for calls that block, once there was one.
    pool: OnceCell<Pool>,
    /// How many calls on other threads virtual time has to wait for.
    pub(crate) elsewhere: Cell<usize>,
    /// The number of waits for descriptors begun so far.
    waits: Cell<u64>,
    stopping: Cell<bool>,
}

/// The half of a loop that other threads may touch.
pub struct Remote<J> {
    /// No other loop of the process has it.
    pub(crate) id: u64,
    inbox: Inbox<(Work<J>, Cause)>,
    /// Gone once the loop is closed: nobody listens any more. Locked only to wake a sleeping loop.
    waker: Mutex<Option<poll::Waker>>,
}

impl<J: Send + 'static> Remote<J> {
    /// Makes `job` ready, from any thread, and wakes the loop if it sleeps.
    pub fn soon(&self, job: J, cause: Cause) {
        self.post(Work::Host(job), cause);
    }

    /// Wakes the loop if it sleeps, with nothing to do: it looks again at what is due.
    pub fn nudge(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
    }

    pub(crate) fn post(&self, work: Work<J>, cause: Cause) {
        if self.inbox.push((work, cause)) {
            self.nudge();
        }
    }
}

impl<H: Host> Engine<H> {
    /// A loop with nothing to do.
    pub fn new(host: H, clock: Clock, order: Order) -> io::Result<Self> {
        fork::watch_forks();
        let poller = Poller::new()?;
        static LOOPS: AtomicU64 = AtomicU64::new(0);
        let remote = Arc::new(Remote {
            id: LOOPS.fetch_add(1, Ordering::Relaxed),
            inbox: Inbox::default(),
            waker: Mutex::new(Some(poller.waker())),
        });
        Ok(Engine {
            host,
            clock,
            poller: Short::new(Some(Arc::new(poller))),
            forks: Cell::new(fork::count()),
            remote,
            ready: Short::new(Ready::new(order)),
            timers: Short::default(),
            descriptors: Short::default(),
            events: Cell::default(),
            cause: Cell::new(Cause::OUTSIDE),
            steps: Cell::new(0),
            tasks: Short::default(),
            born: Cell::new(0),
            pool: OnceCell::new(),
            elsewhere: Cell::new(0),
            waits: Cell::new(0),
            stopping: Cell::new(false),
        })
    }

    // --- the ready queue -------------------------------------------------------------------------------------------

    /// Makes `job` ready for the next turn; its cause is whatever runs now.
    #[inline]
    pub fn soon(&self, job: H::Job) {
        self.enqueue(Work::Host(job), self.cause.get());
    }

    /// Makes `job` ready for the next turn with a cause that the caller knows better.
    pub fn soon_because(&self, job: H::Job, cause: Cause) {
        self.enqueue(Work::Host(job), cause);
    }

    /// The one way in.
    #[inline]
    pub(crate) fn enqueue(&self, work: Work<H::Job>, cause: Cause) {
        self.ready.with(|ready| ready.push(work, cause));
    }

    /// How many entries are ready.
    pub fn ready_len(&self) -> usize {
        self.ready.with(|ready| ready.len())
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

    /// Sets a timer for `when` (nanoseconds of the loop's clock).
    pub fn timer(&self, when: u64, due: Due<H::Job>) -> TimerId {
        self.timers.with(|timers| timers.insert(when, due))
    }

    /// Cancels a timer. `None` if it has fired or was cancelled before.
    #[must_use = "dropping the value may run foreign code: do it where that is allowed"]
    pub fn cancel_timer(&self, id: TimerId) -> Option<Due<H::Job>> {
        self.timers.with(|timers| timers.remove(id))
    }

    // --- descriptors -----------------------------------------------------------------------------------------------

    /// Runs `job` on every turn in which `fd` has news, until [`unwatch`](Self::unwatch); replaces and returns the
    /// job that did so before. Futures that waited are woken, to find out that a job watches now.
    ///
    /// # Errors
    /// The operating system's, if it cannot watch `fd` (EBADF, EPERM for a regular file).
    pub fn watch(&self, fd: RawFd, direction: Direction, job: H::Job) -> io::Result<Option<H::Job>> {
        Ok(match self.set_watcher(fd, direction, Watcher::Always(job))? {
            Some(Watcher::Always(job)) => Some(job),
            Some(waiters) => {
                wake_all(waiters);
                None
            }
            None => None,
        })
    }

    /// Wakes `waker` the next time `fd` has news, together with whoever else waits for it.
    ///
    /// # Errors
    /// The operating system's, if it cannot watch `fd`; `AlreadyExists` if a job watches it.
    pub fn wake_on(&self, fd: RawFd, direction: Direction, waker: Waker) -> io::Result<()> {
        self.join_wait(fd, direction, waker).map(drop)
    }

    /// As [`wake_on`](Self::wake_on), with a name for the wait, so that [`leave_wait`](Self::leave_wait) can end it.
    pub fn join_wait(&self, fd: RawFd, direction: Direction, waker: Waker) -> io::Result<WaitId> {
        self.notice_fork()?;
        let id = WaitId(self.waits.get());
        self.waits.set(id.0 + 1);
        let mut waiter = Some(Waiter { id, waker });
        let joined = self.descriptors.with(|all| {
            let Some(slot) = all.get(fd) else { return Ok(()) };
            match &mut slot.watchers[direction as usize] {
                Some(Watcher::Always(_)) => {
                    let taken = format!("descriptor {fd} is watched already");
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, taken));
                }
                Some(Watcher::Once(_, others)) => others.extend(waiter.take()),
                None => return Ok(()),
            }
            // Armed for those before: but perhaps for a descriptor that was closed since and had the same number.
            self.rearm(fd, slot)
        });
        if let Err(error) = joined {
            self.leave_wait(fd, direction, id);
            return Err(error);
        }
        if let Some(alone) = waiter {
            let former = self.set_watcher(fd, direction, Watcher::Once(alone, Vec::new()))?;
            debug_assert!(former.is_none());
        }
        Ok(id)
    }

    /// Whether a wait is still on; if it is, `waker` is the one that will be woken.
    pub(crate) fn renew_wait(&self, fd: RawFd, direction: Direction, id: WaitId, waker: &Waker) -> bool {
        let with_waiter = |swap: &mut dyn FnMut(&mut Waiter)| {
            self.descriptors.with(|all| {
                let Watcher::Once(first, others) = all.get(fd)?.watchers[direction as usize].as_mut()? else {
                    return None;
                };
                std::iter::once(first).chain(others).find(|waiter| waiter.id == id).map(swap)
            })
        };
        let mut same = true;
        if with_waiter(&mut |waiter| same = waiter.waker.will_wake(waker)).is_none() {
            return false;
        }
        if !same {
            // Cloning and dropping a waker is foreign code: both happen outside the borrow.
            let mut waker = waker.clone();
            with_waiter(&mut |waiter| std::mem::swap(&mut waiter.waker, &mut waker));
        }
        true
    }

    /// Ends one wait; others for the same descriptor go on. One that is over already is no error.
    pub fn leave_wait(&self, fd: RawFd, direction: Direction, id: WaitId) {
        let (waiter, last) = self.descriptors.with(|all| {
            let Some(watcher) = all.get(fd).and_then(|slot| slot.watchers[direction as usize].as_mut()) else {
                return (None, false);
            };
            match watcher {
                Watcher::Once(first, others) if first.id == id && others.is_empty() => (None, true),
                Watcher::Once(first, others) if first.id == id => {
                    (Some(std::mem::replace(first, others.remove(0))), false)
                }
                Watcher::Once(_, others) => {
                    let place = others.iter().position(|waiter| waiter.id == id);
                    (place.map(|place| others.remove(place)), false)
                }
                Watcher::Always(_) => (None, false),
            }
        });
        drop(waiter);
        if last {
            drop(self.unwatch(fd, direction));
        }
    }

    /// Stops watching one direction of `fd` and returns the job, if one watched. Must come before `fd` is closed.
    ///
    /// A single future that waited is forgotten, since only itself can have asked for this. If there are several, all
    /// are woken, and those that still want to wait do so again.
    #[must_use = "dropping the value may run foreign code: do it where that is allowed"]
    pub fn unwatch(&self, fd: RawFd, direction: Direction) -> Option<H::Job> {
        self.leave_parent_alone();
        let removed = self.descriptors.with(|all| {
            let slot = all.get(fd)?;
            let removed = slot.watchers[direction as usize].take()?;
            match slot.wanted() {
                Some((interest, mode)) => {
                    // Narrowing what is watched can only fail for a descriptor that is gone, which has no news.
                    drop(self.arm(fd, slot.generation, interest, mode, true));
                    slot.armed = Some((interest, mode));
                }
                None => {
                    self.forget(fd);
                    slot.armed = None;
                    slot.generation = slot.generation.wrapping_add(1);
                }
            }
            Some(removed)
        });
        match removed? {
            Watcher::Always(job) => Some(job),
            Watcher::Once(waiter, others) => {
                if !others.is_empty() {
                    wake_all(Watcher::<H::Job>::Once(waiter, others));
                }
                None
            }
        }
    }

    /// Drops a registration kept for the next wait: `fd` is about to be closed or handed away. Futures that waited are
    /// woken, to find that out.
    pub fn release(&self, fd: RawFd) {
        self.leave_parent_alone();
        let watchers = self.descriptors.with(|all| {
            let slot = all.get(fd)?;
            if slot.armed.take().is_some() {
                self.forget(fd);
            }
            slot.generation = slot.generation.wrapping_add(1);
            Some(std::mem::take(&mut slot.watchers))
        });
        watchers.into_iter().flatten().flatten().for_each(wake_all);
    }

    /// Whether a job watches this direction of `fd`.
    pub fn is_watched(&self, fd: RawFd, direction: Direction) -> bool {
        self.descriptors.with(|all| all.get(fd).is_some_and(|slot| slot.watchers[direction as usize].is_some()))
    }

    fn set_watcher(
        &self,
        fd: RawFd,
        direction: Direction,
        watcher: Watcher<H::Job>,
    ) -> io::Result<Option<Watcher<H::Job>>> {
        self.notice_fork()?;
        let mut watcher = Some(watcher);
        let armed = self.descriptors.with(|all| {
            // A number that nobody has watched yet may be no descriptor at all: ask the kernel before making room.
            if all.get(fd).is_none() {
                let (interest, mode) = wanted_alone(direction, watcher.as_ref());
                self.arm(fd, 0, interest, mode, false)?;
                all.entry(fd).armed = Some((interest, mode));
            }
            let slot = all.entry(fd);
            std::mem::swap(&mut slot.watchers[direction as usize], &mut watcher);
            let armed = self.rearm(fd, slot);
            if armed.is_err() {
                std::mem::swap(&mut slot.watchers[direction as usize], &mut watcher);
            }
            armed
        });
        // Only here, after the borrow, may a watcher that was refused be dropped.
        armed.map(|()| watcher)
    }

    /// Tells the poller what is wanted of `fd` now: always, because the number may belong to another descriptor than
    /// when it was told last.
    fn rearm(&self, fd: RawFd, slot: &mut Slot<H::Job>) -> io::Result<()> {
        if let Some((interest, mode)) = slot.wanted() {
            self.arm(fd, slot.generation, interest, mode, slot.armed.is_some())?;
            slot.armed = Some((interest, mode));
        }
        Ok(())
    }

    fn poller(&self) -> io::Result<Arc<Poller>> {
        let poller = self.poller.with(|poller| poller.clone());
        poller.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the loop is closed"))
    }

    fn arm(&self, fd: RawFd, generation: u32, interest: Interest, mode: Mode, known: bool) -> io::Result<()> {
        self.poller()?.arm(fd, token(fd, generation), interest, mode, known)
    }

    fn forget(&self, fd: RawFd) {
        self.poller.with(|poller| poller.as_ref().map(|poller| poller.forget(fd)));
    }

    /// In the child of a fork: opens a poller of the child's own, which knows all that the parent's did. It happens by
    /// itself as soon as the loop is used.
    ///
    /// # Errors
    /// The operating system's, if it has no descriptors left. The parent's poller is let go of all the same.
    pub fn after_fork(&self) -> io::Result<()> {
        self.forks.set(fork::count());
        let opened = self.poller.with(|poller| poller.is_some()).then(Poller::new).transpose();
        let (poller, result) = match opened {
            Ok(poller) => (poller.map(Arc::new), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let waker = poller.as_ref().map(|poller| poller.waker());
        let inherited = self.poller.with(|place| std::mem::replace(place, poller));
        let former = std::mem::replace(&mut *self.remote.waker.lock().unwrap_or_else(PoisonError::into_inner), waker);
        if cfg!(target_os = "linux") {
            // Closes the child's numbers; the parent's poller is none the wiser.
            drop((inherited, former));
        } else {
            // A kqueue is not inherited: its number is nobody's, or somebody else's by now.
            std::mem::forget((inherited, former));
        }
        self.descriptors.with(|all| {
            for (fd, slot) in all.iter() {
                slot.armed = None;
                // Fails for what the child has closed, which has no news.
                drop(self.rearm(fd, slot));
            }
        });
        result
    }

    #[inline]
    fn notice_fork(&self) -> io::Result<()> {
        if self.forks.get() == fork::count() { Ok(()) } else { self.after_fork() }
    }

    /// [`notice_fork`](Self::notice_fork) for those who only take back: without a poller nothing is left to take back.
    #[inline]
    fn leave_parent_alone(&self) {
        drop(self.notice_fork());
    }

    // --- running ---------------------------------------------------------------------------------------------------

    /// Turns until [`stop`](Self::stop): at least once, and the turn in which `stop` was called to its end.
    ///
    /// # Errors
    /// What a step has raised to end the run; everything else stays queued, and the loop can run again.
    pub fn run(&self, cx: H::Cx<'_>) -> Result<(), H::Abort> {
        let _current = task::Current::enter(self);
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
        result
    }

    /// Ends the run after the present turn, or the next run after one turn.
    pub fn stop(&self) {
        self.stopping.set(true);
    }

    /// Poll, then I/O, then due timers, then a snapshot of what is ready.
    pub fn turn(&self, cx: H::Cx<'_>) -> Result<(), H::Abort> {
        self.poll(cx)?;
        self.fire_timers();
        let mut left = self.ready_len();
        while left > 0 {
            let Some((work, cause)) = self.ready.with(|ready| ready.pick(left)) else { break };
            left -= 1;
            self.step(cx, work, cause)?;
        }
        self.cause.set(Cause::OUTSIDE);
        Ok(())
    }

    #[inline]
    fn step(&self, cx: H::Cx<'_>, work: Work<H::Job>, cause: Cause) -> Result<(), H::Abort> {
        let number = self.steps.get() + 1;
        self.steps.set(number);
        self.cause.set(Cause::new(Kind::Step, number));
        // Catching costs nothing measurable per step (tables, no code on the good path).
        let outcome = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Host(job) => H::run(self, cx, job, cause),
            Work::Rust(runnable) => {
                runnable.run();
                Ok(())
            }
        }));
        match outcome {
            Ok(result) => result,
            Err(panic) => {
                H::panicked(self, cx, panic);
                Ok(())
            }
        }
    }

    fn poll(&self, cx: H::Cx<'_>) -> Result<(), H::Abort> {
        H::settle(self, cx);
        let mut events = self.events.take();
        let waited = self.wait(cx, &mut events);
        self.drain_inbox();
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
        let busy = self.stopping.get() || !self.ready.with(|ready| ready.is_empty());
        if busy || !self.remote.inbox.is_empty() {
            return poller.wait(Some(0), events);
        }
        let deadline = self.timers.with(|timers| timers.next_deadline());
        if let (Some(deadline), true, 0) = (deadline, self.clock.is_virtual(), self.elsewhere.get()) {
            poller.wait(Some(0), events)?;
            if events.is_empty() && self.remote.inbox.is_empty() {
                self.clock.jump_to(deadline);
            }
            return Ok(());
        }
        // Virtual time stands still here: its timers cannot end the wait, only another thread or a descriptor can.
        let deadline = deadline.filter(|_| !self.clock.is_virtual());
        let timeout = deadline.map(|deadline| deadline.saturating_sub(self.now()));
        if timeout == Some(0) || !self.remote.inbox.fall_asleep() {
            return poller.wait(Some(0), events);
        }
        let waited = H::park(cx, || poller.wait(timeout, events));
        self.remote.inbox.wake_up();
        waited
    }

    fn drain_inbox(&self) {
        if !self.remote.inbox.is_empty() {
            for (work, cause) in self.remote.inbox.drain() {
                self.enqueue(work, cause);
            }
        }
    }

    fn dispatch(&self, cx: H::Cx<'_>, events: &[Event]) {
        for event in events {
            let (fd, generation) = split(event.token);
            for direction in [Direction::Read, Direction::Write] {
                let news = if direction == Direction::Read { event.readable } else { event.writable };
                if news {
                    self.tell(cx, fd, generation, direction);
                }
            }
            // One that reports once has fallen silent; whoever still waits for its other direction must be heard.
            self.rearm_silent(fd, generation);
        }
        self.cause.set(Cause::OUTSIDE);
    }

    fn tell(&self, cx: H::Cx<'_>, fd: RawFd, generation: u32, direction: Direction) {
        let cause = Cause::descriptor(fd as i64, direction == Direction::Write);
        let waiters = self.descriptors.with(|all| {
            let slot = all.get(fd).filter(|slot| slot.generation == generation)?;
            let watcher = &mut slot.watchers[direction as usize];
            match watcher {
                Some(Watcher::Always(job)) => {
                    let job = H::again(cx, job);
                    self.enqueue(Work::Host(job), cause);
                    None
                }
                Some(Watcher::Once(..)) => watcher.take(),
                None => None,
            }
        });
        if let Some(waiters) = waiters {
            self.cause.set(cause);
            wake_all(waiters);
        }
    }

    fn rearm_silent(&self, fd: RawFd, generation: u32) {
        self.descriptors.with(|all| {
            let Some(slot) = all.get(fd).filter(|slot| slot.generation == generation) else { return };
            let Some(armed) = slot.armed else { return };
            let Some((interest, mode)) = slot.wanted() else {
                if armed.1 == Mode::Level {
                    self.forget(fd);
                    slot.armed = None;
                }
                return;
            };
            if armed.1 == Mode::Once || armed != (interest, mode) {
                // It was armed a moment ago: it fails only if the descriptor was closed, which has no news.
                drop(self.arm(fd, generation, interest, mode, true));
                slot.armed = Some((interest, mode));
            }
        });
    }

    fn fire_timers(&self) {
        if self.timers.with(|timers| timers.is_empty()) {
            return;
        }
        let now = self.now();
        while let Some((id, due)) = self.timers.with(|timers| timers.pop_due(now)) {
            let cause = Cause::new(Kind::Timer, id.sequence());
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

    // --- the end ---------------------------------------------------------------------------------------------------

    /// Forgets everything that waits: ready entries, timers, watchers, messages. Dropping them may run foreign code
    /// that adds more, so this goes on until nothing is left.
    pub fn clear(&self) {
        self.leave_parent_alone();
        // What is dropped here finds its loop, to take back what it has left with it.
        let _current = task::Current::enter(self);
        loop {
            // A cancelled task is made ready once more, and dropped with the rest.
            let tasks = self.tasks.with(std::mem::take);
            tasks.values().for_each(Canceller::cancel);
            let messages: Vec<_> = self.remote.inbox.drain().collect();
            let ready = self.ready.with(|ready| ready.take_all());
            let timers = self.timers.with(|timers| timers.take_all());
            let watchers: Vec<_> = self.descriptors.with(|all| {
                let forget = |(fd, slot): (RawFd, &mut Slot<H::Job>)| {
                    if slot.armed.take().is_some() {
                        self.forget(fd);
                    }
                    slot.generation = slot.generation.wrapping_add(1);
                    std::mem::take(&mut slot.watchers)
                };
                all.iter().flat_map(forget).flatten().collect()
            });
            if messages.is_empty() && ready.is_empty() && timers.is_empty() && watchers.is_empty() && tasks.is_empty() {
                return;
            }
            drop((messages, ready, timers, watchers, tasks));
        }
    }

    /// Forgets everything that waits and gives the loop's descriptors back. Nothing can be watched from here on, and
    /// what other threads still send is dropped with the loop.
    pub fn close(&self) {
        self.clear();
        let waker = self.remote.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let poller = self.poller.with(|poller| poller.take());
        drop((waker, poller));
    }

    /// Shows the ready jobs, first in first. `visit` must not call the loop.
    pub fn for_each_ready<E>(&self, mut visit: impl FnMut(&H::Job) -> Result<(), E>) -> Result<(), E> {
        self.ready.with(|ready| {
            ready.iter().try_for_each(|(work, _)| if let Work::Host(job) = work { visit(job) } else { Ok(()) })
        })
    }

    /// Shows the jobs of the set timers, in no order. `visit` must not call the loop.
    pub fn for_each_timer<E>(&self, mut visit: impl FnMut(&H::Job) -> Result<(), E>) -> Result<(), E> {
        self.timers.with(|timers| {
            timers.values().try_for_each(|due| if let Due::Job(job) = due { visit(job) } else { Ok(()) })
        })
    }

    /// Shows the jobs that watch descriptors. `visit` must not call the loop.
    pub fn for_each_watcher<E>(
        &self,
        mut visit: impl FnMut(RawFd, Direction, &H::Job) -> Result<(), E>,
    ) -> Result<(), E> {
        self.descriptors.with(|all| {
            all.iter().try_for_each(|(fd, slot)| {
                let watchers = [Direction::Read, Direction::Write].into_iter().zip(&slot.watchers);
                watchers.into_iter().try_for_each(|(direction, watcher)| match watcher {
                    Some(Watcher::Always(job)) => visit(fd, direction, job),
                    _ => Ok(()),
                })
            })
        })
    }

    /// Shows every job that waits here, for a garbage collector. `visit` must not call the loop.
    pub fn for_each_job<E>(&self, mut visit: impl FnMut(&H::Job) -> Result<(), E>) -> Result<(), E> {
        self.remote.inbox.peek(|(work, _)| if let Work::Host(job) = work { visit(job) } else { Ok(()) })?;
        self.for_each_ready(&mut visit)?;
        self.for_each_timer(&mut visit)?;
        self.for_each_watcher(|_, _, job| visit(job))
    }
}

impl<H: Host> Engine<H> {
    /// Shows every waker that waits here for a descriptor or a timer, for a garbage collector. `visit` must not call
    /// the loop.
    pub fn for_each_waker<E>(&self, mut visit: impl FnMut(&Waker) -> Result<(), E>) -> Result<(), E> {
        self.timers.with(|timers| {
            timers.values().try_for_each(|due| if let Due::Wake(waker) = due { visit(waker) } else { Ok(()) })
        })?;
        self.descriptors.with(|all| {
            all.iter().flat_map(|(_, slot)| slot.watchers.iter().flatten()).try_for_each(|watcher| match watcher {
                Watcher::Always(_) => Ok(()),
                Watcher::Once(first, others) => {
                    std::iter::once(first).chain(others).try_for_each(|waiter| visit(&waiter.waker))
                }
            })
        })
    }
}

fn wake_all<J>(watcher: Watcher<J>) {
    watcher.into_waiters().for_each(|waiter| waiter.waker.wake());
}

impl<H: Host> Drop for Engine<H> {
    /// Tasks and loop hold each other (a task's waker must find its loop): what still waits is let go of here.
    fn drop(&mut self) {
        self.clear();
    }
}

/// What the poller is told for a first watcher.
fn wanted_alone<J>(direction: Direction, watcher: Option<&Watcher<J>>) -> (Interest, Mode) {
    let interest = Interest { read: direction == Direction::Read, write: direction == Direction::Write };
    let mode = if matches!(watcher, Some(Watcher::Always(_))) { Mode::Level } else { Mode::Once };
    (interest, mode)
}
