//! The flight ring: the newest [`RECORDS`] wake-ups, steps and sleeps of all loops of a process.
//!
//! A record is four words of eight bytes:
//!
//! | word | |
//! | --- | --- |
//! | 0 | its [`stamp`](super::stamp): when it began; of a wake-up or an end within a step, when that step began |
//! | 1 | kind (8 bits), the loop's slot (8), subject (48) |
//! | 2 | wake, end: 0; step: its number (32) and length (32 bits, in 16 stamps); sleep: the end's stamp; timer: its deadline; name: where it is in the names (32) and the subject's own number (32) |
//! | 3 | cause: see [`Cause`](crate::cause::Cause) |
//!
//! The counter is read once a step, at its end, which is when the next one begins: reading it is half of a record's cost. So
//! the time of a wake-up that a step is the cause of is the earliest that it can have; the step's record, which follows it,
//! says when it ended, and with that the latest. What the operating system or another thread woke has the time of the
//! first record after the loop had asked for news.
//!
//! A loop takes a *chunk* of places at a time, which it fills with plain stores; after each record it says how far it has
//! got, so a reader finds whole records. Chunks are used again and again, so memory is bounded by construction; a reader
//! drops what was taken anew while it read. Records of one loop are in the order in which they were written.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::page::{CHUNK, CHUNKS, NAMES, Page};
use super::{Title, file};
use crate::cause::Cause;
use crate::fork;
use crate::short::Short;

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

/// One loop's pen. It knows where it writes, and the subjects that it has named.
#[derive(Default)]
pub struct Pen {
    /// The number of the next record; the first of a chunk if it has none to go on with.
    next: Cell<u64>,
    /// Where among the page's names are those with these hashes.
    places: Short<HashMap<u64, u32, BuildHasherDefault<Fold>>>,
    named: Short<HashMap<u64, Named, BuildHasherDefault<Fold>>>,
    /// Keys and numbers of those that have run and were met since the last chunk was taken, each in the place that its key
    /// gives it.
    met: Met,
}

struct Met([Cell<(u64, u64)>; 64]);

impl Default for Met {
    fn default() -> Self {
        Met([const { Cell::new((0, 0)) }; 64])
    }
}

impl Met {
    #[inline]
    fn place(&self, key: u64) -> &Cell<(u64, u64)> {
        // Addresses: they differ from the fifth bit on.
        &self.0[((key >> 4) ^ (key >> 10)) as usize % 64]
    }

    /// The number of the subject with this key.
    #[inline]
    fn get(&self, key: u64) -> Option<u64> {
        let (known, id) = self.place(key).get();
        (known == key && id != 0).then_some(id)
    }

    fn clear(&self) {
        self.0.iter().for_each(|place| place.set((0, 0)));
    }
}

/// The number of the next subject: none comes twice in a process.
static NEXT: AtomicU64 = AtomicU64::new(1);

#[derive(Clone, Copy)]
struct Named {
    id: u64,
    /// The stamp of its name as it was written; `None` once it has run, from when on it keeps it.
    stamp: Option<usize>,
    /// How many chunks had been taken when its name was written.
    at: u64,
}

/// Subjects that are remembered at the most; then all are named anew.
const REMEMBERED: usize = 64 * 1024;

impl Pen {
    /// Writes one record; `about` is the word 1 of it.
    #[inline]
    pub fn write(&self, page: &Page, about: u64, word: u64, cause: Cause, begun: u64) {
        let mut number = self.next.get();
        if number.is_multiple_of(CHUNK as u64) || is_old(page, number / CHUNK as u64) {
            number = take_chunk(page, number == 0);
            self.met.clear();
        }
        let place = number as usize % (CHUNKS * CHUNK);
        for (field, value) in page.ring.0[place].iter().zip([begun, about, word, cause.word()]) {
            field.store(value, Ordering::Relaxed);
        }
        self.next.set(number + 1);
        page.filled.0[place / CHUNK].store(number + 1, Ordering::Release);
    }

