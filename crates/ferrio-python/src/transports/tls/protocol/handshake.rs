//! The handshake, and the time limit that it has in common with the end.

use ferrio::event_loop::Due;
use pyo3::exceptions::{PyConnectionAbortedError, PyException, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;

use super::{Phase, TlsProtocol, Told, Waiter};
use crate::core::Job;
use crate::imports::imports;
use crate::transports::common::settle_waiter;
use crate::transports::tls::engine::is_ssl_error;
use crate::transports::tls::log;

impl TlsProtocol {
    pub(super) fn begin_handshake(this: &Bound<'_, Self>) -> PyResult<()> {
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

    pub(super) fn handshake(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        match this.get().engine.handshake(py) {
            Ok(Some(())) => Self::handshake_is_over(this, None),
            Ok(None) => Self::send_outgoing(this),
            Err(error) if is_ssl_error(py, &error)? => Self::handshake_is_over(this, Some(error)),
            Err(error) => Err(error),
        }
    }

    pub(super) fn handshake_is_over(this: &Bound<'_, Self>, failure: Option<PyErr>) -> PyResult<()> {
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

    pub(super) fn wake_waiter(this: &Bound<'_, Self>, failure: Option<PyErr>) -> PyResult<()> {
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

    pub(super) fn set_timer(this: &Bound<'_, Self>, seconds: f64) -> PyResult<()> {
        let tls = this.get();
        let when = tls.core.now().saturating_add((seconds * 1e9) as u64);
        let job = Job::Call(this.clone().into_any().unbind(), |object| Self::step(object, Self::time_is_over));
        let timer = tls.core.engine()?.timer(when, Due::Job(job));
        tls.state()?.timer.set(Some(timer));
        Ok(())
    }

    pub(super) fn cancel_timer(&self) -> PyResult<()> {
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
}
