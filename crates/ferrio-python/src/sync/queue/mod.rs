//! `Queue`, `LifoQueue`, `PriorityQueue`.
//!
//! What users' subclasses may change (`_init`, `_put`, `_get`, `full`, `put_nowait`, …) is asyncio's own code wherever a
//! class has changed something; then it runs on the attributes (`attributes.rs`), which have asyncio's names.

mod attributes;

use std::ops::Deref;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString, PyType};

use super::deque::Deque;
use super::event::Event;
use super::futures::is_cancelled;
use super::waiters::{OwnLoop, Waiters, join, truth};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{install_noargs, install_onearg, noargs, onearg};
use crate::imports::imports;
use crate::operation::{self, Event as Happens, Kind, Outcome, Running, Step};

/// The native half of `ferrio.Queue`, `ferrio.LifoQueue` and `ferrio.PriorityQueue`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Queue {
    own_loop: OwnLoop,
    state: Guarded<State>,
    getters: Waiters,
    putters: Waiters,
    order: Order,
    /// A subclass has its own versions of methods that must be called.
    by_methods: bool,
}

/// Which item comes next.
#[derive(Clone, Copy)]
enum Order {
    Oldest,
    Newest,
    Least,
}

#[derive(Default)]
struct State {
    items: Items,
    room: Room,
    unfinished: i64,
    /// The Event of `join()`, if somebody has asked for it, and what it says.
    finished: Option<Py<Event>>,
    is_finished: bool,
    is_shutdown: bool,
}

/// `_queue`.
#[derive(Default)]
enum Items {
    #[default]
    None,
    Deque(Deque),
    List(Py<PyList>),
    /// What a subclass or a program has put there.
    Other(Py<PyAny>),
}

/// `_maxsize`.
enum Room {
    /// Zero or less.
    Endless(i64),
    For(usize),
    /// Whatever it is that was given, and not a plain number.
    Odd(Py<PyAny>),
}

impl Default for Room {
    fn default() -> Self {
        Room::Endless(0)
    }
}

/// A further reference to what holds the items, for as long as Python code may run. Its end costs no look at whether the
/// thread is attached.
struct Held<'py> {
    items: Items,
    py: Python<'py>,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        match std::mem::take(&mut self.items) {
            Items::None => {}
            Items::Deque(deque) => drop(deque.into_bound(self.py)),
            Items::List(list) => drop(list.into_bound(self.py)),
            Items::Other(other) => drop(other.into_bound(self.py)),
        }
    }
}

impl Deref for Held<'_> {
    type Target = Items;

    #[inline]
    fn deref(&self) -> &Items {
        &self.items
    }
}

impl Items {
    #[inline]
    fn hold<'py>(&self, py: Python<'py>) -> Held<'py> {
        let items = match self {
            Items::None => Items::None,
            Items::Deque(deque) => Items::Deque(deque.clone_ref(py)),
            Items::List(list) => Items::List(list.clone_ref(py)),
            Items::Other(other) => Items::Other(other.clone_ref(py)),
        };
        Held { items, py }
    }

    fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Items::None => None,
            Items::Deque(deque) => Some(deque.bind(py).clone()),
            Items::List(list) => Some(list.bind(py).clone().into_any()),
            Items::Other(other) => Some(other.bind(py).clone()),
        }
    }

    /// How many there are, if we know how they are kept.
    #[inline]
    fn len(&self, py: Python<'_>) -> Option<usize> {
        match self {
            Items::Deque(deque) => Some(deque.len()),
            Items::List(list) => Some(list.bind(py).len()),
            _ => None,
        }
    }
}

static GET: Kind = Kind { name: "Queue.get", step: wait_to_get };
static PUT: Kind = Kind { name: "Queue.put", step: wait_to_put };

/// Waits until there is an item.
fn wait_to_get(running: &Running<'_>, event: Happens) -> Outcome {
    let this = running.subject::<Queue>();
    let queue = this.get();
    match event {
        Happens::Begin | Happens::Result => match Queue::is_empty(this)? {
            true => queue.join(running, &queue.getters),
            false => Step::done(running.py()),
        },
        Happens::Error(error) => {
            Queue::leave(running, &queue.getters, intern!(this.py(), "_getters"), Queue::is_empty)?;
            Err(error)
        }
    }
}