    /// The number in the ring of the subject with this key, if the ring knows what it is called.
    #[inline]
    pub fn known(&self, page: &Page, key: u64) -> Option<u64> {
        if let Some(id) = self.met.get(key) {
            return Some(id);
        }
        let named = self.named.with(|named| named.get(&key).copied()).filter(|known| !is_old(page, known.at))?;
        if named.stamp.is_none() {
            self.met.place(key).set((key, named.id));
        }
        Some(named.id)
    }

    /// Tells the ring what the subject with this key is called; `name` is asked for the name unless it stands there already.
    /// Returns its number in the ring.
    #[inline(never)]
    pub fn introduce(
        &self,
        page: &Page,
        slot: usize,
        key: u64,
        (title, stamp): (Title, usize),
        name: impl FnOnce() -> String,
        now: u64,
    ) -> u64 {
        let place = self.places.with(|places| places.get(&title.text).copied());
        let place = place.unwrap_or_else(|| self.write_name(page, title, &name()));
        let at = page.header.chunks.load(Ordering::Relaxed);
        let id = self.named.with(|named| {
            if named.len() >= REMEMBERED && !named.contains_key(&key) {
                named.clear();
            }
            let named = named.entry(key).or_insert_with(|| Named {
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                stamp: Some(stamp),
                at,
            });
            (named.stamp, named.at) = (named.stamp.map(|_| stamp), at);
            named.id
        });
        let word = (u64::from(place) << 32) | u64::from(title.number);
        self.write(page, about(Kind::Name, slot, id), word, Cause::OUTSIDE, now);
        id
    }

    #[cold]
    fn write_name(&self, page: &Page, title: Title, name: &str) -> u32 {
        let place = intern(page, name);
        // As many as the page has room for, at the most.
        if place != 0 && title.text != 0 {
            self.places.with(|places| places.insert(title.text, place));
        }
        place
    }

    /// As [`known`](Self::known), of a subject that begins to run; and, if that is for the first time, the stamp of its name:
    /// it may have got another after it was made ready.
    #[inline]
    pub fn begins(&self, page: &Page, key: u64) -> Option<(u64, Option<usize>)> {
        if let Some(id) = self.met.get(key) {
            return Some((id, None));
        }
        let known = self.named.with(|named| {
            let known = named.get_mut(&key).filter(|known| !is_old(page, known.at))?;
            Some((known.id, known.stamp.take()))
        })?;
        self.met.place(key).set((key, known.0));
        Some(known)
    }

    /// The subject with this key is over: another may have its key. Returns its number in the ring, if it had one.
    pub fn forget(&self, key: u64) -> Option<u64> {
        if self.met.get(key).is_some() {
            self.met.place(key).set((0, 0));
        }
        self.named.with(|named| named.remove(&key)).map(|known| known.id)
    }

    /// In the child of a fork, whose page is empty.
    pub fn begin_anew(&self) {
        self.next.set(0);
        self.met.clear();
        drop(self.named.with(std::mem::take));
        drop(self.places.with(std::mem::take));
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        // Many loops that live for a moment share a chunk.
        left_chunks().1.push(self.next.get());
    }
}

/// Whether what was written into the ring when so many chunks had been taken may be overwritten before long.
#[inline]
fn is_old(page: &Page, chunk: u64) -> bool {
    // (A loop that writes little may keep a chunk, and what it has met, for as long again.)
    page.header.chunks.load(Ordering::Relaxed).wrapping_sub(chunk) > CHUNKS as u64 * 3 / 8
}

/// A chunk for one loop alone. Returns the number of its first free record. The first chunk of a loop may be one that
/// another has left; those that follow have higher numbers, so that a loop's records are in order.
#[cold]
fn take_chunk(page: &Page, is_first: bool) -> u64 {
    while is_first && let Some(next) = left_chunks().1.pop() {
        if !next.is_multiple_of(CHUNK as u64) && !is_old(page, next / CHUNK as u64) {
            return next;
        }
    }
    let chunk = page.header.chunks.fetch_add(1, Ordering::AcqRel);
    let first = chunk * CHUNK as u64;
    // Whoever reads one of the new records sees that its chunk is another's.
    page.filled.0[chunk as usize % CHUNKS].store(first, Ordering::Relaxed);
    fence(Ordering::Release);
    first
}

