//! The bytes that have arrived and that nobody has read yet, in one piece.

use std::io;
use std::mem;
use std::ops::RangeInclusive;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PySlice};

use crate::ffi::bytes::Block;

/// More room than this is given back while little of it is used.
const IDLE_ROOM: usize = 16 * 1024;

/// A block of so many bytes that is asked for gets an object of its own at once. A larger one grows with what arrives: it
/// may never come.
const BLOCKS: RangeInclusive<usize> = 64 * 1024..=16 * 1024 * 1024;

/// A buffer at whose end bytes arrive and from whose front they are taken.
///
/// Bytes objects are dropped and made inside [`Guarded::with`](crate::ffi::guarded::Guarded::with): they run no code.
pub enum Buffer {
    /// What came in one go, as an object, from this index on. Who takes all of it gets the object itself.
    Whole(Py<PyBytes>, usize),
    /// What came in pieces, from this index on.
    Joined(Vec<u8>, usize),
    /// A block that somebody waits for, who will get this very object.
    Block(Block),
    /// Somebody has asked for `StreamReader._buffer`: this is it from then on. Whatever changes its size may raise, and
    /// is done outside of the guard, by the functions at the end of this file.
    Shown(Py<PyByteArray>),
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer::Joined(Vec::new(), 0)
    }
}

impl Buffer {
    /// The bytes. No Python code may run while they are looked at.
    #[inline]
    pub fn bytes<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        match self {
            Buffer::Whole(bytes, start) => &bytes.as_bytes(py)[*start..],
            Buffer::Joined(bytes, start) => &bytes[*start..],
            Buffer::Block(block) => block.filled(),
            // SAFETY: nobody can change it before Python code runs again.
            Buffer::Shown(array) => unsafe { array.bind(py).as_bytes() },
        }
    }

    #[inline]
    pub fn len(&self, py: Python<'_>) -> usize {
        self.bytes(py).len()
    }

    #[inline]
    pub fn is_empty(&self, py: Python<'_>) -> bool {
        self.len(py) == 0
    }

    /// The object that Python code may have hold of.
    #[inline]
    pub fn shown<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyByteArray>> {
        match self {
            Buffer::Shown(array) => Some(array.bind(py).clone()),
            _ => None,
        }
    }

    /// `data` arrives. (Not for a shown buffer.)
    pub fn append(&mut self, py: Python<'_>, data: &[u8]) {
        if let Buffer::Block(block) = self
            && block.room() >= data.len()
        {
            return block.extend(data);
        }
        self.room(py, data.len()).extend_from_slice(data);
    }

    /// `data` arrives. (Not for a shown buffer.)
    pub fn append_object(&mut self, data: &Bound<'_, PyBytes>) {
        if self.is_empty(data.py()) && !matches!(self, Buffer::Block(_)) {
            *self = Buffer::Whole(data.clone().unbind(), 0);
        } else {
            self.append(data.py(), data.as_bytes());
        }
    }

    /// What `receive` writes to the room of `size` bytes that it is given arrives. (Not for a shown buffer.)
    pub fn receive(
        &mut self,
        py: Python<'_>,
        size: usize,
        receive: impl FnOnce(*mut u8, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if let Buffer::Block(block) = self
            && block.room() > 0
        {
            return block.fill(size, receive);
        }
        let bytes = self.room(py, size);
        let room = bytes.spare_capacity_mut();
        let room = &mut room[..size];
        let count = receive(room.as_mut_ptr().cast(), room.len())?.min(size);
        // SAFETY: there is room for `size` more bytes, of which the first `count` were written.
        unsafe { bytes.set_len(bytes.len() + count) };
        Ok(count)
    }

    /// Somebody waits for a block of `count` bytes, of which some are here: the others go to where he will find them.
    pub fn expect(&mut self, py: Python<'_>, count: usize) {
        let is_expected = match self {
            Buffer::Block(block) => block.size() == count,
            Buffer::Shown(_) => true,
            Buffer::Whole(..) | Buffer::Joined(..) => false,
        };
        if is_expected || !BLOCKS.contains(&count) || self.len(py) >= count {
            return;
        }
        // (If there is no memory for it now, there may be when it is needed.)
        if let Ok(mut block) = Block::new(py, count) {
            block.extend(self.bytes(py));
            *self = Buffer::Block(block);
        }
    }

    /// A vector at whose end there is room for `size` more bytes.
    fn room(&mut self, py: Python<'_>, size: usize) -> &mut Vec<u8> {
        if !matches!(self, Buffer::Joined(..)) {
            let mut bytes = Vec::with_capacity(self.len(py) + size);
            bytes.extend_from_slice(self.bytes(py));
            *self = Buffer::Joined(bytes, 0);
        }
        let Buffer::Joined(bytes, start) = self else { unreachable!("it was made so just now") };
        if bytes.capacity() - bytes.len() < size && *start >= bytes.len() - *start {
            // What is left moves to the front, which costs no more than taking the bytes there has.
            bytes.drain(..mem::take(start));
        }
        bytes.reserve(size);
        bytes
    }

    /// Takes the first `count` bytes, or all if there are not as many. (Not for a shown buffer.)
    #[inline]
    pub fn take<'py>(&mut self, py: Python<'py>, count: usize) -> Bound<'py, PyBytes> {
        if let Buffer::Whole(bytes, 0) = self
            && count >= bytes.as_bytes(py).len()
        {
            let Buffer::Whole(bytes, _) = mem::take(self) else { unreachable!("it is one") };
            return bytes.into_bound(py);
        }
        if let Buffer::Block(block) = self
            && block.room() == 0
            && count >= block.size()
        {
            let Buffer::Block(block) = mem::take(self) else { unreachable!("it is one") };
            return block.into_bytes(py);
        }
        let bytes = self.bytes(py);
        let count = count.min(bytes.len());
        let taken = PyBytes::new(py, &bytes[..count]);
        self.skip(py, count);
        taken
    }

    /// Drops the first `count` bytes, which are there. (Not for a shown buffer.)
    #[inline]
    pub fn skip(&mut self, py: Python<'_>, count: usize) {
        let is_all = count >= self.len(py);
        match self {
            _ if is_all => drop(mem::take(self)),
            Buffer::Whole(_, start) | Buffer::Joined(_, start) => *start += count,
            Buffer::Block(block) => *self = Buffer::Joined(block.filled()[count..].to_vec(), 0),
            Buffer::Shown(_) => {}
        }
    }

    /// Nobody knows when more will come: gives back room that is not needed.
    pub fn settle(&mut self) {
        if let Buffer::Joined(bytes, start) = self
            && bytes.capacity() > IDLE_ROOM
            && bytes.len() - *start < bytes.capacity() / 8
        {
            bytes.drain(..mem::take(start));
            bytes.shrink_to_fit();
        }
    }
}

