//! The transports of one end of a pipe: [`ReadPipe`] and [`WritePipe`].
//!
//! A "pipe" is a pipe, a socket or a character device (a terminal), given as a file object, which alone closes the
//! descriptor. The engine watches it level-triggered; each piece of news is one `read` into the loop's scratch buffer
//! and one call of the protocol. Writes leave at once; what the kernel does not take waits in a buffer.
//!
//! Two transports may stand on one descriptor (a terminal is read and written, a stdout is connected twice), so neither
//! takes the other's watcher away, and neither touches a number that its file object has closed already.
//!
//! What each method promises is CPython's `unix_events._UnixReadPipeTransport` and `_UnixWritePipeTransport`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};
use pyo3::{PyTraverseError, PyVisit};

use super::stream::{Mark, warn_unclosed, water_marks};
use crate::core::{Call, Confined, Core, Job};
use crate::errors::from_io;
use crate::ffi::context::{copy_current, run_in};
use crate::ffi::exit::call_method;
use crate::imports::imports;

/// asyncio's default high-water mark, in bytes.
const HIGH_WATER: usize = 64 * 1024;

/// After this many writes to a lost connection each further one is warned about.
const WARN_AFTER_LOST_WRITES: u32 = 5;

/// What the descriptor of a pipe may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fifo,
    Socket,
    Device,
}

/// What both ends have.
struct End {
    fd: RawFd,
    kind: Kind,
    /// The file object; gone once it is closed.
    pipe: RefCell<Option<Py<PyAny>>>,
    protocol: RefCell<Option<Py<PyAny>>>,
    /// Every callback of this end runs in it.
    context: Py<PyAny>,
    extra: Py<PyDict>,
    /// `connection_made` has run.
    made: Cell<bool>,
    /// Waits for that.
    waiter: Cell<Option<Waker>>,
    closing: Cell<bool>,
    /// `connection_lost` is scheduled, or has run.
    lost: Cell<bool>,
    /// The exception for `connection_lost`.
    reason: RefCell<Option<Py<PyAny>>>,
}

