//! The protocol of one of a child's pipes: passes everything on to the child's own.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};

use super::Process;

/// What a child's pipe talks to.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub(super) struct PipeProtocol {
    pub(super) process: Py<Process>,
    pub(super) fd: usize,
}

impl PipeProtocol {
    /// Flow control is a part of somebody's write: in the writer's context, and what it raises is his.
    fn tell_writer(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<()> {
        self.process.get().protocol(py)?.call_method0(name).map(drop)
    }
}

#[pymethods]
impl PipeProtocol {
    /// It is its own factory.
    fn __call__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn connection_made(&self, _transport: Bound<'_, PyAny>) {}

    fn data_received(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        self.process.get().tell(self.process.bind(py).as_any(), intern!(py, "pipe_data_received"), (self.fd, data))
    }

    fn eof_received(&self) {}

    fn connection_lost(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = exc.py();
        let this = self.process.bind(py);
        let state = this.get().state()?;
        let told = this.get().tell(this.as_any(), intern!(py, "pipe_connection_lost"), (self.fd, exc));
        state.open[self.fd].set(false);
        Process::try_finish(this)?;
        told
    }

    fn pause_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.tell_writer(py, intern!(py, "pause_writing"))
    }

    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.tell_writer(py, intern!(py, "resume_writing"))
    }

    fn __repr__(&self) -> String {
        format!("<PipeProtocol fd={}>", self.fd)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.process)
    }
}
