//! Timers: a queue and a heap ordered by (deadline, sequence), with cancellation in constant time.
//!
//! Most programs have few different timeouts, so that a timer is usually due after all that were set before: such a one
//! goes to the end of the queue, in constant time. One that is due before the queue's last goes into the heap.
//!
//! Equal deadlines fire in the order in which they were set: the sequence number decides. A cancelled timer leaves a
//! tombstone, which is skipped when it surfaces; once tombstones are the majority they are swept away, so cancelling
//! costs constant time amortised and memory stays proportional to the living timers.
//!
//! Values that come out are *returned*, never dropped in here: dropping one may run arbitrary code (a Python
//! `__del__`) which may call the loop again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

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

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    when: u64,
    sequence: u64,
    slot: u32,
}

struct Slot<T> {
    sequence: u64,
    when: u64,
    value: Option<T>,
}

/// Sweeping fewer than these saves nothing.
const COMPACT_ABOVE: usize = 64;

/// The timers of one loop; `T` is what happens when one is due.
pub struct Timers<T> {
    /// In order.
    queue: VecDeque<Deadline>,
    heap: BinaryHeap<Reverse<Deadline>>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    next_sequence: u64,
    living: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers {
            queue: VecDeque::new(),
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            next_sequence: 0,
            living: 0,
        }
    }
}

