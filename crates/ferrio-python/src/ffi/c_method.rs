//! Methods and attributes of classes written in C, without looking them up: a deque's `append` costs 4 ns so, 12 through
//! its descriptor, 25 by name.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A method that is called with one argument or none, for instances of its class.
pub struct CMethod {
    descriptor: Py<PyAny>,
    function: Function,
}

/// The function behind it, by what it takes.
enum Function {
    NoArguments(ffi::PyCFunction),
    OneArgument(ffi::PyCFunction),
    /// Arguments, and the class that has the method, which lives as long as its descriptor.
    OfClass(ffi::PyCMethod, *mut ffi::PyTypeObject),
    /// Something else: the descriptor is called.
    Other,
}

// SAFETY: functions and a type, which its descriptor keeps alive; nothing here changes.
unsafe impl Send for CMethod {}
// SAFETY: as above.
unsafe impl Sync for CMethod {}

impl CMethod {
    pub fn of(class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        const OF_CLASS: i32 = ffi::METH_METHOD | ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        let descriptor = class.getattr(name)?;
        let mut function = Function::Other;
        // SAFETY: an exact method descriptor has this layout, and its definition lives as long as its class; the flags
        // say what its function takes.
        unsafe {
            if ffi::Py_TYPE(descriptor.as_ptr()) == &raw mut ffi::PyMethodDescr_Type {
                let method = descriptor.as_ptr().cast::<ffi::PyMethodDescrObject>();
                let definition = &*(*method).d_method;
                function = match definition.ml_flags {
                    ffi::METH_NOARGS => Function::NoArguments(definition.ml_meth.PyCFunction),
                    ffi::METH_O => Function::OneArgument(definition.ml_meth.PyCFunction),
                    OF_CLASS => Function::OfClass(definition.ml_meth.PyCMethod, (*method).d_common.d_type),
                    _ => Function::Other,
                };
            }
        }
        Ok(CMethod { descriptor: descriptor.unbind(), function })
    }

    /// Calls it without arguments.
    ///
    /// # Safety
    /// `subject` is an instance of the class.
    #[inline]
    pub unsafe fn call0<'py>(&self, subject: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: as the caller promises. A function returns a new reference, or null with an error set.
        unsafe {
            let result = match self.function {
                Function::NoArguments(function) => function(subject.as_ptr(), ptr::null_mut()),
                Function::OfClass(function, class) => {
                    function(subject.as_ptr(), class, ptr::null(), 0, ptr::null_mut())
                }
                _ => self.call_descriptor(&[subject.as_ptr()]),
            };
            Bound::from_owned_ptr_or_err(subject.py(), result)
        }
    }

    /// Calls it with one argument.
    ///
    /// # Safety
    /// `subject` is an instance of the class.
    #[inline]
    pub unsafe fn call1<'py>(
        &self,
        subject: &Bound<'py, PyAny>,
        argument: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: as the caller promises. A function returns a new reference, or null with an error set.
        unsafe {
            let result = match self.function {
                Function::OneArgument(function) => function(subject.as_ptr(), argument.as_ptr()),
                Function::OfClass(function, class) => {
                    function(subject.as_ptr(), class, &argument.as_ptr(), 1, ptr::null_mut())
                }
                _ => self.call_descriptor(&[subject.as_ptr(), argument.as_ptr()]),
            };
            Bound::from_owned_ptr_or_err(subject.py(), result)
        }
    }

    /// # Safety
    /// Living objects.
    unsafe fn call_descriptor(&self, arguments: &[*mut ffi::PyObject]) -> *mut ffi::PyObject {
        // SAFETY: as the caller promises; the descriptor takes the instance before the argument.
        unsafe {
            ffi::PyObject_Vectorcall(self.descriptor.as_ptr(), arguments.as_ptr(), arguments.len(), ptr::null_mut())
        }
    }
}

/// An attribute of instances of a class that can be set.
pub struct CAttribute {
    descriptor: Py<PyAny>,
    /// Its function, and what it is given besides.
    set: Option<(ffi::setter, *mut std::ffi::c_void)>,
}

// SAFETY: a function, and what its definition says it is to be given; nothing here changes.
unsafe impl Send for CAttribute {}
// SAFETY: as above.
unsafe impl Sync for CAttribute {}

impl CAttribute {
    pub fn of(class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        let descriptor = class.getattr(name)?;
        // SAFETY: an exact descriptor of this type has this layout, and its definition lives as long as its class.
        let set = unsafe {
            if ffi::Py_TYPE(descriptor.as_ptr()) == &raw mut ffi::PyGetSetDescr_Type {
                let definition = &*(*descriptor.as_ptr().cast::<ffi::PyGetSetDescrObject>()).d_getset;
                definition.set.map(|set| (set, definition.closure))
            } else {
                None
            }
        };
        Ok(CAttribute { descriptor: descriptor.unbind(), set })
    }

    /// Sets it.
    ///
    /// # Safety
    /// `subject` is an instance of the class.
    #[inline]
    pub unsafe fn set(&self, subject: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some((set, closure)) = self.set else {
            let py = subject.py();
            return self.descriptor.bind(py).call_method1("__set__", (subject, value)).map(drop);
        };
        // SAFETY: as the caller promises; it returns a negative number with an error set.
        match unsafe { set(subject.as_ptr(), value.as_ptr(), closure) } {
            0.. => Ok(()),
            _ => Err(PyErr::fetch(subject.py())),
        }
    }
}
