//! Leaves: the futures that everything else is made of. They wait for a descriptor or a deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ferrio::{Direction, WaitId, poll::RawFd};
use pyo3::prelude::*;

use crate::core::Core;
use crate::errors::from_io;

/// Resolves when `fd` has news in that direction. Several operations may wait for the same: all are woken, to look for
/// themselves.
pub fn ready(core: &Arc<Core>, fd: RawFd, direction: Direction) -> Readiness {
    Readiness { core: core.clone(), fd, direction, wait: None }
}

/// The future of [`ready`].
pub struct Readiness {
    core: Arc<Core>,
    fd: RawFd,
    direction: Direction,
    wait: Option<WaitId>,
}

impl Readiness {
    /// Ends the wait, and no other of the same descriptor: its number may be somebody else's by now.
    fn leave(&mut self) -> bool {
        let Some(wait) = self.wait.take() else { return false };
        if let Ok(engine) = self.core.engine() {
            engine.leave_wait(self.fd, self.direction, wait);
        }
        true
    }
}

impl Future for Readiness {
    type Output = PyResult<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PyResult<()>> {
        if self.leave() {
            return Poll::Ready(Ok(()));
        }
        self.core.check_closed()?;
        let joined = self.core.engine()?.join_wait(self.fd, self.direction, cx.waker().clone());
        self.wait = Some(joined.map_err(from_io)?);
        Poll::Pending
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Resolves `delay` nanoseconds from now.
pub fn sleep(core: &Arc<Core>, delay: u64) -> Sleep {
    Sleep { core: core.clone(), when: core.now().saturating_add(delay), timer: None }
}

/// The future of [`sleep`].
pub struct Sleep {
    core: Arc<Core>,
    when: u64,
    timer: Option<ferrio::timers::TimerId>,
}

impl Future for Sleep {
    type Output = PyResult<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PyResult<()>> {
        let core = self.core.clone();
        let engine = core.engine()?;
        if let Some(timer) = self.timer.take() {
            drop(engine.cancel_timer(timer));
        }
        if engine.now() >= self.when {
            return Poll::Ready(Ok(()));
        }
        self.timer = Some(engine.timer(self.when, ferrio::event_loop::Due::Wake(cx.waker().clone())));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(timer), Ok(engine)) = (self.timer.take(), self.core.engine()) {
            drop(engine.cancel_timer(timer));
        }
    }
}

/// Has `future` end when the loop is closed, although it waits for what is not the engine's.
pub fn suspended<F>(core: &Arc<Core>, future: F) -> Suspended<F> {
    Suspended { core: core.clone(), future, name: None }
}

/// The future of [`suspended`].
pub struct Suspended<F> {
    core: Arc<Core>,
    future: F,
    name: Option<u64>,
}

impl<F: Future<Output = PyResult<T>> + Unpin, T> Future for Suspended<F> {
    type Output = PyResult<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PyResult<T>> {
        let polled = Pin::new(&mut self.future).poll(cx);
        if polled.is_pending() && self.name.is_none() {
            self.name = Some(self.core.suspend(cx.waker().clone())?);
        }
        polled
    }
}

impl<F> Drop for Suspended<F> {
    fn drop(&mut self) {
        if let Some(name) = self.name {
            self.core.unsuspend(name);
        }
    }
}
