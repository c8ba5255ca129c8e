//! Files to sockets: `sock_sendfile`, and what `sendfile` on a transport needs.
//!
//! The kernel copies from the file to the socket where it can; where it cannot (no such system call, no regular file)
//! the file is read in a thread and sent. Either way the file's position afterwards tells how much has left, also after
//! an error and after cancellation.

use std::sync::Arc;

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyAttributeError, PyConnectionError, PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyInt, PyMemoryView, PySlice, PyString};

use super::Loop;
use super::sockets::{check_socket, send_all};
use super::watchers::descriptor;
use crate::awaitable::{awaitable, python, ready};
use crate::core::Core;
use crate::errors::unless_it_must_wait;
use crate::imports::imports;
use crate::transports::stream::StreamTransport;

#[pymethods]
impl Loop {
    /// Send a file over a connected stream socket, count bytes from offset (None: all to the end). Returns how many
    /// bytes were sent; the file's position says the same, also after an error.
    #[pyo3(
        signature = (sock, file, offset=Given::default(), count=None, *, fallback=Given::default()),
        text_signature = "($self, sock, file, offset=0, count=None, *, fallback=True)"
    )]
    fn sock_sendfile<'py>(
        this: &Bound<'py, Self>,
        sock: Py<PyAny>,
        file: Py<PyAny>,
        offset: Given,
        count: Option<Py<PyAny>>,
        fallback: Given,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        awaitable(this, &this.get().core, "Loop.sock_sendfile", async move {
            let (part, fallback) = Python::attach(|py| {
                check_socket(&core, sock.bind(py))?;
                let part = check_part(sock.bind(py), file.bind(py), offset, count)?;
                let fallback = fallback.0.map_or(Ok(true), |fallback| fallback.bind(py).is_truthy());
                PyResult::Ok((part, fallback?))
            })?;
            let target = |py: Python<'_>| {
                let fd = sock.bind(py).call_method0(intern!(py, "fileno"))?.extract()?;
                core.loop_object(py)?.cast::<Loop>()?.get().check_no_transport(py, fd)?;
                Ok(fd)
            };
            let sent = match send_by_kernel(&core, target, &file, part).await {
                Err(error) if fallback && Python::attach(|py| is_unavailable(py, &error))? => {
                    send_by_reading(&core, &sock, &file, part).await?
                }
                sent => sent?,
            };
            Python::attach(|py| Ok(PyInt::new(py, sent).into_any().unbind()))
        })
    }
}

#[pymethods]
impl Loop {
    /// The kernel's part of `sendfile` on a stream transport, whose queue is empty.
    fn _send_by_kernel<'py>(
        this: &Bound<'py, Self>,
        transport: Py<StreamTransport>,
        file: Py<PyAny>,
        offset: Given,
        count: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        awaitable(this, &this.get().core, "EventLoop.sendfile", async move {
            let part = Python::attach(|py| check_range(file.bind(py), offset, count))?;
            let sent = send_by_kernel(&core, |_| transport.get().open_descriptor(), &file, part).await?;
            Python::attach(|py| Ok(PyInt::new(py, sent).into_any().unbind()))
        })
    }
}

/// An argument that may be left out. None is given, and a value like any other.
#[derive(Default)]
struct Given(Option<Py<PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Given {
    type Error = PyErr;

    fn extract(argument: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Given(Some(argument.to_owned().unbind())))
    }
}

/// Which part of a file: `count` bytes from `offset`, or all to the end.
#[derive(Clone, Copy)]
pub struct Part {
    pub offset: u64,
    pub count: Option<u64>,
}

/// # Errors
/// ValueError for a text file, a socket that is no stream, a number out of range; TypeError for what is no number.
fn check_part(
    sock: &Bound<'_, PyAny>,
    file: &Bound<'_, PyAny>,
    offset: Given,
    count: Option<Py<PyAny>>,
) -> PyResult<Part> {
    let py = sock.py();
    if sock.getattr(intern!(py, "type"))?.ne(libc::SOCK_STREAM)? {
        return Err(PyValueError::new_err("only SOCK_STREAM type sockets are supported"));
    }
    check_range(file, offset, count)
}

/// # Errors
/// ValueError for a text file or a number out of range; TypeError for what is no number.
fn check_range(file: &Bound<'_, PyAny>, offset: Given, count: Option<Py<PyAny>>) -> PyResult<Part> {
    let py = file.py();
    if let Ok(mode) = file.getattr(intern!(py, "mode"))
        && !mode.contains("b")?
    {
        return Err(PyValueError::new_err("file should be opened in binary mode"));
    }
    let count = match count {
        Some(count) => Some(check_number(count.bind(py), 1, "count must be a positive integer")?),
        None => None,
    };
    let offset = match offset.0 {
        Some(offset) => check_number(offset.bind(py), 0, "offset must be a non-negative integer")?,
        None => 0,
    };
    Ok(Part { offset, count })
}

