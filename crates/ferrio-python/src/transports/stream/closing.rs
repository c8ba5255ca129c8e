//! The end: stopping, `connection_lost`, closing the descriptor; and the warning about a transport that nobody closed.

use pyo3::exceptions::{PyConnectionError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;

use super::{Socket, StreamTransport};
use crate::core::Job;
use crate::ffi::call::call_method;
use crate::ffi::error::aside;
use crate::imports::imports;
use crate::server::ServerCore;
use crate::transports::common::{fail_waiter, warn_unclosed};

impl StreamTransport {
    /// Stops everything and schedules `connection_lost(reason)`; what is queued is thrown away.
    pub(super) fn lose(this: &Bound<'_, Self>, reason: Option<PyErr>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        transport.core.check_thread()?;
        state.closing.set(true);
        state.lost_writes.set(state.lost_writes.get() + 1);
        transport.unwatch_reads(py)?;
        transport.unwatch_writes(py)?;
        state.queue.borrow_mut().clear();
        if !state.lost.replace(true) {
            // Nobody would run it; the descriptor is closed when the transport is collected.
            transport.core.check_closed()?;
            if let Some(reason) = reason.map(|error| error.into_value(py).into_any()) {
                state.with_rare(|rare| rare.reason = Some(reason));
            }
            transport.core.call_soon(this, Self::finish);
        }
        Ok(())
    }

    /// The last step: `connection_lost`, then the descriptor is closed.
    fn finish(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (Self::of(object)?, object.py());
        let transport = this.get();
        let state = transport.state()?;
        if state.finished.replace(true) {
            return Ok(());
        }
        let reason = state.take_rare(|rare| &mut rare.reason);
        let told = if state.made.get() {
            let reason = reason.unwrap_or_else(|| py.None()).into_bound(py);
            transport.call_protocol(py, |protocol| call_method(protocol, intern!(py, "connection_lost"), [&reason]))
        } else {
            Ok(py.None().into_bound(py))
        };
        let empty_waiter = state.take_rare(|rare| &mut rare.empty_waiter);
        if let Some(waiter) = empty_waiter {
            let error = PyConnectionError::new_err("Connection is closed by peer");
            fail_waiter(waiter.bind(py), error.into_value(py).into_bound(py).into_any())?;
        }
        transport.close_socket(py)?;
        let protocol = state.protocol.borrow_mut().take();
        let context = state.context.borrow_mut().take();
        let server = state.server.borrow_mut().take();
        if let Some(server) = server {
            server.call_method1(py, intern!(py, "_detach"), (this,))?;
        }
        drop((protocol, context));
        told.map(drop).or_else(|error| transport.report(this, error, "Exception in protocol.connection_lost()"))
    }

    fn close_socket(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state()?;
        if !matches!(*state.socket.borrow(), Socket::Closed) {
            // The addresses can be asked for after the end.
            self.remember_addresses(py)?;
            self.core.release_descriptor(state.fd);
        }
        let socket = state.socket.replace(Socket::Closed);
        match socket {
            Socket::Python(socket) => socket.call_method0(py, intern!(py, "close")).map(drop),
            Socket::Ours(fd) => {
                drop(fd);
                Ok(())
            }
            Socket::Closed => Ok(()),
        }
    }

    /// An error that ends the connection. Only what is no OSError is a bug and reported.
    pub(super) fn fatal(this: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        if error.is_instance_of::<PyOSError>(py) {
            if this.get().core.debug() {
                imports(py)?.helpers.bind(py).call_method1("log_lost", (this, message, error.value(py)))?;
            }
        } else {
            this.get().report(this, error.clone_ref(py), message)?;
        }
        Self::lose(this, Some(error))
    }
}

impl Drop for StreamTransport {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        if matches!(*state.socket.borrow(), Socket::Closed) {
            return;
        }
        let description = Self::describe(state);
        self.core.release_descriptor(state.fd);
        if let Some(server) = state.server.take()
            && !self.core.is_closed()
        {
            self.core.soon(Job::Call(server, ServerCore::connection_collected));
        }
        let socket = state.socket.replace(Socket::Closed);
        aside(|py| {
            warn_unclosed(py, &description);
            if let Socket::Python(socket) = socket
                && let Err(error) = socket.call_method0(py, intern!(py, "close"))
            {
                error.write_unraisable(py, None);
            }
        });
    }
}
