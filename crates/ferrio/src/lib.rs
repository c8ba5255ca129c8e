//! asyncio's event loop, in Rust and for Rust: one thread, one loop, any number of tasks that wait.
//!
//! ```
//! use std::time::Duration;
//! use ferrio::{create_task, gather, sleep, timeout};
//!
//! async fn brew(what: &str, time: Duration) -> String {
//!     sleep(time).await;
//!     format!("a {what}")
//! }
//!
//! let coffees = ferrio::run(async {
//!     // A task runs from now on, beside its maker.
//!     let slow = create_task(brew("filter coffee", Duration::from_millis(20)));
//!     // Gathered futures run at once; together they take as long as the longest.
//!     let (one, other) = gather((
//!         brew("espresso", Duration::from_millis(10)),
//!         brew("ristretto", Duration::from_millis(5)),
//!     )).await;
//!     let third = timeout(Duration::from_secs(5), slow).await.expect("soon enough").expect("not cancelled");
//!     [one, other, third]
//! });
//! assert_eq!(coffees, ["a espresso", "a ristretto", "a filter coffee"]);
//! ```
//!
//! # What there is
//!
//! | | |
//! | --- | --- |
//! | a program | [`run`]; [`Loop`] with a virtual clock or a shuffled order, for tests |
//! | tasks | [`create_task`], [`JoinHandle`], [`gather`], [`yield_now`] |
//! | time | [`sleep`], [`sleep_until`], [`timeout`] (or [`wait_for`]), [`Instant`] |
//! | calls that block | [`spawn_blocking`] |
//! | sockets | [`net`]: TCP, UDP, Unix, and descriptors of your own |
//! | signals | `signal` (Unix) |
//!
//! The names are asyncio's where asyncio has the thing. Futures need not be `Send`: a task stays on its thread.
//!
//! # How it works
//!
//! *The way of one await.* A future that must wait leaves a *waiter* and returns: a timer in [`timers`], or its waker
//! with a descriptor in [`event_loop`]. When nothing is ready, the loop's turn sleeps in [`poll`] until the operating
//! system has news (epoll on Linux, mio elsewhere) or the next timer is due. The news makes an entry in the [`ready`]
//! queue, together with its [`cause`]; the loop picks the entry, and the await is over. Another thread leaves its entry
//! in the [`inbox`] and wakes the loop if it sleeps.
//!
//! A turn is asyncio's: poll, then what the poll reported, then the timers that are due, then everything that was ready
//! at that moment, in order. There is no other thread, except those of [`spawn_blocking`].
//!
//! # The same loop serves Python
//!
//! An [`Engine`](event_loop::Engine) runs callbacks of a [`Host`](host::Host) language and Rust futures from one queue.
//! ferrio's Python extension is such a host; this crate knows nothing of Python. Everything above finds the loop
//! that runs on its thread ([`task::with_current`]), so a future written for [`run`] runs on the Python loop as well.

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
pub mod recorder;
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
