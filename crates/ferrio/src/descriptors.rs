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
    /// What its news is, if the descriptor only carries it.
    pub cause: Option<Cause>,
}

/// Who is told when a descriptor has news.
pub(crate) enum Watcher<J> {
    /// Runs on every piece of news until it is replaced or removed.
    Always(J),
    /// All are woken once and forgotten. Nearly always there is one; others are those that came after it.
    Once(Waiter, Vec<Waiter>),
}

impl<J> Watcher<J> {
    /// The futures that wait, first come first.
    pub fn into_waiters(self) -> impl Iterator<Item = Waiter> {
        let (first, others) = match self {
            Watcher::Always(_) => (None, Vec::new()),
            Watcher::Once(first, others) => (Some(first), others),
        };
        first.into_iter().chain(others)
    }
}

pub(crate) struct Slot<J> {
    pub generation: u32,
    /// Index 0 reads, 1 writes.
    pub watchers: [Option<Watcher<J>>; 2],
    /// What the poller was told last, or `None` if it does not know the descriptor.
    pub armed: Option<(Interest, Mode)>,
}

impl<J> Slot<J> {
    /// What the poller should know: nothing if nobody waits.
    pub fn wanted(&self) -> Option<(Interest, Mode)> {
        let [read, write] = &self.watchers;
        let interest = Interest { read: read.is_some(), write: write.is_some() };
        let always = [read, write].into_iter().flatten().any(|watcher| matches!(watcher, Watcher::Always(_)));
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
    Slot { generation: 0, watchers: [None, None], armed: None }
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
}

/// A token names a descriptor and the generation of its slot.
pub(crate) fn token(fd: RawFd, generation: u32) -> u64 {
    (u64::from(generation) << 32) | (fd as u64 & 0xffff_ffff)
}

pub(crate) fn split(token: u64) -> (RawFd, u32) {
    ((token & 0xffff_ffff) as RawFd, (token >> 32) as u32)
}
