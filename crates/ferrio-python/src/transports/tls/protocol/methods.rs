//! What the transport below calls, as asyncio's protocols have it; and what tools read.

use pyo3::exceptions::PyConnectionResetError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::{Phase, TlsProtocol, Told, Waiter};
use crate::ffi::context::copy_current;
use crate::imports::imports;
use crate::transports::stream::StreamTransport;
use crate::transports::tls::log;
use crate::transports::tls::transport::TlsTransport;

#[pymethods]
impl TlsProtocol {
    /// A native class cannot inherit from asyncio.Protocol; `isinstance` asks for this.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.tls_protocol.bind(py).clone())
    }

    /// The transport below is there: the handshake begins.
    fn connection_made(this: &Bound<'_, Self>, transport: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        let context = if let Ok(stream) = transport.cast_exact::<StreamTransport>() {
            stream.get().run_context(py)?
        } else if let Ok(tls) = transport.cast_exact::<TlsTransport>() {
            tls.get().run_context(py)?
        } else {
            None
        };
        let context = context.map_or_else(|| copy_current(py), Ok)?;
        *state.run_context.borrow_mut() = Some(context.unbind());
        *state.below.borrow_mut() = Some(transport.unbind());
        let closed = this.get().face(py)?.is_none_or(|face| face.get().is_marked_closed());
        if closed { Self::abort(this, None) } else { Self::begin_handshake(this) }
    }

    /// The transport below has read bytes.
    fn data_received(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        this.get().feed_object(data)?;
        Self::updated(this)
    }

    /// The transport below has come to the end of its stream. True keeps it open.
    fn eof_received(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        state.eof.set(true);
        if tls.core.debug() {
            log(py, "debug", ("%r received EOF", this), None)?;
        }
        let ended = match state.phase.get() {
            Phase::Handshake => Self::handshake_is_over(this, Some(PyConnectionResetError::new_err(()))),
            Phase::Wrapped => {
                state.phase.set(Phase::Flushing);
                if state.reading_paused.get() {
                    return Ok(true);
                }
                Self::flush_and_shut_down(this)
            }
            Phase::Flushing => {
                state.phase.set(Phase::Shutdown);
                Self::shut_down(this)
            }
            Phase::Shutdown => Self::shut_down(this),
            Phase::Unwrapped => Ok(()),
        };
        if let Err(error) = ended {
            tls.close_orderly_below(py)?;
            return Err(error);
        }
        Ok(false)
    }

    /// The transport below is gone.
    fn connection_lost(this: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        tls.mark_closed(py)?;
        state.queue.borrow_mut().clear();
        tls.engine.take_outgoing(py, |_| ())?;
        state.lost_writes.set(state.lost_writes.get().saturating_add(1));
        tls.cancel_timer()?;
        let protocol = state.protocol.borrow_mut().take();
        if state.phase.get() != Phase::Handshake && matches!(state.told.get(), Told::Made | Told::Eof) {
            state.told.set(Told::Lost);
            if let Some(protocol) = protocol {
                tls.say_farewell(protocol.bind(py), &exc)?;
            }
        }
        state.phase.set(Phase::Unwrapped);
        let (below, face) = (state.below.borrow_mut().take(), state.face.borrow_mut().take());
        if let Some(face) = &face
            && state.abandoned.get()
        {
            face.get().let_go()?;
        }
        drop((below, face));
        let failure = if exc.is_none() { None } else { Some(PyErr::from_value(exc)) };
        Self::wake_waiter(this, failure)
    }

    /// The transport below is full.
    fn pause_writing(&self) -> PyResult<()> {
        self.state()?.below_full.set(true);
        Ok(())
    }

    /// The transport below takes more.
    fn resume_writing(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        state.below_full.set(false);
        match state.phase.get() {
            Phase::Wrapped | Phase::Flushing => Self::send_or_die(this),
            _ => Self::send_outgoing(this),
        }
    }

    /// The user's protocol.
    #[getter]
    fn _app_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.protocol(py)
    }

    #[getter]
    fn _app_transport<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, TlsTransport>>> {
        self.face(py)
    }

    #[getter]
    fn _sslcontext<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.context.bind(py).clone()
    }

    /// The transport below.
    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.below(py)
    }

    /// For the tests: through what data is encrypted, `OpenSSL` or `SSLObject`.
    #[getter]
    fn _engine(&self) -> &'static str {
        self.engine.name()
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let tls = this.get();
        let side = if tls.server_side { "server" } else { "client" };
        let phase = match tls.seen()?.phase.get() {
            Phase::Unwrapped => "unwrapped",
            Phase::Handshake => "handshake",
            Phase::Wrapped => "wrapped",
            Phase::Flushing => "flushing",
            Phase::Shutdown => "shutdown",
        };
        match tls.below(this.py())? {
            Some(below) => Ok(format!("<SSLProtocol {side} {phase} over {}>", below.repr()?)),
            None => Ok(format!("<SSLProtocol {side} {phase}>")),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        visit.call(&self.context)?;
        self.handshake_timeout.1.as_ref().map_or(Ok(()), |given| visit.call(given))?;
        self.engine.traverse(&visit)?;
        let state = self.state.unguarded();
        for cell in [&state.protocol, &state.below, &state.run_context, &state.peer_certificate] {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        if let Ok(face) = state.face.try_borrow()
            && let Some(face) = &*face
        {
            visit.call(face)?;
        }
        if let Ok(waiter) = state.waiter.try_borrow()
            && let Waiter::Future(future) = &*waiter
        {
            visit.call(future)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.state.unguarded();
        for cell in [&state.protocol, &state.below, &state.run_context, &state.peer_certificate] {
            let content = cell.borrow_mut().take();
            drop(content);
        }
        let face = state.face.borrow_mut().take();
        drop(face);
        let waiter = state.waiter.replace(Waiter::Nobody);
        drop(waiter);
    }
}
