//! What Tasks and Futures ask a loop to call, queued without a Handle around it.
//!
//! `_asyncio.Task` asks for each step with `loop.call_soon(step, context=…)`, and an `_asyncio.Future` that is done wakes
//! it, or tells one of ferrio's own objects, with `loop.call_soon(callback, future, context=…)`; both throw the handle away
//! that they get. So here the entry of the ready queue is callable, argument and context themselves, and `call_soon`
//! returns None to these callers (12 ns of 67 per step of a task; 500 instructions of 9,600 per child of a `gather`).
//!
//! Only on a loop whose class is exactly `ferrio.EventLoop`, whose `call_soon` is ours, and not in debug mode. Whatever
//! is not recognised (tasks in pure Python, an interpreter that does this in another way) goes the ordinary way.

use std::ptr;

use ferrio::recorder::Level;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use crate::core::Job;
use crate::current;
use crate::event_loop::{CONTEXT, Loop};
use crate::ffi::call;
use crate::ffi::context::run_in;
use crate::ffi::method::Arguments;
use crate::handle;
use crate::imports::imports;
use crate::tasks;

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
    places: Places,
}

/// Where in objects of this interpreter others are, in bytes, as far as that could be found.
struct Places {
    /// In a step its task.
    task_of_step: Option<usize>,
    /// In a wake-up, which is a method, its task.
    task_of_wakeup: Option<usize>,
    /// In a task its name (a string, or the number that makes it `Task-7`), and its coroutine.
    name_of_task: Option<usize>,
    coroutine_of_task: Option<usize>,
    /// In a coroutine its qualified name.
    name_of_coroutine: Option<usize>,
    /// In a weak reference what it refers to.
    referent: Option<usize>,
}

static SIGNS: PyOnceLock<Signs> = PyOnceLock::new();

/// Has steps and wake-ups like these two be recognised on loops of this very class. They are those of `task`, which has this
/// `name`, runs this `coroutine`, and is what `reference` refers to weakly.
#[pyfunction]
pub fn recognise_task_steps(
    loop_class: Bound<'_, PyAny>,
    step: &Bound<'_, PyAny>,
    wakeup: &Bound<'_, PyAny>,
    task: &Bound<'_, PyAny>,
    name: &Bound<'_, PyAny>,
    coroutine: &Bound<'_, PyAny>,
    reference: &Bound<'_, PyAny>,
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
        places: Places {
            task_of_step: offset_of(step, task),
            task_of_wakeup: offset_of(wakeup, task),
            name_of_task: offset_of(task, name),
            coroutine_of_task: offset_of(task, coroutine),
            name_of_coroutine: qualified_name(coroutine).and_then(|name| offset_of(coroutine, &name)),
            referent: offset_of(reference, task),
        },
    };
    // Those of the first loop class hold for all of the process.
    drop(SIGNS.set(py, signs));
}

/// Where in `holder` there is a pointer to `held`.
fn offset_of(holder: &Bound<'_, PyAny>, held: &Bound<'_, PyAny>) -> Option<usize> {
    let word = size_of::<*mut ffi::PyObject>();
    // SAFETY: a living object is as large as its type says, and made of words; they are only compared.
    unsafe {
        let size = (*ffi::Py_TYPE(holder.as_ptr())).tp_basicsize as usize;
        let words = holder.as_ptr().cast::<*mut ffi::PyObject>();
        let places = size_of::<ffi::PyObject>() / word..size / word;
        places.into_iter().find(|place| *words.add(*place) == held.as_ptr()).map(|place| place * word)
    }
}

/// The task whose step or wake-up a callable is, borrowed from it; null if that cannot be told without asking Python.
///
/// # Safety
/// What [`recognise`] has found, and alive.
#[inline]
pub unsafe fn task_behind(py: Python<'_>, callable: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let Some(signs) = SIGNS.get(py) else { return ptr::null_mut() };
    // SAFETY: as the caller promises. In a step the task stands where it stood in another of the same type, and in a builtin
    // method the object whose it is; only an object's type is asked.
    unsafe {
        let is_step = ptr::eq(ffi::Py_TYPE(callable).cast(), signs.step_class.as_ptr());
        let place = if is_step { signs.places.task_of_step } else { signs.places.task_of_wakeup };
        let Some(place) = place else { return ptr::null_mut() };
        let task: *mut ffi::PyObject = *callable.byte_add(place).cast();
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
    match SIGNS.get(py).and_then(|signs| signs.places.referent) {
        // SAFETY: a weak reference, in which the referent stands where it stood in another.
        Some(place) => unsafe { *reference.as_ptr().byte_add(place).cast() },
        None => ptr::null_mut(),
    }
}

/// What stands for a task's name in it: a string, or the number that makes it `Task-7`. None if only `get_name()` tells.
#[inline]
pub fn name_of<'py>(task: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let place = places(task.py())?.name_of_task?;
    // SAFETY: of a task of C; a name is a string or an integer.
    unsafe { is_task(task.py(), task.as_ptr()).then(|| content(task, place)).flatten() }
}

