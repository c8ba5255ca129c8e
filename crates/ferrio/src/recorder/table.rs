//! A table of what a loop's pen remembers: addresses and hashes to a few words each. One lies behind every record, so it
//! does no more than that: open addressing with linear probing (Knuth 3, 6.4), at most half full, nothing owned. What is
//! made the default again keeps its place, which the next of that key takes, until the table would grow.

/// The key of places that are free. Nothing is remembered under it.
const FREE: u64 = u64::MAX;
/// Values that are remembered at the most; then all are forgotten.
const MOST: usize = 64 * 1024;
/// How many places there are at first: none before something is remembered.
const FIRST: usize = 64;

/// Values by their keys.
pub(super) struct Table<V> {
    /// A power of two of places, or none.
    places: Box<[(u64, V)]>,
    /// How many of them are not free.
    len: usize,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Table { places: Box::default(), len: 0 }
    }
}

impl<V: Copy + Default + PartialEq> Table<V> {
    /// Where the search for a key begins: Fibonacci hashing, whose good bits are the upper ones.
    #[inline]
    fn home(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }

    /// Where the key is, or else where it would be. There is a free place, as the table is at most half full.
    #[inline]
    fn find(&self, key: u64) -> Result<usize, usize> {
        let last = self.places.len() - 1;
        let mut place = self.home(key) & last;
        loop {
            match self.places[place].0 {
                found if found == key => return Ok(place),
                FREE => return Err(place),
                _ => place = (place + 1) & last,
            }
        }
    }

    /// What is remembered under this key; it may be the default.
    #[inline]
    pub fn get(&mut self, key: u64) -> Option<&mut V> {
        if self.len == 0 || key == FREE {
            return None;
        }
        self.find(key).ok().map(|place| &mut self.places[place].1)
    }

    /// What is remembered under this key, from now on if nothing was; that is the default then. None if nothing can be.
    #[inline]
    pub fn entry(&mut self, key: u64) -> Option<&mut V> {
        if key == FREE {
            return None;
        }
        if 2 * self.len >= self.places.len() {
            self.grow();
        }
        let place = match self.find(key) {
            Ok(place) => place,
            Err(free) => {
                self.len += 1;
                self.places[free] = (key, V::default());
                free
            }
        };
        Some(&mut self.places[place].1)
    }

    /// Remembers the value under this key, instead of what was.
    pub fn insert(&mut self, key: u64, value: V) {
        if let Some(place) = self.entry(key) {
            *place = value;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let is_kept = |(key, value): &(u64, V)| *key != FREE && *value != V::default();
        self.len = self.places.iter().filter(|place| is_kept(place)).count();
        if self.len >= MOST {
            return self.clear();
        }
        // At most a quarter of them are taken, so that this is not soon to be done again.
        let empty = vec![(FREE, V::default()); (4 * self.len).next_power_of_two().max(FIRST)];
        let former = std::mem::replace(&mut self.places, empty.into());
        for (key, value) in former.into_iter().filter(is_kept) {
            let (Ok(place) | Err(place)) = self.find(key);
            self.places[place] = (key, value);
        }
    }

    /// Forgets everything, and keeps the room.
    pub fn clear(&mut self) {
        self.places.iter_mut().for_each(|place| place.0 = FREE);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_table_agrees_with_another_kind_of_table() {
        let (mut table, mut model) = (Table::default(), HashMap::new());
        let mut state = 1_u64;
        for round in 1..200_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few keys, and close together, so that they are in each other's way.
            let key = 0x7f00_0000_0000 + (state >> 40) % 300 * 16;
            if (state >> 33) & 1 == 0 {
                table.insert(key, round);
                model.insert(key, round);
            } else {
                assert_eq!(
                    table.get(key).map(std::mem::take).unwrap_or_default(),
                    model.remove(&key).unwrap_or_default()
                );
            }
            assert!((model.len()..=300).contains(&table.len));
        }
        for key in (0..300).map(|number| 0x7f00_0000_0000 + number * 16) {
            assert_eq!(table.get(key).copied().unwrap_or_default(), model.get(&key).copied().unwrap_or_default());
        }
        table.clear();
        assert_eq!((table.len, table.get(0x7f00_0000_0000).copied()), (0, None));
    }

    #[test]
    fn every_key_is_one_and_the_free_places_none() {
        let mut table = Table::default();
        assert_eq!(table.get(0), None);
        table.insert(0, 7);
        table.insert(FREE, 8);
        assert_eq!((table.get(0).copied(), table.get(FREE).copied(), table.len), (Some(7), None, 1));
        assert_eq!((table.get(0).copied(), table.get(FREE).copied()), (Some(7), None));
    }

    #[test]
    fn what_was_taken_leaves_room() {
        let mut table = Table::default();
        for key in 0..100_000_u64 {
            table.insert(key, 1);
            assert_eq!(table.get(key).map(std::mem::take), Some(1));
        }
        assert_eq!(table.places.len(), FIRST);
    }
}
