//! The transports of one end of a pipe: [`ReadPipe`] and [`WritePipe`].
//!
//! A "pipe" is a pipe, a socket or a character device (a terminal), given as a file object, which alone closes the
//! descriptor. The engine watches it level-triggered; each piece of news is one `read` into the loop's scratch buffer
//! and one call of the protocol. Writes leave at once; what the kernel does not take waits in a buffer.
//!
//! Two transports may stand on one descriptor (a terminal is read and written, a stdout is connected twice), so neither
//! takes the other's watcher away, and neither touches a number that its file object has closed already.
//!
//! What each method promises is CPython's `unix_events._UnixReadPipeTransport` and `_UnixWritePipeTransport`.

mod reading;
mod writing;

use std::cell::{Cell, RefCell};
use std::io;
use std::task::{Poll, Waker};

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};

use crate::core::{Call, Core, Job};
use crate::errors::from_io;
use crate::ffi::call::call_method;
use crate::ffi::context::{copy_current, run_in};
use crate::ffi::error::aside;
use crate::transports::common::warn_unclosed;

pub use reading::ReadPipe;
pub use writing::WritePipe;

/// What Python calls on either end, and its death.
macro_rules! methods_of_an_end {
    ($class:ident) => {
        #[pymethods]
        impl $class {
            fn is_closing(&self) -> PyResult<bool> {
                Ok(self.state()?.end.closing.get())
            }

            fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
                self.state()?.end.set_protocol(protocol);
                Ok(())
            }

            fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                Ok(self.state()?.end.protocol(py))
            }

            /// "pipe" is the file object.
            #[pyo3(signature = (name, default=None))]
            fn get_extra_info<'py>(
                &self,
                name: &Bound<'py, PyAny>,
                default: Option<Bound<'py, PyAny>>,
            ) -> PyResult<Option<Bound<'py, PyAny>>> {
                Ok(self.state()?.end.extra.bind(name.py()).get_item(name)?.or(default))
            }

            #[getter]
            fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
                self.the_loop.clone_ref(py)
            }

            fn __repr__(&self) -> PyResult<String> {
                self.state().map(|state| Self::describe(&self.core, state))
            }

            fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
                visit.call(&self.the_loop)?;
                self.state.unguarded().end.traverse(&visit)
            }

            fn __clear__(&self) {
                self.state.unguarded().end.clear();
            }
        }

        impl Drop for $class {
            fn drop(&mut self) {
                let state = self.state.unguarded();
                state.end.die(&self.core, || Self::describe(&self.core, state));
            }
        }
    };
}
use methods_of_an_end;

/// What the descriptor of a pipe may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fifo,
    Socket,
    Device,
}

/// What both ends have.
struct End {
    fd: RawFd,
    kind: Kind,
    /// The file object; gone once it is closed.
    pipe: RefCell<Option<Py<PyAny>>>,
    protocol: RefCell<Option<Py<PyAny>>>,
    /// Every callback of this end runs in it.
    context: Py<PyAny>,
    extra: Py<PyDict>,
    /// `connection_made` has run.
    made: Cell<bool>,
    /// Waits for that.
    waiter: Cell<Option<Waker>>,
    closing: Cell<bool>,
    /// `connection_lost` is scheduled, or has run.
    lost: Cell<bool>,
    /// The exception for `connection_lost`.
    reason: RefCell<Option<Py<PyAny>>>,
}

