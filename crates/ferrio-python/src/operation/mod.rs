//! `Operation`: the coroutine that a native `async` method returns (`Lock.acquire()`, `Queue.get()`).
//!
//! It is a coroutine without a frame: a state machine of one function, its [`Kind`]'s `step`, which either returns or
//! names what it awaits next. What completes at once therefore costs one small object and no trip through the loop.
//! What must wait does so as asyncio's own primitives do, on a future of the running loop, so that it works on every
//! loop and with every task, is cancelled like them, and is seen by the same tools.
//!
//! A raw type, because one is made per `await`: its fields lie in the object and freed ones are kept for the next call.
//! How it is driven is in [`driving`], the class in [`object`]. (`awaitable/` has the other kind of native coroutine: a Rust
//! future polled on ferrio's own loop.)

mod done;
mod driving;
mod object;

use std::mem;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pub use self::done::done;
pub use self::driving::iterator;
use self::object::make_type;
use crate::ffi::spare::Spares;

/// One native coroutine function: what it is called and what it does.
pub struct Kind {
    /// `Lock.acquire`: what a repr and a warning call it.
    pub name: &'static str,
    /// Runs until the next await or the end.
    pub step: fn(&Running<'_>, Event) -> Outcome,
}

/// Why a step runs.
pub enum Event {
    /// It is awaited for the first time.
    Begin,
    /// What it awaited is over, with a result.
    Result,
    /// What it awaited has failed, or an exception was thrown in: cancellation, mostly.
    Error(PyErr),
}

/// What a step comes to.
pub enum Step {
    /// The coroutine is over: its result.
    Return(Py<PyAny>),
    /// It awaits this: a future, a coroutine, anything awaitable.
    Await(Py<PyAny>),
}

/// An `Err` is what the coroutine raises.
pub type Outcome = PyResult<Step>;

impl Step {
    /// The coroutine returns None.
    #[inline]
    pub fn done(py: Python<'_>) -> Outcome {
        Ok(Step::Return(py.None()))
    }
}

/// The operation whose step runs.
pub struct Running<'py> {
    py: Python<'py>,
    object: *mut OperationObject,
}

impl<'py> Running<'py> {
    #[inline]
    pub fn py(&self) -> Python<'py> {
        self.py
    }

    /// The object whose method was called.
    #[inline]
    pub fn subject<T>(&self) -> &Bound<'py, T> {
        // SAFETY: `new` was given a `Bound<T>` by the method of `T` that this kind belongs to, and the operation holds
        // it until it is over.
        unsafe { Bound::ref_from_ptr(self.py, &(*self.object).subject).cast_unchecked::<T>() }
    }

    /// What the method was given, or whatever the last step has put here.
    #[inline]
    pub fn item(&self) -> Option<Bound<'py, PyAny>> {
        // SAFETY: null or an owned reference.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.py, (*self.object).item) }
    }

    /// Keeps something for the next step.
    pub fn set_item(&self, item: Option<Bound<'py, PyAny>>) {
        let item = item.map_or(ptr::null_mut(), Bound::into_ptr);
        // SAFETY: the field owns its reference, which is released after it is out of it.
        unsafe { ffi::Py_XDECREF(mem::replace(&mut (*self.object).item, item)) };
    }

    /// Where the steps have got to; 0 at first.
    #[inline]
    pub fn phase(&self) -> u8 {
        // SAFETY: a living operation.
        unsafe { (*self.object).phase }
    }

    #[inline]
    pub fn set_phase(&self, phase: u8) {
        // SAFETY: a living operation.
        unsafe { (*self.object).phase = phase };
    }
}

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum State {
    Fresh,
    Waits,
    Runs,
    Over,
}

#[repr(C)]
struct OperationObject {
    head: ffi::PyObject,
    weak_references: *mut ffi::PyObject,
    kind: &'static Kind,
    subject: *mut ffi::PyObject,
    item: *mut ffi::PyObject,
    /// The iterator of what is awaited; null unless it waits.
    awaited: *mut ffi::PyObject,
    phase: u8,
    state: State,
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static SPARES: Spares = Spares::new(256);

/// An operation on `subject`, not begun.
#[inline]
pub fn new<'py, T>(
    subject: &Bound<'py, T>,
    kind: &'static Kind,
    item: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = subject.py();
    let class = TYPE.get_or_try_init(py, || make_type(py))?;
    // SAFETY: a spare one is an empty object of this very type; a fresh one has zeroed fields. Every field is set
    // before anybody sees the object, and each owns its reference.
    unsafe {
        let object = match SPARES.take(py) {
            Some(object) => {
                ffi::PyObject_GC_Track(object.cast());
                object
            }
            None => ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0),
        };
        let owner = Bound::from_owned_ptr_or_err(py, object)?;
        let object = object.cast::<OperationObject>();
        (*object).kind = kind;
        (*object).subject = subject.clone().into_ptr();
        (*object).item = item.map_or(ptr::null_mut(), Bound::into_ptr);
        (*object).phase = 0;
        (*object).state = State::Fresh;
        Ok(owner)
    }
}

/// The class, for the module.
pub fn class(py: Python<'_>) -> PyResult<Py<PyType>> {
    Ok(TYPE.get_or_try_init(py, || make_type(py))?.clone_ref(py))
}
