//! Making an object of a C class from keywords that are kept: `tp_new` and `tp_init` as `type.__call__` calls them, but
//! without a fresh dictionary per call (20 to 60 ns of a task's 230).

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

/// `class(*arguments, **keywords)` for one positional argument at most.
pub fn construct<'py>(
    class: &Bound<'py, PyType>,
    argument: Option<&Bound<'py, PyAny>>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    construct_as(class, class, argument, keywords)
}

/// An object of `class` that is initialised as one of its base `initialised_as`: whatever `__init__` lies between them
/// is left out.
pub fn construct_as<'py>(
    class: &Bound<'py, PyType>,
    initialised_as: &Bound<'py, PyType>,
    argument: Option<&Bound<'py, PyAny>>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: living types; `tp_new` and `tp_init` are called with a tuple and a dictionary, as `type.__call__` does.
    // An object whose `tp_init` fails is released.
    unsafe {
        let arguments = match argument {
            Some(argument) => ffi::PyTuple_Pack(1, argument.as_ptr()),
            None => ffi::PyTuple_New(0),
        };
        let arguments = Bound::from_owned_ptr_or_err(py, arguments)?;
        let (Some(new), Some(init)) = ((*class.as_type_ptr()).tp_new, (*initialised_as.as_type_ptr()).tp_init) else {
            return class.call(arguments.cast_into()?, Some(keywords));
        };
        let object = Bound::from_owned_ptr_or_err(py, new(class.as_type_ptr(), arguments.as_ptr(), keywords.as_ptr()))?;
        if init(object.as_ptr(), arguments.as_ptr(), keywords.as_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(object)
    }
}

/// A new object of `class`, not initialised: what `class.__new__(class)` gives.
pub fn allocate<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: a living type; the empty tuple and no keywords are what `__new__` gets. The result is new or null.
    unsafe {
        let Some(new) = (*class.as_type_ptr()).tp_new else { return class.call0() };
        let nothing = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(0))?;
        Bound::from_owned_ptr_or_err(py, new(class.as_type_ptr(), nothing.as_ptr(), std::ptr::null_mut()))
    }
}
