//! The futures that primitives wait on. Nearly always they are plain `asyncio.Future`s, and then their methods are called
//! without looking them up; any other loop's futures do as well.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::event_loop::Loop;
use crate::event_loop::creating::create_future;
use crate::ffi::c_method::CMethod;
use crate::imports::imports;

struct Methods {
    class: Py<PyType>,
    /// ferrio's loop, whose `create_future()` need not be looked up either.
    event_loop: Py<PyAny>,
    done: CMethod,
    cancelled: CMethod,
    set_result: CMethod,
}

fn methods(py: Python<'_>) -> PyResult<&'static Methods> {
    static METHODS: PyOnceLock<Methods> = PyOnceLock::new();
    METHODS.get_or_try_init(py, || {
        let class = imports(py)?.future.bind(py).cast::<PyType>()?;
        Ok(Methods {
            event_loop: py.import("ferrio.event_loop")?.getattr("EventLoop")?.unbind(),
            done: CMethod::of(class, "done")?,
            cancelled: CMethod::of(class, "cancelled")?,
            set_result: CMethod::of(class, "set_result")?,
            class: class.clone().unbind(),
        })
    })
}

/// The methods, if the object is a plain `asyncio.Future`.
#[inline]
fn plain(object: &Bound<'_, PyAny>) -> PyResult<Option<&'static Methods>> {
    let methods = methods(object.py())?;
    Ok(object.get_type().is(methods.class.bind(object.py())).then_some(methods))
}

/// `future.done()`
#[inline]
pub fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let answer = match plain(future)? {
        // SAFETY: an instance of the class.
        Some(methods) => unsafe { methods.done.call0(future)? },
        None => future.call_method0(intern!(future.py(), "done"))?,
    };
    answer.is_truthy()
}

/// `future.cancelled()`
#[inline]
pub fn is_cancelled(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let answer = match plain(future)? {
        // SAFETY: an instance of the class.
        Some(methods) => unsafe { methods.cancelled.call0(future)? },
        None => future.call_method0(intern!(future.py(), "cancelled"))?,
    };
    answer.is_truthy()
}

/// `future.set_result(result)`
#[inline]
pub fn set_result(future: &Bound<'_, PyAny>, result: &Bound<'_, PyAny>) -> PyResult<()> {
    match plain(future)? {
        // SAFETY: an instance of the class.
        Some(methods) => unsafe { methods.set_result.call1(future, result).map(drop) },
        None => future.call_method1(intern!(future.py(), "set_result"), (result,)).map(drop),
    }
}

/// `loop.create_future()`
#[inline]
pub fn create<'py>(the_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = the_loop.py();
    if the_loop.get_type().is(methods(py)?.event_loop.bind(py)) {
        return create_future(the_loop.cast::<Loop>()?);
    }
    the_loop.call_method0(intern!(py, "create_future"))
}
