//! The transport of a connected stream socket, TCP or Unix.
//!
//! Reading: the engine watches the descriptor level-triggered; each piece of news is one `recv` into the loop's scratch
//! buffer (or straight into a BufferedProtocol's) and one call of the protocol.
//!
//! Writing: what a turn writes is gathered and leaves in one vectored write before the loop sleeps; asyncio and uvloop
//! make two sends per HTTP response, and send is three quarters of a server's time. More than the high-water mark is
//! written at once, so that the protocol is paused only if the *kernel's* buffer is full, and writes while the loop
//! does not run leave at once.
//!
//! What each method promises is CPython's `selector_events._SelectorSocketTransport`.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyResourceWarning, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit};

use super::address::RawAddress;
use super::tls::TlsProtocol;
use super::write_queue::{WriteQueue, receive, receive_into};
use crate::core::{Confined, Core, Job};
use crate::errors::from_io;
use crate::ffi::buffer::Buffer;
use crate::ffi::context::{copy_current, run_in};
use crate::ffi::exit::call_method;
use crate::imports::imports;
use crate::server::ServerCore;

/// As much is read at once for TLS, in bytes: decrypting it takes far longer than another system call.
const TLS_READ_SIZE: usize = 64 * 1024;

/// asyncio's default high-water mark, in bytes.
const HIGH_WATER: usize = 64 * 1024;

/// After this many writes to a lost connection each further one is warned about.
pub const WARN_AFTER_LOST_WRITES: u32 = 5;

/// A connected stream socket.
#[pyclass(frozen, weakref, dict, module = "ferrio")]
pub struct StreamTransport {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    state: Confined<State>,
}

/// Who owns the descriptor.
enum Socket {
    /// This transport; nobody has asked for a Python socket yet.
    Ours(OwnedFd),
    /// A `socket.socket`, which closes it.
    Python(Py<PyAny>),
    Closed,
}

/// How the protocol takes bytes.
#[derive(Clone, Copy, PartialEq)]
enum ProtocolKind {
    Plain,
    Buffered,
    /// Natively: no Python object is made of the bytes.
    Tls,
}

impl ProtocolKind {
    fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        if protocol.cast_exact::<TlsProtocol>().is_ok() {
            return Ok(ProtocolKind::Tls);
        }
        Ok(if is_buffered(protocol)? { ProtocolKind::Buffered } else { ProtocolKind::Plain })
    }
}

struct State {
    fd: RawFd,
    socket: RefCell<Socket>,
    protocol: RefCell<Option<Py<PyAny>>>,
    kind: Cell<ProtocolKind>,
    /// Every callback of this connection runs in it.
    context: RefCell<Option<Py<PyAny>>>,
    /// Where the connection is counted; told when it ends.
    server: RefCell<Option<Py<PyAny>>>,
    /// Told when `connection_made` has run.
    waiter: RefCell<Option<Py<PyAny>>>,
    /// The exception for `connection_lost`.
    reason: RefCell<Option<Py<PyAny>>>,
    /// `get_extra_info`: what was given at the start and what was asked for since.
    extra: RefCell<Option<Py<PyDict>>>,
    peer: RefCell<Option<RawAddress>>,
    queue: RefCell<WriteQueue>,
    /// `sendfile` waits here until the queue is empty.
    empty_waiter: RefCell<Option<Py<PyAny>>>,
    high: Cell<usize>,
    low: Cell<usize>,
    lost_writes: Cell<u32>,
    closing: Cell<bool>,
    /// `connection_lost` is scheduled, or has run.
    lost: Cell<bool>,
    finished: Cell<bool>,
    made: Cell<bool>,
    eof_written: Cell<bool>,
    reading_paused: Cell<bool>,
    read_watched: Cell<bool>,
    write_watched: Cell<bool>,
    protocol_paused: Cell<bool>,
    /// Queued writes leave before the loop sleeps.
    gathering: Cell<bool>,
}

