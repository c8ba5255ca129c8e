//! TLS over any stream transport.
//!
//! ```text
//!   the user's protocol
//!     TlsTransport     what the user writes to                         transport.rs
//!     TlsProtocol      handshake, flow control, the two ends           protocol/
//!       Engine         CPython's SSLObject                             engine.rs
//!         Direct       its OpenSSL over a buffer of ours               direct.rs, openssl.rs, bio.rs
//!     StreamTransport  the socket (or any other transport)
//! ```
//!
//! A [`TlsProtocol`] is the protocol of the transport below. A `StreamTransport` knows it and hands it bytes directly;
//! any other transport calls its Python methods. What each promises is CPython's `asyncio.sslproto`.

mod bio;
mod direct;
mod engine;
mod openssl;
mod protocol;
mod transport;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::imports::imports;

pub use protocol::{NewTls, TlsProtocol, Waiter};
pub use transport::TlsTransport;

/// Seconds that a handshake may take (asyncio's `constants.SSL_HANDSHAKE_TIMEOUT`).
const HANDSHAKE_TIMEOUT: f64 = 60.0;

/// Seconds that the peer may take to answer close_notify (asyncio's `constants.SSL_SHUTDOWN_TIMEOUT`).
const SHUTDOWN_TIMEOUT: f64 = 30.0;

/// asyncio's default high-water marks, in bytes.
const WRITE_HIGH_WATER: usize = 512 * 1024;
const READ_HIGH_WATER: usize = 256 * 1024;

/// What the user asks of a TLS connection.
pub struct TlsOptions {
    /// An `ssl.SSLContext`; None for the default one of a client.
    pub context: Option<Py<PyAny>>,
    pub server_side: bool,
    pub server_hostname: Option<Py<PyAny>>,
    pub handshake_timeout: Option<Py<PyAny>>,
    pub shutdown_timeout: Option<Py<PyAny>>,
}

impl TlsOptions {
    /// `ssl=True` and None ask for the default context.
    pub fn context_of(py: Python<'_>, ssl: Py<PyAny>) -> Option<Py<PyAny>> {
        Some(ssl).filter(|ssl| !ssl.is_none(py) && !ssl.bind(py).is_instance_of::<pyo3::types::PyBool>())
    }

    /// The context, made now if there is none.
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(context) = &self.context
            && context.bind(py).is_truthy()?
        {
            return Ok(context.bind(py).clone());
        }
        if self.server_side {
            return Err(PyValueError::new_err("Server side SSL needs a valid SSLContext"));
        }
        let Some(ssl) = &imports(py)?.ssl else {
            return Err(pyo3::exceptions::PyRuntimeError::new_err("stdlib ssl module not available"));
        };
        let context = ssl.bind(py).call_method0(intern!(py, "create_default_context"))?;
        if self.hostname(py)?.is_none() {
            context.setattr(intern!(py, "check_hostname"), false)?;
        }
        Ok(context)
    }

    /// The name to check the server's certificate for. An empty one stands for no check.
    fn hostname<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.server_hostname {
            Some(name) if !self.server_side && name.bind(py).is_truthy()? => Ok(Some(name.bind(py).clone())),
            _ => Ok(None),
        }
    }

    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        for object in [&self.context, &self.server_hostname, &self.handshake_timeout, &self.shutdown_timeout] {
            object.as_ref().map_or(Ok(()), |object| visit.call(object))?;
        }
        Ok(())
    }
}

/// A time limit that the user gave.
///
/// # Errors
/// ValueError unless it is positive.
fn seconds(given: Option<&Bound<'_, PyAny>>, name: &str, default: f64) -> PyResult<f64> {
    let Some(given) = given else { return Ok(default) };
    let seconds: f64 = given.extract()?;
    if seconds <= 0.0 {
        return Err(PyValueError::new_err(format!("{name} should be a positive number, got {}", given.str()?)));
    }
    Ok(seconds)
}

/// Says something to asyncio's logger, as `method(*arguments)` of it.
fn log<'py, A>(py: Python<'py>, method: &str, arguments: A, error: Option<&PyErr>) -> PyResult<()>
where
    A: pyo3::call::PyCallArgs<'py>,
{
    let keywords = PyDict::new(py);
    if let Some(error) = error {
        keywords.set_item(intern!(py, "exc_info"), error.value(py))?;
    }
    let logger = imports(py)?.helpers.bind(py).getattr(intern!(py, "logger"))?;
    logger.call_method(method, arguments, Some(&keywords)).map(drop)
}
