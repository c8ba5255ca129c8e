//! Bytes that wait to be written, in order, without being copied.
//!
//! `bytes` objects are immutable, so the queue holds them as they are; anything that the caller may still change
//! (bytearray, memoryview) is copied when it is queued. Dropping a chunk runs no code: none is of a subclass.

use std::collections::VecDeque;
use std::io;

use ferrio::poll::RawFd;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Chunks handed to one vectored write. More would be copied to the kernel's stack in vain: a socket buffer is full
/// long before.
const CHUNKS_PER_WRITE: usize = 64;

/// Several chunks that are no more bytes than this together are copied side by side and leave in a plain write: a vectored
/// one takes 180 ns more of the kernel's time (130 ns at this size, nothing at 10 KiB).
pub const JOINED: usize = 4096;

/// What waits to be written. Most connections of most servers wait for their peer: one that has never written has no
/// more than a pointer here.
#[derive(Default)]
pub struct WriteQueue(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    chunks: VecDeque<Py<PyBytes>>,
    /// How much of the first chunk has left already.
    sent: usize,
    size: usize,
}

impl WriteQueue {
    pub fn push(&mut self, data: Bound<'_, PyBytes>) {
        let waiting = self.0.get_or_insert_default();
        waiting.size += data.as_bytes().len();
        waiting.chunks.push_back(data.unbind());
    }

    /// Bytes that wait.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.size)
    }

    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// Throws everything away.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// One write of as much as the kernel takes.
    pub fn write_to(&mut self, py: Python<'_>, fd: RawFd) -> io::Result<()> {
        let Some(waiting) = &mut self.0 else { return Ok(()) };
        let count = if waiting.chunks.len() == 1 {
            let first = &waiting.chunks[0].as_bytes(py)[waiting.sent..];
            send(fd, first)?
        } else if waiting.size <= JOINED {
            send(fd, &waiting.joined(py, waiting.chunks.len(), waiting.size))?
        } else {
            let mut slices = [io::IoSlice::new(&[]); CHUNKS_PER_WRITE];
            let mut used = 0;
            for (slice, chunk) in slices.iter_mut().zip(&waiting.chunks) {
                let skip = if used == 0 { waiting.sent } else { 0 };
                *slice = io::IoSlice::new(&chunk.as_bytes(py)[skip..]);
                used += 1;
            }
            send_vectored(fd, &slices[..used])?
        };
        waiting.advance(py, count);
        Ok(())
    }

    /// The next bytes to leave, as an object and how much of it has left already. Small chunks come joined, up to
    /// `limit` bytes.
    pub fn piece(&self, py: Python<'_>, limit: usize) -> Option<(Py<PyBytes>, usize)> {
        let waiting = self.0.as_ref()?;
        let first = waiting.chunks.front()?;
        let mut size = first.as_bytes(py).len() - waiting.sent;
        let mut count = 1;
        for chunk in waiting.chunks.iter().skip(1) {
            let more = chunk.as_bytes(py).len();
            if size + more > limit {
                break;
            }
            size += more;
            count += 1;
        }
        if count == 1 {
            return Some((first.clone_ref(py), waiting.sent));
        }
        Some((PyBytes::new(py, &waiting.joined(py, count, size)).unbind(), 0))
    }

    /// `count` bytes have left.
    pub fn advance(&mut self, py: Python<'_>, count: usize) {
        if let Some(waiting) = &mut self.0 {
            waiting.advance(py, count);
        }
    }
}

impl Waiting {
    /// The first `count` chunks, of which `size` bytes have not left.
    fn joined(&self, py: Python<'_>, count: usize, size: usize) -> Vec<u8> {
        let mut joined = Vec::with_capacity(size);
        let mut skip = self.sent;
        for chunk in self.chunks.iter().take(count) {
            joined.extend_from_slice(&chunk.as_bytes(py)[skip..]);
            skip = 0;
        }
        joined
    }

    fn advance(&mut self, py: Python<'_>, mut count: usize) {
        self.size -= count;
        while let Some(first) = self.chunks.front() {
            let left = first.as_bytes(py).len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            drop(self.chunks.pop_front().map(|chunk| chunk.into_bound(py)));
        }
    }
}

/// `send(2)`; a peer that is gone is an error, not a SIGPIPE.
pub fn send(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: the pointer and length are those of a living slice.
        unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), libc::MSG_NOSIGNAL) }
    })
}

fn send_vectored(fd: RawFd, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: an all-zero msghdr is valid; IoSlice has the layout of iovec; the slices outlive the call.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = slices.as_ptr().cast_mut().cast();
            message.msg_iovlen = slices.len() as _;
            libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL)
        }
    })
}

/// `recv(2)` into `buffer`.
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    receive_into(fd, buffer.as_mut_ptr(), buffer.len())
}

/// `recv(2)` into `size` bytes of memory that the caller holds and others may look at meanwhile.
pub fn receive_into(fd: RawFd, memory: *mut u8, size: usize) -> io::Result<usize> {
    retry(|| {
        // SAFETY: the callers hold that many bytes there.
        unsafe { libc::recv(fd, memory.cast(), size, 0) }
    })
}

/// `recv(2)` in pieces of `piece` bytes until one comes short or `size` bytes are there, and the error that came after the
/// first of them, if one did.
pub fn receive_in_pieces(
    fd: RawFd,
    memory: *mut u8,
    size: usize,
    piece: usize,
) -> io::Result<(usize, Option<io::Error>)> {
    let mut count = 0;
    while count < size {
        let wanted = piece.min(size - count);
        // SAFETY: the callers hold `size` bytes there, of which `count` have been filled.
        match receive_into(fd, unsafe { memory.add(count) }, wanted) {
            Ok(more) => {
                count += more;
                if more < wanted {
                    break;
                }
            }
            Err(error) if count == 0 => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Ok((count, Some(error))),
        }
    }
    Ok((count, None))
}

fn retry(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
