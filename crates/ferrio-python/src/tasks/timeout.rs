//! `Timeout`, `timeout` and `timeout_at`: a task is cancelled at a deadline, and asyncio turns that into a TimeoutError.
//!
//! Entering sets a timer and leaving takes it away; that is all that happens as a rule, and it is native. A timeout that
//! has struck, or is used wrongly, is asyncio's own business: its `__aexit__` runs on the attributes that this class
//! shows under asyncio's names.
//!
//! Whoever asks for `_timeout_handler` gets a handle, which takes the place of a timer without one.

use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::asyncio::{Method, asyncio, current_task, get_running_loop, own_loop, running_loop};
use super::timer::{Timer, seconds};
use crate::event_loop::Loop;
use crate::ffi::construct::allocate;
use crate::ffi::guarded::Guarded;
use crate::ffi::method::{
    Arguments, KnownKeyword, add_function, fastcall, function, install, install_noargs, install_onearg, noargs, onearg,
};
use crate::operation;

const HOME: &std::ffi::CStr = c"ferrio.timeouts";

/// The native half of `ferrio.Timeout`.
#[pyclass(subclass, frozen, module = "ferrio._ferrio")]
pub struct Timeout(Guarded<State>);

#[derive(Default)]
struct State {
    phase: Phase,
    /// As it was given: a number of seconds of the loop's clock, or None.
    when: Option<Py<PyAny>>,
    task: Option<Py<PyAny>>,
    /// How often the task was cancelled before.
    cancelling: Option<Py<PyAny>>,
    timer: Timer,
}

/// `asyncio.timeouts._State`, in its order.
#[derive(Clone, Copy, Default, PartialEq)]
enum Phase {
    #[default]
    Created,
    Entered,
    Expiring,
    Expired,
    Exited,
}

pub const PHASES: [&str; 5] = ["CREATED", "ENTERED", "EXPIRING", "EXPIRED", "EXITED"];
const ALL: [Phase; 5] = [Phase::Created, Phase::Entered, Phase::Expiring, Phase::Expired, Phase::Exited];

pub fn install_all(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = module.py().get_type::<Timeout>();
    module.add("Timeout", &class)?;
    install_noargs(&class, c"_enter", c"", noargs!(Timeout, |this| Ok(truth(this.py(), Timeout::enter(this)?))))?;
    install_noargs(
        &class,
        c"_leave",
        c"",
        noargs!(Timeout, |this| Ok(truth(this.py(), this.get().leave(this.py())?))),
    )?;
    install(&class, c"__aexit__", c"", fastcall!(Timeout, Timeout::exit))?;
    install_onearg(
        &class,
        c"reschedule",
        c"reschedule($self, when)\n--\n\nMove the deadline; None takes it away.\n\n\
          :raises RuntimeError: if the timeout is not active.",
        onearg!(Timeout, |this, when| {
            Timeout::reschedule(this, &when)?;
            Ok(when.py().None().into_bound(when.py()))
        }),
    )?;
    add_function(
        module,
        HOME,
        c"timeout",
        c"timeout(delay)\n--\n\nA context manager: what is inside is cancelled after `delay` seconds, and TimeoutError raised.\n\n\
          None stands for no limit; reschedule() can set one later.",
        function!(timeout),
    )?;
    add_function(
        module,
        HOME,
        c"timeout_at",
        c"timeout_at(when)\n--\n\nLike timeout(), with a deadline in seconds of loop.time().",
        function!(timeout_at),
    )?;
    add_function(module, HOME, c"_begun_timeout", c"", function!(begun))
}

fn truth(py: Python<'_>, yes: bool) -> Bound<'_, PyAny> {
    PyBool::new(py, yes).to_owned().into_any()
}

// --- making one ----------------------------------------------------------------------------------------------------

/// `ferrio.Timeout`, as `python/ferrio/timeouts.py` has made it.
static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    CLASS.get(py).map(|class| class.bind(py)).ok_or_else(|| PyRuntimeError::new_err("ferrio.timeouts is not imported"))
}

