//! `Awaitable`: a Rust future as a Python coroutine, polled on the loop's own thread.
//!
//! Everything that takes several steps (`sock_recv`, connecting, accepting, handshaking) is an `async fn` in here; a
//! Task that awaits it polls it directly. When the future must wait, the awaitable yields *itself*, with
//! `_asyncio_future_blocking` set, which is the protocol that `_asyncio.Task` speaks with any future: the Task leaves
//! its wake-up function and its context here. When the future's waker fires, that function is called with one
//! everlasting finished future, in the very step that the waker made ready: no asyncio Future per wait and no second
//! trip through the queue (246 ns per suspended await on 3.14, against 434 with a future and a callback).
//!
//! Cancelling: the Task asks the awaitable, which wakes it with a cancelled future; the Task then throws
//! CancelledError in, and the Rust future is dropped. An `async fn` therefore sees cancellation as the drop of what it
//! owns, and since the leaves wait for readiness only, no byte is lost by it. What must be awaited before the
//! cancellation goes on (a child that was just started must be gone) is given to [`awaitable_with_cleanup`].

mod leaves;
mod python;
mod slots;
mod wakers;

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::core::{Confined, Core, done_future, ends_the_run, new_future, panic_message};
use crate::ffi::call;
use crate::ffi::context::run_in;
use crate::ffi::error::aside;

use wakers::BorrowedWaker;

pub use leaves::{ready, sleep, suspended};
pub use python::python;
pub use slots::install_slots;
pub use wakers::OwnedWaker;

type Operation = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;
type Cleanup = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A Rust future that Python awaits: a coroutine in all but name.
#[pyclass(frozen, weakref, module = "ferrio")]
pub struct Awaitable {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    name: &'static str,
    state: Confined<State>,
}

struct State {
    /// Gone while it is polled and once it is over.
    operation: Cell<Option<Operation>>,
    /// Awaited once the operation was dropped by an exception thrown in, before that exception goes on.
    cleanup: Cell<Option<Cleanup>>,
    started: Cell<bool>,
    /// `_asyncio_future_blocking`: true between the yield and the Task's answer. Otherwise it reads as None, so that
    /// `asyncio.isfuture()` says no and `gather` and `create_task` take this for the coroutine that it is.
    blocking: Cell<bool>,
    /// The Task's wake-up function and the context to call it in.
    waiter: Cell<Option<(Py<PyAny>, Py<PyAny>)>>,
    /// The waker fired while nobody waited.
    woken: Cell<bool>,
    /// What the next wake-up hands to the Task instead of the finished future.
    cancelled: Cell<Option<Py<PyAny>>>,
}

/// Makes an awaitable of `operation`; `name` is what a repr and a warning call it (`Loop.sock_recv`).
pub fn awaitable<'py, F>(
    the_loop: &Bound<'py, PyAny>,
    core: &Arc<Core>,
    name: &'static str,
    operation: F,
) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
{
    make(the_loop, core, name, Box::pin(operation), None)
}

/// As [`awaitable`]; if the operation is cancelled once it has begun, `cleanup` is awaited before the cancellation goes
/// on. Cancelling again ends the cleanup too.
pub fn awaitable_with_cleanup<'py, F, C>(
    the_loop: &Bound<'py, PyAny>,
    core: &Arc<Core>,
    name: &'static str,
    operation: F,
    cleanup: C,
) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = PyResult<Py<PyAny>>> + Send + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    make(the_loop, core, name, Box::pin(operation), Some(Box::pin(cleanup)))
}

