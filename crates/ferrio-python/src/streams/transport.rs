//! What streams ask of a transport: of ferrio's own directly, of any other by its methods.

use pyo3::intern;
use pyo3::prelude::*;

#[cfg(unix)]
use crate::transports::stream::StreamTransport;

pub fn is_closing(transport: &Bound<'_, PyAny>) -> PyResult<bool> {
    #[cfg(unix)]
    if let Ok(transport) = transport.cast_exact::<StreamTransport>() {
        return transport.get().is_closing();
    }
    transport.call_method0(intern!(transport.py(), "is_closing"))?.is_truthy()
}

pub fn pause_reading(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    #[cfg(unix)]
    if let Ok(transport) = transport.cast_exact::<StreamTransport>() {
        return transport.get().pause_reading();
    }
    transport.call_method0(intern!(transport.py(), "pause_reading")).map(drop)
}

pub fn resume_reading(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    #[cfg(unix)]
    if let Ok(transport) = transport.cast_exact::<StreamTransport>() {
        return StreamTransport::resume_reading(transport);
    }
    transport.call_method0(intern!(transport.py(), "resume_reading")).map(drop)
}

pub fn write(transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    #[cfg(unix)]
    if let Ok(transport) = transport.cast_exact::<StreamTransport>() {
        return StreamTransport::write(transport, data);
    }
    transport.call_method1(intern!(transport.py(), "write"), (data,)).map(drop)
}
