//! The class `Loop`: asyncio's event loop, a file per thing that a user asks of it.
//!
//! This file makes, runs and closes it. What runs per callback, per packet or per await is native; what runs once per
//! program (exception handlers, the default executor, async generators' hooks) is in `python/ferrio/event_loop.py`,
//! whose `EventLoop` is the class that users see.

#[cfg(unix)]
mod connections;
pub mod creating;
#[cfg(unix)]
mod datagrams;
mod executors;
mod introspection;
mod looking;
#[cfg(unix)]
mod pipes;
#[cfg(unix)]
mod processes;
#[cfg(unix)]
mod resolver;
mod scheduling;
#[cfg(unix)]
mod sendfile;
#[cfg(unix)]
pub mod signals;
#[cfg(unix)]
pub mod sockets;
#[cfg(unix)]
mod tls;
mod watchers;

use std::sync::{Arc, Once};

use ferrio::clock::Clock;
use ferrio::event_loop::Engine;
use ferrio::ready::Order;
use ferrio::recorder;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::core::Core;
use crate::current;
use crate::ffi::exit;
use crate::ffi::guarded::Guarded;
use crate::imports::{Imports, imports};

pub use looking::TimerLook;
#[cfg(unix)]
pub use resolver::numeric_stream_info;
pub use scheduling::{CONTEXT, install_methods, nanoseconds};

/// In seconds. Whoever asks for more has probably taken the unit for another.
const LONGEST_SPIN: f64 = 0.1;

/// The native half of `ferrio.EventLoop`.
#[pyclass(frozen, subclass, weakref, module = "ferrio._ferrio")]
pub struct Loop {
    pub core: Arc<Core>,
    task_factory: Guarded<Option<Py<PyAny>>>,
    keywords: creating::Keywords,
    files: watchers::Files,
    #[cfg(unix)]
    signals: signals::Signals,
}

#[pymethods]
impl Loop {
    /// Takes whatever a subclass's `__init__` takes.
    #[new]
    #[pyo3(signature = (*_arguments, clock="real", spin=0.0, **_keywords))]
    fn new(
        py: Python<'_>,
        _arguments: &Bound<'_, PyTuple>,
        clock: &str,
        spin: f64,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        imports(py)?;
        static DESCRIBE: Once = Once::new();
        DESCRIBE.call_once(|| {
            let version = Python::version_str();
            recorder::describe(&format!("Python {}", version.split_whitespace().next().unwrap_or(version)));
        });
        let clock = match clock {
            "real" => Clock::Real,
            // From where the real one stands, so that `loop.time()` and `time.monotonic()` begin alike.
            "virtual" => Clock::starting_at(Clock::Real.now()),
            other => return Err(PyValueError::new_err(format!("clock must be 'real' or 'virtual', got '{other}'"))),
        };
        let spin = spin_nanoseconds(spin)?;
        let core = Core::new(clock, Order::Fifo).map_err(crate::errors::from_io)?;
        core.engine()?.set_spin(spin);
        Ok(Loop {
            core,
            task_factory: Guarded::default(),
            keywords: creating::Keywords::default(),
            files: watchers::Files::default(),
            #[cfg(unix)]
            signals: signals::Signals::new(py),
        })
    }

    #[pyo3(signature = (*, clock="real", spin=0.0))]
    fn __init__(this: &Bound<'_, Self>, clock: &str, spin: f64) {
        let _ = (clock, spin); // They are `__new__`'s.
        this.get().core.set_loop_object(this.as_ptr());
    }

    /// Run until stop() is called.
    fn run_forever(this: &Bound<'_, Self>) -> PyResult<()> {
        let core = &this.get().core;
        check_may_run(this)?;
        let running = Running::enter(this)?;
        let engine = core.engine()?;
        let result = exit::parked_at_exit(|| engine.run(this.py()));
        running.leave()?;
        result
    }

