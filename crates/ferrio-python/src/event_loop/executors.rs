//! What `run_in_executor` returns: a future of the loop that follows one of `concurrent.futures`, as `asyncio.wrap_future`
//! has it follow, with one native object instead of two closures, a handle and their frames in Python.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::Loop;
use super::creating::create_future;
use crate::core::Job;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{install_onearg, onearg};
use crate::imports::imports;
use crate::sync::futures;

pub fn install_methods(py: Python<'_>) -> PyResult<()> {
    install_onearg(&py.get_type::<Loop>(), c"_follow", c"", onearg!(Loop, |this, source| follow(this, source)))?;
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
