//! `TlsProtocol`: one TLS connection's life, from handshake to close_notify.
//!
//! Reading: bytes of the transport below go into the engine, and all records that are complete come out in one call of
//! the user's protocol. Asking OpenSSL for a record that is not there makes a Python exception, which costs as much as
//! encrypting a kilobyte, so it is asked only while it has something.
//!
//! Writing: what a turn writes is gathered and encrypted before the loop sleeps, small pieces together in one record, and
//! leaves in one send. While the transport below is full, plain bytes wait here.
//!
//! Python calls the methods of this file where it is: in the caller's context. Steps that the loop takes by itself enter
//! the connection's own context first.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use ferrio::event_loop::Due;
use ferrio::timers::TimerId;
use pyo3::exceptions::{
    PyConnectionAbortedError, PyConnectionResetError, PyException, PyOSError, PyRuntimeError, PyTimeoutError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};

use super::engine::{Engine, is_ssl_error};
use super::transport::TlsTransport;
use super::{HANDSHAKE_TIMEOUT, READ_HIGH_WATER, SHUTDOWN_TIMEOUT, TlsOptions, WRITE_HIGH_WATER, log, seconds};
use crate::core::{Call, Confined, Core, Job};
use crate::ffi::buffer::Buffer;
use crate::ffi::context::{copy_current, run_in};
use crate::imports::imports;
use crate::transports::stream::{StreamTransport, WARN_AFTER_LOST_WRITES, is_buffered, settle_waiter};
use crate::transports::write_queue::WriteQueue;

/// The plain bytes of one record, at most.
const RECORD: usize = 16 * 1024;

