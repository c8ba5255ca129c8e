//! `ServerCore`: accepting connections and counting them. What a server does once (binding, closing, waiting) is in
//! `python/ferrio/servers.py`.

use std::cell::Cell;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use ferrio::Direction;
use ferrio::event_loop::Due;
use ferrio::poll::RawFd;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use crate::core::{Confined, Core, Job};
use crate::errors::from_io;
use crate::event_loop::Loop;
use crate::ffi::context::{copy, copy_current, run_in};
use crate::transports::address::RawAddress;
use crate::transports::stream::{NewStream, StreamSocket, StreamTransport};
use crate::transports::tls::{NewTls, TlsOptions, TlsProtocol, Waiter};

/// Out of descriptors: how long accepting pauses, in nanoseconds (asyncio's `constants.ACCEPT_RETRY_DELAY`).
const RETRY_DELAY: u64 = 1_000_000_000;

/// What the exception handler is told then, as asyncio says it.
const OUT_OF_RESOURCES: &str = "socket.accept() out of system resource";

/// The native half of `ferrio.Server`.
#[pyclass(frozen, subclass, weakref, module = "ferrio._ferrio")]
pub struct ServerCore {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    protocol_factory: Py<PyAny>,
    /// None for plain connections.
    tls: Option<TlsOptions>,
    /// At most this many connections are accepted per turn.
    backlog: usize,
    /// Each connection gets a copy of the context in which the server was made.
    context: Py<PyAny>,
    state: Confined<State>,
}

#[derive(Default)]
struct State {
    /// How many connections have not ended. Which they are their transports know: a server keeps none of them alive.
    connections: Cell<usize>,
}

/// An `ssl.SSLContext` with the time limits of handshake and shutdown.
type ContextAndTimeouts = (Py<PyAny>, Option<Py<PyAny>>, Option<Py<PyAny>>);

#[pymethods]
impl ServerCore {
    #[new]
    #[pyo3(signature = (the_loop, protocol_factory, backlog, tls, *_args, **_kwargs))]
    fn new(
        the_loop: &Bound<'_, Loop>,
        protocol_factory: Py<PyAny>,
        backlog: usize,
        tls: Option<ContextAndTimeouts>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, pyo3::types::PyDict>>,
    ) -> PyResult<Self> {
        Ok(ServerCore {
            core: the_loop.get().core.clone(),
            the_loop: the_loop.clone().into_any().unbind(),
            protocol_factory,
            tls: tls.map(|(context, handshake_timeout, shutdown_timeout)| TlsOptions {
                context: Some(context),
                server_side: true,
                server_hostname: None,
                handshake_timeout,
                shutdown_timeout,
            }),
            backlog,
            context: copy_current(the_loop.py())?.unbind(),
            state: Confined::new(State::default()),
        })
    }

    /// Accept connections on a listening, non-blocking socket.
    fn _start_accepting(this: &Bound<'_, Self>, socket: Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let fd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let listener = Listener { server: this.clone().unbind(), socket: socket.unbind(), fd };
        Listener::watch(&Bound::new(py, listener)?)
    }

    fn _stop_accepting(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        self.core.engine_in_turn(py)?.release(fd);
        Ok(())
    }

    fn _attach(&self, _transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let connections = &self.state.get(&self.core)?.connections;
        connections.set(connections.get() + 1);
        Ok(())
    }

    fn _detach(this: &Bound<'_, Self>, _transport: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::connection_ended(this)
    }

    /// How many connections have not ended.
    #[getter]
    fn _active_count(&self) -> PyResult<usize> {
        Ok(self.state.get_in_turn(&self.core)?.connections.get())
    }

    /// The living connections' transports.
    fn _connections<'py>(this: &Bound<'py, Self>) -> Vec<Bound<'py, PyAny>> {
        let transports = this.get().core.owners.all(this.py()).into_iter().map(|(_, transport)| transport);
        transports.filter(|transport| StreamTransport::is_of_server(transport, this)).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        visit.call(&self.protocol_factory)?;
        visit.call(&self.context)?;
        self.tls.as_ref().map_or(Ok(()), |tls| tls.traverse(&visit))
    }
}

impl ServerCore {
    /// A transport was collected without having ended: it counts no longer.
    pub fn connection_collected(object: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::connection_ended(object.cast()?)
    }

    fn connection_ended(this: &Bound<'_, Self>) -> PyResult<()> {
        let connections = &this.get().state.get(&this.get().core)?.connections;
        connections.set(connections.get().saturating_sub(1));
        if connections.get() == 0 {
            this.call_method0(intern!(this.py(), "_all_connections_ended"))?;
        }
        Ok(())
    }

