//! From a socket straight into a reader's buffer: no object is made of the bytes but the one that a coroutine gets.

use std::io;

use ferrio::poll::RawFd;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::buffer::Buffer;
use super::reader::StreamReader;
use crate::core::{Core, MANY};
use crate::ffi::bytes::filled_in_place;
use crate::transports::write_queue::receive_into;

/// As much is read at least, though the reader be full.
const LEAST: usize = 4 * 1024;

/// As much is read at most: what stays in the processor's cache is copied from there.
const MOST: usize = 64 * 1024;

/// How the next bytes are received.
enum Way {
    /// Into a new object of this size, which the coroutine that waits will take whole.
    InPlace(usize),
    /// Into the loop's scratch memory, of which so much is lent, and from there into an object.
    Scratch(usize),
    /// To the end of what is there.
    Append(usize),
}

impl StreamReader {
    /// One `recv`. `Ok(Ok(0))` is the end of the stream, which the reader is not told.
    pub fn receive(&self, py: Python<'_>, core: &Core, fd: RawFd) -> PyResult<io::Result<usize>> {
        self.check_not_ended(py)?;
        let received = match self.way(py) {
            Way::InPlace(size) => filled_in_place(py, size, |room| receive_into(fd, room, size))?,
            Way::Scratch(size) => core.with_scratch(|scratch| {
                receive_into(fd, scratch.as_mut_ptr(), size).map(|count| PyBytes::new(py, &scratch[..count]))
            })?,
            Way::Append(size) => {
                let received = self
                    .state
                    .with(py, |state| state.buffer.receive(py, size, |room, size| receive_into(fd, room, size)));
                if received.as_ref().is_ok_and(|count| *count > 0) {
                    self.arrived(py)?;
                }
                return Ok(received);
            }
        };
        match received {
            Ok(data) => {
                let count = data.as_bytes().len();
                self.state.with(py, |state| state.is_flowing = count >= MANY);
                self.feed_bytes(&data)?;
                Ok(Ok(count))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn way(&self, py: Python<'_>) -> Way {
        self.state.with(py, |state| {
            let length = state.buffer.len(py);
            let wanted = state.wanted();
            // As much as may wait here: pausing and resuming would cost system calls.
            let size = state.high_water().saturating_sub(length).max(wanted).clamp(LEAST, MOST);
            match &state.buffer {
                Buffer::Shown(_) => Way::Scratch(size),
                Buffer::Block(_) => Way::Append(size),
                _ if length > 0 => Way::Append(size),
                _ if wanted >= MANY && state.is_flowing => Way::InPlace(size.min(wanted)),
                _ => Way::Scratch(size),
            }
        })
    }
}
