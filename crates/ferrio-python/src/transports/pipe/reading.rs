//! The end of a pipe that is read.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Poll, Waker};

use ferrio::Direction;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{End, methods_of_an_end, transferred};
use crate::core::{Confined, Core};
use crate::errors::from_io;
use crate::ffi::whole;
use crate::imports::imports;
use crate::transports::common::{log, log_lost};

/// The end that is read.
#[pyclass(frozen, weakref, dict, name = "ReadPipeTransport", module = "ferrio")]
pub struct ReadPipe {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    state: Confined<ReadState>,
}

struct ReadState {
    end: End,
    paused: Cell<bool>,
    watched: Cell<bool>,
}

impl ReadPipe {
    /// Makes a transport and schedules `connection_made`; reading begins after it.
    ///
    /// # Errors
    /// ValueError for what is no pipe.
    pub fn start<'py>(
        the_loop: &Bound<'py, PyAny>,
        core: &Arc<Core>,
        pipe: &Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let end = End::new(pipe, protocol, "Pipe transport is for pipes/sockets only.")?;
        let state = Confined::new(ReadState { end, paused: Cell::new(false), watched: Cell::new(false) });
        let transport = ReadPipe { core: core.clone(), the_loop: the_loop.clone().unbind(), state };
        let this = whole::new(the_loop.py(), transport)?;
        core.call_soon(&this, Self::begin);
        Ok(this)
    }

    fn state(&self) -> PyResult<&ReadState> {
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
        let state = this.get().state()?;
        let made =
            state.end.call(&this.get().core, object, intern!(object.py(), "connection_made"), Some(object.clone()));
        let watched = Self::watch(this);
        state.end.set_made();
        made.and(watched)
    }

    fn watch(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.paused.get() || state.end.closing.get() || state.watched.replace(true) {
            return Ok(());
        }
        let watched = state.end.watch(&this.get().core, this.as_any(), Direction::Read, Self::on_readable);
        // A pipe that cannot be watched ends: it would never hear of its writer.
        watched.or_else(|error| {
            state.watched.set(false);
            log_lost(&this.get().core, this.as_any(), "Fatal read error on pipe transport", &error)?;
            Self::lose(this, Some(error))
        })
    }

    fn unwatch(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !state.watched.replace(false) {
            return Ok(());
        }
        state.end.unwatch(&this.get().core, this.as_any(), Direction::Read)
    }

    fn on_readable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (object.cast::<Self>()?, object.py());
        let ReadPipe { core, .. } = this.get();
        let state = this.get().state()?;
        if !state.watched.get() {
            return Ok(());
        }
        let received = core.with_scratch(|scratch| {
            // SAFETY: the pointer and length are those of the scratch buffer.
            let count = unsafe { libc::read(state.end.fd, scratch.as_mut_ptr().cast(), scratch.len()) };
            transferred(count).map(|count| count.map(|count| (count > 0).then(|| PyBytes::new(py, &scratch[..count]))))
        })?;
        match received {
            Ok(Some(Some(data))) => state.end.call(core, object, intern!(py, "data_received"), Some(data.into_any())),
            Ok(Some(None)) => {
                log(core, py, "info", "%r was closed by peer", object)?;
                state.end.closing.set(true);
                Self::unwatch(this)?;
                core.call_soon(this, |object| {
                    let transport = object.cast::<Self>()?.get();
                    let name = intern!(object.py(), "eof_received");
                    transport.state()?.end.call(&transport.core, object, name, None)
                });
                Self::lose(this, None)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let message = "Fatal read error on pipe transport";
                // A terminal reports that its other side is gone with EIO.
                let expected = error.raw_os_error() == Some(libc::EIO);
                let error = from_io(error);
                if expected {
                    log_lost(core, object, message, &error)?;
                } else {
                    state.end.report(core, object, error.clone_ref(py), message)?;
                }
                Self::lose(this, Some(error))
            }
        }
    }

    fn lose(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        Self::unwatch(this)?;
        this.get().state()?.end.lose(&this.get().core, this.as_any(), reason, |object| {
            let transport = object.cast::<Self>()?.get();
            transport.state()?.end.finish(&transport.core, object)
        })
    }

    fn describe(core: &Core, state: &ReadState) -> String {
        let mut words = state.end.words("ReadPipeTransport");
        words.push(state.end.activity(core, state.watched.get()).into());
        format!("<{}>", words.join(" "))
    }
}

#[pymethods]
impl ReadPipe {
    /// What `isinstance` asks for: asyncio.ReadTransport has a slot, so a native class cannot inherit from it.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.read_pipe_transport.bind(py).clone())
    }

    /// Close the pipe; connection_lost(None) comes later.
    fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        if this.get().state()?.end.closing.get() { Ok(()) } else { Self::lose(this, None) }
    }

    fn is_reading(&self) -> PyResult<bool> {
        let state = self.state()?;
        Ok(!state.paused.get() && !state.end.closing.get())
    }

    /// Stop calling data_received(); nothing is lost.
    fn pause_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.end.closing.get() || state.paused.replace(true) {
            return Ok(());
        }
        Self::unwatch(this)?;
        log(&this.get().core, this.py(), "debug", "%r pauses reading", this.as_any())
    }

    fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.end.closing.get() || !state.paused.replace(false) {
            return Ok(());
        }
        if state.end.made.get() {
            Self::watch(this)?;
        }
        log(&this.get().core, this.py(), "debug", "%r resumes reading", this.as_any())
    }
}

methods_of_an_end!(ReadPipe);
