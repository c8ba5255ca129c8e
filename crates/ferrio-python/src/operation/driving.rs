//! One step of an operation, and what it awaits: `send`, `throw` and `close` as a coroutine with a frame has them.

use std::ptr;

use pyo3::exceptions::{PyGeneratorExit, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::{Event, OperationObject, Running, State, Step};
use crate::ffi::error;

/// What the one who drives the coroutine gets.
pub enum Sent<'py> {
    Yields(Bound<'py, PyAny>),
    Returns(Py<PyAny>),
}

/// Goes on from `event` until something must be waited for or the coroutine is over.
fn drive<'py>(py: Python<'py>, object: *mut OperationObject, mut event: Event) -> PyResult<Sent<'py>> {
    // SAFETY: a living operation, which the caller holds.
    unsafe {
        (*object).state = State::Runs;
        loop {
            let outcome = ((*object).kind.step)(&Running { py, object }, event);
            let awaited = match outcome {
                Ok(Step::Await(awaited)) => awaited,
                Ok(Step::Return(value)) => {
                    end(object);
                    return Ok(Sent::Returns(value));
                }
                Err(error) => {
                    end(object);
                    return Err(error);
                }
            };
            event = match iterator(awaited.bind(py)) {
                Err(error) => Event::Error(error),
                Ok(iterator) => {
                    (*object).awaited = iterator.into_ptr();
                    match send(py, object, ffi::Py_None()) {
                        Ok(Sent::Yields(value)) => return Ok(Sent::Yields(value)),
                        Ok(Sent::Returns(_)) => Event::Result,
                        Err(error) => Event::Error(error),
                    }
                }
            };
        }
    }
}

/// What `await` iterates over.
pub fn iterator<'py>(awaited: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = awaited.py();
    // SAFETY: a living object; a type's slots are null or functions of the declared kind.
    unsafe {
        let slots = (*ffi::Py_TYPE(awaited.as_ptr())).tp_as_async;
        match slots.as_ref().and_then(|slots| slots.am_await) {
            Some(am_await) => Bound::from_owned_ptr_or_err(py, am_await(awaited.as_ptr())),
            None => awaited.call_method0(intern!(py, "__await__")),
        }
    }
}

/// Sends `value` to what is awaited. Unless that yields, the operation awaits nothing any more.
///
/// # Safety
/// `object` is a living operation that awaits something, `value` a borrowed reference.
unsafe fn send<'py>(py: Python<'py>, object: *mut OperationObject, value: *mut ffi::PyObject) -> PyResult<Sent<'py>> {
    // SAFETY: as the caller promises; the result is new, or null with an error set.
    unsafe {
        let mut result = ptr::null_mut();
        match ffi::PyIter_Send((*object).awaited, value, &mut result) {
            ffi::PySendResult::PYGEN_NEXT => {
                (*object).state = State::Waits;
                Ok(Sent::Yields(Bound::from_owned_ptr(py, result)))
            }
            ffi::PySendResult::PYGEN_RETURN => {
                ffi::Py_CLEAR(&mut (*object).awaited);
                Ok(Sent::Returns(Bound::from_owned_ptr(py, result).unbind()))
            }
            ffi::PySendResult::PYGEN_ERROR => {
                let error = error::take(py);
                ffi::Py_CLEAR(&mut (*object).awaited);
                Err(error)
            }
        }
    }
}

/// The coroutine is over: it keeps nothing alive.
///
/// # Safety
/// `object` is a living operation.
pub unsafe fn end(object: *mut OperationObject) {
    // SAFETY: as above; each field is emptied before its reference is released.
    unsafe {
        (*object).state = State::Over;
        ffi::Py_CLEAR(&mut (*object).awaited);
        ffi::Py_CLEAR(&mut (*object).item);
        ffi::Py_CLEAR(&mut (*object).subject);
    }
}

/// `coroutine.send(value)`.
///
/// # Safety
/// `object` is a living operation, `value` a borrowed reference.
#[inline]
pub unsafe fn resume<'py>(
    py: Python<'py>,
    object: *mut OperationObject,
    value: *mut ffi::PyObject,
) -> PyResult<Sent<'py>> {
    // SAFETY: as the caller promises.
    unsafe {
        match (*object).state {
            State::Fresh if value != ffi::Py_None() => {
                Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"))
            }
            State::Fresh => drive(py, object, Event::Begin),
            State::Waits => {
                (*object).state = State::Runs;
                match send(py, object, value) {
                    Ok(Sent::Yields(value)) => Ok(Sent::Yields(value)),
                    Ok(Sent::Returns(_)) => drive(py, object, Event::Result),
                    Err(error) => drive(py, object, Event::Error(error)),
                }
            }
            state => Err(refuse(state)),
        }
    }
}

#[cold]
fn refuse(state: State) -> PyErr {
    if state == State::Runs {
        PyValueError::new_err("coroutine already executing")
    } else {
        PyRuntimeError::new_err("cannot reuse already awaited coroutine")
    }
}

/// `coroutine.throw(error)`: to what is awaited first, as `await` does.
///
/// # Safety
/// `object` is a living operation.
pub unsafe fn throw<'py>(py: Python<'py>, object: *mut OperationObject, thrown: PyErr) -> PyResult<Sent<'py>> {
    // SAFETY: as the caller promises.
    unsafe {
        match (*object).state {
            State::Fresh => {
                end(object);
                Err(thrown)
            }
            State::Waits => {
                (*object).state = State::Runs;
                let awaited = Bound::<PyAny>::from_borrowed_ptr(py, (*object).awaited);
                if thrown.is_instance_of::<PyGeneratorExit>(py) {
                    let closed = close_awaited(&awaited);
                    ffi::Py_CLEAR(&mut (*object).awaited);
                    return drive(py, object, Event::Error(closed.err().unwrap_or(thrown)));
                }
                let outcome = match awaited.getattr_opt(intern!(py, "throw")) {
                    Ok(Some(throw)) => throw.call1((thrown.value(py),)),
                    Ok(None) => Err(thrown),
                    Err(error) => Err(error),
                };
                match outcome {
                    Ok(value) => {
                        (*object).state = State::Waits;
                        Ok(Sent::Yields(value))
                    }
                    Err(error) => {
                        ffi::Py_CLEAR(&mut (*object).awaited);
                        let is_over = error.is_instance_of::<PyStopIteration>(py);
                        let event = if is_over { Event::Result } else { Event::Error(error) };
                        drive(py, object, event)
                    }
                }
            }
            state => Err(refuse(state)),
        }
    }
}

fn close_awaited(awaited: &Bound<'_, PyAny>) -> PyResult<()> {
    let close = awaited.getattr_opt(intern!(awaited.py(), "close"))?;
    close.map_or(Ok(()), |close| close.call0().map(drop))
}

/// `coroutine.close()`.
///
/// # Safety
/// `object` is a living operation.
pub unsafe fn close(py: Python<'_>, object: *mut OperationObject) -> PyResult<()> {
    // SAFETY: as the caller promises.
    unsafe {
        match (*object).state {
            State::Fresh => end(object),
            State::Over => {}
            State::Runs => return Err(refuse(State::Runs)),
            State::Waits => match throw(py, object, PyGeneratorExit::new_err(())) {
                Ok(Sent::Returns(_)) => {}
                Ok(Sent::Yields(_)) => return Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
                Err(error) if error.is_instance_of::<PyGeneratorExit>(py) => {}
                Err(error) => return Err(error),
            },
        }
    }
    Ok(())
}
