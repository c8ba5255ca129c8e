//! `TlsProtocol`: one TLS connection's life, from handshake to close_notify.
//!
//! Python calls the methods of this protocol where it is: in the caller's context. Steps that the loop takes by itself
//! enter the connection's own context first.

mod closing;
mod handshake;
mod methods;
mod reading;
mod writing;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use ferrio::timers::TimerId;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::core::{Call, Confined, Core};
use crate::ffi::context::run_in;
use crate::transports::common::is_buffered;
use crate::transports::tls::engine::Engine;
use crate::transports::tls::transport::TlsTransport;
use crate::transports::tls::{
    HANDSHAKE_TIMEOUT, READ_HIGH_WATER, SHUTDOWN_TIMEOUT, TlsOptions, WRITE_HIGH_WATER, seconds,
};
use crate::transports::write_queue::WriteQueue;

/// The plain bytes of one record, at most.
const RECORD: usize = 16 * 1024;

/// How far the connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unwrapped,
    Handshake,
    Wrapped,
    /// Closing: what is buffered in both directions is being delivered.
    Flushing,
    /// Closing: close_notify is sent, or about to be.
    Shutdown,
}

/// What the user's protocol has been told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Made,
    Eof,
    Lost,
}

/// Who waits for the end of the handshake.
pub enum Waiter {
    /// A future.
    Future(Py<PyAny>),
    /// A server, which has a failure reported in debug mode.
    Server,
    Nobody,
}

/// What a new TLS connection is made of.
pub struct NewTls<'a, 'py> {
    pub protocol: Bound<'py, PyAny>,
    pub options: &'a TlsOptions,
    pub waiter: Waiter,
    /// Whether the protocol's `connection_made` is still to be called.
    pub is_new: bool,
}

/// The protocol of the encrypted side of a connection.
#[pyclass(frozen, weakref, name = "SSLProtocol", module = "ferrio")]
pub struct TlsProtocol {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    context: Py<PyAny>,
    server_side: bool,
    /// Seconds, and what the user wrote.
    handshake_timeout: (f64, Option<Py<PyAny>>),
    shutdown_timeout: f64,
    engine: Engine,
    state: Confined<State>,
}

struct State {
    phase: Cell<Phase>,
    told: Cell<Told>,
    /// The handshake is over, and was a success.
    wrapped: Cell<bool>,
    /// The user's protocol.
    protocol: RefCell<Option<Py<PyAny>>>,
    buffered: Cell<bool>,
    /// The transport that users write to.
    face: RefCell<Option<Py<TlsTransport>>>,
    /// The transport below.
    below: RefCell<Option<Py<PyAny>>>,
    /// Every step that the loop takes for this connection runs in it.
    run_context: RefCell<Option<Py<PyAny>>>,
    waiter: RefCell<Waiter>,
    peer_certificate: RefCell<Option<Py<PyAny>>>,
    /// The user has no use for the transport any more.
    abandoned: Cell<bool>,
    /// The time limit of the handshake, later of the shutdown.
    timer: Cell<Option<TimerId>>,
    handshake_begun: Cell<u64>,
    /// Plain bytes that wait to be encrypted.
    queue: RefCell<WriteQueue>,
    /// The queue is flushed before the loop sleeps.
    gathering: Cell<bool>,
    lost_writes: Cell<u32>,
    write_high: Cell<usize>,
    write_low: Cell<usize>,
    read_high: Cell<usize>,
    read_low: Cell<usize>,
    /// The user's protocol was told to pause.
    protocol_paused: Cell<bool>,
    /// The transport below has told us to pause.
    below_full: Cell<bool>,
    /// The user has paused reading.
    reading_paused: Cell<bool>,
    /// We have paused reading below.
    below_paused: Cell<bool>,
    /// OpenSSL has decrypted more than was taken.
    has_decrypted: Cell<bool>,
    /// OpenSSL may have taken the beginning of a record.
    has_begun: Cell<bool>,
    eof: Cell<bool>,
}