/// The next record's numbers of chunks whose loops are gone, and in which process that was.
fn left_chunks() -> MutexGuard<'static, (u32, Vec<u64>)> {
    static LEFT: Mutex<(u32, Vec<u64>)> = Mutex::new((0, Vec::new()));
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    if left.0 != fork::count() {
        // They are in the parent's page.
        *left = (fork::count(), Vec::new());
    }
    left
}

/// How many records there have been, of which the oldest may be gone.
pub(super) fn written(page: &Page) -> u64 {
    let chunks = page.header.chunks.load(Ordering::Relaxed);
    let gone = chunks.saturating_sub(CHUNKS as u64);
    let filled = |chunk: u64| {
        page.filled.0[chunk as usize % CHUNKS].load(Ordering::Relaxed).saturating_sub(chunk * CHUNK as u64)
    };
    gone * CHUNK as u64 + (gone..chunks).map(filled).map(|count| count.min(CHUNK as u64)).sum::<u64>()
}

/// The whole records of the chunk in this place: the chunk's number, and their words. None if it was taken anew meanwhile.
pub(super) fn read_chunk(page: &Page, place: usize) -> Option<(u64, Vec<[u64; 4]>)> {
    let filled = |order| {
        let next = page.filled.0[place].load(order);
        let chunk = next / CHUNK as u64;
        // After its last record comes the first of the next one.
        (if chunk as usize % CHUNKS == place { chunk } else { chunk.wrapping_sub(1) }, next)
    };
    let (chunk, next) = filled(Ordering::Acquire);
    let count = (next.wrapping_sub(chunk.wrapping_mul(CHUNK as u64)) as usize).min(CHUNK);
    let records = &page.ring.0[place * CHUNK..][..count];
    let words = records.iter().map(|record| std::array::from_fn(|word| record[word].load(Ordering::Relaxed))).collect();
    fence(Ordering::Acquire);
    (filled(Ordering::Relaxed).0 == chunk).then_some((chunk, words))
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

/// What a record is about, as one word.
#[inline]
pub fn about(kind: Kind, slot: usize, subject: u64) -> u64 {
    ((kind as u64) << 56) | ((slot as u64 & 0xff) << 48) | (subject & 0xffff_ffff_ffff)
}

/// A step's number and length as one word.
#[inline]
pub fn step_word(number: u64, length: u64) -> u64 {
    ((number & 0xffff_ffff) << 32) | (length / LENGTH_UNIT).min(u64::from(u32::MAX))
}

/// Gives the ring its memory. False if there is none.
pub(crate) fn prepare(page: &Page) -> bool {
    let start = offset_of!(Page, filled);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_once_and_a_stamp_told_once() {
        let (pen, page) = (Pen::default(), Page::own());
        assert!(prepare(page), "memory for the ring");
        let title = |number| Title { text: 0x1234_5678_9abc_def1, number };
        let first = pen.introduce(page, 0, 0x100, (title(1), 7), || "fetch".to_owned(), 0);
        let second = pen.introduce(page, 0, 0x200, (title(2), 8), || unreachable!("asked again"), 0);
        assert_ne!(first, second);
        assert_eq!(pen.known(page, 0x200), Some(second));
        assert_eq!(pen.begins(page, 0x200), Some((second, Some(8))));
        assert_eq!(pen.begins(page, 0x200), Some((second, None)));
        // The same subject, which has got another name meanwhile.
        assert_eq!(pen.introduce(page, 0, 0x100, (title(3), 9), || unreachable!("asked again"), 0), first);
        assert_eq!(pen.begins(page, 0x100), Some((first, Some(9))));
        assert_eq!(pen.forget(0x100), Some(first));
        assert_eq!(pen.known(page, 0x100), None);
        assert_eq!(pen.begins(page, 0x100), None);
    }
}
