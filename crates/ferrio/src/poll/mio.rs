//! Systems other than Linux, through mio (kqueue, IOCP), and Linux itself when the feature `mio` asks for it in tests.
//!
//! mio reports edges: news is told once and not again until there is more of it. The two modes are made of that here.
//! Registering a descriptor anew makes mio report the state it is in, so level mode registers anew, before each wait,
//! what the last one reported; a descriptor that reports once is taken out as soon as it has.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::{Events, Interest as Edges, Registry, Token};

use self::source::Source;
use super::{EVENTS_PER_WAIT, Event, Interest, Mode, RawFd, WAKE};

/// A mio poll. `wait` is for the loop's thread; the rest may be called while it does not wait.
pub struct Poller {
    registry: Registry,
    /// Locked for the length of a wait. The locks are never contended: they only say to the compiler what the contract
    /// says to the caller.
    waiting: Mutex<(mio::Poll, Events)>,
    table: Mutex<Table>,
    wake: Arc<mio::Waker>,
}

/// Ends a [`Poller::wait`] from any thread, or the next one if nobody waits.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

#[derive(Default)]
struct Table {
    watched: HashMap<RawFd, Watched>,
    /// Level-triggered descriptors that were reported, to be registered anew.
    reported: Vec<RawFd>,
}

struct Watched {
    source: Source,
    token: u64,
    edges: Edges,
    mode: Mode,
}

const WAKE_TOKEN: Token = Token(WAKE as usize);

impl Poller {
    /// Opens a poller and its wake channel.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let wake = Arc::new(mio::Waker::new(&registry, WAKE_TOKEN)?);
        let waiting = Mutex::new((poll, Events::with_capacity(EVENTS_PER_WAIT)));
        Ok(Poller { registry, waiting, table: Mutex::default(), wake })
    }

    /// Watches `fd`, or changes how it is watched. What is known is looked up here, so `known` is of no use.
    pub fn arm(&self, fd: RawFd, token: u64, interest: Interest, mode: Mode, _known: bool) -> io::Result<()> {
        let edges = match (interest.read, interest.write) {
            (true, false) => Edges::READABLE,
            (false, true) => Edges::WRITABLE,
            (true, true) => Edges::READABLE | Edges::WRITABLE,
            (false, false) => {
                self.forget(fd);
                return Ok(());
            }
        };
        let mut table = lock(&self.table);
        if let Some(watched) = table.watched.get_mut(&fd) {
            (watched.token, watched.edges, watched.mode) = (token, edges, mode);
            match watched.register_anew(&self.registry, fd) {
                // It was closed meanwhile, and the number belongs to another descriptor, or to none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
            table.watched.remove(&fd);
        }
        let mut watched = Watched { source: Source::new(fd), token, edges, mode };
        match watched.source.register(&self.registry, key(fd), edges) {
            // Known to the system, though not to us: it was handed to another process or duplicated.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => watched.register_anew(&self.registry, fd)?,
            result => result?,
        }
        table.watched.insert(fd, watched);
        Ok(())
    }

    /// Stops watching `fd`. False if it was not watched: a closed descriptor has left the system's poller by itself.
    pub fn forget(&self, fd: RawFd) -> bool {
        let watched = lock(&self.table).watched.remove(&fd);
        watched.is_some_and(|mut watched| watched.source.deregister(&self.registry).is_ok())
    }

    /// Waits for news, at most `timeout` nanoseconds, and puts it into `events` (emptied first).
    pub fn wait(&self, timeout: Option<u64>, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        self.register_reported();
        let waiting = &mut *lock(&self.waiting);
        let (poll, told) = waiting;
        poll.poll(told, timeout.map(Duration::from_nanos))?;
        let table = &mut *lock(&self.table);
        for event in told.iter().filter(|event| event.token() != WAKE_TOKEN) {
            let fd = event.token().0 as RawFd;
            let Some(watched) = table.watched.get_mut(&fd) else { continue };
            let failed = event.is_error() || (event.is_read_closed() && event.is_write_closed());
            events.push(Event {
                token: watched.token,
                readable: failed || event.is_readable() || event.is_read_closed() || event.is_priority(),
                writable: failed || event.is_writable() || event.is_write_closed(),
            });
            match watched.mode {
                Mode::Level => table.reported.push(fd),
                Mode::Once => {
                    drop(watched.source.deregister(&self.registry));
                    table.watched.remove(&fd);
                }
            }
        }
        Ok(())
    }

    /// False: here only `wait` can tell.
    pub fn is_still_readable(&self, _fd: RawFd) -> bool {
        false
    }

    /// A handle that ends a wait.
    pub fn waker(&self) -> Waker {
        Waker(self.wake.clone())
    }

    fn register_reported(&self) {
        let table = &mut *lock(&self.table);
        for fd in table.reported.drain(..) {
            if let Some(watched) = table.watched.get_mut(&fd)
                && watched.register_anew(&self.registry, fd).is_err()
            {
                // Closed without a word: there will be no more news of it.
                table.watched.remove(&fd);
            }
        }
    }
}

