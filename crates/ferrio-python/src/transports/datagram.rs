//! The transport of a datagram socket, UDP or Unix.
//!
//! Reading: one datagram per piece of news, as asyncio does it, so that what one datagram sets off has run before the
//! protocol sees the next. A peer that goes on talking gets the same address object again, and an answer to that very
//! object needs no parsing.
//!
//! Writing: a datagram leaves at once, or waits in order until the kernel has room.
//!
//! What each method promises is CPython's `selector_events._SelectorDatagramTransport`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit};

use super::address::RawAddress;
use super::stream::{Mark, WARN_AFTER_LOST_WRITES, settle_waiter, warn_unclosed, water_marks};
use crate::core::{Confined, Core, Job, READ_SIZE};
use crate::errors::{must_wait, os_error, unless_it_must_wait};
use crate::event_loop::sockets::SEND_FLAGS;
use crate::ffi::buffer::Buffer;
use crate::ffi::context::{copy_current, run_in};
use crate::ffi::exit::call_method;
use crate::imports::imports;

/// What a queued datagram counts beyond its bytes, from Python 3.13 on: empty ones would wait unnoticed otherwise.
const HEADER_SIZE: usize = 8;

/// A datagram socket.
#[pyclass(frozen, weakref, dict, module = "ferrio")]
pub struct DatagramTransport {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    state: Confined<State>,
}

/// A datagram and where it goes to.
type Waiting = (Py<PyBytes>, Option<Py<PyAny>>);

struct State {
    fd: RawFd,
    /// Its family if the system calls can be made here: not for a class with methods of its own, nor for a family
    /// whose addresses only Python's socket module knows.
    family: Option<libc::c_int>,
    /// Gone once it is closed.
    socket: RefCell<Option<Py<PyAny>>>,
    protocol: RefCell<Option<Py<PyAny>>>,
    /// Every callback of this endpoint runs in it.
    context: RefCell<Option<Py<PyAny>>>,
    /// Told when `connection_made` has run.
    waiter: RefCell<Option<Py<PyAny>>>,
    /// The exception for `connection_lost`.
    reason: RefCell<Option<Py<PyAny>>>,
    /// `get_extra_info`.
    extra: Py<PyDict>,
    /// The only address that datagrams may go to.
    remote: RefCell<Option<Py<PyAny>>>,
    /// Whether the kernel knows where datagrams go to.
    connected: bool,
    /// Who has sent the last datagram.
    sender: RefCell<Option<(RawAddress, Py<PyAny>)>>,
    queue: RefCell<VecDeque<Waiting>>,
    queued_size: Cell<usize>,
    high: Cell<usize>,
    low: Cell<usize>,
    lost_writes: Cell<u32>,
    closing: Cell<bool>,
    /// `connection_lost` is scheduled, or has run.
    lost: Cell<bool>,
    made: Cell<bool>,
    reading_paused: Cell<bool>,
    read_watched: Cell<bool>,
    write_watched: Cell<bool>,
    protocol_paused: Cell<bool>,
}

