//! What waits in the loop, shown: to a garbage collector, and to whoever wants to look.

use std::task::Waker;

use super::{Due, Engine, Work};
use crate::descriptors::{Direction, Watcher};
use crate::host::Host;
use crate::poll::RawFd;

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

    /// Shows the deadlines of at most `most` timers, the earliest of them among these; no job for those of Rust futures.
    /// Returns how many there are. `visit` must not call the loop.
    pub fn for_each_deadline(&self, most: usize, mut visit: impl FnMut(u64, Option<&H::Job>)) -> usize {
        self.timers.with(|timers| {
            for (when, due) in timers.iter().take(most) {
                visit(when, if let Due::Job(job) = due { Some(job) } else { None });
            }
            timers.len()
        })
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
