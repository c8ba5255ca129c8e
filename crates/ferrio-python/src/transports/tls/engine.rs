//! Bytes in, bytes out: CPython's `SSLObject`.
//!
//! The object comes from the user's own `ssl.SSLContext`, so whatever was configured there holds. Where its OpenSSL is
//! within reach, data goes through that ([`Direct`]). Otherwise the object lies between two memory BIOs: a plain
//! `SSLObject` is a Python class around a C object, which is called then; a subclass (`SSLContext.sslobject_class`) is
//! asked itself.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyInt};
use pyo3::{PyTraverseError, PyVisit};

use super::bio;
use super::direct::{Direct, Outcome};
use crate::ffi::buffer::Buffer;
use crate::ffi::window::Window;
use crate::imports::imports;

/// What is needed of the module `ssl`.
struct Names {
    memory_bio: Py<PyAny>,
    object: Py<PyAny>,
    error: Py<PyAny>,
    want_read: Py<PyAny>,
    syscall: Py<PyAny>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

fn names(py: Python<'_>) -> PyResult<&'static Names> {
    NAMES.get_or_try_init(py, || {
        let Some(ssl) = &imports(py)?.ssl else {
            return Err(PyRuntimeError::new_err("stdlib ssl module not available"));
        };
        let get = |name| ssl.bind(py).getattr(name).map(Bound::unbind);
        Ok(Names {
            memory_bio: get("MemoryBIO")?,
            object: get("SSLObject")?,
            error: get("SSLError")?,
            want_read: get("SSLWantReadError")?,
            syscall: get("SSLSyscallError")?,
        })
    })
}

/// Whether it is an `ssl.SSLError`.
pub fn is_ssl_error(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(error.matches(py, names(py)?.error.bind(py))?)
}

/// None if OpenSSL needs more of the peer's bytes first.
fn unless_starved<T>(py: Python<'_>, result: PyResult<T>) -> PyResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let names = names(py)?;
            let starved =
                error.is_instance(py, names.want_read.bind(py)) || error.is_instance(py, names.syscall.bind(py));
            if starved { Ok(None) } else { Err(error) }
        }
    }
}

/// The cryptographic half of one connection.
pub struct Engine {
    way: Way,
    /// What users get as `ssl_object`.
    object: Py<PyAny>,
    /// Its C half, unless it is a subclass.
    native: Option<Py<PyAny>>,
    window: Py<Window>,
}

/// Where the encrypted bytes are.
enum Way {
    Direct(Direct),
    Objects { incoming: Py<PyAny>, outgoing: Py<PyAny> },
}

