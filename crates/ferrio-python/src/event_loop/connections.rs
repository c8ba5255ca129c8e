//! What `create_connection` and its like end with: a transport over a connected socket. Finding and connecting that
//! socket is `python/ferrio/connecting.py`'s, on the task that asked: no task or future of its own, no turn more than
//! the connection needs.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::Loop;
use crate::core::new_future;
use crate::ffi::error::aside;
use crate::imports::imports;
use crate::transports::stream::{NewStream, StreamSocket, StreamTransport};
use crate::transports::tls::{NewTls, TlsOptions, TlsProtocol, Waiter};

/// A transport, its protocol, and the future that says that they have met.
type Meeting<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

#[pymethods]
impl Loop {
    /// Have a new protocol talk over a connected, non-blocking socket. Returns (transport, protocol, future); the future is done once
    /// `connection_made` has run, and with TLS the handshake is over.
    #[pyo3(signature = (
        protocol_factory, sock, ssl, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout, /
    ))]
    #[allow(clippy::too_many_arguments)] // asyncio's options
    fn _talk<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Bound<'py, PyAny>,
        sock: Bound<'py, PyAny>,
        ssl: Bound<'py, PyAny>,
        server_side: bool,
        server_hostname: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Meeting<'py>> {
        let (py, the_loop, core) = (this.py(), this.as_any(), &this.get().core);
        let protocol = protocol_factory.call0()?;
        let done = new_future(py, the_loop)?;
        let start = |protocol, waiter| {
            let socket = StreamSocket::Python(sock);
            let new = NewStream { socket, protocol, server: None, waiter, extra: None, context: None };
            StreamTransport::start(the_loop, core, new)
        };
        let transport = if ssl.is_truthy()? {
            let options = TlsOptions {
                context: TlsOptions::context_of(py, ssl.unbind()),
                server_side,
                server_hostname,
                handshake_timeout: ssl_handshake_timeout,
                shutdown_timeout: ssl_shutdown_timeout,
            };
            let waiter = Waiter::Future(done.clone().unbind());
            let new = NewTls { protocol: protocol.clone(), options: &options, waiter, is_new: true };
            let (below, transport) = TlsProtocol::start(the_loop, core, new)?;
            start(below.into_any(), None)?;
            transport.into_any()
        } else {
            start(protocol.clone(), Some(done.clone()))?.into_any()
        };
        Ok((transport, protocol, done))
    }
}

/// A transport or a socket whose making failed or was cancelled is closed.
pub struct CloseUnlessKept(pub Option<Py<PyAny>>);

impl Drop for CloseUnlessKept {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            aside(|py| {
                if let Err(error) = transport.call_method0(py, intern!(py, "close")) {
                    error.write_unraisable(py, Some(transport.bind(py)));
                }
            });
        }
    }
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
