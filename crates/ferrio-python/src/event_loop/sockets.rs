//! `sock_recv` and its family: plain non-blocking sockets, awaited.
//!
//! Every operation tries the system call first and waits only if the kernel says so; then it tries again. It holds
//! nothing while it waits but a place among those who wait, so cancelling one loses neither bytes nor connections.
//!
//! What runs per packet goes to the kernel directly. What a socket's class does differently (its own `recv`, say), and
//! whatever needs an address, is asked of the socket object itself.

use std::io;
use std::sync::Arc;

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PySuper};

use super::Loop;
use super::connections::check_plain_socket;
use super::resolver::ensure_resolved;
use super::watchers::descriptor;
use crate::awaitable::{awaitable, ready, sleep};
use crate::core::Core;
use crate::errors::{must_wait, os_error, unless_it_must_wait};
use crate::ffi::buffer::Buffer;
use crate::ffi::bytes::filled_in_place;
use crate::imports::imports;

#[pymethods]
impl Loop {
    /// Receive up to n bytes from the socket; b"" means that the peer is done.
    fn sock_recv<'py>(this: &Bound<'py, Self>, sock: Py<PyAny>, n: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let receive = repeat(core, sock, Direction::Read, move |py, sock| receive(sock, n.bind(py)));
        awaitable(this, &this.get().core, "Loop.sock_recv", receive)
    }

    /// Receive into a writable buffer; returns the number of bytes.
    fn sock_recv_into<'py>(this: &Bound<'py, Self>, sock: Py<PyAny>, buf: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let receive = repeat(core, sock, Direction::Read, move |py, sock| receive_into(sock, buf.bind(py)));
        awaitable(this, &this.get().core, "Loop.sock_recv_into", receive)
    }

    /// Receive one datagram of up to bufsize bytes; returns (bytes, address).
    fn sock_recvfrom<'py>(this: &Bound<'py, Self>, sock: Py<PyAny>, bufsize: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let receive = repeat(core, sock, Direction::Read, move |py, sock| {
            ask(py, sock.call_method1(intern!(py, "recvfrom"), (&bufsize,)))
        });
        awaitable(this, &this.get().core, "Loop.sock_recvfrom", receive)
    }

    /// Receive one datagram into a writable buffer, at most nbytes (0: as many as fit); returns (count, address).
    #[pyo3(signature = (sock, buf, nbytes=None), text_signature = "($self, sock, buf, nbytes=0)")]
    fn sock_recvfrom_into<'py>(
        this: &Bound<'py, Self>,
        sock: Py<PyAny>,
        buf: Py<PyAny>,
        nbytes: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let receive = repeat(core, sock, Direction::Read, move |py, sock| {
            let buf = buf.bind(py);
            let nbytes = match &nbytes {
                Some(nbytes) if nbytes.is_truthy(py)? => nbytes.bind(py).clone(),
                _ => PyInt::new(py, buf.len()?).into_any(),
            };
            ask(py, sock.call_method1(intern!(py, "recvfrom_into"), (buf, nbytes)))
        });
        awaitable(this, &this.get().core, "Loop.sock_recvfrom_into", receive)
    }

    /// Send all of data. On error there is no way to tell how much of it has been sent.
    fn sock_sendall<'py>(this: &Bound<'py, Self>, sock: Py<PyAny>, data: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        awaitable(this, &this.get().core, "Loop.sock_sendall", send_all(core, sock, data))
    }

    /// Send one datagram to address; returns the number of bytes sent.
    fn sock_sendto<'py>(
        this: &Bound<'py, Self>,
        sock: Py<PyAny>,
        data: Py<PyAny>,
        address: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let send = repeat(core, sock, Direction::Write, move |py, sock| {
            ask(py, sock.call_method1(intern!(py, "sendto"), (&data, &address)))
        });
        awaitable(this, &this.get().core, "Loop.sock_sendto", send)
    }

    /// Connect the socket to address; a host name is looked up first.
    fn sock_connect<'py>(this: &Bound<'py, Self>, sock: Py<PyAny>, address: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let connect = async move { connect(&core, sock, address).await };
        awaitable(this, &this.get().core, "Loop.sock_connect", connect)
    }

    /// Accept a connection; returns (socket, address), the socket being non-blocking.
    fn sock_accept<'py>(this: &Bound<'py, Self>, sock: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let accept = repeat(core, sock, Direction::Read, |py, sock| {
            let accepted = ask(py, sock.call_method0(intern!(py, "accept")))?;
            if let Some(accepted) = &accepted {
                accepted.bind(py).get_item(0)?.call_method1(intern!(py, "setblocking"), (false,))?;
            }
            Ok(accepted)
        });
        awaitable(this, &this.get().core, "Loop.sock_accept", accept)
    }
}

