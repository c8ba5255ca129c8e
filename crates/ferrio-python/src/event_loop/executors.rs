//! What `run_in_executor` puts between a thread and a future of the loop.
//!
//! asyncio makes two futures per call, one of `concurrent.futures` (with a lock and a condition) and one of its own, and
//! chains them by closures. Here a call for the default executor is one [`Work`] in that executor's queue, which brings
//! its outcome home through the inbox; the loop is woken for the first of a batch only. (100 at a time: 2.8 us each, 25.5
//! in asyncio; CPython 3.11.) Any other executor is asked to `submit()`, and of what it returns the chain is native:
//! [`Following`].

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ferrio::cause::Cause;
use ferrio::clock::Clock;
use pyo3::exceptions::PyAssertionError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use super::Loop;
use super::creating::create_future;
use crate::core::{Core, Job};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, fastcall, install, install_noargs, install_onearg, noargs, onearg};
use crate::imports::imports;
use crate::sync::futures;

pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    install_onearg(&py.get_type::<Loop>(), c"_follow", c"", onearg!(Loop, |this, source| follow(this, source)))?;
    let class = py.get_type::<Work>();
    install(
        &class,
        c"run",
        c"",
        fastcall!(Work, |work, _arguments: Arguments<'_, '_>| {
            Work::run(work)?;
            Ok(work.py().None().into_bound(work.py()))
        }),
    )?;
    install_noargs(
        &class,
        c"cancel",
        c"",
        noargs!(Work, |work| {
            Work::bring_home(work, Outcome::Cancelled);
            Ok(work.py().None().into_bound(work.py()))
        }),
    )?;
    let class = py.get_type::<Following>();
    install_onearg(
        &class,
        c"_call_set_state",
        c"",
        onearg!(Following, |following, source| {
            Following::source_is_done(following);
            Ok(source.py().None().into_bound(source.py()))
        }),
    )?;
    install_onearg(
        &class,
        c"_call_check_cancel",
        c"",
        onearg!(Following, |following, future| {
            following.get().future_is_done(&future)?;
            Ok(future.py().None().into_bound(future.py()))
        }),
    )
}

// --- a call for the default executor -------------------------------------------------------------------------------

#[pymethods]
impl Loop {
    /// A call for the queue of the default executor, and the future of its outcome.
    fn _make_work<'py>(
        this: &Bound<'py, Self>,
        func: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
    ) -> PyResult<(Bound<'py, Work>, Bound<'py, PyAny>)> {
        let future = create_future(this)?;
        let work = Work {
            core: this.get().core.clone(),
            future: Guarded::new(Some(future.clone().unbind())),
            state: Guarded::new(State::Waits { func: func.unbind(), args: args.unbind() }),
        };
        Ok((Bound::new(this.py(), work)?, future))
    }
}

/// One call in the queue of `ferrio.executors.DefaultExecutor`, as a thread of it runs it.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Work {
    core: Arc<Core>,
    future: Guarded<Option<Py<PyAny>>>,
    state: Guarded<State>,
}

#[derive(Default)]
enum State {
    Waits {
        func: Py<PyAny>,
        args: Py<PyTuple>,
    },
    /// It runs, or its outcome has been handed over.
    #[default]
    Begun,
    Over(Outcome),
}

enum Outcome {
    Cancelled,
    Returned(Py<PyAny>),
    Raised(Py<PyAny>),
}

impl Work {
    /// In a thread of the executor.
    fn run(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let work = this.get();
        let State::Waits { func, args } = work.state.with(py, std::mem::take) else { return Ok(()) };
        let future = work.future.with(py, |future| future.as_ref().map(|future| future.bind(py).clone()));
        // Its own thread says so once: at worst that is missed here, and the work done in vain.
        if future.is_none_or(|future| futures::is_cancelled(&future).unwrap_or(false)) {
            return Ok(());
        }
        let outcome = {
            let _running = Running::enter(this, &func);
            match func.bind(py).call1(args.into_bound(py)) {
                Ok(result) => Outcome::Returned(result.unbind()),
                Err(error) => Outcome::Raised(error.into_value(py).into_any()),
            }
        };
        Work::bring_home(this, outcome);
        Ok(())
    }

    fn bring_home(this: &Bound<'_, Self>, outcome: Outcome) {
        let work = this.get();
        let former = work.state.with(this.py(), |state| std::mem::replace(state, State::Over(outcome)));
        drop(former);
        if !work.core.is_closed() {
            let job = Job::Call(this.clone().into_any().unbind(), |this| Work::hand_over(this.cast()?));
            work.core.remote().soon(job, Cause::THREAD);
        }
    }

    /// In the loop's thread: the outcome becomes the future's, unless that was cancelled.
    fn hand_over(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let future = this.get().future.with(py, Option::take);
        let (Some(future), State::Over(outcome)) = (future, this.get().state.with(py, std::mem::take)) else {
            return Ok(());
        };
        let future = future.bind(py);
        if futures::is_done(future)? {
            // If it was not cancelled, somebody else has ended it, who must not.
            return if futures::is_cancelled(future)? { Ok(()) } else { Err(PyAssertionError::new_err(())) };
        }
        match outcome {
            Outcome::Cancelled => future.call_method0(intern!(py, "cancel")).map(drop),
            Outcome::Returned(result) => futures::set_result(future, result.bind(py)),
            Outcome::Raised(error) => {
                let error = imports(py)?.convert_future_exc.bind(py).call1((error,))?;
                future.call_method1(intern!(py, "set_exception"), (error,)).map(drop)
            }
        }
    }
}

