//! `start_tls`: encrypting a connection that is open.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;

use super::Loop;
use crate::awaitable::{awaitable, python};
use crate::core::new_future;
use crate::ffi::error::aside;
use crate::imports::imports;
use crate::transports::tls::{NewTls, TlsOptions, TlsProtocol, Waiter};

#[pymethods]
impl Loop {
    /// Encrypt an open connection. Returns the transport to use from here on; None if it was closed before that.
    #[pyo3(signature = (
        transport, protocol, sslcontext, *, server_side=false, server_hostname=None, ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None
    ))]
    #[allow(clippy::too_many_arguments)] // asyncio's signature
    fn start_tls<'py>(
        this: &Bound<'py, Self>,
        transport: Py<PyAny>,
        protocol: Py<PyAny>,
        sslcontext: Py<PyAny>,
        server_side: bool,
        server_hostname: Option<Py<PyAny>>,
        ssl_handshake_timeout: Option<Py<PyAny>>,
        ssl_shutdown_timeout: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let the_loop = this.clone().into_any().unbind();
        awaitable(this.as_any(), &core.clone(), "EventLoop.start_tls", async move {
            let (mut upgrade, tls, waiter) = Python::attach(|py| -> PyResult<_> {
                check(sslcontext.bind(py), transport.bind(py))?;
                let the_loop = the_loop.bind(py);
                let waiter = new_future(py, the_loop)?;
                let options = TlsOptions {
                    context: Some(sslcontext),
                    server_side,
                    server_hostname,
                    handshake_timeout: ssl_handshake_timeout,
                    shutdown_timeout: ssl_shutdown_timeout,
                };
                let protocol = protocol.bind(py).clone();
                let future = Waiter::Future(waiter.clone().unbind());
                let new = NewTls { protocol: protocol.clone(), options: &options, waiter: future, is_new: false };
                let (tls, _) = TlsProtocol::start(the_loop, &core, new)?;
                let upgrade = begin(the_loop, transport.bind(py), &protocol, &tls, server_side)?;
                Ok((upgrade, tls.unbind(), waiter.unbind()))
            })?;
            python(&core, waiter).await?;
            upgrade.0 = None;
            // None if the connection is gone without an error: nothing of it must be taken for encrypted.
            Python::attach(|py| tls.getattr(py, intern!(py, "_app_transport")))
        })
    }
}

fn check(context: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = context.py();
    let Some(ssl) = &imports(py)?.ssl else {
        return Err(PyRuntimeError::new_err("Python ssl module is not available"));
    };
    if !context.is_instance(&ssl.bind(py).getattr(intern!(py, "SSLContext"))?)? {
        let context = context.repr()?;
        let message = format!("sslcontext is expected to be an instance of ssl.SSLContext, got {context}");
        return Err(PyTypeError::new_err(message));
    }
    let is_compatible = transport.getattr_opt(intern!(py, "_start_tls_compatible"))?;
    if !is_compatible.map_or(Ok(false), |is_compatible| is_compatible.is_truthy())? {
        let transport = transport.repr()?;
        return Err(PyTypeError::new_err(format!("transport {transport} is not supported by start_tls()")));
    }
    Ok(())
}

/// What arrives from here on is the TLS layer's, none of it the old protocol's.
fn begin(
    the_loop: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    protocol: &Bound<'_, PyAny>,
    tls: &Bound<'_, TlsProtocol>,
    server_side: bool,
) -> PyResult<Upgrade> {
    let py = the_loop.py();
    // Nothing is read before the layer knows its transport.
    transport.call_method0(intern!(py, "pause_reading"))?;
    if server_side {
        take_from_reader(protocol, tls)?;
    }
    transport.call_method1(intern!(py, "set_protocol"), (tls,))?;
    let made = (tls.getattr(intern!(py, "connection_made"))?, transport);
    let made = the_loop.call_method1(intern!(py, "call_soon"), made)?;
    let resume = (transport.getattr(intern!(py, "resume_reading"))?,);
    let resumed = the_loop.call_method1(intern!(py, "call_soon"), resume)?;
    Ok(Upgrade(Some([(transport.clone().unbind(), "close"), (made.unbind(), "cancel"), (resumed.unbind(), "cancel")])))
}

/// A client may send its first TLS record together with the last plain line: a stream has read it already.
fn take_from_reader(protocol: &Bound<'_, PyAny>, tls: &Bound<'_, TlsProtocol>) -> PyResult<()> {
    let py = protocol.py();
    let stream_protocol = py.import("asyncio.streams")?.getattr("StreamReaderProtocol")?;
    if !protocol.is_instance(&stream_protocol)? {
        return Ok(());
    }
    let Some(reader) = protocol.getattr_opt(intern!(py, "_stream_reader"))?.filter(|reader| !reader.is_none()) else {
        return Ok(());
    };
    let buffer = reader.getattr(intern!(py, "_buffer"))?;
    if buffer.is_truthy()? {
        tls.get().feed_object(&buffer)?;
        buffer.call_method0(intern!(py, "clear"))?;
    }
    Ok(())
}

/// What is undone, in this order, if the handshake fails or is cancelled.
struct Upgrade(Option<[(Py<PyAny>, &'static str); 3]>);

impl Drop for Upgrade {
    fn drop(&mut self) {
        let Some(steps) = self.0.take() else { return };
        aside(|py| {
            for (object, method) in steps {
                if let Err(error) = object.call_method0(py, method) {
                    error.write_unraisable(py, Some(object.bind(py)));
                }
            }
        });
    }
}
