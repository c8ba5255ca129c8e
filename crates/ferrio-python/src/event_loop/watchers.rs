//! `add_reader`, `add_writer` and their removal: callbacks on any descriptor.

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyAttributeError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use super::Loop;
use crate::core::Job;
use crate::errors::from_io;
use crate::ffi::context::copy_current;
use crate::handle;

#[pymethods]
impl Loop {
    /// Call callback(*args) in every turn in which fd (a number, or an object with fileno()) can be read.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader<'py>(
        this: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        add(this, fd, Direction::Read, &callback, &args)
    }

    /// Stop watching fd for reading. Returns whether it was watched.
    fn remove_reader(this: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        remove(this, fd, Direction::Read)
    }

    /// Call callback(*args) in every turn in which fd (a number, or an object with fileno()) can be written.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer<'py>(
        this: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        add(this, fd, Direction::Write, &callback, &args)
    }

    /// Stop watching fd for writing. Returns whether it was watched.
    fn remove_writer(this: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        remove(this, fd, Direction::Write)
    }
}

fn add<'py>(
    this: &Bound<'py, Loop>,
    fd: &Bound<'py, PyAny>,
    direction: Direction,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<()> {
    let core = &this.get().core;
    core.check_closed()?;
    let fd = descriptor(fd)?;
    this.get().check_no_transport(this.py(), fd)?;
    let arguments: Vec<_> = args.iter().map(|argument| argument.as_ptr()).collect();
    let context = copy_current(this.py())?;
    // SAFETY: `callback` and `args` outlive the call and keep the pointers alive.
    let handle = unsafe { handle::new(this.as_any(), callback.as_ptr(), &arguments, context)? };
    handle::set_repeats(&handle);
    let former = core.engine()?.watch(fd, direction, Job::Handle(handle.unbind())).map_err(from_io)?;
    cancel(this.py(), former)
}

fn remove(this: &Bound<'_, Loop>, fd: &Bound<'_, PyAny>, direction: Direction) -> PyResult<bool> {
    let core = &this.get().core;
    let fd = match descriptor(fd) {
        // Such a number cannot be watched.
        Err(error) if error.is_instance_of::<PyOverflowError>(this.py()) => return Ok(false),
        fd => fd?,
    };
    this.get().check_no_transport(this.py(), fd)?;
    if core.is_closed() {
        return Ok(false);
    }
    let former = core.engine()?.unwatch(fd, direction);
    let watched = former.is_some();
    cancel(this.py(), former)?;
    Ok(watched)
}

/// A handle that is no longer watched must not run, even if it stands in the ready queue already.
fn cancel(py: Python<'_>, former: Option<Job>) -> PyResult<()> {
    match former {
        Some(Job::Handle(former)) => handle::cancel(former.bind(py)),
        _ => Ok(()),
    }
}

/// The number of `fd`, which is one or has a `fileno()`.
///
/// # Errors
/// ValueError if it is neither, or negative (as `selectors` says it); OverflowError if it is too big for one.
pub fn descriptor(fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = fd.py();
    let number = if fd.is_instance_of::<PyInt>() { Ok(fd.clone()) } else { file_number(fd) };
    let number = number.map_err(|error| {
        // Other errors are those of a `fileno()` of the user's own.
        let is_no_file = error.is_instance_of::<PyAttributeError>(py)
            || error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyValueError>(py);
        if !is_no_file {
            return error;
        }
        let invalid = PyValueError::new_err(format!("Invalid file object: {fd:?}"));
        invalid.set_cause(py, Some(error));
        invalid
    })?;
    if number.lt(0)? {
        return Err(PyValueError::new_err(format!("Invalid file descriptor: {number}")));
    }
    number.extract().map_err(|_| PyOverflowError::new_err(format!("{number} is too large for a file descriptor")))
}

fn file_number<'py>(file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let number = file.call_method0(intern!(file.py(), "fileno"))?;
    file.py().get_type::<PyInt>().call1((number,))
}

impl Loop {
    /// # Errors
    /// RuntimeError if a transport owns `fd`: two readers would steal each other's data.
    pub fn check_no_transport(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        match self.core.transport_of(py, fd) {
            Some(transport) => Err(PyRuntimeError::new_err(format!(
                "File descriptor {fd} is used by transport {}",
                transport.bind(py).repr()?
            ))),
            None => Ok(()),
        }
    }
}
