//! The record, in Python's words: what the flight ring calls a job, what a loop leaves for those who look at its process,
//! and reading the pages of other processes. What is kept, and where, is the engine's (`ferrio::recorder`).

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use ferrio::recorder::reading::{LoopView, Record, Times, View};
use ferrio::recorder::watch::{self, Watch};
use ferrio::recorder::{self, Level, State, Title};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use crate::core::{self, Job};
use crate::errors::from_io;
use crate::event_loop::Loop;
use crate::ffi::exit;
use crate::handle;
use crate::imports::imports;
use crate::step::Names;

// --- what runs -------------------------------------------------------------------------------------------------------

/// What tells a job's subject from others: a task's address; for callbacks and native steps that of their code.
#[inline(always)]
pub fn key(job: &Job) -> u64 {
    match job {
        // SAFETY: the engine asks on the loop's thread, which is attached.
        Job::Step(step) => match step.known_task(unsafe { Python::assume_attached() }) {
            Some(task) => task.as_ptr() as u64,
            None => step.task_address() as u64,
        },
        Job::Handle(handle) => handle::code_address(handle) as u64,
        job => key_of_others(job),
    }
}

fn key_of_others(job: &Job) -> u64 {
    match job {
        Job::Step(_) | Job::Handle(_) => 0,
        Job::Callback(call) => call.code_address() as u64,
        Job::Call(_, call) => *call as usize as u64,
        Job::Wake(waker) => waker.awaitable().as_ptr() as u64,
        #[cfg(unix)]
        Job::Signals => 1,
    }
}

/// What the task is called whose step it is, without asking Python, if that can be done.
#[inline(always)]
fn names(job: &Job) -> Option<Names<'_, '_>> {
    let Job::Step(step) = job else { return None };
    // SAFETY: the engine asks on the loop's thread, which is attached.
    step.names(unsafe { Python::assume_attached() })
}

/// What stands for its name, of a task of C that runs one of Python's coroutines: there may be a great many of these.
#[inline(always)]
pub fn title(job: &Job) -> Option<Title> {
    let Names { own, coroutine } = names(job)?;
    let coroutine = coroutine?;
    // Of these very classes: looking at a number or a text and hashing one call nothing of Python's.
    let is_plain = own.is_exact_instance_of::<PyInt>() || own.is_exact_instance_of::<PyString>();
    if is_plain && coroutine.is_exact_instance_of::<PyString>() { titled(&coroutine, &own) } else { None }
}

/// The same of any other task.
pub fn asked_title(job: &Job) -> Title {
    let Job::Step(step) = job else { return Title::default() };
    // SAFETY: the engine asks on the loop's thread, which is attached.
    let task = step.task(unsafe { Python::assume_attached() });
    let titled = coroutine_name(&task).and_then(|coroutine| Ok(titled(&coroutine, &own_name(&task)?)));
    titled.ok().flatten().unwrap_or_default()
}

/// The address of what a task is called, which is another once it has got another name; 0 if only Python tells.
#[inline]
pub fn name_stamp(job: &Job) -> usize {
    names(job).map_or(0, |names| names.own.as_ptr() as usize)
}

/// What stands for the name of a task that is called `own` and runs `coroutine`.
#[inline]
fn titled(coroutine: &Bound<'_, PyAny>, own: &Bound<'_, PyAny>) -> Option<Title> {
    let stamp = own.as_ptr() as usize;
    Some(match number_of(own) {
        Some(number) => Title { text: hash(coroutine)?, number, stamp },
        // (Turned, because a task may have the name of its coroutine.)
        None => Title { text: hash(coroutine)?.rotate_left(17) ^ hash(own)? | 1, number: 0, stamp },
    })
}

#[inline]
fn hash(text: &Bound<'_, PyAny>) -> Option<u64> {
    #[cold]
    fn ask(text: &Bound<'_, PyAny>) -> Option<isize> {
        text.hash().ok()
    }
    let is_string = text.is_exact_instance_of::<PyString>();
    // SAFETY: a string has its hash in it, or -1 as long as nobody has asked for that.
    let known = if is_string { unsafe { (*text.as_ptr().cast::<ffi::PyASCIIObject>()).hash } } else { -1 };
    // Never 0, which stands for no hash.
    Some(if known == -1 { ask(text)? } else { known } as u64 | 1)
}

/// What people call it.
pub fn name(job: &Job) -> String {
    Python::attach(|py| match job {
        Job::Step(step) => name_of_task(&step.task(py)).unwrap_or_default(),
        Job::Handle(handle) => {
            let callback = handle.bind(py).getattr(intern!(py, "_callback"));
            callback.map_or_else(|_| "a callback".to_owned(), |callback| name_of(&callback))
        }
        Job::Callback(call) => name_of(call.callable().bind(py)),
        Job::Call(object, _) => name_of(object.bind(py).get_type().as_any()),
        Job::Wake(waker) => name_of(waker.awaitable().bind(py)),
        #[cfg(unix)]
        Job::Signals => "signal handlers".to_owned(),
    })
}

