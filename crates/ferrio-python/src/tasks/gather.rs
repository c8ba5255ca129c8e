//! `gather`: asyncio's own `_GatheringFuture`, whose children all report to one native object instead of a closure in
//! Python.
//!
//! Per child that is a task, one callback and three questions to it; asyncio asks five and runs some thirty lines.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::{
    self, Edges, Maker, Method, add_done_callback, asyncio, current_task, ensure_future, exception, failure,
    is_cancelled, is_done, is_plain_coroutine, keep_quiet_when_dropped, loop_of, make_cancelled_error, new_future_of,
    result, running_loop,
};
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, add_function, function, install_onearg, onearg};
use crate::imports::imports;

/// What a child calls when it is done.
pub const CHILD_IS_DONE: ffi::PyCFunction = onearg!(Gathering, |gathering, child| {
    gathering.get().child_is_done(&child)?;
    Ok(child.py().None().into_bound(child.py()))
});

pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<Gathering>();
    install_onearg(&class, c"_done_callback", c"", CHILD_IS_DONE)?;
    add_function(
        module,
        c"ferrio.tasks",
        c"gather",
        c"gather(*coros_or_futures, return_exceptions=False)\n--\n\n\
          A future of the list of the results of all these, which run at the same time.\n\n\
          The first exception becomes the future's own, unless return_exceptions is true: then exceptions lie\n\
          among the results. Cancelling the future cancels all of them.",
        function!(gather),
    )
}

/// What the children of one `gather` report to.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Gathering {
    return_exceptions: bool,
    /// The task that called `gather`.
    waiter: Option<Py<PyAny>>,
    state: Guarded<State>,
}

#[derive(Default)]
struct State {
    /// The future of each argument; one that was given twice is here twice.
    children: Option<Py<PyList>>,
    /// What `gather` has returned, once it has.
    outer: Option<Py<PyAny>>,
    /// How many different children there are, and how many of them are done.
    count: usize,
    done: usize,
}

fn gather<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let asyncio = asyncio(py)?;
    let return_exceptions = match arguments.keywords().next() {
        Some((name, value)) if name.eq(intern!(py, "return_exceptions"))? => value.is_truthy()?,
        Some(_) => return arguments.call(asyncio.gather.bind(py)),
        None => false,
    };
    let objects: Vec<_> = (0..arguments.len()).filter_map(|index| arguments.get(index)).collect();
    // Without a running loop, and with what is equal although it is not the same, asyncio's own will do.
    let running = running_loop(py)?.filter(|_| !objects.is_empty() && objects.iter().all(is_equal_to_itself_alone));
    let Some(running) = running else { return arguments.call(asyncio.gather.bind(py)) };

    let waiter = if asyncio.has_edges { current_task(&running)? } else { None };
    let gathering = Gathering {
        return_exceptions,
        waiter: waiter.as_ref().map(|waiter| waiter.clone().unbind()),
        state: Guarded::default(),
    };
    let gathering = Bound::new(py, gathering)?;
    let callback = gathering.getattr(intern!(py, "_done_callback"))?;
    let edges = Edges::to_add(py, waiter)?;
    let maker = Maker::of(&running)?;

    // Before 3.14 the first child says which loop it is.
    let mut the_loop = Some(running.clone()).filter(|_| asyncio.has_edges);
    let mut children: Vec<Bound<'py, PyAny>> = Vec::with_capacity(objects.len());
    let mut known = Known::with_capacity(objects.len());
    let mut are_done = Vec::new();
    for object in &objects {
        if let Some(place) = known.get(object) {
            children.push(children[place].clone());
            continue;
        }
        known.insert(object, children.len());
        let in_running = the_loop.as_ref().is_none_or(|the_loop| the_loop.is(&running));
        let (child, may_be_done) = if in_running && is_plain_coroutine(object) {
            maker.make(object)?
        } else {
            (ensure_future(object, the_loop.as_ref())?, asyncio.has_eager_tasks)
        };
        if the_loop.is_none() {
            the_loop = Some(loop_of(&child)?);
        }
        if !child.is(object) {
            keep_quiet_when_dropped(&child)?;
        }
        gathering.get().state.with(py, |state| state.count += 1);
        if may_be_done && is_done(&child)? {
            are_done.push(child.clone());
        } else {
            edges.of(&child)?;
            add_done_callback(&child, &callback)?;
        }
        children.push(child);
    }
    let children = PyList::new(py, children)?;
    let outer = make_outer(&children, the_loop.as_ref())?;
    gathering.get().state.with(py, |state| {
        state.children = Some(children.unbind());
        state.outer = Some(outer.clone().unbind());
    });
    for child in are_done {
        gathering.get().child_is_done(&child)?;
    }
    Ok(outer)
}

/// An object that is equal to no other, as coroutines, futures and most objects are.
fn is_equal_to_itself_alone(object: &Bound<'_, PyAny>) -> bool {
    if is_plain_coroutine(object) {
        return true;
    }
    // SAFETY: living types, whose slots are read.
    unsafe {
        let (kind, plain) = (ffi::Py_TYPE(object.as_ptr()), &raw mut ffi::PyBaseObject_Type);
        (*kind).tp_hash.map(|hash| hash as usize) == (*plain).tp_hash.map(|hash| hash as usize)
            && (*kind).tp_richcompare.map(|compare| compare as usize)
                == (*plain).tp_richcompare.map(|compare| compare as usize)
    }
}

