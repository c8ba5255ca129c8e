//! What Python sees of a queue: how it is made, and attributes of asyncio's names, for `_init`, `_put` and `_get` of
//! users' subclasses and for asyncio's own code.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::{Items, Order, Queue, Room, State};
use crate::ffi::guarded::Guarded;
use crate::sync::deque::Deque;
use crate::sync::event::Event;
use crate::sync::follows_methods;
use crate::sync::waiters::{OwnLoop, Waiters};

#[pymethods]
impl Queue {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        class: &Bound<'_, PyType>,
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let order = match class.getattr(intern!(class.py(), "_order"))?.extract()? {
            "newest" => Order::Newest,
            "least" => Order::Least,
            _ => Order::Oldest,
        };
        Ok(Queue {
            own_loop: OwnLoop::default(),
            state: Guarded::default(),
            getters: Waiters::default(),
            putters: Waiters::default(),
            order,
            by_methods: follows_methods(class)?,
        })
    }

    #[pyo3(signature = (maxsize = None))]
    fn __init__(this: &Bound<'_, Self>, maxsize: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = this.py();
        let queue = this.get();
        let none = py.None();
        let maxsize = maxsize.map_or_else(|| Ok(PyInt::new(py, 0).into_any()), Ok::<_, PyErr>)?;
        let fresh = State { is_finished: true, ..State::default() };
        queue.state.put(py, |state| state, fresh);
        queue.getters.set(none.bind(py))?;
        queue.putters.set(none.bind(py))?;
        queue.set_maxsize(&maxsize);
        match queue.by_methods {
            true => this.call_method1(intern!(py, "_init"), (maxsize,)).map(drop),
            false => Queue::_init(this, &maxsize),
        }
    }

    /// Makes what holds the items.
    fn _init(this: &Bound<'_, Self>, _maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let items = match this.get().order {
            Order::Oldest => Items::Deque(Deque::new(py)?),
            Order::Newest | Order::Least => Items::List(PyList::empty(py).unbind()),
        };
        this.get().state.put(py, |state| &mut state.items, items);
        Ok(())
    }

    /// Puts an item there, whether there is room or not.
    fn _put<'py>(this: &Bound<'py, Self>, item: Bound<'py, PyAny>) -> PyResult<()> {
        Queue::store(this, &this.get().items(this.py()), item)
    }

    /// Takes the next item out.
    fn _get<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Queue::fetch(this, &this.get().items(this.py()))
    }

    /// What holds the items.
    #[getter(_queue)]
    fn get_queue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.items(py).object(py).ok_or_else(|| PyAttributeError::new_err("_queue"))
    }

    #[setter(_queue)]
    fn set_queue(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = match self.order {
            Order::Oldest if Deque::is_one(value)? => Items::Deque(Deque::from(value)?),
            Order::Newest | Order::Least if value.is_exact_instance_of::<PyList>() => {
                Items::List(value.cast::<PyList>()?.clone().unbind())
            }
            _ => Items::Other(value.clone().unbind()),
        };
        self.state.put(value.py(), |state| &mut state.items, items);
        Ok(())
    }

    #[getter(_maxsize)]
    fn get_maxsize<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let number = self.state.with(py, |state| match &state.room {
            Room::Endless(number) => Ok(*number),
            Room::For(most) => Ok(*most as i64),
            Room::Odd(other) => Err(other.clone_ref(py)),
        });
        match number {
            Ok(number) => Ok(number.into_pyobject(py)?.into_any()),
            Err(other) => Ok(other.into_bound(py)),
        }
    }

    #[setter(_maxsize)]
    fn set_maxsize(&self, value: &Bound<'_, PyAny>) {
        let number = if value.is_exact_instance_of::<PyInt>() { value.extract::<i64>().ok() } else { None };
        let room = match number {
            Some(number) if number <= 0 => Room::Endless(number),
            Some(number) => Room::For(number as usize),
            None => Room::Odd(value.clone().unbind()),
        };
        self.state.put(value.py(), |state| &mut state.room, room);
    }

    /// The futures of those who wait for an item.
    #[getter(_getters)]
    fn get_getters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.getters.deque(py)?.bind(py).clone())
    }

    #[setter(_getters)]
    fn set_getters(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.getters.set(value)
    }

    /// The futures of those who wait for room.
    #[getter(_putters)]
    fn get_putters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.putters.deque(py)?.bind(py).clone())
    }

    #[setter(_putters)]
    fn set_putters(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.putters.set(value)
    }

    /// How many items have been put in and are not yet `task_done()`.
    #[getter(_unfinished_tasks)]
    fn get_unfinished_tasks(&self, py: Python<'_>) -> i64 {
        self.state.with(py, |state| state.unfinished)
    }

    #[setter(_unfinished_tasks)]
    fn set_unfinished_tasks(&self, py: Python<'_>, value: i64) {
        self.state.with(py, |state| state.unfinished = value);
    }

    /// The Event that `join()` waits for.
    #[getter(_finished)]
    fn get_finished<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(finished) = self.state.with(py, |state| state.finished.as_ref().map(|event| event.clone_ref(py))) {
            return Ok(finished.into_bound(py).into_any());
        }
        let fresh = py.import(intern!(py, "ferrio.locks"))?.getattr(intern!(py, "Event"))?.call0()?;
        self.set_finished(fresh.cast::<Event>()?);
        fresh.cast::<Event>()?.get().write(py, self.state.with(py, |state| state.is_finished));
        Ok(fresh)
    }

    #[setter(_finished)]
    fn set_finished(&self, value: &Bound<'_, Event>) {
        self.state.put(value.py(), |state| &mut state.finished, Some(value.clone().unbind()));
    }

    #[getter(_is_shutdown)]
    fn get_is_shutdown(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.is_shutdown)
    }

    #[setter(_is_shutdown)]
    fn set_is_shutdown(&self, py: Python<'_>, value: bool) {
        self.state.with(py, |state| state.is_shutdown = value);
    }

    #[getter(_loop)]
    fn get_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.own_loop.get(py)
    }

    #[setter(_loop)]
    fn set_loop(&self, value: &Bound<'_, PyAny>) {
        self.own_loop.set(value);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.own_loop.traverse(&visit)?;
        self.getters.traverse(&visit)?;
        self.putters.traverse(&visit)?;
        self.state.for_collector(|state| state.traverse(&visit)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        self.own_loop.clear();
        self.getters.clear();
        self.putters.clear();
        drop(self.state.take());
    }
}

impl State {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.items {
            Items::None => {}
            Items::Deque(deque) => deque.traverse(visit)?,
            Items::List(list) => visit.call(list)?,
            Items::Other(other) => visit.call(other)?,
        }
        if let Room::Odd(other) = &self.room {
            visit.call(other)?;
        }
        self.finished.as_ref().map_or(Ok(()), |finished| visit.call(finished))
    }
}