    fn accepted(this: &Bound<'_, Self>, fd: OwnedFd, peer: RawAddress) -> PyResult<()> {
        let py = this.py();
        let server = this.get();
        let context = copy(server.context.bind(py))?;
        let protocol = run_in(py, &context, || {
            let protocol = server.protocol_factory.bind(py).call0()?;
            match &server.tls {
                None => Ok(protocol),
                Some(options) => {
                    let new = NewTls { protocol, options, waiter: Waiter::Server, is_new: true };
                    let (below, _) = TlsProtocol::start(server.the_loop.bind(py), &server.core, new)?;
                    Ok(below.into_any())
                }
            }
        })?;
        let new = NewStream {
            socket: StreamSocket::Accepted(fd, peer),
            protocol,
            server: Some(this.clone().into_any()),
            waiter: None,
            extra: None,
            context: Some(context),
        };
        StreamTransport::start(server.the_loop.bind(py), &server.core, new).map(drop)
    }
}

/// One listening socket of a server.
#[pyclass(frozen)]
struct Listener {
    server: Py<ServerCore>,
    socket: Py<PyAny>,
    fd: RawFd,
}

#[pymethods]
impl Listener {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        visit.call(&self.socket)
    }
}

impl Listener {
    fn watch(this: &Bound<'_, Self>) -> PyResult<()> {
        let core = &this.get().server.get().core;
        let job = Job::Call(this.clone().into_any().unbind(), Self::on_readable);
        drop(core.engine()?.watch(this.get().fd, Direction::Read, job).map_err(from_io)?);
        Ok(())
    }

    fn on_readable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = object.cast::<Self>()?;
        let listener = this.get();
        let server = listener.server.bind(object.py());
        let core = &server.get().core;
        for _ in 0..=server.get().backlog {
            if !core.engine()?.is_watched(listener.fd, Direction::Read) {
                return Ok(());
            }
            match accept(listener.fd) {
                Ok((fd, peer)) => {
                    if let Err(error) = ServerCore::accepted(server, fd, peer) {
                        let message = "Error on transport creation for incoming connection";
                        core.report(object.py(), error, message, |_| Ok(()))?;
                    }
                }
                Err(error) if is_temporary(&error) => return Ok(()),
                Err(error) if is_of_one_connection(&error) => return Err(from_io(error)),
                Err(error) => {
                    let short = is_shortage(&error);
                    let message = if short { OUT_OF_RESOURCES } else { "socket.accept() failed" };
                    return Self::pause(this, from_io(error), message);
                }
            }
        }
        Ok(())
    }

    /// No descriptors or memory, or anything else that may last: connections stay in the kernel's queue, and we look again
    /// in a second.
    fn pause(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let core = &this.get().server.get().core;
        let engine = core.engine()?;
        drop(engine.unwatch(this.get().fd, Direction::Read));
        let resume = Job::Call(this.clone().into_any().unbind(), |object| {
            let this = object.cast::<Self>()?;
            let closed = this.get().socket.bind(object.py()).call_method0("fileno")?.extract::<i64>()? < 0;
            if closed {
                return Ok(());
            }
            match Self::watch(this) {
                Err(error) if error.is_instance_of::<PyOSError>(object.py()) => {
                    Self::pause(this, error, OUT_OF_RESOURCES)
                }
                watched => watched,
            }
        });
        engine.timer(core.now() + RETRY_DELAY, Due::Job(resume));
        core.report(this.py(), error, message, |context| {
            let socket = crate::imports::imports(this.py())?.transport_socket.bind(this.py());
            context.set_item("socket", socket.call1((&this.get().socket,))?)
        })
    }
}

fn accept(fd: RawFd) -> io::Result<(OwnedFd, RawAddress)> {
    let mut peer = RawAddress::empty();
    let (address, length) = peer.as_mut();
    #[cfg(target_os = "linux")]
    // SAFETY: the pointers are to `peer`, with its true size.
    let accepted = unsafe { libc::accept4(fd, address, length, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above; the flags that accept() cannot set are set on the new descriptor.
    let accepted = unsafe {
        let accepted = libc::accept(fd, address, length);
        if accepted >= 0 {
            libc::fcntl(accepted, libc::F_SETFL, libc::fcntl(accepted, libc::F_GETFL) | libc::O_NONBLOCK);
            libc::fcntl(accepted, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        accepted
    };
    if accepted < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(accepted) }, peer))
}

/// Nothing to accept now, or a peer that gave up while it waited.
fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// What befell one connection in the queue, which has left it: the next may be well. (A firewall forbids it; or an error
/// of its network, which Linux reports here.)
fn is_of_one_connection(error: &io::Error) -> bool {
    use libc::{EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOPROTOOPT, EOPNOTSUPP, EPERM, EPROTO};
    let ended = [EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOPROTOOPT, EOPNOTSUPP, EPERM, EPROTO];
    error.raw_os_error().is_some_and(|code| ended.contains(&code))
}
