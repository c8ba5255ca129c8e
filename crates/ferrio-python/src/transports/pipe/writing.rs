//! The end of a pipe that is written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::{End, Kind, methods_of_an_end, transferred};
use crate::core::{Confined, Core};
use crate::errors::from_io;
use crate::ffi::context::run_in;
use crate::ffi::whole;
use crate::imports::imports;
use crate::transports::common::{WARN_AFTER_LOST_WRITES, log, log_lost, logger};
use crate::transports::water_marks::{HIGH_WATER, Mark, water_marks};

/// The end that is written.
#[pyclass(frozen, weakref, dict, name = "WritePipeTransport", module = "ferrio")]
pub struct WritePipe {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    state: Confined<WriteState>,
}

struct WriteState {
    end: End,
    /// What the kernel has not taken yet.
    buffer: RefCell<VecDeque<u8>>,
    high: Cell<usize>,
    low: Cell<usize>,
    protocol_paused: Cell<bool>,
    lost_writes: Cell<u32>,
    /// Whether the engine tells us that the reader is gone.
    read_watched: Cell<bool>,
    write_watched: Cell<bool>,
}

impl WritePipe {
    /// Makes a transport and schedules `connection_made`.
    ///
    /// # Errors
    /// ValueError for what is no pipe.
    pub fn start<'py>(
        the_loop: &Bound<'py, PyAny>,
        core: &Arc<Core>,
        pipe: &Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let end = End::new(pipe, protocol, "Pipe transport is only for pipes, sockets and character devices")?;
        let state = Confined::new(WriteState {
            end,
            buffer: RefCell::default(),
            high: Cell::new(HIGH_WATER),
            low: Cell::new(HIGH_WATER / 4),
            protocol_paused: Cell::new(false),
            lost_writes: Cell::new(0),
            read_watched: Cell::new(false),
            write_watched: Cell::new(false),
        });
        let transport = WritePipe { core: core.clone(), the_loop: the_loop.clone().unbind(), state };
        let this = whole::new(the_loop.py(), transport)?;
        core.call_soon(&this, Self::begin);
        Ok(this)
    }

    fn state(&self) -> PyResult<&WriteState> {
        self.state.get_in_turn(&self.core)
    }

    /// Ready when `connection_made` has run.
    pub fn poll_made(&self, waker: &Waker) -> Poll<PyResult<()>> {
        match self.state() {
            Ok(state) => state.end.poll_made(waker).map(Ok),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn begin(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = object.cast::<Self>()?;
        let core = &this.get().core;
        let state = this.get().state()?;
        let made = state.end.call(core, object, intern!(object.py(), "connection_made"), Some(object.clone()));
        // A pipe without a reader has an error to report, a closed socket its end: both look readable.
        let tells = state.end.kind != Kind::Device;
        let watched = if tells && !state.end.closing.get() && !state.read_watched.replace(true) {
            let watched = state.end.watch(core, object, Direction::Read, Self::on_reader_gone);
            watched.or_else(|error| {
                state.read_watched.set(false);
                Self::fatal(this, error)
            })
        } else {
            Ok(())
        };
        state.end.set_made();
        made.and(watched)
    }

    fn on_reader_gone(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = object.cast::<Self>()?;
        let state = this.get().state()?;
        if !state.read_watched.get() || state.end.lost.get() {
            return Ok(());
        }
        log(&this.get().core, object.py(), "info", "%r was closed by peer", object)?;
        let unsent = !state.buffer.borrow().is_empty();
        Self::lose(this, unsent.then(|| PyBrokenPipeError::new_err(())))
    }

    /// Writes what the kernel takes at once and keeps the rest.
    fn send(this: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let state = this.get().state()?;
        let mut sent = 0;
        if state.buffer.borrow().is_empty() {
            match write(state.end.fd, data) {
                Ok(count) => sent = count,
                Err(error) => return Self::fatal(this, from_io(error)),
            }
            if sent == data.len() {
                return Ok(());
            }
            if !state.write_watched.replace(true) {
                let watched = state.end.watch(&this.get().core, this.as_any(), Direction::Write, Self::on_writable);
                if let Err(error) = watched {
                    state.write_watched.set(false);
                    return Self::fatal(this, error);
                }
            }
        }
        state.buffer.borrow_mut().extend(&data[sent..]);
        Self::maybe_pause_protocol(this)
    }

    fn on_writable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = object.cast::<Self>()?;
        let state = this.get().state()?;
        if !state.write_watched.get() {
            return Ok(());
        }
        let written = {
            let mut buffer = state.buffer.borrow_mut();
            let written = write(state.end.fd, buffer.as_slices().0);
            if let Ok(count) = written {
                buffer.drain(..count);
            }
            written
        };
        if let Err(error) = written {
            return Self::fatal(this, from_io(error));
        }
        if !state.buffer.borrow().is_empty() {
            return Ok(());
        }
        Self::unwatch_writes(this)?;
        Self::maybe_resume_protocol(this)?;
        // The protocol may have written more.
        if state.end.closing.get() && state.buffer.borrow().is_empty() && !state.end.lost.replace(true) {
            Self::unwatch_reads(this)?;
            return state.end.finish(&this.get().core, object);
        }
        Ok(())
    }

    fn unwatch_writes(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !state.write_watched.replace(false) {
            return Ok(());
        }
        state.end.unwatch(&this.get().core, this.as_any(), Direction::Write)
    }

    fn unwatch_reads(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !state.read_watched.replace(false) {
            return Ok(());
        }
        state.end.unwatch(&this.get().core, this.as_any(), Direction::Read)
    }

    /// A write that failed ends the connection; it is no bug, so nobody is told but the protocol.
    fn fatal(this: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let state = this.get().state()?;
        state.lost_writes.set(state.lost_writes.get() + 1);
        log_lost(&this.get().core, this.as_any(), "Fatal write error on pipe transport", &error)?;
        Self::lose(this, Some(error))
    }

    /// Throws away what waits and schedules `connection_lost`.
    fn lose(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        let state = this.get().state()?;
        state.buffer.borrow_mut().clear();
        Self::unwatch_writes(this)?;
        Self::unwatch_reads(this)?;
        state.end.lose(&this.get().core, this.as_any(), reason, |object| {
            let transport = object.cast::<Self>()?.get();
            transport.state()?.end.finish(&transport.core, object)
        })
    }

    fn maybe_pause_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if state.buffer.borrow().len() <= state.high.get() || state.protocol_paused.replace(true) {
            return Ok(());
        }
        // In the writer's own context, as a part of its call.
        let called = state.end.protocol(py).call_method0(intern!(py, "pause_writing"));
        called.map(drop).or_else(|error| {
            state.end.report(&this.get().core, this.as_any(), error, "protocol.pause_writing() failed")
        })
    }

    fn maybe_resume_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if !state.protocol_paused.get() || state.buffer.borrow().len() > state.low.get() {
            return Ok(());
        }
        state.protocol_paused.set(false);
        let protocol = state.end.protocol(py);
        let called = run_in(py, state.end.context.bind(py), || protocol.call_method0(intern!(py, "resume_writing")));
        called.map(drop).or_else(|error| {
            state.end.report(&this.get().core, this.as_any(), error, "protocol.resume_writing() failed")
        })
    }

    fn describe(core: &Core, state: &WriteState) -> String {
        let mut words = state.end.words("WritePipeTransport");
        words.push(state.end.activity(core, state.write_watched.get()).into());
        if state.end.is_open() {
            words.push(format!("bufsize={}", state.buffer.borrow().len()));
        }
        format!("<{}>", words.join(" "))
    }
}

