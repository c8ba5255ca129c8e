//! [`Watched`]: a descriptor whose operations wait on the loop.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Write};
#[cfg(unix)]
use std::os::fd::AsRawFd as AsRaw;
#[cfg(windows)]
use std::os::windows::io::AsRawSocket as AsRaw;
use std::task::{Context, Poll};

use crate::cause::Cause;
use crate::descriptors::{Direction, WaitId};
use crate::poll::RawFd;
use crate::task::{self, with_current};

/// A socket, or on Unix anything with a descriptor that the operating system can watch, for use on a loop.
///
/// [`TcpStream`](super::TcpStream) and the others are watched sockets of the standard library;
/// [`get_ref`](Self::get_ref) gives the socket itself, with all its options. For descriptors of your own there are
/// [`read_with`](Self::read_with) and [`write_with`](Self::write_with).
///
/// Dropping it tells the loop before it closes the descriptor, so that a new descriptor of the same number is not
/// mistaken for it. It may be made outside a loop and used on one after another, but not on two at the same time.
pub struct Watched<T> {
    /// Stands before `inner`, and so is dropped before it.
    registration: Registration,
    /// What its news is, if it only carries it.
    cause: Option<Cause>,
    inner: T,
}

struct Registration(RawFd);

impl Drop for Registration {
    fn drop(&mut self) {
        with_current(|reactor| reactor.release(self.0));
    }
}

#[cfg(unix)]
fn raw(of: &impl AsRaw) -> RawFd {
    of.as_raw_fd()
}

#[cfg(windows)]
fn raw(of: &impl AsRaw) -> RawFd {
    of.as_raw_socket()
}

impl<T: AsRaw> Watched<T> {
    /// Takes over a descriptor, which must be in non-blocking mode: otherwise an operation would block the loop.
    pub fn new(inner: T) -> Self {
        Watched { registration: Registration(raw(&inner)), cause: None, inner }
    }

    /// A descriptor that only carries news of something else, which is then why a task that reads it runs.
    #[cfg(unix)]
    pub(crate) fn with_news_of(cause: Cause, inner: T) -> Self {
        Watched { cause: Some(cause), ..Watched::new(inner) }
    }
}

impl<T> Watched<T> {
    /// The descriptor itself.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Gives the descriptor back; the loop forgets it.
    pub fn into_inner(self) -> T {
        drop(self.registration);
        self.inner
    }

    /// Calls `operation`, which reads, again and again until it does anything but fail with
    /// [`WouldBlock`](io::ErrorKind::WouldBlock); in between, waits until there is something to read.
    ///
    /// # Errors
    /// The operation's, and the operating system's if it cannot watch the descriptor.
    pub async fn read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.with(Direction::Read, operation).await
    }

    /// As [`read_with`](Self::read_with), for an operation that waits until there is room to write.
    ///
    /// # Errors
    /// The operation's, and the operating system's if it cannot watch the descriptor.
    pub async fn write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.with(Direction::Write, operation).await
    }

    async fn with<R>(&self, direction: Direction, mut operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        let mut wait = Wait { fd: self.registration.0, direction, cause: self.cause, on: None };
        poll_fn(|cx| {
            loop {
                match operation(&self.inner) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break wait.poll(cx).map(Err),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => break Poll::Ready(done),
                }
            }
        })
        .await
    }
}

/// Reading, for whatever can be read through a shared reference, as sockets can.
impl<T> Watched<T>
where
    for<'a> &'a T: Read,
{
    /// Reads what there is, at most as much as `buffer` holds, and says how much; 0 at the end.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(|mut inner| inner.read(buffer)).await
    }

    /// Fills `buffer`. Not safe to cancel: what has been read already is gone with the buffer.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the end comes first, and the operating system's.
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    /// Reads to the end and appends it to `buffer`; says how much it was.
    ///
    /// # Errors
    /// The operating system's; `buffer` has what came before.
    pub async fn read_to_end(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        let mut piece = [0; 8 * 1024];
        loop {
            match self.read(&mut piece).await? {
                0 => return Ok(buffer.len() - before),
                count => buffer.extend_from_slice(&piece[..count]),
            }
        }
    }
}

/// Writing, for whatever can be written through a shared reference, as sockets can.
impl<T> Watched<T>
where
    for<'a> &'a T: Write,
{
    /// Writes as much of `bytes` as there is room for, and says how much.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_with(|mut inner| inner.write(bytes)).await
    }

    /// Writes all of `bytes`. Not safe to cancel: nobody knows then how much was written.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// One operation's wait for news.
struct Wait {
    fd: RawFd,
    direction: Direction,
    cause: Option<Cause>,
    /// The wait, and the loop that knows of it.
    on: Option<(u64, WaitId)>,
}

impl Wait {
    /// Sees to it that the task is woken by news that comes after this call; ready only with an error.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        task::current(|reactor| {
            let known = self.on.is_some_and(|(identity, id)| {
                identity == reactor.identity() && reactor.renew(self.fd, self.direction, id, cx.waker())
            });
            if !known {
                self.leave();
                match reactor.wake_on(self.fd, self.direction, cx.waker().clone(), self.cause) {
                    Ok(id) => self.on = Some((reactor.identity(), id)),
                    Err(error) => return Poll::Ready(error),
                }
            }
            Poll::Pending
        })
    }

    fn leave(&mut self) {
        if let Some((identity, id)) = self.on.take() {
            task::with_loop(identity, |reactor| reactor.forget(self.fd, self.direction, id));
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.leave();
    }
}