/// The qualified name of a task's coroutine, if that is one of Python's. None if only Python tells.
#[inline]
pub fn coroutine_name_of<'py>(task: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let (py, places) = (task.py(), places(task.py())?);
    let (in_task, in_coroutine) = (places.coroutine_of_task?, places.name_of_coroutine?);
    // SAFETY: of a task of C, and of a coroutine of that very type.
    unsafe {
        let coroutine = is_task(py, task.as_ptr()).then(|| content(task, in_task)).flatten()?;
        let is_plain = ffi::Py_TYPE(coroutine.as_ptr()) == &raw mut ffi::PyCoro_Type;
        is_plain.then(|| content(&coroutine, in_coroutine)).flatten()
    }
}

/// Where things are in objects that no other thread changes meanwhile.
#[inline]
fn places(py: Python<'_>) -> Option<&'static Places> {
    SIGNS.get(py).map(|signs| &signs.places).filter(|_| cfg!(not(Py_GIL_DISABLED)))
}

/// The object that another refers to at this place; None if there is none.
///
/// # Safety
/// The place was found in an object of the same type, and always has a reference or null.
#[inline]
unsafe fn content<'py>(object: &Bound<'py, PyAny>, place: usize) -> Option<Bound<'py, PyAny>> {
    // SAFETY: as the caller promises.
    unsafe { Bound::from_borrowed_ptr_or_opt(object.py(), *object.as_ptr().byte_add(place).cast()) }
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
    /// Runs it in its context. What it raises goes to the loop's exception handler, as from a handle; KeyboardInterrupt
    /// and SystemExit are returned.
    #[inline]
    pub fn run<'py>(self, py: Python<'py>, the_loop: impl FnOnce() -> Option<Bound<'py, PyAny>>) -> PyResult<()> {
        // Bound from here on: each `Py` would ask whether the thread is attached when it goes.
        let (callable, context) = (self.callable.into_bound(py), self.context.into_bound(py));
        let future = self.future.map(|future| future.into_bound(py));
        let ran = run_in(py, &context, || {
            let _current = current::Step::begin(&callable);
            match &future {
                None => call::call_alone(&callable),
                Some(future) => call::call_with(&callable, future),
            }
        });
        let Err(error) = ran else { return Ok(()) };
        match the_loop() {
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
        match self.known_task(py) {
            // SAFETY: its callable holds it.
            Some(task) => unsafe { Bound::from_borrowed_ptr(py, task.as_ptr()) },
            None => self.own_task(py),
        }
    }

    #[cold]
    fn own_task<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let callable = self.callable.bind(py);
        callable.getattr(intern!(py, "__self__")).unwrap_or_else(|_| callable.clone())
    }

    /// The task, without asking Python, if that can be done. Borrowed from the callable.
    #[inline(always)]
    pub fn known_task(&self, py: Python<'_>) -> Option<ptr::NonNull<ffi::PyObject>> {
        let places = &SIGNS.get(py)?.places;
        let place = if self.future.is_some() { places.task_of_wakeup } else { places.task_of_step }?;
        // SAFETY: in a wake-up and in a step the task stands where `recognise_task_steps` found it in another of the same
        // type, and stays there.
        ptr::NonNull::new(unsafe { *self.callable.as_ptr().byte_add(place).cast() })
    }

    /// What stands for the name of the task whose step it is (a string, or the number that makes it `Task-7`), for a
    /// [`Job::Step`], without asking Python, if that can be done. Borrowed from the task.
    #[inline]
    pub fn name_of_task(&self, py: Python<'_>) -> Option<ptr::NonNull<ffi::PyObject>> {
        let place = places(py)?.name_of_task?;
        // SAFETY: a step is one of a task of C, or of a class derived from it; there the name has its place, and always
        // is a string or an integer.
        ptr::NonNull::new(unsafe { *self.known_task(py)?.as_ptr().byte_add(place).cast() })
    }

    /// The qualified name of its coroutine, likewise, if that is one of Python's.
    #[inline]
    pub fn coroutine_name(&self, py: Python<'_>) -> Option<ptr::NonNull<ffi::PyObject>> {
        let places = places(py)?;
        let (in_task, in_coroutine) = (places.coroutine_of_task?, places.name_of_coroutine?);
        // SAFETY: as above; the coroutine is of the type in which its name's place was found.
        unsafe {
            let coroutine: *mut ffi::PyObject = *self.known_task(py)?.as_ptr().byte_add(in_task).cast();
            let is_plain = !coroutine.is_null() && ffi::Py_TYPE(coroutine) == &raw mut ffi::PyCoro_Type;
            is_plain.then(|| ptr::NonNull::new(*coroutine.byte_add(in_coroutine).cast())).flatten()
        }
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