    /// Run until the given future or coroutine is done; returns its result or raises its exception.
    fn run_until_complete<'py>(this: &Bound<'py, Self>, future: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        check_may_run(this)?;
        let imports = imports(py)?;
        let is_new = !imports.is_future.bind(py).call1((&future,))?.is_truthy()?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "loop"), this)?;
        let future = imports.ensure_future.bind(py).call((future,), Some(&keywords))?;
        if is_new {
            // Its exception is raised from here: no "Task was destroyed but it is pending" on top of it.
            future.setattr(intern!(py, "_log_destroy_pending"), false)?;
        }
        let callback = imports.run_until_complete_cb.bind(py);
        future.call_method1(intern!(py, "add_done_callback"), (callback,))?;
        let ran = this.call_method0(intern!(py, "run_forever"));
        let removed = future.call_method1(intern!(py, "remove_done_callback"), (callback,));
        let done = future.call_method0(intern!(py, "done"))?.is_truthy()?;
        if let Err(error) = ran {
            if is_new && done && !future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
                // The coroutine raised a BaseException, which left the loop already: it counts as retrieved.
                future.call_method0(intern!(py, "exception"))?;
            }
            return Err(error);
        }
        removed?;
        if !done {
            return Err(PyRuntimeError::new_err("Event loop stopped before Future completed."));
        }
        future.call_method0(intern!(py, "result"))
    }

    /// End run_forever() after the present turn.
    fn stop(this: &Bound<'_, Self>) -> PyResult<()> {
        let core = &this.get().core;
        match core.engine() {
            Ok(engine) => engine.stop(),
            // From another thread, as `call_soon_threadsafe(loop.stop)` would.
            Err(_) => core.call_soon(this, |object| {
                object.cast::<Loop>()?.get().core.engine()?.stop();
                Ok(())
            }),
        }
        Ok(())
    }

    fn is_running(&self) -> bool {
        // Perhaps on behalf of a task that begins within another's step.
        current::forget();
        self.core.is_running()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Whether time jumps to the next timer instead of being waited for.
    #[getter]
    fn _clock_is_virtual(&self) -> PyResult<bool> {
        Ok(self.core.engine()?.clock_is_virtual())
    }

    /// Virtual time stands still while something goes on outside of the loop, until `_let_clock_go()`.
    fn _hold_clock(&self) -> PyResult<()> {
        self.core.engine().map(Engine::hold_clock)
    }

    #[pyo3(signature = (*_arguments))]
    fn _let_clock_go(&self, _arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.core.engine().map(Engine::let_clock_go)
    }

    /// The native part of close(): forgets all that waits and gives the descriptors back.
    fn _close(this: &Bound<'_, Self>) -> PyResult<()> {
        let core = &this.get().core;
        if core.is_running() {
            return Err(PyRuntimeError::new_err("Cannot close a running event loop"));
        }
        if core.is_closed() {
            return Ok(());
        }
        core.end_operations(this.py())?;
        core.set_closed();
        core.close(this.py())?;
        this.get().files.clear();
        #[cfg(unix)]
        signals::close(this)?;
        Ok(())
    }

    fn set_debug(this: &Bound<'_, Self>, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        let core = &this.get().core;
        core.set_debug(enabled.is_truthy()?);
        if core.is_running() {
            core.call_soon(this, |object| track_coroutine_origins(object.cast::<Loop>()?.get(), object.py()));
        }
        Ok(())
    }

    /// Set the callable that makes tasks: `factory(loop, coro, **kwargs)`; None for asyncio.Task.
    fn set_task_factory(&self, py: Python<'_>, factory: Py<PyAny>) -> PyResult<()> {
        if !factory.is_none(py) && !factory.bind(py).is_callable() {
            return Err(pyo3::exceptions::PyTypeError::new_err("task factory must be a callable or None"));
        }
        let factory = if factory.is_none(py) { None } else { Some(factory) };
        let former = self.task_factory.with(py, |kept| std::mem::replace(kept, factory));
        drop(former);
        Ok(())
    }

    fn get_task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory(py)
    }

    /// How long the loop goes on asking for news before it sleeps, in seconds; 0, as at first, for not at all.
    #[getter]
    fn get_spin(&self) -> PyResult<f64> {
        Ok(self.core.engine()?.spin() as f64 / 1e9)
    }

    #[setter]
    fn set_spin(&self, seconds: f64) -> PyResult<()> {
        self.core.engine()?.set_spin(spin_nanoseconds(seconds)?);
        Ok(())
    }

    /// The identifier of the thread that runs the loop, or None.
    #[getter]
    fn _thread_id(&self) -> Option<usize> {
        Some(self.core.thread_ident.load(std::sync::atomic::Ordering::Acquire)).filter(|ident| *ident != 0)
    }

    fn _check_closed(&self) -> PyResult<()> {
        self.core.check_closed()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(Some(factory)) =
            self.task_factory.for_collector(|factory| factory.as_ref().map(|one| visit.call(one)))
        {
            factory?;
        }
        self.keywords.traverse(&visit)?;
        self.files.traverse(&visit)?;
        #[cfg(unix)]
        self.signals.traverse(&visit)?;
        self.core.traverse(&visit)
    }

    fn __clear__(&self) {
        self.core.clear();
        drop((self.task_factory.take(), self.keywords.take()));
        self.files.clear();
    }
}