/// `fetch` for the task `Task-12` of the coroutine `fetch()`; `crawler (fetch)` for one with a name.
fn name_of_task(task: &Bound<'_, PyAny>) -> PyResult<String> {
    let (coroutine, name) = (coroutine_name(task)?, own_name(task)?);
    Ok(if number_of(&name).is_some() { coroutine.to_string() } else { format!("{name} ({coroutine})") })
}

/// What a task is called: a string, or the number that makes it `Task-12`.
fn own_name<'py>(task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match Names::of(task.as_borrowed()) {
        Some(names) => Ok(names.own.to_owned()),
        None => task.call_method0(intern!(task.py(), "get_name")),
    }
}

/// 12 for `Task-12`.
#[inline]
fn number_of(name: &Bound<'_, PyAny>) -> Option<u64> {
    match name.cast::<PyString>() {
        Ok(name) => number_in(name),
        // SAFETY: an integer, as it is no string; a task's number is too small for an error.
        Err(_) => Some(unsafe { ffi::PyLong_AsUnsignedLongLongMask(name.as_ptr()) }),
    }
}

#[inline(never)]
fn number_in(name: &Bound<'_, PyString>) -> Option<u64> {
    name.to_str().ok()?.strip_prefix("Task-")?.parse::<u32>().ok().map(u64::from)
}

/// The qualified name of a task's coroutine.
pub fn coroutine_name<'py>(task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = task.py();
    match Names::of(task.as_borrowed()).and_then(|names| names.coroutine) {
        Some(name) => Ok(name.to_owned()),
        None => {
            let coroutine = task.call_method0(intern!(py, "get_coro"))?;
            Ok(PyString::new(py, &name_of(&coroutine)).into_any())
        }
    }
}

fn name_of(object: &Bound<'_, PyAny>) -> String {
    let py = object.py();
    let name = object.getattr(intern!(py, "__qualname__")).and_then(|name| name.extract());
    let of_type = |_| object.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
    name.unwrap_or_else(of_type)
}

// --- what a loop leaves ----------------------------------------------------------------------------------------------

/// Has the face write down what everything in the loop waits for, for a while; true if there is more to write. What goes
/// wrong is reported; KeyboardInterrupt and SystemExit, which a signal may raise there as anywhere else, are returned:
/// they end the run.
pub fn snapshot(the_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = the_loop.py();
    let written = imports(py).and_then(|imports| {
        imports.helpers.bind(py).call_method1(intern!(py, "write_snapshot"), (the_loop,))?.is_truthy()
    });
    reported(the_loop, written)
}

/// Has the face write down everything that happens in the loop, or stop that. Errors as with [`snapshot`].
pub fn deepen(the_loop: &Bound<'_, PyAny>, deep: bool) -> PyResult<()> {
    let py = the_loop.py();
    let done = imports(py)
        .and_then(|imports| imports.helpers.bind(py).call_method1(intern!(py, "deepen"), (the_loop, deep)).map(drop));
    reported(the_loop, done)
}

fn reported<T: Default>(the_loop: &Bound<'_, PyAny>, done: PyResult<T>) -> PyResult<T> {
    let py = the_loop.py();
    match done {
        Err(error) if core::ends_the_run(py, &error) => Err(error),
        Err(error) => {
            error.write_unraisable(py, Some(the_loop));
            Ok(T::default())
        }
        done => done,
    }
}

#[pymethods]
impl Loop {
    /// Leaves a text for those who look at this process, in answer to the request of this number. False if there is no
    /// room for it.
    fn _write_snapshot(&self, text: &[u8], answers: u32) -> PyResult<bool> {
        Ok(self.core.engine()?.write_snapshot(text, answers))
    }

    /// The counters of this loop, as `PageView.loops()` has them. From any thread.
    fn _counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters(py, &self.core.counters())
    }

    /// This loop's number in its process.
    #[getter]
    fn _number(&self) -> u64 {
        self.core.counters().number
    }

    /// `threading.get_ident()` of the thread that runs it; 0 if none does.
    #[getter]
    fn _thread_ident(&self) -> usize {
        self.core.thread_ident.load(Ordering::Acquire)
    }

    /// Its steps are slow that take so many seconds; infinity for as long as those of all loops. From any thread.
    fn _set_slow_after(&self, seconds: f64) {
        self.core.set_slow_after(if seconds.is_finite() { nanoseconds(seconds) } else { 0 });
    }

    /// How much this loop records: "off", "pulse", "flight" or "deep".
    #[getter]
    fn _level(&self) -> PyResult<String> {
        Ok(format!("{:?}", self.core.engine()?.level()).to_lowercase())
    }
}

