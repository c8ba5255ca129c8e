//! Writing: what a protocol writes while it is given data is encrypted and sent after that; what is written otherwise is
//! gathered until the loop is about to sleep. Small pieces come together in one record, and all leave in one send. While the transport below is full, plain bytes wait here.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::{Phase, RECORD, TlsProtocol};
use crate::transports::common::WARN_AFTER_LOST_WRITES;
use crate::transports::stream::StreamTransport;
use crate::transports::tls::log;

/// Plain bytes encrypted before what came of them is sent; more is not gathered either. It fits the processor's cache.
const PORTION: usize = 64 * 1024;

impl TlsProtocol {
    /// Queues pieces, none of them empty, and sees to it that they leave.
    pub fn write<'py>(this: &Bound<'py, Self>, pieces: impl IntoIterator<Item = Bound<'py, PyBytes>>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        if matches!(state.phase.get(), Phase::Flushing | Phase::Shutdown | Phase::Unwrapped) {
            let lost = state.lost_writes.get();
            state.lost_writes.set(lost.saturating_add(1));
            return if lost < WARN_AFTER_LOST_WRITES {
                Ok(())
            } else {
                log(py, "warning", ("SSL connection is closed",), None)
            };
        }
        let size = {
            let mut queue = state.queue.borrow_mut();
            pieces.into_iter().for_each(|piece| queue.push(piece));
            queue.size()
        };
        if size == 0 || state.phase.get() == Phase::Handshake {
            return Ok(());
        }
        if size <= PORTION && !state.below_full.get() && tls.core.remote().is_current() {
            return Self::gather(this);
        }
        Self::send_or_die(this)
    }

    /// Has the queue leave before the loop sleeps.
    pub(super) fn gather(this: &Bound<'_, Self>) -> PyResult<()> {
        if !this.get().state()?.gathering.replace(true) {
            this.get().core.before_sleep(this, |object| Self::step(object, Self::flush_gathered))?;
        }
        Ok(())
    }

    /// Queues a piece, and does nothing about it.
    pub fn queue(&self, piece: Bound<'_, PyBytes>) -> PyResult<()> {
        self.state()?.queue.borrow_mut().push(piece);
        Ok(())
    }

    /// What was gathered in this turn leaves.
    pub fn flush_gathered(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !state.gathering.replace(false) || state.phase.get() == Phase::Unwrapped {
            return Ok(());
        }
        Self::send_or_die(this)
    }

    pub(super) fn send_or_die(this: &Bound<'_, Self>) -> PyResult<()> {
        match Self::send(this) {
            Err(error) if error.is_instance_of::<PyException>(this.py()) => {
                Self::fatal(this, error, "Fatal error on SSL protocol")
            }
            outcome => outcome,
        }
    }

    /// Encrypts and sends until the queue is empty or the transport below is full.
    pub(super) fn send(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        while !state.below_full.get() {
            tls.encrypt(py, PORTION)?;
            if !tls.send_below(py)? || state.queue.borrow().is_empty() {
                break;
            }
        }
        Self::control_writing(this)
    }

    /// Sends what OpenSSL has to say.
    pub(super) fn send_outgoing(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        if !tls.state()?.below_full.get() {
            tls.send_below(py)?;
        }
        Self::control_writing(this)
    }

    /// Hands what is encrypted to the transport below; false if there is nothing.
    fn send_below(&self, py: Python<'_>) -> PyResult<bool> {
        let below = self.below(py)?;
        self.engine.take_outgoing(py, |data| {
            let Some(below) = below.filter(|_| !data.is_empty()) else { return Ok(false) };
            match below.cast_exact::<StreamTransport>() {
                Ok(stream) => StreamTransport::send(stream, data)?,
                Err(_) => drop(below.call_method1(intern!(py, "write"), (PyBytes::new(py, data),))?),
            }
            Ok(true)
        })?
    }

    /// Encrypts about `portion` bytes of the queue.
    pub(super) fn encrypt(&self, py: Python<'_>, portion: usize) -> PyResult<()> {
        let state = self.state()?;
        let mut done = 0;
        while done < portion {
            let Some((piece, sent)) = state.queue.borrow().piece(py, RECORD) else { break };
            let left = &piece.as_bytes(py)[sent..];
            let written = self.engine.write(py, &left[..left.len().min(portion)])?;
            let Some(count) = written.filter(|count| *count > 0) else { break };
            state.queue.borrow_mut().advance(py, count);
            done += count;
        }
        Ok(())
    }

    /// Tells the user's protocol to pause or to go on.
    fn control_writing(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        let paused = state.protocol_paused.get();
        if !paused && !state.below_full.get() && state.queue.borrow().is_empty() {
            return Ok(());
        }
        let size = tls.queued(py)?;
        let (name, message): (&Bound<'_, PyString>, _) = if !paused && size >= state.write_high.get().max(1) {
            (intern!(py, "pause_writing"), "protocol.pause_writing() failed")
        } else if paused && size <= state.write_low.get() {
            (intern!(py, "resume_writing"), "protocol.resume_writing() failed")
        } else {
            return Ok(());
        };
        state.protocol_paused.set(!paused);
        tls.protocol(py)?.call_method0(name).map(drop).or_else(|error| {
            let face = tls.face(py)?;
            tls.core.report(py, error, message, |context| {
                context.set_item(intern!(py, "transport"), face)?;
                context.set_item(intern!(py, "protocol"), this)
            })
        })
    }

    fn queued(&self, py: Python<'_>) -> PyResult<usize> {
        let size = self.state()?.queue.borrow().size();
        Ok(size + self.engine.unsent(py)?)
    }

    /// Bytes that the transport below has not taken yet.
    pub fn write_buffer_size(this: &Bound<'_, Self>) -> PyResult<usize> {
        // Gathered writes are an affair of ours: what the caller asks is whether the peer keeps up.
        Self::flush_gathered(this)?;
        this.get().queued(this.py())
    }

    pub fn set_write_limits(this: &Bound<'_, Self>, high: usize, low: usize) -> PyResult<()> {
        let state = this.get().state()?;
        state.write_high.set(high);
        state.write_low.set(low);
        Self::flush_gathered(this)?;
        Self::control_writing(this)
    }

    /// (low, high).
    pub fn write_limits(&self) -> PyResult<(usize, usize)> {
        let state = self.seen()?;
        Ok((state.write_low.get(), state.write_high.get()))
    }

    pub fn is_protocol_paused(&self) -> PyResult<bool> {
        Ok(self.seen()?.protocol_paused.get())
    }
}
