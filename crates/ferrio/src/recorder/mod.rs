//! The record of what ran, what waited and who woke it.
//!
//! Four [`Level`]s, of which each keeps what the one before keeps. Everything hangs on the loop's four seams: the way in
//! with its cause, the way out, the clock, the step counter; nothing else in the engine knows that it is recorded.
//!
//! What is kept lies in the process's *page*: memory that is also a file on tmpfs, its user's alone. Whoever wants
//! to look maps that file ([`reading`]); the loop need not answer, so it may be blocked, stopped or dead. Nothing of
//! a program's data is in it: names of functions and tasks, descriptors' numbers, times.
//!
//! * `page`: what is where in that memory, and the counters of a loop (pulse)
//! * `ring`: wake-ups and steps, the newest so many (flight)
//! * `table`: which subjects a ring knows
//! * `stamp`: the time of a record, for nine nanoseconds
//! * `file`: where the file lives; forks, exits, leftovers
//! * [`watch`]: slow steps, found while they are being done
//! * [`reading`]: another process's page

pub(crate) mod file;
pub(crate) mod page;
pub mod reading;
pub(crate) mod ring;
pub(crate) mod stamp;
mod table;
pub mod watch;

pub use file::{KEPT, STACKS, SUFFIX, folder, path};
pub use page::State;
pub use ring::Kind;

use crate::cause::Cause;
use page::Page;

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing. Only a build without the feature `recorder` has it.
    Off = 0,
    /// Counters: what a turn can afford. The default.
    #[default]
    Pulse = 1,
    /// Each wake-up and each step with its cause and its cost, in a ring.
    Flight = 2,
    /// As flight, and [`Host::observe`](crate::host::Host::observe) hears of everything as it happens.
    Deep = 3,
}

impl Level {
    /// The level with this number; pulse for what is none.
    pub fn from_number(number: u32) -> Level {
        match number {
            2 => Level::Flight,
            3 => Level::Deep,
            _ => Level::Pulse,
        }
    }
}

/// Tells whether two names are the same, without saying them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Title {
    /// A hash of the name, of 64 good bits; 0 if it is not known, so that the name must be asked for.
    pub text: u64,
    /// The subject's own number (12 for `Task-12`); 0 for none, as for one of more than 32 bits. (A whole word, because one
    /// that is written in part and then moved as a whole takes 6 ns.)
    pub number: u64,
    /// What [`Host::name_stamp`](crate::host::Host::name_stamp) says now.
    pub stamp: usize,
}

/// What happens in a loop at [`Level::Deep`].
pub enum Observed<'a, J> {
    /// A job (`None`: a Rust future) becomes ready.
    Queued(Option<&'a J>, Cause),
    /// A step begins: its number, what runs, and why.
    Begins(u64, Option<&'a J>, Cause),
    /// That step has ended.
    Ends(u64),
    /// Nothing is ready: the loop asks the operating system. With the timer (sequence number, deadline in nanoseconds)
    /// that ends the sleep if nothing else does.
    Sleeps(Option<(u64, u64)>),
    /// The operating system has answered.
    Wakes,
    /// A timer is set: its sequence number, its deadline in nanoseconds, and what becomes ready then.
    TimerSet(u64, u64, Option<&'a J>),
    /// A timer is cancelled.
    TimerGone(u64),
}

/// What runs this process, for whoever looks at its page: `Python 3.14.2`, say. 128 bytes at the most.
pub fn describe(runtime: &str) {
    Page::own().header.runtime.set(runtime);
}

/// The signal that has every thread's stack written to the file beside the page; 0 for none.
pub fn announce_signal(number: u32) {
    Page::own().header.signal.store(number, std::sync::atomic::Ordering::Relaxed);
}

/// The level that all loops of this process are to have.
pub fn wanted() -> Level {
    if !cfg!(feature = "recorder") {
        return Level::Off;
    }
    Level::from_number(Page::own().header.level.load(std::sync::atomic::Ordering::Relaxed))
}

/// The wanted level of all loops of this process, from their next look at the operating system on.
pub fn want(level: Level) {
    Page::own().header.level.store(level as u32, std::sync::atomic::Ordering::Release);
}

/// How many records of its loops' flight this process has written.
pub fn records() -> u64 {
    ring::written(Page::own())
}

/// How many snapshots of this process have been asked for.
pub fn requests() -> u32 {
    Page::own().header.requests.load(std::sync::atomic::Ordering::Relaxed)
}