/// What a new transport is made of.
pub struct NewStream<'py> {
    pub socket: StreamSocket<'py>,
    pub protocol: Bound<'py, PyAny>,
    pub server: Option<Bound<'py, PyAny>>,
    /// A future that is told when `connection_made` has run.
    pub waiter: Option<Bound<'py, PyAny>>,
    pub extra: Option<Bound<'py, PyDict>>,
    /// The connection's own context; a copy of the current one if absent.
    pub context: Option<Bound<'py, PyAny>>,
}

/// The socket of a new transport.
pub enum StreamSocket<'py> {
    /// Accepted natively, with the peer's address.
    Accepted(OwnedFd, RawAddress),
    /// A connected `socket.socket`, non-blocking.
    Python(Bound<'py, PyAny>),
}

impl StreamTransport {
    /// Makes a transport and schedules `connection_made`.
    pub fn start<'py>(
        the_loop: &Bound<'py, PyAny>,
        core: &Arc<Core>,
        new: NewStream<'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = the_loop.py();
        let (fd, socket, peer) = match new.socket {
            StreamSocket::Accepted(fd, peer) => (fd.as_raw_fd(), Socket::Ours(fd), Some(peer)),
            StreamSocket::Python(socket) => {
                let fd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
                (fd, Socket::Python(socket.unbind()), RawAddress::of_peer(fd).ok())
            }
        };
        if peer.as_ref().is_some_and(RawAddress::is_internet) {
            set_no_delay(fd);
        }
        let context = match new.context {
            Some(context) => context,
            None => copy_current(py)?,
        };
        let kind = ProtocolKind::of(&new.protocol)?;
        if kind != ProtocolKind::Tls {
            // A protocol that cannot be told of the connection is refused now, not in the next turn.
            new.protocol.getattr(intern!(py, "connection_made"))?;
        }
        let state = State {
            fd,
            socket: RefCell::new(socket),
            protocol: RefCell::new(Some(new.protocol.unbind())),
            kind: Cell::new(kind),
            context: RefCell::new(Some(context.unbind())),
            server: RefCell::new(new.server.map(Bound::unbind)),
            waiter: RefCell::new(new.waiter.map(Bound::unbind)),
            reason: RefCell::default(),
            extra: RefCell::new(new.extra.map(Bound::unbind)),
            peer: RefCell::new(peer),
            queue: RefCell::default(),
            empty_waiter: RefCell::default(),
            high: Cell::new(HIGH_WATER),
            low: Cell::new(HIGH_WATER / 4),
            lost_writes: Cell::new(0),
            closing: Cell::new(false),
            lost: Cell::new(false),
            finished: Cell::new(false),
            made: Cell::new(false),
            eof_written: Cell::new(false),
            reading_paused: Cell::new(false),
            read_watched: Cell::new(false),
            write_watched: Cell::new(false),
            protocol_paused: Cell::new(false),
            gathering: Cell::new(false),
        };
        let transport =
            StreamTransport { core: core.clone(), the_loop: the_loop.clone().unbind(), state: Confined::new(state) };
        let this = Bound::new(py, transport)?;
        core.own_descriptor(fd, &this)?;
        let state = this.get().state()?;
        if let Some(server) = &*state.server.borrow() {
            server.call_method1(py, intern!(py, "_attach"), (&this,))?;
        }
        core.call_soon(&this, Self::begin);
        Ok(this)
    }

    #[inline]
    fn state(&self) -> PyResult<&State> {
        self.state.get(&self.core)
    }

    fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, Self>> {
        Ok(object.cast::<Self>()?)
    }

    /// The first step: `connection_made`, then reading, then whoever waits for the connection.
    fn begin(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let state = this.get().state()?;
        if state.lost.get() && state.finished.get() {
            return Ok(());
        }
        state.made.set(true);
        let made = this
            .get()
            .call_protocol(py, |protocol| call_method(protocol, intern!(py, "connection_made"), [this.as_any()]))
            .map(drop)
            .or_else(|error| this.get().report(this, error, "Exception in protocol.connection_made()"));
        // What it raises to end the run does not end the connection.
        Self::after_made(this).and(made)
    }

    fn after_made(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !state.closing.get() && !state.reading_paused.get() {
            Self::watch_reads(this)?;
        }
        let waiter = state.waiter.borrow_mut().take();
        match waiter {
            Some(waiter) => settle_waiter(waiter.bind(this.py())),
            None => Ok(()),
        }
    }

    /// The connection's context, until its end.
    pub fn run_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.context.borrow().as_ref().map(|context| context.bind(py).clone()))
    }

    /// Calls a method of the protocol in the connection's context.
    fn call_protocol<'py>(
        &self,
        py: Python<'py>,
        call: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state()?;
        let protocol = state.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        let Some(protocol) = protocol else { return Ok(py.None().into_bound(py)) };
        match self.run_context(py)? {
            Some(context) => run_in(py, &context, || call(&protocol)),
            None => call(&protocol),
        }
    }

    // --- reading ---------------------------------------------------------------------------------------------------

    fn watch_reads(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        this.get().core.check_closed()?;
        if !state.read_watched.replace(true) {
            let job = Job::Call(this.clone().into_any().unbind(), Self::on_readable);
            drop(this.get().core.engine()?.watch(state.fd, Direction::Read, job).map_err(from_io)?);
        }
        Ok(())
    }

    fn unwatch_reads(&self) -> PyResult<()> {
        let state = self.state()?;
        if state.read_watched.replace(false) {
            drop(self.core.engine()?.unwatch(state.fd, Direction::Read));
        }
        Ok(())
    }

    fn on_readable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = Self::of(object)?;
        let transport = this.get();
        let state = transport.state()?;
        if state.closing.get() || !state.read_watched.get() {
            return Ok(());
        }
        if state.reading_paused.get() {
            // Pausing costs a system call only if news comes meanwhile.
            return transport.unwatch_reads();
        }
        match state.kind.get() {
            ProtocolKind::Plain => Self::read_data(this),
            ProtocolKind::Buffered => Self::read_into_protocol(this),
            ProtocolKind::Tls => Self::read_into_tls(this),
        }
    }

    fn read_data(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        let data = transport.core.with_scratch(|scratch| {
            receive(state.fd, scratch).map(|count| (count > 0).then(|| PyBytes::new(py, &scratch[..count])))
        })?;
        match data {
            Ok(Some(data)) => {
                let called = transport
                    .call_protocol(py, |protocol| call_method(protocol, intern!(py, "data_received"), [data.as_any()]));
                called
                    .map(drop)
                    .or_else(|error| Self::fatal(this, error, "Fatal error: protocol.data_received() call failed."))
            }
            Ok(None) => Self::on_eof(this),
            Err(error) => Self::read_failed(this, error),
        }
    }

    fn read_into_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        let buffer = transport.call_protocol(py, |protocol| {
            let buffer = call_method(protocol, intern!(py, "get_buffer"), [&(-1_i32).into_pyobject(py)?.into_any()])?;
            if buffer.len()? == 0 {
                return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
            }
            Ok(buffer)
        });
        let received = buffer.and_then(|buffer| {
            let room = Buffer::writable(&buffer)?;
            Ok(receive_into(state.fd, room.as_ptr(), room.len()))
        });
        let received = match received {
            Ok(received) => received,
            Err(error) => return Self::fatal(this, error, "Fatal error: protocol.get_buffer() call failed."),
        };
        match received {
            Ok(0) => Self::on_eof(this),
            Ok(count) => {
                let called = transport.call_protocol(py, |protocol| {
                    call_method(protocol, intern!(py, "buffer_updated"), [&count.into_pyobject(py)?.into_any()])
                });
                called
                    .map(drop)
                    .or_else(|error| Self::fatal(this, error, "Fatal error: protocol.buffer_updated() call failed."))
            }
            Err(error) => Self::read_failed(this, error),
        }
    }

    fn read_into_tls(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        let protocol = transport.protocol(py)?;
        let Ok(tls) = protocol.cast_exact::<TlsProtocol>() else { return Ok(()) };
        let received = transport.core.with_scratch(|scratch| {
            let received = receive(state.fd, &mut scratch[..TLS_READ_SIZE]);
            let fed = received.as_ref().map_or(Ok(()), |count| tls.get().feed(py, &scratch[..*count]));
            fed.map(|()| received)
        })?;
        match received {
            Ok(Ok(0)) => Self::on_eof(this),
            Ok(Ok(_)) => {
                let updated = match transport.run_context(py)? {
                    Some(context) => run_in(py, &context, || TlsProtocol::updated(tls)),
                    None => TlsProtocol::updated(tls),
                };
                updated.or_else(|error| Self::fatal(this, error, "Fatal error: protocol.buffer_updated() call failed."))
            }
            Ok(Err(error)) => Self::read_failed(this, error),
            Err(error) => Self::fatal(this, error, "Fatal error: protocol.buffer_updated() call failed."),
        }
    }

    fn read_failed(this: &Bound<'_, Self>, error: io::Error) -> PyResult<()> {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Ok(());
        }
        Self::fatal(this, from_io(error), "Fatal read error on socket transport")
    }

    fn on_eof(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let keep_open = transport.call_protocol(py, |protocol| call_method(protocol, intern!(py, "eof_received"), []));
        match keep_open.and_then(|keep_open| keep_open.is_truthy()) {
            // The peer has no more to say, but we may: half-closed.
            Ok(true) => transport.unwatch_reads(),
            Ok(false) => Self::close(this),
            Err(error) => Self::fatal(this, error, "Fatal error: protocol.eof_received() call failed."),
        }
    }

    // --- writing ---------------------------------------------------------------------------------------------------

    /// Queues `data`, which is not empty, and sees to it that it leaves.
    fn enqueue(this: &Bound<'_, Self>, data: Bound<'_, PyBytes>) -> PyResult<()> {
        let transport = this.get();
        let state = transport.state()?;
        let size = {
            let mut queue = state.queue.borrow_mut();
            queue.push(data);
            queue.size()
        };
        if state.write_watched.get() {
            // The kernel's buffer is full: it will call.
            return Self::maybe_pause_protocol(this);
        }
        if size <= state.high.get() && transport.core.remote().is_current() {
            if !state.gathering.replace(true) {
                transport.core.before_sleep(this, Self::flush_gathered)?;
            }
            return Ok(());
        }
        Self::flush(this)?;
        Self::maybe_pause_protocol(this)
    }

    /// Sends `data`, which is not empty, now: the layer above has gathered already.
    pub fn send(this: &Bound<'_, Self>, data: Bound<'_, PyBytes>) -> PyResult<()> {
        let state = this.get().state()?;
        if !this.get().may_write(this.py(), "write")? {
            return Ok(());
        }
        state.queue.borrow_mut().push(data);
        if !state.write_watched.get() {
            Self::flush(this)?;
        }
        Self::maybe_pause_protocol(this)
    }

    fn flush_gathered(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = Self::of(object)?;
        let state = this.get().state()?;
        state.gathering.set(false);
        if state.write_watched.get() {
            return Ok(());
        }
        Self::flush(this)
    }

    /// Writes as much of the queue as the kernel takes now; it calls for the rest.
    fn flush(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        while !state.queue.borrow().is_empty() {
            let mut written = Vec::new();
            let result = state.queue.borrow_mut().write_to(py, state.fd, &mut written);
            drop(written);
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !state.write_watched.replace(true) {
                        let job = Job::Call(this.clone().into_any().unbind(), Self::on_writable);
                        drop(transport.core.engine()?.watch(state.fd, Direction::Write, job).map_err(from_io)?);
                    }
                    return Ok(());
                }
                Err(error) => {
                    let left = state.queue.borrow_mut().take();
                    drop(left);
                    transport.unwatch_writes()?;
                    return Self::fatal(this, from_io(error), "Fatal write error on socket transport");
                }
            }
        }
        transport.unwatch_writes()
    }

    fn unwatch_writes(&self) -> PyResult<()> {
        let state = self.state()?;
        if state.write_watched.replace(false) {
            drop(self.core.engine()?.unwatch(state.fd, Direction::Write));
        }
        Ok(())
    }

    fn on_writable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let state = this.get().state()?;
        if state.lost.get() || !state.write_watched.get() {
            return Ok(());
        }
        Self::flush(this)?;
        Self::maybe_resume_protocol(this)?;
        if !state.queue.borrow().is_empty() || state.lost.get() {
            return Ok(());
        }
        let empty_waiter = state.empty_waiter.borrow_mut().take();
        if let Some(waiter) = empty_waiter {
            settle_waiter(waiter.bind(py))?;
        }
        if state.closing.get() {
            return Self::lose(this, None);
        }
        if state.eof_written.get() { this.get().shutdown_writes() } else { Ok(()) }
    }

    fn maybe_pause_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if state.queue.borrow().size() <= state.high.get() || state.protocol_paused.replace(true) {
            return Ok(());
        }
        let protocol = this.get().protocol(py)?;
        let called = protocol.call_method0(intern!(py, "pause_writing"));
        called.map(drop).or_else(|error| this.get().report(this, error, "protocol.pause_writing() failed"))
    }

    fn maybe_resume_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if !state.protocol_paused.get() || state.queue.borrow().size() > state.low.get() {
            return Ok(());
        }
        state.protocol_paused.set(false);
        let called = this.get().call_protocol(py, |protocol| call_method(protocol, intern!(py, "resume_writing"), []));
        called.map(drop).or_else(|error| this.get().report(this, error, "protocol.resume_writing() failed"))
    }

    fn shutdown_writes(&self) -> PyResult<()> {
        let state = self.state()?;
        // SAFETY: a system call on a descriptor that this transport owns. A peer that is gone already is no error here:
        // reading will tell.
        unsafe { libc::shutdown(state.fd, libc::SHUT_WR) };
        Ok(())
    }

    // --- the end ---------------------------------------------------------------------------------------------------

    /// The descriptor, for who writes to it directly.
    ///
    /// # Errors
    /// ConnectionError if the connection is closed.
    pub fn open_descriptor(&self) -> PyResult<RawFd> {
        let state = self.state()?;
        if state.lost.get() || matches!(*state.socket.borrow(), Socket::Closed) {
            return Err(pyo3::exceptions::PyConnectionError::new_err("Connection is closed by peer"));
        }
        Ok(state.fd)
    }

    /// Stops everything and schedules `connection_lost(reason)`; what is queued is thrown away.
    fn lose(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        state.closing.set(true);
        state.lost_writes.set(state.lost_writes.get() + 1);
        transport.unwatch_reads()?;
        transport.unwatch_writes()?;
        let left = state.queue.borrow_mut().take();
        drop(left);
        if !state.lost.replace(true) {
            // Nobody would run it; the descriptor is closed when the transport is collected.
            transport.core.check_closed()?;
            *state.reason.borrow_mut() = reason.map(|error| error.into_value(py).into_any());
            transport.core.call_soon(this, Self::finish);
        }
        Ok(())
    }

    /// The last step: `connection_lost`, then the descriptor is closed.
    fn finish(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let transport = this.get();
        let state = transport.state()?;
        if state.finished.replace(true) {
            return Ok(());
        }
        let reason = state.reason.borrow_mut().take();
        let told = if state.made.get() {
            let reason = reason.unwrap_or_else(|| py.None()).into_bound(py);
            transport.call_protocol(py, |protocol| call_method(protocol, intern!(py, "connection_lost"), [&reason]))
        } else {
            Ok(py.None().into_bound(py))
        };
        let empty_waiter = state.empty_waiter.borrow_mut().take();
        if let Some(waiter) = empty_waiter {
            fail_waiter(waiter.bind(py), "Connection is closed by peer")?;
        }
        transport.close_socket(py)?;
        let protocol = state.protocol.borrow_mut().take();
        let context = state.context.borrow_mut().take();
        let server = state.server.borrow_mut().take();
        if let Some(server) = server {
            server.call_method1(py, intern!(py, "_detach"), (this,))?;
        }
        drop((protocol, context));
        told.map(drop).or_else(|error| transport.report(this, error, "Exception in protocol.connection_lost()"))
    }

    fn close_socket(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state()?;
        if !matches!(*state.socket.borrow(), Socket::Closed) {
            // The addresses can be asked for after the end.
            self.remember_addresses(py)?;
            self.core.release_descriptor(state.fd);
        }
        let socket = state.socket.replace(Socket::Closed);
        match socket {
            Socket::Python(socket) => socket.call_method0(py, intern!(py, "close")).map(drop),
            Socket::Ours(fd) => {
                drop(fd);
                Ok(())
            }
            Socket::Closed => Ok(()),
        }
    }

    /// An error that ends the connection. Only what is no OSError is a bug and reported.
    fn fatal(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        if error.is_instance_of::<PyOSError>(py) {
            if this.get().core.debug() {
                imports(py)?.helpers.bind(py).call_method1("log_lost", (this, message, error.value(py)))?;
            }
        } else {
            this.get().report(this, error.clone_ref(py), message)?;
        }
        Self::lose(this, Some(error))
    }

    fn report(&self, this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        let protocol = self.state()?.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py));
        self.core.report(py, error, message, |context| {
            context.set_item(intern!(py, "transport"), this)?;
            context.set_item(intern!(py, "protocol"), protocol)
        })
    }

    // --- extra information -----------------------------------------------------------------------------------------

    fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let protocol = self.state()?.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        Ok(protocol.unwrap_or_else(|| py.None().into_bound(py)))
    }

    fn extra<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.state()?;
        if let Some(extra) = &*state.extra.borrow() {
            return Ok(extra.bind(py).clone());
        }
        // Making a dict may run the garbage collector, and that other code.
        let new = PyDict::new(py).unbind();
        Ok(state.extra.borrow_mut().get_or_insert(new).bind(py).clone())
    }

    fn remember_addresses(&self, py: Python<'_>) -> PyResult<()> {
        for name in [intern!(py, "sockname"), intern!(py, "peername")] {
            self.address(py, name)?;
        }
        Ok(())
    }

    /// "sockname" or "peername", remembered.
    fn address<'py>(&self, py: Python<'py>, name: &Bound<'py, pyo3::types::PyString>) -> PyResult<Bound<'py, PyAny>> {
        let extra = self.extra(py)?;
        if let Some(known) = extra.get_item(name)? {
            return Ok(known);
        }
        let state = self.state()?;
        if matches!(*state.socket.borrow(), Socket::Closed) {
            return Ok(py.None().into_bound(py));
        }
        let is_peer = name.to_cow()? == "peername";
        let raw = if is_peer { state.peer.borrow_mut().take() } else { RawAddress::of_socket(state.fd).ok() };
        let address = match raw {
            None => py.None().into_bound(py),
            Some(raw) => match raw.to_python(py)? {
                Some(address) => address,
                // A family that only Python's socket module can spell.
                None => {
                    let method = if is_peer { intern!(py, "getpeername") } else { intern!(py, "getsockname") };
                    self.python_socket(py)?.call_method0(method)?
                }
            },
        };
        extra.set_item(name, &address)?;
        Ok(address)
    }

    /// The `socket.socket`, made now if the connection was accepted natively; it owns the descriptor from then on.
    fn python_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state()?;
        if let Socket::Python(socket) = &*state.socket.borrow() {
            return Ok(socket.bind(py).clone());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "fileno"), state.fd)?;
        let socket = imports(py)?.socket.bind(py).call((), Some(&keywords))?;
        socket.call_method1(intern!(py, "setblocking"), (false,))?;
        let former = state.socket.replace(Socket::Python(socket.clone().unbind()));
        if let Socket::Ours(fd) = former {
            std::mem::forget(fd);
        }
        Ok(socket)
    }
}

