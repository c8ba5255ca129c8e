//! The flight ring: the newest [`RECORDS`] wake-ups, steps and sleeps of all loops of a process.
//!
//! A record is four words of eight bytes:
//!
//! | word | |
//! | --- | --- |
//! | 0 | its [`stamp`](super::stamp): when it began; of a wake-up within a step, when that step began |
//! | 1 | kind (8 bits), the loop's slot (8), subject (48) |
//! | 2 | step: its number (32) and length (32 bits, in 16 stamps); sleep: the end's stamp; timer: its deadline; name: where it is in the names (32) and the subject's own number (32); wake: the same where the name is told, else 0; end: 0 |
//! | 3 | cause: see [`Cause`](crate::cause::Cause) |
//!
//! A task that does one thing is most of what many programs do, so it takes two records and not four: its first wake-up
//! says what it is called, its last step that it is over. Readers are given four.
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
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::page::{CHUNK, CHUNKS, NAMES, Page};
use super::table::Table;
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
    /// A subject ran, and is over. Readers are given a step and an end.
    LastStep = 7,
}

impl Kind {
    pub(super) fn from_number(number: u8) -> Option<Kind> {
        use Kind::{End, LastStep, Name, Sleep, Step, Timer, Wake};
        [Wake, Step, Sleep, Timer, Name, End, LastStep].into_iter().find(|kind| *kind as u8 == number)
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
    places: Short<Table<u32>>,
    /// Subjects by their keys.
    named: Short<Table<Named>>,
}

/// The default is nobody.
#[derive(Clone, Copy, Default, PartialEq)]
struct Named {
    /// Its number in the ring: one more than that of the record which named it first, so that none comes twice.
    id: u64,
    /// The stamp of its name as it was written; 0 once it has run, from when on it keeps it.
    stamp: usize,
    /// When so many chunks have been taken, its name may be overwritten before long.
    until: u64,
}

impl Named {
    /// The record of this number tells its name, which has this stamp, when so many chunks have been taken.
    #[inline]
    fn introduce(&mut self, number: u64, chunks: u64, stamp: usize) {
        if self.id == 0 {
            (self.id, self.stamp) = (number + 1, stamp);
        } else if self.stamp != 0 {
            self.stamp = stamp;
        }
        self.until = chunks + FRESH;
    }
}

impl Pen {
    /// Writes one record; `about` is the word 1 of it.
    #[inline]
    pub fn write(&self, page: &Page, about: u64, word: u64, cause: Cause, begun: u64) {
        let number = self.room(page);
        let place = number as usize % (CHUNKS * CHUNK);
        for (field, value) in page.ring.0[place].iter().zip([begun, about, word, cause.word()]) {
            field.store(value, Ordering::Relaxed);
        }
        self.next.set(number + 1);
        page.filled.0[place / CHUNK].store(number + 1, Ordering::Release);
    }

    /// The number of the record that is written next, for which there is room.
    #[inline]
    fn room(&self, page: &Page) -> u64 {
        let number = self.next.get();
        if number.is_multiple_of(CHUNK as u64) || is_old(page, number / CHUNK as u64) {
            self.next.set(take_chunk(page, number == 0));
        }
        self.next.get()
    }

    /// What the next record tells of the subject with this key, which is made ready: its number in the ring, and, if the ring
    /// does not know what it is called, the word that tells its name and that name's stamp (else 0). If it was made ready before,
    /// it has run since then, and keeps its name. None if there is no `title`, or its name does not stand there yet.
    #[inline]
    pub fn wakes(&self, page: &Page, key: u64, title: impl FnOnce() -> Option<Title>) -> Option<(u64, u64, usize)> {
        self.named.with(|named| {
            let known = named.entry(key)?;
            let chunks = page.header.chunks.load(Ordering::Relaxed);
            if chunks < known.until {
                known.stamp = 0;
                return Some((known.id, 0, 0));
            }
            let title = title()?;
            let place = self.places.with(|places| places.get(title.text).copied())?;
            known.introduce(self.room(page), chunks, title.stamp);
            Some((known.id, name_word(place, title), title.stamp))
        })
    }

    /// The number in the ring of a subject that begins to run, if the ring knows what it is called. None, too, if it does so for
    /// the first time, and `stamp`, that of its name by now, is another than when it was made ready.
    #[inline]
    pub fn begins(&self, page: &Page, key: u64, stamp: impl FnOnce() -> usize) -> Option<u64> {
        self.named.with(|named| {
            let known = named.get(key).filter(|known| page.header.chunks.load(Ordering::Relaxed) < known.until)?;
            if known.stamp != 0 && known.stamp != stamp() {
                return None;
            }
            known.stamp = 0;
            Some(known.id)
        })
    }