fn make<'py>(
    the_loop: &Bound<'py, PyAny>,
    core: &Arc<Core>,
    name: &'static str,
    operation: Operation,
    cleanup: Option<Cleanup>,
) -> PyResult<Bound<'py, PyAny>> {
    let awaitable = Awaitable {
        core: core.clone(),
        the_loop: the_loop.clone().unbind(),
        name,
        state: Confined::new(State {
            operation: Cell::new(Some(operation)),
            cleanup: Cell::new(cleanup),
            started: Cell::new(false),
            blocking: Cell::new(false),
            waiter: Cell::new(None),
            woken: Cell::new(false),
            cancelled: Cell::new(None),
        }),
    };
    Bound::new(the_loop.py(), awaitable).map(Bound::into_any)
}

/// One step's outcome.
enum Step {
    Waits,
    Returns(Py<PyAny>),
}

impl Awaitable {
    fn step(this: &Bound<'_, Self>) -> PyResult<Step> {
        let awaitable = this.get();
        let state = awaitable.state.get(&awaitable.core)?;
        if let Some(waiter) = state.waiter.take() {
            state.waiter.set(Some(waiter));
            return Err(PyRuntimeError::new_err(format!("coroutine '{}' is being awaited already", awaitable.name)));
        }
        let Some(mut operation) = state.operation.take() else {
            let reason =
                if state.started.get() { "cannot reuse already awaited coroutine" } else { "coroutine closed" };
            return Err(PyRuntimeError::new_err(format!("{reason} '{}'", awaitable.name)));
        };
        state.started.set(true);
        state.woken.set(false);
        let borrowed = BorrowedWaker(this);
        let waker = borrowed.waker();
        let polled = catch_unwind(AssertUnwindSafe(|| operation.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {
                state.operation.set(Some(operation));
                state.blocking.set(true);
                Ok(Step::Waits)
            }
            Ok(Poll::Ready(result)) => result.map(Step::Returns),
            Err(panic) => {
                Err(PyRuntimeError::new_err(format!("panic in '{}': {}", awaitable.name, panic_message(&*panic))))
            }
        }
    }

    /// The waker's step: lets the waiting Task run on.
    fn resume(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        let this = object.cast::<Self>()?.get();
        let state = this.state.get(&this.core)?;
        let Some((wakeup, context)) = state.waiter.take() else {
            state.woken.set(true);
            return Ok(());
        };
        let outcome = match state.cancelled.take() {
            Some(cancelled) => cancelled.into_bound(py),
            None => done_future(py, &this.core)?,
        };
        let called = run_in(py, context.bind(py), || call::call_with(wakeup.bind(py), &outcome));
        called.map(drop)
    }

    /// The loop closes: the operation is over, without anybody being told.
    pub fn end_operation(&self) {
        if let Ok(state) = self.state.get(&self.core) {
            drop((state.operation.take(), state.cleanup.take()));
        }
    }

    fn close_operation(&self) -> PyResult<()> {
        let state = self.state.get(&self.core)?;
        let (operation, cleanup, waiter) = (state.operation.take(), state.cleanup.take(), state.waiter.take());
        state.started.set(true);
        drop((operation, cleanup, waiter));
        Ok(())
    }
}

#[pymethods]
impl Awaitable {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(this: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::send(this, this.py().None())
    }

    /// One step: the awaitable itself if it must wait, StopIteration with the result if it is over.
    fn send(this: &Bound<'_, Self>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        match Self::step(this)? {
            Step::Waits => Ok(this.clone().into_any().unbind()),
            Step::Returns(value) => Err(PyStopIteration::new_err((value,))),
        }
    }