impl Loop {
    fn task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory.with(py, |kept| kept.as_ref().map(|factory| factory.clone_ref(py)))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.core.set_loop_object(std::ptr::null_mut());
    }
}

fn spin_nanoseconds(seconds: f64) -> PyResult<u64> {
    // NaN is not within the range either.
    if !(0.0..=LONGEST_SPIN).contains(&seconds) {
        return Err(PyValueError::new_err(format!("spin must be 0 to {LONGEST_SPIN} seconds, got {seconds}")));
    }
    Ok((seconds * 1e9) as u64)
}

fn check_may_run(this: &Bound<'_, Loop>) -> PyResult<()> {
    let core = &this.get().core;
    core.check_closed()?;
    if core.is_running() {
        return Err(PyRuntimeError::new_err("This event loop is already running"));
    }
    let running = imports(this.py())?.events.bind(this.py()).call_method0(intern!(this.py(), "_get_running_loop"))?;
    if !running.is_none() {
        return Err(PyRuntimeError::new_err("Cannot run the event loop while another loop is running"));
    }
    Ok(())
}

/// Debug mode has coroutines remember where they were made.
fn track_coroutine_origins(this: &Loop, py: Python<'_>) -> PyResult<()> {
    /// `asyncio.constants.DEBUG_STACK_DEPTH`.
    const DEPTH: usize = 10;
    let imports = imports(py)?;
    let former: usize = imports.get_coroutine_origin_tracking_depth.bind(py).call0()?.extract()?;
    let wanted = if this.core.debug() { DEPTH } else { 0 };
    if wanted != former && (wanted != 0 || former == DEPTH) {
        imports.set_coroutine_origin_tracking_depth.bind(py).call1((wanted,))?;
    }
    Ok(())
}

/// What is different in a thread while it runs a loop.
struct Running<'a, 'py> {
    this: &'a Bound<'py, Loop>,
    imports: &'static Imports,
    asyncgen_hooks: Bound<'py, PyAny>,
    origin_depth: usize,
}

impl<'a, 'py> Running<'a, 'py> {
    fn enter(this: &'a Bound<'py, Loop>) -> PyResult<Self> {
        let py = this.py();
        let imports = imports(py)?;
        let asyncgen_hooks = imports.get_asyncgen_hooks.bind(py).call0()?;
        let origin_depth = imports.get_coroutine_origin_tracking_depth.bind(py).call0()?.extract()?;
        // SAFETY: no arguments; the number is the one `threading.get_ident()` gives.
        let ident = unsafe { pyo3::ffi::PyThread_get_thread_ident() } as usize;
        this.get().core.enter(ident)?;
        let running = Running { this, imports, asyncgen_hooks, origin_depth };
        match running.set_up(ident) {
            Ok(()) => Ok(running),
            Err(error) => running.leave().and(Err(error)),
        }
    }

    fn set_up(&self, ident: usize) -> PyResult<()> {
        let (this, py) = (self.this, self.this.py());
        track_coroutine_origins(this.get(), py)?;
        let first = this.getattr(intern!(py, "_asyncgen_firstiter_hook"))?;
        let last = this.getattr(intern!(py, "_asyncgen_finalizer_hook"))?;
        self.imports.set_asyncgen_hooks.bind(py).call1((first, last))?;
        #[cfg(unix)]
        signals::enter(this, ident)?;
        #[cfg(not(unix))]
        let _ = ident;
        self.imports.events.bind(py).call_method1(intern!(py, "_set_running_loop"), (this,)).map(drop)
    }

    /// Puts everything back, whatever of it fails; the first failure is returned.
    fn leave(self) -> PyResult<()> {
        let py = self.this.py();
        #[cfg(unix)]
        let signals = signals::leave(self.this);
        #[cfg(not(unix))]
        let signals = Ok(());
        self.this.get().core.leave();
        drop(self.this.get().keywords.take());
        let events = self.imports.events.bind(py).call_method1(intern!(py, "_set_running_loop"), (py.None(),));
        let depth = self.imports.set_coroutine_origin_tracking_depth.bind(py).call1((self.origin_depth,));
        let hooks = self.asyncgen_hooks.cast::<PyTuple>()?;
        let hooks = self.imports.set_asyncgen_hooks.bind(py).call1(hooks);
        signals.and(events.and(depth).and(hooks).map(drop))
    }
}