/// `_GatheringFuture(children, loop=the_loop)`
fn make_outer<'py>(children: &Bound<'py, PyList>, the_loop: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    let py = children.py();
    let the_loop = the_loop.ok_or_else(|| PyAttributeError::new_err("a future without a loop"))?;
    let class = asyncio::gathering_future(py)?;
    if !class.is(&asyncio(py)?.gathering_future) || !is_made_of_native_future(&class)? {
        let keywords = pyo3::types::PyDict::new(py);
        keywords.set_item(intern!(py, "loop"), the_loop)?;
        return class.call((children,), Some(&keywords));
    }
    // What its `__init__` does, without its frames.
    let outer = new_future_of(&class, the_loop)?;
    outer.setattr(intern!(py, "_children"), children)?;
    outer.setattr(intern!(py, "_cancel_requested"), PyBool::new(py, false))?;
    Ok(outer)
}

fn is_made_of_native_future(class: &Bound<'_, PyAny>) -> PyResult<bool> {
    let base = class.cast::<PyType>()?.bases().get_item(0)?;
    Ok(base.is(&imports(class.py())?.future))
}

impl Gathering {
    fn child_is_done(&self, child: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = child.py();
        let (outer, is_last) = self.state.with(py, |state| {
            state.done += 1;
            (state.outer.as_ref().map(|outer| outer.bind(py).clone()), state.done == state.count)
        });
        self.edges(py)?.of(child)?;
        let outer = match outer {
            Some(outer) if !is_done(&outer)? => outer,
            // Too late; its exception counts as retrieved.
            _ => return if is_cancelled(child)? { Ok(()) } else { exception(child).map(drop) },
        };
        if !self.return_exceptions
            && let Some(error) = failure(child)?
        {
            self.end_edges(py)?;
            return outer.call_method1(intern!(py, "set_exception"), (error,)).map(drop);
        }
        if is_last { self.finish(&outer) } else { Ok(()) }
    }

    /// What the edges of the children are taken away by.
    fn edges<'py>(&self, py: Python<'py>) -> PyResult<Edges<'py>> {
        Edges::to_discard(py, self.waiter.as_ref().map(|waiter| waiter.bind(py).clone()))
    }

    fn children<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyList>> {
        self.state.with(py, |state| state.children.as_ref().map(|children| children.bind(py).clone()))
    }

    /// `gather` ends early: who outlives it is not awaited through it any more.
    fn end_edges(&self, py: Python<'_>) -> PyResult<()> {
        if asyncio(py)?.gather_discards_edges
            && let Some(children) = self.children(py)
        {
            let edges = self.edges(py)?;
            children.iter().try_for_each(|child| edges.of(&child))?;
        }
        Ok(())
    }

    /// All are done: the results are the outer future's result.
    fn finish(&self, outer: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = outer.py();
        let Some(children) = self.children(py) else { return Ok(()) };
        let mut results = Vec::with_capacity(children.len());
        for child in &children {
            // Without return_exceptions whoever has failed would have ended it.
            results.push(if self.return_exceptions { outcome(&child)? } else { result(&child)? });
        }
        if outer.getattr(intern!(py, "_cancel_requested"))?.is_truthy()? {
            // Whatever the children made of their cancellation, the outer future is cancelled.
            let last = children.get_item(children.len() - 1)?;
            let error = make_cancelled_error(&last)?;
            return outer.call_method1(intern!(py, "set_exception"), (error,)).map(drop);
        }
        Method::SetResult.call_with(outer, PyList::new(py, results)?.as_any()).map(drop)
    }
}

/// The result of a future, or the exception that it has instead.
fn outcome<'py>(child: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = child.py();
    if is_cancelled(child)? {
        // A fresh exception: `_make_cancelled_error` may be called but once.
        let message = child.getattr(intern!(py, "_cancel_message"))?;
        let message = if message.is_none() { intern!(py, "").clone().into_any() } else { message };
        return asyncio(py)?.cancelled_error.bind(py).call1((message,));
    }
    match exception(child)? {
        Some(exception) => Ok(exception),
        None => result(child),
    }
}

#[pymethods]
impl Gathering {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiter)?;
        let visited = self.state.for_collector(|state| {
            visit.call(&state.children)?;
            visit.call(&state.outer)
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.state.take());
    }
}

// --- which arguments have come before ------------------------------------------------------------------------------

/// The place among the children of each object that was given, by its address.
enum Known {
    /// The addresses in order of the places: few are found soonest by looking at each.
    Few(Vec<(usize, usize)>),
    Many(HashMap<usize, usize, BuildHasherDefault<Address>>),
}

impl Known {
    fn with_capacity(count: usize) -> Self {
        const FEW: usize = 8;
        if count <= FEW {
            Known::Few(Vec::with_capacity(count))
        } else {
            Known::Many(HashMap::with_capacity_and_hasher(count, BuildHasherDefault::default()))
        }
    }

    fn get(&self, object: &Bound<'_, PyAny>) -> Option<usize> {
        let address = object.as_ptr() as usize;
        match self {
            Known::Few(places) => places.iter().find(|(known, _)| *known == address).map(|(_, place)| *place),
            Known::Many(places) => places.get(&address).copied(),
        }
    }

    fn insert(&mut self, object: &Bound<'_, PyAny>, place: usize) {
        let address = object.as_ptr() as usize;
        match self {
            Known::Few(places) => places.push((address, place)),
            Known::Many(places) => drop(places.insert(address, place)),
        }
    }
}

/// Spreads addresses, which differ little, over the whole range (Fibonacci hashing).
#[derive(Default)]
pub struct Address(u64);

impl Hasher for Address {
    fn finish(&self) -> u64 {
        // The product's best bits are its highest; the table looks at the lowest.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, value: usize) {
        self.0 = (self.0.rotate_left(32) ^ value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
