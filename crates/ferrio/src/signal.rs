//! Signals: a handler that writes one byte into a socket, and a loop that watches the socket.
//!
//! # Who owns the handlers
//!
//! A process has one handler per signal. The first [`Signal`] for a number installs one (through
//! `signal-hook-registry`, together with everybody else in the process who uses that crate) which calls the handler that
//! was there before, too. It stays installed to the end: after the last `Signal` for SIGINT is dropped, Ctrl-C no longer
//! ends the process by itself. Whoever installs a handler later without chaining, as Python's `signal.signal` does,
//! takes the signal away from us: on a Python loop use `loop.add_signal_handler`.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook_registry::{SigId, register, unregister};

use crate::cause::{Cause, Kind};
use crate::net::Watched;

pub use libc::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

/// Waits for Ctrl-C (SIGINT), from the moment it is first awaited.
///
/// ```no_run
/// ferrio::run(async {
///     println!("Ctrl-C ends this");
///     ferrio::signal::ctrl_c().await
/// }).unwrap();
/// ```
///
/// # Errors
/// The operating system's, if it allows no handler.
pub async fn ctrl_c() -> io::Result<()> {
    Signal::new(SIGINT)?.recv().await
}

/// Receives one kind of signal, from its making on.
///
/// ```
/// use ferrio::signal::{SIGUSR1, Signal};
///
/// ferrio::run(async {
///     let mut signal = Signal::new(SIGUSR1)?;
///     // SAFETY: has no preconditions.
///     unsafe { libc::raise(SIGUSR1) };
///     signal.recv().await
/// }).unwrap();
/// ```
pub struct Signal {
    number: i32,
    registration: SigId,
    came: Arc<AtomicBool>,
    news: Watched<UnixStream>,
}

impl Signal {
    /// Begins to receive the signal of this number. Several may receive the same.
    ///
    /// # Errors
    /// `InvalidInput` for a signal that cannot be handled (SIGKILL) or must not be in this way (SIGSEGV), and the
    /// operating system's.
    pub fn new(number: i32) -> io::Result<Signal> {
        if signal_hook_registry::FORBIDDEN.contains(&number) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("signal {number} cannot be received")));
        }
        let (news, bell) = UnixStream::pair()?;
        news.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let came = Arc::new(AtomicBool::new(false));
        let handler = {
            let came = came.clone();
            move || {
                // One byte announces however many signals come before the receiver looks, so the socket never fills up.
                if !came.swap(true, Ordering::SeqCst) {
                    // SAFETY: one byte is read from a constant. send(2) may be called in a signal handler, and as there
                    // is room it does not touch errno.
                    unsafe { libc::send(bell.as_fd().as_raw_fd(), c"!".as_ptr().cast(), 1, libc::MSG_DONTWAIT) };
                }
            }
        };
        // SAFETY: the handler swaps an atomic and calls send(2), both allowed at any time; it never locks, allocates or
        // panics, and the registry does not drop it while it runs.
        let registration = unsafe { register(number, handler)? };
        let news = Watched::with_news_of(Cause::new(Kind::Signal, number as u64), news);
        Ok(Signal { number, registration, came, news })
    }

    /// Waits for the signal. Signals that came since the last call, or since the making, count as one.
    ///
    /// # Errors
    /// The operating system's, if it cannot watch the socket.
    pub async fn recv(&mut self) -> io::Result<()> {
        let Signal { came, news, .. } = self;
        let receive = |mut news: &UnixStream| {
            // First the bytes, then the flag: a signal in between leaves a byte for which nothing came, and that is
            // drained by the next call.
            while news.read(&mut [0; 16])? > 0 {}
            Ok(())
        };
        news.read_with(|news| {
            let drained = receive(news);
            if came.swap(false, Ordering::SeqCst) { Ok(()) } else { drained }
        })
        .await
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        unregister(self.registration);
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("number", &self.number).finish()
    }
}
