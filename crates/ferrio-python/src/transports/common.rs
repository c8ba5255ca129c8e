//! What all transports do alike: what they take as data, whom they answer, what they say.

use pyo3::exceptions::{PyResourceWarning, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::core::Core;
use crate::imports::imports;

/// After this many writes to a lost connection each further one is warned about.
pub const WARN_AFTER_LOST_WRITES: u32 = 5;

pub fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    protocol.is_instance(imports(protocol.py())?.buffered_protocol.bind(protocol.py()))
}

/// Answers a future unless it is done or cancelled.
pub fn settle_waiter(waiter: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// The same, with an exception.
pub fn fail_waiter(waiter: &Bound<'_, PyAny>, error: Bound<'_, PyAny>) -> PyResult<()> {
    let py = waiter.py();
    if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        waiter.call_method1(intern!(py, "set_exception"), (error,))?;
    }
    Ok(())
}

/// The bytes of `data`: itself if it is immutable, a copy if the caller may change it. Never of a subclass, so that dropping
/// it runs no code.
pub fn snapshot<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match as_bytes(data)? {
        Some(bytes) => Ok(bytes),
        None => {
            let kind = data.get_type().name()?.to_string();
            Err(PyTypeError::new_err(format!("data argument must be a bytes-like object, not {kind:?}")))
        }
    }
}

/// The same; None if `data` is nothing that a transport writes.
pub fn as_bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(Some(bytes.clone()));
    }
    if data.is_instance_of::<PyBytes>() || data.is_instance_of::<PyByteArray>() || data.is_instance_of::<PyMemoryView>()
    {
        let copy: Bound<'_, PyBytes> = data.py().get_type::<PyBytes>().call1((data,))?.cast_into()?;
        // What a `__bytes__` has returned may be of one.
        let is_exact = copy.cast_exact::<PyBytes>().is_ok();
        return Ok(Some(if is_exact { copy } else { PyBytes::new(copy.py(), copy.as_bytes()) }));
    }
    Ok(None)
}

/// The ResourceWarning of a transport that nobody closed. As an error (`-W error`) it has nobody to go to.
pub fn warn_unclosed(py: Python<'_>, description: &str) {
    let text = std::ffi::CString::new(format!("unclosed transport {description}")).unwrap_or_default();
    if let Err(error) = PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1) {
        error.write_unraisable(py, None);
    }
}

/// asyncio's log.
pub fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    imports(py)?.helpers.bind(py).getattr(intern!(py, "logger"))
}

/// Debug mode: one line to asyncio's log, about `subject`.
pub fn log(core: &Core, py: Python<'_>, level: &str, format: &str, subject: &Bound<'_, PyAny>) -> PyResult<()> {
    if core.debug() { logger(py)?.call_method1(level, (format, subject)).map(drop) } else { Ok(()) }
}

/// Debug mode: an error that ends a connection without being a bug.
pub fn log_lost(core: &Core, this: &Bound<'_, PyAny>, message: &str, error: &PyErr) -> PyResult<()> {
    let py = this.py();
    if core.debug() {
        imports(py)?.helpers.bind(py).call_method1("log_lost", (this, message, error.value(py)))?;
    }
    Ok(())
}
