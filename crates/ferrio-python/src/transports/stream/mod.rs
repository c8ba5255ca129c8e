//! The transport of a connected stream socket, TCP or Unix.
//!
//! | | |
//! | --- | --- |
//! | this file | what a transport is, its first step, how it calls its protocol |
//! | `reading.rs` | from the descriptor to the protocol |
//! | `writing.rs` | from the queue to the descriptor, flow control |
//! | `closing.rs` | the end, orderly or not |
//! | `extra.rs` | addresses and the `socket.socket`: what `get_extra_info` tells |
//! | `methods.rs` | what Python calls |
//!
//! What each method promises is CPython's `selector_events._SelectorSocketTransport`.

mod closing;
mod extra;
mod methods;
mod reading;
mod writing;

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use ferrio::poll::RawFd;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::core::{Confined, Core, MANY};
use crate::ffi::call::call_method;
use crate::ffi::context::{copy_current, run_in};
use crate::ffi::whole;
use crate::streams::StreamReaderProtocol;
use crate::transports::address::{KeptAddress, RawAddress};
use crate::transports::common::{fail_waiter, is_buffered, settle_waiter};
use crate::transports::tls::TlsProtocol;
use crate::transports::water_marks::HIGH_WATER;
use crate::transports::write_queue::WriteQueue;

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
    /// Into a native reader's buffer, if the reader allows it.
    Reader,
}

impl ProtocolKind {
    fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        if protocol.cast_exact::<TlsProtocol>().is_ok() {
            return Ok(ProtocolKind::Tls);
        }
        if let Ok(streams) = protocol.cast::<StreamReaderProtocol>()
            && streams.get().is_plain(protocol.py())
        {
            return Ok(ProtocolKind::Reader);
        }
        Ok(if is_buffered(protocol)? { ProtocolKind::Buffered } else { ProtocolKind::Plain })
    }
}

/// How much came at once lately.
#[derive(Clone, Copy)]
enum Flow {
    Little,
    /// What comes next is read into an object of its own.
    Much,
    /// Several times, and nothing like it was answered: what comes next is read in pieces.
    Bulk,
    /// Behind what was read last came this error of the operating system's: it is what comes next.
    Broken(i16),
}

impl Flow {
    /// `count` bytes have come.
    fn after(self, count: usize) -> Self {
        match (self, count >= MANY) {
            (Flow::Little, true) | (Flow::Bulk, false) => Flow::Much,
            (Flow::Much | Flow::Bulk, true) => Flow::Bulk,
            (Flow::Little | Flow::Much, false) => Flow::Little,
            (Flow::Broken(_), _) => self,
        }
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
    peer: RefCell<Option<KeptAddress>>,
    queue: RefCell<WriteQueue>,
    rare: RefCell<Option<Box<Rare>>>,
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
    flow: Cell<Flow>,
}

// With the object around it 224 bytes: a server has one for each connection, and most of those say nothing.
#[cfg(all(target_pointer_width = "64", not(Py_GIL_DISABLED)))]
const _: () = assert!(size_of::<State>() <= 160);

/// What most connections of a server do without for most of their lives.
struct Rare {
    /// Told when `connection_made` has run.
    waiter: Option<Py<PyAny>>,
    /// The exception for `connection_lost`.
    reason: Option<Py<PyAny>>,
    /// `get_extra_info`: what was given at the start and what was asked for since.
    extra: Option<Py<PyDict>>,
    /// The own address, once the descriptor is closed.
    own: Option<KeptAddress>,
    /// `sendfile` waits here until the queue is empty.
    empty_waiter: Option<Py<PyAny>>,
    /// The water marks, in bytes.
    high: usize,
    low: usize,
}

impl Default for Rare {
    fn default() -> Self {
        Rare {
            waiter: None,
            reason: None,
            extra: None,
            own: None,
            empty_waiter: None,
            high: HIGH_WATER,
            low: HIGH_WATER / 4,
        }
    }
}

impl State {
    /// A look at what is rare, if there is any of it.
    fn rare<R>(&self, look: impl FnOnce(&Rare) -> Option<R>) -> Option<R> {
        self.rare.borrow().as_ref().and_then(|rare| look(rare))
    }

