//! Raw method descriptors on a finished class: a call from Python reaches Rust with its arguments as they lie on the
//! stack, without PyO3's argument parsing (7 ns against 17 for `call_soon(callback)`).

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::core::panic_message;

/// The arguments of one call: positional ones first, then one value per keyword name.
pub struct Arguments<'a, 'py> {
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    keywords: Option<Bound<'py, PyTuple>>,
    py: Python<'py>,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// # Safety
    /// The four must come from one METH_FASTCALL | METH_KEYWORDS call that is still running.
    pub unsafe fn new(
        py: Python<'py>,
        values: *const *mut ffi::PyObject,
        positional: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: names is null or a tuple of strings, by the calling convention.
        let keywords = unsafe { Bound::from_borrowed_ptr_or_opt(py, names).map(|names| names.cast_into_unchecked()) };
        let positional = positional as usize;
        let count = positional + keywords.as_ref().map_or(0, |names: &Bound<'_, PyTuple>| names.len());
        // SAFETY: by the calling convention `values` points to that many borrowed references; it may be null for none.
        let values = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(values, count) } };
        Arguments { values, positional, keywords, py }
    }

    /// The positional arguments, as borrowed references.
    pub fn positional(&self) -> &'a [*mut ffi::PyObject] {
        &self.values[..self.positional]
    }

    /// All values: the positional ones, then one per keyword name.
    #[inline]
    pub fn all(&self) -> &'a [*mut ffi::PyObject] {
        self.values
    }

    /// The tuple of keyword names, to be compared by its address; null if there are none.
    #[inline]
    pub fn names(&self) -> *mut ffi::PyObject {
        self.keywords.as_ref().map_or(std::ptr::null_mut(), |names| names.as_ptr())
    }

    /// Name and value of each keyword argument.
    pub fn keywords(&self) -> impl Iterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let values = &self.values[self.positional..];
        let names = self.keywords.iter().flat_map(|names| names.iter());
        // SAFETY: the values are borrowed references that outlive the call.
        names.zip(values).map(|(name, value)| (name, unsafe { Bound::from_borrowed_ptr(self.py, *value) }))
    }

    /// Whether there are keyword arguments.
    #[inline]
    pub fn has_keywords(&self) -> bool {
        self.keywords.is_some()
    }
}

/// Runs the body of a raw method: errors become Python's, a panic a RuntimeError.
#[inline]
pub fn guarded(body: impl for<'py> FnOnce(Python<'py>) -> PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, which is attached.
    let py = unsafe { Python::assume_attached() };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(py)));
    let result = outcome.unwrap_or_else(|panic| {
        Err(PyRuntimeError::new_err(format!("panic in native code: {}", panic_message(&*panic))))
    });
    result.unwrap_or_else(|error| {
        error.restore(py);
        std::ptr::null_mut()
    })
}

/// Puts a METH_FASTCALL | METH_KEYWORDS method into a class.
pub fn install(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
) -> PyResult<()> {
    let ml_meth = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
    let ml_flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    add(class, ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags, ml_doc: doc.as_ptr() })
}

/// Puts a definition that lives for ever into a class.
fn add(class: &Bound<'_, PyType>, definition: ffi::PyMethodDef) -> PyResult<()> {
    let py = class.py();
    let definition = Box::leak(Box::new(definition));
    // SAFETY: the class is a finished type and the definition lives for ever, its name is a C string.
    unsafe {
        let descriptor = Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))?;
        class.setattr(CStr::from_ptr(definition.ml_name).to_string_lossy().as_ref(), descriptor)
    }
}

/// A method without arguments, as a C function for [`install_noargs`]: `noargs!(Lock, |lock| …)`. The closure captures
/// nothing, gets a `&Bound<Lock>` and returns a `PyResult<Bound<PyAny>>`.
macro_rules! noargs {
    ($class:ty, $body:expr) => {{
        unsafe extern "C" fn call(
            object: *mut pyo3::ffi::PyObject,
            _: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::method::guarded(|py| {
                // SAFETY: a method descriptor calls this with an instance of its class.
                let this = unsafe { pyo3::Bound::ref_from_ptr(py, &object).cast_unchecked::<$class>() };
                let body: for<'py> fn(&pyo3::Bound<'py, $class>) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> =
                    $body;
                body(this).map(pyo3::Bound::into_ptr)
            })
        }
        call as pyo3::ffi::PyCFunction
    }};
}
pub(crate) use noargs;

/// A method with one argument, as a C function for [`install_onearg`].
macro_rules! onearg {
    ($class:ty, $body:expr) => {{
        unsafe extern "C" fn call(
            object: *mut pyo3::ffi::PyObject,
            argument: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::method::guarded(|py| {
                // SAFETY: a method descriptor calls this with an instance of its class and a borrowed argument.
                let (this, argument) = unsafe {
                    let this = pyo3::Bound::ref_from_ptr(py, &object).cast_unchecked::<$class>();
                    (this, pyo3::Bound::<pyo3::PyAny>::from_borrowed_ptr(py, argument))
                };
                let body: for<'py> fn(
                    &pyo3::Bound<'py, $class>,
                    pyo3::Bound<'py, pyo3::PyAny>,
                ) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> = $body;
                body(this, argument).map(pyo3::Bound::into_ptr)
            })
        }
        call as pyo3::ffi::PyCFunction
    }};
}
pub(crate) use onearg;

/// A method with arguments, as a C function for [`install`]; the closure gets them as [`Arguments`].
macro_rules! fastcall {
    ($class:ty, $body:expr) => {{
        unsafe extern "C" fn call(
            object: *mut pyo3::ffi::PyObject,
            values: *const *mut pyo3::ffi::PyObject,
            count: pyo3::ffi::Py_ssize_t,
            names: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::method::guarded(|py| {
                // SAFETY: a method descriptor calls this with an instance of its class and the arguments of this call.
                let (this, arguments) = unsafe {
                    let this = pyo3::Bound::ref_from_ptr(py, &object).cast_unchecked::<$class>();
                    (this, $crate::ffi::method::Arguments::new(py, values, count, names))
                };
                let body: for<'a, 'py> fn(
                    &pyo3::Bound<'py, $class>,
                    $crate::ffi::method::Arguments<'a, 'py>,
                ) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> = $body;
                body(this, arguments).map(pyo3::Bound::into_ptr)
            })
        }
        call as pyo3::ffi::PyCFunctionFastWithKeywords
    }};
}
pub(crate) use fastcall;

/// Puts a METH_NOARGS method into a class, made by [`noargs`] for that very class.
pub fn install_noargs(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    function: ffi::PyCFunction,
) -> PyResult<()> {
    let ml_meth = ffi::PyMethodDefPointer { PyCFunction: function };
    add(class, ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags: ffi::METH_NOARGS, ml_doc: doc.as_ptr() })
}

/// Puts a METH_O method into a class, made by [`onearg`] for that very class.
pub fn install_onearg(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    function: ffi::PyCFunction,
) -> PyResult<()> {
    let ml_meth = ffi::PyMethodDefPointer { PyCFunction: function };
    add(class, ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags: ffi::METH_O, ml_doc: doc.as_ptr() })
}
