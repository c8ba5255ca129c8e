//! Transports: what moves bytes between a descriptor and a protocol.

pub mod address;
mod common;
pub mod datagram;
pub mod pipe;
pub mod process;
pub mod stream;
pub mod tls;
mod water_marks;
pub mod write_queue;
