//! `add_reader`, `add_writer` and their removal: callbacks on any descriptor. Other threads may call them while the loop runs,
//! as Jupyter's kernels do: with asyncio they take effect at once, though nothing promises it.
//!
//! A socket that was closed no longer knows its number. Whoever was given to `add_reader` can still be given to
//! `remove_reader`: [`Files`] remembers what was registered by which object.

use ferrio::Direction;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyAttributeError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};
use pyo3::{PyTraverseError, PyVisit};

use super::Loop;
use crate::core::Job;
use crate::errors::from_io;
use crate::ffi::context::copy_current;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, fastcall, install};
use crate::handle;

/// Installs the methods of this file into the finished class: those who wait for another library's sockets call them all
/// the time.
pub fn install_methods(class: &Bound<'_, pyo3::types::PyType>) -> PyResult<()> {
    install(
        class,
        c"add_reader",
        c"add_reader($self, fd, callback, *args)\n--\n\n\
          Call callback(*args) in every turn in which fd (a number, or an object with fileno()) can be read.",
        fastcall!(Loop, |this, arguments| add(this, &arguments, "add_reader", Direction::Read)),
    )?;
    install(
        class,
        c"remove_reader",
        c"remove_reader($self, fd)\n--\n\nStop watching fd for reading. Returns whether it was watched.",
        fastcall!(Loop, |this, arguments| remove(this, &arguments, "remove_reader", Direction::Read)),
    )?;
    install(
        class,
        c"add_writer",
        c"add_writer($self, fd, callback, *args)\n--\n\n\
          Call callback(*args) in every turn in which fd (a number, or an object with fileno()) can be written.",
        fastcall!(Loop, |this, arguments| add(this, &arguments, "add_writer", Direction::Write)),
    )?;
    install(
        class,
        c"remove_writer",
        c"remove_writer($self, fd)\n--\n\nStop watching fd for writing. Returns whether it was watched.",
        fastcall!(Loop, |this, arguments| remove(this, &arguments, "remove_writer", Direction::Write)),
    )
}

fn add<'py>(
    this: &Bound<'py, Loop>,
    arguments: &Arguments<'_, 'py>,
    method: &str,
    direction: Direction,
) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let core = &this.get().core;
    let (fd, callback, args) = parse(arguments, method)?;
    core.check_closed()?;
    let file = fd;
    let fd = descriptor(&file)?;
    this.get().check_no_transport(py, fd)?;
    let context = copy_current(py)?;
    // SAFETY: borrowed references that outlive the call.
    let handle = unsafe { handle::new(this.as_any(), callback.as_ptr(), args, context)? };
    handle::set_repeats(&handle);
    let former =
        core.engine_in_turn(py)?.watch(fd, direction, Job::Handle(handle::Scheduled::new(handle))).map_err(from_io)?;
    this.get().files.note(fd, direction, &file);
    cancel(py, former)?;
    Ok(py.None().into_bound(py))
}

type Parsed<'a, 'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, &'a [*mut ffi::PyObject]);

/// `(fd, callback, *args)`; the first two may be given by name.
fn parse<'a, 'py>(arguments: &Arguments<'a, 'py>, method: &str) -> PyResult<Parsed<'a, 'py>> {
    let (mut fd, mut callback) = (arguments.get(0), arguments.get(1));
    for (keyword, value) in arguments.keywords() {
        let place = if keyword.eq("fd")? {
            &mut fd
        } else if keyword.eq("callback")? {
            &mut callback
        } else {
            return Err(PyTypeError::new_err(format!("{method}() got an unexpected keyword argument '{keyword}'")));
        };
        if place.replace(value).is_some() {
            return Err(PyTypeError::new_err(format!("{method}() got multiple values for argument '{keyword}'")));
        }
    }
    let missing = |name| PyTypeError::new_err(format!("{method}() missing a required argument: '{name}'"));
    let args = arguments.positional().get(2..).unwrap_or_default();
    Ok((fd.ok_or_else(|| missing("fd"))?, callback.ok_or_else(|| missing("callback"))?, args))
}

fn remove<'py>(
    this: &Bound<'py, Loop>,
    arguments: &Arguments<'_, 'py>,
    method: &str,
    direction: Direction,
) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let core = &this.get().core;
    let answer = |watched| Ok(PyBool::new(py, watched).to_owned().into_any());
    let file = arguments.only(method, "fd")?;
    let fd = match descriptor(&file) {
        // Such a number cannot be watched.
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => return answer(false),
        Err(error) => this.get().files.number_of(&file, direction).ok_or(error)?,
        Ok(fd) => fd,
    };
    this.get().check_no_transport(py, fd)?;
    if core.is_closed() {
        return answer(false);
    }
    let former = core.engine_in_turn(py)?.unwatch(fd, direction);
    this.get().files.forget(py, fd, direction);
    let watched = former.is_some();
    cancel(py, former)?;
    answer(watched)
}

/// A handle that is no longer watched must not run, even if it stands in the ready queue already.
fn cancel(py: Python<'_>, former: Option<Job>) -> PyResult<()> {
    match former {
        Some(Job::Handle(former)) => handle::cancel(former.bind(py)),
        _ => Ok(()),
    }
}

/// The objects that stand for descriptors that are watched, by descriptor and direction: no longer than the kernel's own
/// table, and a twentieth of the cost of a hash map.
#[derive(Default)]
pub struct Files(Guarded<Vec<[Option<Py<PyAny>>; 2]>>);

impl Files {
    fn note(&self, fd: RawFd, direction: Direction, file: &Bound<'_, PyAny>) {
        let py = file.py();
        if file.is_exact_instance_of::<PyInt>() {
            return self.forget(py, fd, direction);
        }
        let (place, file) = (fd as usize, file.clone().unbind());
        let former = self.0.with(py, |known| {
            if known.len() <= place {
                known.resize_with(place + 1, Default::default);
            }
            known[place][direction as usize].replace(file)
        });
        drop(former);
    }

    fn forget(&self, py: Python<'_>, fd: RawFd, direction: Direction) {
        let former = self.0.with(py, |known| known.get_mut(fd as usize)?[direction as usize].take());
        drop(former);
    }

    /// The number by which `file` is watched, if it is.
    fn number_of(&self, file: &Bound<'_, PyAny>, direction: Direction) -> Option<RawFd> {
        let is_file = |of: &[Option<Py<PyAny>>; 2]| of[direction as usize].as_ref().is_some_and(|known| known.is(file));
        self.0.with(file.py(), |known| known.iter().position(is_file)).map(|place| place as RawFd)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.for_collector(|known| known.iter().flatten().try_for_each(|file| visit.call(file))).unwrap_or(Ok(()))
    }

    pub fn clear(&self) {
        drop(self.0.take());
    }
}

/// The number of `fd`, which is one or has a `fileno()`.
///
/// # Errors
/// ValueError if it is neither, or negative (as `selectors` says it); OverflowError if it is too big for one.
pub fn descriptor(fd: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = fd.py();
    if fd.is_exact_instance_of::<PyInt>()
        && let Ok(number) = fd.extract::<RawFd>()
        && number >= 0
    {
        return Ok(number);
    }
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
        match self.core.owners.get(py, fd) {
            Some(transport) => {
                Err(PyRuntimeError::new_err(format!("File descriptor {fd} is used by transport {}", transport.repr()?)))
            }
            None => Ok(()),
        }
    }
}