impl End {
    fn new(pipe: &Bound<'_, PyAny>, protocol: Bound<'_, PyAny>, refusal: &'static str) -> PyResult<Self> {
        let py = pipe.py();
        let fd: RawFd = pipe.call_method0(intern!(py, "fileno"))?.extract()?;
        let kind = kind_of(fd).map_err(from_io)?.ok_or_else(|| PyValueError::new_err(refusal))?;
        set_nonblocking(fd).map_err(from_io)?;
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "pipe"), pipe)?;
        Ok(End {
            fd,
            kind,
            pipe: RefCell::new(Some(pipe.clone().unbind())),
            protocol: RefCell::new(Some(protocol.unbind())),
            context: copy_current(py)?.unbind(),
            extra: extra.unbind(),
            made: Cell::new(false),
            waiter: Cell::new(None),
            closing: Cell::new(false),
            lost: Cell::new(false),
            reason: RefCell::default(),
        })
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let protocol = self.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        protocol.unwrap_or_else(|| py.None().into_bound(py))
    }

    fn set_protocol(&self, protocol: Bound<'_, PyAny>) {
        let former = self.protocol.replace(Some(protocol.unbind()));
        drop(former);
    }

    fn is_open(&self) -> bool {
        self.pipe.borrow().is_some()
    }

    /// Calls a method of the protocol in this end's context. What it raises is reported and changes nothing.
    fn call<'py>(
        &self,
        core: &Core,
        this: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        argument: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = this.py();
        let protocol = self.protocol(py);
        let called = run_in(py, self.context.bind(py), || match &argument {
            Some(argument) => call_method(&protocol, name, [argument]),
            None => call_method(&protocol, name, []),
        });
        called.map(drop).or_else(|error| self.report(core, this, error, &format!("Exception in protocol.{name}()")))
    }

    fn report(&self, core: &Core, this: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        core.report(py, error, message, |context| {
            context.set_item(intern!(py, "transport"), this)?;
            context.set_item(intern!(py, "protocol"), self.protocol(py))
        })
    }

    /// Ready when `connection_made` has run.
    fn poll_made(&self, waker: &Waker) -> Poll<()> {
        if self.made.get() {
            return Poll::Ready(());
        }
        let former = self.waiter.replace(Some(waker.clone()));
        drop(former);
        Poll::Pending
    }

    /// `connection_made` has run.
    fn set_made(&self) {
        self.made.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Schedules `finish`, which is to call `connection_lost(reason)`, once.
    fn lose(&self, core: &Core, this: &Bound<'_, PyAny>, reason: Option<PyErr>, finish: Call) -> PyResult<()> {
        self.closing.set(true);
        if self.lost.get() {
            return Ok(());
        }
        core.check_closed()?;
        self.lost.set(true);
        *self.reason.borrow_mut() = reason.map(|error| error.into_value(this.py()).into_any());
        core.call_soon(this, finish);
        Ok(())
    }

    /// The last step: `connection_lost`, then the file is closed.
    fn finish(&self, core: &Core, this: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let reason = self.reason.borrow_mut().take();
        let reason = reason.unwrap_or_else(|| py.None()).into_bound(py);
        let told = self.call(core, this, intern!(py, "connection_lost"), Some(reason));
        let closed = self.close_file(core, py);
        let protocol = self.protocol.borrow_mut().take();
        drop(protocol);
        told.and(closed)
    }

    fn close_file(&self, core: &Core, py: Python<'_>) -> PyResult<()> {
        let pipe = self.pipe.borrow_mut().take();
        let Some(pipe) = pipe else { return Ok(()) };
        // Somebody else may have closed the file, and the number be another's by now.
        let number = pipe.call_method0(py, intern!(py, "fileno")).and_then(|number| number.extract::<RawFd>(py));
        if number.is_ok_and(|number| number == self.fd) {
            core.release_descriptor(self.fd);
        }
        pipe.call_method0(py, intern!(py, "close")).map(drop)
    }

    /// Whether somebody has closed the file without this transport.
    fn is_file_closed(&self, py: Python<'_>) -> bool {
        let pipe = self.pipe.borrow().as_ref().map(|pipe| pipe.bind(py).clone());
        let closed = pipe.map(|pipe| pipe.getattr(intern!(py, "closed")).and_then(|closed| closed.is_truthy()));
        matches!(closed, Some(Ok(true)))
    }

    /// Stops watching one direction, unless another transport watches it by now.
    fn unwatch(&self, core: &Core, this: &Bound<'_, PyAny>, direction: Direction) -> PyResult<()> {
        let engine = core.engine()?;
        if let Some(job) = engine.unwatch(self.fd, direction)
            && job.object().is_none_or(|watcher| !watcher.is(this))
        {
            drop(engine.watch(self.fd, direction, job).map_err(from_io)?);
        }
        Ok(())
    }

    fn watch(&self, core: &Core, this: &Bound<'_, PyAny>, direction: Direction, call: Call) -> PyResult<()> {
        let former =
            core.engine()?.watch(self.fd, direction, Job::Call(this.clone().unbind(), call)).map_err(from_io)?;
        drop(former);
        Ok(())
    }

    /// The transport dies; if nobody has closed it, the file is closed with a warning.
    fn die(&self, core: &Core, description: impl FnOnce() -> String) {
        if !self.is_open() {
            return;
        }
        Python::try_attach(|py| {
            if !self.is_file_closed(py) {
                warn_unclosed(py, &description());
            }
            if let Err(error) = self.close_file(core, py) {
                error.write_unraisable(py, None);
            }
        });
    }

    /// `<ReadPipeTransport fd=5 polling>`: the words up to and including the descriptor.
    fn words(&self, name: &str) -> Vec<String> {
        let mut words = vec![name.to_owned()];
        if !self.is_open() {
            words.push("closed".into());
        } else if self.closing.get() {
            words.push("closing".into());
        }
        words.push(format!("fd={}", self.fd));
        words
    }

    /// What it does now, for a repr.
    fn activity(&self, core: &Core, polling: bool) -> &'static str {
        if !self.is_open() {
            "closed"
        } else if core.is_closed() {
            // Without a loop nobody watches it any more.
            "open"
        } else if polling {
            "polling"
        } else {
            "idle"
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        visit.call(&self.extra)?;
        // Not the file: it must be whole when the last of this transport closes it.
        for cell in [&self.protocol, &self.reason] {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        Ok(())
    }

    /// The file stays: the transport still has to close it.
    fn clear(&self) {
        let (protocol, reason) = (self.protocol.borrow_mut().take(), self.reason.borrow_mut().take());
        drop((protocol, reason));
    }
}

/// What the descriptor is; `None` for what cannot be waited for (a regular file, a directory).
fn kind_of(fd: RawFd) -> io::Result<Option<Kind>> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills the struct, or fails.
    let mode = unsafe {
        if libc::fstat(fd, status.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        status.assume_init().st_mode
    };
    Ok(match mode & libc::S_IFMT {
        libc::S_IFIFO => Some(Kind::Fifo),
        libc::S_IFSOCK => Some(Kind::Socket),
        libc::S_IFCHR => Some(Kind::Device),
        _ => None,
    })
}

/// Reads and writes of `fd` return at once from here on.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; the kernel checks the descriptor.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 { flags } else { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `None` for what was only too early (EAGAIN) or interrupted.
fn transferred(count: libc::ssize_t) -> io::Result<Option<usize>> {
    match usize::try_from(count) {
        Ok(count) => Ok(Some(count)),
        Err(_) => {
            let error = io::Error::last_os_error();
            let early = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            if early { Ok(None) } else { Err(error) }
        }
    }
}

fn write(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a living slice.
    transferred(unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) }).map(Option::unwrap_or_default)
}