/// Whether it is of that class, and not of one that somebody has derived from it.
fn is_plain(timeout: &Bound<'_, Timeout>) -> bool {
    CLASS.get(timeout.py()).is_some_and(|class| class.as_ptr() == timeout.get_type_ptr().cast())
}

fn make<'py>(py: Python<'py>, when: Bound<'py, PyAny>) -> PyResult<Bound<'py, Timeout>> {
    // SAFETY: `_made_by_functions` takes subclasses of `Timeout` alone.
    let made = unsafe { allocate(class(py)?)?.cast_into_unchecked::<Timeout>() };
    made.get().set_when(py, when);
    Ok(made)
}

fn timeout<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    static DELAY: KnownKeyword = KnownKeyword::new("delay");
    let delay = only_argument(&arguments, &DELAY, "timeout", "delay")?;
    let running = get_running_loop(py)?;
    let when = if delay.is_none() {
        delay
    } else if let (Some(own), Some(delay)) = (own_loop(&running)?, seconds(&delay)) {
        PyFloat::new(py, own.get().core.time() + delay).into_any()
    } else {
        running.call_method0(intern!(py, "time"))?.add(delay)?
    };
    make(py, when).map(Bound::into_any)
}

/// An active timeout for `wait_for(…, delay)`; None if asyncio has something to say about it, or the time is over.
fn begun<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let nothing = py.None().into_bound(py);
    let (Some(delay), Some(running)) = (arguments.get(0), running_loop(py)?) else { return Ok(nothing) };
    let own = own_loop(&running)?;
    let (when, deadline) = match (own, seconds(&delay)) {
        _ if delay.is_none() => (delay, None),
        (_, Some(delay)) if delay <= 0.0 => return Ok(nothing),
        (Some(own), Some(delay)) => {
            let deadline = own.get().core.time() + delay;
            (PyFloat::new(py, deadline).into_any(), Some((own, deadline)))
        }
        _ if delay.le(0)? => return Ok(nothing),
        _ => (running.call_method0(intern!(py, "time"))?.add(delay)?, None),
    };
    let made = make(py, when.clone())?;
    if !made.get().take_task(&running)? {
        return Ok(nothing);
    }
    match deadline {
        Some((own, deadline)) => Timeout::set_own_timer(&made, own, deadline)?,
        None if when.is_none() => {}
        None => Timeout::set_timer(&made, &running, &when)?,
    }
    Ok(made.into_any())
}

fn timeout_at<'py>(py: Python<'py>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    static WHEN: KnownKeyword = KnownKeyword::new("when");
    make(py, only_argument(&arguments, &WHEN, "timeout_at", "when")?).map(Bound::into_any)
}

fn only_argument<'py>(
    arguments: &Arguments<'_, 'py>,
    keyword: &KnownKeyword,
    function: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let argument = match (arguments.len(), arguments.has_keywords()) {
        (1, false) => arguments.get(0),
        (0, true) => arguments.only_keyword(keyword),
        _ => None,
    };
    argument.ok_or_else(|| PyTypeError::new_err(format!("{function}() takes exactly one argument: '{name}'")))
}

// --- its life ------------------------------------------------------------------------------------------------------

impl Timeout {
    fn phase(&self, py: Python<'_>) -> Phase {
        self.0.with(py, |state| state.phase)
    }

