//! `connect_read_pipe` and `connect_write_pipe`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use pyo3::intern;
use pyo3::prelude::*;

use super::Loop;
use crate::awaitable::{awaitable, suspended};
use crate::core::Core;
use crate::ffi::error::aside;
use crate::imports::imports;
use crate::transports::pipe::{ReadPipe, WritePipe};

#[pymethods]
impl Loop {
    /// Read the end of a pipe, a socket or a terminal, given as a file object, which the transport closes.
    ///
    /// Returns (transport, protocol).
    fn connect_read_pipe<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        pipe: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        connect(this, "Loop.connect_read_pipe", protocol_factory, pipe, ReadPipe::start, ReadPipe::poll_made)
    }

    /// Write to the end of a pipe, a socket or a terminal, given as a file object, which the transport closes.
    ///
    /// Returns (transport, protocol).
    fn connect_write_pipe<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        pipe: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        connect(this, "Loop.connect_write_pipe", protocol_factory, pipe, WritePipe::start, WritePipe::poll_made)
    }
}

type Start<T> =
    for<'py> fn(&Bound<'py, PyAny>, &Arc<Core>, &Bound<'py, PyAny>, Bound<'py, PyAny>) -> PyResult<Bound<'py, T>>;

fn connect<'py, T>(
    this: &Bound<'py, Loop>,
    name: &'static str,
    protocol_factory: Py<PyAny>,
    pipe: Py<PyAny>,
    start: Start<T>,
    poll_made: fn(&T, &Waker) -> Poll<PyResult<()>>,
) -> PyResult<Bound<'py, PyAny>>
where
    T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync,
{
    let core = this.get().core.clone();
    let the_loop = this.clone().into_any().unbind();
    awaitable(this.as_any(), &this.get().core, name, async move {
        let (transport, protocol) = Python::attach(|py| {
            core.check_closed()?;
            let protocol = protocol_factory.bind(py).call0()?;
            let transport = start(the_loop.bind(py), &core, pipe.bind(py), protocol.clone())?;
            Ok::<_, PyErr>((transport.unbind(), protocol.unbind()))
        })?;
        let mut guard = CloseUnlessKept(Some(transport));
        if let CloseUnlessKept(Some(transport)) = &guard {
            suspended(&core, poll_fn(|cx| poll_made(transport.get(), cx.waker()))).await?;
        }
        Python::attach(|py| {
            let transport = guard.0.take();
            if core.debug() {
                let logger = imports(py)?.helpers.bind(py).getattr(intern!(py, "logger"))?;
                let kind = if name.contains("read") { "Read" } else { "Write" };
                let number = pipe.call_method0(py, intern!(py, "fileno"))?;
                let text = format!("{kind} pipe %r connected: (%r, %r)");
                logger.call_method1("debug", (text, number, &transport, &protocol))?;
            }
            Ok((transport, protocol).into_pyobject(py)?.into_any().unbind())
        })
    })
}

/// Closes the transport if the connecting is cancelled.
struct CloseUnlessKept<T>(Option<Py<T>>);

impl<T> Drop for CloseUnlessKept<T> {
    fn drop(&mut self) {
        if let Some(transport) = self.0.take() {
            aside(|py| {
                if let Err(error) = transport.call_method0(py, intern!(py, "close")) {
                    error.write_unraisable(py, Some(transport.bind(py).as_any()));
                }
            });
        }
    }
}
