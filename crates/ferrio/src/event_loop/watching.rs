//! Descriptors: who watches them, who waits for them, and what the poller is told.

use std::io;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use super::Engine;
use crate::cause::Cause;
use crate::descriptors::{Direction, Others, Slot, WaitId, Waiter, Watcher, token};
use crate::fork;
use crate::host::Host;
use crate::poll::{self, Event, Interest, Mode, Poller, RawFd};

impl<H: Host> Engine<H> {
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
        self.join_wait_for(fd, direction, waker, None)
    }

    /// As [`join_wait`](Self::join_wait), for a descriptor that only carries news: `cause` is what it is news of.
    pub(crate) fn join_wait_for(
        &self,
        fd: RawFd,
        direction: Direction,
        waker: Waker,
        cause: Option<Cause>,
    ) -> io::Result<WaitId> {
        self.notice_fork()?;
        let id = WaitId(self.waits.get());
        self.waits.set(id.0 + 1);
        let cause = cause.unwrap_or(Cause::descriptor(fd as i64, direction == Direction::Write));
        let mut waiter = Some(Waiter { id, waker, cause });
        let joined = self.descriptors.with(|all| {
            let Some(slot) = all.get(fd) else { return Ok(()) };
            match slot.watcher(direction) {
                Some(Watcher::Always(_)) => {
                    let taken = format!("descriptor {fd} is watched already");
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, taken));
                }
                Some(Watcher::Once(_, others)) => waiter.take().into_iter().for_each(|waiter| others.push(waiter)),
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
            let former = self.set_watcher(fd, direction, Watcher::Once(alone, Others::default()))?;
            debug_assert!(former.is_none());
        }
        Ok(id)
    }

    /// Whether a wait is still on; if it is, `waker` is the one that will be woken.
    pub(crate) fn renew_wait(&self, fd: RawFd, direction: Direction, id: WaitId, waker: &Waker) -> bool {
        let with_waiter = |swap: &mut dyn FnMut(&mut Waiter)| {
            self.descriptors.with(|all| {
                let Watcher::Once(first, others) = all.get(fd)?.watcher(direction)? else {
                    return None;
                };
                std::iter::once(first).chain(others.iter_mut()).find(|waiter| waiter.id == id).map(swap)
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
            let Some(watcher) = all.get(fd).and_then(|slot| slot.watcher(direction)) else {
                return (None, false);
            };
            match watcher {
                Watcher::Once(first, others) if first.id == id => match others.pop() {
                    None => (None, true),
                    Some(next) => (Some(std::mem::replace(first, next)), false),
                },
                Watcher::Once(_, others) => (others.remove(id), false),
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
            let removed = slot.replace(direction, None)?;
            match slot.wanted() {
                Some((interest, mode)) => {
                    // If that fails, what is no longer wanted will report, and is told again then.
                    if self.arm(fd, slot.generation, interest, mode, true).is_ok() {
                        slot.armed = Some((interest, mode));
                    }
                }
                None => {
                    // Room to write there nearly always is. What can be read is left registered until news comes: most
                    // who stop reading go on soon.
                    if direction == Direction::Write {
                        self.forget(fd);
                        slot.armed = None;
                    }
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
            Some(slot.take())
        });
        watchers.into_iter().flatten().for_each(wake_all);
    }

    /// Whether a job watches this direction of `fd`.
    pub fn is_watched(&self, fd: RawFd, direction: Direction) -> bool {
        self.descriptors.with(|all| all.get(fd).is_some_and(|slot| slot.watcher(direction).is_some()))
    }

    fn set_watcher(
        &self,
        fd: RawFd,
        direction: Direction,
        watcher: Watcher<H::Job>,
    ) -> io::Result<Option<Watcher<H::Job>>> {
        self.notice_fork()?;
        self.quiet_looks.set(0);
        let mut watcher = Some(watcher);
        let armed = self.descriptors.with(|all| {
            // A number that nobody has watched yet may be no descriptor at all: ask the kernel before making room.
            if all.get(fd).is_none() {
                let (interest, mode) = wanted_alone(direction, watcher.as_ref());
                self.arm(fd, 0, interest, mode, false)?;
                all.entry(fd).armed = Some((interest, mode));
            }
            let slot = all.entry(fd);
            watcher = slot.replace(direction, watcher.take());
            let armed = self.rearm(fd, slot);
            if armed.is_err() {
                watcher = slot.replace(direction, watcher.take());
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

    /// Sees to a registration that has reported: one that reports once has fallen silent, and whoever still waits for its
    /// other direction must be heard; one that nobody waits for goes.
    pub(super) fn rearm_reported(&self, fd: RawFd, generation: u32) {
        let mut unheard = Vec::new();
        let is_in_order = self.descriptors.with(|all| {
            let Some(slot) = all.get(fd) else { return self.forget(fd) };
            let Some((interest, mode)) = slot.wanted() else {
                let silent = slot.generation == generation && slot.armed.is_none_or(|(_, mode)| mode == Mode::Once);
                if silent {
                    return true;
                }
                slot.armed = None;
                return self.forget(fd);
            };
            if slot.generation != generation {
                return false;
            }
            if slot.armed.is_some_and(|armed| armed.1 == Mode::Once || armed != (interest, mode)) {
                match self.arm(fd, generation, interest, mode, true) {
                    Ok(()) => slot.armed = Some((interest, mode)),
                    // A descriptor that was closed has no news. Otherwise: what is told more than it wants asks again at
                    // the next report, and those who would hear nothing find out for themselves what is wrong.
                    Err(error) if mode == Mode::Once && !is_closed(&error) => unheard.extend(slot.take()),
                    Err(_) => {}
                }
            }
            true
        });
        unheard.into_iter().for_each(wake_all);
        if !is_in_order {
            self.shake_off();
        }
    }

    /// The poller reports what it cannot be told to forget: a descriptor that was watched was closed, and lives on under
    /// another number or in another process. Another poller has never heard of it.
    #[cold]
    fn shake_off(&self) {
        // Without a descriptor or memory for it the old one must do; the next report tries again.
        if let Ok(poller) = self.new_poller() {
            drop(self.use_poller(Some(poller)));
        }
    }

    /// Opens a poller and tells it all that is watched.
    ///
    /// # Errors
    /// The operating system's, if it has no descriptors left, or no room for what is watched.
    fn new_poller(&self) -> io::Result<Arc<Poller>> {
        let poller = Poller::new()?;
        self.descriptors.with(|all| {
            for (fd, slot) in all.iter() {
                let Some((interest, mode)) = slot.wanted() else { continue };
                match poller.arm(fd, token(fd, slot.generation), interest, mode, false) {
                    Err(error) if is_shortage(&error) => return Err(error),
                    // Otherwise it is closed by now, or another that cannot be watched has its number: there is no news.
                    _ => {}
                }
            }
            Ok(Arc::new(poller))
        })
    }

    /// Returns the former poller, and its waker. The new one knows what is watched.
    fn use_poller(&self, poller: Option<Arc<Poller>>) -> (Option<Arc<Poller>>, Option<poll::Waker>) {
        let waker = poller.as_ref().map(|poller| poller.waker());
        let former = self.poller.with(|place| std::mem::replace(place, poller));
        let waker = std::mem::replace(&mut *self.remote.waker.lock().unwrap_or_else(PoisonError::into_inner), waker);
        self.descriptors.with(|all| {
            for (_, slot) in all.iter() {
                slot.armed = slot.wanted();
            }
        });
        (former, waker)
    }

    pub(super) fn poller(&self) -> io::Result<Arc<Poller>> {
        let poller = self.poller.with(|poller| poller.clone());
        poller.ok_or_else(closed)
    }

    /// What news there is now.
    pub(super) fn look(&self, events: &mut Vec<Event>) -> io::Result<()> {
        self.poller.with(|poller| poller.as_ref().ok_or_else(closed)?.wait(Some(0), events))
    }

    pub(super) fn is_still_readable(&self, fd: RawFd) -> bool {
        self.poller.with(|poller| poller.as_ref().is_some_and(|poller| poller.is_still_readable(fd)))
    }

    fn arm(&self, fd: RawFd, generation: u32, interest: Interest, mode: Mode, known: bool) -> io::Result<()> {
        self.poller.with(|poller| {
            let poller = poller.as_ref().ok_or_else(closed)?;
            poller.arm(fd, token(fd, generation), interest, mode, known)
        })
    }

    /// False if the poller has not known `fd`.
    pub(super) fn forget(&self, fd: RawFd) -> bool {
        self.poller.with(|poller| poller.as_ref().is_none_or(|poller| poller.forget(fd)))
    }

    /// In the child of a fork: opens a poller of the child's own, which knows all that the parent's did. It happens by
    /// itself as soon as the loop is used.
    ///
    /// # Errors
    /// The operating system's, if it has no descriptors left, or no room for what is watched: the loop is of no use then, and
    /// says so. The parent's poller is let go of all the same.
    pub fn after_fork(&self) -> io::Result<()> {
        self.forks.set(fork::count());
        self.record_after_fork();
        let opened = self.poller.with(|poller| poller.is_some()).then(|| self.new_poller()).transpose();
        let (poller, result) = match opened {
            Ok(poller) => (poller, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let (inherited, waker) = self.use_poller(poller);
        if cfg!(target_os = "linux") {
            // Closes the child's numbers; the parent's poller is none the wiser.
            drop((inherited, waker));
        } else {
            // A kqueue is not inherited: its number is nobody's, or somebody else's by now.
            std::mem::forget((inherited, waker));
        }
        result
    }

    #[inline]
    pub(super) fn notice_fork(&self) -> io::Result<()> {
        if self.forks.get() == fork::count() { Ok(()) } else { self.after_fork() }
    }

    /// [`notice_fork`](Self::notice_fork) for those who only take back: without a poller nothing is left to take back.
    #[inline]
    pub(super) fn leave_parent_alone(&self) {
        drop(self.notice_fork());
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the loop is closed")
}

/// Whether the poller refused a number that is no descriptor any more.
fn is_closed(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(libc::EBADF);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::NotFound;
}

/// Whether the system has no memory for another registration, or the user no share left (`max_user_watches`).
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull)
}

fn wake_all<J>(watcher: Watcher<J>) {
    watcher.into_waiters().for_each(|waiter| waiter.waker.wake());
}

/// What the poller is told for a first watcher.
fn wanted_alone<J>(direction: Direction, watcher: Option<&Watcher<J>>) -> (Interest, Mode) {
    let interest = Interest { read: direction == Direction::Read, write: direction == Direction::Write };
    let mode = if matches!(watcher, Some(Watcher::Always(_))) { Mode::Level } else { Mode::Once };
    (interest, mode)
}
