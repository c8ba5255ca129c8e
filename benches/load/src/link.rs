//! Bytes to a server and back: as they are, or through TLS.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::arguments::Address;

/// Whom to connect to, with all that can be prepared once.
pub struct Peer {
    address: Address,
    #[cfg(feature = "tls")]
    tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl Peer {
    /// `authority` names the file with the certificate that a TLS server's must be signed with.
    pub fn new(address: &Address, authority: &Path) -> Result<Self, String> {
        #[cfg(feature = "tls")]
        let tls = matches!(address, Address::Tls(_)).then(|| tls::config(authority)).transpose()?;
        #[cfg(not(feature = "tls"))]
        let _ = authority;
        Ok(Self {
            address: address.clone(),
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

/// A connected, non-blocking socket.
pub enum Link {
    /// Any kind of connected socket reads and writes as a file does.
    Plain(File),
    #[cfg(feature = "tls")]
    Tls(Box<tls::Tls>),
}

impl Link {
    /// Connects, and shakes hands where there are hands to shake.
    pub fn open(peer: &Peer) -> io::Result<Self> {
        let socket: OwnedFd = match &peer.address {
            Address::Tcp(name) => tcp(name)?.into(),
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
            Address::Udp(name) => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(name)?;
                socket.set_nonblocking(true)?;
                socket.into()
            }
            #[cfg(feature = "tls")]
            Address::Tls(name) => {
                let config = peer.tls.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
                return Ok(Self::Tls(Box::new(tls::Tls::open(name, config)?)));
            }
            #[cfg(not(feature = "tls"))]
            Address::Tls(_) => return Err(io::Error::other("built without the feature `tls`")),
        };
        Ok(Self::Plain(socket.into()))
    }

    /// The socket, to be watched.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(file) => file.as_fd(),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.fd(),
        }
    }

    /// What there is to read now.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    /// Sends as much as the socket takes. With nothing new to send, what a link may have kept goes on its way.
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(_) if data.is_empty() => Ok(0),
            Self::Plain(file) => file.write(data),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.write(data),
        }
    }

    /// Whether a read of `count` bytes into a buffer of `room` has emptied the socket.
    pub fn is_empty_after(&self, count: usize, room: usize) -> bool {
        match self {
            Self::Plain(_) => count < room,
            // It reads a record at a time.
            #[cfg(feature = "tls")]
            Self::Tls(_) => false,
        }
    }
}

fn tcp(name: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(name)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(feature = "tls")]
mod tls {
    use std::io::{self, ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    /// TLS 1.3, and trust in one authority.
    pub fn config(authority: &Path) -> Result<Arc<ClientConfig>, String> {
        let complain = |error: &dyn std::fmt::Display| format!("{}: {error}", authority.display());
        let certificate = CertificateDer::from_pem_file(authority).map_err(|error| complain(&error))?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| complain(&error))?;
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// A TLS session over TCP.
    pub struct Tls {
        session: ClientConnection,
        socket: TcpStream,
    }

    impl Tls {
        pub fn open(name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
            let server = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let mut session = ClientConnection::new(config.clone(), server).map_err(io::Error::other)?;
            // A message is encrypted as a whole, and waits here for the socket.
            session.set_buffer_limit(None);
            let mut socket = TcpStream::connect(name)?;
            socket.set_nodelay(true)?;
            while session.is_handshaking() {
                session.complete_io(&mut socket)?;
            }
            socket.set_nonblocking(true)?;
            Ok(Self { session, socket })
        }

        pub fn fd(&self) -> BorrowedFd<'_> {
            self.socket.as_fd()
        }

        pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            loop {
                match self.session.reader().read(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    outcome => return outcome,
                }
                self.session.read_tls(&mut self.socket)?;
                self.session.process_new_packets().map_err(io::Error::other)?;
            }
        }

        pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let count = self.session.writer().write(data)?;
            while self.session.wants_write() {
                match self.session.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    // It has been taken; the rest goes when the socket has room.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(count)
        }
    }
}