// --- the operations ------------------------------------------------------------------------------------------------

/// Tries `attempt` until it can be done (until then it returns `None`), waiting for the socket in between.
async fn repeat(
    core: Arc<Core>,
    sock: Py<PyAny>,
    direction: Direction,
    mut attempt: impl for<'py> FnMut(Python<'py>, &Bound<'py, PyAny>) -> PyResult<Option<Py<PyAny>>> + Send,
) -> PyResult<Py<PyAny>> {
    let mut is_checked = false;
    loop {
        let attempted = Python::attach(|py| {
            let sock = sock.bind(py);
            if !is_checked {
                check_socket(&core, sock)?;
            }
            attempt(py, sock)
        })?;
        if let Some(result) = attempted {
            return Ok(result);
        }
        is_checked = true;
        wait(&core, &sock, direction).await?;
    }
}

/// What a method of the socket returned, or `None` if it would have blocked.
fn ask<'py>(py: Python<'py>, result: PyResult<Bound<'py, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    Ok(unless_it_must_wait(py, result)?.map(Bound::unbind))
}

fn receive(sock: &Bound<'_, PyAny>, n: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let py = sock.py();
    let name = intern!(py, "recv");
    // What is no such number is refused by the socket, in its own words.
    let (Some(fd), Some(size)) = (native_descriptor(sock, name, &imports(py)?.native_recv)?, number(n)) else {
        return ask(py, sock.call_method1(name, (n,)));
    };
    match filled_in_place(py, size, |memory| receive_raw(fd, memory, size))? {
        Ok(bytes) => Ok(Some(bytes.into_any().unbind())),
        Err(error) if must_wait(&error) => Ok(None),
        Err(error) => Err(os_error(py, &error)),
    }
}

fn receive_into(sock: &Bound<'_, PyAny>, buf: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let py = sock.py();
    let name = intern!(py, "recv_into");
    let (Some(fd), Ok(buffer)) =
        (native_descriptor(sock, name, &imports(py)?.native_recv_into)?, Buffer::writable(buf))
    else {
        return ask(py, sock.call_method1(name, (buf,)));
    };
    match receive_raw(fd, buffer.as_ptr(), buffer.len()) {
        Ok(count) => Ok(Some(PyInt::new(py, count).into_any().unbind())),
        Err(error) if must_wait(&error) => Ok(None),
        Err(error) => Err(os_error(py, &error)),
    }
}

/// Sends all of `data`, as `sock_sendall` does.
pub async fn send_all(core: Arc<Core>, sock: Py<PyAny>, data: Py<PyAny>) -> PyResult<Py<PyAny>> {
    // Held to the end: nobody can resize what is being sent.
    let data = Python::attach(|py| {
        check_socket(&core, sock.bind(py))?;
        Buffer::readable(data.bind(py))
    })?;
    let mut sent = 0;
    loop {
        // An empty datagram is one, so there is always a first attempt.
        sent += Python::attach(|py| send(sock.bind(py), &data, sent))?;
        if sent == data.len() {
            return Ok(Python::attach(|py| py.None()));
        }
        wait(&core, &sock, Direction::Write).await?;
    }
}

