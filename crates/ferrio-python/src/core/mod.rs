//! What every native object of one loop shares: the engine, and the rule that its thread alone may touch it.
//!
//! [`Core`] is the loop without its Python object. Transports, handles and awaitables hold it in an `Arc`, so that they
//! neither keep the Python loop alive nor form cycles that the garbage collector cannot see: the jobs that wait in the
//! engine are reported by the `Loop` object, which owns them as far as Python is concerned. Beside it: what they are
//! ([`Job`]), the state that is confined to the loop's thread ([`Confined`]), and futures.

mod confined;
mod futures;
mod job;

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::task::Waker;

use ferrio::cause::Cause;
use ferrio::clock::Clock;
use ferrio::event_loop::{Engine, Remote};
use ferrio::poll::RawFd;
use ferrio::ready::Order;
use ferrio::recorder::reading::LoopView;
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub use self::confined::Confined;
pub use self::futures::{done_future, future_of, new_future};
pub use self::job::{Call, Job};
use crate::awaitable::OwnedWaker;
use crate::observing;
use crate::owners::Owners;
use crate::running::settle;

/// The engine's view of Python, and the state that only native code needs.
pub struct PyHost {
    /// The Python loop, borrowed: it owns this. Null before it is made and after it is gone.
    loop_object: AtomicPtr<pyo3::ffi::PyObject>,
    /// Debug mode; read from any thread.
    pub debug: AtomicBool,
    /// Native objects with something to do before the loop sleeps (transports with gathered writes).
    pub unsettled: RefCell<Vec<(Py<PyAny>, Call)>>,
    /// Where sockets are read into before the bytes get an object of their own size.
    scratch: RefCell<Vec<u8>>,
    /// The wakers of awaitables that wait for what is not the engine's (a Python future, say), so that closing the loop
    /// finds them.
    suspended: RefCell<BTreeMap<u64, Waker>>,
    /// Who watches everything that happens here, at [`Level::Deep`](ferrio::recorder::Level::Deep).
    pub observer: observing::Observer,
    /// One everlasting finished future: what awaitables hand to `Task.__wakeup`.
    pub done: RefCell<Option<Py<PyAny>>>,
}

impl PyHost {
    pub fn loop_object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let object = self.loop_object.load(Ordering::Relaxed);
        // SAFETY: the pointer is null or the `Loop`, which takes it back when it dies. What its instance dictionary held
        // dies before that; by then nobody may refer to the loop any more.
        unsafe {
            if object.is_null() || pyo3::ffi::Py_REFCNT(object) == 0 {
                return None;
            }
            Some(Bound::from_borrowed_ptr(py, object))
        }
    }
}

/// One loop, without its Python object.
pub struct Core {
    engine: Engine<PyHost>,
    remote: Arc<Remote<Job>>,
    /// The thread that runs the loop, as [`this_thread`] tells it; 0 while nobody does.
    owner: AtomicUsize,
    /// `threading.get_ident()` of that thread.
    pub thread_ident: AtomicUsize,
    closed: AtomicBool,
    /// [`reveal_soon`](Self::reveal_soon) has asked.
    reveals: AtomicBool,
    pub owners: Owners,
}

// SAFETY: `engine` is the only part that is not thread-safe by itself. `Core::engine` hands it out only to the thread
// that owns the loop, or, while nobody runs it, to whoever holds the interpreter lock (in a free-threaded build: to the
// thread that claims it); `Core::engine_in_turn` to whoever holds that lock, which the loop's thread does whenever it touches
// the engine: it sleeps with copies of what it needs (`Engine::wait`). `remote` is made for other threads.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

/// A number that differs between living threads and is cheap to read: where the thread's own data begins.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
#[inline]
pub fn this_thread() -> usize {
    let pointer: usize;
    // SAFETY: by the System V ABI the first word of a thread's own data is its address. (A thread-local of a shared
    // library is found by a call of `__tls_get_addr`, three times per `call_soon`.)
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(pure, readonly, nostack, preserves_flags)) };
    pointer
}

/// A number that differs between living threads and is cheap to read: the address of a thread-local.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64")))]
pub fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}

/// As much as is read from a socket at once, in bytes; asyncio's own figure (`selector_events.max_size`).
pub const READ_SIZE: usize = 256 * 1024;

/// So many bytes at once are worth an object of their own, made before it is known how many will come next.
pub const MANY: usize = 16 * 1024;

/// Has glibc keep a few MiB that were freed, for the next read. At first it gives memory back to the system as soon as
/// 128 KiB are free at the heap's end, and fetches it again page by page: reading 100 KiB messages took three times as
/// long for it. It adapts itself to what it is asked for, and keeps twice as much as the largest block that came and went.
fn keep_freed_memory() {
    const LARGEST: usize = 4 * 1024 * 1024;
    drop(black_box(Vec::<u8>::with_capacity(LARGEST)));
}

