//! The record of what ran, what waited and who woke it.
//!
//! Four [`Level`]s, of which each keeps what the one before keeps. Everything hangs on the loop's four seams: the way in
//! with its cause, the way out, the clock, the step counter; nothing else in the engine knows that it is recorded.

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Off = 0,
    /// Counters: what a turn can afford. The default.
    #[default]
    Pulse = 1,
    /// Each wake-up and each step with its cause and its cost, in a ring.
    Flight = 2,
    /// As flight, and [`Host::observe`](crate::host::Host::observe) hears of everything as it happens.
    Deep = 3,
}

/// What happens in a loop at [`Level::Deep`].
pub enum Observed<'a, J> {
    /// A job (`None`: a Rust future) becomes ready.
    Queued(Option<&'a J>, crate::cause::Cause),
    /// A step begins: its number, what runs, and why.
    Begins(u64, Option<&'a J>, crate::cause::Cause),
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
