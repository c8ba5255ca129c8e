//! Signals: `add_signal_handler`, and the wake-up that lets any Python handler run while the loop sleeps.
//!
//! CPython notes a signal in its C handler and runs the Python handler later, in the main thread, between two
//! bytecodes. A loop that sleeps in the kernel executes none, and the signal may have interrupted another thread. So,
//! while a loop runs in the main thread, the descriptor that the C handler writes to is a pipe of that loop, watched
//! like any other: the loop wakes and has CPython run its handlers ([`arrived`]). Around the run that descriptor is
//! whose it was before.
//!
//! The bytes in the pipe only wake. They do not say which handler runs, because a forked child shares the pipe and its
//! signals are not its parent's: `add_signal_handler` installs a [`Forwarder`] with `signal.signal`, which puts the
//! user's callback into the ready queue with the signal as its cause. Only if the program has put another handler into
//! the Forwarder's place is a byte all that tells of the signal ([`make_ready_what_is_hidden`]).

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrio::Direction;
use ferrio::cause::{Cause, Kind};
use ferrio::fork;
use ferrio::poll::RawFd;
use pyo3::exceptions::{PyOSError, PyResourceWarning, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::Loop;
use crate::core::{Confined, Core, Job};
use crate::errors::from_io;
use crate::ffi::context::copy_current;
use crate::ffi::wakeup::set_wakeup_fd;
use crate::handle;
use crate::imports::imports;
use crate::transports::pipe::set_nonblocking;

/// A loop's share of the process's signals.
pub struct Signals {
    /// Signal number to `Handle`.
    handlers: Py<PyDict>,
    state: Confined<State>,
    /// How many have woken this loop.
    seen: AtomicU64,
}

struct State {
    /// Made when the loop first runs in the main thread.
    pipe: RefCell<Option<Pipe>>,
    /// What stands in CPython's handler while this loop runs in the main thread; -1 otherwise.
    ours: Cell<RawFd>,
    /// Whose descriptor stood there before this run: it still hears of every signal.
    former: Cell<RawFd>,
}

struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    /// In which process it was opened: a forked child has its parent's pipe, and would read its parent's wake-ups.
    forks: u32,
}

impl Signals {
    pub fn new(py: Python<'_>) -> Self {
        let state = State { pipe: RefCell::default(), ours: Cell::new(-1), former: Cell::new(-1) };
        Signals { handlers: PyDict::new(py).unbind(), state: Confined::new(state), seen: AtomicU64::new(0) }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handlers)
    }
}

// --- the wake-up ---------------------------------------------------------------------------------------------------

/// A run begins in the thread `ident`: if that is the main thread, signals wake this loop.
pub fn enter(this: &Bound<'_, Loop>, ident: usize) -> PyResult<()> {
    let py = this.py();
    let main_thread = imports(py)?.main_thread.bind(py).call0()?;
    if main_thread.getattr(intern!(py, "ident"))?.extract::<Option<usize>>()? != Some(ident) {
        return Ok(());
    }
    let Loop { core, signals, .. } = this.get();
    let state = signals.state.get(core)?;
    let ours = own_pipe(core, state)?;
    // The pipe stays open for as long as its number stands there.
    state.former.set(set_wakeup_fd(py, ours)?);
    state.ours.set(ours);
    Ok(())
}

/// The descriptor that wakes this loop in this process.
fn own_pipe(core: &Arc<Core>, state: &State) -> PyResult<RawFd> {
    let known = state.pipe.borrow().as_ref().map(|pipe| (pipe.writer.as_raw_fd(), pipe.forks));
    if let Some((writer, forks)) = known
        && forks == fork::count()
    {
        return Ok(writer);
    }
    let (reader, writer) = io::pipe().map_err(from_io)?;
    for fd in [reader.as_raw_fd(), writer.as_raw_fd()] {
        set_nonblocking(fd).map_err(from_io)?;
    }
    let engine = core.engine()?;
    drop(engine.watch(reader.as_raw_fd(), Direction::Read, Job::Signals).map_err(from_io)?);
    let fd = writer.as_raw_fd();
    let inherited = state.pipe.replace(Some(Pipe { reader, writer, forks: fork::count() }));
    if let Some(inherited) = inherited {
        engine.release(inherited.reader.as_raw_fd());
    }
    Ok(fd)
}