impl Core {
    pub fn new(clock: Clock, order: Order) -> io::Result<Arc<Self>> {
        let host = PyHost {
            loop_object: AtomicPtr::default(),
            debug: AtomicBool::new(false),
            unsettled: RefCell::default(),
            scratch: RefCell::default(),
            suspended: RefCell::default(),
            observer: observing::Observer::default(),
            done: RefCell::default(),
        };
        let engine = Engine::new(host, clock, order)?;
        let remote = engine.remote().clone();
        Ok(Arc::new(Core {
            engine,
            remote,
            owner: AtomicUsize::new(0),
            thread_ident: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            reveals: AtomicBool::new(false),
            owners: Owners::default(),
        }))
    }

    /// The engine, if the calling thread may touch it.
    ///
    /// # Errors
    /// RuntimeError if another thread runs the loop.
    #[inline]
    pub fn engine(&self) -> PyResult<&Engine<PyHost>> {
        if self.is_mine() { Ok(&self.engine) } else { Err(wrong_thread()) }
    }

    /// The engine, also for another thread than the one that runs the loop: that is asleep, or between two lines of Python,
    /// as the interpreter lock is held here. For what takes effect at once and leaves nothing for the end of a turn.
    ///
    /// # Errors
    /// RuntimeError if another thread runs the loop and there is no such lock.
    pub fn engine_in_turn(&self, _py: Python<'_>) -> PyResult<&Engine<PyHost>> {
        if cfg!(Py_GIL_DISABLED) { self.engine() } else { Ok(&self.engine) }
    }

    /// Whether the calling thread may touch the engine.
    #[inline]
    pub fn is_mine(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner == this_thread() || (owner == 0 && self.claim())
    }

    /// As [`is_mine`](Self::is_mine), without becoming the owner: who only leaves something is not to keep others away.
    #[inline(always)]
    fn is_mine_already(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner == this_thread() || (owner == 0 && cfg!(not(Py_GIL_DISABLED)))
    }

    /// Nobody runs the loop: with an interpreter lock that lock is protection enough.
    #[cfg(not(Py_GIL_DISABLED))]
    fn claim(&self) -> bool {
        true
    }