#[pymethods]
impl Work {
    /// What an executor that is shut down calls `cancel()` of.
    #[getter]
    fn future<'py>(this: &Bound<'py, Self>) -> Bound<'py, Self> {
        this.clone()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.future.for_collector(|future| visit.call(future)).unwrap_or(Ok(()))?;
        let visited = self.state.for_collector(|state| match state {
            State::Waits { func, args } => {
                visit.call(func)?;
                visit.call(args)
            }
            State::Over(Outcome::Returned(value) | Outcome::Raised(value)) => visit.call(value),
            State::Over(Outcome::Cancelled) | State::Begun => Ok(()),
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.future.take());
        drop(self.state.take());
    }
}

// --- which calls run now ---------------------------------------------------------------------------------------------

/// What one thread is doing of a default executor's calls: two stores per call, for those who look.
#[derive(Default)]
struct Thread {
    /// The call and its function, borrowed from the frame of [`Work::run`]; null in between.
    work: AtomicPtr<ffi::PyObject>,
    func: AtomicPtr<ffi::PyObject>,
    /// Since when, in nanoseconds of the monotonic clock.
    since: AtomicU64,
}

/// Of all threads that have run one and live.
static THREADS: Mutex<Vec<Weak<Thread>>> = Mutex::new(Vec::new());

thread_local! {
    static THREAD: Arc<Thread> = {
        let thread = Arc::<Thread>::default();
        let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&thread));
        thread
    };
}

/// As long as the call runs.
struct Running;

impl Running {
    fn enter(work: &Bound<'_, Work>, func: &Py<PyAny>) -> Self {
        THREAD.with(|thread| {
            thread.since.store(Clock::Real.now(), Ordering::Relaxed);
            thread.func.store(func.as_ptr(), Ordering::Relaxed);
            thread.work.store(work.as_ptr(), Ordering::Release);
        });
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        THREAD.with(|thread| thread.work.store(ptr::null_mut(), Ordering::Release));
    }
}

#[pymethods]
impl Loop {
    /// The calls of this loop that threads of the default executor run: (future, seconds since it began, function).
    fn _running_works<'py>(this: &Bound<'py, Self>) -> Vec<(Bound<'py, PyAny>, f64, Bound<'py, PyAny>)> {
        let py = this.py();
        let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let running = threads.iter().filter_map(Weak::upgrade).filter_map(|thread| {
            let (work, func) = (thread.work.load(Ordering::Acquire), thread.func.load(Ordering::Relaxed));
            // SAFETY: attached, as the thread was when it wrote this and must be to end the call, during which both live.
            let (work, func) =
                unsafe { (Bound::from_borrowed_ptr_or_opt(py, work)?, Bound::from_borrowed_ptr_or_opt(py, func)?) };
            let since = thread.since.load(Ordering::Relaxed);
            Some((work.cast_into::<Work>().ok()?, Clock::Real.now().saturating_sub(since) as f64 / 1e9, func))
        });
        let running: Vec<_> = running.collect();
        drop(threads);
        let of_this_loop = running.into_iter().filter(|(work, ..)| Arc::ptr_eq(&work.get().core, &this.get().core));
        of_this_loop
            .filter_map(|(work, seconds, func)| {
                let future = work.get().future.with(py, |future| future.as_ref().map(|future| future.clone_ref(py)))?;
                Some((future.into_bound(py), seconds, func))
            })
            .collect()
    }
}

// --- the future of another executor --------------------------------------------------------------------------------

/// Between the executor's future, which is done in another thread, and the loop's.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Following {
    the_loop: Py<Loop>,
    /// The two, until both know of the end.
    ends: Guarded<Option<Ends>>,
}

struct Ends {
    source: Py<PyAny>,
    future: Py<PyAny>,
}

/// `_follow(source)`
fn follow<'py>(this: &Bound<'py, Loop>, source: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = this.py();
    let future = create_future(this)?;
    let ends = Ends { source: source.clone().unbind(), future: future.clone().unbind() };
    let following = Following { the_loop: this.clone().unbind(), ends: Guarded::new(Some(ends)) };
    let following = Bound::new(py, following)?;
    let add = intern!(py, "add_done_callback");
    future.call_method1(add, (following.getattr(intern!(py, "_call_check_cancel"))?,))?;
    source.call_method1(add, (following.getattr(intern!(py, "_call_set_state"))?,))?;
    Ok(future)
}

impl Following {
    /// Called in the thread that the work was done in, or in whichever has cancelled it.
    fn source_is_done(this: &Bound<'_, Self>) {
        let core = &this.get().the_loop.get().core;
        if !core.is_closed() {
            core.soon(Job::Call(this.clone().into_any().unbind(), |this| Following::pass_on(this.cast()?)));
        }
    }

    /// In the loop's thread: the outcome becomes the future's.
    fn pass_on(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let Some(Ends { source, future }) = this.get().ends.with(py, Option::take) else { return Ok(()) };
        // Which exception becomes which, asyncio knows.
        imports(py)?.copy_future_state.bind(py).call1((source, future)).map(drop)
    }

    /// The loop's future is done; if it was cancelled, the work need not begin.
    fn future_is_done(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = future.py();
        if !futures::is_cancelled(future)? {
            return Ok(());
        }
        match self.ends.with(py, Option::take) {
            Some(Ends { source, .. }) => source.bind(py).call_method0(intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }
}

#[pymethods]
impl Following {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.the_loop)?;
        let visited = self.ends.for_collector(|ends| match ends {
            Some(Ends { source, future }) => {
                visit.call(source)?;
                visit.call(future)
            }
            None => Ok(()),
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.ends.take());
    }
}
