//! Other objects' memory: what `bytes`, `bytearray`, `memoryview`, `array` and friends lend out.

use pyo3::ffi;
use pyo3::prelude::*;

/// A contiguous piece of an object's memory, of any format, counted in bytes. While it is held the object can neither
/// be resized nor freed.
pub struct Buffer {
    view: Box<ffi::Py_buffer>,
}

// SAFETY: the view is a pointer and a length with a reference to their owner; releasing it attaches to the interpreter.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Memory to read from.
    ///
    /// # Errors
    /// TypeError if the object lends out no memory, BufferError if what it lends is not contiguous.
    pub fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    /// Memory to write to.
    ///
    /// # Errors
    /// As [`readable`](Self::readable); BufferError if it is read-only.
    pub fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_WRITABLE)
    }

    fn get(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        // In a box, because an exporter may have pointers lead from the view into itself.
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the callee fills the view, or fails and leaves nothing to release.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } < 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Buffer { view })
    }

    /// A memoryview of the bytes from `start`, for Python code.
    pub fn view<'py>(&self, py: Python<'py>, start: usize) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the view is filled; a memoryview made of its owner holds the memory by itself.
        let owner = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.view.obj) };
        let whole = pyo3::types::PyMemoryView::from(&owner.unwrap_or_else(|| py.None().into_bound(py)))?;
        let bytes = whole.call_method1(pyo3::intern!(py, "cast"), ("B",))?;
        bytes.get_item(pyo3::types::PySlice::new(py, start as isize, isize::MAX, 1))
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.view.len as usize
    }

    /// Where they begin. Python code may change them at any time, hence no slice.
    pub fn as_ptr(&self) -> *mut u8 {
        self.view.buf.cast()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Without an interpreter there is nobody left to give the memory back to. An error that is set stays where it is:
        // what runs here, a finalizer or a __release_buffer__, CPython itself calls with the error put aside.
        Python::try_attach(|_| {
            // SAFETY: filled by PyObject_GetBuffer and released once.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.view) }
        });
    }
}
