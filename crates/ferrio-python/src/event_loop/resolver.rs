//! Names and addresses: `getaddrinfo`, `getnameinfo`.
//!
//! What needs no name server is answered at once; names are looked up by the C library in a thread of the default
//! executor, because it knows how this machine wants it done (nsswitch, mDNS, LDAP, …).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PySlice, PyString, PyTuple};

use super::Loop;
use crate::awaitable::{awaitable, python};
use crate::core::Core;
use crate::imports::imports;

#[pymethods]
impl Loop {
    /// Like socket.getaddrinfo(), without blocking the loop.
    #[pyo3(
        signature = (host, port, *, family=None, r#type=None, proto=None, flags=None),
        text_signature = "($self, host, port, *, family=0, type=0, proto=0, flags=0)"
    )]
    fn getaddrinfo<'py>(
        this: &Bound<'py, Self>,
        host: Py<PyAny>,
        port: Py<PyAny>,
        family: Option<Py<PyAny>>,
        r#type: Option<Py<PyAny>>,
        proto: Option<Py<PyAny>>,
        flags: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let operation = async move {
            let answer = Python::attach(|py| {
                let numbers = [&family, &r#type, &proto, &flags];
                let plain = if core.debug() { None } else { plain_answer(host.bind(py), port.bind(py), numbers)? };
                if let Some(answer) = plain {
                    return Ok(Answer::Here(answer));
                }
                let zero = || PyInt::new(py, 0).into_any().unbind();
                let at_once = is_answered_at_once(host.bind(py), port.bind(py));
                let [family, kind, proto, flags] = [family, r#type, proto, flags].map(|n| n.unwrap_or_else(zero));
                let arguments = PyTuple::new(py, [host, port, family, kind, proto, flags])?;
                let function = if core.debug() {
                    let helpers = imports(py)?.helpers.bind(py);
                    helpers.call_method1(intern!(py, "timed_getaddrinfo"), (core.loop_object(py)?,))?
                } else {
                    py.import(intern!(py, "socket"))?.getattr(intern!(py, "getaddrinfo"))?
                };
                look_up(&core, function, arguments, at_once)
            })?;
            answer.get(&core).await
        };
        awaitable(this, &this.get().core, "Loop.getaddrinfo", operation)
    }

    /// Like socket.getnameinfo(), without blocking the loop.
    #[pyo3(signature = (sockaddr, flags=None), text_signature = "($self, sockaddr, flags=0)")]
    fn getnameinfo<'py>(
        this: &Bound<'py, Self>,
        sockaddr: Py<PyAny>,
        flags: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let core = this.get().core.clone();
        let operation = async move {
            let answer = Python::attach(|py| {
                let flags = flags.unwrap_or_else(|| PyInt::new(py, 0).into_any().unbind());
                let socket = py.import(intern!(py, "socket"))?;
                let numeric: i64 = socket.getattr(intern!(py, "NI_NUMERICHOST"))?.extract()?;
                let numeric = numeric | socket.getattr(intern!(py, "NI_NUMERICSERV"))?.extract::<i64>()?;
                let at_once = flags.extract::<i64>(py).is_ok_and(|flags| flags & numeric == numeric);
                let function = socket.getattr(intern!(py, "getnameinfo"))?;
                look_up(&core, function, PyTuple::new(py, [sockaddr, flags])?, at_once)
            })?;
            answer.get(&core).await
        };
        awaitable(this, &this.get().core, "Loop.getnameinfo", operation)
    }
}

/// What an answer for an IPv4 address consists of, as Python's `socket` module gives it.
struct Plain {
    module: Py<PyModule>,
    /// Nobody has put another function into its place at first.
    getaddrinfo: Py<PyAny>,
    inet: Py<PyAny>,
    stream: Py<PyAny>,
    datagram: Py<PyAny>,
}

static PLAIN: PyOnceLock<Option<Plain>> = PyOnceLock::new();

