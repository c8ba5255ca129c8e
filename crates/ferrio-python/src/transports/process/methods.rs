//! What Python calls: asyncio's methods of a child's transport.

use std::cell::RefCell;
use std::ffi::c_int;

use pyo3::exceptions::PyProcessLookupError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::Process;
use super::system::send_signal;
use crate::awaitable::awaitable;
use crate::errors::from_io;
use crate::imports::imports;
use crate::transports::common::log;

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
