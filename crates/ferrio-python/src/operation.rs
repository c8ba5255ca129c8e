//! `Operation`: the coroutine that a native `async` method returns (`Lock.acquire()`, `Queue.get()`).
//!
//! It is a coroutine without a frame: a state machine of one function, its [`Kind`]'s `step`, which either returns or
//! names what it awaits next. What completes at once therefore costs one small object and no trip through the loop.
//! What must wait does so as asyncio's own primitives do, on a future of the running loop, so that it works on every
//! loop and with every task, is cancelled like them, and is seen by the same tools.
//!
//! A raw type, because one is made per `await`: its fields lie in the object and freed ones are kept for the next call.
//! (`awaitable.rs` has the other kind of native coroutine: a Rust future polled on ferrio's own loop.)

use std::ffi::{CStr, c_int, c_void};
use std::mem;
use std::ptr;

use pyo3::exceptions::{
    PyBaseException, PyGeneratorExit, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::ffi::error;
use crate::ffi::for_ever::for_ever;
use crate::ffi::method::{Arguments, guarded};
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

// --- one step ------------------------------------------------------------------------------------------------------

/// What the one who drives the coroutine gets.
enum Sent<'py> {
    Yields(Bound<'py, PyAny>),
    Returns(Py<PyAny>),
}

/// Goes on from `event` until something must be waited for or the coroutine is over.
fn drive<'py>(py: Python<'py>, object: *mut OperationObject, mut event: Event) -> PyResult<Sent<'py>> {
    // SAFETY: a living operation, which the caller holds.
    unsafe {
        (*object).state = State::Runs;
        loop {
            let outcome = ((*object).kind.step)(&Running { py, object }, event);
            let awaited = match outcome {
                Ok(Step::Await(awaited)) => awaited,
                Ok(Step::Return(value)) => {
                    end(object);
                    return Ok(Sent::Returns(value));
                }
                Err(error) => {
                    end(object);
                    return Err(error);
                }
            };
            event = match iterator(awaited.bind(py)) {
                Err(error) => Event::Error(error),
                Ok(iterator) => {
                    (*object).awaited = iterator.into_ptr();
                    match send(py, object, ffi::Py_None()) {
                        Ok(Sent::Yields(value)) => return Ok(Sent::Yields(value)),
                        Ok(Sent::Returns(_)) => Event::Result,
                        Err(error) => Event::Error(error),
                    }
                }
            };
        }
    }
}

/// What `await` iterates over.
pub fn iterator<'py>(awaited: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = awaited.py();
    // SAFETY: a living object; a type's slots are null or functions of the declared kind.
    unsafe {
        let slots = (*ffi::Py_TYPE(awaited.as_ptr())).tp_as_async;
        match slots.as_ref().and_then(|slots| slots.am_await) {
            Some(am_await) => Bound::from_owned_ptr_or_err(py, am_await(awaited.as_ptr())),
            None => awaited.call_method0(intern!(py, "__await__")),
        }
    }
}

/// Sends `value` to what is awaited. Unless that yields, the operation awaits nothing any more.
///
/// # Safety
/// `object` is a living operation that awaits something, `value` a borrowed reference.
unsafe fn send<'py>(py: Python<'py>, object: *mut OperationObject, value: *mut ffi::PyObject) -> PyResult<Sent<'py>> {
    // SAFETY: as the caller promises; the result is new, or null with an error set.
    unsafe {
        let mut result = ptr::null_mut();
        match ffi::PyIter_Send((*object).awaited, value, &mut result) {
            ffi::PySendResult::PYGEN_NEXT => {
                (*object).state = State::Waits;
                Ok(Sent::Yields(Bound::from_owned_ptr(py, result)))
            }
            ffi::PySendResult::PYGEN_RETURN => {
                ffi::Py_CLEAR(&mut (*object).awaited);
                Ok(Sent::Returns(Bound::from_owned_ptr(py, result).unbind()))
            }
            ffi::PySendResult::PYGEN_ERROR => {
                let error = error::take(py);
                ffi::Py_CLEAR(&mut (*object).awaited);
                Err(error)
            }
        }
    }
}

/// The coroutine is over: it keeps nothing alive.
///
/// # Safety
/// `object` is a living operation.
unsafe fn end(object: *mut OperationObject) {
    // SAFETY: as above; each field is emptied before its reference is released.
    unsafe {
        (*object).state = State::Over;
        ffi::Py_CLEAR(&mut (*object).awaited);
        ffi::Py_CLEAR(&mut (*object).item);
        ffi::Py_CLEAR(&mut (*object).subject);
    }
}

