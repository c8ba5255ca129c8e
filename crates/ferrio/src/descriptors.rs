//! Who waits for which descriptor.
//!
//! Descriptors are owned, not numbered: the kernel hands numbers out again at once, so a slot carries a generation and
//! an event from before the number changed hands is recognised by its token and ignored.

use std::task::Waker;

use crate::cause::Cause;
use crate::poll::{Interest, Mode, RawFd};

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Something to read, or the end.
    Read,
    /// Room to write.
    Write,
}

/// Names one future that waits for a descriptor. It stays unique: the id of a wait that is over never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitId(pub(crate) u64);

/// One future that waits for a descriptor.
pub(crate) struct Waiter {
    pub id: WaitId,
    pub waker: Waker,
    /// What its news is.
    pub cause: Cause,
}

/// Those who wait for a descriptor beside the first. Nearly always there are none: every slot has room for them.
#[derive(Default)]
pub(crate) struct Others(
    #[expect(clippy::box_collection, reason = "a slot of a pointer less is worth more than the second step to them")]
    Option<Box<Vec<Waiter>>>,
);

impl Others {
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.0.iter().flat_map(|waiters| waiters.iter())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.0.iter_mut().flat_map(|waiters| waiters.iter_mut())
    }

    pub fn push(&mut self, waiter: Waiter) {
        self.0.get_or_insert_default().push(waiter);
    }

    pub fn remove(&mut self, id: WaitId) -> Option<Waiter> {
        let place = self.iter().position(|waiter| waiter.id == id)?;
        self.0.as_mut().map(|waiters| waiters.remove(place))
    }

    /// The one that came first.
    pub fn pop(&mut self) -> Option<Waiter> {
        let first = self.iter().next()?.id;
        self.remove(first)
    }
}

/// Who is told when a descriptor has news.
pub(crate) enum Watcher<J> {
    /// Runs on every piece of news until it is replaced or removed.
    Always(J),
    /// All are woken once and forgotten. Nearly always there is one; others are those that came after it.
    Once(Waiter, Others),
}

impl<J> Watcher<J> {
    /// The futures that wait, first come first.
    pub fn into_waiters(self) -> impl Iterator<Item = Waiter> {
        let (first, others) = match self {
            Watcher::Always(_) => (None, Others::default()),
            Watcher::Once(first, others) => (Some(first), others),
        };
        first.into_iter().chain(others.0.into_iter().flat_map(|waiters| *waiters))
    }
}

/// A server has one for each connection: it is one cache line.
pub(crate) struct Slot<J> {
    pub generation: u32,
    read: Option<Watcher<J>>,
    /// Room to write there nearly always is.
    write: Option<Box<Watcher<J>>>,
    /// What the poller was told last, or `None` if it does not know the descriptor.
    pub armed: Option<(Interest, Mode)>,
}

impl<J> Slot<J> {
    pub fn watcher(&mut self, direction: Direction) -> Option<&mut Watcher<J>> {
        match direction {
            Direction::Read => self.read.as_mut(),
            Direction::Write => self.write.as_deref_mut(),
        }
    }

    /// The job that is told of what there is to read, if it is all that watches, as the poller knows.
    #[inline]
    pub fn only_reader(&self) -> Option<&J> {
        const READ: Interest = Interest { read: true, write: false };
        match (&self.read, &self.write) {
            (Some(Watcher::Always(job)), None) if self.armed == Some((READ, Mode::Level)) => Some(job),
            _ => None,
        }
    }

    /// Puts a watcher in the place of the one there, and hands that out.
    pub fn replace(&mut self, direction: Direction, watcher: Option<Watcher<J>>) -> Option<Watcher<J>> {
        match direction {
            Direction::Read => std::mem::replace(&mut self.read, watcher),
            Direction::Write => std::mem::replace(&mut self.write, watcher.map(Box::new)).map(|watcher| *watcher),
        }
    }

    /// Hands out all there are.
    pub fn take(&mut self) -> impl Iterator<Item = Watcher<J>> + use<J> {
        [self.replace(Direction::Read, None), self.replace(Direction::Write, None)].into_iter().flatten()
    }

    /// All there are, with what they watch.
    pub fn watchers(&self) -> impl Iterator<Item = (Direction, &Watcher<J>)> {
        let read = self.read.as_ref().map(|watcher| (Direction::Read, watcher));
        read.into_iter().chain(self.write.as_deref().map(|watcher| (Direction::Write, watcher)))
    }

