//! Writing: what a turn writes is gathered and leaves in one system call before the loop sleeps; asyncio and uvloop make
//! two per HTTP response, and sending is three quarters of a server's time. A protocol's larger answers leave when the
//! callback returns that was handed the question, while they are in the cache. More than the high-water mark is
//! written at once, so that the protocol is paused only if the *kernel's* buffer is full, and writes while the loop
//! does not run leave at once.
//!
//! The price is that a peer sees nothing of a write while the callback that made it blocks the thread. Sending at once for
//! connections known to write once per step was tried: it costs 2 to 4 % more CPU per echo, for the sends of a turn are
//! cheaper side by side than one by one among receives and Python.

use std::io;

use ferrio::Direction;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Flow, StreamTransport};
use crate::core::{Job, MANY};
use crate::errors::from_io;
use crate::ffi::call::call_method;
use crate::imports::imports;
use crate::transports::common::{WARN_AFTER_LOST_WRITES, settle_waiter};
use crate::transports::write_queue::{JOINED, send};

impl StreamTransport {
    /// Whether a write is taken; one to a lost connection is dropped, with a warning after a few.
    pub(super) fn may_write(&self, py: Python<'_>, method: &str) -> PyResult<bool> {
        let state = self.state()?;
        if state.eof_written.get() {
            return Err(PyRuntimeError::new_err(format!("Cannot call {method}() after write_eof()")));
        }
        if state.is_sending_file() {
            return Err(PyRuntimeError::new_err(format!("unable to {method}; sendfile is in progress")));
        }
        let lost = state.lost_writes.get();
        if lost == 0 {
            return Ok(true);
        }
        if lost >= WARN_AFTER_LOST_WRITES {
            imports(py)?.helpers.bind(py).call_method0("warn_lost_write")?;
        }
        state.lost_writes.set(lost + 1);
        Ok(false)
    }

    /// Queues `data`, which is not empty, and sees to it that it leaves.
    pub(super) fn enqueue(this: &Bound<'_, Self>, data: Bound<'_, PyBytes>) -> PyResult<()> {
        let transport = this.get();
        let state = transport.state()?;
        if matches!(state.flow.get(), Flow::Bulk) && data.as_bytes().len() >= MANY {
            state.flow.set(Flow::Much);
        }
        let size = {
            let mut queue = state.queue.borrow_mut();
            queue.push(data);
            queue.size()
        };
        if state.write_watched.get() {
            // The kernel's buffer is full: it will call.
            return Self::maybe_pause_protocol(this);
        }
        if size <= state.high() && transport.core.remote().is_current() {
            if !state.gathering.replace(true) {
                transport.core.before_sleep(this, Self::flush_gathered)?;
            }
            return Ok(());
        }
        Self::flush(this)?;
        Self::maybe_pause_protocol(this)
    }

    /// Sends `data`, which is not empty, now: the layer above has gathered already. What the kernel does not take is
    /// copied, and waits.
    pub fn send(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if !this.get().may_write(py, "write")? {
            return Ok(());
        }
        let mut sent = 0;
        if state.queue.borrow().is_empty() && !state.write_watched.get() {
            match send(state.fd, data) {
                Ok(count) if count == data.len() => return Ok(()),
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Self::write_failed(this, error),
            }
        }
        state.queue.borrow_mut().push(PyBytes::new(py, &data[sent..]));
        if !state.write_watched.get() {
            Self::flush(this)?;
        }
        Self::maybe_pause_protocol(this)
    }

    fn flush_gathered(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = Self::of(object)?;
        let state = this.get().state()?;
        state.gathering.set(false);
        if state.write_watched.get() {
            return Ok(());
        }
        Self::flush(this)
    }

    /// An answer of more than [`JOINED`] bytes leaves when the protocol has given it: by the end of a turn of a hundred such
    /// connections the processor's cache has lost it. Beside that an echo of 10 KiB x 100 takes 0.88, of 32 KiB 0.78, of 4 and
    /// 8 KiB 0.97, of 1 KiB 1.00 (docs/benchmarks.md).
    pub(super) fn flush_large(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        // What the kernel has no room for waits for it.
        if state.queue.borrow().size() <= JOINED || state.write_watched.get() {
            return Ok(());
        }
        Self::flush(this)
    }

    /// Writes as much of the queue as the kernel takes now; it calls for the rest.
    pub(super) fn flush(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        while !state.queue.borrow().is_empty() {
            let result = state.queue.borrow_mut().write_to(py, state.fd);
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !state.write_watched.replace(true) {
                        let job = Job::Call(this.clone().into_any().unbind(), Self::on_writable);
                        match transport.core.engine_in_turn(py)?.watch(state.fd, Direction::Write, job) {
                            Ok(former) => drop(former),
                            Err(error) => {
                                state.write_watched.set(false);
                                return Self::write_failed(this, error);
                            }
                        }
                    }
                    return Ok(());
                }
                Err(error) => return Self::write_failed(this, error),
            }
        }
        transport.unwatch_writes(py)
    }

    fn write_failed(this: &Bound<'_, Self>, error: io::Error) -> PyResult<()> {
        this.get().state()?.queue.borrow_mut().clear();
        this.get().unwatch_writes(this.py())?;
        Self::fatal(this, from_io(error), "Fatal write error on socket transport")
    }

    pub(super) fn unwatch_writes(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state()?;
        if state.write_watched.replace(false) {
            drop(self.core.engine_in_turn(py)?.unwatch(state.fd, Direction::Write));
        }
        Ok(())
    }

    fn on_writable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let state = this.get().state()?;
        if state.lost.get() || !state.write_watched.get() {
            return Ok(());
        }
        Self::flush(this)?;
        Self::maybe_resume_protocol(this)?;
        if !state.queue.borrow().is_empty() || state.lost.get() {
            return Ok(());
        }
        let empty_waiter = state.take_rare(|rare| &mut rare.empty_waiter);
        if let Some(waiter) = empty_waiter {
            settle_waiter(waiter.bind(py))?;
        }
        if state.closing.get() {
            return Self::lose(this, None);
        }
        if state.eof_written.get() { this.get().shutdown_writes() } else { Ok(()) }
    }

    pub(super) fn maybe_pause_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if state.queue.borrow().size() <= state.high() || state.protocol_paused.replace(true) {
            return Ok(());
        }
        let protocol = this.get().protocol(py)?;
        let called = protocol.call_method0(intern!(py, "pause_writing"));
        called.map(drop).or_else(|error| this.get().report(this, error, "protocol.pause_writing() failed"))
    }

    fn maybe_resume_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if !state.protocol_paused.get() || state.queue.borrow().size() > state.low() {
            return Ok(());
        }
        state.protocol_paused.set(false);
        let called = this.get().call_protocol(py, |protocol| call_method(protocol, intern!(py, "resume_writing"), []));
        called.map(drop).or_else(|error| this.get().report(this, error, "protocol.resume_writing() failed"))
    }

    pub(super) fn shutdown_writes(&self) -> PyResult<()> {
        let state = self.state()?;
        // SAFETY: a system call on a descriptor that this transport owns. A peer that is gone already is no error here:
        // reading will tell.
        unsafe { libc::shutdown(state.fd, libc::SHUT_WR) };
        Ok(())
    }
}
