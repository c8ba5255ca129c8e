//! `create_datagram_endpoint`: UDP and Unix datagrams.
//!
//! What is checked and in which order follows CPython's `base_events.BaseEventLoop`.

use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::Loop;
use super::connections::CloseUnlessKept;
use super::resolver::ensure_resolved;
use super::sockets::connect;
use crate::awaitable::{awaitable, python};
use crate::core::{Core, new_future};
use crate::imports::imports;
use crate::transports::datagram::DatagramTransport;

#[pymethods]
impl Loop {
    /// Open a datagram socket bound to local_addr, sending to remote_addr (or use the socket sock) and talk over it
    /// with a protocol. Returns (transport, protocol).
    #[pyo3(signature = (
        protocol_factory, local_addr=None, remote_addr=None, *, family=0, proto=0, flags=0, reuse_port=None,
        allow_broadcast=None, sock=None
    ))]
    #[allow(clippy::too_many_arguments)] // asyncio's signature
    fn create_datagram_endpoint<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        local_addr: Option<Py<PyAny>>,
        remote_addr: Option<Py<PyAny>>,
        family: i32,
        proto: i32,
        flags: i32,
        reuse_port: Option<Py<PyAny>>,
        allow_broadcast: Option<Py<PyAny>>,
        sock: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let the_loop = this.clone().into_any().unbind();
        let wish = Wish { local_addr, remote_addr, family, proto, flags, reuse_port, allow_broadcast };
        awaitable(this.as_any(), &this.get().core, "Loop.create_datagram_endpoint", async move {
            let opened = match sock {
                Some(sock) => {
                    Python::attach(|py| use_socket(sock.bind(py), &wish))?;
                    Opened { socket: sock, guard: CloseUnlessKept(None), remote: None }
                }
                None => open(&core, &wish).await?,
            };
            endpoint(&core, the_loop, protocol_factory, opened, &wish).await
        })
    }
}

/// What was asked for.
struct Wish {
    local_addr: Option<Py<PyAny>>,
    remote_addr: Option<Py<PyAny>>,
    family: i32,
    proto: i32,
    flags: i32,
    reuse_port: Option<Py<PyAny>>,
    allow_broadcast: Option<Py<PyAny>>,
}

impl Wish {
    fn has(py: Python<'_>, option: &Option<Py<PyAny>>) -> PyResult<bool> {
        option.as_ref().map_or(Ok(false), |option| option.bind(py).is_truthy())
    }
}

/// A socket for the transport.
struct Opened {
    socket: Py<PyAny>,
    /// Closes it if it is of our making, unless a transport takes it over.
    guard: CloseUnlessKept,
    /// Where datagrams go to.
    remote: Option<Py<PyAny>>,
}

/// The user's own socket.
fn use_socket(sock: &Bound<'_, PyAny>, wish: &Wish) -> PyResult<()> {
    let py = sock.py();
    let kind: i32 = sock.getattr(intern!(py, "type"))?.extract()?;
    // Until 3.11.9 and 3.12.3 only SOCK_DGRAM was let in.
    let version = py.version_info();
    let only_udp = version < (3, 11, 9) || (version >= (3, 12) && version < (3, 12, 3));
    if only_udp && kind != libc::SOCK_DGRAM {
        return Err(PyValueError::new_err(format!("A UDP Socket was expected, got {}", sock.repr()?)));
    }
    if kind == libc::SOCK_STREAM {
        return Err(PyValueError::new_err(format!("A datagram socket was expected, got {}", sock.repr()?)));
    }
    let options = PyDict::new(py);
    options.set_item("local_addr", &wish.local_addr)?;
    options.set_item("remote_addr", &wish.remote_addr)?;
    options.set_item("family", wish.family)?;
    options.set_item("proto", wish.proto)?;
    options.set_item("flags", wish.flags)?;
    options.set_item("reuse_port", &wish.reuse_port)?;
    options.set_item("allow_broadcast", &wish.allow_broadcast)?;
    let mut problems = Vec::new();
    for (name, value) in options {
        if value.is_truthy()? {
            problems.push(format!("{}={}", name.str()?, value.str()?));
        }
    }
    if !problems.is_empty() {
        return Err(PyValueError::new_err(format!(
            "socket modifier keyword arguments can not be used when sock is specified. ({})",
            problems.join(", ")
        )));
    }
    sock.call_method1(intern!(py, "setblocking"), (false,)).map(drop)
}

