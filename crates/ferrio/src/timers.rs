//! Timers: a heap ordered by (deadline, sequence), with cancellation in constant time.
//!
//! Equal deadlines fire in the order in which they were set: the sequence number decides. A cancelled timer leaves a
//! tombstone in the heap, which is skipped when it surfaces; once tombstones are the majority the heap is rebuilt
//! without them, so cancelling costs constant time amortised and memory stays proportional to the living timers.
//!
//! Values that come out are *returned*, never dropped in here: dropping one may run arbitrary code (a Python
//! `__del__`) which may call the loop again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Names one set timer. It stays unique: a fired or cancelled timer's id never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    sequence: u64,
    slot: u32,
}

impl TimerId {
    /// The timer's place in the order in which timers were set.
    pub fn sequence(self) -> u64 {
        self.sequence
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    when: u64,
    sequence: u64,
    slot: u32,
}

struct Slot<T> {
    sequence: u64,
    value: Option<T>,
}

/// Rebuilding a heap smaller than this saves nothing.
const COMPACT_ABOVE: usize = 64;

/// The timers of one loop; `T` is what happens when one is due.
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<Deadline>>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    next_sequence: u64,
    living: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), next_sequence: 0, living: 0 }
    }
}

impl<T> Timers<T> {
    /// Sets a timer for `when` (nanoseconds of the loop's clock).
    pub fn insert(&mut self, when: u64, value: T) -> TimerId {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let filled = Slot { sequence, value: Some(value) };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = filled;
                slot
            }
            None => {
                self.slots.push(filled);
                (self.slots.len() - 1) as u32
            }
        };
        self.heap.push(Reverse(Deadline { when, sequence, slot }));
        self.living += 1;
        TimerId { sequence, slot }
    }

    /// The place of the timer that is set next.
    pub fn upcoming(&self) -> u64 {
        self.next_sequence
    }

    /// Cancels a timer and returns its value; `None` if it has fired or was cancelled before.
    #[must_use = "drop it only after the borrow of the timers has ended"]
    pub fn remove(&mut self, id: TimerId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.sequence != id.sequence {
            return None;
        }
        let value = slot.value.take()?;
        self.free.push(id.slot);
        self.living -= 1;
        self.compact();
        Some(value)
    }

    /// The earliest living deadline.
    pub fn next_deadline(&mut self) -> Option<u64> {
        self.earliest().map(|(_, when)| when)
    }

    /// The earliest living timer: its place in the order in which timers were set, and its deadline.
    pub fn earliest(&mut self) -> Option<(u64, u64)> {
        loop {
            let Reverse(top) = self.heap.peek()?;
            if self.is_living(top) {
                return Some((top.sequence, top.when));
            }
            self.heap.pop();
        }
    }

    /// Takes out the earliest timer that is due at `now`, if there is one, with its deadline.
    pub fn pop_due(&mut self, now: u64) -> Option<(TimerId, u64, T)> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse(Deadline { when, sequence, slot }) = self.heap.pop()?;
        let value = self.slots[slot as usize].value.take()?;
        self.free.push(slot);
        self.living -= 1;
        Some((TimerId { sequence, slot }, when, value))
    }

    /// Empties the heap and hands out everything that was waiting, in no particular order.
    #[must_use = "drop it only after the borrow of the timers has ended"]
    pub fn take_all(&mut self) -> Vec<T> {
        self.heap.clear();
        self.free.clear();
        self.living = 0;
        std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.value).collect()
    }

    /// How many timers are waiting.
    pub fn len(&self) -> usize {
        self.living
    }

    /// Whether no timer is waiting.
    pub fn is_empty(&self) -> bool {
        self.living == 0
    }

    /// The values of all waiting timers, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    fn is_living(&self, deadline: &Deadline) -> bool {
        let slot = &self.slots[deadline.slot as usize];
        slot.sequence == deadline.sequence && slot.value.is_some()
    }

    fn compact(&mut self) {
        if self.heap.len() > COMPACT_ABOVE && self.heap.len() > 2 * self.living {
            let mut heap = std::mem::take(&mut self.heap).into_vec();
            heap.retain(|Reverse(deadline)| self.is_living(deadline));
            self.heap = BinaryHeap::from(heap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        for name in ["a", "b", "c"] {
            timers.insert(5, name);
        }
        timers.insert(4, "first");
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(5)).map(|(_, _, name)| name).collect();
        assert_eq!(fired, ["first", "a", "b", "c"]);
    }

    #[test]
    fn a_timer_never_fires_before_its_deadline() {
        let mut timers = Timers::default();
        timers.insert(10, ());
        assert!(timers.pop_due(9).is_none());
        assert!(timers.pop_due(10).is_some());
    }

    #[test]
    fn an_id_of_a_fired_timer_cancels_nothing() {
        let mut timers = Timers::default();
        let old = timers.insert(1, "old");
        assert!(timers.pop_due(1).is_some());
        let new = timers.insert(1, "new");
        assert_eq!(timers.remove(old), None);
        assert_eq!(timers.remove(new), Some("new"));
        assert_eq!(timers.remove(new), None);
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let mut timers = Timers::default();
        for when in 0..100_000 {
            let id = timers.insert(1_000_000 + when, ());
            assert!(timers.remove(id).is_some());
        }
        assert!(timers.heap.len() <= COMPACT_ABOVE + 1);
        assert!(timers.slots.len() <= 2);
    }
}
