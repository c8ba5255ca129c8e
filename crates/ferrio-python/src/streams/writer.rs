//! `StreamWriter`: what a coroutine writes to.

use std::mem;

use pyo3::exceptions::PyAssertionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::attributes::references;
use super::flow::FlowControl;
use super::inherited::has_from;
use super::reader::StreamReader;
use super::transport;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{fastcall, install, install_noargs, noargs};
use crate::imports::imports;

/// The native half of `ferrio.StreamWriter`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct StreamWriter {
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    transport: Option<Py<PyAny>>,
    protocol: Option<Py<PyAny>>,
    reader: Option<Py<PyAny>>,
    the_loop: Option<Py<PyAny>>,
    /// The reader's `exception` is the native one.
    is_reader_plain: bool,
}

impl StreamWriter {
    fn object<'py>(&self, py: Python<'py>, field: impl FnOnce(&State) -> &Option<Py<PyAny>>) -> Bound<'py, PyAny> {
        let object = self.state.with(py, |state| field(state).as_ref().map(|object| object.clone_ref(py)));
        object.unwrap_or_else(|| py.None()).into_bound(py)
    }

    #[inline]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.object(py, |state| &state.transport)
    }

    /// Whether `drain()` has nothing to wait for.
    ///
    /// # Errors
    /// The reader's exception; ConnectionResetError once the connection is lost.
    fn is_drained(&self, py: Python<'_>) -> PyResult<bool> {
        let is_reader_plain = self.state.with(py, |state| state.is_reader_plain);
        let reader = self.object(py, |state| &state.reader);
        if is_reader_plain {
            // SAFETY: a plain reader is a native one.
            unsafe { reader.cast_unchecked::<StreamReader>() }.get().check(py)?;
        } else if !reader.is_none() {
            let exception = reader.call_method0(intern!(py, "exception"))?;
            if !exception.is_none() {
                return Err(PyErr::from_value(exception));
            }
        }
        if transport::is_closing(&self.transport(py))? {
            return Ok(false);
        }
        match self.object(py, |state| &state.protocol).cast::<FlowControl>() {
            Ok(flow) if flow.get().is_plain(py) => flow.get().has_room(py),
            _ => Ok(false),
        }
    }
}

/// The methods that are called all the time.
pub(super) fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<StreamWriter>();
    install(
        &class,
        c"write",
        c"write($self, data)\n--\n\nWrite data (bytes-like). Never blocks: await drain() after it.",
        fastcall!(StreamWriter, |writer, arguments| {
            let py = writer.py();
            let data = arguments.only("write", "data")?;
            transport::write(&writer.get().transport(py), &data)?;
            Ok(py.None().into_bound(py))
        }),
    )?;
    install_noargs(
        &class,
        c"_is_drained",
        c"",
        noargs!(StreamWriter, |writer| {
            Ok(PyBool::new(writer.py(), writer.get().is_drained(writer.py())?).to_owned().into_any())
        }),
    )?;
    install_noargs(
        &class,
        c"is_closing",
        c"is_closing($self, /)\n--\n\nWhether the transport is closed or being closed.",
        noargs!(StreamWriter, |writer| {
            let is_closing = transport::is_closing(&writer.get().transport(writer.py()))?;
            Ok(PyBool::new(writer.py(), is_closing).to_owned().into_any())
        }),
    )
}

references!(StreamWriter {
    _transport / replace_transport: transport,
    _protocol / replace_protocol: protocol,
    _loop / replace_loop: the_loop,
});

#[pymethods]
impl StreamWriter {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        StreamWriter { state: Guarded::default() }
    }

    fn __init__(
        &self,
        transport: Bound<'_, PyAny>,
        protocol: Bound<'_, PyAny>,
        reader: Option<Bound<'_, PyAny>>,
        r#loop: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = transport.py();
        let new = State {
            transport: Some(transport.unbind()),
            protocol: Some(protocol.unbind()),
            the_loop: Some(r#loop.unbind()),
            ..State::default()
        };
        self.state.put(py, |state| state, new);
        if let Some(reader) = &reader
            && !reader.is_instance(imports(py)?.stream_reader.bind(py))?
        {
            return Err(PyAssertionError::new_err(()));
        }
        self.set_reader(py, reader)
    }

    #[getter(_reader)]
    fn get_reader<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.object(py, |state| &state.reader)
    }

    #[setter(_reader)]
    fn set_reader(&self, py: Python<'_>, reader: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let is_plain = match &reader {
            Some(reader) => has_from::<StreamReader>(reader, intern!(py, "exception"))?,
            None => false,
        };
        let former = self.state.with(py, |state| {
            state.is_reader_plain = is_plain;
            mem::replace(&mut state.reader, reader.map(Bound::unbind))
        });
        drop(former);
        Ok(())
    }

    /// A future that is done.
    #[getter]
    fn _complete_fut<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let complete = self.object(py, |state| &state.the_loop).call_method0(intern!(py, "create_future"))?;
        complete.call_method1(intern!(py, "set_result"), (py.None(),))?;
        Ok(complete)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit_all = |state: &State| {
            [&state.transport, &state.protocol, &state.reader, &state.the_loop]
                .into_iter()
                .flatten()
                .try_for_each(|object| visit.call(object))
        };
        self.state.for_collector(visit_all).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.take());
    }
}
