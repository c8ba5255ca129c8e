//! Where CPython's C signal handler writes to: the descriptor that wakes a sleeping loop.

use std::ffi::c_int;
use std::sync::OnceLock;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

type SetWakeupFd = unsafe extern "C" fn(c_int) -> c_int;

/// Sets the descriptor (-1: none) and returns the former one. For the main thread.
///
/// CPython exports the C function since 3.13; before, `signal.set_wakeup_fd` does it, for two system calls more.
///
/// # Errors
/// ValueError outside the main thread, or if `fd` is closed or blocking (before 3.13 only).
pub fn set_wakeup_fd(py: Python<'_>, fd: c_int) -> PyResult<c_int> {
    static EXPORTED: OnceLock<Option<SetWakeupFd>> = OnceLock::new();
    let exported = EXPORTED.get_or_init(|| {
        // SAFETY: the name is a C string; a symbol of this name has this type in every CPython that exports it.
        unsafe {
            let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"PySignal_SetWakeupFd".as_ptr());
            (!symbol.is_null()).then(|| std::mem::transmute::<*mut libc::c_void, SetWakeupFd>(symbol))
        }
    });
    match exported {
        // SAFETY: attached, and the main thread, as the caller promises; any number is accepted.
        Some(set) => Ok(unsafe { set(fd) }),
        None => {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "warn_on_full_buffer"), false)?;
            py.import(intern!(py, "signal"))?
                .call_method(intern!(py, "set_wakeup_fd"), (fd,), Some(&keywords))?
                .extract()
        }
    }
}
