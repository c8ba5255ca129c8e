//! One connection: a request under way, moved along whenever the kernel has news of its socket.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::exchange::{Answer, Exchange, Progress};
use crate::link::{Link, Peer};

/// A connected, non-blocking socket with one request under way.
pub struct Connection {
    link: Link,
    sent: usize,
    answer: Answer,
    started: Instant,
}

impl Connection {
    /// Connects; the first request is sent by the first `advance`.
    pub fn open(peer: &Peer) -> io::Result<Self> {
        let started = Instant::now();
        Ok(Self { link: Link::open(peer)?, sent: 0, answer: Answer::default(), started })
    }

    /// The socket, to be watched.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.link.fd()
    }

    /// Sends and receives what the socket takes and has; says how many nanoseconds the request took once it is
    /// answered, and starts the next one if that is to use this connection as well.
    ///
    /// Only one request is under way, so nothing can follow a complete answer: there is no need to read until the
    /// socket is empty.
    pub fn advance(&mut self, exchange: &Exchange, buffer: &mut [u8]) -> Result<Option<u64>, String> {
        self.send(exchange.request())?;
        loop {
            let count = match self.link.read(buffer) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("receiving: {error}")),
            };
            if exchange.judge(&mut self.answer, &buffer[..count])? == Progress::Complete {
                let taken = self.started.elapsed().as_nanos() as u64;
                if !exchange.once() {
                    self.restart();
                    self.send(exchange.request())?;
                }
                return Ok(Some(taken));
            }
            if self.link.is_empty_after(count, buffer.len()) {
                return Ok(None);
            }
        }
    }

    fn restart(&mut self) {
        self.sent = 0;
        self.answer = Answer::default();
        self.started = Instant::now();
    }

    fn send(&mut self, request: &[u8]) -> Result<(), String> {
        loop {
            match self.link.write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("sending: {error}")),
            }
            if self.sent == request.len() {
                break;
            }
        }
        Ok(())
    }
}