/// The run is over: signals go where they went before, unless somebody has redirected them meanwhile.
pub fn leave(this: &Bound<'_, Loop>) -> PyResult<()> {
    let Loop { core, signals, .. } = this.get();
    let state = signals.state.get(core)?;
    let ours = state.ours.replace(-1);
    if ours < 0 {
        return Ok(());
    }
    // A descriptor that its owner has closed meanwhile cannot be put back: then nobody is told.
    let py = this.py();
    let present = set_wakeup_fd(py, state.former.replace(-1)).or_else(|_| set_wakeup_fd(py, -1))?;
    if present != ours {
        set_wakeup_fd(py, present).or_else(|_| set_wakeup_fd(py, -1))?;
    }
    Ok(())
}

/// A signal has woken the loop: CPython runs the Python handlers of all that it has noted.
///
/// # Errors
/// What a handler raises.
pub fn arrived(this: &Bound<'_, Loop>) -> PyResult<()> {
    let Loop { core, signals, .. } = this.get();
    let state = signals.state.get(core)?;
    let inherited = state.pipe.borrow().as_ref().is_some_and(|pipe| pipe.forks != fork::count());
    if inherited {
        // What is in there is for the parent.
        let ours = own_pipe(core, state)?;
        if state.ours.get() >= 0 {
            state.ours.set(ours);
            set_wakeup_fd(this.py(), ours)?;
        }
        return this.py().check_signals();
    }
    // First the pipe, then the handlers: a signal that comes in between wakes the loop once more.
    let mut bytes = [0; 512];
    let count = state.pipe.borrow().as_ref().map_or(Ok(0), |pipe| (&pipe.reader).read(&mut bytes)).unwrap_or(0);
    signals.seen.fetch_add(count as u64, Ordering::Relaxed);
    let former = state.former.get();
    if former >= 0 {
        // SAFETY: the bytes are `count` long. A descriptor that is full or closed is its owner's affair.
        unsafe { libc::write(former, bytes.as_ptr().cast(), count) };
    }
    make_ready_what_is_hidden(this, &bytes[..count])?;
    this.py().check_signals()
}

/// A server that runs in the loop may set handlers of its own for a while (`signal.signal`). As in asyncio, the loop's
/// are called as well.
fn make_ready_what_is_hidden(this: &Bound<'_, Loop>, arrived: &[u8]) -> PyResult<()> {
    let py = this.py();
    let Loop { core, signals, .. } = this.get();
    let handlers = signals.handlers.bind(py);
    if handlers.is_empty() {
        return Ok(());
    }
    for &signal in arrived {
        let Some(handle) = handlers.get_item(signal)? else { continue };
        let present = py.import("signal")?.call_method1("getsignal", (signal,))?;
        if !present.is_instance_of::<Forwarder>() {
            core.soon_because(Job::Handle(handle::Scheduled::new(handle)), Cause::new(Kind::Signal, signal.into()));
        }
    }
    Ok(())
}

// --- handlers ------------------------------------------------------------------------------------------------------

/// What `signal.signal` calls for a signal with a handler in this loop.
#[pyclass(frozen, module = "ferrio")]
struct Forwarder {
    core: Arc<Core>,
}

#[pymethods]
impl Forwarder {
    fn __call__(&self, py: Python<'_>, signal: c_int, _frame: Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(the_loop) = self.core.loop_object(py) else { return Ok(()) };
        let handlers = the_loop.cast::<Loop>()?.get().signals.handlers.bind(py);
        if let Some(handle) = handlers.get_item(signal)? {
            self.core
                .soon_because(Job::Handle(handle::Scheduled::new(handle)), Cause::new(Kind::Signal, signal as u64));
        }
        Ok(())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        match self.core.loop_object(py) {
            Ok(the_loop) => Ok(format!("<signal handler of {}>", the_loop.repr()?)),
            Err(_) => Ok("<signal handler of a loop that is gone>".to_owned()),
        }
    }
}

