//! The child's end. It is a descriptor like any other: a pidfd, watched by the engine, so no thread waits and SIGCHLD
//! stays the user's. Where the system has no pidfds, one thread per child waits, without touching Python.

use std::cell::Cell;
use std::ffi::c_int;
use std::future::poll_fn;
use std::os::fd::AsRawFd;

use ferrio::Direction;
use ferrio::cause::{Cause, Kind};
use pyo3::exceptions::{PyPermissionError, PyProcessLookupError};
use pyo3::intern;
use pyo3::prelude::*;

use super::system::{exit_code, open_pidfd, wait_in_thread};
use super::{Process, State, wake_all};
use crate::awaitable::suspended;
use crate::core::Job;
use crate::errors::from_io;
use crate::ffi::error::aside;
use crate::imports::imports;
use crate::transports::common::{logger, warn_unclosed};

/// What `wait()` reports for a child whose status somebody else has taken.
const UNKNOWN_RETURNCODE: c_int = 255;

impl Process {
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

    pub(super) fn watch_child(this: &Bound<'_, Self>) -> PyResult<()> {
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
    pub(super) fn on_end(object: &Bound<'_, PyAny>) -> PyResult<()> {
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
        core.engine()?.let_clock_go();
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
    pub(super) fn try_finish(this: &Bound<'_, Self>) -> PyResult<()> {
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

    /// Kills a child that nobody has seen end.
    pub(super) fn kill_unless_ended(state: &State, py: Python<'_>) -> PyResult<bool> {
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

impl Drop for Process {
    fn drop(&mut self) {
        let state = self.state.unguarded();
        if let Some(pidfd) = state.pidfd.borrow_mut().take() {
            self.core.release_descriptor(pidfd.as_raw_fd());
        }
        if state.closed.get() {
            return;
        }
        aside(|py| {
            warn_unclosed(py, &Self::describe(state, py));
            if let Err(error) = Self::kill_unless_ended(state, py) {
                error.write_unraisable(py, None);
            }
        });
    }
}
