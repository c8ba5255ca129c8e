//! Unix sockets.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::Watched;
use crate::tasks::sleep;

/// A connection within this machine.
///
/// ```
/// use ferrio::net::UnixStream;
///
/// ferrio::run(async {
///     let (here, there) = UnixStream::pair()?;
///     here.write_all(b"hello").await?;
///     here.write_eof()?;
///     let mut bytes = Vec::new();
///     there.read_to_end(&mut bytes).await?;
///     assert_eq!(bytes, b"hello");
///     Ok::<_, std::io::Error>(())
/// }).unwrap();
/// ```
pub type UnixStream = Watched<std::os::unix::net::UnixStream>;

/// How long to wait before asking again a listener whose queue is full: no system reports when there is room.
const QUEUE_IS_FULL: Duration = Duration::from_millis(5);

impl Watched<std::os::unix::net::UnixStream> {
    /// Connects to a listener's path.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        loop {
            match socket.connect(&address) {
                Ok(()) => return Ok(Watched::new(socket.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_IS_FULL).await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Two ends of a new connection.
    ///
    /// # Errors
    /// The operating system's.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        Ok((Watched::new(one), Watched::new(other)))
    }

    /// Says that nothing more will be written: the other end reads to the end. Reading goes on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_eof(&self) -> io::Result<()> {
        self.get_ref().shutdown(Shutdown::Write)
    }
}

/// A socket that waits for connections within this machine.
pub type UnixListener = Watched<std::os::unix::net::UnixListener>;

impl Watched<std::os::unix::net::UnixListener> {
    /// Listens at a path, which must not exist yet. It remains when the listener is dropped: removing it is up to you.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Watched::new(listener))
    }

    /// Waits for the next connection. Dropping the future before it is ready loses none.
    ///
    /// # Errors
    /// The operating system's. Being out of descriptors is among them, and passes: sleep a moment and accept again.
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = self.read_with(std::os::unix::net::UnixListener::accept).await?;
        stream.set_nonblocking(true)?;
        Ok((Watched::new(stream), peer))
    }
}

/// A socket for datagrams within this machine, none of which is lost; a sender waits while a receiver's queue is full.
pub type UnixDatagram = Watched<std::os::unix::net::UnixDatagram>;

impl Watched<std::os::unix::net::UnixDatagram> {
    /// A socket at a path, which must not exist yet and remains when the socket is dropped.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::watch(std::os::unix::net::UnixDatagram::bind(path)?)
    }

    /// A socket without a name: it can send, but nobody can answer.
    ///
    /// # Errors
    /// The operating system's.
    pub fn unbound() -> io::Result<Self> {
        Self::watch(std::os::unix::net::UnixDatagram::unbound()?)
    }

    /// Two sockets connected to each other.
    ///
    /// # Errors
    /// The operating system's.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = std::os::unix::net::UnixDatagram::pair()?;
        Ok((Self::watch(one)?, Self::watch(other)?))
    }

    fn watch(socket: std::os::unix::net::UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Watched::new(socket))
    }

    /// Sets the one socket that [`send`](Self::send) sends to and [`recv`](Self::recv) receives from.
    ///
    /// # Errors
    /// The operating system's.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.get_ref().connect(path)
    }

    /// Sends a datagram to a socket's path.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn send_to(&self, datagram: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        self.write_with(|socket| socket.send_to(datagram, path)).await
    }

    /// Receives a datagram and says from where; what does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.read_with(|socket| socket.recv_from(buffer)).await
    }

    /// Sends a datagram to the socket of [`connect`](Self::connect).
    ///
    /// # Errors
    /// The operating system's.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.write_with(|socket| socket.send(datagram)).await
    }

    /// Receives a datagram from the socket of [`connect`](Self::connect).
    ///
    /// # Errors
    /// The operating system's.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(|socket| socket.recv(buffer)).await
    }
}
