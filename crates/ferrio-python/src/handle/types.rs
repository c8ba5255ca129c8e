//! The two Python types: their methods, attributes and slots.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::freeing::{clear, dealloc, traverse};
use super::running::{cancel, run, wait_for_end};
use super::{CANCELLED, DESCRIBED, HandleObject, SCHEDULED, THREAD_SAFE, TYPES, TimerHandleObject, Types};
use crate::ffi::for_ever::for_ever;
use crate::ffi::method::guarded;
use crate::imports::imports;

unsafe extern "C" fn method_cancel(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        let handle = unsafe { Bound::from_borrowed_ptr(py, object) };
        cancel(&handle)?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn method_cancelled(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        unsafe {
            wait_for_end(&Bound::from_borrowed_ptr(py, object))?;
            Ok(ffi::PyBool_FromLong(((*object.cast::<HandleObject>()).flags & CANCELLED).into()))
        }
    })
}

unsafe extern "C" fn method_get_context(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a living handle.
    unsafe { new_reference((*object.cast::<HandleObject>()).context) }
}

unsafe extern "C" fn method_when(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a living timer handle.
    unsafe { ffi::PyFloat_FromDouble((*object.cast::<TimerHandleObject>()).when) }
}

unsafe extern "C" fn method_run(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        let handle = unsafe { Bound::from_borrowed_ptr(py, object) };
        run(py, &handle)?;
        Ok(py.None().into_ptr())
    })
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes a living handle.
        let handle: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, object) };
        Ok(imports(py)?.helpers.bind(py).call_method1("handle_repr", (handle,))?.into_ptr())
    })
}

unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: the interpreter passes a living timer handle.
    let value = unsafe { ffi::PyFloat_FromDouble((*object.cast::<TimerHandleObject>()).when) };
    if value.is_null() {
        return -1;
    }
    // SAFETY: a float that we own.
    unsafe {
        let hash = ffi::PyObject_Hash(value);
        ffi::Py_DECREF(value);
        hash
    }
}

/// Timer handles compare by deadline; equal ones also by what they call.
unsafe extern "C" fn compare(a: *mut ffi::PyObject, b: *mut ffi::PyObject, operator: c_int) -> *mut ffi::PyObject {
    guarded(|py| {
        let not_implemented = || Ok(py.NotImplemented().into_ptr());
        let Some(types) = TYPES.get(py) else { return not_implemented() };
        // SAFETY: the interpreter passes living objects; both are checked to be timer handles before they are read.
        unsafe {
            let kind = types.timer.as_ptr().cast();
            if ffi::PyObject_TypeCheck(a, kind) == 0 || ffi::PyObject_TypeCheck(b, kind) == 0 {
                return not_implemented();
            }
            let (first, second) = (a.cast::<TimerHandleObject>(), b.cast::<TimerHandleObject>());
            let (x, y) = ((*first).when, (*second).when);
            let same = || -> PyResult<bool> {
                let whole = |object| attribute_tuple(py, object);
                Ok(ptr::eq(a, b) || (x == y && whole(a)?.eq(whole(b)?)?))
            };
            let answer = match operator {
                ffi::Py_LT => x < y,
                ffi::Py_LE => x < y || same()?,
                ffi::Py_GT => x > y,
                ffi::Py_GE => x > y || same()?,
                ffi::Py_EQ => same()?,
                ffi::Py_NE => !same()?,
                _ => return not_implemented(),
            };
            Ok(ffi::PyBool_FromLong(answer.into()))
        }
    })
}

fn attribute_tuple(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Bound<'_, PyTuple>> {
    // SAFETY: a living handle.
    let handle: Bound<'_, PyAny> = unsafe { Bound::from_borrowed_ptr(py, object) };
    (handle.getattr("_callback")?, handle.getattr("_args")?, handle.getattr("_cancelled")?).into_pyobject(py)
}

/// # Safety
/// `object` is null or a living object.
unsafe fn new_reference(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as above; None stands for null.
    unsafe {
        let object = if object.is_null() { ffi::Py_None() } else { object };
        ffi::Py_INCREF(object);
        object
    }
}

