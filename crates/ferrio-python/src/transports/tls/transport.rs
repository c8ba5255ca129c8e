//! `TlsTransport`: what users write to and close. They know it as `SSLTransport`, in asyncio's way of naming.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

use super::protocol::TlsProtocol;
use super::{READ_HIGH_WATER, WRITE_HIGH_WATER};
use crate::core::{Call, Confined, Core};
use crate::ffi::error::aside;
use crate::imports::imports;
use crate::transports::common::{as_bytes, warn_unclosed};
use crate::transports::water_marks::{Mark, water_marks_by_default};

/// The encrypted side of a connection.
#[pyclass(frozen, weakref, name = "SSLTransport", module = "ferrio")]
pub struct TlsTransport {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    /// None once the connection has ended and the user is known to have no use for it.
    layer: Confined<RefCell<Option<Py<TlsProtocol>>>>,
    closed: AtomicBool,
}

impl TlsTransport {
    pub fn new<'py>(layer: &Bound<'py, TlsProtocol>) -> PyResult<Bound<'py, Self>> {
        let py = layer.py();
        let transport = TlsTransport {
            core: layer.get().core().clone(),
            the_loop: layer.get().the_loop().clone_ref(py),
            layer: Confined::new(RefCell::new(Some(layer.clone().unbind()))),
            closed: AtomicBool::new(false),
        };
        Bound::new(py, transport)
    }

    pub fn mark_closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub fn is_marked_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Nothing will be asked of the ended connection any more.
    pub fn let_go(&self) -> PyResult<()> {
        let layer = self.layer.get(&self.core)?.borrow_mut().take();
        drop(layer);
        Ok(())
    }

    /// The connection's context, while there is a connection.
    pub fn run_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.with(py, None, |layer| layer.get().run_context(py))
    }

    /// What `f` makes of the connection; `ended` if nothing is left of it.
    fn with<'py, R>(
        &self,
        py: Python<'py>,
        ended: R,
        f: impl FnOnce(&Bound<'py, TlsProtocol>) -> PyResult<R>,
    ) -> PyResult<R> {
        let layer = self.layer.get_in_turn(&self.core)?.borrow().as_ref().map(|layer| layer.bind(py).clone());
        layer.map_or(Ok(ended), |layer| f(&layer))
    }
}

/// What the loop's own thread does to a connection. Another one has it do so, after what it asked for before: OpenSSL may be
/// at work there, without the interpreter lock.
impl TlsTransport {
    fn of<'a>(this: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        Ok(this.cast::<Self>()?.get())
    }

    fn act(this: &Bound<'_, Self>, step: Call) -> PyResult<()> {
        let core = &this.get().core;
        if core.is_mine() {
            return step(this.as_any());
        }
        core.check_closed()?;
        core.check_thread()?;
        core.call_soon(this, step);
        Ok(())
    }

    /// For another thread.
    #[cold]
    fn write_later<'py>(this: &Bound<'py, Self>, pieces: Vec<Bound<'py, PyBytes>>) -> PyResult<()> {
        let arguments = (this.getattr(intern!(this.py(), "writelines"))?, pieces);
        let the_loop = this.get().core.loop_object(this.py())?;
        the_loop.call_method1(intern!(this.py(), "call_soon_threadsafe"), arguments).map(drop)
    }
}

/// The bytes of `data`, which the caller may change afterwards.
fn snapshot<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match as_bytes(data)? {
        Some(bytes) => Ok(bytes),
        None => {
            let kind = data.get_type().name()?;
            Err(PyTypeError::new_err(format!("data: expecting a bytes-like instance, got {kind}")))
        }
    }
}

