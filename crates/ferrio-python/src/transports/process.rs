//! The transport of a child process: [`Process`].
//!
//! `subprocess.Popen` makes the child, with real pipes (which it can open again as `/dev/stdin`). Its end is a
//! descriptor like any other: a pidfd, watched by the engine, so no thread waits and SIGCHLD stays the user's. Where
//! the system has no pidfds, one thread per child waits, without touching Python.
//!
//! The child's pipes are transports of their own ([`super::pipe`]), whose protocol is [`PipeProtocol`]: it passes on
//! what it hears. `connection_lost` comes last, when the child has ended and all its pipes are closed.
//!
//! What each method promises is CPython's `base_subprocess.BaseSubprocessTransport`.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread;

use ferrio::Direction;
use ferrio::cause::{Cause, Kind};
use pyo3::exceptions::{PyPermissionError, PyProcessLookupError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::pipe::{ReadPipe, WritePipe, log, logger};
use super::stream::warn_unclosed;
use crate::awaitable::{awaitable, suspended};
use crate::core::{Confined, Core, Job};
use crate::errors::from_io;
use crate::event_loop::Loop;
use crate::ffi::context::{copy_current, run_in};
use crate::imports::imports;

/// What `wait()` reports for a child whose status somebody else has taken.
const UNKNOWN_RETURNCODE: c_int = 255;

/// The child's standard streams by descriptor, as they are called in a repr and as attributes of `Popen`.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// A child process.
#[pyclass(frozen, weakref, dict, name = "SubprocessTransport", module = "ferrio")]
pub struct Process {
    core: Arc<Core>,
    the_loop: Py<PyAny>,
    state: Confined<State>,
}

struct State {
    pid: libc::pid_t,
    /// The child itself; gone after `connection_lost`.
    popen: RefCell<Option<Py<PyAny>>>,
    protocol: RefCell<Option<Py<PyAny>>>,
    /// Every callback of this child runs in it.
    context: Py<PyAny>,
    extra: Py<PyDict>,
    /// The transports of the child's descriptors 0, 1 and 2, where they are pipes.
    pipes: [RefCell<Option<Py<PyAny>>>; 3],
    /// Which of them are not closed yet.
    open: [Cell<bool>; 3],
    /// Readable when the child has ended; gone then.
    pidfd: RefCell<Option<OwnedFd>>,
    returncode: Cell<Option<c_int>>,
    /// `process_exited` has run.
    exit_told: Cell<bool>,
    /// `connection_made` has run.
    made: Cell<bool>,
    /// What the protocol is to hear after it: methods and arguments.
    pending: RefCell<Vec<(Py<PyString>, Py<PyTuple>)>>,
    /// `wait()` returns: at the child's end, or, in older CPythons, only when its pipes are closed as well.
    wait_over: Cell<bool>,
    /// Wait for one of the two.
    waiters: RefCell<Vec<Waker>>,
    closed: Cell<bool>,
    /// `connection_lost` is scheduled, or has run.
    finished: Cell<bool>,
}

impl Process {
    /// Takes charge of a child that has just been made: next come its pipes, then [`announce`](Self::announce).
    ///
    /// # Errors
    /// If the child cannot be watched; it is killed then.
    pub fn start<'py>(
        the_loop: &Bound<'py, PyAny>,
        core: &Arc<Core>,
        popen: &Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = the_loop.py();
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "subprocess"), popen)?;
        let state = State {
            pid: popen.getattr(intern!(py, "pid"))?.extract()?,
            popen: RefCell::new(Some(popen.clone().unbind())),
            protocol: RefCell::new(Some(protocol.unbind())),
            context: copy_current(py)?.unbind(),
            extra: extra.unbind(),
            pipes: Default::default(),
            open: Default::default(),
            pidfd: RefCell::default(),
            returncode: Cell::new(None),
            exit_told: Cell::new(false),
            made: Cell::new(false),
            pending: RefCell::default(),
            wait_over: Cell::new(false),
            waiters: RefCell::default(),
            closed: Cell::new(false),
            finished: Cell::new(false),
        };
        let transport =
            Process { core: core.clone(), the_loop: the_loop.clone().unbind(), state: Confined::new(state) };
        let this = Bound::new(py, transport)?;
        if let Err(error) = Self::watch_child(&this) {
            Self::close(&this)?;
            return Err(error);
        }
        Ok(this)
    }

    fn state(&self) -> PyResult<&State> {
        self.state.get(&self.core)
    }

    /// Makes the transport of one of the child's descriptors, if that is a pipe. If the program has replaced
    /// `loop.connect_read_pipe` or `connect_write_pipe`, its method is asked: what it returns is to be awaited and
    /// given to [`set_pipe`](Self::set_pipe).
    pub fn connect_pipe(this: &Bound<'_, Self>, fd: usize) -> PyResult<Option<Py<PyAny>>> {
        let py = this.py();
        let Process { core, the_loop, .. } = this.get();
        let (state, the_loop) = (this.get().state()?, the_loop.bind(py));
        let popen = state.popen.borrow().as_ref().map(|popen| popen.bind(py).clone());
        let Some(file) = popen.map(|popen| popen.getattr(STREAMS[fd])).transpose()?.filter(|file| !file.is_none())
        else {
            return Ok(None);
        };
        state.open[fd].set(true);
        let protocol = Bound::new(py, PipeProtocol { process: this.clone().unbind(), fd })?.into_any();
        let method = if fd == 0 { "connect_write_pipe" } else { "connect_read_pipe" };
        if is_replaced(the_loop, method)? {
            return Ok(Some(the_loop.call_method1(method, (protocol, file))?.unbind()));
        }
        let pipe = if fd == 0 {
            WritePipe::start(the_loop, core, &file, protocol)?.into_any()
        } else {
            ReadPipe::start(the_loop, core, &file, protocol)?.into_any()
        };
        this.get().set_pipe(fd, pipe.unbind())?;
        Ok(None)
    }

    /// `pipe` is the transport of one of the child's descriptors.
    pub fn set_pipe(&self, fd: usize, pipe: Py<PyAny>) -> PyResult<()> {
        let state = self.state()?;
        let former = state.pipes[fd].replace(Some(pipe));
        drop(former);
        Ok(())
    }

    /// The pipes are there: schedules `connection_made`.
    pub fn announce(this: &Bound<'_, Self>) {
        this.get().core.call_soon(this, Self::begin);
    }

    /// The start has failed: kills the child and closes what leads to it.
    pub fn abandon(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let state = this.get().state()?;
        Self::close(this)?;
        let popen = state.popen.borrow().as_ref().map(|popen| popen.bind(py).clone());
        for (stream, pipe) in STREAMS.iter().zip(&state.pipes) {
            if let Some(popen) = &popen
                && pipe.borrow().is_none()
            {
                let file = popen.getattr(*stream)?;
                if !file.is_none() {
                    file.call_method0(intern!(py, "close"))?;
                }
            }
        }
        Ok(())
    }

    /// The first step, after those of the pipes.
    fn begin(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let transport = object.cast::<Self>()?.get();
        let state = transport.state()?;
        state.made.set(true);
        let told = transport.tell(object, intern!(object.py(), "connection_made"), (object,));
        let pending = state.pending.take();
        let rest = pending.into_iter().try_for_each(|(name, arguments)| {
            transport.tell(object, name.bind(object.py()), arguments.into_bound(object.py()))
        });
        wake_all(state);
        Self::try_finish(object.cast()?)?;
        told.and(rest)
    }

    /// Ready when `connection_made` has run.
    pub fn poll_made(&self, waker: &Waker) -> Poll<PyResult<()>> {
        self.poll_until(waker, |state| state.made.get().then_some(()))
    }

    /// Waits for the end of the child as `wait()` does; returns the return code.
    pub async fn ended(this: Py<Self>) -> PyResult<c_int> {
        if let Some(known) = this.get().state()?.returncode.get() {
            return Ok(known);
        }
        let over = poll_fn(|cx| {
            this.get().poll_until(cx.waker(), |state| state.returncode.get().filter(|_| state.wait_over.get()))
        });
        suspended(&this.get().core, over).await
    }

    fn poll_until<T>(&self, waker: &Waker, look: impl FnOnce(&State) -> Option<T>) -> Poll<PyResult<T>> {
        let state = match self.state() {
            Ok(state) => state,
            Err(error) => return Poll::Ready(Err(error)),
        };
        match look(state) {
            Some(found) => Poll::Ready(Ok(found)),
            None => {
                state.waiters.borrow_mut().push(waker.clone());
                Poll::Pending
            }
        }
    }

    // --- the child's end -------------------------------------------------------------------------------------------

    fn watch_child(this: &Bound<'_, Self>) -> PyResult<()> {
        let core = &this.get().core;
        let state = this.get().state()?;
        let Some(pidfd) = open_pidfd(state.pid) else {
            return wait_in_thread(core.clone(), state.pid, this.clone().into_any().unbind()).map_err(from_io);
        };
        let job = Job::Call(this.clone().into_any().unbind(), Self::on_end);
        drop(core.engine()?.watch(pidfd.as_raw_fd(), Direction::Read, job).map_err(from_io)?);
        *state.pidfd.borrow_mut() = Some(pidfd);
        Ok(())
    }

    /// The child has ended: its status is taken, and the protocol hears of it in the next turn.
    fn on_end(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (object.cast::<Self>()?, object.py());
        let core = &this.get().core;
        let state = this.get().state()?;
        if state.returncode.get().is_some() {
            return Ok(());
        }
        let Some(returncode) = this.get().reap(py)? else { return Ok(()) };
        let pidfd = state.pidfd.borrow_mut().take();
        if let Some(pidfd) = &pidfd {
            core.release_descriptor(pidfd.as_raw_fd());
        }
        if core.debug() {
            logger(py)?.call_method1("info", ("%r exited with return code %r", object, returncode))?;
        }
        state.returncode.set(Some(returncode));
        let job = Job::Call(object.clone().unbind(), Self::tell_exit);
        core.soon_because(job, Cause::new(Kind::Child, state.pid as u64));
        // Nobody will tell a protocol that never heard of its child.
        if imports(py)?.wait_is_for_the_child_alone || !state.made.get() {
            state.wait_over.set(true);
            wake_all(state);
        }
        Ok(())
    }

    /// Takes the child's status; `None` if it has not ended.
    fn reap(&self, py: Python<'_>) -> PyResult<Option<c_int>> {
        let state = self.state()?;
        let popen = state.popen.borrow().as_ref().map(|popen| popen.bind(py).clone());
        let Some(popen) = popen else { return Ok(Some(UNKNOWN_RETURNCODE)) };
        let name = intern!(py, "returncode");
        // Somebody may have asked the Popen object, which has taken the status then.
        if let Some(known) = popen.getattr(name)?.extract()? {
            return Ok(Some(known));
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let returncode = match unsafe { libc::waitpid(state.pid, &mut status, libc::WNOHANG) } {
            0 => return Ok(None),
            pid if pid == state.pid => exit_code(status),
            _ => {
                let text = "Unknown child process pid %d, will report returncode 255";
                logger(py)?.call_method1("warning", (text, state.pid))?;
                UNKNOWN_RETURNCODE
            }
        };
        popen.setattr(name, returncode)?;
        Ok(Some(returncode))
    }

    fn tell_exit(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = object.cast::<Self>()?;
        let told = this.get().tell(object, intern!(object.py(), "process_exited"), ());
        this.get().state()?.exit_told.set(true);
        Self::try_finish(this)?;
        told
    }

    /// Schedules `connection_lost` if nothing is left (and everything was there once).
    fn try_finish(this: &Bound<'_, Self>) -> PyResult<()> {
        let state = this.get().state()?;
        let over = state.made.get() && state.exit_told.get() && !state.open.iter().any(Cell::get);
        if over && !state.finished.replace(true) {
            this.get().core.call_soon(this, Self::finish);
        }
        Ok(())
    }

    /// The last step.
    fn finish(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let transport = object.cast::<Self>()?.get();
        let state = transport.state()?;
        let told = transport.tell(object, intern!(object.py(), "connection_lost"), (object.py().None(),));
        state.wait_over.set(true);
        wake_all(state);
        let (popen, protocol) = (state.popen.borrow_mut().take(), state.protocol.borrow_mut().take());
        drop((popen, protocol));
        told
    }

    // --- the protocol ----------------------------------------------------------------------------------------------

    fn protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let protocol = self.state()?.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone());
        Ok(protocol.unwrap_or_else(|| py.None().into_bound(py)))
    }

    /// Calls a method of the protocol in the child's context, after `connection_made`. What it raises is reported and
    /// changes nothing.
    fn tell<'py, A>(&self, this: &Bound<'py, PyAny>, name: &Bound<'py, PyString>, arguments: A) -> PyResult<()>
    where
        A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
    {
        let py = this.py();
        let state = self.state()?;
        let arguments = arguments.into_pyobject(py).map_err(Into::into)?;
        if !state.made.get() {
            state.pending.borrow_mut().push((name.clone().unbind(), arguments.unbind()));
            return Ok(());
        }
        let protocol = self.protocol(py)?;
        let called = run_in(py, state.context.bind(py), || protocol.call_method1(name, arguments));
        called.map(drop).or_else(|error| {
            self.core.report(py, error, &format!("Exception in protocol.{name}()"), |context| {
                context.set_item(intern!(py, "transport"), this)?;
                context.set_item(intern!(py, "protocol"), protocol)
            })
        })
    }

    fn describe(state: &State, py: Python<'_>) -> String {
        let mut words = vec!["SubprocessTransport".to_owned()];
        if state.closed.get() {
            words.push("closed".into());
        }
        words.push(format!("pid={}", state.pid));
        words.push(state.returncode.get().map_or("running".to_owned(), |code| format!("returncode={code}")));
        for (stream, pipe) in STREAMS.iter().zip(&state.pipes) {
            let pipe = pipe.borrow().as_ref().map(|pipe| pipe.bind(py).clone());
            if let Some(pipe) = pipe {
                words.push(format!("{stream}={pipe:?}"));
            }
        }
        format!("<{}>", words.join(" "))
    }

    /// Kills a child that nobody has seen end.
    fn kill_unless_ended(state: &State, py: Python<'_>) -> PyResult<bool> {
        let popen = state.popen.borrow().as_ref().map(|popen| popen.bind(py).clone());
        let Some(popen) = popen.filter(|_| state.returncode.get().is_none()) else { return Ok(false) };
        if !popen.call_method0(intern!(py, "poll"))?.is_none() {
            return Ok(false);
        }
        match popen.call_method0(intern!(py, "kill")) {
            // It may have ended just now, or run as another user.
            Err(error)
                if error.is_instance_of::<PyProcessLookupError>(py)
                    || error.is_instance_of::<PyPermissionError>(py) =>
            {
                Ok(true)
            }
            result => result.map(|_| true),
        }
    }
}

