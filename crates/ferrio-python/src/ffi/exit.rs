//! What becomes of a daemon thread that runs a loop when the interpreter ends.
//!
//! CPython before 3.14 ends such a thread as soon as it wants the interpreter lock again, wherever it is: `pthread_exit`
//! in glibc then unwinds its stack, and Rust's destructors on it would release objects of an interpreter that is gone.
//! Here it stops for good instead, its stack untouched, as CPython itself has it from 3.14 on. Nothing is unwound by
//! `pthread_exit` in musl, on macOS and on Windows.

use pyo3::Python;

/// Runs `run`. A thread that is told to exit meanwhile is parked for ever.
pub fn parked_at_exit<R>(run: impl FnOnce() -> R) -> R {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(Py_3_14)))]
    let _handler = handler::Pushed::new();
    run()
}

/// Runs `run`, which must have nothing to do with Python, without the interpreter lock; for threads that may be told to
/// exit when they want it back.
pub fn detached<R: Send>(py: Python<'_>, run: impl FnOnce() -> R + Send) -> R {
    parked_at_exit(|| py.detach(run))
}

/// glibc calls a cleanup handler as the unwinding of its stack passes the place of the handler's record (`unwind_stop` in
/// nptl/unwind.c, which compares addresses). A record on the heap counts as passed by the innermost frame already, and
/// so the handler is called before anything has been unwound.
#[cfg(all(target_os = "linux", target_env = "gnu", not(Py_3_14)))]
mod handler {
    use std::ffi::{c_int, c_void};
    use std::mem::MaybeUninit;
    use std::{ptr, thread};

    /// `struct _pthread_cleanup_buffer` of pthread.h.
    #[repr(C)]
    struct Record {
        routine: extern "C" fn(*mut c_void),
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut Record,
    }

    unsafe extern "C" {
        fn _pthread_cleanup_push(record: *mut Record, routine: extern "C" fn(*mut c_void), argument: *mut c_void);
        fn _pthread_cleanup_pop(record: *mut Record, execute: c_int);
    }

    extern "C" fn park(_: *mut c_void) {
        loop {
            thread::park();
        }
    }

    pub struct Pushed(Box<MaybeUninit<Record>>);

    impl Pushed {
        pub fn new() -> Self {
            let mut record = Box::new_uninit();
            // SAFETY: the function fills the record, which stays where it is until it is popped by the same thread.
            unsafe { _pthread_cleanup_push(record.as_mut_ptr(), park, ptr::null_mut()) };
            Pushed(record)
        }
    }

    impl Drop for Pushed {
        fn drop(&mut self) {
            // SAFETY: pushed by this thread (the type is not Send), and values on a stack are dropped in reverse order.
            unsafe { _pthread_cleanup_pop(self.0.as_mut_ptr(), 0) };
        }
    }
}