/// `coroutine.send(value)`.
///
/// # Safety
/// `object` is a living operation, `value` a borrowed reference.
#[inline]
unsafe fn resume<'py>(py: Python<'py>, object: *mut OperationObject, value: *mut ffi::PyObject) -> PyResult<Sent<'py>> {
    // SAFETY: as the caller promises.
    unsafe {
        match (*object).state {
            State::Fresh if value != ffi::Py_None() => {
                Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"))
            }
            State::Fresh => drive(py, object, Event::Begin),
            State::Waits => {
                (*object).state = State::Runs;
                match send(py, object, value) {
                    Ok(Sent::Yields(value)) => Ok(Sent::Yields(value)),
                    Ok(Sent::Returns(_)) => drive(py, object, Event::Result),
                    Err(error) => drive(py, object, Event::Error(error)),
                }
            }
            state => Err(refuse(state)),
        }
    }
}

#[cold]
fn refuse(state: State) -> PyErr {
    if state == State::Runs {
        PyValueError::new_err("coroutine already executing")
    } else {
        PyRuntimeError::new_err("cannot reuse already awaited coroutine")
    }
}

/// `coroutine.throw(error)`: to what is awaited first, as `await` does.
///
/// # Safety
/// `object` is a living operation.
unsafe fn throw<'py>(py: Python<'py>, object: *mut OperationObject, thrown: PyErr) -> PyResult<Sent<'py>> {
    // SAFETY: as the caller promises.
    unsafe {
        match (*object).state {
            State::Fresh => {
                end(object);
                Err(thrown)
            }
            State::Waits => {
                (*object).state = State::Runs;
                let awaited = Bound::<PyAny>::from_borrowed_ptr(py, (*object).awaited);
                if thrown.is_instance_of::<PyGeneratorExit>(py) {
                    let closed = close_awaited(&awaited);
                    ffi::Py_CLEAR(&mut (*object).awaited);
                    return drive(py, object, Event::Error(closed.err().unwrap_or(thrown)));
                }
                let outcome = match awaited.getattr_opt(intern!(py, "throw")) {
                    Ok(Some(throw)) => throw.call1((thrown.value(py),)),
                    Ok(None) => Err(thrown),
                    Err(error) => Err(error),
                };
                match outcome {
                    Ok(value) => {
                        (*object).state = State::Waits;
                        Ok(Sent::Yields(value))
                    }
                    Err(error) => {
                        ffi::Py_CLEAR(&mut (*object).awaited);
                        let is_over = error.is_instance_of::<PyStopIteration>(py);
                        let event = if is_over { Event::Result } else { Event::Error(error) };
                        drive(py, object, event)
                    }
                }
            }
            state => Err(refuse(state)),
        }
    }
}

fn close_awaited(awaited: &Bound<'_, PyAny>) -> PyResult<()> {
    let close = awaited.getattr_opt(intern!(awaited.py(), "close"))?;
    close.map_or(Ok(()), |close| close.call0().map(drop))
}

/// `coroutine.close()`.
///
/// # Safety
/// `object` is a living operation.
unsafe fn close(py: Python<'_>, object: *mut OperationObject) -> PyResult<()> {
    // SAFETY: as the caller promises.
    unsafe {
        match (*object).state {
            State::Fresh => end(object),
            State::Over => {}
            State::Runs => return Err(refuse(State::Runs)),
            State::Waits => match throw(py, object, PyGeneratorExit::new_err(())) {
                Ok(Sent::Returns(_)) => {}
                Ok(Sent::Yields(_)) => return Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
                Err(error) if error.is_instance_of::<PyGeneratorExit>(py) => {}
                Err(error) => return Err(error),
            },
        }
    }
    Ok(())
}

// --- the type ------------------------------------------------------------------------------------------------------

/// `await` of an operation, and `send` of a C Task.
unsafe extern "C" fn slot_send(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let mut returned = false;
    let sent = guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        match unsafe { resume(py, object.cast(), value) }? {
            Sent::Yields(value) => Ok(value.into_ptr()),
            Sent::Returns(value) => {
                returned = true;
                Ok(value.into_ptr())
            }
        }
    });
    // SAFETY: the interpreter gives room for the result.
    unsafe { *result = sent };
    match sent.is_null() {
        true => ffi::PySendResult::PYGEN_ERROR,
        false if returned => ffi::PySendResult::PYGEN_RETURN,
        false => ffi::PySendResult::PYGEN_NEXT,
    }
}

