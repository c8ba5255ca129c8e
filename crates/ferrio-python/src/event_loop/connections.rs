//! Making connections: `create_connection`, `create_unix_connection`, `connect_accepted_socket`.
//!
//! Each is an `async fn` polled on the loop's thread. What they check and in which order follows CPython's
//! `base_events.BaseEventLoop`.

use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Loop;
use crate::awaitable::{awaitable, python};
use crate::core::{Core, new_future};
use crate::imports::imports;
use crate::transports::stream::{NewStream, StreamSocket, StreamTransport};
use crate::transports::tls::{NewTls, TlsOptions, TlsProtocol, Waiter};

#[pymethods]
impl Loop {
    /// Connect to host and port (or use the connected socket sock) and talk over it with a protocol.
    /// Returns (transport, protocol).
    #[pyo3(signature = (
        protocol_factory, host=None, port=None, *, ssl=None, family=0, proto=0, flags=0, sock=None, local_addr=None,
        server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None, happy_eyeballs_delay=None,
        interleave=None, all_errors=false
    ))]
    #[allow(clippy::too_many_arguments)] // asyncio's signature
    fn create_connection<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        host: Option<Py<PyAny>>,
        port: Option<Py<PyAny>>,
        ssl: Option<Py<PyAny>>,
        family: i32,
        proto: i32,
        flags: i32,
        sock: Option<Py<PyAny>>,
        local_addr: Option<Py<PyAny>>,
        server_hostname: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
        happy_eyeballs_delay: Option<Py<PyAny>>,
        interleave: Option<i64>,
        all_errors: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let the_loop = this.clone().into_any().unbind();
        awaitable(this.as_any(), &core.clone(), "EventLoop.create_connection", async move {
            let tls = Python::attach(|py| {
                client_tls(py, ssl, host.as_ref(), server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
            })?;
            let has_address = host.is_some() || port.is_some();
            let socket = Python::attach(|py| -> PyResult<_> {
                let Some(sock) = &sock else {
                    if !has_address {
                        return Err(PyValueError::new_err("host and port was not specified and no sock specified"));
                    }
                    return Ok(None);
                };
                check_plain_socket(sock.bind(py))?;
                if has_address {
                    return Err(PyValueError::new_err("host/port and sock can not be specified at the same time"));
                }
                check_stream_socket(sock.bind(py))?;
                Ok(Some(sock.clone_ref(py)))
            })?;
            let socket = match socket {
                Some(socket) => socket,
                None => {
                    let connecting = Python::attach(|py| {
                        let keywords = PyDict::new(py);
                        keywords.set_item("family", family)?;
                        keywords.set_item("proto", proto)?;
                        keywords.set_item("flags", flags)?;
                        keywords.set_item("local_addr", local_addr)?;
                        keywords.set_item("happy_eyeballs_delay", happy_eyeballs_delay)?;
                        keywords.set_item("interleave", interleave)?;
                        keywords.set_item("all_errors", all_errors)?;
                        let connecting = py.import("ferrio.connecting")?.getattr("connect")?;
                        connecting.call((&the_loop, host, port), Some(&keywords)).map(Bound::unbind)
                    })?;
                    python(&core, connecting).await?
                }
            };
            connected(&core, the_loop, socket, protocol_factory, tls).await
        })
    }

    /// Connect to a Unix socket's path (or use the connected socket sock). Returns (transport, protocol).
    #[cfg(unix)]
    #[pyo3(signature = (
        protocol_factory, path=None, *, ssl=None, sock=None, server_hostname=None, ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None
    ))]
    #[allow(clippy::too_many_arguments)] // asyncio's signature
    fn create_unix_connection<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        path: Option<Py<PyAny>>,
        ssl: Option<Py<PyAny>>,
        sock: Option<Py<PyAny>>,
        server_hostname: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let the_loop = this.clone().into_any().unbind();
        awaitable(this.as_any(), &core.clone(), "EventLoop.create_unix_connection", async move {
            let tls = Python::attach(|py| -> PyResult<Option<TlsOptions>> {
                if ssl_of(py, &ssl)? && server_hostname.is_none() {
                    return Err(PyValueError::new_err("you have to pass server_hostname when using ssl"));
                }
                client_tls(py, ssl, None, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
            })?;
            let connecting = Python::attach(|py| -> PyResult<_> {
                if let Some(sock) = &sock {
                    check_plain_socket(sock.bind(py))?;
                }
                py.import("ferrio.connecting")?
                    .getattr("connect_unix")?
                    .call1((&the_loop, path, sock))
                    .map(Bound::unbind)
            })?;
            let socket = python(&core, connecting).await?;
            connected(&core, the_loop, socket, protocol_factory, tls).await
        })
    }

    /// Talk with a protocol over a connection that was accepted elsewhere. Returns (transport, protocol).
    #[pyo3(signature = (protocol_factory, sock, *, ssl=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None))]
    fn connect_accepted_socket<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        sock: Py<PyAny>,
        ssl: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let the_loop = this.clone().into_any().unbind();
        awaitable(this.as_any(), &core.clone(), "EventLoop.connect_accepted_socket", async move {
            let tls = Python::attach(|py| -> PyResult<Option<TlsOptions>> {
                check_stream_socket(sock.bind(py))?;
                let has_tls = ssl_of(py, &ssl)?;
                check_timeouts(has_tls, &ssl_handshake_timeout, &ssl_shutdown_timeout)?;
                check_plain_socket(sock.bind(py))?;
                Ok(ssl.filter(|_| has_tls).map(|ssl| TlsOptions {
                    context: TlsOptions::context_of(py, ssl),
                    server_side: true,
                    server_hostname: None,
                    handshake_timeout: ssl_handshake_timeout,
                    shutdown_timeout: ssl_shutdown_timeout,
                }))
            })?;
            connected(&core, the_loop, sock, protocol_factory, tls).await
        })
    }
}

