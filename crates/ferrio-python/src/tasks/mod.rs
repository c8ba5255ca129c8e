//! What brings tasks together: `gather`, `wait`, `timeout`, `TaskGroup` and their kin, and the functions that make tasks.
//!
//! The tasks and futures themselves stay CPython's. What is native here is what asyncio does in Python around them, per
//! task and per await: making them, hearing that they are done, collecting their results. Everything works on every
//! loop and with every kind of task; on ferrio's own loop timers are set and cancelled without a handle.
//!
//! Two rules keep this exact. What happens rarely (nonsense for arguments, a failed task of a group, a timeout that
//! has struck) is left to asyncio's own code of the interpreter that runs, which is called as it is. And what asyncio
//! does differently from version to version is decided in one place, [`asyncio::Asyncio`].
//!
//! The Python faces are `python/ferrio/{tasks,timeouts,taskgroups}.py`.

pub(crate) mod asyncio;
mod completed;
mod create;
pub mod gather;
mod group;
mod shield;
mod sleep;
mod timeout;
mod timer;
pub mod wait;

use pyo3::ffi;
use pyo3::prelude::*;

/// By these functions our objects hear that a future is done: the loop calls them without a handle between
/// (`crate::step`). Nobody but a future gets to call them through the loop, and it throws handles away.
pub const DONE_CALLBACKS: [ffi::PyCFunction; 6] = [
    gather::CHILD_IS_DONE,
    group::TASK_IS_DONE,
    wait::ONE_IS_DONE,
    completed::ONE_IS_DONE,
    shield::INNER_IS_DONE,
    shield::OUTER_IS_DONE,
];

/// Fills the extension module, and looks at asyncio before anybody can have put ferrio's functions into it.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    asyncio::asyncio(module.py())?;
    create::install(module)?;
    gather::install(module)?;
    wait::install(module)?;
    completed::install(module)?;
    shield::install(module)?;
    sleep::install(module)?;
    group::install_all(module)?;
    timeout::install_all(module)
}