    fn when_given<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let when = self.0.with(py, |state| state.when.as_ref().map(|when| when.bind(py).clone()));
        when.unwrap_or_else(|| py.None().into_bound(py))
    }

    fn set_when(&self, py: Python<'_>, when: Bound<'_, PyAny>) {
        let former = self.0.with(py, |state| state.when.replace(when.unbind()));
        drop(former);
    }

    /// Whether the timeout is active now; false if asyncio has something to say about it.
    fn enter(this: &Bound<'_, Self>) -> PyResult<bool> {
        let py = this.py();
        let (phase, when) =
            this.get().0.with(py, |state| (state.phase, state.when.as_ref().map(|when| when.bind(py).clone())));
        let Some(running) = running_loop(py)?.filter(|_| phase == Phase::Created) else { return Ok(false) };
        if !this.get().take_task(&running)? {
            return Ok(false);
        }
        if let Some(when) = when.filter(|when| !when.is_none()) {
            Timeout::set_timer(this, &running, &when)?;
        }
        Ok(true)
    }

    /// The running task is inside now, if there is one.
    fn take_task(&self, running: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = running.py();
        let Some(task) = current_task(running)? else { return Ok(false) };
        let cancelling = Method::Cancelling.call(&task)?;
        let former = self.0.with(py, |state| {
            state.phase = Phase::Entered;
            (state.task.replace(task.unbind()), state.cancelling.replace(cancelling.unbind()))
        });
        drop(former);
        Ok(true)
    }

    /// Leaving in time: whether it was that.
    fn leave(&self, py: Python<'_>) -> PyResult<bool> {
        let (in_time, timer) = self.0.with(py, |state| {
            let in_time = state.phase == Phase::Entered;
            if in_time {
                state.phase = Phase::Exited;
            }
            (in_time, if in_time { std::mem::take(&mut state.timer) } else { Timer::Unset })
        });
        timer.cancel(py)?;
        Ok(in_time)
    }

    /// Leaving in time is all native; what it is else to leave, asyncio knows.
    fn exit<'py>(this: &Bound<'py, Self>, arguments: Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        if this.get().leave(py)? {
            return operation::done(py);
        }
        arguments.call_method_of(asyncio(py)?.timeout_aexit.bind(py), this)
    }

    fn reschedule(this: &Bound<'_, Self>, when: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        if this.get().phase(py) != Phase::Entered {
            // Which is refused.
            return asyncio(py)?.timeout_reschedule.bind(py).call1((this, when)).map(drop);
        }
        this.get().set_when(py, when.clone());
        this.get().replace_timer(py, Timer::Unset)?;
        if when.is_none() {
            return Ok(());
        }
        let running = get_running_loop(py)?;
        Timeout::set_timer(this, &running, when)
    }

    fn set_timer<'py>(this: &Bound<'py, Self>, running: &Bound<'py, PyAny>, when: &Bound<'py, PyAny>) -> PyResult<()> {
        if let (Some(own), Some(when)) = (own_loop(running)?, seconds(when))
            && is_plain(this)
            && own.get().core.time() < when
        {
            return Timeout::set_own_timer(this, own, when);
        }
        Timeout::set_handle(this, running, when)
    }

    fn set_own_timer(this: &Bound<'_, Self>, own: &Bound<'_, Loop>, when: f64) -> PyResult<()> {
        let timer = Timer::own(own, when, this.as_any(), |this| Timeout::strike(this.cast()?))?;
        this.get().replace_timer(this.py(), timer)
    }

    /// The timer as every loop can set it.
    fn set_handle<'py>(this: &Bound<'py, Self>, running: &Bound<'py, PyAny>, when: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = this.py();
        let callback = this.getattr(intern!(py, "_on_timeout"))?;
        let handle = if when.le(running.call_method0(intern!(py, "time"))?)? {
            running.call_method1(intern!(py, "call_soon"), (callback,))?
        } else {
            running.call_method1(intern!(py, "call_at"), (when, callback))?
        };
        this.get().replace_timer(py, Timer::Handle(handle.unbind()))
    }

    /// The former timer is cancelled.
    fn replace_timer(&self, py: Python<'_>, timer: Timer) -> PyResult<()> {
        self.0.with(py, |state| std::mem::replace(&mut state.timer, timer)).cancel(py)
    }

    /// The deadline has come.
    fn strike(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let task = this.get().0.with(py, |state| state.task.as_ref().map(|task| task.bind(py).clone()));
        let Some(task) = task.filter(|_| this.get().phase(py) == Phase::Entered) else { return Ok(()) };
        task.call_method0(intern!(py, "cancel"))?;
        let former = this.get().0.with(py, |state| {
            state.phase = Phase::Expiring;
            std::mem::take(&mut state.timer)
        });
        drop(former);
        Ok(())
    }
}

