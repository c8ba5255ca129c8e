//! Looking at a process from another one: its page, and the signals that have a sleeping loop or a blocked thread answer.

use std::path::PathBuf;

use ferrio::recorder::Level;
use ferrio::recorder::reading::{Record, View};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::{counters, level_number, seconds};
use crate::errors::from_io;

/// Somebody's page: `PageView(path)`. Times are in seconds, moments of `time.monotonic()`.
///
/// OSError if there is no such file, or (without a number) if it is no page, or one of another version.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub struct PageView(View);

#[pymethods]
impl PageView {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        let view = View::open(&path).map_err(|error| match error.raw_os_error() {
            Some(_) => from_io(error),
            None => PyOSError::new_err(format!("{}: {error}", path.display())),
        })?;
        Ok(PageView(view))
    }

    /// What the process says of itself.
    fn process<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let process = self.0.process();
        let known = PyDict::new(py);
        known.set_item("pid", process.pid)?;
        known.set_item("title", process.title)?;
        known.set_item("runtime", process.runtime)?;
        known.set_item("began", process.began as f64 / 1e9)?;
        known.set_item("began_monotonic", seconds(process.began_monotonic))?;
        known.set_item("level", format!("{:?}", Level::from_number(process.level)).to_lowercase())?;
        known.set_item("signal", process.signal)?;
        known.set_item("missing", process.missing)?;
        known.set_item("records", process.records)?;
        known.set_item("unwatched", process.unwatched)?;
        Ok(known)
    }

    /// The counters of its loops.
    fn loops<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let loops: PyResult<Vec<_>> = self.0.loops().iter().map(|one| counters(py, one)).collect();
        PyList::new(py, loops?)
    }

    /// The counters of loops that are closed, as far as they are still there.
    fn past_loops<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let loops: PyResult<Vec<_>> = self.0.past_loops().iter().map(|one| counters(py, one)).collect();
        PyList::new(py, loops?)
    }

    /// The newest snapshot of the loop in this slot, as (when, which request it answers, text), or None.
    fn snapshot<'py>(&self, py: Python<'py>, slot: usize) -> Option<(f64, u32, Bound<'py, PyBytes>)> {
        let snapshot = self.0.snapshot(slot)?;
        Some((seconds(snapshot.at), snapshot.answers, PyBytes::new(py, &snapshot.text)))
    }

    /// The flight ring, of each loop the oldest first: (kind, slot, at, subject, number, length, when, cause, payload, name).
    fn records<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let records: PyResult<Vec<_>> = self.0.records().iter().map(|record| words(py, record)).collect();
        PyList::new(py, records?)
    }

    /// Asks for another level.
    fn set_level(&self, level: &str) -> PyResult<()> {
        self.0.set_level(level_number(level)?);
        Ok(())
    }

    /// Asks every loop for a snapshot. Returns the request's number.
    fn request(&self) -> u32 {
        self.0.request()
    }
}

fn words<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyTuple>> {
    let lower = |text: String| text.to_lowercase();
    (
        lower(format!("{:?}", record.kind)),
        record.slot,
        seconds(record.at),
        record.subject,
        record.number,
        seconds(record.length),
        seconds(record.when),
        lower(format!("{:?}", record.cause.kind())),
        record.cause.payload(),
        &record.name,
    )
        .into_pyobject(py)
}

/// Has a signal wake up whatever waits in the operating system, and do nothing else.
///
/// OSError if there is no such signal.
#[cfg(target_os = "linux")]
#[pyfunction]
pub fn wake_on_signal(signal: i32) -> PyResult<()> {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: zeros are a valid `sigaction`; the handler does nothing, which it may at any time. Other calls than waiting
    // for events go on.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    if installed < 0 { Err(from_io(std::io::Error::last_os_error())) } else { Ok(()) }
}

/// Sends a signal to one thread of a process.
///
/// OSError if there is none, or it is somebody else's.
#[cfg(target_os = "linux")]
#[pyfunction]
pub fn signal_thread(pid: i32, thread: i32, signal: i32) -> PyResult<()> {
    // SAFETY: no pointers; the kernel checks the numbers and the rights.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal) };
    if sent < 0 { Err(from_io(std::io::Error::last_os_error())) } else { Ok(()) }
}
