//! What Python calls: asyncio's methods of a transport.

use ferrio::poll::RawFd;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::{ProtocolKind, Socket, StreamTransport};
use crate::imports::imports;
use crate::transports::common::snapshot;
use crate::transports::water_marks::{Mark, water_marks};

#[pymethods]
impl StreamTransport {
    /// asyncio.Transport has a slot, so a native class cannot inherit from it; `isinstance` asks for this.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.stream_transport.bind(py).clone())
    }

    /// Write data (bytes-like); it leaves before the loop sleeps. Never blocks.
    pub fn write(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = snapshot(data)?;
        if this.get().may_write(this.py(), "write")? && !data.as_bytes().is_empty() {
            Self::enqueue(this, data)?;
        }
        Ok(())
    }

    /// Write every item of an iterable of bytes-like objects.
    fn writelines(this: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let chunks = list_of_data.try_iter()?.map(|data| snapshot(&data?)).collect::<PyResult<Vec<_>>>()?;
        if !this.get().may_write(this.py(), "writelines")? {
            return Ok(());
        }
        for chunk in chunks.into_iter().filter(|chunk| !chunk.as_bytes().is_empty()) {
            Self::enqueue(this, chunk)?;
        }
        Ok(())
    }

    /// Send the end of the stream after what is queued; reading goes on.
    fn write_eof(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.closing.get() || state.eof_written.replace(true) {
            return Ok(());
        }
        Self::flush(this)?;
        if state.queue.borrow().is_empty() && !state.lost.get() { this.get().shutdown_writes() } else { Ok(()) }
    }

    fn can_write_eof(&self) -> bool {
        true
    }

    /// Close after what is queued has left; connection_lost(None) comes later.
    pub(super) fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.closing.get() {
            return Ok(());
        }
        this.get().unwatch_reads(this.py())?;
        if !state.write_watched.get() {
            Self::flush(this)?;
        }
        if state.closing.replace(true) || !state.queue.borrow().is_empty() {
            return Ok(());
        }
        Self::lose(this, None)
    }

    /// Close at once, throwing away what the kernel has not taken.
    fn abort(this: &Bound<'_, Self>) -> PyResult<()> {
        // What this turn has written would have left by now, had it not been gathered.
        if this.get().state()?.gathering.get() {
            Self::flush(this)?;
        }
        Self::_force_close(this, None)
    }

    #[pyo3(signature = (exc))]
    fn _force_close(this: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if this.get().state()?.lost.get() {
            return Ok(());
        }
        Self::lose(this, exc.map(PyErr::from_value))
    }

    pub fn is_closing(&self) -> PyResult<bool> {
        Ok(self.state()?.closing.get())
    }

    /// Stop calling data_received(); nothing is lost.
    pub fn pause_reading(&self) -> PyResult<()> {
        let state = self.state()?;
        if !state.closing.get() {
            state.reading_paused.set(true);
        }
        Ok(())
    }

    pub fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.closing.get() || !state.reading_paused.replace(false) || !state.made.get() {
            return Ok(());
        }
        Self::watch_reads(this)
    }

    fn is_reading(&self) -> PyResult<bool> {
        let state = self.state()?;
        Ok(!state.closing.get() && !state.reading_paused.get())
    }

    /// Bytes that the kernel has not taken yet.
    fn get_write_buffer_size(this: &Bound<'_, Self>) -> PyResult<usize> {
        let state = this.get().state()?;
        // Gathered writes are an affair of ours: what the caller asks is whether the peer keeps up.
        if state.gathering.get() && !state.write_watched.get() {
            Self::flush(this)?;
        }
        Ok(state.queue.borrow().size())
    }

    /// (low, high) water marks in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        let state = self.state()?;
        Ok((state.low(), state.high()))
    }

    /// Set the water marks in bytes: above high the protocol's pause_writing() is called, at low resume_writing().
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(this: &Bound<'_, Self>, high: Option<Mark>, low: Option<Mark>) -> PyResult<()> {
        let (high, low) = water_marks(high, low)?;
        let state = this.get().state()?;
        state.with_rare(|rare| (rare.high, rare.low) = (high, low));
        Self::maybe_pause_protocol(this)
    }

    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let state = self.state()?;
        state.kind.set(ProtocolKind::of(&protocol)?);
        let former = state.protocol.replace(Some(protocol.unbind()));
        drop(former);
        Ok(())
    }

    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.protocol(py)
    }

    /// socket, sockname, peername, and what the connection was made with.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let transport = this.get();
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        // A dict is made only if there is something to remember.
        let extra = transport.known_extra(py)?;
        if let Some(known) = extra.map_or(Ok(None), |extra| extra.get_item(name))? {
            return Ok(known);
        }
        let Ok(text) = name.cast::<pyo3::types::PyString>() else { return Ok(default) };
        match &*text.to_cow()? {
            "sockname" | "peername" => transport.address(py, text),
            "socket" => {
                if matches!(*transport.state()?.socket.borrow(), Socket::Closed) {
                    return Ok(default);
                }
                // Whoever writes to the socket directly comes after what was written here.
                if transport.state()?.gathering.get() {
                    Self::flush(this)?;
                }
                let socket = imports(py)?.transport_socket.bind(py).call1((transport.python_socket(py)?,))?;
                transport.extra(py)?.set_item(name, &socket)?;
                Ok(socket)
            }
            _ => Ok(default),
        }
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.the_loop.clone_ref(py)
    }

    /// The descriptor, or -1 once it is closed.
    fn _fileno(&self) -> PyResult<RawFd> {
        let state = self.state()?;
        Ok(if matches!(*state.socket.borrow(), Socket::Closed) { -1 } else { state.fd })
    }

    /// The connection's context, until its end: every call of the protocol runs in it.
    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.run_context(py)
    }

    /// Whether pause_reading() was called last.
    #[getter]
    fn _paused(&self) -> PyResult<bool> {
        Ok(self.state()?.reading_paused.get())
    }

    /// Whether pause_writing() was called last: the peer does not keep up.
    #[getter]
    fn _protocol_paused(&self) -> PyResult<bool> {
        Ok(self.state()?.protocol_paused.get())
    }

    /// Whether the kernel can copy a file to the socket.
    #[getter]
    fn _sendfile_compatible(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let modes = py.import(intern!(py, "asyncio.constants"))?.getattr(intern!(py, "_SendfileMode"))?;
        modes.getattr(intern!(py, "TRY_NATIVE")).map(Bound::unbind)
    }

    /// Whether start_tls() can take this connection over.
    #[getter]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    /// A future that is answered when the queue is empty; no write is taken before `_reset_empty_waiter`.
    fn _make_empty_waiter<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let state = this.get().state()?;
        if state.is_sending_file() {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        Self::flush(this)?;
        let waiter = crate::core::new_future(py, this.get().the_loop.bind(py))?;
        if state.queue.borrow().is_empty() {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        state.with_rare(|rare| rare.empty_waiter = Some(waiter.clone().unbind()));
        Ok(waiter)
    }

    fn _reset_empty_waiter(&self) -> PyResult<()> {
        let waiter = self.state()?.take_rare(|rare| &mut rare.empty_waiter);
        drop(waiter);
        Ok(())
    }

    fn __repr__(&self) -> PyResult<String> {
        self.state().map(Self::describe)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        let state = self.state.unguarded();
        for cell in [&state.protocol, &state.context, &state.server] {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        if let Ok(rare) = state.rare.try_borrow()
            && let Some(rare) = &*rare
        {
            visit.call(&rare.waiter)?;
            visit.call(&rare.reason)?;
            visit.call(&rare.extra)?;
            visit.call(&rare.empty_waiter)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.state.unguarded();
        // The server stays: it is told of the end.
        for cell in [&state.protocol, &state.context] {
            let content = cell.borrow_mut().take();
            drop(content);
        }
        let rare = state.rare.borrow_mut().take();
        drop(rare);
    }
}