unsafe extern "C" fn slot_next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        match unsafe { resume(py, object.cast(), ffi::Py_None()) }? {
            Sent::Yields(value) => Ok(value.into_ptr()),
            // Null without an error stands for the end with None.
            Sent::Returns(value) if value.is_none(py) => Ok(ptr::null_mut()),
            // A tuple or an exception would be taken for StopIteration's arguments or for it itself.
            Sent::Returns(value)
                if value.bind(py).is_instance_of::<PyTuple>() || value.bind(py).is_instance_of::<PyBaseException>() =>
            {
                Err(PyStopIteration::new_err((value,)))
            }
            Sent::Returns(value) => {
                // SAFETY: attached; both are living objects.
                unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
                Ok(ptr::null_mut())
            }
        }
    })
}

unsafe extern "C" fn slot_itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a living object.
    unsafe { ffi::Py_NewRef(object) }
}

/// As a method must return it: StopIteration is an error.
fn as_call(sent: Sent<'_>) -> PyResult<*mut ffi::PyObject> {
    match sent {
        Sent::Yields(value) => Ok(value.into_ptr()),
        Sent::Returns(value) => Err(PyStopIteration::new_err((value,))),
    }
}

unsafe extern "C" fn method_send(object: *mut ffi::PyObject, value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a living operation and a borrowed argument.
    guarded(|py| unsafe { resume(py, object.cast(), value).and_then(as_call) })
}

unsafe extern "C" fn method_throw(
    object: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the arguments of this very call; the values are borrowed references.
        unsafe {
            let arguments = Arguments::new(py, values, count, names);
            let given = |index: usize| {
                let value = arguments.positional().get(index);
                value.map(|value| Bound::<PyAny>::from_borrowed_ptr(py, *value)).filter(|value| !value.is_none())
            };
            let Some(kind) = given(0) else {
                return Err(PyTypeError::new_err("throw() takes an exception, or its type and value"));
            };
            let thrown = match given(1) {
                Some(value) if value.is_instance_of::<PyBaseException>() => PyErr::from_value(value),
                Some(value) => PyErr::from_value(kind.call1((value,))?),
                None => PyErr::from_value(kind),
            };
            if let Some(traceback) = given(2) {
                thrown.set_traceback(py, Some(traceback.cast_into()?));
            }
            throw(py, object.cast(), thrown).and_then(as_call)
        }
    })
}

unsafe extern "C" fn method_close(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a living operation.
    guarded(|py| unsafe { close(py, object.cast()).map(|()| py.None().into_ptr()) })
}