/// `data` arrives in a shown buffer.
///
/// # Errors
/// BufferError if somebody looks at its memory.
pub fn extend(array: &Bound<'_, PyByteArray>, data: &[u8]) -> PyResult<()> {
    let length = array.len();
    array.resize(length + data.len())?;
    // SAFETY: no Python code runs while the new end of the array is written.
    unsafe { array.as_bytes_mut()[length..].copy_from_slice(data) };
    Ok(())
}

/// Drops the first `count` bytes of a shown buffer, or all if there are not as many.
///
/// # Errors
/// BufferError if somebody looks at its memory.
pub fn skip(array: &Bound<'_, PyByteArray>, count: usize) -> PyResult<()> {
    let front = PySlice::new(array.py(), 0, count.min(array.len()) as isize, 1);
    array.call_method1(intern!(array.py(), "__delitem__"), (front,)).map(drop)
}

/// Takes the first `count` bytes of a shown buffer, or all if there are not as many.
///
/// # Errors
/// BufferError if somebody looks at its memory.
pub fn take<'py>(array: &Bound<'py, PyByteArray>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: the bytes are copied before any Python code runs.
    let taken = PyBytes::new(array.py(), unsafe { &array.as_bytes()[..count.min(array.len())] });
    skip(array, count)?;
    Ok(taken)
}
