//! asyncio's primitives: locks, events, queues. They belong to no loop until somebody must wait, then to the loop that
//! runs, whichever it is: ferrio's or another.
//!
//! Each class here is the native half of one in `python/ferrio/`, which adds asyncio's class as a second base:
//! `isinstance(ferrio.Lock(), asyncio.Lock)` holds, and what is called rarely (`repr`) is asyncio's own. There, too, are
//! the coroutine methods: `async def`s of two lines, which try first (a call into here) and then await an `Operation`.
//! Measured: `await lock.acquire()` of a free lock 94 ns so, 170 if the whole coroutine is native, 110 in plain asyncio
//! (3.14): the interpreter inlines a Python coroutine, but gets a value from another one through a StopIteration. And
//! a real coroutine function is what `inspect`, `unittest.mock` and call graphs expect. `async with` awaits no value,
//! so `__aenter__` and `__aexit__` are native (84 ns against 196).
//! Behaviour follows CPython's `asyncio/locks.py`, `asyncio/queues.py` and `asyncio/mixins.py`.

mod barrier;
mod condition;
mod deque;
mod event;
pub mod futures;
mod holder;
mod lock;
mod queue;
mod semaphore;
mod waiters;

pub use barrier::Barrier;
pub use condition::Condition;
pub use event::Event;
pub use holder::lock_holder;
pub use lock::Lock;
pub use queue::{Queue, nothing};
pub use semaphore::Semaphore;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::imports::imports;

/// Gives the classes their raw methods.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    barrier::install_methods(py)?;
    condition::install_methods(py)?;
    event::install_methods(py)?;
    lock::install_methods(py)?;
    queue::install_methods(py)?;
    semaphore::install_methods(py)
}

/// Whether a class has its own versions of methods that asyncio's code calls and native code would pass by: what
/// `_native.Native` says of it.
fn follows_methods(class: &Bound<'_, PyType>) -> PyResult<bool> {
    class.getattr(intern!(class.py(), "_follows_methods"))?.is_truthy()
}

/// `async with` on an object of such a class: its `acquire` is awaited.
fn enter_by_methods<'py>(this: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    imports(this.py())?.enter_lock.bind(this.py()).call1((this,))
}

/// Its `release` is called.
fn leave_by_methods<'py>(this: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    imports(py)?.leave_lock.bind(py).call1((this, py.None(), py.None(), py.None()))
}

fn was_cancelled(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(error.matches(py, imports(py)?.cancelled_error.bind(py))?)
}
