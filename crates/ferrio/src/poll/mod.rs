//! Asking the operating system which waits are over: one file per system, all with the same face.
//!
//! Every poller has these functions, so that two files can be laid side by side to learn two systems:
//!
//! | | |
//! | --- | --- |
//! | `new()` | opens the poller and its wake channel |
//! | `arm(fd, token, interest, mode, known)` | watches a descriptor, or changes how; `known` says that it is watched |
//! | `forget(fd)` | stops watching; whether it was watched (a closed descriptor is not, as a rule) |
//! | `wait(timeout, &mut events)` | sleeps until something happens; `None` is for ever; EINTR is an error of that kind |
//! | `is_still_readable(fd)` | whether a descriptor still has something to read, if asking for one is cheaper than `wait` |
//! | `waker()` | a handle that ends `wait` from any thread |
//!
//! Events are level-triggered ([`Mode::Level`]: reported on every wait as long as they hold, which is what
//! `loop.add_reader` promises) or disarmed when reported once ([`Mode::Once`], one system call per wait for an
//! operation such as `sock_recv`). An error or a hang-up on a descriptor is reported as readable *and* writable, so
//! that whoever waits for either finds out.

#[cfg(all(target_os = "linux", not(feature = "mio")))]
mod epoll;
#[cfg(all(target_os = "linux", not(feature = "mio")))]
pub use epoll::{Poller, Waker};

#[cfg(any(not(target_os = "linux"), feature = "mio"))]
mod mio;
#[cfg(any(not(target_os = "linux"), feature = "mio"))]
pub use self::mio::{Poller, Waker};

/// What the operating system calls a descriptor: a file descriptor, or a socket handle on Windows.
#[cfg(unix)]
pub type RawFd = std::os::fd::RawFd;
/// What the operating system calls a descriptor: a file descriptor, or a socket handle on Windows.
#[cfg(windows)]
pub type RawFd = std::os::windows::io::RawSocket;

/// Which news of a descriptor is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// There is something to read, or the end.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
}

impl Interest {
    /// No news at all.
    pub fn is_empty(self) -> bool {
        !self.read && !self.write
    }
}

/// How often news is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On every wait, for as long as it holds.
    Level,
    /// Once; then the descriptor stays known but silent until it is armed again.
    Once,
}

/// One piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The token that the descriptor was armed with.
    pub token: u64,
    /// Reading will not block (data, end, or an error to be fetched).
    pub readable: bool,
    /// Writing will not block (room, or an error to be fetched).
    pub writable: bool,
}

/// The token of the wake channel; slots never have it.
const WAKE: u64 = u64::MAX;

/// At most this many events are taken per wait; the rest come with the next, so nobody starves.
const EVENTS_PER_WAIT: usize = 1024;
