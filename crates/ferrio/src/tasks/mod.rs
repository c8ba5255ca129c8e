//! What a Rust program does on a loop besides networking: tasks, sleeping, waiting for several things, other threads.
//!
//! One file per noun. Everything here finds its loop through [`task::with_current`](crate::task::with_current), so the
//! same futures run in a Rust program and on the thread of a Python loop.

mod blocking;
mod gather;
mod join;
mod sleep;
mod timeout;
mod yield_now;

pub use blocking::spawn_blocking;
pub use gather::{Gather, gather};
pub use join::{JoinError, JoinHandle, Panic, create_task};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{TimeoutError, timeout, wait_for};
pub use yield_now::{YieldNow, yield_now};
