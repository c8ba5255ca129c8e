//! The OpenSSL that CPython's `_ssl` works with, and the way from an `ssl.SSLObject` to its `SSL`.
//!
//! CPython has no function for either. What is relied on is checked once per process, on an object made for it, in an
//! order in which nothing is followed that was not recognised before:
//!
//! * The functions are found through the module `_ssl` as the dynamic linker has loaded it, among what it was linked to.
//!   No library is linked to this one, and none is loaded.
//! * An `_SSLSocket` begins with three pointers: a socket (none here), its `SSL`, its context. The last is known to us.
//! * The `SSL` has the `SSL_CTX` with which the context begins, and the very method table and BIO method of this libssl
//!   and this libcrypto: a second copy of them in the process has others.
//!
//! Where anything is different (OpenSSL inside the interpreter, a free-threaded build, …) there is no [`OpenSsl`], and
//! the connection goes through CPython's objects alone. `FERRIO_OPENSSL=off` in the environment asks for that.

use std::ffi::{CString, c_char, c_int, c_long, c_ulong, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::bio;

/// OpenSSL's structs, known by address only.
pub enum Ssl {}
pub enum SslContext {}
pub enum Bio {}
pub enum BioMethod {}
pub enum SslMethod {}

pub type ReadOrWrite<P> = unsafe extern "C" fn(*mut Bio, P, c_int) -> c_int;
pub type Control = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
pub type Destroy = unsafe extern "C" fn(*mut Bio) -> c_int;

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// OpenSSL's functions, of any version since 1.1.1 (the oldest that CPython 3.11 takes).
        #[allow(non_snake_case)] // Their own names.
        pub struct Functions {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// None if one of them is missing.
            fn find(library: &Library) -> Option<Self> {
                Some(Functions {
                    // SAFETY: a function of this name has this signature in every version of OpenSSL that has it.
                    $($name: unsafe {
                        transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                            library.symbol(stringify!($name))?,
                        )
                    },)*
                })
            }
        }
    };
}

functions! {
    BIO_get_data: fn(*mut Bio) -> *mut c_void;
    BIO_set_data: fn(*mut Bio, *mut c_void);
    BIO_set_init: fn(*mut Bio, c_int);
    BIO_set_flags: fn(*mut Bio, c_int);
    BIO_clear_flags: fn(*mut Bio, c_int);
    BIO_get_new_index: fn() -> c_int;
    BIO_meth_new: fn(c_int, *const c_char) -> *mut BioMethod;
    BIO_meth_set_read: fn(*mut BioMethod, ReadOrWrite<*mut c_char>) -> c_int;
    BIO_meth_set_write: fn(*mut BioMethod, ReadOrWrite<*const c_char>) -> c_int;
    BIO_meth_set_ctrl: fn(*mut BioMethod, Control) -> c_int;
    BIO_meth_set_destroy: fn(*mut BioMethod, Destroy) -> c_int;
    BIO_method_name: fn(*const Bio) -> *const c_char;
    BIO_new: fn(*const BioMethod) -> *mut Bio;
    BIO_free: fn(*mut Bio) -> c_int;
    BIO_s_mem: fn() -> *const BioMethod;
    ERR_clear_error: fn();
    ERR_peek_error: fn() -> c_ulong;
    SSL_get_SSL_CTX: fn(*const Ssl) -> *mut SslContext;
    SSL_get_error: fn(*const Ssl, c_int) -> c_int;
    SSL_get_rbio: fn(*const Ssl) -> *mut Bio;
    SSL_get_ssl_method: fn(*const Ssl) -> *const SslMethod;
    SSL_read_ex: fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    SSL_set_bio: fn(*mut Ssl, *mut Bio, *mut Bio);
    SSL_write_ex: fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    TLS_server_method: fn() -> *const SslMethod;
}

/// A loaded module, and what it was linked to.
struct Library(*mut c_void);

impl Library {
    /// None if there is no such module, or it is a part of the interpreter.
    fn of_module(module: &Bound<'_, PyAny>) -> Option<Self> {
        let file = module.getattr(intern!(module.py(), "__file__")).ok()?.extract::<String>().ok()?;
        let file = CString::new(file).ok()?;
        // SAFETY: a string that ends in zero. Nothing is loaded: the module is there already.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        // It is never closed: the module does not go away either.
        (!handle.is_null()).then_some(Library(handle))
    }

