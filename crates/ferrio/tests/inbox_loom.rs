//! The inbox and its wake under the interleavings of the threads that use them (`ci/loom.sh`).
//!
//! The file under test is compiled into this one with loom's lock and atomics in place of the system's. Messages carry a cell
//! that loom watches: reading one without the writer's having happened before is an error, as is a loop that sleeps
//! for ever.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

#[path = "../src/inbox.rs"]
#[allow(dead_code)]
mod inbox;

use inbox::Inbox;

/// A loop's poller, as far as the inbox is concerned: a wake-up that comes before the sleep ends it at once.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    news: Condvar,
    rings: AtomicUsize,
}

impl Bell {
    fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        *self.rung.lock().unwrap() = true;
        self.news.notify_one();
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.news.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// A message whose content must have been written before it can be read.
struct Message(UnsafeCell<usize>);

// SAFETY: loom reports every access to the cell that is not ordered after the one before.
unsafe impl Send for Message {}

impl Message {
    fn new(value: usize) -> Self {
        let cell = UnsafeCell::new(0);
        // SAFETY: nobody else has the cell yet.
        cell.with_mut(|content| unsafe { *content = value });
        Message(cell)
    }

    fn read(&self) -> usize {
        // SAFETY: the message belongs to its one reader now; loom checks it.
        self.0.with(|content| unsafe { *content })
    }
}

#[derive(Default)]
struct Shared {
    inbox: Inbox<Message>,
    bell: Bell,
}

impl Shared {
    fn send(&self, value: usize) {
        if self.inbox.push(Message::new(value)) {
            self.bell.ring();
        }
    }

    /// The loop's side: takes `expected` messages, sleeping whenever there is none. Also says how often it was about to
    /// sleep.
    fn receive(&self, expected: usize) -> (Vec<usize>, usize) {
        let (mut values, mut announcements) = (Vec::new(), 0);
        while values.len() < expected {
            if self.inbox.is_empty() {
                announcements += 1;
                if self.inbox.fall_asleep() {
                    self.bell.sleep();
                    self.inbox.wake_up();
                }
            }
            let mut messages = Vec::new();
            self.inbox.drain(&mut messages);
            values.extend(messages.iter().map(Message::read));
        }
        (values, announcements)
    }
}

#[test]
fn no_message_is_slept_through_and_a_senders_messages_keep_their_order() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let sender = {
            let shared = shared.clone();
            thread::spawn(move || (1..=2).for_each(|value| shared.send(value)))
        };
        assert_eq!(shared.receive(2).0, [1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_lose_nothing_and_only_one_of_them_rings_per_sleep() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let senders = [1, 2].map(|value| {
            let shared = shared.clone();
            thread::spawn(move || shared.send(value))
        });
        let (mut values, announcements) = shared.receive(2);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        values.sort_unstable();
        assert_eq!(values, [1, 2]);
        assert!(shared.bell.rings.load(Ordering::Relaxed) <= announcements);
    });
}
