//! `subprocess_exec` and `subprocess_shell`.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::Loop;
use crate::awaitable::{awaitable_with_cleanup, python, suspended};
use crate::core::Core;
use crate::ffi::error::aside;
use crate::imports::imports;
use crate::transports::process::Process;

#[pymethods]
impl Loop {
    /// Start a program with arguments. Keywords are those of subprocess.Popen; stdin, stdout and stderr are pipes
    /// unless said otherwise. Returns (transport, protocol).
    #[pyo3(signature = (protocol_factory, program, *args, **kwargs))]
    fn subprocess_exec<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        program: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let command = PyTuple::new(this.py(), [program])?.add(args)?;
        start(this, "Loop.subprocess_exec", protocol_factory, command, kwargs, false)
    }

    /// Start a shell command. Keywords are those of subprocess.Popen; stdin, stdout and stderr are pipes unless said
    /// otherwise. Returns (transport, protocol).
    #[pyo3(signature = (protocol_factory, cmd, **kwargs))]
    fn subprocess_shell<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: Py<PyAny>,
        cmd: Bound<'py, PyAny>,
        kwargs: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        start(this, "Loop.subprocess_shell", protocol_factory, cmd, kwargs, true)
    }
}

/// The child, once there is one, for whoever cleans up.
type Child = Arc<Mutex<Option<Py<Process>>>>;

fn start<'py>(
    this: &Bound<'py, Loop>,
    name: &'static str,
    protocol_factory: Py<PyAny>,
    command: Bound<'py, PyAny>,
    kwargs: Option<Bound<'py, PyDict>>,
    shell: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let core = this.get().core.clone();
    let the_loop = this.clone().into_any().unbind();
    let kwargs = match kwargs {
        Some(kwargs) => kwargs.copy()?,
        None => PyDict::new(this.py()),
    };
    let (command, kwargs) = (command.unbind(), kwargs.unbind());
    let child = Child::default();
    let started = child.clone();
    let operation = async move {
        let guard = KillUnlessKept(started);
        let (protocol, transport) = Python::attach(|py| {
            let (protocol, transport) =
                spawn(the_loop.bind(py), &core, protocol_factory.bind(py), command.bind(py), kwargs.bind(py), shell)?;
            guard.0.lock().unwrap_or_else(PoisonError::into_inner).replace(transport.clone_ref(py));
            Ok::<_, PyErr>((protocol, transport))
        })?;
        if let Err(error) = connect(&core, &transport).await {
            Python::attach(|py| Process::abandon(transport.bind(py)))?;
            drop(Process::ended(transport).await);
            return Err(error);
        }
        Python::attach(|py| {
            guard.keep();
            if core.debug() {
                let helpers = imports(py)?.helpers.bind(py);
                helpers.getattr(intern!(py, "logger"))?.call_method1("info", ("process started: %r", &transport))?;
            }
            Ok((transport, protocol).into_pyobject(py)?.into_any().unbind())
        })
    };
    // A start that is cancelled ends when the child, which was killed, is gone.
    let cleanup = async move {
        let transport = child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(transport) = transport {
            drop(Process::ended(transport).await);
        }
    };
    awaitable_with_cleanup(this.as_any(), &this.get().core, name, operation, cleanup)
}

/// Connects the child's pipes and waits until its protocol knows of it.
async fn connect(core: &Arc<Core>, child: &Py<Process>) -> PyResult<()> {
    for fd in 0..3 {
        if let Some(connecting) = Python::attach(|py| Process::connect_pipe(child.bind(py), fd))? {
            let connected = python(core, connecting).await?;
            Python::attach(|py| child.get().set_pipe(fd, connected.bind(py).get_item(0)?.unbind()))?;
        }
    }
    Python::attach(|py| Process::announce(child.bind(py)));
    suspended(core, poll_fn(|cx| child.get().poll_made(cx.waker()))).await
}

/// Kills the child if starting it is cancelled.
struct KillUnlessKept(Child);

impl KillUnlessKept {
    fn keep(&self) -> Option<Py<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for KillUnlessKept {
    fn drop(&mut self) {
        aside(|py| {
            // It stays there, for the cleanup that follows a cancellation.
            let child = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|child| child.clone_ref(py));
            if let Some(child) = child
                && let Err(error) = Process::abandon(child.bind(py))
            {
                error.write_unraisable(py, Some(child.bind(py).as_any()));
            }
        });
    }
}

/// Makes the protocol, the child and its transport.
fn spawn<'py>(
    the_loop: &Bound<'py, PyAny>,
    core: &Arc<Core>,
    protocol_factory: &Bound<'py, PyAny>,
    command: &Bound<'py, PyAny>,
    kwargs: &Bound<'py, PyDict>,
    shell: bool,
) -> PyResult<(Py<PyAny>, Py<Process>)> {
    let py = the_loop.py();
    core.check_closed()?;
    check_keywords(command, kwargs, shell)?;
    let protocol = protocol_factory.call0()?;
    let subprocess = py.import(intern!(py, "subprocess"))?;
    let pipe = subprocess.getattr(intern!(py, "PIPE"))?;
    for stream in ["stdin", "stdout", "stderr"] {
        if !kwargs.contains(stream)? {
            kwargs.set_item(stream, &pipe)?;
        }
    }
    kwargs.set_item(intern!(py, "shell"), shell)?;
    kwargs.set_item(intern!(py, "bufsize"), 0)?;
    if core.debug() {
        imports(py)?.helpers.bind(py).call_method1("log_subprocess", (command, shell, kwargs))?;
    }
    let popen = subprocess.getattr(intern!(py, "Popen"))?.call((command,), Some(kwargs))?;
    let transport = Process::start(the_loop, core, &popen, protocol.clone())?;
    Ok((protocol.unbind(), transport.unbind()))
}

/// Takes out of `kwargs` what makes no sense for a transport of bytes.
///
/// # Errors
/// ValueError, as asyncio says it.
fn check_keywords(command: &Bound<'_, PyAny>, kwargs: &Bound<'_, PyDict>, shell: bool) -> PyResult<()> {
    let take = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        let value = kwargs.get_item(name)?;
        if value.is_some() {
            kwargs.del_item(name)?;
        }
        Ok(value)
    };
    let is_set = |value: Option<Bound<'_, PyAny>>| value.map_or(Ok(false), |value| value.is_truthy());
    let require = |holds: bool, message: &'static str| if holds { Ok(()) } else { Err(PyValueError::new_err(message)) };
    if shell {
        let is_command = command.is_instance_of::<PyString>() || command.is_instance_of::<PyBytes>();
        require(is_command, "cmd must be a string")?;
    }
    require(!is_set(take("universal_newlines")?)?, "universal_newlines must be False")?;
    let wants_shell = take("shell")?.map_or(Ok(shell), |value| value.is_truthy())?;
    require(wants_shell == shell, if shell { "shell must be True" } else { "shell must be False" })?;
    require(take("bufsize")?.map_or(Ok(true), |value| value.eq(0))?, "bufsize must be 0")?;
    require(!is_set(take("text")?)?, "text must be False")?;
    require(take("encoding")?.is_none_or(|value| value.is_none()), "encoding must be None")?;
    require(take("errors")?.is_none_or(|value| value.is_none()), "errors must be None")
}
