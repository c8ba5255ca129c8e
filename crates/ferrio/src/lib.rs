//! ferrio's engine: asyncio's event loop without Python.
//!
//! # The way of one await
//!
//! A future (or a Python callback) that must wait leaves a *waiter*: a timer in [`timers`], or a watcher of a
//! descriptor in [`event_loop`]. When nothing is ready, the loop's turn sleeps in [`poll`] until the operating system
//! has news or the next timer is due. The news makes an entry in the [`ready`] queue, together with its [`cause`]; the
//! loop picks the entry and the await is over.

pub mod cause;
pub mod clock;
mod descriptors;
pub mod event_loop;
pub mod fork;
pub mod host;
pub mod inbox;
pub mod net;
pub mod poll;
mod pool;
pub mod ready;
mod run;
mod short;
#[cfg(unix)]
pub mod signal;
pub mod task;
mod tasks;
pub mod timers;

pub use clock::Instant;
pub use descriptors::{Direction, WaitId};
pub use run::{Builder, Loop, run};
pub use task::Canceller;
pub use tasks::{
    Gather, JoinError, JoinHandle, Panic, Sleep, TimeoutError, YieldNow, create_task, gather, sleep, sleep_until,
    spawn_blocking, timeout, wait_for, yield_now,
};