    /// Has the next record, which must be the subject's, tell what it is called, whose `name` may have to be written first:
    /// returns the subject's number in the ring and the word that tells its name.
    pub fn introduce(&self, page: &Page, key: u64, title: Title, name: impl FnOnce() -> String) -> (u64, u64) {
        let known = self.places.with(|places| places.get(title.text).copied());
        let place = known.unwrap_or_else(|| self.write_name(page, title, &name()));
        let next = self.room(page);
        let id = self.named.with(|named| {
            let Some(known) = named.entry(key) else { return next + 1 };
            known.introduce(next, page.header.chunks.load(Ordering::Relaxed), title.stamp);
            known.id
        });
        (id, name_word(place, title))
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

    /// The subject with this key is over: another may have its key. Returns its number in the ring; 0 if it had none.
    #[inline]
    pub fn forget(&self, key: u64) -> u64 {
        self.named.with(|named| named.get(key).map_or(0, |known| std::mem::take(known).id))
    }

    /// Subjects may have ended unseen, and others have their keys by now.
    pub fn forget_all(&self) {
        self.named.with(|named| named.clear());
    }

    /// In the child of a fork, whose page is empty.
    pub fn begin_anew(&self) {
        self.next.set(0);
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

/// What is written into the ring will not be overwritten soon while fewer chunks than these are taken. (A loop that writes
/// little may keep a chunk for as long again.)
const FRESH: u64 = CHUNKS as u64 * 3 / 8 + 1;

/// Whether what was written into the ring when so many chunks had been taken may be overwritten before long.
#[inline]
fn is_old(page: &Page, chunk: u64) -> bool {
    page.header.chunks.load(Ordering::Relaxed).wrapping_sub(chunk) >= FRESH
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

/// What a record is about, as one word.
#[inline]
pub fn about(kind: Kind, slot: usize, subject: u64) -> u64 {
    ((kind as u64) << 56) | ((slot as u64 & 0xff) << 48) | (subject & 0xffff_ffff_ffff)
}

/// Where the name stands, and the subject's own number, as one word.
#[inline]
fn name_word(place: u32, title: Title) -> u64 {
    (u64::from(place) << 32) | u64::from(u32::try_from(title.number).unwrap_or(0))
}

/// A step's number and length as one word.
#[inline]
pub fn step_word(number: u64, length: u64) -> u64 {
    ((number & 0xffff_ffff) << 32) | (length / LENGTH_UNIT).min(u64::from(u32::MAX))
}

/// Gives the ring its memory, once in a process. False if there is none.
pub(crate) fn prepare(page: &Page) -> bool {
    /// In which process it has some, by its forks, and one more.
    static PREPARED: AtomicU32 = AtomicU32::new(0);
    let process = fork::count().wrapping_add(1);
    if PREPARED.load(Ordering::Acquire) == process {
        return true;
    }
    let start = offset_of!(Page, filled);
    let length = offset_of!(Page, snapshots) - start;
    let room = file::reserve(start, length);
    if room {
        file::fetch(page, start, length);
        PREPARED.store(process, Ordering::Release);
    } else {
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
        let title = |number, stamp| Title { text: 0x1234_5678_9abc_def1, number, stamp };
        let introduce = |key, number, stamp, name: fn() -> String| {
            let (subject, word) = pen.introduce(page, key, title(number, stamp), name);
            pen.write(page, about(Kind::Name, 0, subject), word, Cause::OUTSIDE, 0);
            (subject, word)
        };
        let (first, word) = introduce(0x100, 1, 7, || "fetch".to_owned());
        let (second, other) = introduce(0x200, 2, 8, || unreachable!("asked again"));
        assert_ne!(first, second);
        assert_eq!((word as u32, other as u32, word >> 32), (1, 2, other >> 32));
        assert_eq!(pen.begins(page, 0x200, || 8), Some(second));
        assert_eq!(pen.begins(page, 0x200, || unreachable!("it keeps its name")), Some(second));
        assert_eq!(pen.wakes(page, 0x200, || unreachable!("asked again")), Some((second, 0, 0)));
        // The same subject, which has got another name meanwhile.
        assert_eq!(pen.begins(page, 0x100, || 9), None);
        assert_eq!(introduce(0x100, 3, 9, || unreachable!("asked again")).0, first);
        assert_eq!(pen.begins(page, 0x100, || 9), Some(first));
        // Made ready for the second time, so that it has run.
        let (third, _) = introduce(0x300, 5, 10, || unreachable!("asked again"));
        assert_eq!(pen.wakes(page, 0x300, || unreachable!("asked again")), Some((third, 0, 0)));
        assert_eq!(pen.begins(page, 0x300, || unreachable!("it keeps its name")), Some(third));
        assert_eq!(pen.forget(0x100), first);
        assert_eq!(pen.forget(0x100), 0);
        assert_eq!((pen.wakes(page, 0x100, || None), pen.begins(page, 0x100, || 9)), (None, None));
        // Its successor at the same address.
        assert!(![first, second].contains(&introduce(0x100, 4, 7, || unreachable!("asked again")).0));
        pen.forget_all();
        assert_eq!(pen.wakes(page, 0x200, || None), None);
    }
}