/// How much all loops of this process are to record, from their next look at the operating system on.
#[pyfunction]
pub fn want_level(level: &str) -> PyResult<()> {
    recorder::want(Level::from_number(level_number(level)?));
    Ok(())
}

fn level_number(level: &str) -> PyResult<u32> {
    match level {
        "pulse" => Ok(Level::Pulse as u32),
        "flight" => Ok(Level::Flight as u32),
        "deep" => Ok(Level::Deep as u32),
        other => Err(PyValueError::new_err(format!("level must be 'pulse', 'flight' or 'deep', got '{other}'"))),
    }
}

/// How much all loops of this process are to record.
#[pyfunction]
pub fn wanted_level() -> String {
    format!("{:?}", recorder::wanted()).to_lowercase()
}

/// Watches for slow steps: the thread that calls `next()` is to do nothing else.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub struct SlowSteps(Mutex<Watch>);

#[pymethods]
impl SlowSteps {
    #[new]
    fn new() -> Self {
        SlowSteps(Mutex::default())
    }

    /// Waits for the next slow step, or for the end of one: (slot, the loop's number, step, seconds, whether it is over).
    /// None after `stop_watching()`. Needs no interpreter lock while it waits.
    fn next(&self, py: Python<'_>) -> Option<(usize, u64, u64, f64, bool)> {
        let sight = exit::detached(py, || self.0.lock().unwrap_or_else(PoisonError::into_inner).next_sight())?;
        Some((sight.slot, sight.number, sight.step, seconds(sight.length), sight.is_over))
    }

    /// The step that the loop in this slot is doing is to be reported once more when it has taken so many seconds.
    fn again(&self, slot: usize, seconds: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).again(slot, nanoseconds(seconds));
    }
}

/// Ends `SlowSteps.next()`.
#[pyfunction]
pub fn stop_watching() {
    watch::stop();
}

/// Steps of any loop are slow that take so many seconds; infinity for none.
#[pyfunction]
pub fn set_slow_threshold(seconds: f64) {
    watch::set_threshold(nanoseconds(seconds));
}

fn nanoseconds(seconds: f64) -> u64 {
    // (A conversion to an integer takes what is too large for the largest.)
    (seconds * 1e9).max(1.0) as u64
}

/// The signal that has every thread's stack written to the file beside the page; 0 for none.
#[pyfunction]
pub fn announce_signal(number: u32) {
    recorder::announce_signal(number);
}

/// What runs this process ("Python 3.14.2"), for those who look at it.
#[pyfunction]
pub fn describe(runtime: &str) {
    recorder::describe(runtime);
}

/// How many snapshots of this process have been asked for.
#[pyfunction]
pub fn requests() -> u32 {
    recorder::requests()
}

/// How many records of the flight of its loops this process has written.
#[pyfunction]
pub fn records() -> u64 {
    recorder::records()
}

/// The file of this process's page; None if it has only private memory.
#[pyfunction]
pub fn page_path() -> Option<PathBuf> {
    recorder::path()
}

/// The folder of the user's pages; None where there is no tmpfs for them.
#[pyfunction]
pub fn page_folder() -> Option<PathBuf> {
    recorder::folder()
}

// --- other processes' pages ------------------------------------------------------------------------------------------

/// Somebody's page: `PageView(path)`. Times are in seconds, moments of `time.monotonic()`.
///
/// OSError if there is no such file, or (without a number) if it is no page, or one of another version.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub struct PageView(View);

