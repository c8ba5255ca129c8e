//! What waits in the loop, shown: to a garbage collector, and to whoever wants to look.

use std::task::Waker;

use super::{Due, Engine, Work};
use crate::descriptors::{Direction, Watcher};
use crate::host::Host;
use crate::poll::RawFd;
use crate::timers::TimerId;

fn job_of<J>(due: &Due<J>) -> Option<&J> {
    match due {
        Due::Job(job) => Some(job),
        Due::Wake(_) => None,
    }
}

impl<H: Host> Engine<H> {
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

    /// Shows the jobs of at most `most` ready entries, in stretches that are spread evenly. Returns how many are ready.
    /// `visit` must not call the loop.
    pub fn sample_ready(&self, most: usize, mut visit: impl FnMut(&H::Job)) -> usize {
        const STRETCH: usize = 64;
        self.ready.with(|ready| {
            let all = ready.len();
            let (stretches, each) = if all <= most { (1, all) } else { (most / STRETCH, STRETCH) };
            for stretch in 0..stretches {
                for (work, _) in ready.iter().skip(stretch * all / stretches).take(each) {
                    if let Work::Host(job) = work {
                        visit(job);
                    }
                }
            }
            all
        })
    }

    /// How many timers are set, and the deadline of the earliest.
    pub fn timers_set(&self) -> (usize, Option<u64>) {
        self.timers.with(|timers| (timers.len(), timers.next_deadline()))
    }

    /// The timer that is set next will be at this place in their order.
    pub fn upcoming_timer(&self) -> u64 {
        self.timers.with(|timers| timers.upcoming())
    }

    /// Shows the timers in at most `most` places from `start` on, with their deadlines; no job for those of Rust futures.
    /// Returns where to go on: see [`Timers::walk`](crate::timers::Timers::walk). `visit` must not call the loop.
    pub fn walk_timers(
        &self,
        start: usize,
        most: usize,
        mut visit: impl FnMut(TimerId, u64, Option<&H::Job>),
    ) -> Option<usize> {
        self.timers.with(|timers| timers.walk(start, most, |id, when, due| visit(id, when, job_of(due))))
    }

    /// Shows the timers that were set from this place in their order on. `visit` must not call the loop.
    pub fn timers_since(&self, sequence: u64, mut visit: impl FnMut(TimerId, u64, Option<&H::Job>)) {
        self.timers.with(|timers| timers.since(sequence, |id, when, due| visit(id, when, job_of(due))));
    }

    /// Shows a timer, if it is still set: its deadline and its job. `visit` must not call the loop.
    pub fn look_at_timer<R>(&self, id: TimerId, visit: impl FnOnce(u64, &H::Job) -> R) -> Option<R> {
        self.timers.with(|timers| timers.get(id).and_then(|(when, due)| Some(visit(when, job_of(due)?))))
    }

    /// Shows the jobs that watch descriptors. `visit` must not call the loop.
    pub fn for_each_watcher<E>(
        &self,
        mut visit: impl FnMut(RawFd, Direction, &H::Job) -> Result<(), E>,
    ) -> Result<(), E> {
        self.descriptors.with(|all| {
            all.iter().try_for_each(|(fd, slot)| {
                slot.watchers().try_for_each(|(direction, watcher)| match watcher {
                    Watcher::Always(job) => visit(fd, direction, job),
                    _ => Ok(()),
                })
            })
        })
    }

    /// Shows the wakers of the futures that wait for a descriptor. `visit` must not call the loop.
    pub fn for_each_waiter<E>(
        &self,
        mut visit: impl FnMut(RawFd, Direction, &Waker) -> Result<(), E>,
    ) -> Result<(), E> {
        self.descriptors.with(|all| {
            all.iter().try_for_each(|(fd, slot)| {
                slot.watchers().try_for_each(|(direction, watcher)| match watcher {
                    Watcher::Once(first, others) => std::iter::once(first)
                        .chain(others.iter())
                        .try_for_each(|waiter| visit(fd, direction, &waiter.waker)),
                    _ => Ok(()),
                })
            })
        })
    }

    /// Shows who watches the descriptors in at most `most` places from `start` on: the jobs and the wakers of futures.
    /// Returns where to go on; `None` after the last. `visit` must not call the loop.
    pub fn walk_watchers(
        &self,
        start: usize,
        most: usize,
        mut visit: impl FnMut(RawFd, Direction, Result<&H::Job, &Waker>),
    ) -> Option<usize> {
        self.descriptors.with(|all| {
            for (fd, slot) in all.some(start, most) {
                for (direction, watcher) in slot.watchers() {
                    match watcher {
                        Watcher::Always(job) => visit(fd, direction, Ok(job)),
                        Watcher::Once(first, others) => std::iter::once(first)
                            .chain(others.iter())
                            .for_each(|waiter| visit(fd, direction, Err(&waiter.waker))),
                    }
                }
            }
            let end = start.saturating_add(most);
            (end < all.end()).then_some(end)
        })
    }

    /// Shows every job that waits here, for a garbage collector. `visit` must not call the loop.
    pub fn for_each_job<E>(&self, mut visit: impl FnMut(&H::Job) -> Result<(), E>) -> Result<(), E> {
        self.remote.inbox.peek(|(work, _)| if let Work::Host(job) = work { visit(job) } else { Ok(()) })?;
        self.for_each_ready(&mut visit)?;
        self.for_each_timer(&mut visit)?;
        self.for_each_watcher(|_, _, job| visit(job))
    }

    /// Shows every waker that waits here for a descriptor or a timer, for a garbage collector. `visit` must not call
    /// the loop.
    pub fn for_each_waker<E>(&self, mut visit: impl FnMut(&Waker) -> Result<(), E>) -> Result<(), E> {
        self.timers.with(|timers| {
            timers.values().try_for_each(|due| if let Due::Wake(waker) = due { visit(waker) } else { Ok(()) })
        })?;
        self.for_each_waiter(|_, _, waker| visit(waker))
    }
}
