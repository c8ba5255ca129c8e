//! `StreamReader`: what bytes wait in until a coroutine reads them. This file: its state, how bytes and the end get in,
//! how a coroutine waits. How they are read is in `taking.rs`.

use std::mem;

use pyo3::exceptions::{PyAssertionError, PyNotImplementedError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFloat, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::attributes::{flags, references};
use super::buffer::{self, Buffer};
use super::transport;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{fastcall, install, install_noargs, install_onearg, noargs, onearg};
use crate::imports::imports;
use crate::operation::{self, Event, Kind, Outcome, Running, Step};
use crate::sync::futures;

/// asyncio's `streams._DEFAULT_LIMIT`.
const DEFAULT_LIMIT: i64 = 64 * 1024;

/// The native half of `ferrio.StreamReader`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct StreamReader {
    pub(super) state: Guarded<State>,
}

pub(super) struct State {
    pub buffer: Buffer,
    /// The longest line; twice as many bytes may wait before the transport is paused.
    pub limit: i64,
    pub eof: bool,
    /// We have paused the transport.
    pub paused: bool,
    pub exception: Option<Py<PyAny>>,
    pub transport: Option<Py<PyAny>>,
    /// The future that a coroutine waits on for more bytes.
    waiter: Option<Py<PyAny>>,
    the_loop: Option<Py<PyAny>>,
    /// How many bytes the last coroutine that found too few would have taken.
    pub asked: usize,
    /// The last bytes that arrived were many.
    pub is_flowing: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            buffer: Buffer::default(),
            limit: DEFAULT_LIMIT,
            eof: false,
            paused: false,
            exception: None,
            transport: None,
            waiter: None,
            the_loop: None,
            asked: 0,
            is_flowing: false,
        }
    }
}

impl State {
    /// More bytes than this must not wait.
    pub fn high_water(&self) -> usize {
        usize::try_from(self.limit.saturating_mul(2)).unwrap_or(0)
    }

    /// How many bytes a coroutine waits for: 0 if none waits, or for no number of them.
    pub fn wanted(&self) -> usize {
        if self.waiter.is_some() { self.asked } else { 0 }
    }
}

static WAIT: Kind = Kind { name: "StreamReader._wait_for_data", step: wait };

/// Waits until there is more to read, or nothing more to come.
fn wait(running: &Running<'_>, event: Event) -> Outcome {
    let py = running.py();
    let reader = running.subject::<StreamReader>().get();
    match event {
        Event::Begin => {
            let method = running.item();
            running.set_item(None);
            reader.begin_waiting(py, method).map(|waiter| Step::Await(waiter.unbind()))
        }
        Event::Result => {
            reader.replace_waiter(py, None);
            Step::done(py)
        }
        Event::Error(error) => {
            reader.replace_waiter(py, None);
            Err(error)
        }
    }
}