impl TlsProtocol {
    /// Makes the two layers over a transport yet to come: it calls `connection_made`.
    pub fn start<'py>(
        the_loop: &Bound<'py, PyAny>,
        core: &Arc<Core>,
        new: NewTls<'_, 'py>,
    ) -> PyResult<(Bound<'py, Self>, Bound<'py, TlsTransport>)> {
        let py = the_loop.py();
        let options = new.options;
        let given = |timeout: &Option<Py<PyAny>>| timeout.as_ref().map(|timeout| timeout.bind(py).clone());
        let handshake = given(&options.handshake_timeout);
        let handshake_timeout = seconds(handshake.as_ref(), "ssl_handshake_timeout", HANDSHAKE_TIMEOUT)?;
        let shutdown = given(&options.shutdown_timeout);
        let shutdown_timeout = seconds(shutdown.as_ref(), "ssl_shutdown_timeout", SHUTDOWN_TIMEOUT)?;
        let context = options.context(py)?;
        let engine = Engine::new(&context, options.server_side, options.hostname(py)?.as_ref())?;
        let state = State {
            phase: Cell::new(Phase::Unwrapped),
            told: Cell::new(if new.is_new { Told::Nothing } else { Told::Made }),
            wrapped: Cell::new(false),
            buffered: Cell::new(is_buffered(&new.protocol)?),
            protocol: RefCell::new(Some(new.protocol.unbind())),
            face: RefCell::default(),
            below: RefCell::default(),
            run_context: RefCell::default(),
            waiter: RefCell::new(new.waiter),
            peer_certificate: RefCell::default(),
            abandoned: Cell::new(false),
            timer: Cell::new(None),
            handshake_begun: Cell::new(0),
            queue: RefCell::default(),
            gathering: Cell::new(false),
            lost_writes: Cell::new(0),
            write_high: Cell::new(WRITE_HIGH_WATER),
            write_low: Cell::new(WRITE_HIGH_WATER / 4),
            read_high: Cell::new(READ_HIGH_WATER),
            read_low: Cell::new(READ_HIGH_WATER / 4),
            protocol_paused: Cell::new(false),
            below_full: Cell::new(false),
            reading_paused: Cell::new(false),
            below_paused: Cell::new(false),
            has_decrypted: Cell::new(false),
            has_begun: Cell::new(true),
            eof: Cell::new(false),
        };
        let protocol = TlsProtocol {
            core: core.clone(),
            the_loop: the_loop.clone().unbind(),
            context: context.unbind(),
            server_side: options.server_side,
            handshake_timeout: (handshake_timeout, handshake.map(Bound::unbind)),
            shutdown_timeout,
            engine,
            state: Confined::new(state),
        };
        let this = Bound::new(py, protocol)?;
        let face = TlsTransport::new(&this)?;
        *this.get().state()?.face.borrow_mut() = Some(face.clone().unbind());
        Ok((this, face))
    }

    #[inline]
    fn state(&self) -> PyResult<&State> {
        self.state.get(&self.core)
    }

    /// The state for those who only look at it, and leave OpenSSL alone: other threads may. What it does for the loop's own may
    /// be in the middle of something, without the interpreter lock.
    fn seen(&self) -> PyResult<&State> {
        self.state.get_in_turn(&self.core)
    }

    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub fn the_loop(&self) -> &Py<PyAny> {
        &self.the_loop
    }

    /// The peer's bytes from a Python object, before the handshake.
    pub fn feed_object(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.state()?;
        self.engine.feed_object(data)
    }

    /// The user's protocol.
    pub fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let protocol = self.seen()?.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        Ok(protocol.unwrap_or_else(|| py.None().into_bound(py)))
    }

    pub fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let state = self.seen()?;
        state.buffered.set(is_buffered(&protocol)?);
        let former = state.protocol.replace(Some(protocol.unbind()));
        drop(former);
        Ok(())
    }

    fn below<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.seen()?.below.borrow().as_ref().map(|below| below.bind(py).clone()))
    }

    fn face<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, TlsTransport>>> {
        Ok(self.seen()?.face.borrow().as_ref().map(|face| face.bind(py).clone()))
    }

    /// A step that the loop takes by itself.
    fn step(object: &Bound<'_, PyAny>, f: impl FnOnce(&Bound<'_, Self>) -> PyResult<()>) -> PyResult<()> {
        let py = object.py();
        let this = object.cast::<Self>()?;
        match this.get().run_context(py)? {
            Some(context) => run_in(py, &context, || f(this)),
            None => f(this),
        }
    }

    /// The connection's context, once there is a connection.
    pub fn run_context<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.run_context.borrow().as_ref().map(|context| context.bind(py).clone()))
    }

    fn soon(this: &Bound<'_, Self>, step: Call) {
        this.get().core.call_soon(this, step);
    }

    pub fn extra_info<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let tls = this.get();
        let state = tls.seen()?;
        if let Ok(text) = name.cast::<PyString>() {
            match &*text.to_cow()? {
                "sslcontext" => return Ok(tls.context.bind(py).clone()),
                "ssl_object" if state.wrapped.get() => return Ok(tls.engine.object(py).clone()),
                "peercert" if state.wrapped.get() => {
                    let certificate = state.peer_certificate.borrow();
                    return Ok(certificate.as_ref().map_or_else(|| default, |known| known.bind(py).clone()));
                }
                method @ ("cipher" | "compression") if state.wrapped.get() => {
                    return tls.engine.object(py).call_method0(method);
                }
                // Whoever writes to the socket directly comes after what was written here.
                "socket" if tls.core.is_mine() => Self::flush_gathered(this)?,
                _ => {}
            }
        }
        match tls.below(py)? {
            Some(below) => below.call_method1(intern!(py, "get_extra_info"), (name, default)),
            None => Ok(default),
        }
    }
}
