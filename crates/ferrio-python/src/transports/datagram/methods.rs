//! What Python calls: asyncio's methods of a datagram transport.

use ferrio::Direction;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit};

use super::writing::SENDS_EMPTY_DATAGRAMS;
use super::{DatagramTransport, Target};
use crate::imports::imports;
use crate::transports::common::WARN_AFTER_LOST_WRITES;
use crate::transports::water_marks::{Mark, water_marks};

#[pymethods]
impl DatagramTransport {
    /// asyncio.BaseTransport has a slot, so a native class cannot inherit from it; `isinstance` asks for this.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.datagram_transport.bind(py).clone())
    }

    /// Send a datagram to addr (None: to the endpoint's remote address). Never blocks; what the kernel has no room for
    /// waits. Errors of the operating system go to the protocol's error_received().
    #[pyo3(signature = (data, addr=None))]
    fn sendto(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>, addr: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        if !(data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>())
        {
            let kind = data.get_type();
            let message = format!("data argument must be a bytes-like object, not {}", kind.name()?.repr()?);
            return Err(PyTypeError::new_err(message));
        }
        if !SENDS_EMPTY_DATAGRAMS && data.is_empty()? {
            return Ok(());
        }
        let remote = state.remote.borrow().as_ref().map(|remote| remote.bind(py).clone());
        let has_remote = remote.is_some();
        let addr = match (remote, addr) {
            (Some(remote), Some(addr)) if addr.ne(&remote)? => {
                return Err(PyValueError::new_err(format!("Invalid address: must be None or {}", remote.str()?)));
            }
            (Some(remote), _) => Some(remote),
            (None, addr) => addr,
        };
        let lost = state.lost_writes.get();
        if lost > 0 && (has_remote || state.socket.borrow().is_none()) {
            if lost >= WARN_AFTER_LOST_WRITES {
                imports(py)?.helpers.bind(py).call_method0(intern!(py, "warn_lost_write"))?;
            }
            state.lost_writes.set(lost + 1);
            return Ok(());
        }
        if state.collecting.get() && !state.closing.get() {
            match transport.collectable(data, addr.as_ref())? {
                Some((data, target)) => return Self::collect(this, data, target),
                None => Self::flush(this, Self::tell_error_here)?,
            }
        }
        if state.queue.borrow().is_empty() {
            match transport.send(data, addr.as_ref()) {
                Ok(true) => return Ok(()),
                Ok(false) => Self::watch(this, Direction::Write)?,
                Err(error) if error.is_instance_of::<PyOSError>(py) => return Self::tell_here(this, &error),
                Err(error) => return Self::fatal(this, error, "Fatal write error on datagram transport"),
            }
        }
        // Lost by now, if the kernel could not be asked for a sign.
        if state.lost.get() { Ok(()) } else { Self::enqueue(this, data, addr) }
    }

    /// Close after what is queued has left; connection_lost(None) comes later.
    fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        let sent = Self::flush(this, Self::tell_error_here);
        if state.closing.replace(true) {
            return sent;
        }
        this.get().unwatch(this.py(), Direction::Read)?;
        let lost = if state.queue.borrow().is_empty() { Self::lose(this, None) } else { Ok(()) };
        sent.and(lost)
    }

    /// Close at once, throwing away what is queued.
    fn abort(this: &Bound<'_, Self>) -> PyResult<()> {
        // It has been sent, as far as the caller can tell.
        let sent = Self::flush(this, Self::tell_error_here);
        sent.and(Self::lose(this, None))
    }

    fn is_closing(&self) -> PyResult<bool> {
        Ok(self.state()?.closing.get())
    }

    /// Stop calling datagram_received(); the kernel keeps datagrams as long as it has room.
    fn pause_reading(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state()?;
        if state.closing.get() || state.reading_paused.replace(true) {
            return Ok(());
        }
        self.unwatch(py, Direction::Read)
    }

    fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.closing.get() || !state.reading_paused.replace(false) || !state.made.get() {
            return Ok(());
        }
        Self::watch(this, Direction::Read)
    }

    fn is_reading(&self) -> PyResult<bool> {
        let state = self.state()?;
        Ok(!state.closing.get() && !state.reading_paused.get())
    }

    fn set_protocol(&self, protocol: Py<PyAny>) -> PyResult<()> {
        let former = self.state()?.protocol.replace(Some(protocol));
        drop(former);
        Ok(())
    }

    fn get_protocol(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.state()?.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py)))
    }

    /// socket, sockname, peername.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.extra.bind(name.py()).get_item(name)?.or(default))
    }

    /// What the kernel has not taken yet, in bytes.
    fn get_write_buffer_size(this: &Bound<'_, Self>) -> PyResult<usize> {
        Self::flush(this, Self::tell_error_here)?;
        Ok(this.get().state()?.queued_size.get())
    }

    /// (low, high) water marks in bytes.
    fn get_write_buffer_limits(&self) -> PyResult<(usize, usize)> {
        let state = self.state()?;
        Ok((state.low.get(), state.high.get()))
    }

    /// Set the water marks in bytes: above high the protocol's pause_writing() is called, at low resume_writing().
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(this: &Bound<'_, Self>, high: Option<Mark>, low: Option<Mark>) -> PyResult<()> {
        let (high, low) = water_marks(high, low)?;
        let state = this.get().state()?;
        state.high.set(high);
        state.low.set(low);
        Self::maybe_pause_protocol(this)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.the_loop.clone_ref(py)
    }

    fn __repr__(&self) -> PyResult<String> {
        self.state().map(Self::describe)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        let state = self.state.unguarded();
        visit.call(&state.extra)?;
        // Not the socket: it refers to nothing, and must be whole when the last of this transport closes it.
        for cell in [&state.protocol, &state.context, &state.waiter, &state.reason, &state.remote] {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        if let Ok(queue) = &state.queue.try_borrow() {
            for waiting in queue.iter() {
                if let Target::Said(Some(address)) = &waiting.target {
                    visit.call(address)?;
                }
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.state.unguarded();
        for cell in [&state.protocol, &state.context, &state.waiter, &state.reason, &state.remote] {
            let content = cell.borrow_mut().take();
            drop(content);
        }
        let queue = state.queue.take();
        drop(queue);
    }
}
