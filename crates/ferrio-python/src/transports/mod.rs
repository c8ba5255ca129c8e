//! Transports: what moves bytes between a descriptor and a protocol.

pub mod address;
#[cfg(unix)]
pub mod pipe;
pub mod stream;
mod write_queue;