impl StreamReader {
    /// The future to wait on. A transport that was paused is resumed: it may be that more is asked for than the limit.
    fn begin_waiting<'py>(&self, py: Python<'py>, method: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let (is_waited_for, eof, exception, paused, the_loop) = self.state.with(py, |state| {
            state.buffer.settle();
            let exception = state.exception.as_ref().map(|exception| exception.clone_ref(py));
            let the_loop = state.the_loop.as_ref().map(|the_loop| the_loop.clone_ref(py));
            (state.waiter.is_some(), state.eof, exception, state.paused, the_loop)
        });
        if is_waited_for {
            let method = method.map_or(Ok(String::new()), |method| method.str().map(|name| name.to_string()))?;
            let message = format!("{method}() called while another coroutine is already waiting for incoming data");
            return Err(PyRuntimeError::new_err(message));
        }
        if eof {
            return Err(PyAssertionError::new_err("_wait_for_data after EOF"));
        }
        if let Some(exception) = exception {
            // It came after the coroutine was woken by the last bytes: nothing would wake it again.
            return Err(PyErr::from_value(exception.into_bound(py)));
        }
        if paused {
            self.resume_transport(py)?;
        }
        let the_loop = the_loop.unwrap_or_else(|| py.None());
        let waiter = futures::create(the_loop.bind(py))?;
        self.replace_waiter(py, Some(waiter.clone().unbind()));
        Ok(waiter)
    }

    fn resume_transport(&self, py: Python<'_>) -> PyResult<()> {
        let transport = self.state.with(py, |state| {
            state.paused = false;
            state.transport.as_ref().map(|transport| transport.clone_ref(py))
        });
        transport::resume_reading(transport.unwrap_or_else(|| py.None()).bind(py))
    }

    /// Bytes were taken: a transport that was paused may go on.
    #[inline]
    pub(super) fn maybe_resume_transport(&self, py: Python<'_>) -> PyResult<()> {
        let may_resume = self.state.with(py, |state| {
            state.paused && i64::try_from(state.buffer.len(py)).is_ok_and(|size| size <= state.limit)
        });
        if may_resume { self.resume_transport(py) } else { Ok(()) }
    }

    /// The buffer, if Python code may have hold of it.
    #[inline]
    pub(super) fn shown<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyByteArray>> {
        self.state.with(py, |state| state.buffer.shown(py))
    }

    /// # Errors
    /// AssertionError after the end.
    pub(super) fn check_not_ended(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.with(py, |state| state.eof) {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        Ok(())
    }

    /// `data` arrives.
    pub fn feed(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        self.check_not_ended(py)?;
        if data.is_empty() {
            return Ok(());
        }
        match self.shown(py) {
            Some(array) => buffer::extend(&array, data)?,
            None => self.state.with(py, |state| state.buffer.append(py, data)),
        }
        self.arrived(py)
    }

    /// `data` arrives as an object, which need not be copied.
    pub fn feed_bytes(&self, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let py = data.py();
        self.check_not_ended(py)?;
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        match self.shown(py) {
            Some(array) => buffer::extend(&array, data.as_bytes())?,
            None => self.state.with(py, |state| state.buffer.append_object(data)),
        }
        self.arrived(py)
    }

    /// `data` arrives: anything that a bytearray takes.
    fn feed_object(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        if let Ok(data) = data.cast_exact::<PyBytes>() {
            return self.feed_bytes(data);
        }
        self.check_not_ended(py)?;
        if !data.is_truthy()? {
            return Ok(());
        }
        let array = PyByteArray::new(py, &[]);
        array.call_method1(intern!(py, "extend"), (data,))?;
        // SAFETY: nobody else knows the array.
        self.feed(py, unsafe { array.as_bytes() })
    }

    /// There is more to read: wakes who waits for it, and pauses the transport if it is too much.
    pub(super) fn arrived(&self, py: Python<'_>) -> PyResult<()> {
        self.wake(py)?;
        let transport = self.state.with(py, |state| {
            if state.paused || state.buffer.len(py) <= state.high_water() {
                return None;
            }
            state.transport.as_ref().map(|transport| transport.clone_ref(py))
        });
        let Some(transport) = transport else { return Ok(()) };
        match transport::pause_reading(transport.bind(py)) {
            Ok(()) => self.state.with(py, |state| state.paused = true),
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                // It cannot pause: all of it must wait here, and nobody need try again.
                let former = self.state.with(py, |state| state.transport.take());
                drop(former);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        match self.take_waiter(py)? {
            Some(waiter) => futures::set_result(&waiter, py.None().bind(py)),
            None => Ok(()),
        }
    }

    /// Who waits, unless he is cancelled; he waits no more.
    fn take_waiter<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(waiter) = self.state.with(py, |state| state.waiter.take()) else { return Ok(None) };
        let waiter = waiter.into_bound(py);
        let is_cancelled = futures::is_cancelled(&waiter)?;
        Ok((!is_cancelled).then_some(waiter))
    }

    /// Nothing more will come.
    pub fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.state.with(py, |state| state.eof = true);
        self.wake(py)
    }

    /// What reading raises from here on.
    pub fn fail(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = error.py();
        let former = self.state.with(py, |state| state.exception.replace(error.clone().unbind()));
        drop(former);
        match self.take_waiter(py)? {
            Some(waiter) => waiter.call_method1(intern!(py, "set_exception"), (error,)).map(drop),
            None => Ok(()),
        }
    }

    /// # Errors
    /// The exception that was set.
    #[inline]
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.with(py, |state| state.exception.as_ref().map(|exception| exception.clone_ref(py))) {
            Some(exception) => Err(PyErr::from_value(exception.into_bound(py))),
            None => Ok(()),
        }
    }
}