impl<T> Timers<T> {
    /// Sets a timer for `when` (nanoseconds of the loop's clock).
    // (Its second caller, for what is recorded, would make it a function, to which a large value is handed through memory.)
    #[inline(always)]
    pub fn insert(&mut self, when: u64, value: T) -> TimerId {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let filled = Slot { sequence, when, value: Some(value) };
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
        let deadline = Deadline { when, sequence, slot };
        if self.queue.back().is_none_or(|last| last.when <= when) {
            self.queue.push_back(deadline);
        } else {
            self.heap.push(Reverse(deadline));
        }
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
        // Most timeouts are cancelled soon, the last one first: it leaves nothing behind.
        while self.queue.back().is_some_and(|last| !self.is_living(last)) {
            self.queue.pop_back();
        }
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
            let (first, is_queued) = self.first()?;
            if self.is_living(&first) {
                return Some((first.sequence, first.when));
            }
            self.drop_first(is_queued);
        }
    }

    /// Takes out the earliest timer that is due at `now`, if there is one, with its deadline.
    pub fn pop_due(&mut self, now: u64) -> Option<(TimerId, u64, T)> {
        loop {
            let (Deadline { when, sequence, slot }, is_queued) = self.first()?;
            let is_living = self.is_living(&Deadline { when, sequence, slot });
            if is_living && when > now {
                return None;
            }
            self.drop_first(is_queued);
            if !is_living {
                continue;
            }
            let value = self.slots[slot as usize].value.take()?;
            self.free.push(slot);
            self.living -= 1;
            return Some((TimerId { sequence, slot }, when, value));
        }
    }

    /// The first deadline, living or not, and whether it is in the queue.
    #[inline]
    fn first(&self) -> Option<(Deadline, bool)> {
        match (self.queue.front(), self.heap.peek()) {
            (Some(queued), Some(Reverse(top))) if top < queued => Some((*top, false)),
            (Some(queued), _) => Some((*queued, true)),
            (None, Some(Reverse(top))) => Some((*top, false)),
            (None, None) => None,
        }
    }

    #[inline]
    fn drop_first(&mut self, is_queued: bool) {
        if is_queued {
            self.queue.pop_front();
        } else {
            self.heap.pop();
        }
    }

    /// Hands out everything that was waiting, in no particular order.
    #[must_use = "drop it only after the borrow of the timers has ended"]
    pub fn take_all(&mut self) -> Vec<T> {
        self.queue.clear();
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

    /// Shows the timers in at most `most` places from `start` on. Returns where to go on; `None` after the last place. A
    /// timer stays in its place, so whoever goes on until then, whatever happens meanwhile, sees each once that was set all
    /// the while.
    pub fn walk(&self, start: usize, most: usize, mut visit: impl FnMut(TimerId, u64, &T)) -> Option<usize> {
        let end = start.saturating_add(most).min(self.slots.len());
        for (place, slot) in self.slots.iter().enumerate().take(end).skip(start) {
            if let Some(value) = &slot.value {
                visit(TimerId { sequence: slot.sequence, slot: place as u32 }, slot.when, value);
            }
        }
        (end < self.slots.len()).then_some(end)
    }

    /// Shows the timers that were set from this place in their order on.
    pub fn since(&self, sequence: u64, mut visit: impl FnMut(TimerId, u64, &T)) {
        // The queue is in this order as well.
        let queued = self.queue.iter().rev().take_while(|deadline| deadline.sequence >= sequence);
        let others = self.heap.iter().map(|Reverse(deadline)| deadline).filter(|one| one.sequence >= sequence);
        for &Deadline { when, sequence, slot } in queued.chain(others) {
            let id = TimerId { sequence, slot };
            if let Some((_, value)) = self.get(id) {
                visit(id, when, value);
            }
        }
    }

    /// A waiting timer: its deadline and its value.
    pub fn get(&self, id: TimerId) -> Option<(u64, &T)> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.sequence == id.sequence)?;
        Some((slot.when, slot.value.as_ref()?))
    }

    fn is_living(&self, deadline: &Deadline) -> bool {
        let slot = &self.slots[deadline.slot as usize];
        slot.sequence == deadline.sequence && slot.value.is_some()
    }

    fn compact(&mut self) {
        let all = self.queue.len() + self.heap.len();
        if all > COMPACT_ABOVE && all > 2 * self.living {
            let mut queue = std::mem::take(&mut self.queue);
            queue.retain(|deadline| self.is_living(deadline));
            self.queue = queue;
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
        // Before the one that stays (in the heap), and after it (in the queue): each at once, and in pairs.
        for base in [0, 2_000_000] {
            let mut timers = Timers::default();
            timers.insert(1_000_000, ());
            for when in 0..50_000 {
                let (first, second) = (timers.insert(base + when, ()), timers.insert(base + when, ()));
                assert!(timers.remove(first).is_some());
                assert!(timers.remove(second).is_some());
            }
            assert!(timers.queue.len() + timers.heap.len() <= COMPACT_ABOVE + 1);
            assert!(timers.slots.len() <= 4);
        }
    }

    #[test]
    fn a_walk_in_pieces_sees_once_what_was_set_all_the_while() {
        let mut timers = Timers::default();
        let mut stay: Vec<_> = (0..500).map(|n: u64| timers.insert(1_000 + n * 7919 % 500, n)).collect();
        let begun = timers.upcoming();
        let (mut seen, mut next, mut round) = (Vec::new(), Some(0), 0);
        while let Some(start) = next {
            next = timers.walk(start, 32, |id, when, n| seen.push((id, when, *n)));
            // Meanwhile some are cancelled, some come due, and others are set: before all that are there, between, after.
            for place in [round * 5 % stay.len(), 0] {
                assert!(timers.remove(stay.remove(place)).is_some());
            }
            assert!(timers.pop_due(1_000 + round as u64).is_none_or(|(id, ..)| {
                stay.retain(|one| *one != id);
                true
            }));
            for when in [1_001, 2_100, 10_000] {
                timers.insert(when, 1_000_000);
            }
            round += 1;
        }
        assert!(round > 10);
        let ids: std::collections::HashSet<_> = seen.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids.len(), seen.len());
        assert!(stay.len() > 400 && stay.iter().all(|id| ids.contains(id)));
        assert!(seen.iter().all(|(_, when, n)| *n == 1_000_000 || *when == 1_000 + n * 7919 % 500));
        let mut new = 0;
        timers.since(begun, |id, _, n| {
            assert!(*n == 1_000_000 && timers.get(id).is_some_and(|(_, n)| *n == 1_000_000));
            new += 1;
        });
        assert!(new > 0 && new == timers.len() - stay.len());
    }

    #[test]
    fn the_queue_and_the_heap_give_one_order() {
        let mut timers = Timers::default();
        for (when, name) in [(5, "b"), (9, "e"), (5, "c"), (1, "a"), (9, "f"), (7, "d")] {
            timers.insert(when, name);
        }
        assert_eq!(timers.earliest().map(|(_, when)| when), Some(1));
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(9)).map(|(_, _, name)| name).collect();
        assert_eq!(fired, ["a", "b", "c", "d", "e", "f"]);
    }
}