/// Small writes leave at once: gathering them is our affair, not the kernel's. asyncio sets it too; a socket that has
/// no such option (MPTCP, SCTP) does without.
fn set_no_delay(fd: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is the int `on`, which outlives the call.
    unsafe {
        let size = size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), size);
    }
}

pub fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    protocol.is_instance(imports(protocol.py())?.buffered_protocol.bind(protocol.py()))
}

/// Answers a future unless it is done or cancelled.
pub fn settle_waiter(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

fn fail_waiter(waiter: &Bound<'_, PyAny>, message: &'static str) -> PyResult<()> {
    let py = waiter.py();
    if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        let error = pyo3::exceptions::PyConnectionError::new_err(message);
        waiter.call_method1(intern!(py, "set_exception"), (error.value(py),))?;
    }
    Ok(())
}

/// The bytes of `data`: itself if it is immutable, a copy if the caller may change it.
fn snapshot<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match as_bytes(data)? {
        Some(bytes) => Ok(bytes),
        None => {
            let kind = data.get_type().name()?.to_string();
            Err(PyTypeError::new_err(format!("data argument must be a bytes-like object, not {kind:?}")))
        }
    }
}

/// The same; None if `data` is nothing that a transport writes.
pub fn as_bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(Some(bytes.clone()));
    }
    if data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>() || data.is_instance_of::<PyMemoryView>()
    {
        return Ok(Some(data.py().get_type::<PyBytes>().call1((data,))?.cast_into()?));
    }
    Ok(None)
}

