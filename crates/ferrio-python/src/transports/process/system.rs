//! What the operating system has for children: pidfds, signals, statuses.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ferrio::cause::{Cause, Kind};
use pyo3::prelude::*;

use super::Process;
use crate::core::{Core, Job};

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
pub(super) fn open_pidfd(pid: libc::pid_t) -> Option<OwnedFd> {
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
pub(super) fn open_pidfd(_pid: libc::pid_t) -> Option<OwnedFd> {
    None
}

/// Signals the child. Through its pidfd if there is one: then the number cannot have become another process's.
#[cfg(target_os = "linux")]
pub(super) fn send_signal(pidfd: Option<&OwnedFd>, pid: libc::pid_t, signal: c_int) -> io::Result<()> {
    let Some(pidfd) = pidfd else { return kill(pid, signal) };
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: no information is passed along; the descriptor is open.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn send_signal(_pidfd: Option<&OwnedFd>, pid: libc::pid_t, signal: c_int) -> io::Result<()> {
    kill(pid, signal)
}

fn kill(pid: libc::pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for the child in a thread that leaves its status to be taken by the loop.
pub(super) fn wait_in_thread(core: Arc<Core>, pid: libc::pid_t, transport: Py<PyAny>) -> io::Result<()> {
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
pub(super) fn exit_code(status: c_int) -> c_int {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else if libc::WIFSIGNALED(status) {
        -libc::WTERMSIG(status)
    } else {
        status
    }
}
