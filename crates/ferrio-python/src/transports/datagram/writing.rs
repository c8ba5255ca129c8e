//! Writing: a datagram leaves at once, or waits in order until the kernel has room. An answer to the very address object
//! that reading has given needs no parsing.

use std::io;

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{DatagramTransport, Target, Waiting};
use crate::errors::{must_wait, os_error, unless_it_must_wait};
use crate::event_loop::sockets::SEND_FLAGS;
use crate::ffi::buffer::Buffer;
use crate::transports::address::RawAddress;

/// What a queued datagram counts beyond its bytes, from Python 3.13 on: empty ones would wait unnoticed otherwise.
const HEADER_SIZE: usize = 8;

impl DatagramTransport {
    /// Sends one datagram; false if the kernel has no room.
    pub(super) fn send(&self, data: &Bound<'_, PyAny>, address: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = data.py();
        let state = self.state()?;
        let Some(raw) = self.target(address)? else {
            let socket = self.socket(py)?;
            let sent = match state.connected {
                true => socket.call_method1(intern!(py, "send"), (data,)),
                false => socket.call_method1(intern!(py, "sendto"), (data, address)),
            };
            return Ok(unless_it_must_wait(py, sent)?.is_some());
        };
        let sent = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => send_to(state.fd, bytes.as_bytes().as_ptr(), bytes.as_bytes().len(), raw.as_ref()),
            Err(_) => {
                let buffer = Buffer::readable(data)?;
                send_to(state.fd, buffer.as_ptr(), buffer.len(), raw.as_ref())
            }
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if must_wait(&error) => Ok(false),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// Where the kernel is to send something to: nothing for where the socket is connected to. `None` if Python's
    /// socket has to be asked.
    pub(super) fn target(&self, address: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Option<RawAddress>>> {
        let state = self.state()?;
        Ok(match (state.connected, state.family, address) {
            (_, None, _) => None,
            (true, Some(_), _) => Some(None),
            (false, Some(family), Some(address)) => self.raw_address(address, family)?.map(Some),
            (false, Some(_), None) => None,
        })
    }

    /// The address as the kernel reads it; `None` if it has to be looked up.
    fn raw_address(&self, address: &Bound<'_, PyAny>, family: libc::c_int) -> PyResult<Option<RawAddress>> {
        let last = self.state()?.senders.borrow().last(address);
        Ok(last.or_else(|| RawAddress::from_python(address, family)))
    }

    pub(super) fn enqueue(
        this: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        address: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let data = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            // The caller may change it while it waits.
            Err(_) => this.py().get_type::<PyBytes>().call1((data,))?.cast_into()?,
        };
        this.get().push(data, Target::Said(address.map(Bound::unbind)))?;
        Self::maybe_pause_protocol(this)
    }

    pub(super) fn push(&self, data: Bound<'_, PyBytes>, target: Target) -> PyResult<()> {
        let state = self.state()?;
        state.queued_size.set(state.queued_size.get() + queued_size(&data));
        state.queue.borrow_mut().push_back(Waiting { data: data.unbind(), target });
        Ok(())
    }

    pub(super) fn on_writable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let state = this.get().state()?;
        if state.lost.get() || !state.write_watched.get() {
            return Ok(());
        }
        while !state.queue.borrow().is_empty() {
            match this.get().send_first(py) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.is_instance_of::<PyOSError>(py) => return Self::tell_error(this, &error),
                Err(error) => return Self::fatal(this, error, "Fatal write error on datagram transport"),
            }
        }
        Self::maybe_resume_protocol(this)?;
        if state.lost.get() || !state.queue.borrow().is_empty() {
            return Ok(());
        }
        this.get().unwatch(py, Direction::Write)?;
        if state.closing.get() { Self::lose(this, None) } else { Ok(()) }
    }

    pub(super) fn maybe_pause_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if state.queued_size.get() <= state.high.get() || state.protocol_paused.replace(true) {
            return Ok(());
        }
        let protocol = state.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py));
        let Some(protocol) = protocol else { return Ok(()) };
        let called = protocol.call_method0(py, intern!(py, "pause_writing"));
        called.map(drop).or_else(|error| Self::report(this, error, "protocol.pause_writing() failed"))
    }

    fn maybe_resume_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if !state.protocol_paused.get() || state.queued_size.get() > state.low.get() {
            return Ok(());
        }
        state.protocol_paused.set(false);
        Self::tell(this, |protocol| protocol.call_method0(intern!(py, "resume_writing")), "resume_writing")
    }
}

/// What a datagram counts while it waits.
pub(super) fn queued_size(data: &Bound<'_, PyBytes>) -> usize {
    data.as_bytes().len() + if SENDS_EMPTY_DATAGRAMS { HEADER_SIZE } else { 0 }
}

/// Up to Python 3.12 asyncio drops empty datagrams and counts no headers.
pub(super) const SENDS_EMPTY_DATAGRAMS: bool = cfg!(Py_3_13);

/// Sends `size` bytes from `data`, which the caller holds, to `address` or to where the socket is connected to.
pub(super) fn send_to(fd: RawFd, data: *const u8, size: usize, address: Option<&RawAddress>) -> io::Result<()> {
    let (address, length) = address.map_or((std::ptr::null(), 0), RawAddress::as_ptr);
    // SAFETY: the caller holds the data; the address is null or a living one with its length.
    let count = unsafe { libc::sendto(fd, data.cast(), size, SEND_FLAGS, address, length) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
