//! Transports: what moves bytes between a descriptor and a protocol.

pub mod address;
pub mod stream;
mod write_queue;
