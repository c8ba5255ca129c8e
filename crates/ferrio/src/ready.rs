//! The ready queue: one way in, which takes the cause, and one way out, [`Ready::pick`].
//!
//! Tracing and deterministic order hang on these two functions, so nothing else may touch the queue's inside.

use std::collections::VecDeque;

use crate::cause::Cause;

/// In which order ready entries run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// First in, first out: asyncio's order.
    #[default]
    Fifo,
    /// Shuffled within a turn by this seed: the same seed gives the same order, another seed another legal one.
    Seeded(u64),
}

/// What is ready to run, with why.
pub struct Ready<W> {
    queue: VecDeque<(W, Cause)>,
    order: Order,
    /// What whoever records has noted of the newest entries: of as many as there are notes, in their order.
    notes: VecDeque<Note>,
}

/// Two words of the recorder's.
pub type Note = (u64, usize);

impl<W> Ready<W> {
    /// An empty queue.
    pub fn new(order: Order) -> Self {
        Ready { queue: VecDeque::new(), order, notes: VecDeque::new() }
    }

    /// The one way in.
    #[inline]
    pub fn push(&mut self, work: W, cause: Cause) {
        self.queue.push_back((work, cause));
    }

    /// The one way out: the next of the first `among` entries, which are this turn's.
    #[inline]
    pub fn pick(&mut self, among: usize) -> Option<(W, Cause)> {
        if let Order::Seeded(state) = &mut self.order {
            let among = among.min(self.queue.len());
            if among > 1 {
                // The picked entry leaves from the front; the one it changes places with stays among this turn's.
                let picked = (split_mix(state) % among as u64) as usize;
                self.queue.swap(0, picked);
            }
        }
        self.queue.pop_front()
    }

    /// The entry that [`pick`](Self::pick) gives next, if that is the first.
    #[inline]
    pub fn first(&self) -> Option<&(W, Cause)> {
        if self.order == Order::Fifo { self.queue.front() } else { None }
    }

    /// Notes something of the newest entry, for [`take_note`](Self::take_note). Once something was noted of one, something must
    /// be noted of all that follow, or [`forget_notes`](Self::forget_notes) called.
    #[inline]
    pub fn note(&mut self, note: Note) {
        if self.order == Order::Fifo {
            self.notes.push_back(note);
        }
    }

    /// What was noted of the entry that [`pick`](Self::pick) gives next, which must be called then.
    #[inline]
    pub fn take_note(&mut self) -> Option<Note> {
        if self.notes.len() == self.queue.len() { self.notes.pop_front() } else { None }
    }

    /// Nothing is noted of any entry any more.
    pub fn forget_notes(&mut self) {
        self.notes.clear();
    }

    /// Gives back what was picked: it is the first now.
    pub fn put_back(&mut self, work: W, cause: Cause) {
        self.queue.push_front((work, cause));
    }

    /// The newest entry.
    pub fn newest(&self) -> Option<&(W, Cause)> {
        self.queue.back()
    }

    /// Takes the newest entry back.
    pub fn take_newest(&mut self) -> Option<(W, Cause)> {
        self.queue.pop_back()
    }

    /// How many entries are waiting.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is ready.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Empties the queue and hands its content out, to be dropped after the borrow has ended.
    #[must_use = "drop it only after the borrow of the queue has ended"]
    pub fn take_all(&mut self) -> VecDeque<(W, Cause)> {
        self.forget_notes();
        std::mem::take(&mut self.queue)
    }

    /// All waiting entries, first in first.
    pub fn iter(&self) -> impl Iterator<Item = &(W, Cause)> {
        self.queue.iter()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough randomness for an order, in five lines and without a dependency.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mut ready: Ready<u32>) -> Vec<u32> {
        let mut out = Vec::new();
        for left in (1..=ready.len()).rev() {
            out.extend(ready.pick(left).map(|(work, _)| work));
        }
        out
    }

    fn filled(order: Order) -> Ready<u32> {
        let mut ready = Ready::new(order);
        (0..20).for_each(|n| ready.push(n, Cause::OUTSIDE));
        ready
    }

    #[test]
    fn entries_leave_in_the_order_they_came() {
        assert_eq!(drain(filled(Order::Fifo)), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_note_stays_with_its_entry() {
        let mut ready = filled(Order::Fifo);
        ready.push(20, Cause::OUTSIDE);
        ready.note((120, 0));
        let (mut told, mut next) = (Vec::new(), 21);
        while let (note, Some((entry, _))) = (ready.take_note(), ready.pick(1)) {
            told.extend(note.map(|note| (entry, note.0)));
            if next < 25 {
                ready.push(next, Cause::OUTSIDE);
                ready.note((100 + u64::from(next), 0));
                next += 1;
            }
        }
        assert_eq!(told, (20..25).map(|entry| (entry, 100 + u64::from(entry))).collect::<Vec<_>>());
        ready.push(25, Cause::OUTSIDE);
        ready.note((125, 0));
        ready.forget_notes();
        assert_eq!(ready.take_note(), None);
    }

    #[test]
    fn a_seed_gives_one_order_and_loses_nothing() {
        let first = drain(filled(Order::Seeded(7)));
        assert_eq!(first, drain(filled(Order::Seeded(7))));
        assert_ne!(first, drain(filled(Order::Seeded(8))));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_seeded_turn_does_not_reach_into_the_next() {
        let mut ready = filled(Order::Seeded(1));
        let mut first: Vec<_> = (1..=5).rev().filter_map(|left| ready.pick(left)).map(|(work, _)| work).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3, 4]);
    }
}
