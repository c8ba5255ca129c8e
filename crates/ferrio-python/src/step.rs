//! What Tasks and Futures ask a loop to call, queued without a Handle around it.
//!
//! `_asyncio.Task` asks for each step with `loop.call_soon(step, context=…)`, and an `_asyncio.Future` that is done wakes
//! it, or tells one of ferrio's own objects, with `loop.call_soon(callback, future, context=…)`; both throw the handle away
//! that they get. So here the entry of the ready queue is callable, argument and context themselves, and `call_soon`
//! returns None to these callers (12 ns of 67 per step of a task; 500 instructions of 9,600 per child of a `gather`).
//!
//! Only on a loop whose class is exactly `ferrio.EventLoop`, whose `call_soon` is ours, and not in debug mode. Whatever
//! is not recognised (tasks in pure Python, an interpreter that does this in another way) goes the ordinary way.

use std::ffi::c_int;
use std::num::NonZeroUsize;
use std::ptr;

use ferrio::event_loop::Engine;
use ferrio::recorder::Level;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use crate::core::{Job, PyHost};
use crate::current;
use crate::event_loop::{CONTEXT, Loop};
use crate::ffi::call;
use crate::ffi::context::{enter, leave};
use crate::ffi::error;
use crate::ffi::method::Arguments;
use crate::handle;
use crate::imports::imports;
use crate::tasks::{self, asyncio::is_done};

/// What the ready queue holds.
pub struct BareCall {
    callable: Py<PyAny>,
    /// The future that is done; a step that nobody wakes has none.
    future: Option<Py<PyAny>>,
    context: Py<PyAny>,
}

/// How to recognise them, found out by asking a Task and a Future of this interpreter (`ferrio._task_steps`).
struct Signs {
    /// `ferrio.EventLoop`.
    loop_class: Py<PyAny>,
    step_class: Py<PyAny>,
    /// The C function behind every wake-up.
    wakeup: ffi::PyCFunction,
    /// Where in a step its task is, and in a wake-up, which is a method.
    task: [Option<Place>; 2],
    /// Where in a weak reference that is what it refers to.
    referent: Option<Place>,
    in_task: Option<InTask>,
}

/// Where in a task of this interpreter things are that no other thread changes meanwhile.
struct InTask {
    /// Its name: a string, or the number that makes it `Task-7`.
    name: Place,
    coroutine: Place,
    /// In a coroutine its qualified name.
    name_of_coroutine: Place,
    /// 0 as long as it is not over.
    state: Place,
}

/// In bytes from an object's beginning, which is never a place of another.
type Place = NonZeroUsize;

static SIGNS: PyOnceLock<Signs> = PyOnceLock::new();