    /// Ends the operation with the given exception.
    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        this: &Bound<'_, Self>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let awaitable = this.get();
        let state = awaitable.state.get(&awaitable.core)?;
        let cleanup = state.cleanup.take().filter(|_| state.started.get());
        awaitable.close_operation()?;
        let error = match value {
            Some(value) if !value.is_none() => PyErr::from_value(value),
            _ => PyErr::from_value(kind),
        };
        if let Some(traceback) = traceback.filter(|traceback| !traceback.is_none()) {
            error.set_traceback(traceback.py(), Some(traceback.cast_into()?));
        }
        let Some(cleanup) = cleanup.filter(|_| !ends_the_run(this.py(), &error)) else { return Err(error) };
        state.operation.set(Some(Box::pin(async move {
            cleanup.await;
            Err(error)
        })));
        Self::send(this, this.py().None())
    }

    /// Ends the operation.
    fn close(&self) -> PyResult<()> {
        self.close_operation()
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> PyResult<Option<bool>> {
        Ok(self.state.get(&self.core)?.blocking.get().then_some(true))
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, on: bool) -> PyResult<()> {
        self.state.get(&self.core)?.blocking.set(on);
        Ok(())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.the_loop.clone_ref(py)
    }

    /// The Task leaves its wake-up function.
    #[pyo3(signature = (wakeup, *, context=None))]
    fn add_done_callback(this: &Bound<'_, Self>, wakeup: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let py = this.py();
        let awaitable = this.get();
        let state = awaitable.state.get(&awaitable.core)?;
        let context = match context {
            Some(context) => context,
            None => crate::ffi::context::copy_current(py)?.unbind(),
        };
        state.waiter.set(Some((wakeup, context)));
        if state.woken.replace(false) {
            awaitable.core.call_soon(this, Self::resume);
        }
        Ok(())
    }

    /// Wakes the waiting Task with a cancellation. False if nobody waits or it is cancelled already.
    #[pyo3(signature = (msg=None))]
    fn cancel(this: &Bound<'_, Self>, msg: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = this.py();
        let awaitable = this.get();
        let state = awaitable.state.get(&awaitable.core)?;
        let Some(waiter) = state.waiter.take() else { return Ok(false) };
        state.waiter.set(Some(waiter));
        if let Some(former) = state.cancelled.take() {
            state.cancelled.set(Some(former));
            return Ok(false);
        }
        let cancelled = new_future(py, awaitable.the_loop.bind(py))?;
        cancelled.call_method1(intern!(py, "cancel"), (msg,))?;
        state.cancelled.set(Some(cancelled.unbind()));
        awaitable.core.call_soon(this, Self::resume);
        Ok(true)
    }

    /// Whether nothing keeps a Task waiting for this: libraries ask what a Task waits for, which in asyncio is a future.
    fn done(&self) -> PyResult<bool> {
        let state = self.state.get(&self.core)?;
        let waiter = state.waiter.take();
        let waits = waiter.is_some();
        state.waiter.set(waiter);
        Ok(!waits || self.cancelled()?)
    }

    /// Whether what waits for this is about to be cancelled.
    fn cancelled(&self) -> PyResult<bool> {
        let state = self.state.get(&self.core)?;
        let cancelled = state.cancelled.take();
        let is_cancelled = cancelled.is_some();
        state.cancelled.set(cancelled);
        Ok(is_cancelled)
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.name
    }

    fn __repr__(this: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", this.get().name, this.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        let state = self.state.unguarded();
        if let Some((wakeup, context)) = state.waiter.take() {
            let visited = visit.call(&wakeup).and_then(|()| visit.call(&context));
            state.waiter.set(Some((wakeup, context)));
            visited?;
        }
        if let Some(cancelled) = state.cancelled.take() {
            let visited = visit.call(&cancelled);
            state.cancelled.set(Some(cancelled));
            visited?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let state = self.state.unguarded();
        drop((state.waiter.take(), state.cancelled.take(), state.operation.take(), state.cleanup.take()));
    }
}

impl Drop for Awaitable {
    fn drop(&mut self) {
        let never_awaited = !self.state.unguarded().started.get();
        if never_awaited {
            let name = self.name;
            aside(|py| {
                let message = format!("coroutine '{name}' was never awaited\0");
                let message = std::ffi::CStr::from_bytes_until_nul(message.as_bytes()).unwrap_or_default();
                if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), message, 1) {
                    error.write_unraisable(py, None);
                }
            });
        }
    }
}
