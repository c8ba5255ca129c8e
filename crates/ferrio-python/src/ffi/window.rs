//! Lending Rust memory to a C function for the length of one call, as an object with the buffer interface.
//!
//! `BIO.write(data)` and `SSLSocket.read(size, buffer)` take buffers. A bytes object or a memoryview per call would cost
//! an allocation and a copy each; a window is made once and moved over whatever is to be lent.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// An object whose buffer is whatever is being lent.
#[pyclass(frozen)]
pub struct Window {
    start: AtomicPtr<u8>,
    length: AtomicUsize,
    writable: AtomicBool,
    lent: AtomicBool,
}

impl Window {
    pub fn new(py: Python<'_>) -> PyResult<Py<Self>> {
        let window = Window {
            start: AtomicPtr::new(std::ptr::NonNull::dangling().as_ptr()),
            length: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            lent: AtomicBool::new(false),
        };
        Py::new(py, window)
    }

    /// Lends `data` to what `call` calls, for reading.
    ///
    /// # Safety
    /// What is called must let go of the buffer before it returns: C functions that take a `Py_buffer` argument do.
    ///
    /// # Errors
    /// Those of `call`, and RuntimeError if the window is lent already (a callback of the callee came back here).
    pub unsafe fn lend<'py, R>(
        this: &Bound<'py, Self>,
        data: &[u8],
        call: impl FnOnce(&Bound<'py, Self>) -> PyResult<R>,
    ) -> PyResult<R> {
        this.get().open(data.as_ptr().cast_mut(), data.len(), false)?;
        let _closed = Closed(this.get());
        call(this)
    }

    /// Lends `room` to what `call` calls, for writing.
    ///
    /// # Safety
    /// As [`lend`](Self::lend); and `room` must be valid for writes of `length` bytes until `call` returns.
    ///
    /// # Errors
    /// As [`lend`](Self::lend).
    pub unsafe fn lend_room<'py, R>(
        this: &Bound<'py, Self>,
        room: *mut u8,
        length: usize,
        call: impl FnOnce(&Bound<'py, Self>) -> PyResult<R>,
    ) -> PyResult<R> {
        this.get().open(room, length, true)?;
        let _closed = Closed(this.get());
        call(this)
    }

    fn open(&self, start: *mut u8, length: usize, writable: bool) -> PyResult<()> {
        if self.lent.swap(true, Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("a TLS connection was used from inside one of its own callbacks"));
        }
        self.start.store(start, Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        self.writable.store(writable, Ordering::Relaxed);
        Ok(())
    }
}

/// Shuts a window, also if the call panics.
struct Closed<'a>(&'a Window);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.length.store(0, Ordering::Relaxed);
        self.0.start.store(std::ptr::NonNull::dangling().as_ptr(), Ordering::Relaxed);
        self.0.lent.store(false, Ordering::Relaxed);
    }
}

#[pymethods]
impl Window {
    /// # Safety
    /// Called by the interpreter, with a view to fill.
    unsafe fn __getbuffer__(this: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let window = this.get();
        let start = window.start.load(Ordering::Relaxed);
        let length = window.length.load(Ordering::Relaxed) as ffi::Py_ssize_t;
        let readonly = c_int::from(!window.writable.load(Ordering::Relaxed));
        // SAFETY: the memory is lent by `lend` or `lend_room`, or empty; the view keeps a reference to the window.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, this.as_ptr(), start.cast(), length, readonly, flags) };
        if filled < 0 { Err(crate::ffi::error::take(this.py())) } else { Ok(()) }
    }
}
