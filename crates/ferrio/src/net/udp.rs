//! UDP.

use std::io;
use std::net::SocketAddr;

use super::Watched;

/// A UDP socket. One call sends or receives one datagram, which may be empty.
///
/// ```
/// use ferrio::net::UdpSocket;
///
/// ferrio::run(async {
///     let (here, there) = (UdpSocket::bind(([127, 0, 0, 1], 0))?, UdpSocket::bind(([127, 0, 0, 1], 0))?);
///     here.send_to(b"hello", there.local_addr()?).await?;
///     let mut buffer = [0; 100];
///     let (length, from) = there.recv_from(&mut buffer).await?;
///     assert_eq!((&buffer[..length], from), (&b"hello"[..], here.local_addr()?));
///     Ok::<_, std::io::Error>(())
/// }).unwrap();
/// ```
pub type UdpSocket = Watched<std::net::UdpSocket>;

impl Watched<std::net::UdpSocket> {
    /// A socket at an address; with port 0 the operating system chooses one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(address: impl Into<SocketAddr>) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address.into())?;
        socket.set_nonblocking(true)?;
        Ok(Watched::new(socket))
    }

    /// Sets the one address that [`send`](Self::send) sends to and [`recv`](Self::recv) receives from. Sends nothing,
    /// and so never waits.
    ///
    /// # Errors
    /// The operating system's.
    pub fn connect(&self, address: impl Into<SocketAddr>) -> io::Result<()> {
        self.get_ref().connect(address.into())
    }

    /// Sends a datagram to an address.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn send_to(&self, datagram: &[u8], address: impl Into<SocketAddr>) -> io::Result<usize> {
        let address = address.into();
        self.write_with(|socket| socket.send_to(datagram, address)).await
    }

    /// Receives a datagram and says from where; what does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.read_with(|socket| socket.recv_from(buffer)).await
    }

    /// Sends a datagram to the address of [`connect`](Self::connect).
    ///
    /// # Errors
    /// The operating system's; refusals of earlier datagrams are reported here, too.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.write_with(|socket| socket.send(datagram)).await
    }

    /// Receives a datagram from the address of [`connect`](Self::connect).
    ///
    /// # Errors
    /// The operating system's.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(|socket| socket.recv(buffer)).await
    }

    /// This end's address.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }
}
