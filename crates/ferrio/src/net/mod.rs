//! Sockets: TCP, UDP and Unix sockets, each the standard library's type inside a [`Watched`].
//!
//! An operation tries the system call first and waits for the loop's poller only if the answer is "would block". While
//! it waits nothing has been read or written, so that dropping it (a timeout, a cancellation) loses nothing.
//!
//! Reading and writing take `&self`: one task may read while another writes. Several tasks may even wait for the same
//! direction of one socket (several accepting from a listener, say): news wakes them all, the first in the order of
//! their waiting gets what there is, and the others wait again.
//!
//! ```
//! use ferrio::net::{TcpListener, TcpStream};
//!
//! ferrio::run(async {
//!     let listener = TcpListener::bind(([127, 0, 0, 1], 0))?;
//!     let client = ferrio::create_task(TcpStream::connect(listener.local_addr()?));
//!     let (server, _) = listener.accept().await?;
//!     let client = client.await.unwrap()?;
//!
//!     client.write_all(b"ping").await?;
//!     let mut bytes = [0; 4];
//!     server.read_exact(&mut bytes).await?;
//!     assert_eq!(&bytes, b"ping");
//!     Ok::<_, std::io::Error>(())
//! }).unwrap();
//! ```

mod tcp;
mod udp;
#[cfg(unix)]
mod unix;
mod watched;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::tasks::spawn_blocking;

pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
#[cfg(unix)]
pub use unix::{UnixDatagram, UnixListener, UnixStream};
pub use watched::Watched;

/// The addresses of a host. A numeric one is answered at once; a name is looked up on another thread, because the
/// operating system's resolver blocks.
///
/// # Errors
/// The resolver's.
///
/// # Panics
/// If no loop runs on this thread.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let found = spawn_blocking(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await;
    found.map_err(io::Error::other)?
}