#[pymethods]
impl Timeout {
    /// Takes what a subclass's `__init__` may take.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, pyo3::types::PyTuple>, _keywords: Option<&Bound<'_, pyo3::types::PyDict>>) -> Self {
        Timeout(Guarded::default())
    }

    fn __init__(&self, py: Python<'_>, when: Bound<'_, PyAny>) {
        self.set_when(py, when);
    }

    /// A class decorator: what `timeout()` makes.
    #[staticmethod]
    fn _made_by_functions<'py>(class: Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
        if !class.is_subclass_of::<Timeout>()? {
            return Err(PyTypeError::new_err("a class derived from Timeout is needed"));
        }
        let _ = CLASS.set(class.py(), class.clone().unbind());
        Ok(class)
    }

    /// The deadline in seconds of loop.time(), or None.
    fn when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.when_given(py)
    }

    /// Whether it has struck.
    fn expired(&self, py: Python<'_>) -> bool {
        matches!(self.phase(py), Phase::Expiring | Phase::Expired)
    }

    fn _on_timeout(this: &Bound<'_, Self>) -> PyResult<()> {
        if this.get().phase(this.py()) != Phase::Entered {
            return Err(PyAssertionError::new_err(()));
        }
        Timeout::strike(this)
    }

    #[getter]
    fn _state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(asyncio(py)?.timeout_phases[self.phase(py) as usize].bind(py).clone())
    }

    #[setter(_state)]
    fn set_state(&self, state: Bound<'_, PyAny>) -> PyResult<()> {
        let py = state.py();
        let phases = asyncio(py)?.timeout_phases.iter().zip(ALL);
        let (_, phase) = phases
            .into_iter()
            .find(|(one, _)| one.is(&state))
            .ok_or_else(|| PyTypeError::new_err("one of asyncio.timeouts._State is needed"))?;
        self.0.with(py, |content| content.phase = phase);
        Ok(())
    }

    #[getter]
    fn _when<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.when_given(py)
    }

    #[setter(_when)]
    fn replace_when(&self, when: Bound<'_, PyAny>) {
        self.set_when(when.py(), when);
    }

    #[getter]
    fn _task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.with(py, |state| state.task.as_ref().map(|task| task.bind(py).clone()))
    }

    #[getter]
    fn _cancelling<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.0.with(py, |state| state.cancelling.as_ref().map(|count| count.bind(py).clone()))
    }

    #[getter]
    fn _timeout_handler<'py>(this: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let own = this.get().0.with(py, |state| match &state.timer {
            Timer::Own(the_loop, _) => Some(the_loop.bind(py).clone().into_any()),
            _ => None,
        });
        if let Some(own) = own {
            Timeout::set_handle(this, &own, &this.get().when_given(py))?;
        }
        Ok(this.get().0.with(py, |state| match &state.timer {
            Timer::Handle(handle) => Some(handle.bind(py).clone()),
            _ => None,
        }))
    }

    #[setter(_timeout_handler)]
    fn set_timeout_handler(&self, handle: Bound<'_, PyAny>) {
        let py = handle.py();
        let timer = if handle.is_none() { Timer::Unset } else { Timer::Handle(handle.unbind()) };
        let former = self.0.with(py, |state| std::mem::replace(&mut state.timer, timer));
        drop(former);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let visited = self.0.for_collector(|state| {
            visit.call(&state.when)?;
            visit.call(&state.task)?;
            visit.call(&state.cancelling)?;
            state.timer.traverse(&visit)
        });
        visited.unwrap_or(Ok(()))
    }

    fn __clear__(&self) {
        drop(self.0.take());
    }
}