/// Waits until there is room.
fn wait_to_put(running: &Running<'_>, event: Happens) -> Outcome {
    let this = running.subject::<Queue>();
    let queue = this.get();
    match event {
        Happens::Begin | Happens::Result => match Queue::is_full(this)? {
            true => queue.join(running, &queue.putters),
            false => Step::done(running.py()),
        },
        Happens::Error(error) => {
            Queue::leave(running, &queue.putters, intern!(this.py(), "_putters"), Queue::is_full)?;
            Err(error)
        }
    }
}

impl Queue {
    /// Its turn to wait.
    fn join(&self, running: &Running<'_>, waiters: &Waiters) -> Outcome {
        let py = running.py();
        if self.state.with(py, |state| state.is_shutdown) {
            return Err(shut_down(py));
        }
        join(running, running.subject::<Queue>(), &self.own_loop, waiters)
    }

    /// The one whose step runs has failed, been cancelled mostly: if somebody had woken it, the next one is woken.
    fn leave<'py>(
        running: &Running<'py>,
        waiters: &Waiters,
        name: &Bound<'py, PyString>,
        must_wait: fn(&Bound<'_, Self>) -> PyResult<bool>,
    ) -> PyResult<()> {
        let py = running.py();
        let this = running.subject::<Queue>();
        let Some(waiter) = running.item() else { return Ok(()) };
        waiter.call_method0(intern!(py, "cancel"))?;
        match waiters.remove(&waiter) {
            // The one who woke it has taken it out.
            Err(error) if error.is_instance_of::<PyValueError>(py) => {}
            other => other?,
        }
        if must_wait(this)? || is_cancelled(&waiter)? {
            return Ok(());
        }
        if this.get().by_methods {
            this.call_method1(intern!(py, "_wakeup_next"), (this.getattr(name)?,)).map(drop)
        } else {
            waiters.wake_next(py)
        }
    }

