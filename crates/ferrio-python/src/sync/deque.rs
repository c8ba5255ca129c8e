//! `collections.deque`, as the primitives use it.
//!
//! Who waits and what a queue holds lie in real deques, because programs and CPython's tests look there
//! (`queue._queue.clear()`, `len(queue._getters)`, `lock._waiters[0]`): what they do is seen here.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::c_method::CMethod;

/// A deque, and exactly that: no subclass.
pub struct Deque(Py<PyAny>);

struct Methods {
    class: Py<PyType>,
    append: CMethod,
    popleft: CMethod,
    remove: CMethod,
}

fn methods(py: Python<'_>) -> PyResult<&'static Methods> {
    static METHODS: PyOnceLock<Methods> = PyOnceLock::new();
    METHODS.get_or_try_init(py, || {
        let class = py.import("collections")?.getattr("deque")?.cast_into::<PyType>()?;
        Ok(Methods {
            append: CMethod::of(&class, "append")?,
            popleft: CMethod::of(&class, "popleft")?,
            remove: CMethod::of(&class, "remove")?,
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
    pub fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        self.0.into_bound(py)
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
        // SAFETY: it is a deque.
        unsafe { methods(item.py())?.append.call1(self.bind(item.py()), item).map(drop) }
    }

    /// Takes out the oldest.
    #[inline]
    pub fn popleft<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: it is a deque.
        unsafe { methods(py)?.popleft.call0(self.bind(py)) }
    }

    /// Takes one out.
    ///
    /// # Errors
    /// ValueError if it is not there.
    pub fn remove(&self, item: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: it is a deque.
        unsafe { methods(item.py())?.remove.call1(self.bind(item.py()), item).map(drop) }
    }

    /// The oldest, if there is one.
    pub fn first<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        if self.len() == 0 { None } else { self.bind(py).get_item(0).ok() }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
