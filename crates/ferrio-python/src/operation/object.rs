//! The class: an operation in the interpreter's eyes, slot by slot.

use std::ffi::{CStr, c_int, c_void};
use std::mem;
use std::ptr;

use pyo3::exceptions::{PyBaseException, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::driving::{Sent, close, end, resume, throw};
use super::{OperationObject, SPARES, State};
use crate::ffi::error;
use crate::ffi::for_ever::for_ever;
use crate::ffi::method::{Arguments, guarded};

/// `await` of an operation, and `send` of a C Task.
unsafe extern "C" fn slot_send(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let mut returned = false;
    let sent = guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        match unsafe { resume(py, object.cast(), value) }? {
            Sent::Yields(value) => Ok(value.into_ptr()),
            Sent::Returns(value) => {
                returned = true;
                Ok(value.into_ptr())
            }
        }
    });
    // SAFETY: the interpreter gives room for the result.
    unsafe { *result = sent };
    match sent.is_null() {
        true => ffi::PySendResult::PYGEN_ERROR,
        false if returned => ffi::PySendResult::PYGEN_RETURN,
        false => ffi::PySendResult::PYGEN_NEXT,
    }
}

unsafe extern "C" fn slot_next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        match unsafe { resume(py, object.cast(), ffi::Py_None()) }? {
            Sent::Yields(value) => Ok(value.into_ptr()),
            // Null without an error stands for the end with None.
            Sent::Returns(value) if value.is_none(py) => Ok(ptr::null_mut()),
            // A tuple or an exception would be taken for StopIteration's arguments or for it itself.
            Sent::Returns(value)
                if value.bind(py).is_instance_of::<PyTuple>() || value.bind(py).is_instance_of::<PyBaseException>() =>
            {
                Err(PyStopIteration::new_err((value,)))
            }
            Sent::Returns(value) => {
                // SAFETY: attached; both are living objects.
                unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
                Ok(ptr::null_mut())
            }
        }
    })
}

pub unsafe extern "C" fn slot_itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a living object.
    unsafe { ffi::Py_NewRef(object) }
}

/// As a method must return it: StopIteration is an error.
fn as_call(sent: Sent<'_>) -> PyResult<*mut ffi::PyObject> {
    match sent {
        Sent::Yields(value) => Ok(value.into_ptr()),
        Sent::Returns(value) => Err(PyStopIteration::new_err((value,))),
    }
}

unsafe extern "C" fn method_send(object: *mut ffi::PyObject, value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a living operation and a borrowed argument.
    guarded(|py| unsafe { resume(py, object.cast(), value).and_then(as_call) })
}

unsafe extern "C" fn method_throw(
    object: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the arguments of this very call; the values are borrowed references.
        unsafe {
            let arguments = Arguments::new(py, values, count, names);
            let given = |index: usize| {
                let value = arguments.positional().get(index);
                value.map(|value| Bound::<PyAny>::from_borrowed_ptr(py, *value)).filter(|value| !value.is_none())
            };
            let Some(kind) = given(0) else {
                return Err(PyTypeError::new_err("throw() takes an exception, or its type and value"));
            };
            let thrown = match given(1) {
                Some(value) if value.is_instance_of::<PyBaseException>() => PyErr::from_value(value),
                Some(value) => PyErr::from_value(kind.call1((value,))?),
                None => PyErr::from_value(kind),
            };
            if let Some(traceback) = given(2) {
                thrown.set_traceback(py, Some(traceback.cast_into()?));
            }
            throw(py, object.cast(), thrown).and_then(as_call)
        }
    })
}

unsafe extern "C" fn method_close(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a living operation.
    guarded(|py| unsafe { close(py, object.cast()).map(|()| py.None().into_ptr()) })
}