#[pymethods]
impl StreamTransport {
    /// asyncio.Transport has a slot, so a native class cannot inherit from it; `isinstance` asks for this.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.stream_transport.bind(py).clone())
    }

    /// Write data (bytes-like); it leaves before the loop sleeps. Never blocks.
    fn write(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
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
    fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.closing.get() {
            return Ok(());
        }
        this.get().unwatch_reads()?;
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

    fn is_closing(&self) -> PyResult<bool> {
        Ok(self.state()?.closing.get())
    }

    /// Stop calling data_received(); nothing is lost.
    fn pause_reading(&self) -> PyResult<()> {
        let state = self.state()?;
        if !state.closing.get() {
            state.reading_paused.set(true);
        }
        Ok(())
    }

    fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
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
        let extra = transport.extra(py)?;
        if let Some(known) = extra.get_item(name)? {
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
                extra.set_item(name, &socket)?;
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
        if state.empty_waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        Self::flush(this)?;
        let waiter = crate::core::new_future(py, this.get().the_loop.bind(py))?;
        if state.queue.borrow().is_empty() {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        *state.empty_waiter.borrow_mut() = Some(waiter.clone().unbind());
        Ok(waiter)
    }

    fn _reset_empty_waiter(&self) -> PyResult<()> {
        let waiter = self.state()?.empty_waiter.borrow_mut().take();
        drop(waiter);
        Ok(())
    }

    fn __repr__(&self) -> PyResult<String> {
        self.state().map(Self::describe)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        let state = self.state.unguarded();
        for cell in [&state.protocol, &state.context, &state.server, &state.waiter, &state.reason, &state.empty_waiter]
        {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        if let Ok(extra) = state.extra.try_borrow()
            && let Some(extra) = &*extra
        {
            visit.call(extra)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.state.unguarded();
        // The server stays: it is told of the end.
        for cell in [&state.protocol, &state.context, &state.waiter, &state.reason, &state.empty_waiter] {
            let content = cell.borrow_mut().take();
            drop(content);
        }
        let extra = state.extra.borrow_mut().take();
        drop(extra);
    }
}

impl StreamTransport {
    fn describe(state: &State) -> String {
        let mut words = vec!["StreamTransport".to_owned()];
        if matches!(*state.socket.borrow(), Socket::Closed) {
            words.push("closed".into());
        } else if state.closing.get() {
            words.push("closing".into());
        }
        words.push(format!("fd={}", state.fd));
        if !state.finished.get() {
            let polling = state.read_watched.get() && !state.reading_paused.get();
            words.push(format!("read={}", if polling { "polling" } else { "idle" }));
            let writing = if state.write_watched.get() { "polling" } else { "idle" };
            words.push(format!("write=<{writing}, bufsize={}>", state.queue.borrow().size()));
        }
        format!("<{}>", words.join(" "))
    }

    /// Whether a write is taken; one to a lost connection is dropped, with a warning after a few.
    fn may_write(&self, py: Python<'_>, method: &str) -> PyResult<bool> {
        let state = self.state()?;
        if state.eof_written.get() {
            return Err(PyRuntimeError::new_err(format!("Cannot call {method}() after write_eof()")));
        }
        if state.empty_waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err(format!("unable to {method}; sendfile is in progress")));
        }
        let lost = state.lost_writes.get();
        if lost == 0 {
            return Ok(true);
        }
        if lost >= WARN_AFTER_LOST_WRITES {
            imports(py)?.helpers.bind(py).call_method0("warn_lost_write")?;
        }
        state.lost_writes.set(lost + 1);
        Ok(false)
    }
}

impl Drop for StreamTransport {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        if matches!(*state.socket.borrow(), Socket::Closed) {
            return;
        }
        let description = Self::describe(state);
        self.core.release_descriptor(state.fd);
        if let Some(server) = state.server.take()
            && !self.core.is_closed()
        {
            self.core.soon(Job::Call(server, ServerCore::connection_collected));
        }
        let socket = state.socket.replace(Socket::Closed);
        Python::try_attach(|py| {
            warn_unclosed(py, &description);
            if let Socket::Python(socket) = socket
                && let Err(error) = socket.call_method0(py, intern!(py, "close"))
            {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// The ResourceWarning of a transport that nobody closed. As an error (`-W error`) it has nobody to go to.
pub fn warn_unclosed(py: Python<'_>, description: &str) {
    let text = std::ffi::CString::new(format!("unclosed transport {description}")).unwrap_or_default();
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}

/// A water mark as a caller gives it: any whole number, however large.
pub struct Mark(i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Mark {
    type Error = PyErr;

    fn extract(number: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match number.extract() {
            Err(error) if PyErr::is_instance_of::<PyOverflowError>(&error, number.py()) => {
                Ok(Mark(if number.gt(0)? { i64::MAX } else { i64::MIN }))
            }
            number => number.map(Mark),
        }
    }
}

/// The water marks that the two optional ones stand for.
///
/// # Errors
/// ValueError unless high >= low >= 0.
pub fn water_marks(high: Option<Mark>, low: Option<Mark>) -> PyResult<(usize, usize)> {
    water_marks_by_default(high, low, HIGH_WATER)
}

/// The same with another default for the high one.
pub fn water_marks_by_default(high: Option<Mark>, low: Option<Mark>, default: usize) -> PyResult<(usize, usize)> {
    let (high, low) = (high.map(|mark| mark.0), low.map(|mark| mark.0));
    let high = high.unwrap_or_else(|| low.map_or(default as i64, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high / 4);
    if !(high >= low && low >= 0) {
        return Err(PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0")));
    }
    Ok((high as usize, low as usize))
}