/// Sends what is left of `data` from `start`; returns how much of it went.
fn send(sock: &Bound<'_, PyAny>, data: &Buffer, start: usize) -> PyResult<usize> {
    let py = sock.py();
    let name = intern!(py, "send");
    let Some(fd) = native_descriptor(sock, name, &imports(py)?.native_send)? else {
        let sent = sock.call_method1(name, (data.view(py, start)?,));
        return unless_it_must_wait(py, sent)?.map_or(Ok(0), |sent| sent.extract());
    };
    match send_raw(fd, data, start) {
        Ok(count) => Ok(count),
        Err(error) if must_wait(&error) => Ok(0),
        Err(error) => Err(os_error(py, &error)),
    }
}

/// Connects `sock`, as `sock_connect` does.
///
/// # Errors
/// OSError with the errno, saying which address could not be reached.
pub async fn connect(core: &Arc<Core>, sock: Py<PyAny>, address: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let [family, kind, proto] = Python::attach(|py| {
        let sock = sock.bind(py);
        check_socket(core, sock)?;
        // `socket.socket` makes enums of two of them, in Python.
        let natively = sock.get_type().is(imports(py)?.socket.bind(py));
        let whole = if natively { PySuper::new(&sock.get_type(), sock)?.into_any() } else { sock.clone() };
        let number = |name| whole.getattr(name)?.extract::<i32>();
        PyResult::Ok([number(intern!(py, "family"))?, number(intern!(py, "type"))?, number(intern!(py, "proto"))?])
    })?;
    let address = if [libc::AF_INET, libc::AF_INET6].contains(&family) {
        let infos = ensure_resolved(core, address, family, kind, proto, 0).await?;
        Python::attach(|py| PyResult::Ok(infos.bind(py).get_item(0)?.get_item(4)?.unbind()))?
    } else {
        address
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = Python::attach(|py| begin_to_connect(sock.bind(py), address.bind(py)))?;
        if attempt {
            return Ok(Python::attach(|py| py.None()));
        }
        if family != libc::AF_UNIX {
            break;
        }
        // The listener's queue is full. Such a socket has not begun to connect, and nothing tells when it may.
        sleep(core, pause).await?;
        pause = (pause * 2).min(LAST_PAUSE);
    }
    if is_writable(Python::attach(|py| descriptor(sock.bind(py)))?) {
        // The peer is on this machine, as a database often is. (A failed attempt waits its turn, so that a program that
        // tries again and again lets others run.)
        return Ok(Python::attach(|py| py.None()));
    }
    wait(core, &sock, Direction::Write).await?;
    Python::attach(|py| {
        let fd = descriptor(sock.bind(py))?;
        match pending_error(fd).map_err(|error| os_error(py, &error))? {
            0 => Ok(py.None()),
            errno => {
                let message = format!("Connect call failed {}", address.bind(py).str()?);
                Err(PyOSError::new_err((errno, message)))
            }
        }
    })
}

/// True if the connection is there, false if it must be waited for.
fn begin_to_connect(sock: &Bound<'_, PyAny>, address: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = sock.py();
    let name = intern!(py, "connect");
    let natively = native_descriptor(sock, name, &imports(py)?.native_connect)?.is_some()
        && sock.call_method0(intern!(py, "gettimeout"))?.eq(0)?;
    if !natively {
        return Ok(unless_it_must_wait(py, sock.call_method1(name, (address,)))?.is_some());
    }
    // The same, but no exception to say that it must be waited for, as it nearly always must.
    match sock.call_method1(intern!(py, "connect_ex"), (address,))?.extract()? {
        0 => Ok(true),
        libc::EINPROGRESS | libc::EALREADY => Ok(false),
        errno => match io::Error::from_raw_os_error(errno) {
            error if must_wait(&error) => Ok(false),
            error => Err(os_error(py, &error)),
        },
    }
}