/// Plain bytes encrypted before what came of them is sent; more is not gathered either. It fits the processor's cache.
const PORTION: usize = 64 * 1024;

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
        let protocol = self.state()?.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        Ok(protocol.unwrap_or_else(|| py.None().into_bound(py)))
    }

    pub fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let state = self.state()?;
        state.buffered.set(is_buffered(&protocol)?);
        let former = state.protocol.replace(Some(protocol.unbind()));
        drop(former);
        Ok(())
    }

    fn below<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.below.borrow().as_ref().map(|below| below.bind(py).clone()))
    }

    fn face<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, TlsTransport>>> {
        Ok(self.state()?.face.borrow().as_ref().map(|face| face.bind(py).clone()))
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

    // --- handshake -------------------------------------------------------------------------------------------------

    fn begin_handshake(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        if tls.core.debug() {
            log(py, "debug", ("%r starts SSL handshake", this), None)?;
            state.handshake_begun.set(tls.core.now());
        }
        state.phase.set(Phase::Handshake);
        Self::set_timer(this, tls.handshake_timeout.0)?;
        Self::handshake(this)
    }

    fn handshake(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        match this.get().engine.handshake(py) {
            Ok(Some(())) => Self::handshake_is_over(this, None),
            Ok(None) => Self::send_outgoing(this),
            Err(error) if is_ssl_error(py, &error)? => Self::handshake_is_over(this, Some(error)),
            Err(error) => Err(error),
        }
    }

    fn handshake_is_over(this: &Bound<'_, Self>, failure: Option<PyErr>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        tls.cancel_timer()?;
        let outcome = match failure {
            Some(failure) => Err(failure),
            None => tls.engine.object(py).call_method0(intern!(py, "getpeercert")),
        };
        let certificate = match outcome {
            Ok(certificate) => certificate,
            Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
            Err(error) => {
                state.phase.set(Phase::Unwrapped);
                let certificate_error = imports(py)?.ssl.as_ref().map(|ssl| ssl.bind(py).getattr("CertificateError"));
                let message = match certificate_error.transpose()? {
                    Some(kind) if error.is_instance(py, &kind) => "SSL handshake failed on verifying the certificate",
                    _ => "SSL handshake failed",
                };
                Self::fatal(this, error.clone_ref(py), message)?;
                return Self::wake_waiter(this, Some(error));
            }
        };
        state.phase.set(Phase::Wrapped);
        if tls.core.debug() {
            let milliseconds = tls.core.now().saturating_sub(state.handshake_begun.get()) as f64 / 1e6;
            log(py, "debug", ("%r: SSL handshake took %.1f ms", this, milliseconds), None)?;
        }
        *state.peer_certificate.borrow_mut() = Some(certificate.unbind());
        state.wrapped.set(true);
        if state.told.get() == Told::Nothing {
            state.told.set(Told::Made);
            tls.protocol(py)?.call_method1(intern!(py, "connection_made"), (tls.face(py)?,))?;
        }
        Self::wake_waiter(this, None)?;
        Self::read(this)
    }

    fn wake_waiter(this: &Bound<'_, Self>, failure: Option<PyErr>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let waiter = tls.state()?.waiter.replace(Waiter::Nobody);
        match (waiter, failure) {
            (Waiter::Future(future), None) => settle_waiter(future.bind(py)),
            (Waiter::Future(future), Some(failure)) => {
                let future = future.bind(py);
                if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                    future.call_method1(intern!(py, "set_exception"), (failure.value(py),))?;
                }
                Ok(())
            }
            (Waiter::Server, Some(failure)) if tls.core.debug() => {
                let (protocol, face) = (tls.protocol(py)?, tls.face(py)?);
                tls.core.report(py, failure, "Error on transport creation for incoming connection", |context| {
                    context.set_item(intern!(py, "protocol"), protocol)?;
                    context.set_item(intern!(py, "transport"), face)
                })
            }
            (Waiter::Server | Waiter::Nobody, _) => Ok(()),
        }
    }

    fn set_timer(this: &Bound<'_, Self>, seconds: f64) -> PyResult<()> {
        let tls = this.get();
        let when = tls.core.now().saturating_add((seconds * 1e9) as u64);
        let job = Job::Call(this.clone().into_any().unbind(), |object| Self::step(object, Self::time_is_over));
        let timer = tls.core.engine()?.timer(when, Due::Job(job));
        tls.state()?.timer.set(Some(timer));
        Ok(())
    }

    fn cancel_timer(&self) -> PyResult<()> {
        if let Some(timer) = self.state()?.timer.take() {
            drop(self.core.engine()?.cancel_timer(timer));
        }
        Ok(())
    }

    fn time_is_over(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        state.timer.set(None);
        match state.phase.get() {
            Phase::Handshake => {
                let limit = match &tls.handshake_timeout {
                    (_, Some(given)) => given.bind(py).str()?.to_string(),
                    (seconds, None) => format!("{seconds:?}"),
                };
                let message = format!("SSL handshake is taking longer than {limit} seconds: aborting the connection");
                Self::fatal(this, PyConnectionAbortedError::new_err(message), "Fatal error on transport")
            }
            Phase::Flushing | Phase::Shutdown => {
                tls.close_below(py, Some(PyTimeoutError::new_err("SSL shutdown timed out")))
            }
            Phase::Unwrapped | Phase::Wrapped => Ok(()),
        }
    }

    // --- reading ---------------------------------------------------------------------------------------------------

    /// Takes bytes of the transport below; [`updated`](Self::updated) acts on them.
    pub fn feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        self.engine.feed(py, data)
    }

    /// There are new bytes from below.
    pub fn updated(this: &Bound<'_, Self>) -> PyResult<()> {
        match this.get().state()?.phase.get() {
            Phase::Handshake => Self::handshake(this),
            Phase::Wrapped => Self::read(this),
            Phase::Flushing => Self::flush_and_shut_down(this),
            Phase::Shutdown => Self::shut_down(this),
            Phase::Unwrapped => Ok(()),
        }
    }

    /// Hands all that is complete to the user's protocol.
    fn read(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        match Self::try_read(this) {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                Self::fatal(this, error, "Fatal error on SSL protocol")
            }
            outcome => outcome,
        }
    }

    fn try_read(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !this.get().may_read()? {
            return Self::control_reading_below(this);
        }
        if state.buffered.get() {
            Self::read_into_protocol(this)?
        } else {
            Self::read_data(this)?
        }
        if !state.gathering.get() && matches!(state.phase.get(), Phase::Wrapped | Phase::Flushing) {
            // What OpenSSL itself has to say, and what it would not encrypt before.
            Self::send(this)?;
        }
        Self::control_reading_below(this)
    }

    fn may_read(&self) -> PyResult<bool> {
        let state = self.state()?;
        Ok(matches!(state.phase.get(), Phase::Wrapped | Phase::Flushing) && !state.reading_paused.get())
    }

    /// Whether OpenSSL may have a record for us.
    fn may_have_record(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state()?.has_decrypted.get() || self.engine.unread(py)? > 0)
    }

    fn read_data(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        loop {
            let mut read = Read::default();
            let data = tls.core.with_scratch(|scratch| {
                let room = scratch.as_mut_ptr();
                // SAFETY: the scratch buffer is ours until the closure returns.
                read = unsafe { tls.decrypt(py, room, scratch.len()) }?;
                Ok::<_, PyErr>((read.count > 0).then(|| PyBytes::new(py, &scratch[..read.count])))
            })??;
            if let Some(data) = data {
                tls.protocol(py)?.call_method1(intern!(py, "data_received"), (data,))?;
            }
            if read.end {
                return Self::on_close_notify(this);
            }
            if !read.full || !tls.may_read()? {
                return Ok(());
            }
        }
    }

    fn read_into_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        if !tls.may_have_record(py)? {
            return Ok(());
        }
        let protocol = tls.protocol(py)?;
        let buffer = protocol.call_method1(intern!(py, "get_buffer"), (tls.engine.unread(py)?,))?;
        let buffer = Buffer::writable(&buffer)?;
        if buffer.len() == 0 {
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        // SAFETY: `buffer` holds the memory, which is writable.
        let read = unsafe { tls.decrypt(py, buffer.as_ptr(), buffer.len()) }?;
        drop(buffer);
        if read.full {
            Self::soon(this, |object| Self::step(object, Self::read));
        }
        if read.count > 0 {
            protocol.call_method1(intern!(py, "buffer_updated"), (read.count,))?;
        }
        if read.end { Self::on_close_notify(this) } else { Ok(()) }
    }

    /// Decrypts record after record while there are some and there is room.
    ///
    /// # Safety
    /// `room` must be valid for writes of `length` bytes.
    unsafe fn decrypt(&self, py: Python<'_>, room: *mut u8, length: usize) -> PyResult<Read> {
        let state = self.state()?;
        let mut read = Read::default();
        while read.count < length && self.may_have_record(py)? {
            // SAFETY: `count` of the bytes are used, the rest is valid as the caller promises.
            let outcome = unsafe { self.engine.read(py, room.add(read.count), length - read.count) }?;
            let Some(count) = outcome else {
                state.has_decrypted.set(false);
                return Ok(read);
            };
            if count == 0 {
                state.has_decrypted.set(false);
                read.end = true;
                return Ok(read);
            }
            read.count += count;
            // Less than there was room for is all that the record had.
            state.has_decrypted.set(read.count == length);
        }
        read.full = read.count == length;
        Ok(read)
    }

    fn on_close_notify(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::tell_eof(this)?;
        Self::close(this)
    }

    fn tell_eof(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        if state.told.get() != Told::Made {
            return Ok(());
        }
        state.told.set(Told::Eof);
        let answer = tls.protocol(py)?.call_method0(intern!(py, "eof_received"));
        match answer.and_then(|answer| answer.is_truthy()) {
            Ok(true) => log(py, "warning", ("returning true from eof_received() has no effect when using ssl",), None),
            Ok(false) => Ok(()),
            Err(error) => Self::fatal(this, error, "Error calling eof_received()"),
        }
    }

    pub fn is_reading(&self) -> PyResult<bool> {
        Ok(!self.state()?.reading_paused.get())
    }

    pub fn pause_reading(&self) -> PyResult<()> {
        self.state()?.reading_paused.set(true);
        Ok(())
    }

    pub fn resume_reading(this: &Bound<'_, Self>) -> PyResult<()> {
        if this.get().state()?.reading_paused.replace(false) {
            Self::soon(this, |object| {
                Self::step(object, |this| match this.get().state()?.phase.get() {
                    // The handshake goes on when the peer's bytes come.
                    Phase::Handshake => Ok(()),
                    _ => Self::updated(this),
                })
            });
        }
        Ok(())
    }

    /// Bytes from the peer that wait because the user has paused reading are bounded.
    fn control_reading_below(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        let paused = state.below_paused.get();
        if !paused && !state.reading_paused.get() {
            return Ok(());
        }
        let Some(below) = tls.below(py)? else { return Ok(()) };
        let unread = tls.engine.unread(py)?;
        if !paused && unread >= state.read_high.get().max(1) {
            state.below_paused.set(true);
            below.call_method0(intern!(py, "pause_reading"))?;
        } else if paused && unread <= state.read_low.get() {
            state.below_paused.set(false);
            below.call_method0(intern!(py, "resume_reading"))?;
        }
        Ok(())
    }

    pub fn set_read_limits(this: &Bound<'_, Self>, high: usize, low: usize) -> PyResult<()> {
        let state = this.get().state()?;
        state.read_high.set(high);
        state.read_low.set(low);
        Self::control_reading_below(this)
    }

    /// (low, high).
    pub fn read_limits(&self) -> PyResult<(usize, usize)> {
        let state = self.state()?;
        Ok((state.read_low.get(), state.read_high.get()))
    }

    /// Bytes from the peer that wait to be decrypted.
    pub fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        self.state()?;
        self.engine.unread(py)
    }

    // --- writing ---------------------------------------------------------------------------------------------------

    /// Queues pieces, none of them empty, and sees to it that they leave.
    pub fn write<'py>(this: &Bound<'py, Self>, pieces: impl IntoIterator<Item = Bound<'py, PyBytes>>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        if matches!(state.phase.get(), Phase::Flushing | Phase::Shutdown | Phase::Unwrapped) {
            let lost = state.lost_writes.get();
            state.lost_writes.set(lost.saturating_add(1));
            return if lost < WARN_AFTER_LOST_WRITES {
                Ok(())
            } else {
                log(py, "warning", ("SSL connection is closed",), None)
            };
        }
        let size = {
            let mut queue = state.queue.borrow_mut();
            pieces.into_iter().for_each(|piece| queue.push(piece));
            queue.size()
        };
        if size == 0 || state.phase.get() == Phase::Handshake {
            return Ok(());
        }
        if size <= PORTION && !state.below_full.get() && tls.core.remote().is_current() {
            if !state.gathering.replace(true) {
                tls.core.before_sleep(this, |object| Self::step(object, Self::flush_gathered))?;
            }
            return Ok(());
        }
        Self::send_or_die(this)
    }

    /// Queues a piece, and does nothing about it.
    pub fn queue(&self, piece: Bound<'_, PyBytes>) -> PyResult<()> {
        self.state()?.queue.borrow_mut().push(piece);
        Ok(())
    }

    /// What was gathered in this turn leaves.
    pub fn flush_gathered(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        if !state.gathering.replace(false) || state.phase.get() == Phase::Unwrapped {
            return Ok(());
        }
        Self::send_or_die(this)
    }

    fn send_or_die(this: &Bound<'_, Self>) -> PyResult<()> {
        match Self::send(this) {
            Err(error) if error.is_instance_of::<PyException>(this.py()) => {
                Self::fatal(this, error, "Fatal error on SSL protocol")
            }
            outcome => outcome,
        }
    }

    /// Encrypts and sends until the queue is empty or the transport below is full.
    fn send(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        while !state.below_full.get() {
            tls.encrypt(py, PORTION)?;
            let data = tls.engine.take_outgoing(py)?;
            let below = tls.below(py)?;
            let Some(below) = below.filter(|_| !data.as_bytes().is_empty()) else { break };
            send_below(&below, data)?;
            if state.queue.borrow().is_empty() {
                break;
            }
        }
        Self::control_writing(this)
    }

    /// Sends what OpenSSL has to say.
    fn send_outgoing(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        if !tls.state()?.below_full.get() {
            let data = tls.engine.take_outgoing(py)?;
            if let Some(below) = tls.below(py)?
                && !data.as_bytes().is_empty()
            {
                send_below(&below, data)?;
            }
        }
        Self::control_writing(this)
    }

    /// Encrypts about `portion` bytes of the queue.
    fn encrypt(&self, py: Python<'_>, portion: usize) -> PyResult<()> {
        let state = self.state()?;
        let mut done = 0;
        while done < portion {
            let Some((piece, sent)) = state.queue.borrow().piece(py, RECORD) else { break };
            let left = &piece.as_bytes(py)[sent..];
            let written = self.engine.write(py, &left[..left.len().min(portion)])?;
            let Some(count) = written.filter(|count| *count > 0) else { break };
            let mut encrypted = Vec::new();
            state.queue.borrow_mut().advance(py, count, &mut encrypted);
            drop(encrypted);
            done += count;
        }
        Ok(())
    }

    /// Tells the user's protocol to pause or to go on.
    fn control_writing(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        let paused = state.protocol_paused.get();
        if !paused && !state.below_full.get() && state.queue.borrow().is_empty() {
            return Ok(());
        }
        let size = tls.queued(py)?;
        let (name, message): (&Bound<'_, PyString>, _) = if !paused && size >= state.write_high.get().max(1) {
            (intern!(py, "pause_writing"), "protocol.pause_writing() failed")
        } else if paused && size <= state.write_low.get() {
            (intern!(py, "resume_writing"), "protocol.resume_writing() failed")
        } else {
            return Ok(());
        };
        state.protocol_paused.set(!paused);
        tls.protocol(py)?.call_method0(name).map(drop).or_else(|error| {
            let face = tls.face(py)?;
            tls.core.report(py, error, message, |context| {
                context.set_item(intern!(py, "transport"), face)?;
                context.set_item(intern!(py, "protocol"), this)
            })
        })
    }

    fn queued(&self, py: Python<'_>) -> PyResult<usize> {
        let size = self.state()?.queue.borrow().size();
        Ok(size + self.engine.unsent(py)?)
    }

    /// Bytes that the transport below has not taken yet.
    pub fn write_buffer_size(this: &Bound<'_, Self>) -> PyResult<usize> {
        // Gathered writes are an affair of ours: what the caller asks is whether the peer keeps up.
        Self::flush_gathered(this)?;
        this.get().queued(this.py())
    }

    pub fn set_write_limits(this: &Bound<'_, Self>, high: usize, low: usize) -> PyResult<()> {
        let state = this.get().state()?;
        state.write_high.set(high);
        state.write_low.set(low);
        Self::flush_gathered(this)?;
        Self::control_writing(this)
    }

    /// (low, high).
    pub fn write_limits(&self) -> PyResult<(usize, usize)> {
        let state = self.state()?;
        Ok((state.write_low.get(), state.write_high.get()))
    }

    pub fn is_protocol_paused(&self) -> PyResult<bool> {
        Ok(self.state()?.protocol_paused.get())
    }

    // --- the end ---------------------------------------------------------------------------------------------------

    /// Begins an orderly end: what is buffered, then close_notify.
    pub fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        match state.phase.get() {
            Phase::Flushing | Phase::Shutdown | Phase::Unwrapped => Ok(()),
            Phase::Handshake => {
                this.get().mark_closed(py)?;
                Self::abort(this, None)
            }
            Phase::Wrapped => {
                this.get().mark_closed(py)?;
                state.phase.set(Phase::Flushing);
                Self::set_timer(this, this.get().shutdown_timeout)?;
                Self::flush_and_shut_down(this)
            }
        }
    }

    fn mark_closed(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(face) = self.face(py)? {
            face.get().mark_closed();
        }
        Ok(())
    }

    fn flush_and_shut_down(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        Self::read(this)?;
        // Delivering what was left may have ended the connection.
        if state.phase.get() != Phase::Flushing {
            return Ok(());
        }
        state.phase.set(Phase::Shutdown);
        Self::shut_down(this)
    }

    fn shut_down(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        // Nothing can be encrypted after close_notify.
        let outcome = tls
            .encrypt(py, usize::MAX)
            .and_then(|()| if state.eof.get() { Ok(Some(())) } else { tls.engine.unwrap(py) });
        match outcome {
            Ok(None) => Self::send_outgoing(this),
            Ok(Some(())) => {
                Self::send_outgoing(this)?;
                Self::tell_eof(this)?;
                if state.timer.get().is_none() {
                    Self::set_timer(this, tls.shutdown_timeout)?;
                }
                // The timer goes on: the transport below waits for a peer that may never read.
                Self::soon(this, |object| Self::step(object, |this| this.get().close_orderly_below(this.py())));
                Ok(())
            }
            Err(error) if is_ssl_error(py, &error)? => {
                tls.cancel_timer()?;
                Self::fatal(this, error, "Fatal error on transport")
            }
            Err(error) => Err(error),
        }
    }

    fn close_orderly_below(&self, py: Python<'_>) -> PyResult<()> {
        match self.below(py)? {
            Some(below) => below.call_method0(intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    /// Ends the connection at once.
    pub fn abort(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        // What this turn has written would have left by now, had it not been gathered.
        Self::flush_gathered(this)?;
        this.get().state()?.phase.set(Phase::Unwrapped);
        this.get().close_below(this.py(), reason)
    }

    fn close_below(&self, py: Python<'_>, reason: Option<PyErr>) -> PyResult<()> {
        let Some(below) = self.below(py)? else { return Ok(()) };
        let reason = reason.map(|reason| reason.into_value(py));
        below.call_method1(intern!(py, "_force_close"), (reason,)).map(drop)
    }

    /// An error that ends the connection. Only what is no OSError is a bug and reported.
    fn fatal(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        tls.close_below(py, Some(error.clone_ref(py)))?;
        if error.is_instance_of::<PyOSError>(py) {
            return if tls.core.debug() { log(py, "debug", ("%r: %s", this, message), Some(&error)) } else { Ok(()) };
        }
        if error.is_instance_of::<pyo3::exceptions::asyncio::CancelledError>(py) {
            return Ok(());
        }
        let below = tls.below(py)?;
        tls.core.report(py, error, message, |context| {
            context.set_item(intern!(py, "transport"), below)?;
            context.set_item(intern!(py, "protocol"), this)
        })
    }

    /// Whether the transport below is closing or gone.
    pub fn is_closing_below(&self, py: Python<'_>) -> PyResult<bool> {
        match self.below(py)? {
            Some(below) => below.call_method0(intern!(py, "is_closing"))?.is_truthy(),
            None => Ok(false),
        }
    }

    /// The user closes what is closing: nothing will be asked of the transport after the end.
    pub fn abandon(this: &Bound<'_, Self>) -> PyResult<bool> {
        let state = this.get().state()?;
        state.abandoned.set(true);
        let ended = state.face.borrow().is_none();
        Ok(ended)
    }

    /// Tells the user's protocol that the connection is lost.
    fn say_farewell(&self, protocol: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = protocol.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), self.run_context(py)?)?;
        // A handle of its own, so that what waits keeps nothing alive but the protocol.
        let arguments = (protocol.getattr(intern!(py, "connection_lost"))?, reason);
        self.the_loop.bind(py).call_method(intern!(py, "call_soon"), arguments, Some(&keywords)).map(drop)
    }

    // --- extra information -----------------------------------------------------------------------------------------

    pub fn extra_info<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
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
                "socket" => Self::flush_gathered(this)?,
                _ => {}
            }
        }
        match tls.below(py)? {
            Some(below) => below.call_method1(intern!(py, "get_extra_info"), (name, default)),
            None => Ok(default),
        }
    }
}

