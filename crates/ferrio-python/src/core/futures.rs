//! Futures of a loop: CPython's own.

use pyo3::intern;
use pyo3::prelude::*;

use super::Core;
use crate::imports::imports;

/// The finished future of this loop, made on first use.
pub fn done_future<'py>(py: Python<'py>, core: &Core) -> PyResult<Bound<'py, PyAny>> {
    let host = &core.engine()?.host;
    if let Some(done) = &*host.done.borrow() {
        return Ok(done.bind(py).clone());
    }
    let done = new_future(py, &core.loop_object(py)?)?;
    done.call_method1(intern!(py, "set_result"), (py.None(),))?;
    *host.done.borrow_mut() = Some(done.clone().unbind());
    Ok(done)
}

/// A fresh `_asyncio.Future` of this loop.
pub fn new_future<'py>(py: Python<'py>, the_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    future_of(imports(py)?.future.bind(py), the_loop)
}

/// A fresh future of this class.
pub fn future_of<'py>(class: &Bound<'py, PyAny>, the_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let names = imports(py)?.kw_loop.as_ptr();
    let arguments = [the_loop.as_ptr()];
    // SAFETY: one argument, passed by the one keyword named in `kw_loop`; the result is new or null with an error.
    unsafe {
        let future = pyo3::ffi::PyObject_Vectorcall(class.as_ptr(), arguments.as_ptr(), 0, names);
        Bound::from_owned_ptr_or_err(py, future)
    }
}