#[pymethods]
impl PageView {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        let view = View::open(&path).map_err(|error| match error.raw_os_error() {
            Some(_) => from_io(error),
            None => PyOSError::new_err(format!("{}: {error}", path.display())),
        })?;
        Ok(PageView(view))
    }

    /// What the process says of itself.
    fn process<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let process = self.0.process();
        let known = PyDict::new(py);
        known.set_item("pid", process.pid)?;
        known.set_item("title", process.title)?;
        known.set_item("runtime", process.runtime)?;
        known.set_item("began", process.began as f64 / 1e9)?;
        known.set_item("began_monotonic", seconds(process.began_monotonic))?;
        known.set_item("level", format!("{:?}", Level::from_number(process.level)).to_lowercase())?;
        known.set_item("signal", process.signal)?;
        known.set_item("missing", process.missing)?;
        known.set_item("records", process.records)?;
        known.set_item("unwatched", process.unwatched)?;
        Ok(known)
    }

    /// The counters of its loops.
    fn loops<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let loops: PyResult<Vec<_>> = self.0.loops().iter().map(|one| counters(py, one)).collect();
        PyList::new(py, loops?)
    }

    /// The counters of loops that are closed, as far as they are still there.
    fn past_loops<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let loops: PyResult<Vec<_>> = self.0.past_loops().iter().map(|one| counters(py, one)).collect();
        PyList::new(py, loops?)
    }

    /// The newest snapshot of the loop in this slot, as (when, which request it answers, text), or None.
    fn snapshot<'py>(&self, py: Python<'py>, slot: usize) -> Option<(f64, u32, Bound<'py, PyBytes>)> {
        let snapshot = self.0.snapshot(slot)?;
        Some((seconds(snapshot.at), snapshot.answers, PyBytes::new(py, &snapshot.text)))
    }

    /// The flight ring, of each loop the oldest first: (kind, slot, at, subject, number, length, when, cause, payload, name).
    fn records<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let records: PyResult<Vec<_>> = self.0.records().iter().map(|record| words(py, record)).collect();
        PyList::new(py, records?)
    }

    /// Asks for another level.
    fn set_level(&self, level: &str) -> PyResult<()> {
        self.0.set_level(level_number(level)?);
        Ok(())
    }

    /// Asks every loop for a snapshot. Returns the request's number.
    fn request(&self) -> u32 {
        self.0.request()
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn counters<'py>(py: Python<'py>, one: &LoopView) -> PyResult<Bound<'py, PyDict>> {
    let known = PyDict::new(py);
    let state = match one.state {
        State::Running => "running",
        State::Asleep => "asleep",
        State::Idle => "idle",
        State::Free => "closed",
    };
    known.set_item("slot", one.slot)?;
    known.set_item("number", one.number)?;
    known.set_item("has_room", one.has_room)?;
    known.set_item("state", state)?;
    known.set_item("thread", one.thread)?;
    for (name, count) in [("steps", one.steps), ("turns", one.turns), ("sleeps", one.sleeps)] {
        known.set_item(name, count)?;
    }
    known.set_item("heard", one.heard)?;
    known.set_item("timers", one.timers)?;
    known.set_item("slow_turns", one.slow_turns)?;
    let times = [
        ("slept", one.slept),
        ("run_began", one.run_began),
        ("since", one.since),
        ("looked", one.looked),
        ("worked", one.worked),
        ("longest_turn", one.longest_turn),
        ("longest_turn_at", one.longest_turn_at),
    ];
    for (name, time) in times {
        known.set_item(name, seconds(time))?;
    }
    known.set_item("quiet", one.quiet.map(seconds))?;
    for (name, times) in [("late", &one.late), ("busy", &one.busy)] {
        known.set_item(name, histogram(py, times)?)?;
    }
    Ok(known)
}

/// `{"count": …, "longest": seconds, "buckets": [(at most so many seconds, how many lately), …]}`
fn histogram<'py>(py: Python<'py>, times: &Times) -> PyResult<Bound<'py, PyDict>> {
    let known = PyDict::new(py);
    known.set_item("count", times.count)?;
    known.set_item("longest", seconds(times.longest))?;
    let buckets: Vec<_> = times.buckets.iter().map(|(end, count)| (seconds(*end), *count)).collect();
    known.set_item("buckets", buckets)?;
    Ok(known)
}

fn words<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyTuple>> {
    let lower = |text: String| text.to_lowercase();
    (
        lower(format!("{:?}", record.kind)),
        record.slot,
        seconds(record.at),
        record.subject,
        record.number,
        seconds(record.length),
        seconds(record.when),
        lower(format!("{:?}", record.cause.kind())),
        record.cause.payload(),
        &record.name,
    )
        .into_pyobject(py)
}

/// Has a signal wake up whatever waits in the operating system, and do nothing else.
///
/// OSError if there is no such signal.
#[cfg(target_os = "linux")]
#[pyfunction]
pub fn wake_on_signal(signal: i32) -> PyResult<()> {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: zeros are a valid `sigaction`; the handler does nothing, which it may at any time. Other calls than waiting
    // for events go on.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    if installed < 0 { Err(from_io(std::io::Error::last_os_error())) } else { Ok(()) }
}

/// Sends a signal to one thread of a process.
///
/// OSError if there is none, or it is somebody else's.
#[cfg(target_os = "linux")]
#[pyfunction]
pub fn signal_thread(pid: i32, thread: i32, signal: i32) -> PyResult<()> {
    // SAFETY: no pointers; the kernel checks the numbers and the rights.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal) };
    if sent < 0 { Err(from_io(std::io::Error::last_os_error())) } else { Ok(()) }
}