    /// What the poller should know: nothing if nobody waits.
    pub fn wanted(&self) -> Option<(Interest, Mode)> {
        let interest = Interest { read: self.read.is_some(), write: self.write.is_some() };
        let always = self.watchers().any(|(_, watcher)| matches!(watcher, Watcher::Always(_)));
        (!interest.is_empty()).then_some((interest, if always { Mode::Level } else { Mode::Once }))
    }
}

/// One slot per descriptor number ever watched. Numbers are small and dense, so a vector is the table; Windows' socket
/// handles are multiples of four and neither, so there it is a map.
pub(crate) struct Descriptors<J> {
    #[cfg(unix)]
    slots: Vec<Slot<J>>,
    #[cfg(not(unix))]
    slots: std::collections::HashMap<RawFd, Slot<J>>,
}

impl<J> Default for Descriptors<J> {
    fn default() -> Self {
        Descriptors { slots: Default::default() }
    }
}

const fn empty<J>() -> Slot<J> {
    Slot { generation: 0, read: None, write: None, armed: None }
}

#[cfg(unix)]
impl<J> Descriptors<J> {
    pub fn get(&mut self, fd: RawFd) -> Option<&mut Slot<J>> {
        self.slots.get_mut(usize::try_from(fd).ok()?)
    }

    /// The slot of a descriptor that the kernel knows (so its number is neither negative nor huge).
    pub fn entry(&mut self, fd: RawFd) -> &mut Slot<J> {
        let index = fd.max(0) as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, empty);
        }
        &mut self.slots[index]
    }

    pub fn iter(&mut self) -> impl Iterator<Item = (RawFd, &mut Slot<J>)> {
        self.slots.iter_mut().enumerate().map(|(fd, slot)| (fd as RawFd, slot))
    }

    /// Those in `most` places from `start` on; a descriptor's place is its number.
    pub fn some(&self, start: usize, most: usize) -> impl Iterator<Item = (RawFd, &Slot<J>)> {
        let places = self.slots.iter().enumerate().skip(start).take(most);
        places.map(|(fd, slot)| (fd as RawFd, slot))
    }

    /// After the last place.
    pub fn end(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(not(unix))]
impl<J> Descriptors<J> {
    pub fn get(&mut self, fd: RawFd) -> Option<&mut Slot<J>> {
        self.slots.get_mut(&fd)
    }

    pub fn entry(&mut self, fd: RawFd) -> &mut Slot<J> {
        self.slots.entry(fd).or_insert_with(empty)
    }

    pub fn iter(&mut self) -> impl Iterator<Item = (RawFd, &mut Slot<J>)> {
        self.slots.iter_mut().map(|(fd, slot)| (*fd, slot))
    }

    pub fn some(&self, start: usize, most: usize) -> impl Iterator<Item = (RawFd, &Slot<J>)> {
        let places = start..start.saturating_add(most);
        self.slots.iter().filter(move |(fd, _)| places.contains(&(**fd as usize))).map(|(fd, slot)| (*fd, slot))
    }

    pub fn end(&self) -> usize {
        self.slots.keys().max().map_or(0, |last| *last as usize + 1)
    }
}

/// A token names a descriptor and the generation of its slot.
pub(crate) fn token(fd: RawFd, generation: u32) -> u64 {
    (u64::from(generation) << 32) | (fd as u64 & 0xffff_ffff)
}

pub(crate) fn split(token: u64) -> (RawFd, u32) {
    ((token & 0xffff_ffff) as RawFd, (token >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As large as a job of Python's.
    #[expect(dead_code, reason = "only its size matters")]
    enum Job {
        Step(Box<u8>, Option<Box<u8>>, Box<u8>),
        Call(Box<u8>, fn()),
        Wake(Box<u8>),
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_slot_is_one_cache_line() {
        assert!(size_of::<Slot<Job>>() <= 64, "{}", size_of::<Slot<Job>>());
    }

    #[test]
    fn those_who_wait_leave_in_the_order_they_came() {
        let waiter = |id| Waiter { id: WaitId(id), waker: Waker::noop().clone(), cause: Cause::OUTSIDE };
        let mut others = Others::default();
        assert!(others.is_empty() && others.pop().is_none());
        (2..6).for_each(|id| others.push(waiter(id)));
        assert_eq!(others.remove(WaitId(4)).map(|gone| gone.id.0), Some(4));
        assert!(others.remove(WaitId(4)).is_none());
        assert_eq!(others.pop().map(|gone| gone.id.0), Some(2));
        let all = Watcher::<Job>::Once(waiter(1), others).into_waiters();
        assert_eq!(all.map(|waiter| waiter.id.0).collect::<Vec<_>>(), [1, 3, 5]);
    }
}
