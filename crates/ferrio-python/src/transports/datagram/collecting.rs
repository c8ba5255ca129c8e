//! Answers in bursts: what the protocol sends while several datagrams in a row are handed out to it leaves together, in
//! order, right after the last of them and before anything else runs. Ten with one call take a sixth less of the
//! kernel's time than ten calls do ([measured](../../../../../docs/benchmarks.md)).
//!
//! Nobody is to notice, except by the time: who asks how much waits, closes or aborts in the middle has it leave before,
//! and so does a datagram that Python's socket has to send. Only what a send meets with, `error_received` hears later; and a
//! callback that blocks until something has answered what it sends would wait in vain.

use std::io;

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::writing::queued_size;
#[cfg(not(target_os = "linux"))]
use super::writing::send_to;
use super::{DatagramTransport, State, Target, Waiting};
use crate::errors::{must_wait, os_error};
#[cfg(target_os = "linux")]
use crate::event_loop::sockets::SEND_FLAGS;
use crate::ffi::buffer::Buffer;
use crate::transports::address::{KeptAddress, RawAddress};

/// Whether the system has a call for it.
pub const SENDS_SEVERAL: bool = cfg!(target_os = "linux");

/// So many leave together; what is collected then does not wait for the end.
const MANY: usize = 16;

/// How the protocol hears of an error.
type Tell = fn(&Bound<'_, DatagramTransport>, &PyErr) -> PyResult<()>;

impl DatagramTransport {
    /// What of a datagram can wait for the end of a burst; `None` if it must be tried now.
    pub(super) fn collectable<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        address: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, Option<KeptAddress>)>> {
        let Some(target) = self.target(address)? else { return Ok(None) };
        let data = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            // The caller may change it while it waits.
            Err(_) => {
                let Ok(buffer) = Buffer::readable(data) else { return Ok(None) };
                // SAFETY: the buffer is held meanwhile, and has so many bytes.
                PyBytes::new(data.py(), unsafe { std::slice::from_raw_parts(buffer.as_ptr(), buffer.len()) })
            }
        };
        Ok(Some((data, target.as_ref().map(KeptAddress::from))))
    }

    /// Has a datagram leave at the end of the burst, or as soon as there are many.
    pub(super) fn collect(
        this: &Bound<'_, Self>,
        data: Bound<'_, PyBytes>,
        target: Option<KeptAddress>,
    ) -> PyResult<()> {
        let state = this.get().state()?;
        this.get().push(data, Target::Known(target))?;
        if state.write_watched.get() {
            return Self::maybe_pause_protocol(this);
        }
        let many = state.queue.borrow().len() >= MANY || state.queued_size.get() > state.high.get();
        if many { Self::flush(this, Self::tell_error_here) } else { Ok(()) }
    }

    /// From now on everything leaves at once.
    pub(super) fn end_burst(this: &Bound<'_, Self>) -> PyResult<()> {
        this.get().state()?.collecting.set(false);
        Self::flush(this, Self::tell_error)
    }

    /// Sends what was collected. What the kernel has no room for waits.
    pub(super) fn flush(this: &Bound<'_, Self>, tell: Tell) -> PyResult<()> {
        let state = this.get().state()?;
        let mut left = state.queue.borrow().len();
        if left == 0 || state.write_watched.get() {
            return Ok(());
        }
        // No more than there are now: an error_received() that sends what cannot be sent must not keep the loop.
        while left > 0 && !state.queue.borrow().is_empty() {
            match this.get().send_first(this.py()) {
                Ok(0) => break,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.is_instance_of::<PyOSError>(this.py()) => {
                    left -= 1;
                    tell(this, &error)?;
                }
                Err(error) => return Self::fatal(this, error, "Fatal write error on datagram transport"),
            }
        }
        if state.queue.borrow().is_empty() {
            return Ok(());
        }
        Self::watch(this, Direction::Write)?;
        Self::maybe_pause_protocol(this)
    }

    pub(super) fn tell_error(this: &Bound<'_, Self>, error: &PyErr) -> PyResult<()> {
        let name = intern!(this.py(), "error_received");
        Self::tell(this, |protocol| protocol.call_method1(name, (error.value(this.py()),)), "error_received")
    }

    /// Tells the protocol on behalf of one of its own callbacks, which is not who the error belongs to.
    pub(super) fn tell_error_here(this: &Bound<'_, Self>, error: &PyErr) -> PyResult<()> {
        Self::tell_here(this, error)
            .or_else(|error| Self::report(this, error, "Exception in protocol.error_received()"))
    }

    /// Sends what is first in the queue, together with what can leave with it: how many have left, none if the kernel
    /// has no room. An error is that of the first, which is dropped.
    pub(super) fn send_first(&self, py: Python<'_>) -> PyResult<usize> {
        let state = self.state()?;
        if let Some(sent) = self.send_known(py)? {
            return match sent {
                Ok(count) => {
                    (0..count).for_each(|_| Self::shift(state, py));
                    Ok(count)
                }
                Err(error) if must_wait(&error) => Ok(0),
                Err(error) => {
                    Self::shift(state, py);
                    Err(os_error(py, &error))
                }
            };
        }
        let first = state.queue.borrow_mut().pop_front();
        let Some(Waiting { data, target: Target::Said(address) }) = first else { return Ok(0) };
        match self.send(data.bind(py), address.as_ref().map(|address| address.bind(py))) {
            Ok(false) => {
                state.queue.borrow_mut().push_front(Waiting { data, target: Target::Said(address) });
                Ok(0)
            }
            sent => {
                state.queued_size.set(state.queued_size.get().saturating_sub(queued_size(data.bind(py))));
                sent.map(|_| 1)
            }
        }
    }

    /// Sends the first in the queue whose targets are known; `None` if the very first one's is not.
    fn send_known(&self, py: Python<'_>) -> PyResult<Option<io::Result<usize>>> {
        let state = self.state()?;
        // Borrowed while the kernel reads it, which calls nobody.
        let queue = state.queue.borrow();
        let known = queue.iter().map_while(|waiting| {
            let Target::Known(target) = &waiting.target else { return None };
            Some((waiting.data.as_bytes(py), target.as_ref().map(RawAddress::from)))
        });
        let mut known = known.peekable();
        Ok(known.peek().is_some().then(|| send_several(state.fd, known)))
    }

    /// The first in the queue has left.
    fn shift(state: &State, py: Python<'_>) {
        let first = state.queue.borrow_mut().pop_front();
        if let Some(first) = first {
            state.queued_size.set(state.queued_size.get().saturating_sub(queued_size(first.data.bind(py))));
        }
    }
}

