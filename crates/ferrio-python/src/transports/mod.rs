//! Transports: what moves bytes between a descriptor and a protocol.

pub mod address;
pub mod datagram;
#[cfg(unix)]
pub mod pipe;
#[cfg(unix)]
pub mod process;
pub mod stream;
pub mod tls;
mod write_queue;