/// Attributes that asyncio's handles have and that tools read. The pointer says which.
unsafe extern "C" fn attribute(object: *mut ffi::PyObject, which: *mut c_void) -> *mut ffi::PyObject {
    guarded(|py| {
        let handle = object.cast::<HandleObject>();
        // SAFETY: the interpreter passes a living handle, and a timer handle where only those have the attribute.
        unsafe {
            Ok(match which as usize {
                0 => new_reference((*handle).callback),
                1 if (*handle).callback.is_null() => new_reference(ptr::null_mut()),
                1 if !(*handle).many.is_null() => new_reference((*handle).many),
                1 => {
                    let inline = &(&(*handle).arguments)[..(*handle).count as usize];
                    PyTuple::new(py, inline.iter().map(|a| Bound::<PyAny>::from_borrowed_ptr(py, *a)))?.into_ptr()
                }
                2 => ffi::PyBool_FromLong(((*handle).flags & CANCELLED).into()),
                3 => new_reference((*handle).the_loop),
                4 => new_reference((*handle).traceback),
                5 => new_reference((*handle).context),
                6 if (*handle).flags & DESCRIBED == 0 => new_reference(ptr::null_mut()),
                6 => new_reference((*handle).many),
                // What `isinstance(handle, asyncio.Handle)` asks.
                9 if (*handle).flags & THREAD_SAFE != 0 => imports(py)?.thread_safe_handle.clone_ref(py).into_ptr(),
                9 => imports(py)?.handle.clone_ref(py).into_ptr(),
                10 => imports(py)?.timer_handle.clone_ref(py).into_ptr(),
                7 => ffi::PyFloat_FromDouble((*object.cast::<TimerHandleObject>()).when),
                _ => ffi::PyBool_FromLong(((*handle).flags & SCHEDULED).into()),
            })
        }
    })
}

const fn method(name: &'static CStr, function: ffi::PyCFunction, doc: &'static CStr) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

const fn getter(name: &'static CStr, which: usize) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(attribute),
        set: None,
        doc: ptr::null(),
        closure: which as *mut c_void,
    }
}

pub(super) fn make_types(py: Python<'_>) -> PyResult<Types> {
    // The definitions live as long as the types: for ever.
    let methods = for_ever([
        method(c"cancel", method_cancel, c"cancel($self, /)\n--\n\nCancel the callback; no effect once it has run."),
        method(c"cancelled", method_cancelled, c"cancelled($self, /)\n--\n\nWhether cancel() was called."),
        method(c"get_context", method_get_context, c"get_context($self, /)\n--\n\nThe contextvars.Context it runs in."),
        method(c"_run", method_run, c"_run($self, /)\n--\n\nRun the callback now."),
        ffi::PyMethodDef::zeroed(),
    ]);
    let getters = for_ever([
        getter(c"__class__", 9),
        getter(c"_callback", 0),
        getter(c"_args", 1),
        getter(c"_cancelled", 2),
        getter(c"_loop", 3),
        getter(c"_source_traceback", 4),
        getter(c"_context", 5),
        getter(c"_repr", 6),
        ffi::PyGetSetDef::default(),
    ]);
    let members = for_ever([
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: std::mem::offset_of!(HandleObject, weak_references) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        },
        ffi::PyMemberDef::default(),
    ]);
    let handle = make_type(
        py,
        c"ferrio.Handle",
        size_of::<HandleObject>(),
        ptr::null_mut(),
        &mut [
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
            slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
            slot(ffi::Py_tp_doc, c"A scheduled callback, as loop.call_soon() returns it.".as_ptr() as *mut c_void),
            slot(0, ptr::null_mut()),
        ],
    )?;
    let timer_methods = for_ever([
        method(c"when", method_when, c"when($self, /)\n--\n\nThe deadline in seconds of loop.time()."),
        ffi::PyMethodDef::zeroed(),
    ]);
    let timer_getters = for_ever([
        getter(c"__class__", 10),
        getter(c"_when", 7),
        getter(c"_scheduled", 8),
        ffi::PyGetSetDef::default(),
    ]);
    let timer = make_type(
        py,
        c"ferrio.TimerHandle",
        size_of::<TimerHandleObject>(),
        handle.as_ptr(),
        &mut [
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_hash, hash as *mut c_void),
            slot(ffi::Py_tp_richcompare, compare as *mut c_void),
            slot(ffi::Py_tp_methods, timer_methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, timer_getters.as_mut_ptr().cast()),
            slot(
                ffi::Py_tp_doc,
                c"A callback with a deadline, as loop.call_later() returns it.".as_ptr() as *mut c_void,
            ),
            slot(0, ptr::null_mut()),
        ],
    )?;
    Ok(Types { handle, timer })
}

const fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

fn make_type(
    py: Python<'_>,
    name: &'static CStr,
    size: usize,
    base: *mut ffi::PyObject,
    slots: &mut [ffi::PyType_Slot],
) -> PyResult<Py<PyType>> {
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_BASETYPE
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size as c_int,
        itemsize: 0,
        flags: flags as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and ends with an empty slot; `base` is null or a type.
    let made = unsafe { Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_FromSpecWithBases(&mut spec, base))? };
    Ok(made.cast_into::<PyType>()?.unbind())
}