impl Watched {
    fn register_anew(&mut self, registry: &Registry, fd: RawFd) -> io::Result<()> {
        self.source.reregister(registry, key(fd), self.edges)
    }
}

impl Waker {
    /// Wakes the loop.
    pub fn wake(&self) {
        // The only possible error is that the system is out of memory for an event, and a wake is pending then.
        drop(self.0.wake());
    }
}

/// mio's tokens are too small for ours on 32-bit systems, so they name the descriptor and the table has the rest.
fn key(fd: RawFd) -> Token {
    Token(fd as usize)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What mio watches: on Unix any descriptor, by its number.
#[cfg(unix)]
mod source {
    use std::io;

    use mio::event::Source as _;
    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};

    use crate::poll::RawFd;

    pub struct Source(RawFd);

    impl Source {
        pub fn new(fd: RawFd) -> Self {
            Source(fd)
        }

        pub fn register(&mut self, registry: &Registry, token: Token, edges: Interest) -> io::Result<()> {
            SourceFd(&self.0).register(registry, token, edges)
        }

        pub fn reregister(&mut self, registry: &Registry, token: Token, edges: Interest) -> io::Result<()> {
            SourceFd(&self.0).reregister(registry, token, edges)
        }

        pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
            SourceFd(&self.0).deregister(registry)
        }
    }
}

/// What mio watches: on Windows only its own socket types, which keep the state of the registration. Any kind of
/// socket passes for a TCP stream here, because nothing is done with it but watching; it is borrowed, and never closed.
#[cfg(windows)]
mod source {
    use std::io;
    use std::os::windows::io::{FromRawSocket, IntoRawSocket};

    use mio::event::Source as _;
    use mio::net::TcpStream;
    use mio::{Interest, Registry, Token};

    use crate::poll::RawFd;

    /// `None` only while it is dropped.
    pub struct Source(Option<TcpStream>);

    impl Source {
        pub fn new(socket: RawFd) -> Self {
            // SAFETY: the caller owns the socket and keeps it open until it has told the poller to forget it; `drop`
            // gives it back unclosed.
            Source(Some(unsafe { TcpStream::from_raw_socket(socket) }))
        }

        fn stream(&mut self) -> io::Result<&mut TcpStream> {
            self.0.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        pub fn register(&mut self, registry: &Registry, token: Token, edges: Interest) -> io::Result<()> {
            self.stream()?.register(registry, token, edges)
        }

        pub fn reregister(&mut self, registry: &Registry, token: Token, edges: Interest) -> io::Result<()> {
            self.stream()?.reregister(registry, token, edges)
        }

        pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
            self.stream()?.deregister(registry)
        }
    }

    impl Drop for Source {
        fn drop(&mut self) {
            // Into nothing but its number, so that it stays open.
            let _socket = self.0.take().map(TcpStream::into_raw_socket);
        }
    }
}
