//! Methods of classes written in C, called without looking them up: a deque's `append` costs 4 ns so, 12 through its
//! descriptor, 25 by name.

use std::ffi::c_int;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A method with one argument or none, for instances of its class.
pub struct CMethod {
    descriptor: Py<PyAny>,
    /// Its function, if it takes what we give it.
    function: Option<ffi::PyCFunction>,
}

impl CMethod {
    /// A method without arguments.
    pub fn noargs(class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        CMethod::find(class, name, ffi::METH_NOARGS)
    }

    /// A method with one argument.
    pub fn onearg(class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        CMethod::find(class, name, ffi::METH_O)
    }

    fn find(class: &Bound<'_, PyType>, name: &str, flags: c_int) -> PyResult<Self> {
        let descriptor = class.getattr(name)?;
        let mut function = None;
        // SAFETY: an exact method descriptor has this layout, and its definition lives as long as its class; the flags
        // say what its function takes.
        unsafe {
            if ffi::Py_TYPE(descriptor.as_ptr()) == &raw mut ffi::PyMethodDescr_Type {
                let definition = (*descriptor.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method;
                if (*definition).ml_flags == flags {
                    function = Some((*definition).ml_meth.PyCFunction);
                }
            }
        }
        Ok(CMethod { descriptor: descriptor.unbind(), function })
    }

    /// Calls a method without arguments.
    ///
    /// # Safety
    /// `subject` is an instance of the class, and this was made by [`noargs`](Self::noargs).
    #[inline]
    pub unsafe fn call0<'py>(&self, subject: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: as the caller promises.
        unsafe { self.call(subject, ptr::null_mut()) }
    }

    /// Calls a method with one argument.
    ///
    /// # Safety
    /// `subject` is an instance of the class, and this was made by [`onearg`](Self::onearg).
    #[inline]
    pub unsafe fn call1<'py>(
        &self,
        subject: &Bound<'py, PyAny>,
        argument: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: as the caller promises.
        unsafe { self.call(subject, argument.as_ptr()) }
    }

    #[inline]
    unsafe fn call<'py>(
        &self,
        subject: &Bound<'py, PyAny>,
        argument: *mut ffi::PyObject,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the function takes the argument, or a null if it has none; the descriptor takes the instance before
        // it. Both return a new reference, or null with an error set.
        unsafe {
            let result = match self.function {
                Some(function) => function(subject.as_ptr(), argument),
                None => {
                    let arguments = [subject.as_ptr(), argument];
                    let count = if argument.is_null() { 1 } else { 2 };
                    ffi::PyObject_Vectorcall(self.descriptor.as_ptr(), arguments.as_ptr(), count, ptr::null_mut())
                }
            };
            Bound::from_owned_ptr_or_err(subject.py(), result)
        }
    }
}