/// Sends datagrams, up to [`MANY`], in order; how many the kernel has taken. The error is the first one's: where another
/// cannot leave the rest stays, and what is wrong with it is found when it is the first. (What is wrong with the socket,
/// such as that the peer of an earlier datagram is gone, the kernel tells once, and so perhaps not at all.)
#[cfg(target_os = "linux")]
fn send_several<'a>(fd: RawFd, datagrams: impl Iterator<Item = (&'a [u8], Option<RawAddress>)>) -> io::Result<usize> {
    use std::mem::{MaybeUninit, zeroed};

    let mut targets = [const { MaybeUninit::<RawAddress>::uninit() }; MANY];
    // SAFETY: plain data; all zeroes are no buffer, no address and no flags.
    let (mut parts, mut heads): ([libc::iovec; MANY], [libc::mmsghdr; MANY]) = unsafe { (zeroed(), zeroed()) };
    let mut size = 0;
    for (((head, part), room), (data, target)) in heads.iter_mut().zip(&mut parts).zip(&mut targets).zip(datagrams) {
        *part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        head.msg_hdr.msg_iov = part;
        head.msg_hdr.msg_iovlen = 1;
        if let Some(target) = target {
            let (address, length) = room.write(target).as_ptr();
            head.msg_hdr.msg_name = address.cast_mut().cast();
            head.msg_hdr.msg_namelen = length;
        }
        size += 1;
    }
    // SAFETY: the first `size` heads point to parts, addresses and bytes that live until the end, with their true sizes.
    // The kernel writes to the heads alone.
    let count = unsafe { libc::sendmmsg(fd, heads.as_mut_ptr(), size, SEND_FLAGS as _) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends the first of these datagrams.
#[cfg(not(target_os = "linux"))]
fn send_several<'a>(
    fd: RawFd,
    mut datagrams: impl Iterator<Item = (&'a [u8], Option<RawAddress>)>,
) -> io::Result<usize> {
    let Some((data, target)) = datagrams.next() else { return Ok(0) };
    send_to(fd, data.as_ptr(), data.len(), target.as_ref()).map(|()| 1)
}