impl DatagramTransport {
    /// Makes a transport and schedules `connection_made`. `remote` is the only address it may send to, if there is one;
    /// `waiter` is told when `connection_made` has run.
    pub fn start<'py>(
        the_loop: &Bound<'py, PyAny>,
        core: &Arc<Core>,
        socket: &Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        remote: Option<Bound<'py, PyAny>>,
        waiter: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = the_loop.py();
        let fd: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "socket"), imports(py)?.transport_socket.bind(py).call1((socket,))?)?;
        extra
            .set_item(intern!(py, "sockname"), address_or_none(py, socket.call_method0(intern!(py, "getsockname")))?)?;
        let peer = address_or_none(py, socket.call_method0(intern!(py, "getpeername")))?;
        let connected = match &peer {
            Some(peer) => peer.is_truthy()?,
            None => false,
        };
        extra.set_item(intern!(py, "peername"), peer)?;
        let (high, low) = water_marks(None, None)?;
        let state = State {
            fd,
            family: native_family(socket)?,
            socket: RefCell::new(Some(socket.clone().unbind())),
            protocol: RefCell::new(Some(protocol.unbind())),
            context: RefCell::new(Some(copy_current(py)?.unbind())),
            waiter: RefCell::new(Some(waiter.unbind())),
            reason: RefCell::default(),
            extra: extra.unbind(),
            remote: RefCell::new(remote.map(Bound::unbind)),
            connected,
            sender: RefCell::default(),
            queue: RefCell::default(),
            queued_size: Cell::new(0),
            high: Cell::new(high),
            low: Cell::new(low),
            lost_writes: Cell::new(0),
            closing: Cell::new(false),
            lost: Cell::new(false),
            made: Cell::new(false),
            reading_paused: Cell::new(false),
            read_watched: Cell::new(false),
            write_watched: Cell::new(false),
            protocol_paused: Cell::new(false),
        };
        let transport =
            DatagramTransport { core: core.clone(), the_loop: the_loop.clone().unbind(), state: Confined::new(state) };
        let this = Bound::new(py, transport)?;
        core.own_descriptor(fd, &this)?;
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

    /// The first step: `connection_made`, then reading, then whoever waits for the endpoint.
    fn begin(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let state = this.get().state()?;
        state.made.set(true);
        let made = Self::tell(
            this,
            |protocol| protocol.call_method1(intern!(py, "connection_made"), (this,)),
            "connection_made",
        );
        // What it raises to end the run does not end the endpoint.
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

    /// Calls a method of the protocol in the endpoint's context; what it raises goes to the exception handler.
    fn tell<'py>(
        this: &Bound<'py, Self>,
        call: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
        name: &str,
    ) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        let protocol = state.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        let context = state.context.borrow().as_ref().map(|context| context.bind(py).clone());
        let (Some(protocol), Some(context)) = (protocol, context) else { return Ok(()) };
        let called = run_in(py, &context, || call(&protocol));
        called.map(drop).or_else(|error| Self::report(this, error, &format!("Exception in protocol.{name}()")))
    }

    /// Calls a method of the protocol on behalf of a caller who is in a context of his own already.
    fn tell_here(this: &Bound<'_, Self>, error: &PyErr) -> PyResult<()> {
        let py = this.py();
        let protocol = this.get().state()?.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py));
        match protocol {
            Some(protocol) => protocol.call_method1(py, intern!(py, "error_received"), (error.value(py),)).map(drop),
            None => Ok(()),
        }
    }

    // --- reading ---------------------------------------------------------------------------------------------------

    fn watch_reads(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        this.get().core.check_closed()?;
        if !state.read_watched.replace(true) {
            let job = Job::Call(this.clone().into_any().unbind(), Self::on_readable);
            let watched = this.get().core.engine()?.watch(state.fd, Direction::Read, job);
            drop(watched.map_err(|error| os_error(this.py(), &error))?);
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
        let (this, py) = (Self::of(object)?, object.py());
        let state = this.get().state()?;
        if state.closing.get() || !state.read_watched.get() {
            return Ok(());
        }
        match this.get().receive(py) {
            Ok(Some((data, sender))) => Self::tell(
                this,
                |protocol| call_method(protocol, intern!(py, "datagram_received"), [&data, &sender]),
                "datagram_received",
            ),
            Ok(None) => Ok(()),
            Err(error) if error.is_instance_of::<PyOSError>(py) => Self::tell(
                this,
                |protocol| protocol.call_method1(intern!(py, "error_received"), (error.value(py),)),
                "error_received",
            ),
            Err(error) => Self::fatal(this, error, "Fatal read error on datagram transport"),
        }
    }

    /// One datagram and its sender; `None` if there is none.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let state = self.state()?;
        if state.family.is_none() {
            let received = self.socket(py)?.call_method1(intern!(py, "recvfrom"), (READ_SIZE,));
            return unless_it_must_wait(py, received)?.map(|received| received.extract()).transpose();
        }
        let received = self.core.with_scratch(|scratch| {
            let mut sender = RawAddress::empty();
            receive_from(state.fd, scratch, &mut sender).map(|count| (PyBytes::new(py, &scratch[..count]), sender))
        })?;
        match received {
            Ok((data, sender)) => Ok(Some((data.into_any(), self.sender(py, sender)?))),
            Err(error) if must_wait(&error) => Ok(None),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// The address as a Python object, the same one as long as it is the same address.
    fn sender<'py>(&self, py: Python<'py>, raw: RawAddress) -> PyResult<Bound<'py, PyAny>> {
        if raw.is_absent() {
            return Ok(py.None().into_bound(py));
        }
        let state = self.state()?;
        if let Some((known, sender)) = &*state.sender.borrow()
            && *known == raw
        {
            return Ok(sender.bind(py).clone());
        }
        let sender = raw.to_python(py)?.unwrap_or_else(|| py.None().into_bound(py));
        let former = state.sender.replace(Some((raw, sender.clone().unbind())));
        drop(former);
        Ok(sender)
    }

    // --- writing ---------------------------------------------------------------------------------------------------

    /// Sends one datagram; false if the kernel has no room.
    fn send(&self, data: &Bound<'_, PyAny>, address: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = data.py();
        let state = self.state()?;
        let raw = match (state.connected, state.family, address) {
            (_, None, _) => None,
            (true, Some(_), _) => Some(None),
            (false, Some(family), Some(address)) => self.raw_address(address, family)?.map(Some),
            (false, Some(_), None) => None,
        };
        let Some(raw) = raw else {
            let socket = self.socket(py)?;
            let sent = match state.connected {
                true => socket.call_method1(intern!(py, "send"), (data,)),
                false => socket.call_method1(intern!(py, "sendto"), (data, address)),
            };
            return Ok(unless_it_must_wait(py, sent)?.is_some());
        };
        let sent = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => send_to(state.fd, bytes.as_bytes().as_ptr(), bytes.as_bytes().len(), raw.as_ref()),
            Err(_) => {
                let buffer = Buffer::readable(data)?;
                send_to(state.fd, buffer.as_ptr(), buffer.len(), raw.as_ref())
            }
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if must_wait(&error) => Ok(false),
            Err(error) => Err(os_error(py, &error)),
        }
    }

    /// The address as the kernel reads it; `None` if it has to be looked up.
    fn raw_address(&self, address: &Bound<'_, PyAny>, family: libc::c_int) -> PyResult<Option<RawAddress>> {
        if let Some((raw, sender)) = &*self.state()?.sender.borrow()
            && address.is(sender)
        {
            return Ok(Some(raw.clone()));
        }
        Ok(RawAddress::from_python(address, family))
    }

    fn enqueue(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>, address: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        let data = match data.cast_exact::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            // The caller may change it while it waits.
            Err(_) => py.get_type::<PyBytes>().call1((data,))?.cast_into()?,
        };
        state.queued_size.set(state.queued_size.get() + queued_size(py, &data));
        state.queue.borrow_mut().push_back((data.unbind(), address.map(Bound::unbind)));
        Self::maybe_pause_protocol(this)
    }

    fn watch_writes(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !state.write_watched.replace(true) {
            let job = Job::Call(this.clone().into_any().unbind(), Self::on_writable);
            let watched = this.get().core.engine()?.watch(state.fd, Direction::Write, job);
            drop(watched.map_err(|error| os_error(this.py(), &error))?);
        }
        Ok(())
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
        loop {
            let first = state.queue.borrow_mut().pop_front();
            let Some((data, address)) = first else { break };
            let (data, address) = (data.into_bound(py), address.map(|address| address.into_bound(py)));
            match this.get().send(&data, address.as_ref()) {
                Ok(false) => {
                    state.queue.borrow_mut().push_front((data.unbind(), address.map(Bound::unbind)));
                    break;
                }
                sent => {
                    state.queued_size.set(state.queued_size.get().saturating_sub(queued_size(py, &data)));
                    let Err(error) = sent else { continue };
                    if !error.is_instance_of::<PyOSError>(py) {
                        return Self::fatal(this, error, "Fatal write error on datagram transport");
                    }
                    return Self::tell(
                        this,
                        |protocol| protocol.call_method1(intern!(py, "error_received"), (error.value(py),)),
                        "error_received",
                    );
                }
            }
        }
        Self::maybe_resume_protocol(this)?;
        if state.lost.get() || !state.queue.borrow().is_empty() {
            return Ok(());
        }
        this.get().unwatch_writes()?;
        if state.closing.get() { Self::lose(this, None) } else { Ok(()) }
    }

    fn maybe_pause_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if state.queued_size.get() <= state.high.get() || state.protocol_paused.replace(true) {
            return Ok(());
        }
        let protocol = state.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py));
        let Some(protocol) = protocol else { return Ok(()) };
        let called = protocol.call_method0(py, intern!(py, "pause_writing"));
        called.map(drop).or_else(|error| Self::report(this, error, "protocol.pause_writing() failed"))
    }

    fn maybe_resume_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if !state.protocol_paused.get() || state.queued_size.get() > state.low.get() {
            return Ok(());
        }
        state.protocol_paused.set(false);
        Self::tell(this, |protocol| protocol.call_method0(intern!(py, "resume_writing")), "resume_writing")
    }

    // --- the end ---------------------------------------------------------------------------------------------------

    /// Stops everything and schedules `connection_lost(reason)`; what is queued is thrown away.
    fn lose(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        if state.lost.replace(true) {
            return Ok(());
        }
        state.closing.set(true);
        state.lost_writes.set(state.lost_writes.get() + 1);
        this.get().unwatch_reads()?;
        this.get().unwatch_writes()?;
        state.queued_size.set(0);
        let left = state.queue.take();
        drop(left);
        // Nobody would run it; the descriptor is closed when the transport is collected.
        this.get().core.check_closed()?;
        *state.reason.borrow_mut() = reason.map(|error| error.into_value(py).into_any());
        this.get().core.call_soon(this, Self::finish);
        Ok(())
    }

    /// The last step: `connection_lost`, then the descriptor is closed.
    fn finish(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let transport = this.get();
        let state = transport.state()?;
        let reason = state.reason.borrow_mut().take();
        let told = if state.made.get() {
            Self::tell(
                this,
                |protocol| protocol.call_method1(intern!(py, "connection_lost"), (reason,)),
                "connection_lost",
            )
        } else {
            Ok(())
        };
        transport.core.release_descriptor(state.fd);
        let socket = state.socket.borrow_mut().take();
        let protocol = state.protocol.borrow_mut().take();
        let context = state.context.borrow_mut().take();
        drop((protocol, context));
        if let Some(socket) = socket {
            socket.call_method0(py, intern!(py, "close"))?;
        }
        told
    }

    /// An error that ends the endpoint. Only what is no OSError is a bug and reported.
    fn fatal(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        if !error.is_instance_of::<PyOSError>(py) {
            Self::report(this, error.clone_ref(py), message)?;
        }
        Self::lose(this, Some(error))
    }

    fn report(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        let protocol = this.get().state()?.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py));
        this.get().core.report(py, error, message, |context| {
            context.set_item(intern!(py, "transport"), this)?;
            context.set_item(intern!(py, "protocol"), protocol)
        })
    }

    fn socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let socket = self.state()?.socket.borrow().as_ref().map(|socket| socket.bind(py).clone());
        socket.ok_or_else(|| os_error(py, &io::Error::from_raw_os_error(libc::EBADF)))
    }

    fn describe(state: &State) -> String {
        let mut words = vec!["DatagramTransport".to_owned()];
        let is_closed = state.socket.borrow().is_none();
        if is_closed {
            words.push("closed".into());
        } else if state.closing.get() {
            words.push("closing".into());
        }
        words.push(format!("fd={}", state.fd));
        if !is_closed {
            let polling = |on: bool| if on { "polling" } else { "idle" };
            words.push(format!("read={}", polling(state.read_watched.get())));
            let size = state.queued_size.get();
            words.push(format!("write=<{}, bufsize={size}>", polling(state.write_watched.get())));
        }
        format!("<{}>", words.join(" "))
    }
}

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
        if !sends_empty_datagrams(py) && data.is_empty()? {
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
        if state.queue.borrow().is_empty() {
            match transport.send(data, addr.as_ref()) {
                Ok(true) => return Ok(()),
                Ok(false) => Self::watch_writes(this)?,
                Err(error) if error.is_instance_of::<PyOSError>(py) => return Self::tell_here(this, &error),
                Err(error) => return Self::fatal(this, error, "Fatal write error on datagram transport"),
            }
        }
        Self::enqueue(this, data, addr)
    }

    /// Close after what is queued has left; connection_lost(None) comes later.
    fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if state.closing.replace(true) {
            return Ok(());
        }
        this.get().unwatch_reads()?;
        if state.queue.borrow().is_empty() { Self::lose(this, None) } else { Ok(()) }
    }

    /// Close at once, throwing away what is queued.
    fn abort(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::lose(this, None)
    }

    fn is_closing(&self) -> PyResult<bool> {
        Ok(self.state()?.closing.get())
    }

    /// Stop calling datagram_received(); the kernel keeps datagrams as long as it has room.
    fn pause_reading(&self) -> PyResult<()> {
        let state = self.state()?;
        if state.closing.get() || state.reading_paused.replace(true) {
            return Ok(());
        }
        self.unwatch_reads()
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
    fn get_write_buffer_size(&self) -> PyResult<usize> {
        Ok(self.state()?.queued_size.get())
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
        if let Ok(queue) = state.queue.try_borrow() {
            queue.iter().filter_map(|(_, address)| address.as_ref()).try_for_each(|address| visit.call(address))?;
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

impl Drop for DatagramTransport {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        let description = Self::describe(state);
        let Some(socket) = state.socket.borrow_mut().take() else { return };
        self.core.release_descriptor(state.fd);
        Python::try_attach(|py| {
            warn_unclosed(py, &description);
            if let Err(error) = socket.call_method0(py, intern!(py, "close")) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// What a datagram counts while it waits.
fn queued_size(py: Python<'_>, data: &Bound<'_, PyBytes>) -> usize {
    data.as_bytes().len() + if sends_empty_datagrams(py) { HEADER_SIZE } else { 0 }
}

/// Up to Python 3.12 asyncio drops empty datagrams and counts no headers.
fn sends_empty_datagrams(py: Python<'_>) -> bool {
    py.version_info() >= (3, 13)
}

/// An address that was asked for, None if there is none.
fn address_or_none<'py>(py: Python<'py>, address: PyResult<Bound<'py, PyAny>>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match address {
        Ok(address) => Ok(Some(address)),
        Err(error) if error.is_instance_of::<PyOSError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The family of a socket whose system calls can be made here.
fn native_family(socket: &Bound<'_, PyAny>) -> PyResult<Option<libc::c_int>> {
    let py = socket.py();
    let native = imports(py)?.native_socket.bind(py);
    let class = socket.get_type();
    for name in [intern!(py, "recvfrom"), intern!(py, "send"), intern!(py, "sendto")] {
        if !class.is_subclass(native)? || !class.getattr(name)?.is(&native.getattr(name)?) {
            return Ok(None);
        }
    }
    let family = socket.getattr(intern!(py, "family"))?.extract()?;
    Ok([libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].contains(&family).then_some(family))
}

fn receive_from(fd: RawFd, buffer: &mut [u8], sender: &mut RawAddress) -> io::Result<usize> {
    let (address, length) = sender.as_mut();
    // SAFETY: the pointers and lengths are those of a living slice and a living address.
    let count = unsafe { libc::recvfrom(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0, address, length) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Sends `size` bytes from `data`, which the caller holds, to `address` or to where the socket is connected to.
fn send_to(fd: RawFd, data: *const u8, size: usize, address: Option<&RawAddress>) -> io::Result<()> {
    let (address, length) = address.map_or((std::ptr::null(), 0), RawAddress::as_ptr);
    // SAFETY: the caller holds the data; the address is null or a living one with its length.
    let count = unsafe { libc::sendto(fd, data.cast(), size, SEND_FLAGS, address, length) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