#[pymethods]
impl TlsTransport {
    /// asyncio.Transport has a slot, so a native class cannot inherit from it; `isinstance` asks for this.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.tls_transport.bind(py).clone())
    }

    /// Write data (bytes-like); it leaves, encrypted, before the loop sleeps. Never blocks.
    fn write(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = snapshot(data)?;
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        if !this.get().core.is_mine() {
            return Self::write_later(this, vec![data]);
        }
        this.get().with(data.py(), (), |layer| TlsProtocol::write(layer, [data.clone()]))
    }

    /// Write every item of an iterable of bytes-like objects.
    fn writelines(this: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let pieces = list_of_data.try_iter()?.map(|data| snapshot(&data?)).collect::<PyResult<Vec<_>>>()?;
        if !this.get().core.is_mine() {
            return Self::write_later(this, pieces);
        }
        let pieces = pieces.into_iter().filter(|piece| !piece.as_bytes().is_empty());
        this.get().with(list_of_data.py(), (), |layer| TlsProtocol::write(layer, pieces))
    }

    /// TLS has no half-closed connections.
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    fn can_write_eof(&self) -> bool {
        false
    }

    /// Close after what is queued has left and the peer has said goodbye; connection_lost(None) comes later.
    fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        if !this.get().closed.swap(true, Ordering::Relaxed) {
            return Self::act(this, |this| Self::of(this)?.with(this.py(), (), TlsProtocol::close));
        }
        Self::act(this, |this| {
            let transport = Self::of(this)?;
            if transport.with(this.py(), false, TlsProtocol::abandon)? { transport.let_go() } else { Ok(()) }
        })
    }

    /// Close at once, throwing away what the kernel has not taken.
    fn abort(this: &Bound<'_, Self>) -> PyResult<()> {
        this.get().mark_closed();
        Self::act(this, |this| Self::of(this)?._force_close(this.py(), None))
    }

    #[pyo3(signature = (exc))]
    fn _force_close(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        self.mark_closed();
        self.with(py, (), |layer| TlsProtocol::abort(layer, exc.map(PyErr::from_value)))
    }

    fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_marked_closed() {
            return Ok(true);
        }
        self.with(py, true, |layer| layer.get().is_closing_below(py))
    }

    /// Stop calling data_received(); nothing is lost.
    fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, (), |layer| layer.get().pause_reading())
    }

    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, (), TlsProtocol::resume_reading)
    }

    fn is_reading(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, false, |layer| layer.get().is_reading())
    }

    /// Bytes that the transport below has not taken yet.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, 0, TlsProtocol::write_buffer_size)
    }

    /// (low, high) water marks in bytes.
    fn get_write_buffer_limits(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        self.with(py, (0, 0), |layer| layer.get().write_limits())
    }

    /// Set the water marks in bytes: from high on the protocol's pause_writing() is called, at low resume_writing().
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(&self, py: Python<'_>, high: Option<Mark>, low: Option<Mark>) -> PyResult<()> {
        let (high, low) = water_marks_by_default(high, low, WRITE_HIGH_WATER)?;
        self.with(py, (), |layer| TlsProtocol::set_write_limits(layer, high, low))
    }

    /// Bytes of the peer that wait to be decrypted because reading is paused.
    fn get_read_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, 0, |layer| layer.get().unread(py))
    }

    /// (low, high) water marks in bytes.
    fn get_read_buffer_limits(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        self.with(py, (0, 0), |layer| layer.get().read_limits())
    }

    /// Set the water marks in bytes: from high on the transport below stops reading, at low it goes on.
    #[pyo3(signature = (high=None, low=None))]
    fn set_read_buffer_limits(&self, py: Python<'_>, high: Option<Mark>, low: Option<Mark>) -> PyResult<()> {
        let (high, low) = water_marks_by_default(high, low, READ_HIGH_WATER)?;
        self.with(py, (), |layer| TlsProtocol::set_read_limits(layer, high, low))
    }

    fn set_protocol(&self, py: Python<'_>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.with(py, (), |layer| layer.get().set_protocol(protocol))
    }

    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.with(py, py.None().into_bound(py), |layer| layer.get().protocol(py))
    }

    /// ssl_object, sslcontext, peercert, cipher, compression, and what the transport below tells.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        self.with(py, default.clone(), |layer| TlsProtocol::extra_info(layer, name, default))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.the_loop.clone_ref(py)
    }

    #[getter]
    fn _ssl_protocol(&self, py: Python<'_>) -> PyResult<Option<Py<TlsProtocol>>> {
        self.with(py, None, |layer| Ok(Some(layer.clone().unbind())))
    }

    /// Whether start_tls() can take this connection over.
    #[getter]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    /// sendfile() has to read the file and write it here.
    #[getter]
    fn _sendfile_compatible<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("asyncio.constants")?.getattr("_SendfileMode")?.getattr("FALLBACK")
    }

    /// The connection's context, while there is a connection: every call of the protocol runs in it.
    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.run_context(py)
    }

    /// sendfile() waits while the protocol is told to.
    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, false, |layer| layer.get().is_protocol_paused())
    }

    /// For CPython's tests: queue data that leaves with what is written next.
    #[pyo3(name = "_test__append_write_backlog")]
    fn append_write_backlog(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = snapshot(data)?;
        self.with(data.py(), (), |layer| layer.get().queue(data.clone()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let closing = if self.is_closing(py)? { " closing" } else { "" };
        let layer = self.with(py, None, |layer| Ok(Some(layer.repr()?.to_string())))?;
        Ok(format!("<SSLTransport{closing}{}>", layer.map_or_else(String::new, |layer| format!(" of {layer}"))))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        match self.layer.unguarded().try_borrow().as_deref() {
            Ok(Some(layer)) => visit.call(layer),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let layer = self.layer.unguarded().borrow_mut().take();
        drop(layer);
    }
}

impl Drop for TlsTransport {
    fn drop(&mut self) {
        if !self.is_marked_closed() {
            aside(|py| warn_unclosed(py, "<SSLTransport>"));
        }
    }
}