    /// Calls asyncio's own version of a method, which does everything by methods and attributes.
    #[cold]
    fn original<'py>(
        this: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
        argument: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let method = this.getattr(intern!(this.py(), "_stands_for"))?.getattr(name)?;
        match argument {
            Some(argument) => method.call1((this, argument)),
            None => method.call1((this,)),
        }
    }

    /// How many items there are; None if asyncio's code must see to that.
    #[inline]
    fn plain_len(&self, py: Python<'_>) -> Option<usize> {
        if self.by_methods { None } else { self.state.with(py, |state| state.items.len(py)) }
    }

    fn is_empty(this: &Bound<'_, Self>) -> PyResult<bool> {
        match this.get().plain_len(this.py()) {
            Some(length) => Ok(length == 0),
            None => this.call_method0(intern!(this.py(), "empty"))?.is_truthy(),
        }
    }

    fn is_full(this: &Bound<'_, Self>) -> PyResult<bool> {
        match this.get().plain_is_full(this.py()) {
            Some(is_full) => Ok(is_full),
            None => this.call_method0(intern!(this.py(), "full"))?.is_truthy(),
        }
    }

    /// Whether there is no room; None if asyncio's code must see to that.
    #[inline]
    fn plain_is_full(&self, py: Python<'_>) -> Option<bool> {
        if self.by_methods {
            return None;
        }
        self.state.with(py, |state| match state.room {
            Room::Endless(_) => Some(false),
            Room::For(most) => state.items.len(py).map(|length| length >= most),
            Room::Odd(_) => None,
        })
    }

    #[inline]
    fn items<'py>(&self, py: Python<'py>) -> Held<'py> {
        self.state.with(py, |state| state.items.hold(py))
    }

    /// `_put()`.
    #[inline]
    fn store<'py>(this: &Bound<'py, Self>, items: &Items, item: Bound<'py, PyAny>) -> PyResult<()> {
        let py = this.py();
        match (items, this.get().order) {
            (Items::Deque(deque), Order::Oldest) => deque.append(&item),
            (Items::List(list), Order::Newest) => list.bind(py).append(item),
            (Items::List(list), Order::Least) => imports(py)?.heappush.bind(py).call1((list, item)).map(drop),
            _ => Queue::original(this, intern!(py, "_put"), Some(item)).map(drop),
        }
    }

    /// `_get()`.
    #[inline]
    fn fetch<'py>(this: &Bound<'py, Self>, items: &Items) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        match (items, this.get().order) {
            (Items::Deque(deque), Order::Oldest) => deque.popleft(py),
            (Items::List(list), Order::Newest) if !list.bind(py).is_empty() => {
                let last = list.bind(py).len() - 1;
                let item = list.bind(py).get_item(last)?;
                list.bind(py).del_item(last)?;
                Ok(item)
            }
            (Items::List(list), Order::Least) => imports(py)?.heappop.bind(py).call1((list,)),
            _ => Queue::original(this, intern!(py, "_get"), None),
        }
    }

    /// Puts the item there unless it must wait. Whether it is there.
    #[inline]
    fn try_put<'py>(this: &Bound<'py, Self>, item: Bound<'py, PyAny>) -> PyResult<bool> {
        let py = this.py();
        let queue = this.get();
        if queue.plain_is_full(py) != Some(false) {
            return Ok(false);
        }
        let (items, is_shutdown) = queue.state.with(py, |state| (state.items.hold(py), state.is_shutdown));
        if is_shutdown {
            return Err(shut_down(py));
        }
        Queue::store(this, &items, item)?;
        queue.state.with(py, |state| {
            state.unfinished += 1;
            state.is_finished = false;
            if let Some(finished) = &state.finished {
                finished.get().write(py, false);
            }
        });
        if !queue.getters.is_empty(py) {
            queue.getters.wake_next(py)?;
        }
        Ok(true)
    }

    /// Takes the next item unless it must wait.
    #[inline]
    fn try_get<'py>(this: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let queue = this.get();
        if queue.by_methods {
            return Ok(None);
        }
        let items = queue.items(py);
        if matches!(items.len(py), None | Some(0)) {
            return Ok(None);
        }
        let item = Queue::fetch(this, &items)?;
        if !queue.putters.is_empty(py) {
            queue.putters.wake_next(py)?;
        }
        Ok(Some(item))
    }

    /// `put_nowait(item)`: None, or QueueFull, or QueueShutDown.
    pub fn put_nowait<'py>(this: &Bound<'py, Self>, item: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let queue = this.get();
        if Queue::try_put(this, item.clone())? {
            return Ok(py.None().into_bound(py));
        }
        if queue.state.with(py, |state| state.is_shutdown) {
            return Err(shut_down(py));
        }
        match queue.plain_is_full(py) {
            Some(true) => Err(PyErr::from_type(QueueErrors::get(py)?.full.bind(py).clone(), ())),
            _ => Queue::original(this, intern!(py, "put_nowait"), Some(item)),
        }
    }

    fn get_nowait<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let queue = this.get();
        if let Some(item) = Queue::try_get(this)? {
            return Ok(item);
        }
        if queue.state.with(py, |state| state.is_shutdown) && Queue::is_empty(this)? {
            return Err(shut_down(py));
        }
        match queue.plain_len(py) {
            Some(0) => Err(PyErr::from_type(QueueErrors::get(py)?.empty.bind(py).clone(), ())),
            _ => Queue::original(this, intern!(py, "get_nowait"), None),
        }
    }

    fn task_done<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let queue = this.get();
        let finished = queue.state.with(py, |state| {
            if state.unfinished <= 0 {
                return Err(PyValueError::new_err("task_done() called too many times"));
            }
            state.unfinished -= 1;
            if state.unfinished > 0 {
                return Ok(None);
            }
            state.is_finished = true;
            Ok(state.finished.as_ref().map(|finished| finished.clone_ref(py)))
        })?;
        if let Some(finished) = finished {
            finished.get().set(py)?;
        }
        Ok(py.None().into_bound(py))
    }
}