unsafe extern "C" fn attribute(object: *mut ffi::PyObject, which: *mut c_void) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        let name = unsafe { (*object.cast::<OperationObject>()).kind.name };
        let name = if which.is_null() { name.rsplit('.').next().unwrap_or(name) } else { name };
        Ok(name.into_pyobject(py)?.into_any().into_ptr())
    })
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        let name = unsafe { (*object.cast::<OperationObject>()).kind.name };
        Ok(format!("<coroutine object {name} at {object:p}>").into_pyobject(py)?.into_any().into_ptr())
    })
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, data: *mut c_void) -> c_int {
    let operation = object.cast::<OperationObject>();
    // SAFETY: called by the collector with a living operation; every non-null field is an owned reference.
    unsafe {
        for reference in [ffi::Py_TYPE(object).cast(), (*operation).subject, (*operation).item, (*operation).awaited] {
            if !reference.is_null() {
                let stop = visit(reference, data);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: called by the collector with a living operation that nobody will use again.
    unsafe { end(object.cast()) };
    0
}

/// What a coroutine does that is dropped: one that waits runs its clean-up, one that was never awaited warns.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    let operation = object.cast::<OperationObject>();
    let finalize = |py: Python<'_>| {
        let saved = error::save(py);
        // SAFETY: called with a living operation; the error that may be set survives.
        let outcome = match unsafe { (*operation).state } {
            State::Fresh => {
                // SAFETY: as above.
                let message = format!("coroutine '{}' was never awaited\0", unsafe { (*operation).kind.name });
                let message = CStr::from_bytes_until_nul(message.as_bytes()).unwrap_or_default();
                PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), message, 1)
            }
            // SAFETY: as above.
            _ => unsafe { close(py, operation) },
        };
        if let Err(error) = outcome {
            error.write_unraisable(py, None);
        }
        saved.restore(py);
    };
    // SAFETY: called by the interpreter, which is running and attached.
    unsafe { Python::attach_unchecked(finalize) }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    let operation = object.cast::<OperationObject>();
    // SAFETY: the last reference is gone. Only one that ended by itself is kept as a spare: the collector remembers
    // of a finalized object that it was.
    unsafe {
        let ended = (*operation).state == State::Over;
        if !ended && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        if !(*operation).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        end(operation);
        let class = ffi::Py_TYPE(object);
        if !(ended && SPARES.keep_dead(object)) {
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

pub fn make_type(py: Python<'_>) -> PyResult<Py<PyType>> {
    const fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
        ffi::PyType_Slot { slot, pfunc }
    }
    const fn method(
        name: &'static CStr,
        ml_meth: ffi::PyMethodDefPointer,
        ml_flags: c_int,
        doc: &'static CStr,
    ) -> ffi::PyMethodDef {
        ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags, ml_doc: doc.as_ptr() }
    }
    const fn getter(name: &'static CStr, which: usize) -> ffi::PyGetSetDef {
        let closure = which as *mut c_void;
        ffi::PyGetSetDef { name: name.as_ptr(), get: Some(attribute), set: None, doc: ptr::null(), closure }
    }
    // The definitions live as long as the type: for ever.
    let methods = for_ever([
        method(
            c"send",
            ffi::PyMethodDefPointer { PyCFunction: method_send },
            ffi::METH_O,
            c"send($self, value, /)\n--\n\nGo on until the next await or the end.",
        ),
        method(
            c"throw",
            ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method_throw },
            ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            c"Raise an exception where the coroutine waits.",
        ),
        method(
            c"close",
            ffi::PyMethodDefPointer { PyCFunction: method_close },
            ffi::METH_NOARGS,
            c"close($self, /)\n--\n\nEnd the coroutine where it waits.",
        ),
        ffi::PyMethodDef::zeroed(),
    ]);
    let getters = for_ever([getter(c"__name__", 0), getter(c"__qualname__", 1), ffi::PyGetSetDef::default()]);
    // For who looks at what a task waits for: a coroutine with a frame would show it there.
    const fn reference(name: &'static CStr, offset: usize) -> ffi::PyMemberDef {
        ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_OBJECT_EX,
            offset: offset as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        }
    }
    let members = for_ever([
        reference(c"_subject", mem::offset_of!(OperationObject, subject)),
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: mem::offset_of!(OperationObject, weak_references) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        },
        ffi::PyMemberDef::default(),
    ]);
    let mut slots = [
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_iter, slot_itself as *mut c_void),
        slot(ffi::Py_tp_iternext, slot_next as *mut c_void),
        slot(ffi::Py_am_await, slot_itself as *mut c_void),
        slot(ffi::Py_am_send, slot_send as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_doc, c"What a native coroutine method returns.".as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: c"ferrio.Operation".as_ptr(),
        basicsize: size_of::<OperationObject>() as c_int,
        itemsize: 0,
        flags: flags as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and ends with an empty slot.
    let class = unsafe { Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))? };
    py.import("collections.abc")?.getattr("Coroutine")?.call_method1("register", (&class,))?;
    Ok(class.cast_into::<PyType>()?.unbind())
}
