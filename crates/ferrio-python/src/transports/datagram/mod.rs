//! The transport of a datagram socket, UDP or Unix.
//!
//! What each method promises is CPython's `selector_events._SelectorDatagramTransport`.

mod collecting;
mod methods;
mod reading;
mod senders;
mod writing;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use self::senders::Senders;
use crate::core::{Call, Confined, Core, Job};
use crate::errors::os_error;
use crate::ffi::context::{copy_current, run_in};
use crate::ffi::error::aside;
use crate::ffi::whole;
use crate::imports::imports;
use crate::transports::address::KeptAddress;
use crate::transports::common::{fail_waiter, settle_waiter, warn_unclosed};
use crate::transports::water_marks::water_marks;

/// A datagram socket.
#[pyclass(frozen, weakref, dict, module = "ferrio")]
pub struct DatagramTransport {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    state: Confined<State>,
}

/// A datagram that has yet to leave.
struct Waiting {
    data: Py<PyBytes>,
    target: Target,
}

/// Where a datagram goes to.
enum Target {
    /// As the kernel reads it; nothing for where the socket is connected to.
    Known(Option<KeptAddress>),
    /// As the caller has put it.
    Said(Option<Py<PyAny>>),
}

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
    senders: RefCell<Senders>,
    /// For how many pieces of news not to look for more than one datagram.
    single: Cell<u8>,
    /// Whether a burst is being handed out: what is sent now waits for its end, in `queue`.
    collecting: Cell<bool>,
    /// What waits for room in the kernel (writes are watched then), or for the end of a burst.
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

impl State {
    /// Whether the engine tells us of news.
    fn watched(&self, direction: Direction) -> &Cell<bool> {
        match direction {
            Direction::Read => &self.read_watched,
            Direction::Write => &self.write_watched,
        }
    }
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
            senders: RefCell::default(),
            single: Cell::new(0),
            collecting: Cell::new(false),
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
        let this = whole::new(py, transport)?;
        core.own_descriptor(fd, &this)?;
        core.call_soon(&this, Self::begin);
        Ok(this)
    }

    #[inline]
    fn state(&self) -> PyResult<&State> {
        self.state.get_in_turn(&self.core)
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
        let (py, state) = (this.py(), this.get().state()?);
        let mut refused = None;
        if !state.closing.get() && !state.reading_paused.get() {
            Self::watch(this, Direction::Read)?;
            refused = state.reason.borrow().as_ref().map(|reason| reason.bind(py).clone());
        }
        let waiter = state.waiter.borrow_mut().take();
        match (waiter, refused) {
            (Some(waiter), Some(error)) => fail_waiter(waiter.bind(py), error),
            (Some(waiter), None) => settle_waiter(waiter.bind(py)),
            (None, _) => Ok(()),
        }
    }

    /// An endpoint that cannot be watched ends: it would never hear of anything.
    fn watch(this: &Bound<'_, Self>, direction: Direction) -> PyResult<()> {
        let (py, core) = (this.py(), &this.get().core);
        let state = this.get().state()?;
        core.check_closed()?;
        let (call, message): (Call, _) = match direction {
            Direction::Read => (Self::on_readable, "Fatal read error on datagram transport"),
            Direction::Write => (Self::on_writable, "Fatal write error on datagram transport"),
        };
        if state.watched(direction).replace(true) {
            return Ok(());
        }
        let job = Job::Call(this.clone().into_any().unbind(), call);
        match core.engine_in_turn(py)?.watch(state.fd, direction, job) {
            Ok(former) => {
                drop(former);
                Ok(())
            }
            Err(error) => {
                state.watched(direction).set(false);
                Self::fatal(this, os_error(py, &error), message)
            }
        }
    }

    fn unwatch(&self, py: Python<'_>, direction: Direction) -> PyResult<()> {
        let state = self.state()?;
        if state.watched(direction).replace(false) {
            drop(self.core.engine_in_turn(py)?.unwatch(state.fd, direction));
        }
        Ok(())
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

    /// Stops everything and schedules `connection_lost(reason)`; what is queued is thrown away.
    fn lose(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        this.get().core.check_thread()?;
        if state.lost.replace(true) {
            return Ok(());
        }
        state.closing.set(true);
        state.lost_writes.set(state.lost_writes.get() + 1);
        this.get().unwatch(py, Direction::Read)?;
        this.get().unwatch(py, Direction::Write)?;
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

impl Drop for DatagramTransport {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        let description = Self::describe(state);
        let Some(socket) = state.socket.borrow_mut().take() else { return };
        self.core.release_descriptor(state.fd);
        aside(|py| {
            warn_unclosed(py, &description);
            if let Err(error) = socket.call_method0(py, intern!(py, "close")) {
                error.write_unraisable(py, None);
            }
        });
    }
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
