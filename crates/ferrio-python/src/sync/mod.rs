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

mod lock;
mod waiters;

pub use lock::Lock;
pub use waiters::{Waiters, wake};

use pyo3::prelude::*;

/// Gives the classes their raw methods.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    lock::install_methods(py)
}
