//! `TlsTransport`: what users write to and close.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

use super::protocol::TlsProtocol;
use super::{READ_HIGH_WATER, WRITE_HIGH_WATER};
use crate::imports::imports;
use crate::transports::stream::{as_bytes, warn_unclosed, water_marks_by_default};

/// The encrypted side of a connection.
#[pyclass(frozen, weakref, module = "ferrio")]
pub struct TlsTransport {
    layer: Py<TlsProtocol>,
    closed: AtomicBool,
}

impl TlsTransport {
    pub fn new<'py>(layer: &Bound<'py, TlsProtocol>) -> PyResult<Bound<'py, Self>> {
        Bound::new(layer.py(), TlsTransport { layer: layer.clone().unbind(), closed: AtomicBool::new(false) })
    }

    pub fn layer(&self) -> &Py<TlsProtocol> {
        &self.layer
    }

    pub fn mark_closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub fn is_marked_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
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
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = snapshot(data)?;
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        TlsProtocol::write(self.layer.bind(data.py()), [data.clone()])
    }

    /// Write every item of an iterable of bytes-like objects.
    fn writelines(&self, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let pieces = list_of_data.try_iter()?.map(|data| snapshot(&data?)).collect::<PyResult<Vec<_>>>()?;
        let pieces = pieces.into_iter().filter(|piece| !piece.as_bytes().is_empty());
        TlsProtocol::write(self.layer.bind(list_of_data.py()), pieces)
    }

    /// TLS has no half-closed connections.
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    fn can_write_eof(&self) -> bool {
        false
    }

    /// Close after what is queued has left and the peer has said goodbye; connection_lost(None) comes later.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        TlsProtocol::close(self.layer.bind(py))
    }

    /// Close at once, throwing away what the kernel has not taken.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self._force_close(py, None)
    }

    #[pyo3(signature = (exc))]
    fn _force_close(&self, py: Python<'_>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        self.mark_closed();
        TlsProtocol::abort(self.layer.bind(py), exc.map(PyErr::from_value))
    }

    fn is_closing(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.is_marked_closed() || self.layer.get().is_closing_below(py)?)
    }

    /// Stop calling data_received(); nothing is lost.
    fn pause_reading(&self) -> PyResult<()> {
        self.layer.get().pause_reading()
    }

    fn resume_reading(&self, py: Python<'_>) -> PyResult<()> {
        TlsProtocol::resume_reading(self.layer.bind(py))
    }

    fn is_reading(&self) -> PyResult<bool> {
        self.layer.get().is_reading()
    }

    /// Bytes that the transport below has not taken yet.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        TlsProtocol::write_buffer_size(self.layer.bind(py))
    }

    /// (low, high) water marks in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.layer.get().write_limits()
    }

    /// Set the water marks in bytes: from high on the protocol's pause_writing() is called, at low resume_writing().
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(&self, py: Python<'_>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let (high, low) = water_marks_by_default(high, low, WRITE_HIGH_WATER)?;
        TlsProtocol::set_write_limits(self.layer.bind(py), high, low)
    }

    /// Bytes of the peer that wait to be decrypted because reading is paused.
    fn get_read_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.layer.get().unread(py)
    }

    /// (low, high) water marks in bytes.
    fn get_read_buffer_limits(&self) -> PyResult<(usize, usize)> {
        self.layer.get().read_limits()
    }

    /// Set the water marks in bytes: from high on the transport below stops reading, at low it goes on.
    #[pyo3(signature = (high=None, low=None))]
    fn set_read_buffer_limits(&self, py: Python<'_>, high: Option<i64>, low: Option<i64>) -> PyResult<()> {
        let (high, low) = water_marks_by_default(high, low, READ_HIGH_WATER)?;
        TlsProtocol::set_read_limits(self.layer.bind(py), high, low)
    }

    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.layer.get().set_protocol(protocol)
    }

    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.layer.get().protocol(py)
    }

    /// ssl_object, sslcontext, peercert, cipher, compression, and what the transport below tells.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        TlsProtocol::extra_info(self.layer.bind(py), name, default.unwrap_or_else(|| py.None().into_bound(py)))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.layer.get().the_loop().clone_ref(py)
    }

    #[getter]
    fn _ssl_protocol(&self, py: Python<'_>) -> Py<TlsProtocol> {
        self.layer.clone_ref(py)
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

    /// sendfile() waits while the protocol is told to.
    #[getter]
    fn _protocol_paused(&self) -> PyResult<bool> {
        self.layer.get().is_protocol_paused()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let closing = if self.is_closing(py)? { " closing" } else { "" };
        Ok(format!("<TlsTransport{closing} of {}>", self.layer.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.layer)
    }
}

impl Drop for TlsTransport {
    fn drop(&mut self) {
        if !self.is_marked_closed() {
            Python::try_attach(|py| warn_unclosed(py, "<TlsTransport>"));
        }
    }
}
