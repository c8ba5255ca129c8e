//! Wakers: what lets the Task that awaits run on.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Waker};

use ferrio::cause::Cause;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::Awaitable;
use crate::core::{Core, Job};

/// The waker of one poll: it lives on the stack, and only a future that clones it (one that waits) makes an `Arc`.
pub(super) struct BorrowedWaker<'a, 'py>(pub(super) &'a Bound<'py, Awaitable>);

impl BorrowedWaker<'_, '_> {
    pub(super) fn waker(&self) -> Waker {
        const TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, forget);

        /// # Safety
        /// `data` is the borrowed pointer to a living `Bound<Awaitable>`, further up this thread's stack.
        unsafe fn own(data: *const ()) -> Arc<OwnedWaker> {
            // SAFETY: as above; a poll happens on the loop's thread with the interpreter attached.
            let this = unsafe { &*data.cast::<Bound<'_, Awaitable>>() };
            Arc::new(OwnedWaker { core: this.get().core.clone(), awaitable: this.clone().unbind() })
        }
        unsafe fn clone(data: *const ()) -> RawWaker {
            // SAFETY: the table is used with such pointers only.
            OwnedWaker::into_raw(unsafe { own(data) })
        }
        unsafe fn wake(data: *const ()) {
            // SAFETY: as above.
            OwnedWaker::wake(unsafe { own(data) });
        }
        unsafe fn forget(_: *const ()) {}

        // SAFETY: the table keeps the contract: clones own what they point to. A `Waker` may be *shared* with other
        // threads during the poll by a future that borrows it across a scoped thread, which none does that holds
        // the interpreter; such a thread would have to be attached to be sound.
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::from_ref(self.0).cast(), &TABLE)) }
    }
}

/// The waker of an awaitable that waits.
pub struct OwnedWaker {
    core: Arc<Core>,
    awaitable: Py<Awaitable>,
}

impl OwnedWaker {
    /// What the garbage collector must know that a queued waker keeps alive.
    pub fn awaitable(&self) -> &Py<PyAny> {
        self.awaitable.as_any()
    }

    /// Lets the waiting Task run on.
    pub fn resume(&self, py: Python<'_>) -> PyResult<()> {
        Awaitable::resume(self.awaitable.bind(py))
    }

    fn wake(this: Arc<Self>) {
        // Never enters the interpreter: another thread may hold it and wait for this one.
        if this.core.is_closed() {
            // Nobody would look.
        } else if this.core.remote().is_current() {
            this.core.clone().soon(Job::Wake(this));
        } else {
            this.core.clone().remote().soon(Job::Wake(this), Cause::THREAD);
        }
    }

    pub fn clone_awaitable(&self, py: Python<'_>) -> Py<Awaitable> {
        self.awaitable.clone_ref(py)
    }

    /// Whom a waker wakes, if it is one of ours.
    pub fn awaitable_of(waker: &Waker, py: Python<'_>) -> Option<Py<Awaitable>> {
        Self::of(waker).map(|shared| shared.clone_awaitable(py))
    }

    /// For the garbage collector: what a waker keeps alive, if it is one of ours.
    pub fn traverse(waker: &Waker, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        Self::of(waker).map_or(Ok(()), |shared| Self::traverse_shared(&shared, visit))
    }

    /// What is behind a waker that is one of ours.
    fn of(waker: &Waker) -> Option<ManuallyDrop<Arc<Self>>> {
        std::ptr::eq(waker.vtable(), &raw const OWNED_WAKER).then(|| {
            // SAFETY: with this table the pointer is that of an `Arc<OwnedWaker>`, whose reference stays the waker's.
            ManuallyDrop::new(unsafe { Arc::from_raw(waker.data().cast::<Self>()) })
        })
    }

    /// As [`traverse`](Self::traverse). One reference to the awaitable must not be visited twice, so one that several
    /// wakers share is not visited at all: the collector then takes it for one from outside.
    pub fn traverse_shared(this: &Arc<Self>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if Arc::strong_count(this) == 1 { visit.call(&this.awaitable) } else { Ok(()) }
    }

    fn into_raw(this: Arc<Self>) -> RawWaker {
        RawWaker::new(Arc::into_raw(this).cast(), &OWNED_WAKER)
    }
}

/// What `impl Wake` would make; but by the address of this table [`OwnedWaker::traverse`] knows its own.
static OWNED_WAKER: RawWakerVTable = {
    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: the table is used with the pointer of an `Arc<OwnedWaker>` only.
        unsafe { Arc::increment_strong_count(data.cast::<OwnedWaker>()) };
        RawWaker::new(data, &OWNED_WAKER)
    }
    unsafe fn wake(data: *const ()) {
        // SAFETY: as above; the waker's reference is handed over.
        OwnedWaker::wake(unsafe { Arc::from_raw(data.cast()) });
    }
    unsafe fn wake_by_ref(data: *const ()) {
        // SAFETY: as above; the waker keeps its reference.
        OwnedWaker::wake(unsafe { Arc::clone(&ManuallyDrop::new(Arc::from_raw(data.cast()))) });
    }
    unsafe fn forget(data: *const ()) {
        // SAFETY: as above; the waker's reference ends.
        drop(unsafe { Arc::<OwnedWaker>::from_raw(data.cast()) });
    }
    RawWakerVTable::new(clone, wake, wake_by_ref, forget)
};