    /// Nobody runs the loop: whoever touches it first owns it until somebody runs it.
    #[cfg(Py_GIL_DISABLED)]
    fn claim(&self) -> bool {
        self.owner.compare_exchange(0, this_thread(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The calling thread runs the loop until [`leave`](Self::leave).
    ///
    /// # Errors
    /// RuntimeError if another thread does, or this one further up its stack.
    pub fn enter(&self, ident: usize) -> PyResult<()> {
        let entered = self.thread_ident.compare_exchange(0, ident, Ordering::AcqRel, Ordering::Relaxed);
        entered.map_err(|_| PyRuntimeError::new_err("This event loop is already running"))?;
        self.owner.store(this_thread(), Ordering::Release);
        Ok(())
    }

    pub fn leave(&self) {
        self.owner.store(0, Ordering::Release);
        self.thread_ident.store(0, Ordering::Release);
    }

    pub fn is_running(&self) -> bool {
        self.thread_ident.load(Ordering::Acquire) != 0
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// # Errors
    /// RuntimeError if the loop is closed.
    #[inline]
    pub fn check_closed(&self) -> PyResult<()> {
        if self.is_closed() { Err(PyRuntimeError::new_err("Event loop is closed")) } else { Ok(()) }
    }

    /// For who is about to schedule something, and works for other threads, too.
    ///
    /// # Errors
    /// RuntimeError in debug mode if another thread runs the loop, as `call_soon()` has it.
    pub fn check_thread(&self) -> PyResult<()> {
        if self.debug() && !self.is_mine() { Err(wrong_thread()) } else { Ok(()) }
    }

    #[inline]
    pub fn debug(&self) -> bool {
        self.engine.host.debug.load(Ordering::Relaxed)
    }

    pub fn set_debug(&self, on: bool) {
        self.engine.host.debug.store(on, Ordering::Relaxed);
    }

    pub fn remote(&self) -> &Arc<Remote<Job>> {
        &self.remote
    }

    /// Makes `job` ready, from any thread: through the inbox if it is not the loop's own.
    #[inline(always)]
    pub fn soon(&self, job: Job) {
        if self.is_mine_already() {
            self.engine.soon(job);
        } else {
            let is_owned = self.owner.load(Ordering::Relaxed) != 0;
            self.remote.soon(job, if is_owned { Cause::THREAD } else { Cause::OUTSIDE });
        }
    }

    /// As [`soon`](Self::soon), with a cause that the caller knows better.
    pub fn soon_because(&self, job: Job, cause: Cause) {
        if self.is_mine_already() {
            self.engine.soon_because(job, cause);
        } else {
            self.remote.soon(job, cause);
        }
    }

    /// Makes a native step of `object` ready.
    pub fn call_soon<T>(&self, object: &Bound<'_, T>, call: Call) {
        self.soon(Job::Call(object.as_any().clone().unbind(), call));
    }

    /// Has `call` run before the loop sleeps, at the end of the present turn.
    pub fn before_sleep<T>(&self, object: &Bound<'_, T>, call: Call) -> PyResult<()> {
        self.engine()?.host.unsettled.borrow_mut().push((object.as_any().clone().unbind(), call));
        Ok(())
    }

    pub fn set_loop_object(&self, object: *mut pyo3::ffi::PyObject) {
        self.engine.host.loop_object.store(object, Ordering::Relaxed);
    }

    /// The Python loop.
    ///
    /// # Errors
    /// RuntimeError if it is gone (collected without `close()`).
    pub fn loop_object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.engine.host.loop_object(py).ok_or_else(|| PyRuntimeError::new_err("Event loop is closed"))
    }

    /// Calls `f` with [`READ_SIZE`] bytes of room that nobody else uses meanwhile.
    pub fn with_scratch<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> PyResult<R> {
        let host = &self.engine()?.host;
        // Taken out: if `f` comes back here, the inner call gets room of its own.
        let mut scratch = host.scratch.take();
        if scratch.is_empty() {
            keep_freed_memory();
            scratch.resize(READ_SIZE, 0);
        }
        let result = f(&mut scratch);
        host.scratch.replace(scratch);
        Ok(result)
    }

    /// `transport` owns `fd` until [`release_descriptor`](Self::release_descriptor).
    pub fn own_descriptor<T>(&self, fd: RawFd, transport: &Bound<'_, T>) -> PyResult<()> {
        self.owners.insert(fd, transport.as_any())
    }

    /// Who owned `fd` is done with it, and about to close it. In any thread, as garbage is collected in any; only the
    /// loop's own tells the engine.
    pub fn release_descriptor(&self, fd: RawFd) {
        self.owners.remove(fd);
        if let Ok(engine) = self.engine() {
            engine.release(fd);
        }
    }

    /// The loop's counters, from any thread: they are atomics in a place that changes only in a fork.
    pub fn counters(&self) -> LoopView {
        self.engine.counters()
    }

    /// Steps of this loop are slow that take so many nanoseconds; for any thread, as above.
    pub fn set_slow_after(&self, nanoseconds: u64) {
        self.engine.set_slow_after(nanoseconds);
    }

    /// Nanoseconds of the loop's clock.
    pub fn now(&self) -> u64 {
        // The clock is a system call or a constant of the loop; reading it is safe from any thread.
        self.engine.now()
    }

    /// What `loop.time()` says.
    pub fn time(&self) -> f64 {
        self.now() as f64 / 1e9
    }

    /// Hands an exception to `loop.call_exception_handler`, with more entries for its context from `fill`.
    /// KeyboardInterrupt and SystemExit are returned: they end the run.
    pub fn report(
        &self,
        py: Python<'_>,
        error: PyErr,
        message: &str,
        fill: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>,
    ) -> PyResult<()> {
        if ends_the_run(py, &error) {
            return Err(error);
        }
        let context = PyDict::new(py);
        context.set_item(intern!(py, "message"), message)?;
        context.set_item(intern!(py, "exception"), error.value(py))?;
        fill(&context)?;
        let Ok(the_loop) = self.loop_object(py) else {
            error.write_unraisable(py, None);
            return Ok(());
        };
        call_exception_handler(&the_loop, &error, context)
    }

    /// An awaitable waits for what is not the engine's. Returns a name for [`unsuspend`](Self::unsuspend).
    pub fn suspend(&self, waker: Waker) -> PyResult<u64> {
        let mut suspended = self.engine()?.host.suspended.borrow_mut();
        let name = suspended.last_key_value().map_or(0, |(last, _)| last + 1);
        suspended.insert(name, waker);
        Ok(name)
    }

    /// An awaitable does not wait any more.
    pub fn unsuspend(&self, name: u64) {
        if let Ok(engine) = self.engine() {
            let waker = engine.host.suspended.borrow_mut().remove(&name);
            drop(waker);
        }
    }

    /// Ends the operations that are being awaited: nothing will wake them any more, and what they hold could not be
    /// collected, because the garbage collector does not see into Rust futures.
    pub fn end_operations(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine()?;
        let mut waiting = Vec::new();
        let mut note = |waker: &Waker| waiting.extend(OwnedWaker::awaitable_of(waker, py));
        engine
            .for_each_waker(|waker| {
                note(waker);
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        engine.host.suspended.borrow().values().for_each(&mut note);
        engine
            .for_each_job(|job| {
                if let Job::Wake(waker) = job {
                    waiting.push(waker.clone_awaitable(py));
                }
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        waiting.iter().for_each(|awaitable| awaitable.get().end_operation());
        Ok(())
    }

    /// Forgets all that waits and gives the descriptors back.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine()?;
        settle(engine, py);
        engine.close();
        // What died just now may have written something.
        settle(engine, py);
        let done = engine.host.done.borrow_mut().take();
        drop((engine.host.suspended.take(), done));
        Ok(())
    }

    /// For the garbage collector, which has stopped everybody else.
    pub fn traverse(self: &Arc<Self>, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let mut told = true;
        self.engine.for_each_job(|job| match job {
            Job::Handle(handle) => handle.traverse(visit).map(|this| told &= this),
            Job::Wake(waker) => OwnedWaker::traverse_shared(waker, visit),
            Job::Step(call) | Job::Callback(call) => call.traverse(visit),
            job => job.object().map_or(Ok(()), |object| visit.call(object)),
        })?;
        if !told && !self.is_running() {
            self.reveal_soon();
        }
        self.engine.for_each_waker(|waker| OwnedWaker::traverse(waker, visit))?;
        if let Ok(suspended) = self.engine.host.suspended.try_borrow() {
            suspended.values().try_for_each(|waker| OwnedWaker::traverse(waker, visit))?;
        }
        if let Ok(unsettled) = self.engine.host.unsettled.try_borrow() {
            unsettled.iter().try_for_each(|(object, _)| visit.call(object))?;
        }
        if let Ok(done) = self.engine.host.done.try_borrow()
            && let Some(done) = &*done
        {
            visit.call(done)?;
        }
        self.engine.host.observer.traverse(visit)
    }

    /// Has the collector know of all handles before it comes again: it allows no such thing now.
    fn reveal_soon(self: &Arc<Self>) {
        extern "C" fn reveal(core: *mut c_void) -> c_int {
            // SAFETY: the reference that was given away below.
            let core = unsafe { Arc::from_raw(core.cast::<Core>().cast_const()) };
            core.reveals.store(false, Ordering::Relaxed);
            if let Ok(engine) = core.engine() {
                let Ok(()) = engine.for_each_job(|job| {
                    if let Job::Handle(handle) = job {
                        handle.reveal();
                    }
                    Ok::<_, Infallible>(())
                });
            }
            0
        }
        if !self.reveals.swap(true, Ordering::Relaxed) {
            let this = Arc::into_raw(self.clone());
            // SAFETY: any thread may ask; the main thread calls it, attached.
            if unsafe { pyo3::ffi::Py_AddPendingCall(Some(reveal), this.cast_mut().cast()) } < 0 {
                // So many calls are pending: the next collection asks again.
                self.reveals.store(false, Ordering::Relaxed);
                // SAFETY: nobody has got it.
                drop(unsafe { Arc::from_raw(this) });
            }
        }
    }

    /// For the garbage collector: lets go of all that waits.
    pub fn clear(&self) {
        self.engine.clear();
        let done = self.engine.host.done.borrow_mut().take();
        let observer = self.engine.host.observer.replace(None);
        drop((self.engine.host.unsettled.take(), self.engine.host.suspended.take(), done, observer));
    }
}

/// Whether an error is no failure but a wish to end: it goes through everything.
pub fn ends_the_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}

fn wrong_thread() -> PyErr {
    PyRuntimeError::new_err(
        "Non-thread-safe operation invoked on an event loop other than the current one: another thread runs it \
         (use loop.call_soon_threadsafe)",
    )
}

/// Calls the handler as asyncio does, from where the error is caught: `sys.exc_info()` and `logging.exception()` in it
/// show that error.
pub fn call_exception_handler(the_loop: &Bound<'_, PyAny>, error: &PyErr, context: Bound<'_, PyDict>) -> PyResult<()> {
    let py = the_loop.py();
    // SAFETY: attached; the first returns a new reference or null, the second takes none away.
    let former = unsafe {
        let former = pyo3::ffi::PyErr_GetHandledException();
        pyo3::ffi::PyErr_SetHandledException(error.value(py).as_ptr());
        Bound::<PyAny>::from_owned_ptr_or_opt(py, former)
    };
    let called = the_loop.call_method1(intern!(py, "call_exception_handler"), (context,));
    // SAFETY: as above; null stands for no exception.
    unsafe {
        pyo3::ffi::PyErr_SetHandledException(former.map_or(std::ptr::null_mut(), |former| former.as_ptr()));
    }
    called.map(drop)
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