#[pymethods]
impl Process {
    /// What `isinstance` asks for: asyncio.SubprocessTransport has a slot, so a native class cannot inherit from it.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(imports(py)?.subprocess_transport.bind(py).clone())
    }

    fn get_pid(&self) -> PyResult<libc::pid_t> {
        Ok(self.state()?.pid)
    }

    /// The return code, negative for a signal; None while the child runs.
    fn get_returncode(&self) -> PyResult<Option<c_int>> {
        Ok(self.state()?.returncode.get())
    }

    /// The transport of the child's descriptor fd (0, 1 or 2); None if that is no pipe.
    fn get_pipe_transport(&self, py: Python<'_>, fd: Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let pipes = &self.state()?.pipes;
        let pipe = fd.extract::<usize>().ok().and_then(|fd| pipes.get(fd));
        Ok(pipe.and_then(|pipe| pipe.borrow().as_ref().map(|pipe| pipe.clone_ref(py))))
    }

    /// Send a signal to the child; one that has ended is no error.
    fn send_signal(&self, signal: c_int) -> PyResult<()> {
        let state = self.state()?;
        if state.popen.borrow().is_none() {
            return Err(PyProcessLookupError::new_err(()));
        }
        if state.returncode.get().is_some() {
            return Ok(());
        }
        match send_signal(state.pidfd.borrow().as_ref(), state.pid, signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(from_io(error)),
            _ => Ok(()),
        }
    }

    /// Ask the child to end (SIGTERM).
    fn terminate(&self) -> PyResult<()> {
        self.send_signal(libc::SIGTERM)
    }

    /// End the child (SIGKILL).
    fn kill(&self) -> PyResult<()> {
        self.send_signal(libc::SIGKILL)
    }

    /// Close the pipes and kill the child if it still runs; connection_lost(None) comes later.
    pub fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let core = &this.get().core;
        let state = this.get().state()?;
        if state.closed.replace(true) {
            return Ok(());
        }
        // With the loop closed, nobody could run what a pipe schedules.
        if !core.is_closed() {
            for pipe in &state.pipes {
                let pipe = pipe.borrow().as_ref().map(|pipe| pipe.clone_ref(py));
                if let Some(pipe) = pipe {
                    pipe.call_method0(py, intern!(py, "close"))?;
                }
            }
        }
        if Self::kill_unless_ended(state, py)? {
            log(core, py, "warning", "Close running child process: kill %r", this.as_any())?;
        }
        Ok(())
    }

    fn is_closing(&self) -> PyResult<bool> {
        Ok(self.state()?.closed.get())
    }

    fn set_protocol(&self, protocol: Py<PyAny>) -> PyResult<()> {
        let former = self.state()?.protocol.replace(Some(protocol));
        drop(former);
        Ok(())
    }

    fn get_protocol<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.protocol(py)
    }

    /// "subprocess" is the Popen object.
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.state()?.extra.bind(name.py()).get_item(name)?.or(default))
    }

    /// What `asyncio.subprocess.Process.wait()` awaits: the return code.
    fn _wait<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let transport = this.clone().unbind();
        let Process { core, the_loop, .. } = this.get();
        awaitable(the_loop.bind(this.py()), core, "SubprocessTransport._wait", async move {
            let returncode = Self::ended(transport).await?;
            Python::attach(|py| Ok(returncode.into_pyobject(py)?.into_any().unbind()))
        })
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.the_loop.clone_ref(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(Self::describe(self.state()?, py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        let state = self.state.unguarded();
        visit.call(&state.context)?;
        visit.call(&state.extra)?;
        for cell in [&state.popen, &state.protocol].into_iter().chain(&state.pipes) {
            if let Ok(content) = cell.try_borrow()
                && let Some(content) = &*content
            {
                visit.call(content)?;
            }
        }
        if let Ok(pending) = state.pending.try_borrow() {
            pending.iter().try_for_each(|(_, arguments)| visit.call(arguments))?;
        }
        Ok(())
    }

    /// The child stays: it still has to be killed.
    fn __clear__(&self) {
        let state = self.state.unguarded();
        let protocol = state.protocol.borrow_mut().take();
        let pipes = state.pipes.each_ref().map(RefCell::take);
        let pending = state.pending.take();
        drop((protocol, pipes, pending));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        if let Some(pidfd) = state.pidfd.borrow_mut().take() {
            self.core.release_descriptor(pidfd.as_raw_fd());
        }
        if state.closed.get() {
            return;
        }
        Python::try_attach(|py| {
            warn_unclosed(py, &Self::describe(state, py));
            if let Err(error) = Self::kill_unless_ended(state, py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// Whether the loop's method of this name is not ours: a subclass has its own, or the loop itself.
fn is_replaced(the_loop: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    let py = the_loop.py();
    let ours = py.get_type::<Loop>().getattr(name)?;
    let in_class = the_loop.get_type().getattr(name)?;
    Ok(!in_class.is(&ours) || the_loop.getattr(intern!(py, "__dict__"))?.contains(name)?)
}

/// Whoever waits looks for himself.
fn wake_all(state: &State) {
    let waiters = state.waiters.take();
    waiters.into_iter().for_each(Waker::wake);
}

/// The protocol of one of the child's pipes: passes everything on to the child's own.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct PipeProtocol {
    process: Py<Process>,
    fd: usize,
}

impl PipeProtocol {
    /// Flow control is a part of somebody's write: in the writer's context, and what it raises is his.
    fn tell_writer(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<()> {
        self.process.get().protocol(py)?.call_method0(name).map(drop)
    }
}

#[pymethods]
impl PipeProtocol {
    /// It is its own factory.
    fn __call__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn connection_made(&self, _transport: Bound<'_, PyAny>) {}

    fn data_received(&self, data: Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        self.process.get().tell(self.process.bind(py).as_any(), intern!(py, "pipe_data_received"), (self.fd, data))
    }

    fn eof_received(&self) {}

    fn connection_lost(&self, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = exc.py();
        let this = self.process.bind(py);
        let state = this.get().state()?;
        let told = this.get().tell(this.as_any(), intern!(py, "pipe_connection_lost"), (self.fd, exc));
        state.open[self.fd].set(false);
        Process::try_finish(this)?;
        told
    }

    fn pause_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.tell_writer(py, intern!(py, "pause_writing"))
    }

    fn resume_writing(&self, py: Python<'_>) -> PyResult<()> {
        self.tell_writer(py, intern!(py, "resume_writing"))
    }

    fn __repr__(&self) -> String {
        format!("<PipeProtocol fd={}>", self.fd)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.process)
    }
}

// --- the operating system ------------------------------------------------------------------------------------------

/// Whether pidfds are to be had; the tests turn them off to reach the other way.
static PIDFDS: AtomicBool = AtomicBool::new(cfg!(target_os = "linux"));

/// For the tests: watch children by threads even where the system has pidfds.
#[pyfunction]
pub fn _use_pidfds_for_tests(on: bool) {
    PIDFDS.store(on && cfg!(target_os = "linux"), Ordering::Relaxed);
}

/// A descriptor that is readable when the child has ended. `None` if the system has none to give: too old (before
/// Linux 5.3), forbidden by a sandbox, or no descriptors left.
#[cfg(target_os = "linux")]
fn open_pidfd(pid: libc::pid_t) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;

    if !PIDFDS.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: no pointers; called by number because older C libraries lack the function.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    // SAFETY: not negative, so a descriptor that nobody else owns yet.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

#[cfg(not(target_os = "linux"))]
fn open_pidfd(_pid: libc::pid_t) -> Option<OwnedFd> {
    None
}

/// Signals the child. Through its pidfd if there is one: then the number cannot have become another process's.
#[cfg(target_os = "linux")]
fn send_signal(pidfd: Option<&OwnedFd>, pid: libc::pid_t, signal: c_int) -> io::Result<()> {
    let Some(pidfd) = pidfd else { return kill(pid, signal) };
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: no information is passed along; the descriptor is open.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn send_signal(_pidfd: Option<&OwnedFd>, pid: libc::pid_t, signal: c_int) -> io::Result<()> {
    kill(pid, signal)
}

fn kill(pid: libc::pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for the child in a thread that leaves its status to be taken by the loop.
fn wait_in_thread(core: Arc<Core>, pid: libc::pid_t, transport: Py<PyAny>) -> io::Result<()> {
    let wait = move || {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        // SAFETY: the kernel fills `info`, which nobody reads.
        while unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) }
            < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        core.remote().soon(Job::Call(transport, Process::on_end), Cause::new(Kind::Child, pid as u64));
    };
    thread::Builder::new().name(format!("waitpid-{pid}")).spawn(wait).map(drop)
}

/// The return code as `subprocess` gives it: negative for a signal.
fn exit_code(status: c_int) -> c_int {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        status
    }
}
