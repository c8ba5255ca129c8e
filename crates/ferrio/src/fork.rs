//! Noticing that this process is the child of a `fork`.
//!
//! A forked child inherits its parent's loops as they were at that moment, and with them descriptors of the parent's
//! poller, which is the same object in the kernel: what the child told it, the parent would feel. So a loop opens a
//! poller of its own as soon as it is used in the child ([`Engine::after_fork`](crate::event_loop::Engine::after_fork)),
//! with the watchers that it had; nothing that a child does with an inherited loop, not even dropping it, reaches the
//! parent's. (Ready entries, timers and watched descriptors exist twice from then on. Who forks within a running loop
//! had better make a new one in the child, or leave with `_exit`.)
//!
//! To notice costs one relaxed load: a handler that `pthread_atfork` calls in every child counts the forks between the
//! first process and this one. It does nothing else, and touches no lock and no language, so it can do no harm in a
//! child that has lost all its other threads.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Begins to count. Must come before the first fork that matters; later calls do nothing.
pub(crate) fn watch_forks() {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(register);
}

#[cfg(unix)]
fn register() {
    unsafe extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler is a function without preconditions that does no more than a forked child may. Registering
    // fails only for want of memory; forks go unnoticed then.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

#[cfg(not(unix))]
fn register() {}

/// How many forks lie between the process that made the first loop and this one.
#[inline]
pub fn count() -> u32 {
    FORKS.load(Ordering::Relaxed)
}