/// `socket.getaddrinfo()` for an IPv4 address in text, a port number, one kind of socket and no flags, of which it takes
/// 3 us to find out nothing; `None` for everything else. `numbers` are family, type, proto and flags.
fn plain_answer(
    host: &Bound<'_, PyAny>,
    port: &Bound<'_, PyAny>,
    numbers: [&Option<Py<PyAny>>; 4],
) -> PyResult<Option<Py<PyAny>>> {
    let py = host.py();
    let number = |number: &Option<Py<PyAny>>| number.as_ref().map_or(Some(0), |number| number.extract::<i32>(py).ok());
    let [Some(libc::AF_UNSPEC | libc::AF_INET), Some(kind), Some(proto), Some(0)] = numbers.map(number) else {
        return Ok(None);
    };
    let is_plain = host.is_exact_instance_of::<PyString>()
        && matches!(numeric_host(host), Some(Host::V4))
        && port.is_exact_instance_of::<PyInt>()
        && port.extract::<u16>().is_ok();
    let plain = PLAIN.get_or_try_init(py, || Plain::find(py))?;
    let Some(plain) = plain.as_ref().filter(|_| is_plain) else { return Ok(None) };
    let (kind, protocol) = match kind {
        libc::SOCK_STREAM => (&plain.stream, libc::IPPROTO_TCP),
        libc::SOCK_DGRAM => (&plain.datagram, libc::IPPROTO_UDP),
        _ => return Ok(None),
    };
    let function = plain.module.bind(py).getattr(intern!(py, "getaddrinfo"))?;
    if ![0, protocol].contains(&proto) || !function.is(&plain.getaddrinfo) {
        return Ok(None);
    }
    let info = (&plain.inet, kind, protocol, intern!(py, ""), (host, port)).into_pyobject(py)?;
    Ok(Some(PyList::new(py, [info])?.into_any().unbind()))
}

impl Plain {
    fn find(py: Python<'_>) -> PyResult<Option<Plain>> {
        let socket = py.import(intern!(py, "socket"))?;
        let get = |name: &str| socket.getattr(name).map(Bound::unbind);
        let getaddrinfo = get("getaddrinfo")?;
        let is_its_own = getaddrinfo.bind(py).getattr("__globals__").is_ok_and(|globals| globals.is(socket.dict()));
        let [inet, stream, datagram] = [get("AF_INET")?, get("SOCK_STREAM")?, get("SOCK_DGRAM")?];
        let module = socket.clone().unbind();
        Ok(is_its_own.then_some(Plain { module, getaddrinfo, inet, stream, datagram }))
    }
}

/// A question to the C library: answered, or asked in a thread.
enum Answer {
    Here(Py<PyAny>),
    Later(Py<PyAny>),
}

impl Answer {
    async fn get(self, core: &Arc<Core>) -> PyResult<Py<PyAny>> {
        match self {
            Answer::Here(answer) => Ok(answer),
            Answer::Later(future) => python(core, future).await,
        }
    }
}

fn look_up<'py>(
    core: &Core,
    function: Bound<'py, PyAny>,
    arguments: Bound<'py, PyTuple>,
    at_once: bool,
) -> PyResult<Answer> {
    let py = function.py();
    if at_once {
        return Ok(Answer::Here(function.call1(arguments)?.unbind()));
    }
    let in_executor = PyList::new(py, [py.None().into_bound(py), function])?;
    in_executor.call_method1(intern!(py, "extend"), (arguments,))?;
    let future = core.loop_object(py)?.call_method1(intern!(py, "run_in_executor"), in_executor.to_tuple())?;
    Ok(Answer::Later(future.unbind()))
}

/// The addresses of `address` (host, port, …) as `getaddrinfo` lists them: a list of
/// (family, type, proto, canonical name, address), never empty.
///
/// An address that is one already is not looked up; anything else goes through the loop's own `getaddrinfo`, which
/// users may have replaced.
///
/// # Errors
/// `getaddrinfo`'s; OSError if it returns nothing.
pub async fn ensure_resolved(
    core: &Arc<Core>,
    address: Py<PyAny>,
    family: i32,
    kind: i32,
    proto: i32,
    flags: i32,
) -> PyResult<Py<PyAny>> {
    let asked = Python::attach(|py| {
        let address = address.bind(py);
        let (host, port) = host_and_port(address)?;
        if let Some(info) = numeric_info(address, &host, &port, family, kind, proto)? {
            return Ok(Answer::Here(PyList::new(py, [info])?.into_any().unbind()));
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "family"), family)?;
        keywords.set_item(intern!(py, "type"), kind)?;
        keywords.set_item(intern!(py, "proto"), proto)?;
        keywords.set_item(intern!(py, "flags"), flags)?;
        let the_loop = core.loop_object(py)?;
        let future = the_loop.call_method(intern!(py, "getaddrinfo"), (host, port), Some(&keywords))?;
        PyResult::Ok(Answer::Later(future.unbind()))
    })?;
    let infos = asked.get(core).await?;
    Python::attach(|py| {
        if infos.bind(py).is_truthy()? {
            Ok(infos)
        } else {
            Err(PyOSError::new_err("getaddrinfo() returned empty list"))
        }
    })
}

