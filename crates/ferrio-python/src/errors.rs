//! The operating system's errors as Python's.

use std::io;

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;

/// `OSError(errno, strerror)`: Python picks the subclass (ConnectionResetError, …) by the number.
pub fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(errno) = error.raw_os_error() else { return PyOSError::new_err(error.to_string()) };
    let text = py.import(intern!(py, "os")).and_then(|os| os.call_method1(intern!(py, "strerror"), (errno,)));
    match text {
        Ok(text) => PyOSError::new_err((errno, text.unbind())),
        Err(error) => error,
    }
}

/// [`os_error`] for `map_err`. PyO3's own conversion loses the number.
pub fn from_io(error: io::Error) -> PyErr {
    Python::attach(|py| os_error(py, &error))
}

/// Whether the system call could not be done now, which is no error.
pub fn must_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What a Python socket's method returned, or `None` if it could not be done now.
pub fn unless_it_must_wait<'py>(
    py: Python<'py>,
    result: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