/// A transport and a protocol over a connected socket: waits for `connection_made`, and for the handshake with TLS.
async fn connected(
    core: &Arc<Core>,
    the_loop: Py<PyAny>,
    socket: Py<PyAny>,
    protocol_factory: Py<PyAny>,
    tls: Option<TlsOptions>,
) -> PyResult<Py<PyAny>> {
    let (transport, protocol, waiter) = Python::attach(|py| -> PyResult<_> {
        let the_loop = the_loop.bind(py);
        let socket = socket.bind(py);
        socket.call_method1(intern!(py, "setblocking"), (false,))?;
        let protocol = protocol_factory.bind(py).call0()?;
        let waiter = new_future(py, the_loop)?;
        let start = |protocol, waiter| {
            let socket = StreamSocket::Python(socket.clone());
            let new = NewStream { socket, protocol, server: None, waiter, extra: None, context: None };
            StreamTransport::start(the_loop, core, new)
        };
        let transport = match &tls {
            None => start(protocol.clone(), Some(waiter.clone()))?.into_any(),
            Some(options) => {
                let waiter = Waiter::Future(waiter.clone().unbind());
                let new = NewTls { protocol: protocol.clone(), options, waiter, is_new: true };
                let (below, transport) = TlsProtocol::start(the_loop, core, new)?;
                start(below.into_any(), None)?;
                transport.into_any()
            }
        };
        Ok((transport.unbind(), protocol.unbind(), waiter.unbind()))
    })?;
    let mut guard = CloseUnlessKept(Some(transport));
    python(core, waiter).await?;
    let transport = guard.0.take();
    Python::attach(|py| Ok((transport, protocol).into_pyobject(py)?.into_any().unbind()))
}

/// A transport or a socket whose making failed or was cancelled is closed.
pub struct CloseUnlessKept(pub Option<Py<PyAny>>);

impl Drop for CloseUnlessKept {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            Python::try_attach(|py| {
                if let Err(error) = transport.call_method0(py, intern!(py, "close")) {
                    error.write_unraisable(py, Some(transport.bind(py)));
                }
            });
        }
    }
}

/// Whether `ssl` asks for TLS.
fn ssl_of(py: Python<'_>, ssl: &Option<Py<PyAny>>) -> PyResult<bool> {
    ssl.as_ref().map_or(Ok(false), |ssl| ssl.bind(py).is_truthy())
}

fn client_tls(
    py: Python<'_>,
    ssl: Option<Py<PyAny>>,
    host: Option<&Py<PyAny>>,
    server_hostname: Option<Py<PyAny>>,
    handshake_timeout: Option<Py<PyAny>>,
    shutdown_timeout: Option<Py<PyAny>>,
) -> PyResult<Option<TlsOptions>> {
    let has_tls = ssl_of(py, &ssl)?;
    if server_hostname.is_some() && !has_tls {
        return Err(PyValueError::new_err("server_hostname is only meaningful with ssl"));
    }
    let server_hostname = match server_hostname {
        None if has_tls => {
            let host = host.map(|host| host.bind(py)).filter(|host| host.is_truthy().unwrap_or(false));
            let Some(host) = host else {
                return Err(PyValueError::new_err("You must set server_hostname when using ssl without a host"));
            };
            Some(host.clone().unbind())
        }
        given => given,
    };
    check_timeouts(has_tls, &handshake_timeout, &shutdown_timeout)?;
    Ok(ssl.filter(|_| has_tls).map(|ssl| TlsOptions {
        context: TlsOptions::context_of(py, ssl),
        server_side: false,
        server_hostname,
        handshake_timeout,
        shutdown_timeout,
    }))
}

fn check_timeouts(has_tls: bool, handshake: &Option<Py<PyAny>>, shutdown: &Option<Py<PyAny>>) -> PyResult<()> {
    for (name, given) in [("ssl_handshake_timeout", handshake), ("ssl_shutdown_timeout", shutdown)] {
        if given.is_some() && !has_tls {
            return Err(PyValueError::new_err(format!("{name} is only meaningful with ssl")));
        }
    }
    Ok(())
}

/// # Errors
/// TypeError for an `ssl.SSLSocket`: it does its own encryption, blockingly.
pub fn check_plain_socket(socket: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = socket.py();
    let Some(module) = imports(py)?.ssl.as_ref() else { return Ok(()) };
    if socket.is_instance(&module.bind(py).getattr(intern!(py, "SSLSocket"))?)? {
        return Err(PyTypeError::new_err("Socket cannot be of type SSLSocket"));
    }
    Ok(())
}

/// # Errors
/// ValueError unless it is a stream socket.
pub fn check_stream_socket(socket: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = socket.py();
    let kind: i32 = socket.getattr(intern!(py, "type"))?.extract()?;
    if kind == libc::SOCK_STREAM {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("A Stream Socket was expected, got {}", socket.repr()?)))
}
