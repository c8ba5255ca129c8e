//! Nothing to wait for.

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::object::slot_itself;

/// An awaitable that is over at once and returns None; there is one of it. For `async with` when there is nothing to
/// wait for: nobody sees the object that lies between `__aenter__` and `await`.
pub fn done(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    DONE.get_or_try_init(py, || make_done(py)).map(|done| done.bind(py).clone())
}

fn make_done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    unsafe extern "C" fn next(_: *mut ffi::PyObject) -> *mut ffi::PyObject {
        // Null without an error stands for the end with None.
        ptr::null_mut()
    }
    unsafe extern "C" fn send(
        _: *mut ffi::PyObject,
        _: *mut ffi::PyObject,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult {
        // SAFETY: the interpreter gives room for the result.
        unsafe { *result = ffi::Py_NewRef(ffi::Py_None()) };
        ffi::PySendResult::PYGEN_RETURN
    }
    let mut slots = [
        ffi::PyType_Slot { slot: ffi::Py_tp_iter, pfunc: slot_itself as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_iternext, pfunc: next as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_am_await, pfunc: slot_itself as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_am_send, pfunc: send as *mut c_void },
        ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"ferrio.Done".as_ptr(),
        basicsize: size_of::<ffi::PyObject>() as c_int,
        itemsize: 0,
        flags: ffi::Py_TPFLAGS_DEFAULT as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and ends with an empty slot; the type adds no field to an object's head.
    unsafe {
        let class = Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))?;
        Ok(Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0))?.unbind())
    }
}