#[pymethods]
impl WritePipe {
    /// What `isinstance` asks for: asyncio.WriteTransport has a slot, so a native class cannot inherit from it.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.write_pipe_transport.bind(py).clone())
    }

    /// Write data (bytes, bytearray or memoryview). Never blocks: what the kernel does not take waits.
    fn write(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let data = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) if data.is_instance_of::<PyByteArray>() || data.is_instance_of::<PyMemoryView>() => {
                py.get_type::<PyBytes>().call1((data,))?.cast_into()?
            }
            Err(_) => return Err(PyAssertionError::new_err(data.repr()?.to_string())),
        };
        let state = this.get().state()?;
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        let lost = state.lost_writes.get();
        if lost > 0 || state.end.closing.get() {
            if lost >= WARN_AFTER_LOST_WRITES {
                let text = "pipe closed by peer or os.write(pipe, data) raised exception.";
                logger(py)?.call_method1("warning", (text,))?;
            }
            state.lost_writes.set(lost + 1);
            return Ok(());
        }
        Self::send(this, data.as_bytes())
    }

    /// Write every item of an iterable of bytes-like objects.
    fn writelines(this: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        Self::write(this, &PyBytes::new(py, b"").call_method1(intern!(py, "join"), (list_of_data,))?)
    }

    /// Close after what waits has left: the end of a pipe is its closing.
    fn write_eof(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.end.closing.replace(true) || !state.buffer.borrow().is_empty() {
            return Ok(());
        }
        Self::lose(this, None)
    }

    fn can_write_eof(&self) -> bool {
        true
    }

    /// Close after what waits has left; connection_lost(None) comes later.
    fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::write_eof(this)
    }

    /// Close at once, throwing away what waits.
    fn abort(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::lose(this, None)
    }

    /// Bytes that the kernel has not taken yet.
    fn get_write_buffer_size(&self) -> PyResult<usize> {
        Ok(self.state()?.buffer.borrow().len())
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
}

methods_of_an_end!(WritePipe);

fn write(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a living slice.
    transferred(unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) }).map(Option::unwrap_or_default)
}