/// Has steps and wake-ups like these two be recognised on loops of this very class. They are those of `task`, which has this
/// `name`, runs this `coroutine`, and is what `reference` refers to weakly. The `futures` are pending, cancelled and finished.
#[pyfunction]
#[expect(clippy::too_many_arguments)]
pub fn recognise_task_steps(
    loop_class: Bound<'_, PyAny>,
    step: &Bound<'_, PyAny>,
    wakeup: &Bound<'_, PyAny>,
    task: &Bound<'_, PyAny>,
    name: &Bound<'_, PyAny>,
    coroutine: &Bound<'_, PyAny>,
    reference: &Bound<'_, PyAny>,
    futures: [Bound<'_, PyAny>; 3],
) {
    let py = loop_class.py();
    // SAFETY: the check comes first.
    let function = unsafe {
        if ffi::PyCFunction_CheckExact(wakeup.as_ptr()) == 0 {
            return;
        }
        ffi::PyCFunction_GetFunction(wakeup.as_ptr())
    };
    let Some(function) = function else { return };
    let signs = Signs {
        loop_class: loop_class.unbind(),
        step_class: step.get_type().into_any().unbind(),
        wakeup: function,
        task: [offset_of(step, task), offset_of(wakeup, task)],
        referent: offset_of(reference, task),
        in_task: if cfg!(Py_GIL_DISABLED) { None } else { InTask::find(task, name, coroutine, &futures) },
    };
    // Those of the first loop class hold for all of the process.
    drop(SIGNS.set(py, signs));
}

/// Where in `holder` there is a pointer to `held`.
fn offset_of(holder: &Bound<'_, PyAny>, held: &Bound<'_, PyAny>) -> Option<Place> {
    let word = size_of::<*mut ffi::PyObject>();
    // SAFETY: a living object is as large as its type says, and made of words; they are only compared.
    unsafe {
        let size = (*ffi::Py_TYPE(holder.as_ptr())).tp_basicsize as usize;
        let words = holder.as_ptr().cast::<*mut ffi::PyObject>();
        let places = size_of::<ffi::PyObject>() / word..size / word;
        let place = places.into_iter().find(|place| *words.add(*place) == held.as_ptr())?;
        Place::new(place * word)
    }
}

impl InTask {
    fn find(
        task: &Bound<'_, PyAny>,
        name: &Bound<'_, PyAny>,
        coroutine: &Bound<'_, PyAny>,
        futures: &[Bound<'_, PyAny>; 3],
    ) -> Option<Self> {
        Some(InTask {
            name: offset_of(task, name)?,
            coroutine: offset_of(task, coroutine)?,
            name_of_coroutine: offset_of(coroutine, &qualified_name(coroutine)?)?,
            state: offset_of_state(task, futures)?,
        })
    }
}

/// Where a task, which is not over and begins as a future does, has its state: there is one place only at which these futures
/// have 0, 1 and 2 (`fut_state` of `_asynciomodule.c`).
fn offset_of_state(task: &Bound<'_, PyAny>, futures: &[Bound<'_, PyAny>; 3]) -> Option<Place> {
    // SAFETY: living objects, which are as large as their types say and made of words; numbers are only compared.
    unsafe {
        let size = |object: &Bound<'_, PyAny>| (*ffi::Py_TYPE(object.as_ptr())).tp_basicsize as usize;
        let state = |object: &Bound<'_, PyAny>, place: usize| *object.as_ptr().byte_add(place).cast::<c_int>();
        let size = futures.iter().chain([task]).map(size).min()?;
        let is_state = |place: &usize| {
            let states: Vec<_> = futures.iter().map(|future| state(future, *place)).collect();
            states == [0, 1, 2] && state(task, *place) == 0
        };
        let mut places = (size_of::<ffi::PyObject>()..size).step_by(size_of::<c_int>()).filter(is_state);
        let place = places.next();
        if places.next().is_none() { Place::new(place?) } else { None }
    }
}

/// The task whose step or wake-up a callable is, borrowed from it; null if that cannot be told without asking Python.
///
/// # Safety
/// What [`recognise`] has found, and alive.
#[cfg(not(Py_GIL_DISABLED))]
#[inline]
pub unsafe fn task_behind(py: Python<'_>, callable: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let Some(signs) = SIGNS.get(py) else { return ptr::null_mut() };
    // SAFETY: as the caller promises. In a step the task stands where it stood in another of the same type, and in a builtin
    // method the object whose it is; only an object's type is asked.
    unsafe {
        let is_step = ptr::eq(ffi::Py_TYPE(callable).cast(), signs.step_class.as_ptr());
        let Some(place) = signs.task[usize::from(!is_step)] else { return ptr::null_mut() };
        let task = content(callable, place);
        // A future may have told an object of ours that it is done, and not a task.
        if is_step || is_task(py, task) { task } else { ptr::null_mut() }
    }
}

/// Whether it is a task of C.
///
/// # Safety
/// A living object.
#[inline]
unsafe fn is_task(py: Python<'_>, object: *mut ffi::PyObject) -> bool {
    let Ok(imports) = imports(py) else { return false };
    // SAFETY: as the caller promises; `_asyncio.Task` is a type.
    unsafe { ffi::PyObject_TypeCheck(object, imports.task.as_ptr().cast()) != 0 }
}

/// What a weak reference refers to, borrowed; null, or None's address, if that is gone or cannot be told.
#[inline]
pub fn referent(reference: &Py<PyAny>, py: Python<'_>) -> *mut ffi::PyObject {
    match SIGNS.get(py).and_then(|signs| signs.referent) {
        // SAFETY: a weak reference, in which the referent stands where it stood in another.
        Some(place) => unsafe { content(reference.as_ptr(), place) },
        None => ptr::null_mut(),
    }
}

/// What a task is called, as far as that can be told without asking Python. The task has it until it gets another name.
pub struct Names<'a, 'py> {
    /// A string, or the number that makes it `Task-7`.
    pub own: Borrowed<'a, 'py, PyAny>,
    /// The qualified name of its coroutine, if that is one of Python's.
    pub coroutine: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Names<'a, 'py> {
    /// None if it is no task of C.
    #[inline]
    pub fn of(task: Borrowed<'a, 'py, PyAny>) -> Option<Self> {
        // SAFETY: a living object; then a task of C.
        unsafe { if is_task(task.py(), task.as_ptr()) { Names::of_task(task) } else { None } }
    }

    /// # Safety
    /// A task of C, or of a class that is derived from it.
    #[inline]
    unsafe fn of_task(task: Borrowed<'a, 'py, PyAny>) -> Option<Self> {
        let (py, places) = (task.py(), in_task(task.py())?);
        // SAFETY: as the caller promises; the coroutine is of the type in which its name's place was found.
        unsafe {
            let own = Borrowed::from_ptr_or_opt(py, content(task.as_ptr(), places.name))?;
            let coroutine = content(task.as_ptr(), places.coroutine);
            let is_plain = !coroutine.is_null() && ffi::Py_TYPE(coroutine) == &raw mut ffi::PyCoro_Type;
            let name = if is_plain { content(coroutine, places.name_of_coroutine) } else { ptr::null_mut() };
            Some(Names { own, coroutine: Borrowed::from_ptr_or_opt(py, name) })
        }
    }
}

#[inline(always)]
fn in_task(py: Python<'_>) -> Option<&'static InTask> {
    SIGNS.get(py)?.in_task.as_ref()
}

/// The object that another refers to at this place, borrowed from it; null if there is none.
///
/// # Safety
/// The place was found in an object of the same type, and always has a reference or null.
#[inline(always)]
unsafe fn content(object: *mut ffi::PyObject, place: Place) -> *mut ffi::PyObject {
    // SAFETY: as the caller promises.
    unsafe { *object.byte_add(place.get()).cast() }
}

fn qualified_name<'py>(coroutine: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    coroutine.getattr(intern!(coroutine.py(), "__qualname__")).ok()
}

/// The entry for a `call_soon` with these arguments, if a Task or a Future of C has called it.
#[inline]
pub fn recognise(this: &Bound<'_, Loop>, arguments: &Arguments<'_, '_>) -> Option<Job> {
    let context = arguments.only_keyword(&CONTEXT)?;
    let py = this.py();
    let signs = SIGNS.get(py)?;
    // SAFETY: living objects, borrowed for this call.
    unsafe {
        if !ptr::eq(ffi::Py_TYPE(this.as_ptr()).cast(), signs.loop_class.as_ptr())
            || ffi::PyContext_CheckExact(context.as_ptr()) == 0
        {
            return None;
        }
        let (callable, future, is_tasks) = match *arguments.positional() {
            [step] if ptr::eq(ffi::Py_TYPE(step).cast(), signs.step_class.as_ptr()) => (step, None, true),
            [callback, future] if ffi::PyCFunction_CheckExact(callback) != 0 => {
                let function = ffi::PyCFunction_GetFunction(callback)?;
                let is_wakeup = ptr::fn_addr_eq(function, signs.wakeup);
                if !is_wakeup && (!is_ours(function) || is_observed(this)) {
                    return None;
                }
                (callback, Some(future), is_wakeup)
            }
            _ => return None,
        };
        let own = |object| Bound::<PyAny>::from_borrowed_ptr(py, object).unbind();
        let call = BareCall { callable: own(callable), future: future.map(own), context: context.unbind() };
        Some(if is_tasks { Job::Step(call) } else { Job::Callback(call) })
    }
}

/// Whether one of our objects hears by this function that a future is done.
#[inline]
fn is_ours(function: ffi::PyCFunction) -> bool {
    tasks::DONE_CALLBACKS.iter().any(|own| ptr::fn_addr_eq(function, *own))
}

/// Whether somebody hears of everything that happens in the loop, who knows callbacks by their handles.
#[inline]
fn is_observed(this: &Bound<'_, Loop>) -> bool {
    this.get().core.engine().is_ok_and(|engine| engine.level() == Level::Deep)
}

impl BareCall {
    /// Runs it in its context. What it raises goes to the loop's exception handler, as from a handle; KeyboardInterrupt and
    /// SystemExit are returned. If it is a `STEP` that is recorded, the record hears of a task that is over.
    #[inline(always)]
    pub fn run<const STEP: bool>(self, engine: &Engine<PyHost>, py: Python<'_>) -> PyResult<()> {
        // Bound from here on: each `Py` would ask whether the thread is attached when it goes.
        let (callable, context) = (self.callable.into_bound(py), self.context.into_bound(py));
        let future = self.future.map(|future| future.into_bound(py));
        // (Nothing here panics. With a closure the step was no longer a part of its turn, and with a result of seven words
        // that was copied: 60 instructions.)
        let is_entered = enter(&context);
        let called = is_entered && {
            let _current = current::Step::begin(&callable);
            match &future {
                None => call::try_alone(&callable).is_some(),
                Some(future) => call::try_with(&callable, future).is_some(),
            }
        };
        let error = if called { None } else { Some(error::take(py)) };
        if is_entered {
            leave(&context);
        }
        if STEP {
            has_run(engine, callable.as_borrowed(), future.is_some());
        }
        let Some(error) = error else { return Ok(()) };
        match engine.host.loop_object(py) {
            Some(the_loop) => handle::report(py, &handle_of(&the_loop, &callable, future.as_ref(), context)?, error),
            None => Err(error),
        }
    }

    /// The handle that there would be, for those who ask.
    pub fn handle<'py>(&self, the_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = the_loop.py();
        let future = self.future.as_ref().map(|future| future.bind(py));
        handle_of(the_loop, self.callable.bind(py), future, self.context.bind(py).clone())
    }

    /// The address of the task whose step it is, for a [`Job::Step`]; the caller is attached.
    pub fn task_address(&self) -> usize {
        // SAFETY: attached, as the caller promises.
        let py = unsafe { Python::assume_attached() };
        self.task(py).as_ptr() as usize
    }

    /// The task whose step it is, for a [`Job::Step`]; the callable itself if that does not tell.
    #[inline(always)]
    pub fn task<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.known_task(py).map_or_else(|| own_task(self.callable.bind(py)), |task| task.to_owned())
    }

    /// The task, without asking Python, if that can be done.
    #[inline(always)]
    pub fn known_task<'py>(&self, py: Python<'py>) -> Option<Borrowed<'_, 'py, PyAny>> {
        known_task(self.callable.bind_borrowed(py), self.future.is_some())
    }

    /// What the task is called whose step it is, for a [`Job::Step`].
    #[inline]
    pub fn names<'py>(&self, py: Python<'py>) -> Option<Names<'_, 'py>> {
        // SAFETY: a step is one of a task of C, or of a class derived from it.
        unsafe { Names::of_task(self.known_task(py)?) }
    }

    pub fn callable(&self) -> &Py<PyAny> {
        &self.callable
    }

    /// The address of the C function behind a [`Job::Callback`]: the same for all that tell objects of one kind.
    pub fn code_address(&self) -> usize {
        // SAFETY: a living object of C's, as `recognise` has seen.
        unsafe { ffi::PyCFunction_GetFunction(self.callable.as_ptr()).map_or(0, |function| function as usize) }
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        BareCall {
            callable: self.callable.clone_ref(py),
            future: self.future.as_ref().map(|future| future.clone_ref(py)),
            context: self.context.clone_ref(py),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callable)?;
        visit.call(&self.future)?;
        visit.call(&self.context)
    }
}

