//! Rust futures as tasks of a loop, and how a future finds the loop that polls it.
//!
//! `async-task` keeps the task's state machine; scheduling one means pushing its [`Runnable`] to the ready queue if the
//! waker fires on the loop's own thread, and to the inbox otherwise.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

use async_task::Runnable;

use crate::cause::Cause;
use crate::descriptors::Direction;
use crate::event_loop::{Due, Engine, Remote, Work};
use crate::host::Host;
use crate::poll::RawFd;
use crate::timers::TimerId;

/// What a future may ask of the loop that polls it, whatever language that loop serves.
pub trait Reactor {
    /// The loop's clock, in nanoseconds.
    fn now(&self) -> u64;
    /// Wakes `waker` at `when` (nanoseconds of the loop's clock).
    fn wake_at(&self, when: u64, waker: Waker) -> TimerId;
    /// Cancels a timer of [`wake_at`](Self::wake_at); one that has fired is no error.
    fn forget_timer(&self, id: TimerId);
    /// Wakes `waker` the next time `fd` has news.
    ///
    /// # Errors
    /// The operating system's, if it cannot watch `fd`.
    fn wake_on(&self, fd: RawFd, direction: Direction, waker: Waker) -> io::Result<()>;
    /// Nobody waits for this direction of `fd` any more.
    fn forget(&self, fd: RawFd, direction: Direction);
    /// `fd` is about to be closed.
    fn release(&self, fd: RawFd);
    /// Makes one poll of a task ready.
    fn schedule(&self, runnable: Runnable);
    /// The address of the loop's [`Remote`], which tells two loops apart.
    fn identity(&self) -> *const ();
}

impl<H: Host> Reactor for Engine<H> {
    fn now(&self) -> u64 {
        Engine::now(self)
    }

    fn wake_at(&self, when: u64, waker: Waker) -> TimerId {
        self.timer(when, Due::Wake(waker))
    }

    fn forget_timer(&self, id: TimerId) {
        drop(self.cancel_timer(id));
    }

    fn wake_on(&self, fd: RawFd, direction: Direction, waker: Waker) -> io::Result<()> {
        Engine::wake_on(self, fd, direction, waker)
    }

    fn forget(&self, fd: RawFd, direction: Direction) {
        drop(self.unwatch(fd, direction));
    }

    fn release(&self, fd: RawFd) {
        Engine::release(self, fd);
    }

    fn schedule(&self, runnable: Runnable) {
        self.enqueue(Work::Rust(runnable), self.cause());
    }

    fn identity(&self) -> *const () {
        Arc::as_ptr(self.remote()).cast()
    }
}

thread_local! {
    static CURRENT: Cell<Option<NonNull<dyn Reactor>>> = const { Cell::new(None) };
}

/// Marks a loop as the one that runs on this thread, and puts the former one back when dropped.
pub(crate) struct Current(Option<NonNull<dyn Reactor>>);

impl Current {
    pub fn enter<H: Host>(engine: &Engine<H>) -> Self {
        let reactor: &dyn Reactor = engine;
        Current(CURRENT.replace(Some(NonNull::from(reactor))))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Calls `f` with the loop that runs on this thread, if one does.
pub fn with_current<R>(f: impl FnOnce(&dyn Reactor) -> R) -> Option<R> {
    // SAFETY: the pointer is set only while the engine is borrowed by `Engine::run` further up this thread's stack,
    // and taken back before that borrow ends.
    CURRENT.get().map(|reactor| f(unsafe { reactor.as_ref() }))
}

impl<J: Send + 'static> Remote<J> {
    /// Whether this is the loop that runs on the calling thread.
    pub fn is_current(self: &Arc<Self>) -> bool {
        with_current(|reactor| reactor.identity()) == Some(Arc::as_ptr(self).cast())
    }

    fn schedule(self: &Arc<Self>, runnable: Runnable) {
        if self.is_current() {
            with_current(|reactor| reactor.schedule(runnable));
        } else {
            self.post(Work::Rust(runnable), Cause::THREAD);
        }
    }
}

impl<H: Host> Engine<H> {
    /// Runs `future` as a task of this loop. Dropping the task cancels it; `detach` lets it go on by itself.
    pub fn spawn<F>(&self, future: F) -> async_task::Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let remote = self.remote().clone();
        let (runnable, task) = async_task::spawn(future, move |runnable| remote.schedule(runnable));
        runnable.schedule();
        task
    }

    /// As [`spawn`](Self::spawn), for a future that must stay on this thread.
    ///
    /// # Panics
    /// If the future is polled or dropped on another thread.
    pub fn spawn_local<F>(&self, future: F) -> async_task::Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let remote = self.remote().clone();
        let (runnable, task) = async_task::spawn_local(future, move |runnable| remote.schedule(runnable));
        runnable.schedule();
        task
    }
}
