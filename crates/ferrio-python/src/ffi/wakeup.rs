//! The descriptor that CPython's C signal handler writes to.

use std::ffi::c_int;
use std::mem::transmute;
use std::sync::OnceLock;

use pyo3::intern;
use pyo3::prelude::*;

type SetWakeupFd = unsafe extern "C" fn(c_int) -> c_int;

/// Sets the descriptor (-1: none) and returns the former one. For the main thread only.
///
/// # Errors
/// As `signal.set_wakeup_fd` where it must be used: in another thread, or if `fd` is not open.
pub fn set(py: Python<'_>, fd: c_int) -> PyResult<c_int> {
    match function() {
        // SAFETY: the interpreter is attached; the function stores the number and does nothing else.
        Some(set) => Ok(unsafe { set(fd) }),
        None => py.import(intern!(py, "signal"))?.call_method1(intern!(py, "set_wakeup_fd"), (fd,))?.extract(),
    }
}

/// `PySignal_SetWakeupFd`, which makes no system calls. The interpreter hides it before 3.13.
fn function() -> Option<SetWakeupFd> {
    static FUNCTION: OnceLock<Option<SetWakeupFd>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        // SAFETY: the name ends with a zero; under this name the C API has had this one signature since 3.1.
        unsafe {
            let address = libc::dlsym(libc::RTLD_DEFAULT, c"PySignal_SetWakeupFd".as_ptr());
            if address.is_null() { None } else { Some(transmute::<*mut libc::c_void, SetWakeupFd>(address)) }
        }
    })
}
