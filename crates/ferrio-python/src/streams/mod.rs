//! asyncio's streams: what a connection's bytes go through between its transport and a coroutine.
//!
//! ```text
//!   a coroutine            await reader.readline()          writer.write(data); await writer.drain()
//!     StreamReader         buffer.rs, reader.rs, taking.rs    StreamWriter   writer.rs
//!     StreamReaderProtocol                 protocol.rs, flow.rs
//!   a transport            ferrio's own (receiving.rs) or any other
//! ```
//!
//! A native transport that finds a [`StreamReaderProtocol`] above it reads straight into the reader's buffer
//! ([`StreamReaderProtocol::sink`]); every other one calls `data_received`. As with the locks (`sync/`), each class here is the native half
//! of one in `python/ferrio/streams.py`, where the coroutine methods are: they take what is there and wait only if
//! there is too little. What happens once per connection (`connection_made`, `start_tls`, `repr`) is Python, mostly
//! asyncio's own, which finds the private attributes that it expects. They work on every loop and with any transport.
//!
//! Behaviour follows CPython's `asyncio/streams.py`.

mod attributes;
mod buffer;
mod flow;
mod inherited;
mod protocol;
mod reader;
#[cfg(unix)]
mod receiving;
mod taking;
mod transport;
mod writer;

pub use flow::FlowControl;
pub use protocol::StreamReaderProtocol;
pub use reader::StreamReader;
pub use writer::StreamWriter;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Calls `data_received`, or does what it would.
pub fn deliver(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
    if let Ok(streams) = protocol.cast::<StreamReaderProtocol>()
        && streams.get().is_plain(protocol.py())
    {
        return streams.get().receive(data);
    }
    protocol.call_method1(intern!(protocol.py(), "data_received"), (data,)).map(drop)
}

/// Answers a future, or fails it with an exception, unless it is done.
fn settle(future: &Bound<'_, PyAny>, exception: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let py = future.py();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    match exception {
        None => future.call_method1(intern!(py, "set_result"), (py.None(),)),
        Some(exception) => future.call_method1(intern!(py, "set_exception"), (exception,)),
    }
    .map(drop)
}

/// Gives the classes their raw methods.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    reader::install_methods(py)?;
    taking::install_methods(py)?;
    flow::install_methods(py)?;
    protocol::install_methods(py)?;
    writer::install_methods(py)
}
