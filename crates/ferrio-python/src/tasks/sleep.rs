//! What `sleep` waits for: a future that a timer of the engine ends, without the handle and the context that
//! `call_later` makes (one after another, with the system call that each takes: 1,991 ns, 2,277 with a handle; CPython
//! 3.11).
//!
//! `sleep` itself stays an `async def` (`python/ferrio/tasks.py`), because programs and `unittest.mock` ask for that. So
//! does the one turn of the loop that `sleep(0)` lasts: a generator, as asyncio's. A native iterator in its place was 9 %
//! quicker on 3.11 and made no difference on 3.13 and 3.14.

use ferrio::recorder::Level;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::{Method, is_done, own_loop, running_loop};
use super::timer::{Timer, seconds};
use crate::event_loop::creating::create_future;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{Arguments, add_function, function, install_noargs, noargs};
use crate::operation;

pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    install_noargs(
        &py.get_type::<Pause>(),
        c"cancel",
        c"",
        noargs!(Pause, |this| {
            this.get().timer.with(this.py(), std::mem::take).cancel(this.py())?;
            Ok(this.py().None().into_bound(this.py()))
        }),
    )?;
    add_function(module, c"ferrio.tasks", c"_begin_pause", c"", function!(begin))
}

/// A time of ferrio's own loop that is running off; await it. It must be cancelled if that fails.
#[pyclass(frozen, module = "ferrio._ferrio")]
struct Pause {
    future: Py<PyAny>,
    timer: Guarded<Timer>,
}

/// A pause of so many seconds. None if that is asyncio's to wait for: on another loop, when somebody watches (in
/// debug mode, too) and wants to see the timer's handle, or with something else than a plain number.
fn begin<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let nothing = py.None().into_bound(py);
    let (Some(delay), Some(running)) = (arguments.get(0), running_loop(py)?) else { return Ok(nothing) };
    let (Some(own), Some(delay)) = (own_loop(&running)?, seconds(&delay)) else { return Ok(nothing) };
    let core = &own.get().core;
    if core.debug() || core.engine()?.level() == Level::Deep {
        return Ok(nothing);
    }
    let future = create_future(own)?;
    let timer = Timer::own(own, core.time() + delay, &future, end)?;
    Ok(Bound::new(py, Pause { future: future.unbind(), timer: Guarded::new(timer) })?.into_any())
}

/// The time is over.
fn end(future: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_done(future)? {
        return Ok(());
    }
    Method::SetResult.call_with(future, &future.py().None().into_bound(future.py())).map(drop)
}

#[pymethods]
impl Pause {
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        operation::iterator(self.future.bind(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        self.timer.for_collector(|timer| timer.traverse(&visit)).unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.timer.take());
    }
}
