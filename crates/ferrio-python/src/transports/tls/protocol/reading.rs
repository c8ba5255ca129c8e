//! Reading: bytes of the transport below go into the engine, and all records that are complete come out in one call of
//! the user's protocol. Asking OpenSSL for a record that is not there makes a Python exception, which costs as much as
//! encrypting a kilobyte, so it is asked only while it has something.

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;

use super::{Phase, RECORD, TlsProtocol, Told};
use crate::ffi::buffer::Buffer;
use crate::ffi::bytes::filled_in_place;
use crate::streams;
use crate::transports::tls::log;

/// How many bytes a protocol gets at once, at most, and for how many there is always room.
const MOST: usize = 256 * 1024;
const LEAST: usize = 256;

/// What [`TlsProtocol::decrypt`] has done.
#[derive(Default)]
struct Read {
    count: usize,
    /// There is no more room.
    full: bool,
    /// The peer has said close_notify.
    end: bool,
}

impl TlsProtocol {
    /// The transport below has received bytes.
    pub fn received(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        this.get().engine.feeding(this.py(), data, || Self::updated(this))?
    }

    /// There are new bytes from below.
    pub(super) fn updated(this: &Bound<'_, Self>) -> PyResult<()> {
        match this.get().state()?.phase.get() {
            Phase::Handshake => Self::handshake(this),
            Phase::Wrapped => Self::read(this),
            Phase::Flushing => Self::flush_and_shut_down(this),
            Phase::Shutdown => Self::shut_down(this),
            Phase::Unwrapped => Ok(()),
        }
    }

