//! `collections.deque`, as the primitives use it.
//!
//! Who waits and what a queue holds lie in real deques, because programs and CPython's tests look there
//! (`queue._queue.clear()`, `len(queue._getters)`, `lock._waiters[0]`): what they do is seen here. The methods' own C
//! functions are called (4 ns; 12 through the descriptor, 25 by name).

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};

/// A deque, and exactly that: no subclass.
pub struct Deque(Py<PyAny>);

struct Methods {
    class: Py<PyType>,
    append: Method,
    popleft: Method,
    remove: Method,
}

/// A method of a class written in C.
struct Method {
    /// Its function, if it takes what we give it.
    function: Option<ffi::PyCFunction>,
    descriptor: Py<PyAny>,
}

impl Method {
    fn find(class: &Bound<'_, PyType>, name: &Bound<'_, PyString>, flags: std::ffi::c_int) -> PyResult<Self> {
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
        Ok(Method { function, descriptor: descriptor.unbind() })
    }

    /// Calls it on an instance of its class, with one argument or none.
    #[inline]
    fn call<'py>(
        &self,
        subject: &Bound<'py, PyAny>,
        argument: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = subject.py();
        let argument = argument.map_or(std::ptr::null_mut(), Bound::as_ptr);
        // SAFETY: the function takes one argument, or none and a null; so does the descriptor, after the instance. Both
        // return a new reference, or null with an error set.
        let result = unsafe {
            match self.function {
                Some(function) => function(subject.as_ptr(), argument),
                None => {
                    let arguments = [subject.as_ptr(), argument];
                    let count = if argument.is_null() { 1 } else { 2 };
                    let none = std::ptr::null_mut();
                    ffi::PyObject_Vectorcall(self.descriptor.as_ptr(), arguments.as_ptr(), count, none)
                }
            }
        };
        // SAFETY: as above.
        unsafe { Bound::from_owned_ptr_or_err(py, result) }
    }
}

fn methods(py: Python<'_>) -> PyResult<&'static Methods> {
    static METHODS: PyOnceLock<Methods> = PyOnceLock::new();
    METHODS.get_or_try_init(py, || {
        let class = py.import("collections")?.getattr("deque")?.cast_into::<PyType>()?;
        Ok(Methods {
            append: Method::find(&class, intern!(py, "append"), ffi::METH_O)?,
            popleft: Method::find(&class, intern!(py, "popleft"), ffi::METH_NOARGS)?,
            remove: Method::find(&class, intern!(py, "remove"), ffi::METH_O)?,
            class: class.unbind(),
        })
    })
}

impl Deque {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Deque(methods(py)?.class.bind(py).call0()?.unbind()))
    }

    /// Somebody's deque.
    ///
    /// # Errors
    /// TypeError if it is something else.
    pub fn from(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !Deque::is_one(object)? {
            return Err(PyTypeError::new_err("a collections.deque was expected"));
        }
        Ok(Deque(object.clone().unbind()))
    }

    /// Whether the object is a deque and no subclass's.
    #[inline]
    pub fn is_one(object: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(object.get_type().is(methods(object.py())?.class.bind(object.py())))
    }

    #[inline]
    pub fn bind<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, PyAny> {
        self.0.bind(py)
    }

    #[inline]
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Deque(self.0.clone_ref(py))
    }

    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: a deque's length, which cannot fail; by its holder it is attached.
        unsafe { ffi::PyObject_Size(self.0.as_ptr()) as usize }
    }

    #[inline]
    pub fn append(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        methods(item.py())?.append.call(self.bind(item.py()), Some(item)).map(drop)
    }

    /// Takes out the oldest.
    #[inline]
    pub fn popleft<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        methods(py)?.popleft.call(self.bind(py), None)
    }

    /// Takes one out.
    ///
    /// # Errors
    /// ValueError if it is not there.
    pub fn remove(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        methods(item.py())?.remove.call(self.bind(item.py()), Some(item)).map(drop)
    }

    /// The oldest, if there is one.
    pub fn first<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if self.len() == 0 { None } else { self.bind(py).get_item(0).ok() }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
