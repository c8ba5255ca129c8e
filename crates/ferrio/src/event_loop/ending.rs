//! The end: everything that waits is forgotten.

use std::sync::PoisonError;

use super::Engine;
use crate::descriptors::Slot;
use crate::host::Host;
use crate::poll::RawFd;
use crate::task::{self, Canceller};

impl<H: Host> Engine<H> {
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
            let mut messages = Vec::new();
            self.remote.inbox.drain(&mut messages);
            let ready = self.ready.with(|ready| ready.take_all());
            let timers = self.timers.with(|timers| timers.take_all());
            let watchers: Vec<_> = self.descriptors.with(|all| {
                let forget = |(fd, slot): (RawFd, &mut Slot<H::Job>)| {
                    if slot.armed.take().is_some() {
                        self.forget(fd);
                    }
                    slot.generation = slot.generation.wrapping_add(1);
                    slot.take()
                };
                all.iter().flat_map(forget).collect()
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
}

impl<H: Host> Drop for Engine<H> {
    /// Tasks and loop hold each other (a task's waker must find its loop): what still waits is let go of here.
    fn drop(&mut self) {
        self.clear();
    }
}