unsafe extern "C" fn attribute(object: *mut ffi::PyObject, which: *mut c_void) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        let name = unsafe { (*object.cast::<OperationObject>()).kind.name };
        let name = if which.is_null() { name.rsplit('.').next().unwrap_or(name) } else { name };
        Ok(name.into_pyobject(py)?.into_any().into_ptr())
    })
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: called by the interpreter with a living operation.
        let name = unsafe { (*object.cast::<OperationObject>()).kind.name };
        Ok(format!("<coroutine object {name} at {object:p}>").into_pyobject(py)?.into_any().into_ptr())
    })
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, data: *mut c_void) -> c_int {
    let operation = object.cast::<OperationObject>();
    // SAFETY: called by the collector with a living operation; every non-null field is an owned reference.
    unsafe {
        for reference in [ffi::Py_TYPE(object).cast(), (*operation).subject, (*operation).item, (*operation).awaited] {
            if !reference.is_null() {
                let stop = visit(reference, data);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: called by the collector with a living operation that nobody will use again.
    unsafe { end(object.cast()) };
    0
}

/// What a coroutine does that is dropped: one that waits runs its clean-up, one that was never awaited warns.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    let operation = object.cast::<OperationObject>();
    let finalize = |py: Python<'_>| {
        let saved = error::save(py);
        // SAFETY: called with a living operation; the error that may be set survives.
        let outcome = match unsafe { (*operation).state } {
            State::Fresh => {
                // SAFETY: as above.
                let message = format!("coroutine '{}' was never awaited\0", unsafe { (*operation).kind.name });
                let message = CStr::from_bytes_until_nul(message.as_bytes()).unwrap_or_default();
                PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), message, 1)
            }
            // SAFETY: as above.
            _ => unsafe { close(py, operation) },
        };
        if let Err(error) = outcome {
            error.write_unraisable(py, None);
        }
        saved.restore(py);
    };
    // SAFETY: called by the interpreter, which is running and attached.
    unsafe { Python::attach_unchecked(finalize) }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    let operation = object.cast::<OperationObject>();
    // SAFETY: the last reference is gone. Only one that ended by itself is kept as a spare: the collector remembers
    // of a finalized object that it was.
    unsafe {
        let ended = (*operation).state == State::Over;
        if !ended && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        if !(*operation).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        end(operation);
        let class = ffi::Py_TYPE(object);
        if !(ended && SPARES.keep_dead(object)) {
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

fn make_type(py: Python<'_>) -> PyResult<Py<PyType>> {
    const fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
        ffi::PyType_Slot { slot, pfunc }
    }
    const fn method(
        name: &'static CStr,
        ml_meth: ffi::PyMethodDefPointer,
        ml_flags: c_int,
        doc: &'static CStr,
    ) -> ffi::PyMethodDef {
        ffi::PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags, ml_doc: doc.as_ptr() }
    }
    const fn getter(name: &'static CStr, which: usize) -> ffi::PyGetSetDef {
        let closure = which as *mut c_void;
        ffi::PyGetSetDef { name: name.as_ptr(), get: Some(attribute), set: None, doc: ptr::null(), closure }
    }
    // The definitions live as long as the type: for ever.
    let methods = for_ever([
        method(
            c"send",
            ffi::PyMethodDefPointer { PyCFunction: method_send },
            ffi::METH_O,
            c"send($self, value, /)\n--\n\nGo on until the next await or the end.",
        ),
        method(
            c"throw",
            ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method_throw },
            ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            c"Raise an exception where the coroutine waits.",
        ),
        method(
            c"close",
            ffi::PyMethodDefPointer { PyCFunction: method_close },
            ffi::METH_NOARGS,
            c"close($self, /)\n--\n\nEnd the coroutine where it waits.",
        ),
        ffi::PyMethodDef::zeroed(),
    ]);
    let getters = for_ever([getter(c"__name__", 0), getter(c"__qualname__", 1), ffi::PyGetSetDef::default()]);
    // For who looks at what a task waits for: a coroutine with a frame would show it there.
    const fn reference(name: &'static CStr, offset: usize) -> ffi::PyMemberDef {
        ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_OBJECT_EX,
            offset: offset as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        }
    }
    let members = for_ever([
        reference(c"_subject", mem::offset_of!(OperationObject, subject)),
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: mem::offset_of!(OperationObject, weak_references) as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        },
        ffi::PyMemberDef::default(),
    ]);
    let mut slots = [
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_iter, slot_itself as *mut c_void),
        slot(ffi::Py_tp_iternext, slot_next as *mut c_void),
        slot(ffi::Py_am_await, slot_itself as *mut c_void),
        slot(ffi::Py_am_send, slot_send as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getters.as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_doc, c"What a native coroutine method returns.".as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: c"ferrio.Operation".as_ptr(),
        basicsize: size_of::<OperationObject>() as c_int,
        itemsize: 0,
        flags: flags as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and ends with an empty slot.
    let class = unsafe { Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))? };
    py.import("collections.abc")?.getattr("Coroutine")?.call_method1("register", (&class,))?;
    Ok(class.cast_into::<PyType>()?.unbind())
}

// --- nothing to wait for -------------------------------------------------------------------------------------------

/// An awaitable that is over at once and returns None; there is one of it. For `async with` when there is nothing to
/// wait for: nobody sees the object that lies between `__aenter__` and `await`.
pub fn done(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    DONE.get_or_try_init(py, || make_done(py)).map(|done| done.bind(py).clone())
}

fn make_done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    unsafe extern "C" fn next(_: *mut ffi::PyObject) -> *mut ffi::PyObject {
        // Null without an error stands for the end with None.
        ptr::null_mut()
    }
    unsafe extern "C" fn send(
        _: *mut ffi::PyObject,
        _: *mut ffi::PyObject,
        result: *mut *mut ffi::PyObject,
    ) -> ffi::PySendResult {
        // SAFETY: the interpreter gives room for the result.
        unsafe { *result = ffi::Py_NewRef(ffi::Py_None()) };
        ffi::PySendResult::PYGEN_RETURN
    }
    let mut slots = [
        ffi::PyType_Slot { slot: ffi::Py_tp_iter, pfunc: slot_itself as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_tp_iternext, pfunc: next as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_am_await, pfunc: slot_itself as *mut c_void },
        ffi::PyType_Slot { slot: ffi::Py_am_send, pfunc: send as *mut c_void },
        ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"ferrio.Done".as_ptr(),
        basicsize: size_of::<ffi::PyObject>() as c_int,
        itemsize: 0,
        flags: ffi::Py_TPFLAGS_DEFAULT as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec is complete and ends with an empty slot; the type adds no field to an object's head.
    unsafe {
        let class = Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&mut spec))?;
        Ok(Bound::<PyAny>::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0))?.unbind())
    }
}

/// The class, for the module.
pub fn class(py: Python<'_>) -> PyResult<Py<PyType>> {
    Ok(TYPE.get_or_try_init(py, || make_type(py))?.clone_ref(py))
}