fn check_number(number: &Bound<'_, PyAny>, least: i32, rule: &str) -> PyResult<u64> {
    let message = || PyResult::Ok(format!("{rule} (got {})", number.repr()?));
    if !number.is_instance_of::<PyInt>() {
        return Err(PyTypeError::new_err(message()?));
    }
    if number.lt(least)? {
        return Err(PyValueError::new_err(message()?));
    }
    // More than any file has.
    Ok(number.extract().unwrap_or(u64::MAX))
}

// --- by the kernel -------------------------------------------------------------------------------------------------

/// The kernel copies from the file to the socket whose descriptor `target` tells (asked before every attempt, because
/// the socket may be closed meanwhile). Returns how many bytes it sent.
///
/// # Errors
/// SendfileNotAvailableError, with nothing sent, if it cannot be done this way.
pub async fn send_by_kernel(
    core: &Arc<Core>,
    target: impl Fn(Python<'_>) -> PyResult<RawFd> + Send,
    file: &Py<PyAny>,
    part: Part,
) -> PyResult<u64> {
    let size = Python::attach(|py| file_size(file.bind(py)))?;
    if size == 0 && part.count.is_none() {
        return Ok(0);
    }
    let mut position = Position { file, of_descriptor: true, offset: part.offset, sent: 0, settled: false };
    let mut has_waited = false;
    loop {
        let left = match part.count {
            Some(count) => count - position.sent,
            None => size,
        };
        if left == 0 {
            break;
        }
        let attempt = Python::attach(|py| {
            let fd = target(py)?;
            PyResult::Ok((fd, copy(py, fd, file, part.offset + position.sent, left)?))
        });
        let (fd, copied) = match attempt {
            Ok(attempt) => attempt,
            Err(error) => {
                let nothing_sent = position.sent == 0;
                position.settle()?;
                return Err(Python::attach(|py| explain(py, error, nothing_sent, has_waited))?);
            }
        };
        match copied {
            Some(0) => break,
            Some(copied) => {
                position.sent += copied;
                if copied == left {
                    continue;
                }
            }
            None => {}
        }
        has_waited = true;
        ready(core, fd, Direction::Write).await?;
    }
    let sent = position.sent;
    position.settle()?;
    Ok(sent)
}

/// One `os.sendfile`, which lets other threads run; `None` if the socket has no room.
fn copy(py: Python<'_>, fd: RawFd, file: &Py<PyAny>, offset: u64, count: u64) -> PyResult<Option<u64>> {
    /// More than the kernel copies at once, and no overflow of its types anywhere.
    const MOST: u64 = 1 << 30;
    let file = file.call_method0(py, intern!(py, "fileno"))?;
    let os = py.import(intern!(py, "os"))?;
    let copied = os.call_method1(intern!(py, "sendfile"), (fd, file, offset, count.min(MOST)));
    unless_it_must_wait(py, copied)?.map(|copied| copied.extract()).transpose()
}

/// # Errors
/// SendfileNotAvailableError if this system has no such call, or the file is none of the operating system's.
fn file_size(file: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = file.py();
    let os = py.import(intern!(py, "os"))?;
    if !os.hasattr(intern!(py, "sendfile"))? {
        return Err(unavailable(py, "os.sendfile() is not available")?);
    }
    let fileno = match file.call_method0(intern!(py, "fileno")) {
        Ok(fileno) => fileno,
        Err(error) => {
            let unsupported = py.import(intern!(py, "io"))?.getattr(intern!(py, "UnsupportedOperation"))?;
            if error.is_instance_of::<PyAttributeError>(py) || error.is_instance(py, &unsupported) {
                return Err(unavailable(py, "not a regular file")?);
            }
            return Err(error);
        }
    };
    match os.call_method1(intern!(py, "fstat"), (fileno,)) {
        Ok(stat) => stat.getattr(intern!(py, "st_size"))?.extract(),
        Err(error) if error.is_instance_of::<PyOSError>(py) => Err(unavailable(py, "not a regular file")?),
        Err(error) => Err(error),
    }
}

/// The error that the caller gets for one of `os.sendfile`.
fn explain(py: Python<'_>, error: PyErr, nothing_sent: bool, has_waited: bool) -> PyResult<PyErr> {
    if !error.is_instance_of::<PyOSError>(py) {
        return Ok(error);
    }
    if nothing_sent {
        // Mostly a file that cannot be mapped: reading and sending may do. If it is the socket's fault, that will say.
        return unavailable(py, "os.sendfile call failed");
    }
    let errno: Option<i32> = error.value(py).getattr(intern!(py, "errno"))?.extract()?;
    if has_waited && errno == Some(libc::ENOTCONN) && !error.is_instance_of::<PyConnectionError>(py) {
        // The connection was lost on the way; not every system says so in the same words.
        let lost = PyConnectionError::new_err(("socket is not connected", libc::ENOTCONN));
        lost.set_cause(py, Some(error));
        return Ok(lost);
    }
    Ok(error)
}

fn unavailable(py: Python<'_>, message: &str) -> PyResult<PyErr> {
    Ok(PyErr::from_value(imports(py)?.sendfile_not_available.bind(py).call1((message,))?))
}

/// Whether it is a SendfileNotAvailableError.
pub fn is_unavailable(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(error.is_instance(py, imports(py)?.sendfile_not_available.bind(py)))
}

// --- by reading ----------------------------------------------------------------------------------------------------

/// Reads the file in a thread and sends what was read. Returns how many bytes were sent.
async fn send_by_reading(core: &Arc<Core>, sock: &Py<PyAny>, file: &Py<PyAny>, part: Part) -> PyResult<u64> {
    let (buffer, size) = Python::attach(|py| {
        if part.offset > 0 || (py.version_info() >= (3, 14) && file.bind(py).hasattr(PyString::intern(py, "seek"))?) {
            file.call_method1(py, intern!(py, "seek"), (part.offset,))?;
        }
        let constants = py.import(intern!(py, "asyncio.constants"))?;
        let size: u64 = constants.getattr(intern!(py, "SENDFILE_FALLBACK_READBUFFER_SIZE"))?.extract()?;
        let size = part.count.map_or(size, |count| count.min(size));
        let buffer = PyByteArray::new_with(py, size as usize, |_| Ok(()))?;
        PyResult::Ok((PyMemoryView::from(&buffer)?.unbind(), size))
    })?;
    let first = |py: Python<'_>, size: u64| {
        let slice = PySlice::new(py, 0, size as isize, 1);
        buffer.bind(py).get_item(slice).map(Bound::unbind)
    };
    let mut position = Position { file, of_descriptor: false, offset: part.offset, sent: 0, settled: false };
    loop {
        let wanted = part.count.map_or(size, |count| (count - position.sent).min(size));
        if wanted == 0 {
            break;
        }
        let reading = Python::attach(|py| {
            let read_into = file.getattr(py, intern!(py, "readinto"))?;
            let arguments = (py.None(), read_into, first(py, wanted)?);
            core.loop_object(py)?.call_method1(intern!(py, "run_in_executor"), arguments).map(Bound::unbind)
        })?;
        let read = python(core, reading).await?;
        let read: Option<u64> = Python::attach(|py| read.extract(py))?;
        let Some(read) = read.filter(|read| *read > 0) else { break };
        let (target, data) = Python::attach(|py| PyResult::Ok((sock.clone_ref(py), first(py, read)?)))?;
        send_all(core.clone(), target, data).await?;
        position.sent += read;
    }
    let sent = position.sent;
    position.settle()?;
    Ok(sent)
}

