//! What this process leaves in its own page, and how much: snapshots, levels, slow steps.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use ferrio::recorder::watch::{self, Watch};
use ferrio::recorder::{self, Level};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{counters, level_number, nanoseconds, seconds};
use crate::core;
use crate::event_loop::Loop;
use crate::ffi::exit;
use crate::imports::imports;

/// Has the face write down what everything in the loop waits for, for a while; true if there is more to write. What goes
/// wrong is reported; KeyboardInterrupt and SystemExit, which a signal may raise there as anywhere else, are returned:
/// they end the run.
pub fn snapshot(the_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = the_loop.py();
    let written = imports(py).and_then(|imports| {
        imports.helpers.bind(py).call_method1(intern!(py, "write_snapshot"), (the_loop,))?.is_truthy()
    });
    reported(the_loop, written)
}

/// Has the face write down everything that happens in the loop, or stop that. Errors as with [`snapshot`].
pub fn deepen(the_loop: &Bound<'_, PyAny>, deep: bool) -> PyResult<()> {
    let py = the_loop.py();
    let done = imports(py)
        .and_then(|imports| imports.helpers.bind(py).call_method1(intern!(py, "deepen"), (the_loop, deep)).map(drop));
    reported(the_loop, done)
}

fn reported<T: Default>(the_loop: &Bound<'_, PyAny>, done: PyResult<T>) -> PyResult<T> {
    let py = the_loop.py();
    match done {
        Err(error) if core::ends_the_run(py, &error) => Err(error),
        Err(error) => {
            error.write_unraisable(py, Some(the_loop));
            Ok(T::default())
        }
        done => done,
    }
}

#[pymethods]
impl Loop {
    /// Leaves a text for those who look at this process, in answer to the request of this number. False if there is no
    /// room for it.
    fn _write_snapshot(&self, text: &[u8], answers: u32) -> PyResult<bool> {
        Ok(self.core.engine()?.write_snapshot(text, answers))
    }

    /// The counters of this loop, as `PageView.loops()` has them. From any thread.
    fn _counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters(py, &self.core.counters())
    }

    /// This loop's number in its process.
    #[getter]
    fn _number(&self) -> u64 {
        self.core.counters().number
    }

    /// `threading.get_ident()` of the thread that runs it; 0 if none does.
    #[getter]
    fn _thread_ident(&self) -> usize {
        self.core.thread_ident.load(Ordering::Acquire)
    }

    /// Its steps are slow that take so many seconds; infinity for as long as those of all loops. From any thread.
    fn _set_slow_after(&self, seconds: f64) {
        self.core.set_slow_after(if seconds.is_finite() { nanoseconds(seconds) } else { 0 });
    }

    /// How much this loop records: "off", "pulse", "flight" or "deep".
    #[getter]
    fn _level(&self) -> PyResult<String> {
        Ok(format!("{:?}", self.core.engine()?.level()).to_lowercase())
    }
}

/// How much all loops of this process are to record, from their next look at the operating system on.
#[pyfunction]
pub fn want_level(level: &str) -> PyResult<()> {
    recorder::want(Level::from_number(level_number(level)?));
    Ok(())
}

/// How much all loops of this process are to record.
#[pyfunction]
pub fn wanted_level() -> String {
    format!("{:?}", recorder::wanted()).to_lowercase()
}

/// Watches for slow steps: the thread that calls `next()` is to do nothing else.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub struct SlowSteps(Mutex<Watch>);

#[pymethods]
impl SlowSteps {
    #[new]
    fn new() -> Self {
        SlowSteps(Mutex::default())
    }

    /// Waits for the next slow step, or for the end of one: (slot, the loop's number, step, seconds, whether it is over).
    /// None after `stop_watching()`. Needs no interpreter lock while it waits.
    fn next(&self, py: Python<'_>) -> Option<(usize, u64, u64, f64, bool)> {
        let sight = exit::detached(py, || self.0.lock().unwrap_or_else(PoisonError::into_inner).next_sight())?;
        Some((sight.slot, sight.number, sight.step, seconds(sight.length), sight.is_over))
    }

    /// The step that the loop in this slot is doing is to be reported once more when it has taken so many seconds.
    fn again(&self, slot: usize, seconds: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).again(slot, nanoseconds(seconds));
    }
}

/// Ends `SlowSteps.next()`.
#[pyfunction]
pub fn stop_watching() {
    watch::stop();
}

/// Steps of any loop are slow that take so many seconds; infinity for none.
#[pyfunction]
pub fn set_slow_threshold(seconds: f64) {
    watch::set_threshold(nanoseconds(seconds));
}

/// The signal that has every thread's stack written to the file beside the page; 0 for none.
#[pyfunction]
pub fn announce_signal(number: u32) {
    recorder::announce_signal(number);
}

/// What runs this process ("Python 3.14.2"), for those who look at it.
#[pyfunction]
pub fn describe(runtime: &str) {
    recorder::describe(runtime);
}

/// How many snapshots of this process have been asked for.
#[pyfunction]
pub fn requests() -> u32 {
    recorder::requests()
}

/// How many records of the flight of its loops this process has written.
#[pyfunction]
pub fn records() -> u64 {
    recorder::records()
}

/// The file of this process's page; None if it has only private memory.
#[pyfunction]
pub fn page_path() -> Option<PathBuf> {
    recorder::path()
}

/// The folder of the user's pages; None where there is no tmpfs for them.
#[pyfunction]
pub fn page_folder() -> Option<PathBuf> {
    recorder::folder()
}
