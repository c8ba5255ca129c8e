//! Reading: the engine watches the descriptor level-triggered; each piece of news is one `recv` and one call of the
//! protocol. A protocol's bytes come by way of the loop's scratch buffer, and where much came last time straight into
//! the object that the protocol gets, which several `recv` may fill; a BufferedProtocol's into its own buffer.

use std::io;

use ferrio::Direction;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Flow, ProtocolKind, State, StreamTransport};
use crate::core::{Job, MANY, READ_SIZE};
use crate::errors::from_io;
use crate::ffi::buffer::Buffer;
use crate::ffi::bytes::filled_in_place;
use crate::ffi::call::call_method;
use crate::ffi::context::run_in;
use crate::streams::StreamReaderProtocol;
use crate::transports::tls::TlsProtocol;
use crate::transports::write_queue::{receive, receive_in_pieces, receive_into};

/// As much is read at once for TLS, in bytes: decrypting it takes far longer than another system call.
const TLS_READ_SIZE: usize = 64 * 1024;

/// As much of a bulk is received by one system call, in bytes. While one copies, what arrives waits for the socket, and the
/// sender for word that there is room: uploads of 1 MiB take 0.87 of what they do with 256 KiB at once.
const PIECE: usize = 64 * 1024;

impl StreamTransport {
    /// A connection that cannot be watched ends: it would never hear of its peer.
    pub(super) fn watch_reads(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        this.get().core.check_closed()?;
        if !state.read_watched.replace(true) {
            let job = Job::Call(this.clone().into_any().unbind(), Self::on_readable);
            match this.get().core.engine_in_turn(this.py())?.watch(state.fd, Direction::Read, job) {
                Ok(former) => drop(former),
                Err(error) => {
                    state.read_watched.set(false);
                    return Self::fatal(this, from_io(error), "Fatal read error on socket transport");
                }
            }
        }
        Ok(())
    }

    pub(super) fn unwatch_reads(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state()?;
        if state.read_watched.replace(false) {
            drop(self.core.engine_in_turn(py)?.unwatch(state.fd, Direction::Read));
        }
        Ok(())
    }

    fn on_readable(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = Self::of(object)?;
        let transport = this.get();
        let state = transport.state()?;
        if state.closing.get() || !state.read_watched.get() {
            return Ok(());
        }
        if state.reading_paused.get() {
            // Pausing costs a system call only if news comes meanwhile.
            return transport.unwatch_reads(this.py());
        }
        if let Flow::Broken(number) = state.flow.get() {
            return Self::read_failed(this, io::Error::from_raw_os_error(number.into()));
        }
        match state.kind.get() {
            ProtocolKind::Plain => Self::read_data(this),
            ProtocolKind::Buffered => Self::read_into_protocol(this),
            ProtocolKind::Tls => Self::read_into_tls(this),
            ProtocolKind::Reader => Self::read_into_reader(this),
        }
    }

    fn read_data(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        let received = match state.flow.get() {
            Flow::Little => transport.core.with_scratch(|scratch| {
                receive(state.fd, scratch).map(|count| {
                    if count >= MANY {
                        state.flow.set(Flow::Much);
                    }
                    PyBytes::new(py, &scratch[..count])
                })
            })?,
            flow => match Self::receive_straight(py, state, flow) {
                Ok(received) => received,
                Err(error) => return Self::fatal(this, error, "Fatal read error on socket transport"),
            },
        };
        match received {
            Ok(data) if !data.as_bytes().is_empty() => {
                let called = transport
                    .call_protocol(py, |protocol| call_method(protocol, intern!(py, "data_received"), [data.as_any()]));
                match called {
                    Ok(_) => Self::flush_large(this),
                    Err(error) => Self::fatal(this, error, "Fatal error: protocol.data_received() call failed."),
                }
            }
            Ok(_) => Self::on_eof(this),
            Err(error) => Self::read_failed(this, error),
        }
    }

