//! ferrio's Python half: asyncio's objects over the engine.
//!
//! This file only says what the extension module offers; `python/ferrio` is the face that users import. The way of
//! one await leads through `awaitable/` (what a coroutine awaits), `event_loop/` (the loop's methods), `core/`
//! (what every native object of one loop shares) and down into the engine crate.

mod awaitable;
mod core;
mod current;
mod errors;
mod event_loop;
mod ffi;
mod handle;
mod imports;
mod observing;
mod operation;
mod owners;
mod recording;
mod running;
#[cfg(unix)]
mod server;
mod step;
mod streams;
mod sync;
mod tasks;
#[cfg(unix)]
mod transports;

use pyo3::prelude::*;
use pyo3::types::PyType;

/// The native half of the `ferrio` package: private, its names may change with every release.
#[pymodule]
mod _ferrio {
    use super::*;

    #[pymodule_export]
    use crate::awaitable::Awaitable;
    #[cfg(unix)]
    #[pymodule_export]
    use crate::event_loop::numeric_stream_info;
    #[pymodule_export]
    use crate::event_loop::{Loop, TimerLook};
    #[pymodule_export]
    use crate::recording::leaving::{SlowSteps, announce_signal, describe, page_folder, page_path, records, requests};
    #[pymodule_export]
    use crate::recording::leaving::{set_slow_threshold, stop_watching, want_level, wanted_level};
    #[pymodule_export]
    use crate::recording::viewing::PageView;
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::recording::viewing::{signal_thread, wake_on_signal};
    #[cfg(unix)]
    #[pymodule_export]
    use crate::server::ServerCore;
    #[pymodule_export]
    use crate::step::recognise_task_steps;
    #[pymodule_export]
    use crate::streams::{FlowControl, StreamReader, StreamReaderProtocol, StreamWriter};
    #[pymodule_export]
    use crate::sync::{Barrier, Condition, Event, Lock, Queue, Semaphore, lock_holder};
    #[cfg(unix)]
    #[pymodule_export]
    use crate::transports::datagram::DatagramTransport;
    #[cfg(unix)]
    #[pymodule_export]
    use crate::transports::pipe::{ReadPipe, WritePipe};
    #[cfg(unix)]
    #[pymodule_export]
    use crate::transports::process::{_use_pidfds_for_tests, Process};
    #[cfg(unix)]
    #[pymodule_export]
    use crate::transports::stream::StreamTransport;
    #[cfg(unix)]
    #[pymodule_export]
    use crate::transports::tls::{TlsProtocol, TlsTransport};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let (handle, timer_handle) = crate::handle::types(py)?;
        module.add("Handle", handle)?;
        module.add("TimerHandle", timer_handle)?;
        module.add("NOTHING", crate::sync::nothing(py)?)?;
        module.add("Operation", crate::operation::class(py)?)?;
        crate::awaitable::install_slots(py)?;
        crate::event_loop::install_methods(py)?;
        crate::streams::install_methods(py)?;
        crate::sync::install_methods(py)?;
        crate::tasks::install(module)?;
        Ok(())
    }

    /// See [`crate::ffi::method::adopt`].
    #[pyfunction]
    fn adopt_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
        crate::ffi::method::adopt(class)
    }

    /// Panics: what the tests use to show that a panic becomes an exception.
    #[pyfunction]
    fn _panic_for_tests() {
        panic!("a panic for the tests")
    }
}
