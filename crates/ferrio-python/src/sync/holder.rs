//! Who has a lock: kept for those who look at a process in which it is never released.
//!
//! The task is referred to weakly, so that it ends and is collected as it would be in asyncio; its name and its coroutine's
//! stay, for it may be gone by then. They are looked up when another task takes the lock than took it before: for the same
//! one it takes some comparisons, no call.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use super::Lock;
use crate::current;
use crate::ffi::guarded::Guarded;
use crate::recording::subjects::coroutine_name;
use crate::step::{self, Names};

/// Who has taken a lock last.
#[derive(Default)]
pub struct Holder {
    known: Guarded<Known>,
    /// In which step that was (see [`current::step`]); 0 if it was in none that is known.
    step: AtomicU64,
}

#[derive(Default)]
enum Known {
    /// Nobody has, or somebody who has set an attribute.
    #[default]
    Nothing,
    Task {
        /// A weak reference without a callback: it refers to nothing, as far as the collector is concerned.
        task: Py<PyAny>,
        /// A string, or the number that makes it `Task-7`.
        name: Py<PyAny>,
        /// Its coroutine's qualified name, if that is one of Python's.
        coroutine: Option<Py<PyAny>>,
    },
    /// It was no task.
    Outside,
}

impl Holder {
    /// Whoever runs on this thread has it from now on.
    #[inline]
    pub fn take(&self, py: Python<'_>) {
        let step = current::step();
        if step == 0 || step != self.step.load(Relaxed) {
            self.take_in(py, step);
        }
    }

    /// As [`take`](Self::take), in another step than the last time.
    #[inline(never)]
    fn take_in(&self, py: Python<'_>, step: u64) {
        let task = current::known_task(py);
        let is_same = |known: &mut Known| match known {
            Known::Task { task: kept, .. } => ptr::eq(step::referent(kept, py), task),
            _ => false,
        };
        if task.is_null() || !self.known.with(py, is_same) {
            // SAFETY: null, or the task that is being run.
            let task = unsafe { Bound::from_borrowed_ptr_or_opt(py, task) };
            let known = task.map_or_else(|| current::ask(py), |task| Ok(Some(task))).and_then(Known::of);
            // The lock is taken all the same: only that nobody can say by whom.
            let known = known.map_err(|error| error.write_unraisable(py, None)).unwrap_or_default();
            self.known.put(py, |place| place, known);
        }
        self.step.store(step, Relaxed);
    }

    /// Nobody knows any more.
    pub fn forget(&self, py: Python<'_>) {
        self.step.store(0, Relaxed);
        self.known.put(py, |place| place, Known::Nothing);
    }
}

impl Known {
    fn of(task: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let Some(task) = task else { return Ok(Known::Outside) };
        // SAFETY: a living object; the result is a new reference, or null with an exception set.
        let reference =
            unsafe { Bound::from_owned_ptr_or_err(task.py(), ffi::PyWeakref_NewRef(task.as_ptr(), ptr::null_mut()))? };
        let (name, coroutine) = match Names::of(task.as_borrowed()) {
            Some(names) => (names.own.to_owned(), names.coroutine.map(|name| name.to_owned())),
            None => (task.call_method0(intern!(task.py(), "get_name"))?, Some(coroutine_name(&task)?)),
        };
        Ok(Known::Task { task: reference.unbind(), name: name.unbind(), coroutine: coroutine.map(Bound::unbind) })
    }
}

/// Who has a lock: (the task, or None if it is gone; its name; its coroutine's, or None if that is not known), three times
/// None if it was taken outside of any task, None if it is free or nobody knows.
#[pyfunction]
pub fn lock_holder<'py>(lock: &Bound<'py, Lock>) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = lock.py();
    if !lock.get().is_locked(py) {
        return Ok(None);
    }
    let known = lock.get().holder().known.with(py, |known| match known {
        Known::Nothing => None,
        Known::Outside => Some(None),
        Known::Task { task, name, coroutine } => {
            Some(Some((task.clone_ref(py), name.clone_ref(py), coroutine.as_ref().map(|name| name.clone_ref(py)))))
        }
    });
    let known = match known {
        None => return Ok(None),
        Some(None) => (py.None(), None, None),
        Some(Some((task, name, coroutine))) => (task.call0(py)?, Some(name_in_full(name.bind(py))?), coroutine),
    };
    known.into_pyobject(py).map(Some)
}

fn name_in_full(name: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = name.str()?;
    Ok(if name.is_instance_of::<PyInt>() { format!("Task-{text}") } else { text.to_string() })
}