    fn symbol(&self, name: &str) -> Option<*mut c_void> {
        let name = CString::new(name).ok()?;
        // SAFETY: an open handle, and a string that ends in zero.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}

/// How a `_ssl._SSLContext` begins.
#[repr(C)]
struct ContextHead {
    object: ffi::PyObject,
    context: *mut SslContext,
}

/// How a `_ssl._SSLSocket` begins.
#[repr(C)]
struct SocketHead {
    object: ffi::PyObject,
    socket: *mut ffi::PyObject,
    ssl: *mut Ssl,
    context: *mut ffi::PyObject,
}

/// CPython's OpenSSL, found and recognised.
pub struct OpenSsl {
    pub functions: Functions,
    /// The method of our BIOs.
    pub method: *mut BioMethod,
    /// `_ssl._SSLSocket`.
    kind: Py<PyType>,
}

static FOUND: OnceLock<Option<OpenSsl>> = OnceLock::new();

// SAFETY: functions, and a method table that nobody changes any more.
unsafe impl Send for OpenSsl {}
// SAFETY: as above.
unsafe impl Sync for OpenSsl {}

impl OpenSsl {
    /// None where it cannot be used, or must not.
    pub fn get(py: Python<'_>) -> Option<&'static Self> {
        if FOUND.get().is_none() {
            // Importing may let another thread in, which then does the same.
            drop(FOUND.set(if is_unwanted() { None } else { Self::find(py).ok().flatten() }));
        }
        Self::found()
    }

    /// The same without an interpreter, for what OpenSSL calls.
    pub fn found() -> Option<&'static Self> {
        FOUND.get()?.as_ref()
    }

    /// What an `_SSLSocket` without a socket is around. It lives as long as the object.
    pub fn ssl_of(&self, native: &Bound<'_, PyAny>) -> Option<*mut Ssl> {
        if !native.get_type().is(self.kind.bind(native.py())) {
            return None;
        }
        // SAFETY: objects of this class begin so, as `find` has checked.
        let head = unsafe { &*native.as_ptr().cast::<SocketHead>() };
        (head.socket.is_null() && !head.ssl.is_null()).then_some(head.ssl)
    }

    /// # Errors
    /// Whatever `_ssl` raises where it is not as expected.
    fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let module = py.import("_ssl")?;
        let Some(functions) = Library::of_module(&module).and_then(|library| Functions::find(&library)) else {
            return Ok(None);
        };
        // The C classes: those of the module `ssl` may have been replaced.
        let server = module.getattr("PROTOCOL_TLS_SERVER")?;
        let context = module.getattr("_SSLContext")?.call1((server,))?;
        let (incoming, outgoing) = (module.getattr("MemoryBIO")?.call0()?, module.getattr("MemoryBIO")?.call0()?);
        let native = context.call_method1("_wrap_bio", (incoming, outgoing, true))?;
        let kind = native.get_type();
        let has_room = |object: &Bound<'_, PyAny>, size: usize| {
            object.get_type().getattr("__basicsize__")?.extract::<usize>().map(|found| found >= size)
        };
        if !kind.is(&module.getattr("_SSLSocket")?)
            || !has_room(&native, size_of::<SocketHead>())?
            || !has_room(&context, size_of::<ContextHead>())?
        {
            return Ok(None);
        }
        // SAFETY: both objects are as long as what is read of them.
        let (socket, head) =
            unsafe { (&*native.as_ptr().cast::<SocketHead>(), &*context.as_ptr().cast::<ContextHead>()) };
        if !socket.socket.is_null() || socket.ssl.is_null() || socket.context != context.as_ptr() {
            return Ok(None);
        }
        // SAFETY: between "no socket" and the context that we know lies the `SSL`.
        if !unsafe { functions.are_of(socket.ssl, head.context) } {
            return Ok(None);
        }
        let method = bio::method(&functions);
        Ok((!method.is_null()).then(|| OpenSsl { functions, method, kind: kind.unbind() }))
    }
}

impl Functions {
    /// Whether they belong to the libraries that have made `ssl`, and `context` is its `SSL_CTX`.
    ///
    /// # Safety
    /// `ssl` must be a server's `SSL` of some OpenSSL, over a memory BIO.
    unsafe fn are_of(&self, ssl: *mut Ssl, context: *mut SslContext) -> bool {
        // SAFETY: as the caller promises; addresses are compared, and our own BIO is freed.
        unsafe {
            if (self.SSL_get_SSL_CTX)(ssl) != context || (self.SSL_get_ssl_method)(ssl) != (self.TLS_server_method)() {
                return false;
            }
            let theirs = (self.SSL_get_rbio)(ssl);
            let ours = (self.BIO_new)((self.BIO_s_mem)());
            if theirs.is_null() || ours.is_null() {
                return false;
            }
            let same = ptr::eq((self.BIO_method_name)(theirs), (self.BIO_method_name)(ours));
            (self.BIO_free)(ours);
            same
        }
    }
}

/// Whether the layout cannot be relied on, or the user has asked for CPython's objects.
fn is_unwanted() -> bool {
    cfg!(Py_GIL_DISABLED) || std::env::var_os("FERRIO_OPENSSL").is_some_and(|wish| wish == "off")
}
