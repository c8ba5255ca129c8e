//! Where CPython's C API is used raw: the few calls and types for which PyO3's own cost is measurable.
//!
//! Measured per `call_soon` on 3.14: PyO3 method, PyO3 handle 76 ns; raw method, raw handle 50 ns; a bare C loop 48 ns.

pub mod bound_method;
pub mod buffer;
pub mod bytes;
pub mod c_method;
pub mod call;
pub mod construct;
pub mod context;
pub mod error;
pub mod exit;
pub mod for_ever;
pub mod guarded;
pub mod method;
pub mod spare;
#[cfg(unix)]
pub mod wakeup;
pub mod whole;
#[cfg(unix)]
pub mod window;