/// What [`TlsProtocol::decrypt`] has done.
#[derive(Default)]
struct Read {
    count: usize,
    /// There is no more room.
    full: bool,
    /// The peer has said close_notify.
    end: bool,
}

fn send_below(below: &Bound<'_, PyAny>, data: Bound<'_, PyBytes>) -> PyResult<()> {
    match below.cast_exact::<StreamTransport>() {
        Ok(stream) => StreamTransport::send(stream, data),
        Err(_) => below.call_method1(intern!(below.py(), "write"), (data,)).map(drop),
    }
}

#[pymethods]
impl TlsProtocol {
    /// A native class cannot inherit from asyncio.Protocol; `isinstance` asks for this.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.tls_protocol.bind(py).clone())
    }

    /// The transport below is there: the handshake begins.
    fn connection_made(this: &Bound<'_, Self>, transport: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        let context = if let Ok(stream) = transport.cast_exact::<StreamTransport>() {
            stream.get().run_context(py)?
        } else if let Ok(tls) = transport.cast_exact::<TlsTransport>() {
            tls.get().run_context(py)?
        } else {
            None
        };
        let context = context.map_or_else(|| copy_current(py), Ok)?;
        *state.run_context.borrow_mut() = Some(context.unbind());
        *state.below.borrow_mut() = Some(transport.unbind());
        let closed = this.get().face(py)?.is_none_or(|face| face.get().is_marked_closed());
        if closed { Self::abort(this, None) } else { Self::begin_handshake(this) }
    }

    /// The transport below has read bytes.
    fn data_received(this: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        this.get().feed_object(data)?;
        Self::updated(this)
    }

    /// The transport below has come to the end of its stream. True keeps it open.
    fn eof_received(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        state.eof.set(true);
        if tls.core.debug() {
            log(py, "debug", ("%r received EOF", this), None)?;
        }
        let ended = match state.phase.get() {
            Phase::Handshake => Self::handshake_is_over(this, Some(PyConnectionResetError::new_err(()))),
            Phase::Wrapped => {
                state.phase.set(Phase::Flushing);
                if state.reading_paused.get() {
                    return Ok(true);
                }
                Self::flush_and_shut_down(this)
            }
            Phase::Flushing => {
                state.phase.set(Phase::Shutdown);
                Self::shut_down(this)
            }
            Phase::Shutdown => Self::shut_down(this),
            Phase::Unwrapped => Ok(()),
        };
        if let Err(error) = ended {
            tls.close_orderly_below(py)?;
            return Err(error);
        }
        Ok(false)
    }

    /// The transport below is gone.
    fn connection_lost(this: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let tls = this.get();
        let state = tls.state()?;
        tls.mark_closed(py)?;
        let left = state.queue.borrow_mut().take();
        drop(left);
        drop(tls.engine.take_outgoing(py)?);
        state.lost_writes.set(state.lost_writes.get().saturating_add(1));
        tls.cancel_timer()?;
        let protocol = state.protocol.borrow_mut().take();
        if state.phase.get() != Phase::Handshake && matches!(state.told.get(), Told::Made | Told::Eof) {
            state.told.set(Told::Lost);
            if let Some(protocol) = protocol {
                tls.say_farewell(protocol.bind(py), &exc)?;
            }
        }
        state.phase.set(Phase::Unwrapped);
        let (below, face) = (state.below.borrow_mut().take(), state.face.borrow_mut().take());
        if let Some(face) = &face
            && state.abandoned.get()
        {
            face.get().let_go()?;
        }
        drop((below, face));
        let failure = if exc.is_none() { None } else { Some(PyErr::from_value(exc)) };
        Self::wake_waiter(this, failure)
    }

    /// The transport below is full.
    fn pause_writing(&self) -> PyResult<()> {
        self.state()?.below_full.set(true);
        Ok(())
    }

    /// The transport below takes more.
    fn resume_writing(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        state.below_full.set(false);
        match state.phase.get() {
            Phase::Wrapped | Phase::Flushing => Self::send_or_die(this),
            _ => Self::send_outgoing(this),
        }
    }

    /// The user's protocol.
    #[getter]
    fn _app_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.protocol(py)
    }

    #[getter]
    fn _app_transport<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, TlsTransport>>> {
        self.face(py)
    }

    /// The transport below.
    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.below(py)
    }

    fn __repr__(this: &Bound<'_, Self>) -> PyResult<String> {
        let tls = this.get();
        let side = if tls.server_side { "server" } else { "client" };
        let phase = match tls.state()?.phase.get() {
            Phase::Unwrapped => "unwrapped",
            Phase::Handshake => "handshake",
            Phase::Wrapped => "wrapped",
            Phase::Flushing => "flushing",
            Phase::Shutdown => "shutdown",
        };
        match tls.below(this.py())? {
            Some(below) => Ok(format!("<SSLProtocol {side} {phase} over {}>", below.repr()?)),
            None => Ok(format!("<SSLProtocol {side} {phase}>")),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        visit.call(&self.context)?;
        self.handshake_timeout.1.as_ref().map_or(Ok(()), |given| visit.call(given))?;
        self.engine.traverse(&visit)?;
        let state = self.state.unguarded();
        for cell in [&state.protocol, &state.below, &state.run_context, &state.peer_certificate] {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        if let Ok(face) = state.face.try_borrow()
            && let Some(face) = &*face
        {
            visit.call(face)?;
        }
        if let Ok(waiter) = state.waiter.try_borrow()
            && let Waiter::Future(future) = &*waiter
        {
            visit.call(future)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.state.unguarded();
        for cell in [&state.protocol, &state.below, &state.run_context, &state.peer_certificate] {
            let content = cell.borrow_mut().take();
            drop(content);
        }
        let face = state.face.borrow_mut().take();
        drop(face);
        let waiter = state.waiter.replace(Waiter::Nobody);
        drop(waiter);
    }
}
