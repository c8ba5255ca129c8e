//! The other way round: Rust awaits what Python can await.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::leaves::{Suspended, suspended};
use super::wakers::OwnedWaker;
use crate::core::Core;
use crate::ffi::error::aside;
use crate::imports::imports;

/// Awaits anything that Python can await. Dropping the future before it is over cancels what it waits for.
pub fn python(core: &Arc<Core>, object: Py<PyAny>) -> Suspended<PythonFuture> {
    suspended(core, PythonFuture { core: core.clone(), object: Some(object), future: None })
}

/// The future of [`python`].
pub struct PythonFuture {
    core: Arc<Core>,
    object: Option<Py<PyAny>>,
    future: Option<Py<PyAny>>,
}

impl Future for PythonFuture {
    type Output = PyResult<Py<PyAny>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Python::attach(|py| {
            if let Some(object) = self.object.take() {
                let keywords = PyDict::new(py);
                keywords.set_item(intern!(py, "loop"), self.core.loop_object(py)?)?;
                let future = imports(py)?.ensure_future.bind(py).call((object,), Some(&keywords))?;
                if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                    let waker = WakeOnCall { waker: Mutex::new(Some(cx.waker().clone())) };
                    future.call_method1(intern!(py, "add_done_callback"), (waker,))?;
                    self.future = Some(future.unbind());
                    return Poll::Pending;
                }
                self.future = Some(future.unbind());
            }
            let Some(future) = &self.future else {
                return Poll::Ready(Err(PyRuntimeError::new_err("polled again after it was over")));
            };
            let future = future.bind(py);
            if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                return Poll::Pending;
            }
            let result = future.call_method0(intern!(py, "result")).map(Bound::unbind);
            self.future = None;
            Poll::Ready(result)
        })
    }
}

impl Drop for PythonFuture {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            aside(|py| {
                if let Err(error) = future.call_method0(py, intern!(py, "cancel")) {
                    error.write_unraisable(py, Some(future.bind(py)));
                }
            });
        }
    }
}

/// A done-callback that fires a waker.
#[pyclass(frozen)]
struct WakeOnCall {
    waker: Mutex<Option<Waker>>,
}

impl WakeOnCall {
    fn take(&self) -> Option<Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl WakeOnCall {
    fn __call__(&self, _future: Py<PyAny>) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.waker.try_lock().as_deref() {
            Ok(Some(waker)) => OwnedWaker::traverse(waker, &visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.take());
    }
}