#[cold]
fn shut_down(py: Python<'_>) -> PyErr {
    match QueueErrors::get(py) {
        Ok(errors) => PyErr::from_type(errors.shut_down.bind(py).clone(), ()),
        Err(error) => error,
    }
}

/// asyncio's exceptions. (Before 3.13 it has no QueueShutDown, so that one is ours.)
struct QueueErrors {
    empty: Py<PyType>,
    full: Py<PyType>,
    shut_down: Py<PyType>,
}

impl QueueErrors {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static ERRORS: PyOnceLock<QueueErrors> = PyOnceLock::new();
        ERRORS.get_or_try_init(py, || {
            let module = py.import("ferrio.queues")?;
            let get = |name| -> PyResult<_> { Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind()) };
            Ok(QueueErrors { empty: get("QueueEmpty")?, full: get("QueueFull")?, shut_down: get("QueueShutDown")? })
        })
    }
}

/// What `_try_get()` returns if there is nothing.
pub fn nothing(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static NOTHING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let nothing = NOTHING.get_or_try_init(py, || py.get_type::<PyAny>().call0().map(Bound::unbind))?;
    Ok(nothing.bind(py).clone())
}

/// The methods that are called all the time.
pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Queue>();
    install_onearg(
        &class,
        c"put_nowait",
        c"put_nowait($self, item, /)\n--\n\nPut an item in.\n\n\
          :raises QueueFull: if there is no room.\n:raises QueueShutDown: after shutdown().",
        onearg!(Queue, Queue::put_nowait),
    )?;
    install_noargs(
        &class,
        c"get_nowait",
        c"get_nowait($self, /)\n--\n\nTake the next item out.\n\n\
          :raises QueueEmpty: if there is none.\n:raises QueueShutDown: if there is none after shutdown().",
        noargs!(Queue, Queue::get_nowait),
    )?;
    install_onearg(
        &class,
        c"_try_put",
        c"",
        onearg!(Queue, |this, item| Ok(truth(this.py(), Queue::try_put(this, item)?))),
    )?;
    install_noargs(
        &class,
        c"_try_get",
        c"",
        noargs!(Queue, |this| Queue::try_get(this)?.map_or_else(|| nothing(this.py()), Ok)),
    )?;
    install_noargs(&class, c"_wait_to_put", c"", noargs!(Queue, |this| operation::new(this, &PUT, None)))?;
    install_noargs(&class, c"_wait_to_get", c"", noargs!(Queue, |this| operation::new(this, &GET, None)))?;
    install_noargs(
        &class,
        c"task_done",
        c"task_done($self, /)\n--\n\nWhat was once put in is worked off; after the last one join() returns.\n\n\
          :raises ValueError: if it is called more often than put().",
        noargs!(Queue, Queue::task_done),
    )?;
    install_noargs(
        &class,
        c"qsize",
        c"qsize($self, /)\n--\n\nHow many items are there.",
        noargs!(Queue, |this| match this.get().plain_len(this.py()) {
            Some(length) => Ok(length.into_pyobject(this.py())?.into_any()),
            None => Queue::original(this, intern!(this.py(), "qsize"), None),
        }),
    )?;
    install_noargs(
        &class,
        c"empty",
        c"empty($self, /)\n--\n\nWhether there is no item.",
        noargs!(Queue, |this| match this.get().plain_len(this.py()) {
            Some(length) => Ok(truth(this.py(), length == 0)),
            None => Queue::original(this, intern!(this.py(), "empty"), None),
        }),
    )?;
    install_noargs(
        &class,
        c"full",
        c"full($self, /)\n--\n\nWhether there is no room.",
        noargs!(Queue, |this| match this.get().plain_is_full(this.py()) {
            Some(is_full) => Ok(truth(this.py(), is_full)),
            None => Queue::original(this, intern!(this.py(), "full"), None),
        }),
    )
}
