//! `StreamReaderProtocol`: what stands between a transport and a `StreamReader`.

use std::mem;

use pyo3::PyClassInitializer;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyWeakref, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use super::attributes::{flags, references};
use super::flow::{FlowControl, loop_or_current};
use super::inherited::has_from;
use super::reader::StreamReader;
use super::settle;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{install_noargs, install_onearg, noargs, onearg};

/// The native half of `ferrio.StreamReaderProtocol`.
#[pyclass(extends = FlowControl, subclass, frozen, module = "ferrio._ferrio")]
pub struct StreamReaderProtocol {
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    /// Weak: a connection whose reader nobody has any more is not kept alive by it.
    reader: Option<Py<PyWeakref>>,
    /// Until a server's callback has it.
    strong_reader: Option<Py<PyAny>>,
    /// The reader's `feed_data` is the native one.
    is_reader_plain: bool,
    client_connected: Option<Py<PyAny>>,
    transport: Option<Py<PyAny>>,
    /// The server's callback, if it is a coroutine.
    task: Option<Py<PyAny>>,
    /// Before 3.13 a server's writer lives as long as its connection.
    stream_writer: Option<Py<PyAny>>,
    reject_connection: bool,
    over_ssl: bool,
    /// A subclass may have a `data_received` of its own.
    is_plain: bool,
    /// What `wait_closed()` waits for: made when it is asked for.
    closed: Option<Py<PyAny>>,
    is_lost: bool,
    /// Why the connection was lost, if not orderly.
    reason: Option<Py<PyAny>>,
}

// With `FlowControl`'s and the object around it 160 bytes: a server has one for each connection.
#[cfg(all(target_pointer_width = "64", not(Py_GIL_DISABLED)))]
const _: () = assert!(size_of::<State>() <= 72);

impl StreamReaderProtocol {
    /// Whether `data_received` is the one of this file: a transport may do without calling it.
    #[inline]
    pub fn is_plain(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.is_plain)
    }

    /// The reader, if bytes may be put into its buffer without calling its `feed_data`.
    #[inline]
    pub fn sink<'py>(&self, py: Python<'py>) -> Option<Bound<'py, StreamReader>> {
        if !self.state.with(py, |state| state.is_reader_plain) {
            return None;
        }
        // SAFETY: a plain reader is a native one.
        self.reader(py).map(|reader| unsafe { reader.cast_into_unchecked() })
    }

    /// The reader, while somebody has it.
    #[inline]
    fn reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let reader = self.state.with(py, |state| state.reader.as_ref().map(|reader| reader.bind(py).clone()))?;
        reader.upgrade()
    }

    fn set_reader(&self, reader: Option<&Bound<'_, PyAny>>, py: Python<'_>) -> PyResult<()> {
        let is_plain = match reader {
            Some(reader) => has_from::<StreamReader>(reader, intern!(py, "feed_data"))?,
            None => false,
        };
        let weak = reader.map(PyWeakrefReference::new).transpose()?.map(|weak| weak.cast_into::<PyWeakref>());
        let weak = weak.transpose()?.map(Bound::unbind);
        let former = self.state.with(py, |state| {
            state.is_reader_plain = is_plain;
            mem::replace(&mut state.reader, weak)
        });
        drop(former);
        Ok(())
    }

    pub fn receive(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        if let Some(reader) = self.sink(py)
            && let Ok(data) = data.cast_exact::<PyBytes>()
        {
            return reader.get().feed_bytes(data);
        }
        match self.reader(py) {
            Some(reader) => reader.call_method1(intern!(py, "feed_data"), (data,)).map(drop),
            None => Ok(()),
        }
    }

    /// The peer has no more to say. Whether the connection stays open for writing.
    fn end(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(reader) = self.reader(py) {
            reader.call_method0(intern!(py, "feed_eof"))?;
        }
        // There is no half-closed TLS connection; True would be warned about.
        Ok(!self.state.with(py, |state| state.over_ssl))
    }
}

/// The methods that are called all the time.
pub(super) fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<StreamReaderProtocol>();
    install_onearg(
        &class,
        c"data_received",
        c"data_received($self, data, /)\n--\n\nCalled by a transport with what has arrived.",
        onearg!(StreamReaderProtocol, |protocol, data| {
            protocol.get().receive(&data)?;
            Ok(protocol.py().None().into_bound(protocol.py()))
        }),
    )?;
    install_noargs(
        &class,
        c"__del__",
        c"",
        // Nobody need have waited for the end: how it came is no news then.
        noargs!(StreamReaderProtocol, |protocol| {
            let py = protocol.py();
            let closed = protocol.get().state.with(py, |state| state.closed.take());
            if let Some(closed) = closed.map(|closed| closed.into_bound(py))
                && closed.call_method0(intern!(py, "done"))?.is_truthy()?
                && !closed.call_method0(intern!(py, "cancelled"))?.is_truthy()?
            {
                closed.call_method0(intern!(py, "exception"))?;
            }
            Ok(py.None().into_bound(py))
        }),
    )
}