/// The first two of an address's items.
fn host_and_port<'py>(address: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = address.py();
    if address.len()? > 4 {
        return Err(PyTypeError::new_err(format!("an address has 2 to 4 items, not {}", address.repr()?)));
    }
    let pair = address.get_item(PySlice::new(py, 0, 2, 1))?;
    let mut pair = pair.try_iter()?;
    let too_short = |got| PyValueError::new_err(format!("not enough values to unpack (expected 2, got {got})"));
    let host = pair.next().ok_or_else(|| too_short(0))??;
    let port = pair.next().ok_or_else(|| too_short(1))??;
    Ok((host, port))
}

/// `numeric_info(address, family, proto)`: what `getaddrinfo` would say about the address (host, port, ...) of a stream
/// socket if host and port are numbers already; None if it must be asked.
#[pyfunction(name = "numeric_info")]
#[pyo3(signature = (address, family, proto, /))]
pub fn numeric_stream_info<'py>(
    address: &Bound<'py, PyAny>,
    family: i32,
    proto: i32,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let (host, port) = host_and_port(address)?;
    let info = numeric_info(address, &host, &port, family, libc::SOCK_STREAM, proto)?;
    // What cannot even be asked: in the words of inet_pton().
    let text = host.cast::<PyString>().ok().and_then(|host| host.to_str().ok());
    if info.is_none() && text.is_some_and(|text| text.contains('\0')) {
        return Err(PyValueError::new_err("embedded null character"));
    }
    Ok(info)
}

/// The same for any kind of socket.
fn numeric_info<'py>(
    address: &Bound<'py, PyAny>,
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    family: i32,
    kind: i32,
    proto: i32,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = address.py();
    if ![0, libc::IPPROTO_TCP, libc::IPPROTO_UDP].contains(&proto) {
        return Ok(None);
    }
    let proto = match kind {
        libc::SOCK_STREAM => libc::IPPROTO_TCP,
        libc::SOCK_DGRAM => libc::IPPROTO_UDP,
        _ => return Ok(None),
    };
    let (Some(number), Some(port)) = (numeric_host(host), numeric_port(port)) else { return Ok(None) };
    let text = number.to_text(host)?;
    match number {
        // A zone must be looked up: it is a number in the address and a name in the text.
        Host::V6 { zone: false } if [libc::AF_UNSPEC, libc::AF_INET6].contains(&family) => {
            let rest = address.get_item(PySlice::new(py, 2, isize::MAX, 1))?;
            let rest = rest.try_iter()?.collect::<PyResult<Vec<_>>>()?;
            let zero = PyInt::new(py, 0).into_any();
            let item = |index: usize| rest.get(index).unwrap_or(&zero).clone();
            let address = (text, port, item(0), item(1));
            (libc::AF_INET6, kind, proto, "", address).into_pyobject(py).map(Some)
        }
        Host::V4 if [libc::AF_UNSPEC, libc::AF_INET].contains(&family) => {
            (libc::AF_INET, kind, proto, "", (text, port)).into_pyobject(py).map(Some)
        }
        _ => Ok(None),
    }
}

/// A host that is an address.
#[derive(Clone, Copy)]
enum Host {
    V4,
    V6 { zone: bool },
}

impl Host {
    /// The same as a string.
    fn to_text<'py>(self, host: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match host.cast::<PyBytes>() {
            Ok(bytes) => Ok(PyString::from_bytes(host.py(), bytes.as_bytes())?.into_any()),
            Err(_) => Ok(host.clone()),
        }
    }
}

/// What kind of address a string or bytes object is, if it is one.
fn numeric_host(host: &Bound<'_, PyAny>) -> Option<Host> {
    let text = match host.cast::<PyBytes>() {
        Ok(bytes) => std::str::from_utf8(bytes.as_bytes()).ok()?,
        Err(_) => host.cast::<PyString>().ok()?.to_str().ok()?,
    };
    if text.parse::<Ipv4Addr>().is_ok() {
        return Some(Host::V4);
    }
    let (address, zone) = match text.split_once('%') {
        Some((address, _)) => (address, true),
        None => (text, false),
    };
    address.parse::<Ipv6Addr>().is_ok().then_some(Host::V6 { zone })
}

/// The number of a port; `None` if it is the name of a service.
fn numeric_port<'py>(port: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = port.py();
    if port.is_exact_instance_of::<PyInt>() {
        return Some(port.clone());
    }
    let is_empty =
        || matches!(port.len(), Ok(0)) && (port.is_instance_of::<PyString>() || port.is_instance_of::<PyBytes>());
    if port.is_none() || is_empty() {
        return Some(PyInt::new(py, 0).into_any());
    }
    py.get_type::<PyInt>().call1((port,)).ok()
}

/// Whether the C library can tell the address without asking anybody.
fn is_answered_at_once(host: &Bound<'_, PyAny>, port: &Bound<'_, PyAny>) -> bool {
    (host.is_none() || numeric_host(host).is_some()) && numeric_port(port).is_some()
}