impl End {
    fn new(pipe: &Bound<'_, PyAny>, protocol: Bound<'_, PyAny>, refusal: &'static str) -> PyResult<Self> {
        let py = pipe.py();
        let fd: RawFd = pipe.call_method0(intern!(py, "fileno"))?.extract()?;
        let kind = kind_of(fd).map_err(from_io)?.ok_or_else(|| PyValueError::new_err(refusal))?;
        set_nonblocking(fd).map_err(from_io)?;
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "pipe"), pipe)?;
        Ok(End {
            fd,
            kind,
            pipe: RefCell::new(Some(pipe.clone().unbind())),
            protocol: RefCell::new(Some(protocol.unbind())),
            context: copy_current(py)?.unbind(),
            extra: extra.unbind(),
            made: Cell::new(false),
            waiter: Cell::new(None),
            closing: Cell::new(false),
            lost: Cell::new(false),
            reason: RefCell::default(),
        })
    }

    fn protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let protocol = self.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        protocol.unwrap_or_else(|| py.None().into_bound(py))
    }

    fn set_protocol(&self, protocol: Bound<'_, PyAny>) {
        let former = self.protocol.replace(Some(protocol.unbind()));
        drop(former);
    }

    fn is_open(&self) -> bool {
        self.pipe.borrow().is_some()
    }

    /// Calls a method of the protocol in this end's context. What it raises is reported and changes nothing.
    fn call<'py>(
        &self,
        core: &Core,
        this: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
        argument: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = this.py();
        let protocol = self.protocol(py);
        let called = run_in(py, self.context.bind(py), || match &argument {
            Some(argument) => call_method(&protocol, name, [argument]),
            None => call_method(&protocol, name, []),
        });
        called.map(drop).or_else(|error| self.report(core, this, error, &format!("Exception in protocol.{name}()")))
    }

    fn report(&self, core: &Core, this: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
        let py = this.py();
        core.report(py, error, message, |context| {
            context.set_item(intern!(py, "transport"), this)?;
            context.set_item(intern!(py, "protocol"), self.protocol(py))
        })
    }

    /// Ready when `connection_made` has run.
    fn poll_made(&self, waker: &Waker) -> Poll<()> {
        if self.made.get() {
            return Poll::Ready(());
        }
        let former = self.waiter.replace(Some(waker.clone()));
        drop(former);
        Poll::Pending
    }

    /// `connection_made` has run.
    fn set_made(&self) {
        self.made.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Schedules `finish`, which is to call `connection_lost(reason)`, once.
    fn lose(&self, core: &Core, this: &Bound<'_, PyAny>, reason: Option<PyErr>, finish: Call) -> PyResult<()> {
        core.check_thread()?;
        self.closing.set(true);
        if self.lost.get() {
            return Ok(());
        }
        core.check_closed()?;
        self.lost.set(true);
        *self.reason.borrow_mut() = reason.map(|error| error.into_value(this.py()).into_any());
        core.call_soon(this, finish);
        Ok(())
    }

    /// The last step: `connection_lost`, then the file is closed.
    fn finish(&self, core: &Core, this: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let reason = self.reason.borrow_mut().take();
        let reason = reason.unwrap_or_else(|| py.None()).into_bound(py);
        let told = self.call(core, this, intern!(py, "connection_lost"), Some(reason));
        let closed = self.close_file(core, py);
        let protocol = self.protocol.borrow_mut().take();
        drop(protocol);
        told.and(closed)
    }

    fn close_file(&self, core: &Core, py: Python<'_>) -> PyResult<()> {
        let pipe = self.pipe.borrow_mut().take();
        let Some(pipe) = pipe else { return Ok(()) };
        // Somebody else may have closed the file, and the number be another's by now.
        let number = pipe.call_method0(py, intern!(py, "fileno")).and_then(|number| number.extract::<RawFd>(py));
        if number.is_ok_and(|number| number == self.fd) {
            core.release_descriptor(self.fd);
        }
        pipe.call_method0(py, intern!(py, "close")).map(drop)
    }

    /// Whether somebody has closed the file without this transport.
    fn is_file_closed(&self, py: Python<'_>) -> bool {
        let pipe = self.pipe.borrow().as_ref().map(|pipe| pipe.bind(py).clone());
        let closed = pipe.map(|pipe| pipe.getattr(intern!(py, "closed")).and_then(|closed| closed.is_truthy()));
        matches!(closed, Some(Ok(true)))
    }

    /// Stops watching one direction, unless another transport watches it by now.
    fn unwatch(&self, core: &Core, this: &Bound<'_, PyAny>, direction: Direction) -> PyResult<()> {
        let engine = core.engine_in_turn(this.py())?;
        if let Some(job) = engine.unwatch(self.fd, direction)
            && job.object().is_none_or(|watcher| !watcher.is(this))
        {
            drop(engine.watch(self.fd, direction, job).map_err(from_io)?);
        }
        Ok(())
    }

    fn watch(&self, core: &Core, this: &Bound<'_, PyAny>, direction: Direction, call: Call) -> PyResult<()> {
        let former = core
            .engine_in_turn(this.py())?
            .watch(self.fd, direction, Job::Call(this.clone().unbind(), call))
            .map_err(from_io)?;
        drop(former);
        Ok(())
    }

    /// The transport dies; if nobody has closed it, the file is closed with a warning.
    fn die(&self, core: &Core, description: impl FnOnce() -> String) {
        if !self.is_open() {
            return;
        }
        aside(|py| {
            if !self.is_file_closed(py) {
                warn_unclosed(py, &description());
            }
            if let Err(error) = self.close_file(core, py) {
                error.write_unraisable(py, None);
            }
        });
    }

    /// `<ReadPipeTransport fd=5 polling>`: the words up to and including the descriptor.
    fn words(&self, name: &str) -> Vec<String> {
        let mut words = vec![name.to_owned()];
        if !self.is_open() {
            words.push("closed".into());
        } else if self.closing.get() {
            words.push("closing".into());
        }
        words.push(format!("fd={}", self.fd));
        words
    }

    /// What it does now, for a repr.
    fn activity(&self, core: &Core, polling: bool) -> &'static str {
        if !self.is_open() {
            "closed"
        } else if core.is_closed() {
            // Without a loop nobody watches it any more.
            "open"
        } else if polling {
            "polling"
        } else {
            "idle"
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        visit.call(&self.extra)?;
        // Not the file: it must be whole when the last of this transport closes it.
        for cell in [&self.protocol, &self.reason] {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        Ok(())
    }

    /// The file stays: the transport still has to close it.
    fn clear(&self) {
        let (protocol, reason) = (self.protocol.borrow_mut().take(), self.reason.borrow_mut().take());
        drop((protocol, reason));
    }
}

/// What the descriptor is; `None` for what cannot be waited for (a regular file, a directory).
fn kind_of(fd: RawFd) -> io::Result<Option<Kind>> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the kernel fills the struct, or fails.
    let mode = unsafe {
        if libc::fstat(fd, status.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        status.assume_init().st_mode
    };
    Ok(match mode & libc::S_IFMT {
        libc::S_IFIFO => Some(Kind::Fifo),
        libc::S_IFSOCK => Some(Kind::Socket),
        libc::S_IFCHR => Some(Kind::Device),
        _ => None,
    })
}

/// Reads and writes of `fd` return at once from here on.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; the kernel checks the descriptor.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 { flags } else { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `None` for what was only too early (EAGAIN) or interrupted.
fn transferred(count: libc::ssize_t) -> io::Result<Option<usize>> {
    match usize::try_from(count) {
        Ok(count) => Ok(Some(count)),
        Err(_) => {
            let error = io::Error::last_os_error();
            let early = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            if early { Ok(None) } else { Err(error) }
        }
    }
}
