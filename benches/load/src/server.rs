//! The bare server: epoll, read, write, and nothing else. What it costs is what no event loop can go below.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::arguments::Address;
use crate::exchange::Exchange;
use crate::sys::{Epoll, listen};

/// For ever, to `epoll_wait`.
const FOREVER: Duration = Duration::MAX;

/// As much as a client's burst.
const BUFFER: usize = 256 * 1024;

/// Prints where it listens, and serves until it is killed.
pub fn run(exchange: &Exchange, address: &Address) -> io::Result<()> {
    match address {
        Address::Tcp(name) => {
            let listener = TcpListener::bind(name)?;
            listener.set_nonblocking(true)?;
            announce(&format!("tcp:{}", listener.local_addr()?));
            serve(exchange, &listener, || {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(stream.into())
            })
        }
        Address::Unix(path) => {
            // A relative path is one among the temporary files.
            let path = std::env::temp_dir().join(path);
            let listener = UnixListener::bind(&path)?;
            listener.set_nonblocking(true)?;
            announce(&format!("unix:{}", path.display()));
            serve(exchange, &listener, || {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            })
        }
        Address::Udp(name) => {
            let socket = UdpSocket::bind(name)?;
            socket.set_nonblocking(true)?;
            announce(&format!("udp:{}", socket.local_addr()?));
            echo_datagrams(&socket)
        }
        Address::Tls(_) => Err(io::Error::other("the bare server has no TLS")),
    }
}

fn announce(address: &str) {
    println!("{{\"loop\": \"none\", \"address\": {address:?}}}");
}

fn serve(exchange: &Exchange, listener: &impl AsFd, accept: impl Fn() -> io::Result<OwnedFd>) -> io::Result<()> {
    let mut epoll = Epoll::new(1024)?;
    // A new connection has its descriptor for a token, and is found under it.
    let token = listener.as_fd().as_raw_fd() as usize;
    listen(listener.as_fd())?;
    epoll.watch(listener.as_fd(), token)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let reply = exchange.reply();
    let mut ready = Vec::new();
    loop {
        epoll.wait(FOREVER, &mut ready)?;
        for &ready in &ready {
            if ready == token {
                while let Some(socket) = would_block(accept())? {
                    let token = socket.as_raw_fd() as usize;
                    epoll.watch(socket.as_fd(), token)?;
                    connections.resize_with(connections.len().max(token + 1), || None);
                    connections[token] = Some(Connection::new(socket));
                }
            } else if let Some(connection) = &mut connections[ready] {
                // A client that goes away with an answer under way resets its connection.
                if !connection.advance(exchange, &reply, &mut buffer).unwrap_or(false) {
                    connections[ready] = None;
                }
            }
        }
    }
}

/// The outcome, or nothing if there is none yet.
fn would_block<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

struct Connection {
    socket: File,
    /// How much there is of a request that is not whole yet.
    begun: usize,
    /// How much of replies is still to be sent.
    owed: usize,
    /// What of an echo is still to be sent.
    unsent: Vec<u8>,
}

impl Connection {
    fn new(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), begun: 0, owed: 0, unsent: Vec::new() }
    }

    /// Answers what has come, as far as the socket takes it; false at the end of the connection.
    fn advance(&mut self, exchange: &Exchange, reply: &[u8], buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            if !self.send_echo()? || !self.send_replies(reply)? {
                return Ok(true);
            }
            let Some(count) = would_block(self.socket.read(buffer))? else { return Ok(true) };
            if count == 0 {
                return Ok(false);
            }
            let received = &buffer[..count];
            if reply.is_empty() {
                let sent = would_block(self.socket.write(received))?.unwrap_or(0);
                self.unsent.extend_from_slice(&received[sent..]);
            } else {
                self.owed += exchange.requests(&mut self.begun, received) * reply.len();
                self.send_replies(reply)?;
            }
            if count < buffer.len() && self.unsent.is_empty() && self.owed == 0 {
                return Ok(true);
            }
        }
    }

    /// Whether nothing is left of it.
    fn send_echo(&mut self) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = would_block(self.socket.write(&self.unsent))?.unwrap_or(0);
            self.unsent.drain(..sent);
        }
        Ok(self.unsent.is_empty())
    }

    /// Whether nothing is left of them.
    fn send_replies(&mut self, reply: &[u8]) -> io::Result<bool> {
        while self.owed > 0 {
            let start = (reply.len() - self.owed % reply.len()) % reply.len();
            match would_block(self.socket.write(&reply[start..]))? {
                Some(sent) => self.owed -= sent,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn echo_datagrams(socket: &UdpSocket) -> io::Result<()> {
    let mut epoll = Epoll::new(1)?;
    epoll.watch(socket.as_fd(), 0)?;
    let (mut buffer, mut ready) = (vec![0; BUFFER], Vec::new());
    loop {
        epoll.wait(FOREVER, &mut ready)?;
        while let Some((count, client)) = would_block(socket.recv_from(&mut buffer))? {
            // The kernel may drop what its client does not take.
            would_block(socket.send_to(&buffer[..count], client))?;
        }
    }
}
