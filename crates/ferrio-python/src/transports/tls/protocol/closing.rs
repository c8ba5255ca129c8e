//! The end: what is buffered, then close_notify; or at once.

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Phase, TlsProtocol};
use crate::transports::tls::engine::is_ssl_error;
use crate::transports::tls::log;

impl TlsProtocol {
    /// Begins an orderly end: what is buffered, then close_notify.
    pub fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        match state.phase.get() {
            Phase::Flushing | Phase::Shutdown | Phase::Unwrapped => Ok(()),
            Phase::Handshake => {
                this.get().mark_closed(py)?;
                Self::abort(this, None)
            }
            Phase::Wrapped => {
                this.get().mark_closed(py)?;
                state.phase.set(Phase::Flushing);
                Self::set_timer(this, this.get().shutdown_timeout)?;
                Self::flush_and_shut_down(this)
            }
        }
    }

    pub(super) fn mark_closed(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(face) = self.face(py)? {
            face.get().mark_closed();
        }
        Ok(())
    }

    pub(super) fn flush_and_shut_down(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        Self::read(this)?;
        // Delivering what was left may have ended the connection.
        if state.phase.get() != Phase::Flushing {
            return Ok(());
        }
        state.phase.set(Phase::Shutdown);
        Self::shut_down(this)
    }

    pub(super) fn shut_down(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        // Nothing can be encrypted after close_notify.
        let outcome = tls
            .encrypt(py, usize::MAX)
            .and_then(|()| if state.eof.get() { Ok(Some(())) } else { tls.engine.unwrap(py) });
        match outcome {
            Ok(None) => Self::send_outgoing(this),
            Ok(Some(())) => {
                Self::send_outgoing(this)?;
                Self::tell_eof(this)?;
                if state.timer.get().is_none() {
                    Self::set_timer(this, tls.shutdown_timeout)?;
                }
                // The timer goes on: the transport below waits for a peer that may never read.
                Self::soon(this, |object| Self::step(object, |this| this.get().close_orderly_below(this.py())));
                Ok(())
            }
            Err(error) if is_ssl_error(py, &error)? => {
                tls.cancel_timer()?;
                Self::fatal(this, error, "Fatal error on transport")
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn close_orderly_below(&self, py: Python<'_>) -> PyResult<()> {
        match self.below(py)? {
            Some(below) => below.call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    /// Ends the connection at once.
    pub fn abort(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        // What this turn has written would have left by now, had it not been gathered.
        Self::flush_gathered(this)?;
        this.get().state()?.phase.set(Phase::Unwrapped);
        this.get().close_below(this.py(), reason)
    }

    pub(super) fn close_below(&self, py: Python<'_>, reason: Option<PyErr>) -> PyResult<()> {
        let Some(below) = self.below(py)? else { return Ok(()) };
        let reason = reason.map(|reason| reason.into_value(py));
        below.call_method1(intern!(py, "_force_close"), (reason,)).map(drop)
    }

    /// An error that ends the connection. Only what is no OSError is a bug and reported.
    pub(super) fn fatal(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        tls.close_below(py, Some(error.clone_ref(py)))?;
        if error.is_instance_of::<PyOSError>(py) {
            return if tls.core.debug() { log(py, "debug", ("%r: %s", this, message), Some(&error)) } else { Ok(()) };
        }
        if error.is_instance_of::<pyo3::exceptions::asyncio::CancelledError>(py) {
            return Ok(());
        }
        let below = tls.below(py)?;
        tls.core.report(py, error, message, |context| {
            context.set_item(intern!(py, "transport"), below)?;
            context.set_item(intern!(py, "protocol"), this)
        })
    }

    /// Whether the transport below is closing or gone.
    pub fn is_closing_below(&self, py: Python<'_>) -> PyResult<bool> {
        match self.below(py)? {
            Some(below) => below.call_method0(intern!(py, "is_closing"))?.is_truthy(),
            None => Ok(false),
        }
    }

    /// The user closes what is closing: nothing will be asked of the transport after the end.
    pub fn abandon(this: &Bound<'_, Self>) -> PyResult<bool> {
        let state = this.get().state()?;
        state.abandoned.set(true);
        let ended = state.face.borrow().is_none();
        Ok(ended)
    }

    /// Tells the user's protocol that the connection is lost.
    pub(super) fn say_farewell(&self, protocol: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = protocol.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), self.run_context(py)?)?;
        // A handle of its own, so that what waits keeps nothing alive but the protocol.
        let arguments = (protocol.getattr(intern!(py, "connection_lost"))?, reason);
        self.the_loop.bind(py).call_method(intern!(py, "call_soon"), arguments, Some(&keywords)).map(drop)
    }
}