#[pymethods]
impl Loop {
    /// Call callback(*args) in the loop when the signal arrives. Main thread only.
    #[pyo3(signature = (sig, callback, *args))]
    fn add_signal_handler<'py>(
        this: &Bound<'py, Self>,
        sig: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let py = this.py();
        imports(py)?.helpers.bind(py).call_method1("check_callback", (callback, "add_signal_handler"))?;
        check_signal(sig)?;
        let Loop { core, signals, .. } = this.get();
        core.check_closed()?;
        let arguments: Vec<_> = args.iter().map(|argument| argument.as_ptr()).collect();
        // SAFETY: `callback` and `args` outlive the call and keep the pointers alive.
        let handle = unsafe { handle::new(this.as_any(), callback.as_ptr(), &arguments, copy_current(py)?)? };
        handle::set_repeats(&handle);
        // The handle is in place before the signal can come.
        let handlers = signals.handlers.bind(py);
        let former = handlers.get_item(sig)?;
        handlers.set_item(sig, handle)?;
        let installed = install(sig, Bound::new(py, Forwarder { core: core.clone() })?.as_any());
        if installed.is_err() {
            match former {
                Some(former) => handlers.set_item(sig, former)?,
                None => handlers.del_item(sig)?,
            }
        }
        installed.map_err(|error| {
            // Only the main thread may: asyncio says so with a RuntimeError.
            if error.is_instance_of::<PyValueError>(py) {
                PyRuntimeError::new_err(error.value(py).to_string())
            } else {
                error
            }
        })
    }

    /// Remove the signal's handler. Returns whether there was one.
    fn remove_signal_handler(this: &Bound<'_, Self>, sig: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = this.py();
        check_signal(sig)?;
        let handlers = this.get().signals.handlers.bind(py);
        if !handlers.contains(sig)? {
            return Ok(false);
        }
        handlers.del_item(sig)?;
        let default = if sig.eq(libc::SIGINT)? { "default_int_handler" } else { "SIG_DFL" };
        set_handler(sig, &py.import("signal")?.getattr(default)?)?;
        Ok(true)
    }

    /// The handles by signal number, under the name that asyncio's loop has them.
    #[getter]
    fn _signal_handlers(&self, py: Python<'_>) -> Py<PyDict> {
        self.signals.handlers.clone_ref(py)
    }

    /// How many signals have woken this loop.
    #[getter]
    fn _signals_seen(&self) -> u64 {
        self.signals.seen.load(Ordering::Relaxed)
    }
}

/// # Errors
/// TypeError for what is no number, ValueError for what is no signal.
fn check_signal(sig: &Bound<'_, PyAny>) -> PyResult<()> {
    if !sig.is_instance_of::<PyInt>() {
        return Err(PyTypeError::new_err(format!("sig must be an int, not {}", sig.repr()?)));
    }
    if !sig.py().import("signal")?.call_method0("valid_signals")?.contains(sig)? {
        return Err(PyValueError::new_err(format!("invalid signal number {sig}")));
    }
    Ok(())
}

fn install(sig: &Bound<'_, PyAny>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
    set_handler(sig, handler)?;
    // System calls that the signal interrupts go on: the loop hears of it anyway.
    sig.py().import("signal")?.call_method1("siginterrupt", (sig, false)).map(drop)
}

/// `signal.signal`, whose EINVAL means a signal that cannot be caught.
fn set_handler(sig: &Bound<'_, PyAny>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = sig.py();
    py.import("signal")?.call_method1("signal", (sig, handler)).map(drop).map_err(|error| {
        let uncatchable = error.is_instance_of::<PyOSError>(py)
            && error.value(py).getattr("errno").is_ok_and(|errno| errno.eq(libc::EINVAL).unwrap_or(false));
        if uncatchable { PyRuntimeError::new_err(format!("sig {sig} cannot be caught")) } else { error }
    })
}

/// The loop closes: its handlers go, and so does the pipe.
pub fn close(this: &Bound<'_, Loop>) -> PyResult<()> {
    let py = this.py();
    let Loop { core, signals, .. } = this.get();
    let pipe = signals.state.get(core)?.pipe.take();
    drop(pipe);
    let handlers = signals.handlers.bind(py);
    if handlers.is_empty() {
        return Ok(());
    }
    if py.import("sys")?.call_method0("is_finalizing")?.is_truthy()? {
        let message = format!(
            "Closing the loop {} on interpreter shutdown stage, skipping signal handlers removal",
            this.repr()?
        );
        py.import("warnings")?.call_method1("warn", (message, py.get_type::<PyResourceWarning>()))?;
        handlers.clear();
        return Ok(());
    }
    for sig in handlers.keys() {
        Loop::remove_signal_handler(this, &sig)?;
    }
    Ok(())
}