    /// Hands all that is complete to the user's protocol.
    pub(super) fn read(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        match Self::try_read(this) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                Self::fatal(this, error, "Fatal error on SSL protocol")
            }
            outcome => outcome,
        }
    }

    fn try_read(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !this.get().may_read()? {
            return Self::control_reading_below(this);
        }
        // The answer leaves while the connection's keys and state are in the cache.
        let gathers = !state.gathering.replace(true);
        let read = if state.buffered.get() { Self::read_into_protocol(this) } else { Self::read_data(this) };
        if gathers {
            state.gathering.set(false);
        }
        if read.is_err() && !state.queue.borrow().is_empty() {
            Self::gather(this)?;
        }
        read?;
        if !state.gathering.get() && matches!(state.phase.get(), Phase::Wrapped | Phase::Flushing) {
            // Beside the answer, what OpenSSL itself has to say, and what it would not encrypt before.
            Self::send(this)?;
        }
        Self::control_reading_below(this)
    }

    fn may_read(&self) -> PyResult<bool> {
        let state = self.state()?;
        Ok(matches!(state.phase.get(), Phase::Wrapped | Phase::Flushing) && !state.reading_paused.get())
    }

    /// Whether OpenSSL may have a record for us.
    fn may_have_record(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state()?.has_decrypted.get() || self.engine.unread(py)? > 0)
    }

    fn read_data(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        while tls.may_have_record(py)? {
            let mut read = Read::default();
            let room = tls.expected(py)?;
            let data = filled_in_place(py, room, |start| {
                // SAFETY: there is room for as many bytes, of which the first `count` are taken.
                read = unsafe { tls.decrypt(py, start, room) }?;
                Ok::<_, PyErr>(read.count)
            })??;
            if read.count > 0 {
                streams::deliver(&tls.protocol(py)?, &data)?;
            }
            if read.end {
                return Self::on_close_notify(this);
            }
            if !read.full || !tls.may_read()? {
                break;
            }
        }
        Ok(())
    }

    /// No less than OpenSSL will decrypt of what is there; it may be more that waits inside of it.
    fn expected(&self, py: Python<'_>) -> PyResult<usize> {
        let state = self.state()?;
        let inside = if state.has_begun.get() || state.has_decrypted.get() { RECORD } else { 0 };
        Ok((self.engine.unread(py)? + inside).clamp(LEAST, MOST))
    }

    fn read_into_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        if !tls.may_have_record(py)? {
            return Ok(());
        }
        let protocol = tls.protocol(py)?;
        let buffer = protocol.call_method1(intern!(py, "get_buffer"), (tls.engine.unread(py)?,))?;
        let buffer = Buffer::writable(&buffer)?;
        if buffer.len() == 0 {
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        // SAFETY: `buffer` holds the memory, which is writable.
        let read = unsafe { tls.decrypt(py, buffer.as_ptr(), buffer.len()) }?;
        drop(buffer);
        if read.full {
            Self::soon(this, |object| Self::step(object, Self::read));
        }
        if read.count > 0 {
            protocol.call_method1(intern!(py, "buffer_updated"), (read.count,))?;
        }
        if read.end { Self::on_close_notify(this) } else { Ok(()) }
    }

    /// Decrypts record after record while there are some and there is room.
    ///
    /// # Safety
    /// `room` must be valid for writes of `length` bytes.
    unsafe fn decrypt(&self, py: Python<'_>, room: *mut u8, length: usize) -> PyResult<Read> {
        let state = self.state()?;
        let mut read = Read::default();
        while read.count < length && self.may_have_record(py)? {
            // SAFETY: `count` of the bytes are used, the rest is valid as the caller promises.
            let outcome = unsafe { self.engine.read(py, room.add(read.count), length - read.count) }?;
            state.has_begun.set(outcome.is_none());
            let Some(count) = outcome else {
                state.has_decrypted.set(false);
                return Ok(read);
            };
            if count == 0 {
                state.has_decrypted.set(false);
                read.end = true;
                return Ok(read);
            }
            read.count += count;
            // Less than there was room for is all that the record had.
            state.has_decrypted.set(read.count == length);
        }
        read.full = read.count == length;
        Ok(read)
    }

    fn on_close_notify(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::tell_eof(this)?;
        Self::close(this)
    }

    pub(super) fn tell_eof(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        if state.told.get() != Told::Made {
            return Ok(());
        }
        state.told.set(Told::Eof);
        let answer = tls.protocol(py)?.call_method0(intern!(py, "eof_received"));
        match answer.and_then(|answer| answer.is_truthy()) {
            Ok(true) => log(py, "warning", ("returning true from eof_received() has no effect when using ssl",), None),
            Ok(false) => Ok(()),
            Err(error) => Self::fatal(this, error, "Error calling eof_received()"),
        }
    }

    pub fn is_reading(&self) -> PyResult<bool> {
        Ok(!self.seen()?.reading_paused.get())
    }

    pub fn pause_reading(&self) -> PyResult<()> {
        self.seen()?.reading_paused.set(true);
        Ok(())
    }

    pub fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        if this.get().seen()?.reading_paused.replace(false) {
            Self::soon(this, |object| {
                Self::step(object, |this| match this.get().state()?.phase.get() {
                    // The handshake goes on when the peer's bytes come.
                    Phase::Handshake => Ok(()),
                    _ => Self::updated(this),
                })
            });
        }
        Ok(())
    }

    /// Bytes from the peer that wait because the user has paused reading are bounded.
    fn control_reading_below(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        let paused = state.below_paused.get();
        if !paused && !state.reading_paused.get() {
            return Ok(());
        }
        let Some(below) = tls.below(py)? else { return Ok(()) };
        let unread = tls.engine.unread(py)?;
        if !paused && unread >= state.read_high.get().max(1) {
            state.below_paused.set(true);
            below.call_method0(intern!(py, "pause_reading"))?;
        } else if paused && unread <= state.read_low.get() {
            state.below_paused.set(false);
            below.call_method0(intern!(py, "resume_reading"))?;
        }
        Ok(())
    }

    pub fn set_read_limits(this: &Bound<'_, Self>, high: usize, low: usize) -> PyResult<()> {
        let state = this.get().state()?;
        state.read_high.set(high);
        state.read_low.set(low);
        Self::control_reading_below(this)
    }

    /// (low, high).
    pub fn read_limits(&self) -> PyResult<(usize, usize)> {
        let state = self.seen()?;
        Ok((state.read_low.get(), state.read_high.get()))
    }

    /// Bytes from the peer that wait to be decrypted.
    pub fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        self.state()?;
        self.engine.unread(py)
    }
}