/// A limit as a caller gives it: any number, however large.
struct Limit(i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Limit {
    type Error = PyErr;

    fn extract(limit: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(limit) = limit.cast::<PyFloat>() {
            return Ok(Limit(limit.value() as i64));
        }
        match limit.extract() {
            Err(error) if PyErr::is_instance_of::<PyOverflowError>(&error, limit.py()) => {
                Ok(Limit(if limit.gt(0)? { i64::MAX } else { i64::MIN }))
            }
            limit => limit.map(Limit),
        }
    }
}

/// The methods that are called all the time.
pub(super) fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<StreamReader>();
    install(
        &class,
        c"feed_data",
        c"feed_data($self, data)\n--\n\nAdd data (bytes-like), and wake who waits for it.",
        fastcall!(StreamReader, |reader, arguments| {
            let data = arguments.only("feed_data", "data")?;
            reader.get().feed_object(&data)?;
            Ok(reader.py().None().into_bound(reader.py()))
        }),
    )?;
    install_onearg(
        &class,
        c"_wait_for_data",
        c"_wait_for_data($self, func_name, /)\n--\n\nWait for more data or the end.",
        onearg!(StreamReader, |reader, method| operation::new(reader, &WAIT, Some(method))),
    )?;
    install_noargs(
        &class,
        c"exception",
        c"exception($self, /)\n--\n\nWhat reading raises, or None.",
        noargs!(StreamReader, |reader| {
            let exception = reader.get()._exception(reader.py());
            Ok(exception.unwrap_or_else(|| reader.py().None()).into_bound(reader.py()))
        }),
    )
}

references!(StreamReader {
    _exception / replace_exception: exception,
    _transport / replace_transport: transport,
    _waiter / replace_waiter: waiter,
    _loop / replace_loop: the_loop,
});
flags!(StreamReader {
    _eof / replace_eof: eof,
    _paused / replace_paused: paused,
});

#[pymethods]
impl StreamReader {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        StreamReader { state: Guarded::default() }
    }

    #[pyo3(signature = (limit=Limit(DEFAULT_LIMIT), r#loop=None))]
    fn __init__(this: &Bound<'_, Self>, limit: Limit, r#loop: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        if limit.0 <= 0 {
            return Err(PyValueError::new_err("Limit cannot be <= 0"));
        }
        let the_loop = super::flow::loop_or_current(py, r#loop)?;
        let is_debugged = the_loop.call_method0(intern!(py, "get_debug"))?.is_truthy()?;
        let new = State { limit: limit.0, the_loop: Some(the_loop.unbind()), ..State::default() };
        this.get().state.put(py, |state| state, new);
        if is_debugged {
            let stack = imports(py)?.helpers.bind(py).call_method0("extract_stack")?;
            this.setattr(intern!(py, "_source_traceback"), stack)?;
        }
        Ok(())
    }

    /// Make the end known: what is buffered can be read, nothing more comes.
    fn feed_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.end(py)
    }

    /// Whether the end is known and nothing is left to read.
    fn at_eof(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.eof && state.buffer.is_empty(py))
    }

    /// Have reading raise ``exc`` from now on.
    fn set_exception(&self, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        self.fail(exc)
    }

    fn set_transport(&self, transport: Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        if self.state.with(py, |state| state.transport.is_some()) {
            return Err(PyAssertionError::new_err("Transport already set"));
        }
        self.replace_transport(py, Some(transport.unbind()));
        Ok(())
    }

    fn _wakeup_waiter(&self, py: Python<'_>) -> PyResult<()> {
        self.wake(py)
    }

    fn _maybe_resume_transport(&self, py: Python<'_>) -> PyResult<()> {
        self.maybe_resume_transport(py)
    }

    /// What is buffered, as a bytearray; from now on this very object is the buffer.
    #[getter]
    fn _buffer<'py>(&self, py: Python<'py>) -> Bound<'py, PyByteArray> {
        if let Some(array) = self.shown(py) {
            return array;
        }
        let content = self.state.with(py, |state| mem::take(&mut state.buffer));
        let array = PyByteArray::new(py, content.bytes(py));
        self.state.with(py, |state| state.buffer = Buffer::Shown(array.clone().unbind()));
        array
    }

    #[setter(_buffer)]
    fn set_buffer(&self, array: Bound<'_, PyByteArray>) {
        let py = array.py();
        self.state.put(py, |state| &mut state.buffer, Buffer::Shown(array.unbind()));
    }

    #[getter]
    fn _limit(&self, py: Python<'_>) -> i64 {
        self.state.with(py, |state| state.limit)
    }

    #[setter(_limit)]
    fn set_limit(&self, py: Python<'_>, limit: Limit) {
        self.state.with(py, |state| state.limit = limit.0);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visit_all = |state: &State| {
            [&state.exception, &state.transport, &state.waiter, &state.the_loop]
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