impl Engine {
    /// # Errors
    /// Those of `SSLContext.wrap_bio`.
    pub fn new(
        context: &Bound<'_, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let names = names(py)?;
        let (incoming, outgoing) = (names.memory_bio.bind(py).call0()?, names.memory_bio.bind(py).call0()?);
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "server_side"), server_side)?;
        keywords.set_item(intern!(py, "server_hostname"), server_hostname)?;
        let object = context.call_method(intern!(py, "wrap_bio"), (&incoming, &outgoing), Some(&keywords))?;
        let native = if object.get_type().is(names.object.bind(py)) {
            Some(object.getattr(intern!(py, "_sslobj"))?)
        } else {
            None
        };
        let direct = native.as_ref().filter(|native| !is_watched(native)).and_then(Direct::new);
        Ok(Engine {
            way: direct
                .map_or_else(|| Way::Objects { incoming: incoming.unbind(), outgoing: outgoing.unbind() }, Way::Direct),
            object: object.unbind(),
            native: native.map(Bound::unbind),
            window: Window::new(py)?,
        })
    }

    /// What it is, for the tests.
    pub fn name(&self) -> &'static str {
        match self.way {
            Way::Direct(_) => "OpenSSL",
            Way::Objects { .. } => "SSLObject",
        }
    }

    pub fn object<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Calls `f` while OpenSSL has the peer's bytes to read.
    ///
    /// # Errors
    /// Those of `MemoryBIO.write`; `f` has not been called then.
    pub fn feeding<R>(&self, py: Python<'_>, data: &[u8], f: impl FnOnce() -> R) -> PyResult<R> {
        match &self.way {
            Way::Direct(direct) => {
                let _loan = direct.pipe.lend(data);
                Ok(f())
            }
            Way::Objects { incoming, .. } => {
                let incoming = incoming.bind(py);
                // SAFETY: MemoryBIO.write copies.
                unsafe {
                    Window::lend(self.window.bind(py), data, |window| {
                        incoming.call_method1(intern!(py, "write"), (window,))
                    })?;
                }
                Ok(f())
            }
        }
    }

    /// The peer's bytes in a Python object.
    ///
    /// # Errors
    /// TypeError if it has none.
    pub fn feed_object(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.way {
            Way::Direct(direct) => {
                let data = Buffer::readable(data)?;
                // SAFETY: the buffer holds the memory, and keeping it calls no Python that could change it.
                direct.pipe.keep(unsafe { std::slice::from_raw_parts(data.as_ptr(), data.len()) });
                Ok(())
            }
            Way::Objects { incoming, .. } => {
                incoming.bind(data.py()).call_method1(intern!(data.py(), "write"), (data,)).map(drop)
            }
        }
    }

    /// How many of the peer's bytes OpenSSL has not looked at.
    pub fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        match &self.way {
            Way::Direct(direct) => Ok(direct.pipe.unread()),
            Way::Objects { incoming, .. } => incoming.bind(py).getattr(intern!(py, "pending"))?.extract(),
        }
    }

    /// How many bytes for the peer wait to be taken.
    pub fn unsent(&self, py: Python<'_>) -> PyResult<usize> {
        match &self.way {
            Way::Direct(direct) => Ok(direct.pipe.unsent()),
            Way::Objects { outgoing, .. } => outgoing.bind(py).getattr(intern!(py, "pending"))?.extract(),
        }
    }

    /// Takes the bytes for the peer, and has `f` look at them.
    ///
    /// # Errors
    /// Those of `MemoryBIO.read`.
    pub fn take_outgoing<R>(&self, py: Python<'_>, f: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
        match &self.way {
            Way::Direct(direct) => {
                let data = direct.pipe.take_outgoing();
                let result = f(&data);
                bio::recycle(data);
                Ok(result)
            }
            Way::Objects { outgoing, .. } => {
                let data = outgoing.bind(py).call_method0(intern!(py, "read"))?.cast_into::<PyBytes>()?;
                Ok(f(data.as_bytes()))
            }
        }
    }

    /// A step of the handshake. None if it waits for the peer.
    pub fn handshake(&self, py: Python<'_>) -> PyResult<Option<()>> {
        unless_starved(py, self.object(py).call_method0(intern!(py, "do_handshake")).map(drop))
    }

    /// A step of the end: close_notify. None if it waits for the peer's.
    pub fn unwrap(&self, py: Python<'_>) -> PyResult<Option<()>> {
        unless_starved(py, self.object(py).call_method0(intern!(py, "unwrap")).map(drop))
    }

    /// Decrypts into `room`, which is not empty: at most one record. `Some(0)` is the peer's close_notify, None means
    /// that no record is complete.
    ///
    /// # Safety
    /// `room` must be valid for writes of `length` bytes.
    pub unsafe fn read(&self, py: Python<'_>, room: *mut u8, length: usize) -> PyResult<Option<usize>> {
        if let Way::Direct(direct) = &self.way {
            // SAFETY: as the caller promises.
            match unsafe { direct.read(py, room, length) }? {
                Outcome::Done(count) => return Ok(Some(count)),
                Outcome::Starved => return Ok(None),
                Outcome::Other => {}
            }
        }
        let name = intern!(py, "read");
        let count = match &self.native {
            // SAFETY: the C function releases the buffer before it returns; the room is valid as the caller promises.
            Some(native) => unsafe {
                Window::lend_room(self.window.bind(py), room, length, |window| {
                    native.bind(py).call_method1(name, (length, window))?.extract::<usize>()
                })
            },
            None => self.object(py).call_method1(name, (length,)).and_then(|data| {
                let data = data.cast_into::<PyBytes>()?;
                let count = data.as_bytes().len().min(length);
                // SAFETY: as the caller promises; a new bytes object is elsewhere.
                unsafe { std::ptr::copy_nonoverlapping(data.as_bytes().as_ptr(), room, count) };
                Ok(count)
            }),
        };
        Ok(unless_starved(py, count)?.map(|count| count.min(length)))
    }

    /// Encrypts `data`, which is not empty; returns how much of it. None if it waits for the peer (renegotiation).
    pub fn write(&self, py: Python<'_>, data: &[u8]) -> PyResult<Option<usize>> {
        if let Way::Direct(direct) = &self.way {
            match direct.write(py, data)? {
                Outcome::Done(count) => return Ok(Some(count)),
                Outcome::Starved => return Ok(None),
                Outcome::Other => {}
            }
        }
        let name = intern!(py, "write");
        let count = match &self.native {
            // SAFETY: the C function releases the buffer before it returns.
            Some(native) => unsafe {
                Window::lend(self.window.bind(py), data, |window| native.bind(py).call_method1(name, (window,)))
            },
            None => self.object(py).call_method1(name, (PyBytes::new(py, data),)),
        };
        unless_starved(py, count.and_then(|count| count.cast_into::<PyInt>()?.extract::<usize>()))
            .map(|count| count.map(|count| count.min(data.len())))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Way::Objects { incoming, outgoing } = &self.way {
            visit.call(incoming)?;
            visit.call(outgoing)?;
        }
        visit.call(&self.object)?;
        self.native.as_ref().map_or(Ok(()), |native| visit.call(native))
    }
}

/// Whether a callback in Python hears of every message. What it raises is raised by CPython's object alone.
fn is_watched(native: &Bound<'_, PyAny>) -> bool {
    let py = native.py();
    let callback =
        native.getattr(intern!(py, "context")).and_then(|context| context.getattr(intern!(py, "_msg_callback")));
    !callback.is_ok_and(|callback| callback.is_none())
}
