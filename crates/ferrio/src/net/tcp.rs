//! TCP.

use std::io;
use std::net::{Shutdown, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Watched, lookup};

/// A TCP connection.
pub type TcpStream = Watched<std::net::TcpStream>;

impl Watched<std::net::TcpStream> {
    /// Connects to an address. Dropping the future before it is ready ends the attempt.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let socket = Watched::new(socket);
        match socket.get_ref().connect(&address.into()) {
            Ok(()) => {}
            Err(error) if is_under_way(&error) => socket.write_with(is_connected).await?,
            Err(error) => return Err(error),
        }
        Ok(Watched::new(socket.into_inner().into()))
    }

    /// Connects to the first address of a host that answers, in the order in which the resolver gives them.
    ///
    /// # Errors
    /// The resolver's, or that of the last address.
    pub async fn connect_host(host: &str, port: u16) -> io::Result<Self> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in lookup(host, port).await? {
            match Self::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// This end's address.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    /// The other end's address.
    ///
    /// # Errors
    /// The operating system's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().peer_addr()
    }

    /// Says that nothing more will be written: the other end reads to the end. Reading goes on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write_eof(&self) -> io::Result<()> {
        self.get_ref().shutdown(Shutdown::Write)
    }
}

/// A socket that waits for TCP connections.
pub type TcpListener = Watched<std::net::TcpListener>;

impl Watched<std::net::TcpListener> {
    /// Listens on an address; with port 0 the operating system chooses one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address.into())?;
        listener.set_nonblocking(true)?;
        Ok(Watched::new(listener))
    }

    /// Waits for the next connection. Dropping the future before it is ready loses none.
    ///
    /// # Errors
    /// The operating system's. Being out of descriptors is among them, and passes: sleep a moment and accept again.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.read_with(std::net::TcpListener::accept).await?;
        stream.set_nonblocking(true)?;
        Ok((Watched::new(stream), peer))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }
}

fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether an attempt has come to its end, and to which.
fn is_connected(socket: &Socket) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        result => result.map(drop),
    }
}