/// A socket to make: family, protocol, and the addresses of this and the other end.
struct Candidate {
    family: i32,
    proto: i32,
    local: Option<Py<PyAny>>,
    remote: Option<Py<PyAny>>,
}

/// Opens the first socket that can be.
async fn open(core: &Arc<Core>, wish: &Wish) -> PyResult<Opened> {
    let [has_local, has_remote, reuse_port, broadcast] = Python::attach(|py| {
        let has = |option| Wish::has(py, option);
        PyResult::Ok([
            has(&wish.local_addr)?,
            has(&wish.remote_addr)?,
            has(&wish.reuse_port)?,
            has(&wish.allow_broadcast)?,
        ])
    })?;
    let candidates = if !has_local && !has_remote {
        if wish.family == libc::AF_UNSPEC {
            return Err(PyValueError::new_err("unexpected address family"));
        }
        vec![Candidate { family: wish.family, proto: wish.proto, local: None, remote: None }]
    } else if wish.family == libc::AF_UNIX {
        vec![Python::attach(|py| unix_candidate(py, wish))?]
    } else {
        resolve(core, wish, has_local, has_remote).await?
    };

    let mut first_error = None;
    for candidate in candidates {
        let opened = Python::attach(|py| make_socket(py, &candidate, reuse_port, broadcast, has_local));
        let outcome = match (opened, candidate.remote.filter(|_| has_remote)) {
            (Ok(opened), Some(remote)) => aim(core, opened, remote, !broadcast).await,
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(opened) => return Ok(opened),
            Err(error) if Python::attach(|py| error.is_instance_of::<PyOSError>(py)) => {
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first_error.unwrap_or_else(|| PyValueError::new_err("can not get address information")))
}

/// Has all datagrams go to `remote`; the kernel then tells of its errors, unless it is not to be connected.
async fn aim(core: &Arc<Core>, opened: Opened, remote: Py<PyAny>, connected: bool) -> PyResult<Opened> {
    if connected {
        let (socket, remote) = Python::attach(|py| (opened.socket.clone_ref(py), remote.clone_ref(py)));
        connect(core, socket, remote).await?;
    }
    Ok(Opened { remote: Some(remote), ..opened })
}

/// Unix addresses are paths. A socket file that nobody listens to any more is removed.
fn unix_candidate(py: Python<'_>, wish: &Wish) -> PyResult<Candidate> {
    for address in [&wish.local_addr, &wish.remote_addr].into_iter().flatten() {
        if !address.bind(py).is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("string is expected"));
        }
    }
    if let Some(local) = &wish.local_addr
        && local.bind(py).is_truthy()?
    {
        imports(py)?.helpers.bind(py).call_method1(intern!(py, "remove_stale_socket"), (local,))?;
    }
    let [local, remote] =
        [&wish.local_addr, &wish.remote_addr].map(|address| address.as_ref().map(|a| a.clone_ref(py)));
    Ok(Candidate { family: wish.family, proto: wish.proto, local, remote })
}