// --- reading -------------------------------------------------------------------------------------------------------

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
        let this = Bound::new(the_loop.py(), transport)?;
        core.call_soon(&this, Self::begin);
        Ok(this)
    }

    fn state(&self) -> PyResult<&ReadState> {
        self.state.get(&self.core)
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
        state.end.watch(&this.get().core, this.as_any(), Direction::Read, Self::on_readable)
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

    fn is_closing(&self) -> PyResult<bool> {
        Ok(self.state()?.end.closing.get())
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

    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.state()?.end.set_protocol(protocol);
        Ok(())
    }

    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.state()?.end.protocol(py))
    }

    /// "pipe" is the file object.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.end.extra.bind(name.py()).get_item(name)?.or(default))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.the_loop.clone_ref(py)
    }

    fn __repr__(&self) -> PyResult<String> {
        self.state().map(|state| Self::describe(&self.core, state))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        self.state.unguarded().end.traverse(&visit)
    }

    fn __clear__(&self) {
        self.state.unguarded().end.clear();
    }
}

impl Drop for ReadPipe {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        state.end.die(&self.core, || Self::describe(&self.core, state));
    }
}

// --- writing -------------------------------------------------------------------------------------------------------

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
        let this = Bound::new(the_loop.py(), transport)?;
        core.call_soon(&this, Self::begin);
        Ok(this)
    }

    fn state(&self) -> PyResult<&WriteState> {
        self.state.get(&self.core)
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
            state.end.watch(core, object, Direction::Read, Self::on_reader_gone)
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
                Err(error) => return Self::fatal(this, error),
            }
            if sent == data.len() {
                return Ok(());
            }
            if !state.write_watched.replace(true) {
                state.end.watch(&this.get().core, this.as_any(), Direction::Write, Self::on_writable)?;
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
            return Self::fatal(this, error);
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
    fn fatal(this: &Bound<'_, Self>, error: io::Error) -> PyResult<()> {
        let state = this.get().state()?;
        state.lost_writes.set(state.lost_writes.get() + 1);
        let error = from_io(error);
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

    fn is_closing(&self) -> PyResult<bool> {
        Ok(self.state()?.end.closing.get())
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

    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.state()?.end.set_protocol(protocol);
        Ok(())
    }

    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.state()?.end.protocol(py))
    }

    /// "pipe" is the file object.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.end.extra.bind(name.py()).get_item(name)?.or(default))
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.the_loop.clone_ref(py)
    }

    fn __repr__(&self) -> PyResult<String> {
        self.state().map(|state| Self::describe(&self.core, state))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        self.state.unguarded().end.traverse(&visit)
    }

    fn __clear__(&self) {
        self.state.unguarded().end.clear();
    }
}

impl Drop for WritePipe {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        state.end.die(&self.core, || Self::describe(&self.core, state));
    }
}

// --- the log -------------------------------------------------------------------------------------------------------

/// asyncio's log.
pub fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    imports(py)?.helpers.bind(py).getattr(intern!(py, "logger"))
}

/// Debug mode: one line to asyncio's log, about `subject`.
pub fn log(core: &Core, py: Python<'_>, level: &str, format: &str, subject: &Bound<'_, PyAny>) -> PyResult<()> {
    if core.debug() { logger(py)?.call_method1(level, (format, subject)).map(drop) } else { Ok(()) }
}

/// Debug mode: an error that ends a connection without being a bug.
fn log_lost(core: &Core, this: &Bound<'_, PyAny>, message: &str, error: &PyErr) -> PyResult<()> {
    let py = this.py();
    if core.debug() {
        imports(py)?.helpers.bind(py).call_method1("log_lost", (this, message, error.value(py)))?;
    }
    Ok(())
}
