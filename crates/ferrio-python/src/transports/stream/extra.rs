//! What `get_extra_info` tells, made when it is asked for: addresses and the `socket.socket`.

use ferrio::poll::RawFd;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Socket, StreamTransport};
use crate::imports::imports;
use crate::transports::address::{KeptAddress, RawAddress};

impl StreamTransport {
    /// The descriptor, for who writes to it directly.
    ///
    /// # Errors
    /// ConnectionError if the connection is closed.
    pub fn open_descriptor(&self) -> PyResult<RawFd> {
        let state = self.state()?;
        if state.lost.get() || matches!(*state.socket.borrow(), Socket::Closed) {
            return Err(pyo3::exceptions::PyConnectionError::new_err("Connection is closed by peer"));
        }
        Ok(state.fd)
    }

    /// The dict of `get_extra_info`, if anything was remembered.
    pub(super) fn known_extra<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        Ok(self.state()?.rare(|rare| rare.extra.as_ref().map(|extra| extra.bind(py).clone())))
    }

    pub(super) fn extra<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.state()?;
        if let Some(extra) = self.known_extra(py)? {
            return Ok(extra);
        }
        // Making a dict may run the garbage collector, and that other code.
        let new = PyDict::new(py).unbind();
        Ok(state.with_rare(|rare| rare.extra.get_or_insert(new).bind(py).clone()))
    }

    /// Has both addresses outlive the descriptor, as the kernel wrote them where that will do: hardly anybody asks.
    pub(super) fn remember_addresses(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state()?;
        if let Some(own) = RawAddress::of_socket(state.fd).ok().filter(RawAddress::is_internet) {
            state.with_rare(|rare| rare.own = Some(KeptAddress::from(&own)));
            return Ok(());
        }
        for name in [intern!(py, "sockname"), intern!(py, "peername")] {
            self.address(py, name)?;
        }
        Ok(())
    }

    /// "sockname" or "peername", remembered.
    pub(super) fn address<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, pyo3::types::PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let extra = self.extra(py)?;
        if let Some(known) = extra.get_item(name)? {
            return Ok(known);
        }
        let state = self.state()?;
        let is_peer = name.to_cow()? == "peername";
        let is_open = !matches!(*state.socket.borrow(), Socket::Closed);
        let raw = if is_peer {
            state.peer.borrow_mut().take().as_ref().map(RawAddress::from)
        } else if is_open {
            RawAddress::of_socket(state.fd).ok()
        } else {
            state.take_rare(|rare| &mut rare.own).as_ref().map(RawAddress::from)
        };
        let address = match raw {
            None => py.None().into_bound(py),
            Some(raw) => match raw.to_python(py)? {
                Some(address) => address,
                // A family that only Python's socket module can spell.
                None => {
                    let method = if is_peer { intern!(py, "getpeername") } else { intern!(py, "getsockname") };
                    self.python_socket(py)?.call_method0(method)?
                }
            },
        };
        extra.set_item(name, &address)?;
        Ok(address)
    }

    /// The `socket.socket`, made now if the connection was accepted natively; it owns the descriptor from then on.
    pub(super) fn python_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.state()?;
        if let Socket::Python(socket) = &*state.socket.borrow() {
            return Ok(socket.bind(py).clone());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "fileno"), state.fd)?;
        let socket = imports(py)?.socket.bind(py).call((), Some(&keywords))?;
        socket.call_method1(intern!(py, "setblocking"), (false,))?;
        let former = state.socket.replace(Socket::Python(socket.clone().unbind()));
        if let Socket::Ours(fd) = former {
            std::mem::forget(fd);
        }
        Ok(socket)
    }
}
