//! Reading: one datagram per turn, as asyncio does it, so that what one datagram sets off has run before the protocol
//! sees the next. Where it has set nothing off and nobody else is ready, the turn between is left out.
//! What it sends meanwhile leaves together, at the end ([`collecting`](super::collecting)).

use std::io;

use ferrio::poll::RawFd;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::collecting::SENDS_SEVERAL;
use super::{DatagramTransport, State};
use crate::core::READ_SIZE;
use crate::errors::{must_wait, os_error, unless_it_must_wait};
use crate::ffi::call::call_method;
use crate::transports::address::RawAddress;

/// How many datagrams are read without a look at anything else; fewer where that takes milliseconds.
const AT_ONCE: u32 = 64;

/// After a look in vain for a second datagram, so many pieces of news stand for one.
const SINGLE: u8 = 16;

impl DatagramTransport {
    pub(super) fn on_readable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = Self::of(object)?;
        let read = Self::read(this);
        // Whatever has happened.
        let sent = Self::end_burst(this);
        read.and(sent)
    }

    fn read(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        for number in 0..AT_ONCE {
            if state.closing.get() || !state.read_watched.get() {
                return Ok(());
            }
            // The second in a row makes it a burst.
            state.collecting.set(SENDS_SEVERAL && number > 0);
            match this.get().receive(py) {
                Ok(Some((data, sender))) => Self::tell(
                    this,
                    |protocol| call_method(protocol, intern!(py, "datagram_received"), [&data, &sender]),
                    "datagram_received",
                )?,
                Ok(None) => {
                    // A look in vain costs as much as the turn it would save.
                    state.single.set(if number == 1 { SINGLE } else { 0 });
                    return Ok(());
                }
                Err(error) if error.is_instance_of::<PyOSError>(py) => {
                    return Self::tell(
                        this,
                        |protocol| protocol.call_method1(intern!(py, "error_received"), (error.value(py),)),
                        "error_received",
                    );
                }
                Err(error) => return Self::fatal(this, error, "Fatal read error on datagram transport"),
            }
            if !this.get().may_go_on(state)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the next turn would do nothing but read the next datagram.
    fn may_go_on(&self, state: &State) -> PyResult<bool> {
        let single = state.single.get();
        state.single.set(single.saturating_sub(1));
        let engine = self.core.engine()?;
        Ok(single == 0 && engine.is_idle() && engine.has_looked_lately())
    }

    /// One datagram and its sender; `None` if there is none.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let state = self.state()?;
        if state.family.is_none() {
            let received = self.socket(py)?.call_method1(intern!(py, "recvfrom"), (READ_SIZE,));
            return unless_it_must_wait(py, received)?.map(|received| received.extract()).transpose();
        }
        let received = self.core.with_scratch(|scratch| {
            let mut sender = RawAddress::empty();
            receive_from(state.fd, scratch, &mut sender).map(|count| (PyBytes::new(py, &scratch[..count]), sender))
        })?;
        match received {
            Ok((data, sender)) => Ok(Some((data.into_any(), self.sender(py, sender)?))),
            Err(error) if must_wait(&error) => Ok(None),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// The address as a Python object, the same one as long as it is the same address.
    fn sender<'py>(&self, py: Python<'py>, raw: RawAddress) -> PyResult<Bound<'py, PyAny>> {
        if raw.is_absent() {
            return Ok(py.None().into_bound(py));
        }
        let state = self.state()?;
        let known = state.senders.borrow_mut().find(py, &raw);
        if let Some(sender) = known {
            return Ok(sender);
        }
        let sender = raw.to_python(py)?.unwrap_or_else(|| py.None().into_bound(py));
        let former = state.senders.borrow_mut().insert(&raw, sender.clone().unbind());
        drop(former);
        Ok(sender)
    }
}

fn receive_from(fd: RawFd, buffer: &mut [u8], sender: &mut RawAddress) -> io::Result<usize> {
    let (address, length) = sender.as_mut();
    // SAFETY: the pointers and lengths are those of a living slice and a living address.
    let count = unsafe { libc::recvfrom(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0, address, length) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
