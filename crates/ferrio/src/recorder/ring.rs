//! The flight ring: the newest [`RECORDS`] wake-ups, steps and sleeps of all loops of a process.
//!
//! A record is four words of eight bytes, written one after the other into the place that a counter gives it:
//!
//! | word | |
//! | --- | --- |
//! | 0 | its [`stamp`](super::stamp): when it began |
//! | 1 | kind (8 bits), the loop's slot (8), subject (48) |
//! | 2 | wake, end: 0; step: its number (32) and length (32 bits, in 16 stamps); sleep: the end's stamp; timer: its deadline; name: where it is in the names (32) and the subject's own number (32) |
//! | 3 | cause: see [`Cause`](crate::cause::Cause) |
//!
//! Places are used again and again, so memory is bounded by construction; a reader drops what was overwritten while it
//! read.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::page::{NAMES, Page, RECORDS};
use super::{file, stamp};
use crate::cause::Cause;
use crate::fork;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A subject was made ready.
    Wake = 1,
    /// A subject ran.
    Step = 2,
    /// The loop slept.
    Sleep = 3,
    /// A timer was set, by the cause (a step); its number stands in place of a subject.
    Timer = 4,
    /// What a subject is called.
    Name = 5,
    /// A subject is over: nothing of it follows.
    End = 6,
}

impl Kind {
    pub(super) fn from_number(number: u8) -> Option<Kind> {
        use Kind::{End, Name, Sleep, Step, Timer, Wake};
        [Wake, Step, Sleep, Timer, Name, End].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Lengths are kept in so many stamps: 32 bits of them are half a minute.
pub(super) const LENGTH_UNIT: u64 = 16;

/// One loop's pen. It knows the subjects that it has named.
#[derive(Default)]
pub struct Pen {
    named: HashMap<u64, Named, BuildHasherDefault<Fold>>,
}

/// The number of the next subject: none comes twice in a process.
static NEXT: AtomicU64 = AtomicU64::new(1);

struct Named {
    id: u64,
    /// Its name and number as they were written.
    word: u64,
    /// It has run.
    started: bool,
    /// How many records there were when its name was written.
    at: u64,
}

/// Subjects that are remembered at the most; then all are named anew.
const REMEMBERED: usize = 64 * 1024;

impl Pen {
    /// The number in the ring of the subject with this key, if the ring knows what it is called.
    #[inline]
    pub fn known(&self, page: &Page, key: u64) -> Option<u64> {
        let records = page.header.records.load(Ordering::Relaxed);
        let named = self.named.get(&key)?;
        // Its name must not be the first thing that is overwritten.
        (records.wrapping_sub(named.at) < RECORDS as u64 / 2).then_some(named.id)
    }

    /// Tells the ring what the subject with this key is called, and the subject's own number (`fetch`, 12 for `Task-12`;
    /// 0 for none). Returns its number in the ring.
    #[cold]
    pub fn introduce(&mut self, page: &Page, slot: usize, key: u64, (name, number): (String, u32)) -> u64 {
        let known = self.named.get(&key).map(|known| known.id);
        if self.named.len() >= REMEMBERED {
            self.named.clear();
        }
        let id = known.unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
        let word = (u64::from(intern(page, &name)) << 32) | u64::from(number);
        write(page, Kind::Name, slot, id, word, Cause::OUTSIDE, stamp::now());
        let started = self.named.get(&key).is_some_and(|known| known.started);
        self.named.insert(key, Named { id, word, started, at: page.header.records.load(Ordering::Relaxed) });
        id
    }

    /// As [`known`](Self::known), of a subject that begins to run, and whether it does for the first time: it may have got
    /// its name after it was made ready.
    #[inline]
    pub fn begins(&mut self, page: &Page, key: u64) -> Option<(u64, bool)> {
        let records = page.header.records.load(Ordering::Relaxed);
        let named = self.named.get_mut(&key)?;
        let is_first = !std::mem::replace(&mut named.started, true);
        (records.wrapping_sub(named.at) < RECORDS as u64 / 2).then_some((named.id, is_first))
    }

    /// Tells the ring if the subject is called something else by now.
    #[cold]
    pub fn rename(&mut self, page: &Page, slot: usize, key: u64, (name, number): (String, u32)) {
        let word = (u64::from(intern(page, &name)) << 32) | u64::from(number);
        if let Some(known) = self.named.get_mut(&key).filter(|known| known.word != word) {
            known.word = word;
            write(page, Kind::Name, slot, known.id, word, Cause::OUTSIDE, stamp::now());
        }
    }

    /// The subject with this key is over: another may have its key. Returns its number in the ring, if it had one.
    pub fn forget(&mut self, key: u64) -> Option<u64> {
        self.named.remove(&key).map(|known| known.id)
    }
}

/// Addresses, folded into hashes: they differ in the middle.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, key: u64) {
        // Fibonacci hashing (Knuth 3, 6.4); the table looks at both ends of a hash.
        let mixed = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Writes one record.
#[inline]
pub fn write(page: &Page, kind: Kind, slot: usize, subject: u64, word: u64, cause: Cause, begun: u64) {
    let place = page.header.records.fetch_add(1, Ordering::AcqRel) as usize % RECORDS;
    let record = &page.ring.0[place];
    let about = ((kind as u64) << 56) | ((slot as u64 & 0xff) << 48) | (subject & 0xffff_ffff_ffff);
    for (field, value) in record.iter().zip([begun, about, word, cause.word()]) {
        field.store(value, Ordering::Relaxed);
    }
}

/// A step's number and length as one word.
#[inline]
pub fn step_word(number: u64, length: u64) -> u64 {
    ((number & 0xffff_ffff) << 32) | (length / LENGTH_UNIT).min(u64::from(u32::MAX))
}

/// Gives the ring its memory. False if there is none.
pub(crate) fn prepare(page: &Page) -> bool {
    let start = offset_of!(Page, ring);
    let room = file::reserve(start, offset_of!(Page, snapshots) - start);
    if !room {
        page.header.missing.fetch_or(1, Ordering::Relaxed);
    }
    room
}

/// Where a name stands among the page's names; 0 for none, when they are full.
fn intern(page: &Page, name: &str) -> u32 {
    static KNOWN: Mutex<Option<(u32, HashMap<String, u32>)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // A child's page has no names yet.
    let (_, places) = match &mut *known {
        Some(known) if known.0 == fork::count() => known,
        other => other.insert((fork::count(), HashMap::new())),
    };
    if let Some(place) = places.get(name) {
        return *place;
    }
    let mut length = name.len().min(120);
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    // The first byte of all is nobody's, so that 0 is no place. A name is its length and its bytes.
    let place = page.header.names.load(Ordering::Relaxed).max(1) as usize;
    if place + 1 + length > NAMES {
        return 0;
    }
    page.names.0[place].store(length as u8, Ordering::Relaxed);
    for (byte, value) in page.names.0[place + 1..].iter().zip(name.bytes().take(length)) {
        byte.store(value, Ordering::Relaxed);
    }
    page.header.names.store((place + 1 + length) as u64, Ordering::Release);
    places.insert(name.to_owned(), place as u32);
    place as u32
}

/// The words of a record, in any order with its writer.
pub(super) fn words(record: &[AtomicU64; 4]) -> [u64; 4] {
    std::array::from_fn(|word| record[word].load(Ordering::Relaxed))
}
