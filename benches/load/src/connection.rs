//! One connection: a request under way, moved along whenever the kernel has news of its socket.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::arguments::Address;
use crate::exchange::{Exchange, Progress};

/// A connected, non-blocking socket with one request under way.
pub struct Connection {
    /// Any kind of connected socket reads and writes as a file does.
    socket: File,
    sent: usize,
    answer: Vec<u8>,
    started: Instant,
}

impl Connection {
    /// Connects; the first request is sent by the first `advance`.
    pub fn open(address: &Address) -> io::Result<Self> {
        let socket: OwnedFd = match address {
            Address::Tcp(peer) => {
                let stream = TcpStream::connect(peer)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
            Address::Udp(peer) => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(peer)?;
                socket.set_nonblocking(true)?;
                socket.into()
            }
        };
        Ok(Self { socket: socket.into(), sent: 0, answer: Vec::new(), started: Instant::now() })
    }

    /// The socket, to be watched.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends and receives what the socket takes and has; says how many nanoseconds the request took once it is
    /// answered, and starts the next one.
    ///
    /// Only one request is under way, so nothing can follow a complete answer: there is no need to read until the
    /// socket is empty, and a read that leaves room in the buffer has emptied it.
    pub fn advance(&mut self, exchange: &Exchange, buffer: &mut [u8]) -> Result<Option<u64>, String> {
        self.send(exchange.request())?;
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("receiving: {error}")),
            };
            self.answer.extend_from_slice(&buffer[..count]);
            if exchange.judge(&self.answer)? == Progress::Complete {
                let taken = self.started.elapsed().as_nanos() as u64;
                self.restart();
                self.send(exchange.request())?;
                return Ok(Some(taken));
            }
            if count < buffer.len() {
                return Ok(None);
            }
        }
    }

    fn restart(&mut self) {
        self.sent = 0;
        self.answer.clear();
        self.started = Instant::now();
    }

    fn send(&mut self, request: &[u8]) -> Result<(), String> {
        while self.sent < request.len() {
            match self.socket.write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("sending: {error}")),
            }
        }
        Ok(())
    }
}