// --- the position --------------------------------------------------------------------------------------------------

/// Where the file stands when all is over; also if the operation is dropped.
struct Position<'a> {
    file: &'a Py<PyAny>,
    /// The kernel has read behind the back of the file object, so that only the descriptor is to be moved.
    of_descriptor: bool,
    offset: u64,
    sent: u64,
    settled: bool,
}

impl Position<'_> {
    /// Moves the file behind what was sent; before 3.14 not at all if nothing was.
    fn settle(&mut self) -> PyResult<()> {
        let sent = std::mem::take(&mut self.sent);
        let position = self.offset + sent;
        Python::attach(|py| {
            if std::mem::replace(&mut self.settled, true) || (sent == 0 && py.version_info() < (3, 14)) {
                return Ok(());
            }
            let file = self.file.bind(py);
            if self.of_descriptor {
                let arguments = (descriptor(file)?, position, 0);
                py.import(intern!(py, "os"))?.call_method1(intern!(py, "lseek"), arguments).map(drop)
            } else if file.hasattr(PyString::intern(py, "seek"))? {
                file.call_method1(intern!(py, "seek"), (position,)).map(drop)
            } else {
                Ok(())
            }
        })
    }
}

impl Drop for Position<'_> {
    fn drop(&mut self) {
        if self.sent > 0
            && let Err(error) = self.settle()
        {
            Python::attach(|py| error.write_unraisable(py, Some(self.file.bind(py))));
        }
    }
}