    /// Changes what is rare; nothing is dropped here.
    fn with_rare<R>(&self, change: impl FnOnce(&mut Rare) -> R) -> R {
        change(self.rare.borrow_mut().get_or_insert_default())
    }

    /// Takes something rare out, if it is there.
    fn take_rare<T>(&self, place: impl FnOnce(&mut Rare) -> &mut Option<T>) -> Option<T> {
        self.rare.borrow_mut().as_mut().and_then(|rare| place(rare).take())
    }

    /// Whether `sendfile` has the socket to itself.
    fn is_sending_file(&self) -> bool {
        self.rare.borrow().as_ref().is_some_and(|rare| rare.empty_waiter.is_some())
    }

    /// Above so many bytes that wait, the protocol is paused.
    fn high(&self) -> usize {
        self.rare(|rare| Some(rare.high)).unwrap_or(HIGH_WATER)
    }

    /// At so many it goes on.
    fn low(&self) -> usize {
        self.rare(|rare| Some(rare.low)).unwrap_or(HIGH_WATER / 4)
    }
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
        let (waiter, extra) = (new.waiter.map(Bound::unbind), new.extra.map(Bound::unbind));
        let rare = (waiter.is_some() || extra.is_some()).then(|| Box::new(Rare { waiter, extra, ..Rare::default() }));
        let state = State {
            fd,
            socket: RefCell::new(socket),
            protocol: RefCell::new(Some(new.protocol.unbind())),
            kind: Cell::new(kind),
            context: RefCell::new(Some(context.unbind())),
            server: RefCell::new(new.server.map(Bound::unbind)),
            peer: RefCell::new(peer.as_ref().map(KeptAddress::from)),
            queue: RefCell::default(),
            rare: RefCell::new(rare),
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
            flow: Cell::new(Flow::Little),
        };
        let transport =
            StreamTransport { core: core.clone(), the_loop: the_loop.clone().unbind(), state: Confined::new(state) };
        let this = whole::new(py, transport)?;
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
        self.state.get_in_turn(&self.core)
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
        let (py, state) = (this.py(), this.get().state()?);
        let mut refused = None;
        if !state.closing.get() && !state.reading_paused.get() {
            Self::watch_reads(this)?;
            refused = state.rare(|rare| rare.reason.as_ref().map(|reason| reason.bind(py).clone()));
        }
        let waiter = state.take_rare(|rare| &mut rare.waiter);
        match (waiter, refused) {
            (Some(waiter), Some(error)) => fail_waiter(waiter.bind(py), error),
            (Some(waiter), None) => settle_waiter(waiter.bind(py)),
            (None, _) => Ok(()),
        }
    }

    /// The connection's context, until its end.
    pub fn run_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.context.borrow().as_ref().map(|context| context.bind(py).clone()))
    }

    /// Whether it is a connection of `server` that has not ended.
    pub fn is_of_server(transport: &Bound<'_, PyAny>, server: &Bound<'_, PyAny>) -> bool {
        let state = transport.cast::<Self>().ok().and_then(|this| this.get().state().ok());
        state.is_some_and(|state| state.server.borrow().as_ref().is_some_and(|its| its.is(server)))
    }

    fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let protocol = self.state()?.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        Ok(protocol.unwrap_or_else(|| py.None().into_bound(py)))
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

    fn report(&self, this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        let protocol = self.state()?.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py));
        self.core.report(py, error, message, |context| {
            context.set_item(intern!(py, "transport"), this)?;
            context.set_item(intern!(py, "protocol"), protocol)
        })
    }

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