/// The task whose step or wake-up a callable is, without asking Python, if that can be done.
#[inline(always)]
fn known_task<'a, 'py>(callable: Borrowed<'a, 'py, PyAny>, is_wakeup: bool) -> Option<Borrowed<'a, 'py, PyAny>> {
    let place = SIGNS.get(callable.py())?.task[usize::from(is_wakeup)]?;
    // SAFETY: in a wake-up and in a step the task stands where `recognise_task_steps` found it in another of the same
    // type, and stays there.
    unsafe { Borrowed::from_ptr_or_opt(callable.py(), content(callable.as_ptr(), place)) }
}

/// A step of a task has run that is recorded: if the task is over, it makes room for another at its address.
#[inline(always)]
fn has_run(engine: &Engine<PyHost>, step: Borrowed<'_, '_, PyAny>, is_wakeup: bool) {
    match (known_task(step, is_wakeup), in_task(step.py())) {
        // SAFETY: a task of C, or of a class that is derived from it, has its state where others have it.
        (Some(task), Some(places)) => unsafe {
            if *task.as_ptr().byte_add(places.state.get()).cast::<c_int>() != 0 {
                engine.forget_subject(task.as_ptr() as u64);
            }
        },
        _ => has_run_unknown(engine, &step),
    }
}

#[cold]
fn has_run_unknown(engine: &Engine<PyHost>, step: &Bound<'_, PyAny>) {
    let task = own_task(step);
    if is_done(&task).unwrap_or(true) {
        engine.forget_subject(task.as_ptr() as u64);
    }
}

#[cold]
fn own_task<'py>(callable: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    callable.getattr(intern!(callable.py(), "__self__")).unwrap_or_else(|_| callable.clone())
}

fn handle_of<'py>(
    the_loop: &Bound<'py, PyAny>,
    callable: &Bound<'py, PyAny>,
    future: Option<&Bound<'py, PyAny>>,
    context: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments: Vec<_> = future.map(|future| future.as_ptr()).into_iter().collect();
    // SAFETY: the caller holds callable and argument.
    let handle = unsafe { handle::new(the_loop, callable.as_ptr(), &arguments, context)? };
    handle::track(&handle);
    Ok(handle)
}