references!(StreamReaderProtocol {
    _strong_reader / replace_strong_reader: strong_reader,
    _client_connected_cb / replace_client_connected: client_connected,
    _transport / replace_transport: transport,
    _task / replace_task: task,
    _stream_writer / replace_stream_writer: stream_writer,
});
flags!(StreamReaderProtocol {
    _reject_connection / replace_reject_connection: reject_connection,
    _over_ssl / replace_over_ssl: over_ssl,
});

#[pymethods]
impl StreamReaderProtocol {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(FlowControl::default())
            .add_subclass(StreamReaderProtocol { state: Guarded::default() })
    }

    #[pyo3(signature = (stream_reader, client_connected_cb=None, r#loop=None))]
    fn __init__(
        this: &Bound<'_, Self>,
        stream_reader: Option<&Bound<'_, PyAny>>,
        client_connected_cb: Option<Py<PyAny>>,
        r#loop: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = this.py();
        FlowControl::begin(this.as_super(), loop_or_current(py, r#loop)?)?;
        let strong_reader = stream_reader.filter(|_| client_connected_cb.is_some());
        let new = State {
            strong_reader: strong_reader.map(|reader| reader.clone().unbind()),
            client_connected: client_connected_cb,
            is_plain: has_from::<StreamReaderProtocol>(this, intern!(py, "data_received"))?,
            ..State::default()
        };
        this.get().state.put(py, |state| state, new);
        this.get().set_reader(stream_reader, py)?;
        if let Some(reader) = stream_reader {
            let name = intern!(py, "_source_traceback");
            let traceback = reader.getattr(name)?;
            if !traceback.is_none() {
                this.setattr(name, traceback)?;
            }
        }
        Ok(())
    }

    /// Called by a transport whose peer has no more to say.
    fn eof_received(&self, py: Python<'_>) -> PyResult<bool> {
        self.end(py)
    }

    /// Called by a transport whose connection has ended.
    fn connection_lost(this: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let protocol = this.get();
        let reason = Some(exc).filter(|exc| !exc.is_none());
        if let Some(reader) = protocol.reader(py) {
            match reason {
                None => reader.call_method0(intern!(py, "feed_eof"))?,
                Some(reason) => reader.call_method1(intern!(py, "set_exception"), (reason,))?,
            };
        }
        let closed = protocol.state.with(py, |state| {
            state.is_lost = true;
            state.closed.as_ref().map(|closed| closed.bind(py).clone())
        });
        protocol.state.put(py, |state| &mut state.reason, reason.map(|reason| reason.clone().unbind()));
        if let Some(closed) = closed {
            settle(&closed, reason)?;
        }
        this.as_super().get().end(exc)?;
        let former = protocol.state.with(py, |state| {
            (state.reader.take(), state.transport.take(), state.task.take(), state.stream_writer.take())
        });
        drop(former);
        Ok(())
    }

    fn _get_close_waiter<'py>(this: &Bound<'py, Self>, _stream: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::_closed(this)
    }

    /// A future that is answered when the connection has ended.
    #[getter]
    fn _closed<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let protocol = this.get();
        if let Some(closed) = protocol.state.with(py, |state| state.closed.as_ref().map(|closed| closed.clone_ref(py)))
        {
            return Ok(closed.into_bound(py));
        }
        let the_loop = this.as_super().get()._loop(py).unwrap_or_else(|| py.None());
        let closed = the_loop.bind(py).call_method0(intern!(py, "create_future"))?;
        let (is_lost, reason) = protocol
            .state
            .with(py, |state| (state.is_lost, state.reason.as_ref().map(|reason| reason.bind(py).clone())));
        if is_lost {
            settle(&closed, reason.as_ref())?;
        }
        let former = protocol.state.with(py, |state| state.closed.replace(closed.clone().unbind()));
        drop(former);
        Ok(closed)
    }

    #[getter]
    fn _stream_reader_wr(&self, py: Python<'_>) -> Option<Py<PyWeakref>> {
        self.state.with(py, |state| state.reader.as_ref().map(|reader| reader.clone_ref(py)))
    }

    #[setter(_stream_reader_wr)]
    fn replace_reader(&self, py: Python<'_>, reader: Option<Bound<'_, PyWeakref>>) -> PyResult<()> {
        self.set_reader(reader.and_then(|reader| reader.upgrade()).as_ref(), py)
    }

    #[getter]
    fn _stream_reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.reader(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit_all = |state: &State| {
            let objects = [
                &state.strong_reader,
                &state.client_connected,
                &state.transport,
                &state.task,
                &state.stream_writer,
                &state.closed,
                &state.reason,
            ];
            state.reader.as_ref().map_or(Ok(()), |reader| visit.call(reader))?;
            objects.into_iter().flatten().try_for_each(|object| visit.call(object))
        };
        self.state.for_collector(visit_all).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.take());
    }
}