    /// Receives into the object that the protocol gets. Without a copy a server takes 5 to 8 % less. In portions of 128 KiB it
    /// takes as much; of 64 KiB, up to a third more for messages of 100 KiB, which are no bulk (docs/benchmarks.md).
    #[inline(never)]
    fn receive_straight<'py>(py: Python<'py>, state: &State, flow: Flow) -> PyResult<io::Result<Bound<'py, PyBytes>>> {
        let piece = if matches!(flow, Flow::Bulk) { PIECE } else { READ_SIZE };
        filled_in_place(py, READ_SIZE, |room| {
            let (count, error) = receive_in_pieces(state.fd, room, READ_SIZE, piece)?;
            state.flow.set(match error.and_then(|error| error.raw_os_error()) {
                Some(number) => Flow::Broken(number as i16), // (They are below 4096.)
                None => flow.after(count),
            });
            Ok(count)
        })
    }

    fn read_into_protocol(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        let buffer = transport.call_protocol(py, |protocol| {
            let buffer = call_method(protocol, intern!(py, "get_buffer"), [&(-1_i32).into_pyobject(py)?.into_any()])?;
            if buffer.len()? == 0 {
                return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
            }
            Ok(buffer)
        });
        let received = buffer.and_then(|buffer| {
            let room = Buffer::writable(&buffer)?;
            Ok(receive_into(state.fd, room.as_ptr(), room.len()))
        });
        let received = match received {
            Ok(received) => received,
            Err(error) => return Self::fatal(this, error, "Fatal error: protocol.get_buffer() call failed."),
        };
        match received {
            Ok(0) => Self::on_eof(this),
            Ok(count) => {
                let called = transport.call_protocol(py, |protocol| {
                    call_method(protocol, intern!(py, "buffer_updated"), [&count.into_pyobject(py)?.into_any()])
                });
                match called {
                    Ok(_) => Self::flush_large(this),
                    Err(error) => Self::fatal(this, error, "Fatal error: protocol.buffer_updated() call failed."),
                }
            }
            Err(error) => Self::read_failed(this, error),
        }
    }

    fn read_into_tls(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let state = transport.state()?;
        let protocol = transport.protocol(py)?;
        let Ok(tls) = protocol.cast_exact::<TlsProtocol>() else { return Ok(()) };
        let context = transport.run_context(py)?;
        // OpenSSL reads what was received where it lies.
        let received = transport.core.with_scratch(|scratch| {
            let count = receive(state.fd, &mut scratch[..TLS_READ_SIZE])?;
            let data = &scratch[..count];
            Ok((count > 0).then(|| match &context {
                Some(context) => run_in(py, context, || TlsProtocol::received(tls, data)),
                None => TlsProtocol::received(tls, data),
            }))
        })?;
        match received {
            Ok(Some(outcome)) => {
                outcome.or_else(|error| Self::fatal(this, error, "Fatal error: protocol.buffer_updated() call failed."))
            }
            Ok(None) => Self::on_eof(this),
            Err(error) => Self::read_failed(this, error),
        }
    }

    fn read_into_reader(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let protocol = transport.protocol(py)?;
        let reader = protocol.cast::<StreamReaderProtocol>().ok().and_then(|streams| streams.get().sink(py));
        let Some(reader) = reader else { return Self::read_data(this) };
        match reader.get().receive(py, &transport.core, transport.state()?.fd) {
            Ok(Ok(0)) => Self::on_eof(this),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Self::read_failed(this, error),
            Err(error) => Self::fatal(this, error, "Fatal error: protocol.data_received() call failed."),
        }
    }

    fn read_failed(this: &Bound<'_, Self>, error: io::Error) -> PyResult<()> {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Ok(());
        }
        Self::fatal(this, from_io(error), "Fatal read error on socket transport")
    }

    fn on_eof(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let transport = this.get();
        let keep_open = transport.call_protocol(py, |protocol| call_method(protocol, intern!(py, "eof_received"), []));
        match keep_open.and_then(|keep_open| keep_open.is_truthy()) {
            // The peer has no more to say, but we may: half-closed.
            Ok(true) => transport.unwatch_reads(this.py()),
            Ok(false) => Self::close(this),
            Err(error) => Self::fatal(this, error, "Fatal error: protocol.eof_received() call failed."),
        }
    }
}