/// Every (family, protocol) in which all the addresses that were given exist.
async fn resolve(core: &Arc<Core>, wish: &Wish, has_local: bool, has_remote: bool) -> PyResult<Vec<Candidate>> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for (address, is_local) in [(&wish.local_addr, true), (&wish.remote_addr, false)] {
        let Some(address) = address else { continue };
        let address = Python::attach(|py| {
            let pair = address.bind(py).cast::<PyTuple>().ok().filter(|pair| pair.len() == 2);
            let pair = pair.ok_or_else(|| PyTypeError::new_err("2-tuple is expected"))?;
            PyResult::Ok(pair.clone().into_any().unbind())
        })?;
        let infos = ensure_resolved(core, address, wish.family, libc::SOCK_DGRAM, wish.proto, wish.flags).await?;
        Python::attach(|py| {
            for info in infos.bind(py).try_iter()? {
                let (family, _, proto, _, address): (i32, Py<PyAny>, i32, Py<PyAny>, Py<PyAny>) = info?.extract()?;
                let known = candidates.iter().position(|known| (known.family, known.proto) == (family, proto));
                let index = known.unwrap_or_else(|| {
                    candidates.push(Candidate { family, proto, local: None, remote: None });
                    candidates.len() - 1
                });
                let end = &mut candidates[index];
                *(if is_local { &mut end.local } else { &mut end.remote }) = Some(address);
            }
            PyResult::Ok(())
        })?;
    }
    candidates.retain(|found| !(has_local && found.local.is_none() || has_remote && found.remote.is_none()));
    if candidates.is_empty() {
        return Err(PyValueError::new_err("can not get address information"));
    }
    Ok(candidates)
}

/// A non-blocking socket with its options set, bound to the candidate's own end.
fn make_socket(
    py: Python<'_>,
    candidate: &Candidate,
    reuse_port: bool,
    broadcast: bool,
    bind: bool,
) -> PyResult<Opened> {
    let arguments = (candidate.family, libc::SOCK_DGRAM, candidate.proto);
    let socket = imports(py)?.socket.bind(py).call1(arguments)?;
    let guard = CloseUnlessKept(Some(socket.clone().unbind()));
    let opened = Opened { socket: socket.clone().unbind(), guard, remote: None };
    let set = |option: libc::c_int| socket.call_method1(intern!(py, "setsockopt"), (libc::SOL_SOCKET, option, 1));
    if reuse_port {
        set(libc::SO_REUSEPORT).map_err(|error| {
            let refused = "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented.";
            if error.is_instance_of::<PyOSError>(py) { PyValueError::new_err(refused) } else { error }
        })?;
    }
    if broadcast {
        set(libc::SO_BROADCAST)?;
    }
    socket.call_method1(intern!(py, "setblocking"), (false,))?;
    if let (Some(local), true) = (&candidate.local, bind) {
        socket.call_method1(intern!(py, "bind"), (local,))?;
    }
    Ok(opened)
}

/// A transport and a protocol over the socket: waits for `connection_made`.
async fn endpoint(
    core: &Arc<Core>,
    the_loop: Py<PyAny>,
    protocol_factory: Py<PyAny>,
    mut opened: Opened,
    wish: &Wish,
) -> PyResult<Py<PyAny>> {
    let (transport, protocol, waiter) = Python::attach(|py| -> PyResult<_> {
        let the_loop = the_loop.bind(py);
        let protocol = protocol_factory.bind(py).call0()?;
        let waiter = new_future(py, the_loop)?;
        let remote = opened.remote.take().map(|remote| remote.into_bound(py));
        let socket = opened.socket.bind(py);
        let transport = DatagramTransport::start(the_loop, core, socket, protocol.clone(), remote, waiter.clone())?;
        // The transport closes it from here on.
        drop(opened.guard.0.take());
        if core.debug() {
            let arguments = (&wish.local_addr, &wish.remote_addr, &transport, &protocol);
            imports(py)?.helpers.bind(py).call_method1(intern!(py, "log_datagram_endpoint"), arguments)?;
        }
        Ok((transport.into_any().unbind(), protocol.unbind(), waiter.unbind()))
    })?;
    let mut guard = CloseUnlessKept(Some(transport));
    python(core, waiter).await?;
    let transport = guard.0.take();
    Python::attach(|py| Ok((transport, protocol).into_pyobject(py)?.into_any().unbind()))
}
