//! The transport of a child process: [`Process`].
//!
//! `subprocess.Popen` makes the child, with real pipes (which it can open again as `/dev/stdin`). The child's pipes are
//! transports of their own ([`super::pipe`]), whose protocol is [`PipeProtocol`]. `connection_lost` comes last, when the
//! child has ended and all its pipes are closed.
//!
//! What each method promises is CPython's `base_subprocess.BaseSubprocessTransport`.

mod ending;
mod methods;
mod pipe_protocol;
mod system;

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Poll, Waker};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::core::{Confined, Core};
use crate::event_loop::Loop;
use crate::ffi::context::{copy_current, run_in};
use crate::ffi::whole;
use crate::transports::pipe::{ReadPipe, WritePipe};

use pipe_protocol::PipeProtocol;
pub use system::_use_pidfds_for_tests;

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
        let this = whole::new(py, transport)?;
        if let Err(error) = Self::watch_child(&this) {
            Self::abandon(&this)?;
            return Err(error);
        }
        // Until it has ended.
        core.engine()?.hold_clock();
        Ok(this)
    }

    fn state(&self) -> PyResult<&State> {
        self.state.get_in_turn(&self.core)
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
}

/// Whether the loop's method of this name is not ours: a subclass has its own, or the loop itself.
fn is_replaced(the_loop: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    let py = the_loop.py();
    let ours = py.get_type::<Loop>().getattr(name)?;
    let in_class = the_loop.get_type().getattr(name)?;
    // `EventLoop` has it as a coroutine function, which knows what it wraps.
    let is_ours = in_class.getattr_opt(intern!(py, "__wrapped__"))?.is_some_and(|wrapped| wrapped.is(&ours));
    Ok(!is_ours || the_loop.getattr(intern!(py, "__dict__"))?.contains(name)?)
}

/// Whoever waits looks for himself.
fn wake_all(state: &State) {
    let waiters = state.waiters.take();
    waiters.into_iter().for_each(Waker::wake);
}