/// How long to wait before a full queue is tried again, in nanoseconds.
const FIRST_PAUSE: u64 = 1_000_000;
const LAST_PAUSE: u64 = 64_000_000;

// --- sockets -------------------------------------------------------------------------------------------------------

/// # Errors
/// TypeError for a TLS socket, whose records only its own methods understand; in debug mode ValueError for a socket
/// that blocks.
pub fn check_socket(core: &Core, sock: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = sock.py();
    if !sock.get_type().is(imports(py)?.socket.bind(py)) {
        check_plain_socket(sock)?;
    }
    if core.debug() && sock.call_method0(intern!(py, "gettimeout"))?.ne(0)? {
        return Err(PyValueError::new_err("the socket must be non-blocking"));
    }
    Ok(())
}

/// Waits until the socket has news.
///
/// # Errors
/// RuntimeError if a transport owns its descriptor.
async fn wait(core: &Arc<Core>, sock: &Py<PyAny>, direction: Direction) -> PyResult<()> {
    let fd = Python::attach(|py| {
        let fd = descriptor(sock.bind(py))?;
        core.loop_object(py)?.cast::<Loop>()?.get().check_no_transport(py, fd)?;
        PyResult::Ok(fd)
    })?;
    ready(core, fd, direction).await
}

/// The descriptor of a socket whose method `name` is CPython's own, `native`, so that a system call does the same; -1 if
/// it is closed, which the system call answers as the method would.
fn native_descriptor(
    sock: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    native: &Py<PyAny>,
) -> PyResult<Option<RawFd>> {
    let py = sock.py();
    let imports = imports(py)?;
    let class = sock.get_type();
    let inherits = class.is(imports.socket.bind(py)) || class.is_subclass(imports.native_socket.bind(py))?;
    if !inherits || !class.getattr(name)?.is(native) {
        return Ok(None);
    }
    sock.call_method0(intern!(py, "fileno"))?.extract().map(Some)
}

/// A size that can be asked for.
fn number(n: &Bound<'_, PyAny>) -> Option<usize> {
    n.cast_exact::<PyInt>().ok()?.extract::<isize>().ok()?.try_into().ok()
}

// --- system calls --------------------------------------------------------------------------------------------------

// A socket that blocks would stop the loop, so no call of ours ever does.
const RECEIVE_FLAGS: i32 = libc::MSG_DONTWAIT;
/// A peer that is gone is an error, not a SIGPIPE.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub const SEND_FLAGS: i32 = libc::MSG_DONTWAIT;

fn receive_raw(fd: RawFd, memory: *mut u8, size: usize) -> io::Result<usize> {
    // Nothing is asked for: as Python's sockets do, leave the kernel alone.
    if size == 0 {
        return Ok(0);
    }
    // SAFETY: the callers own that many bytes there, or hold the buffer that does.
    let count = unsafe { libc::recv(fd, memory.cast(), size, RECEIVE_FLAGS) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

fn send_raw(fd: RawFd, data: &Buffer, start: usize) -> io::Result<usize> {
    let start = start.min(data.len());
    // SAFETY: the buffer is held, and `start` lies in it. Other threads may write to it meanwhile; the kernel copies
    // whatever it finds.
    let count = unsafe { libc::send(fd, data.as_ptr().add(start).cast(), data.len() - start, SEND_FLAGS) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// `SO_ERROR`: how a connection attempt has ended; 0 if well.
fn pending_error(fd: RawFd) -> io::Result<i32> {
    let mut errno: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: room for one int, and its size.
    let outcome =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut errno).cast(), &raw mut size) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(errno) }
}

/// Whether a connection is there, and well: asking for it costs less than two changes of what epoll watches and a turn.
#[cfg(unix)]
fn is_writable(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, which lives until the call returns; it does not wait.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 1 && asked.revents == libc::POLLOUT }
}
