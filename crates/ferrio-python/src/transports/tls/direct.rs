//! What an `ssl.SSLObject` has read and written, without Python between: its `SSL`, over a BIO of ours.
//!
//! Only what succeeds, or waits for the peer, is done here. Everything else (the handshake, the end, and every error) is
//! CPython's: the call is made once more through its object, which finds the same state, and the reason where OpenSSL has
//! left it, and raises what it always raises.
//!
//! CPython lets other threads run while a record is decrypted. Here they wait, for some microseconds at most.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::bio::{self, Pipe};
use super::openssl::{OpenSsl, Ssl};

/// `SSL_get_error`'s answer if OpenSSL needs more of the peer's bytes.
const WANT_READ: c_int = 2;

/// What has become of a call.
pub enum Outcome {
    Done(usize),
    /// OpenSSL needs more of the peer's bytes first.
    Starved,
    /// CPython is to tell.
    Other,
}

/// The `SSL` of a connection.
pub struct Direct {
    openssl: &'static OpenSsl,
    /// It lives as long as its `_SSLSocket`, which the owner of this holds.
    ssl: *mut Ssl,
    pub pipe: Arc<Pipe>,
    busy: AtomicBool,
}

// SAFETY: the `SSL` is used with the interpreter's lock held (of the builds that have one), as CPython's own uses of it.
unsafe impl Send for Direct {}
// SAFETY: as above; `busy` keeps callbacks out.
unsafe impl Sync for Direct {}

impl Direct {
    /// Puts a BIO of ours in the place of `native`'s two, which must have been used for nothing yet. None if it is not
    /// a `_SSLSocket` as it is known here.
    pub fn new(native: &Bound<'_, PyAny>) -> Option<Self> {
        let openssl = OpenSsl::get(native.py())?;
        let ssl = openssl.ssl_of(native)?;
        let pipe = Arc::<Pipe>::default();
        let bio = bio::new(openssl, &pipe)?.as_ptr();
        // SAFETY: a living `SSL`, which takes over the one reference for both directions and lets go of its former BIOs.
        unsafe { (openssl.functions.SSL_set_bio)(ssl, bio, bio) };
        Some(Direct { openssl, ssl, pipe, busy: AtomicBool::new(false) })
    }

    /// Decrypts a record, or a part of it.
    ///
    /// # Safety
    /// `room` must be valid for writes of `length` bytes.
    ///
    /// # Errors
    /// RuntimeError if a callback of the `SSL` has come back here.
    pub unsafe fn read(&self, _py: Python<'_>, room: *mut u8, length: usize) -> PyResult<Outcome> {
        let functions = &self.openssl.functions;
        // SAFETY: the `SSL` lives, and the room is valid, as the callers promise.
        self.call(|count| unsafe { (functions.SSL_read_ex)(self.ssl, room.cast(), length, count) })
    }

    /// Encrypts some of `data`, which is not empty.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write(&self, _py: Python<'_>, data: &[u8]) -> PyResult<Outcome> {
        let functions = &self.openssl.functions;
        // SAFETY: the `SSL` lives, as the owner of this promises.
        self.call(|count| unsafe { (functions.SSL_write_ex)(self.ssl, data.as_ptr().cast(), data.len(), count) })
    }

    fn call(&self, call: impl FnOnce(&mut usize) -> c_int) -> PyResult<Outcome> {
        if self.busy.swap(true, Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("a TLS connection was used from inside one of its own callbacks"));
        }
        let functions = &self.openssl.functions;
        // SAFETY: the thread's queue of errors, and the `SSL` that the call was about.
        let outcome = unsafe {
            // Errors that others have left would be taken for ours.
            if (functions.ERR_peek_error)() != 0 {
                (functions.ERR_clear_error)();
            }
            let mut count = 0;
            let result = call(&mut count);
            if result == 1 {
                Outcome::Done(count)
            } else if (functions.SSL_get_error)(self.ssl, result) == WANT_READ {
                Outcome::Starved
            } else {
                Outcome::Other
            }
        };
        self.busy.store(false, Ordering::Relaxed);
        Ok(outcome)
    }
}
