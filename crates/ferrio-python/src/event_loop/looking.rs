//! What a snapshot asks of a loop that may have a hundred thousand of everything: counted here, shown there, and in pieces,
//! between which the loop goes on.
//!
//! While the engine is being walked nothing of Python's is called or let go of; references are taken, and used later.
//! Between two pieces no reference is kept: what is remembered of an object is its address and the number of its timer,
//! which no other timer ever has.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use ferrio::poll::RawFd;
use ferrio::timers::TimerId;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::Loop;
use super::introspection::word;
use crate::awaitable::OwnedWaker;
use crate::core::Job;
use crate::ffi::guarded::Guarded;
use crate::handle;
use crate::recording::subjects;
use crate::tasks::gather::Address;
use crate::tasks::wait::Waiting;

/// By address: a hundred thousand timers are to be looked at in a few milliseconds.
type ByAddress<T> = HashMap<usize, T, BuildHasherDefault<Address>>;
/// How many are alike, when the first of them is due (in seconds of the loop's clock; 0 for what is ready), and one of them.
type Group<'py> = (usize, f64, Bound<'py, PyAny>);
/// A timeout and its number for [`TimerLook::due`].
type Limit<'py> = (usize, Bound<'py, PyAny>);
/// A descriptor, the transport that owns it, and who waits for it: to "read" or to "write", and who.
type Described<'py> = (RawFd, Option<Bound<'py, PyAny>>, Vec<(&'static str, Bound<'py, PyAny>)>);

#[pymethods]
impl Loop {
    /// How many timers are set, and when the first is due (in seconds of the loop's clock).
    fn _timers_set(&self) -> PyResult<(usize, Option<f64>)> {
        let (count, first) = self.core.engine()?.timers_set();
        Ok((count, first.map(seconds)))
    }

    /// The ready queue: how many, and the most frequent kinds. Of more than some thousands some thousands are looked at,
    /// which stand for all.
    fn _look_at_ready<'py>(this: &Bound<'py, Self>) -> PyResult<(usize, Vec<Group<'py>>)> {
        let py = this.py();
        let (mut groups, mut looked) = (Groups::default(), 0);
        let count = this.get().core.engine()?.sample_ready(Self::READY, |job| {
            looked += 1;
            groups.add(py, 0, job);
        });
        let mut kinds = groups.most_frequent(py);
        kinds.iter_mut().for_each(|kind| kind.0 = kind.0 * count / looked.max(1));
        Ok((count, kinds))
    }

    /// The descriptors in `most` places from `start` on that are watched or that a transport owns; and where to go on, None
    /// after the last. A descriptor's place is its number.
    fn _look_at_descriptors<'py>(
        this: &Bound<'py, Self>,
        start: usize,
        most: usize,
    ) -> PyResult<(Option<usize>, Vec<Described<'py>>)> {
        let (py, core) = (this.py(), &this.get().core);
        let mut all: Vec<Described<'py>> = Vec::new();
        let next = core.engine()?.walk_watchers(start, most, |fd, direction, who| {
            let who = match who {
                Ok(job) => job.object().map(|object| object.bind(py).clone()),
                Err(waker) => OwnedWaker::awaitable_of(waker, py).map(|one| one.into_bound(py).into_any()),
            };
            let Some(who) = who else { return };
            if all.last().is_none_or(|(last, ..)| *last != fd) {
                all.push((fd, None, Vec::new()));
            }
            if let Some((_, _, waiters)) = all.last_mut() {
                waiters.push((word(direction), who));
            }
        });
        let (next_owned, owned) = core.owners.some(py, start, most);
        for (fd, transport) in owned {
            match all.binary_search_by_key(&fd, |(known, ..)| *known) {
                Ok(place) => all[place].1 = Some(transport),
                Err(place) => all.insert(place, (fd, Some(transport), Vec::new())),
            }
        }
        Ok((next.max(next_owned), all))
    }
}

impl Loop {
    /// So many ready callbacks are looked at.
    const READY: usize = 4096;
}

fn seconds(when: u64) -> f64 {
    when as f64 / 1e9
}

// --- timers ----------------------------------------------------------------------------------------------------------

/// One look at a loop's timers: which of them ends what.
#[pyclass(frozen, module = "ferrio._ferrio")]
pub struct TimerLook {
    /// What timeouts are.
    classes: Vec<Py<PyType>>,
    seen: Guarded<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The place where to go on.
    next: usize,
    /// How many there may still be.
    left: usize,
    /// The timers from here on in their order have not been met.
    upcoming: Option<u64>,
    /// Of each object, by its address, the newest timer that ends it.
    ends: ByAddress<TimerId>,
    limits: Vec<TimerId>,
}

#[pymethods]
impl TimerLook {
    /// At most `most` timers. An object of one of the `classes`, or a method of one, is a timeout.
    #[new]
    fn new(classes: Vec<Py<PyType>>, most: usize) -> Self {
        TimerLook { classes, seen: Guarded::new(Seen { left: most, ..Seen::default() }) }
    }

    /// Looks at the timers in the next `most` places. Returns whether there are more, the most frequent kinds among these,
    /// and the timeouts.
    fn go_on<'py>(
        &self,
        the_loop: &Bound<'py, Loop>,
        most: usize,
    ) -> PyResult<(bool, Vec<Group<'py>>, Vec<Limit<'py>>)> {
        let py = the_loop.py();
        let engine = the_loop.get().core.engine()?;
        let (mut groups, mut limits) = (Groups::default(), Vec::new());
        let more = self.seen.with(py, |seen| {
            if seen.upcoming.is_none() {
                seen.upcoming = Some(engine.upcoming_timer());
                // At once, because making room for more takes time.
                seen.ends.reserve(engine.timers_set().0.min(seen.left));
            }
            let next = engine.walk_timers(seen.next, most.min(seen.left), |id, when, job| {
                let Some(job) = job else { return };
                groups.add(py, when, job);
                limits.extend(seen.meet(py, id, job, &self.classes));
            });
            seen.left = seen.left.saturating_sub(most);
            seen.next = next.unwrap_or(0);
            next.is_some() && seen.left > 0
        });
        Ok((more, groups.most_frequent(py), limits))
    }

    /// Looks at the timers that have been set since they were last looked at. Returns the timeouts among them.
    fn catch_up<'py>(&self, the_loop: &Bound<'py, Loop>) -> PyResult<Vec<Limit<'py>>> {
        let py = the_loop.py();
        let engine = the_loop.get().core.engine()?;
        let mut limits = Vec::new();
        self.seen.with(py, |seen| {
            if let Some(upcoming) = seen.upcoming.replace(engine.upcoming_timer()) {
                engine.timers_since(upcoming, |id, _, job| {
                    limits.extend(job.and_then(|job| seen.meet(py, id, job, &self.classes)));
                });
            }
        });
        Ok(limits)
    }

    /// When (in seconds of the loop's clock) a timer ends this object; None: none does, of those that were looked at. It is
    /// so now, whatever has happened since.
    fn end(&self, the_loop: &Bound<'_, Loop>, object: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let (py, address) = (the_loop.py(), object.as_ptr() as usize);
        let id = self.seen.with(py, |seen| seen.ends.get(&address).copied());
        let engine = the_loop.get().core.engine()?;
        let found = id.and_then(|id| engine.look_at_timer(id, |when, job| (when, ended(py, job))));
        Ok(found.and_then(|(when, ends)| (ends == address).then(|| seconds(when))))
    }

    /// When (in seconds of the loop's clock) a timeout is due; None if it is not set any more.
    fn due(&self, the_loop: &Bound<'_, Loop>, limit: usize) -> PyResult<Option<f64>> {
        let id = self.seen.with(the_loop.py(), |seen| seen.limits.get(limit).copied());
        let engine = the_loop.get().core.engine()?;
        Ok(id.and_then(|id| engine.look_at_timer(id, |when, _| seconds(when))))
    }
}

impl Seen {
    /// So many timeouts are shown.
    const LIMITS: usize = 2000;

    /// Remembers a timer. Returns its object if that is a timeout.
    fn meet<'py>(&mut self, py: Python<'py>, id: TimerId, job: &Job, classes: &[Py<PyType>]) -> Option<Limit<'py>> {
        let known = self.ends.entry(ended(py, job)).or_insert(id);
        if known.sequence() < id.sequence() {
            *known = id;
        }
        let object = match job {
            Job::Call(object, _) => object.as_ptr(),
            Job::Handle(timer) => handle::callback_self(timer),
            _ => return None,
        };
        // SAFETY: a living object, held by the timer, and living classes.
        unsafe {
            let is_one = |class: &Py<PyType>| ffi::PyObject_TypeCheck(object, class.as_ptr().cast()) != 0;
            if object.is_null() || self.limits.len() >= Self::LIMITS || !classes.iter().any(is_one) {
                return None;
            }
            self.limits.push(id);
            Some((self.limits.len() - 1, Bound::from_borrowed_ptr(py, object)))
        }
    }
}

/// The address of what a timer ends.
fn ended(py: Python<'_>, job: &Job) -> usize {
    match job {
        Job::Handle(timer) => handle::first_argument(timer),
        job => job.object().map_or(0, |object| {
            let waiting = object.bind(py).cast::<Waiting>();
            waiting.map_or(object.as_ptr(), |waiting| waiting.get().waiter.as_ptr()) as usize
        }),
    }
}

// --- kinds -----------------------------------------------------------------------------------------------------------

/// Jobs by what they run; of those that belong to tasks by their object's class.
#[derive(Default)]
struct Groups(ByAddress<(usize, u64, Option<Py<PyAny>>)>);

impl Groups {
    const SHOWN: usize = 50;
    const KEPT: usize = 1000;

    fn add(&mut self, py: Python<'_>, when: u64, job: &Job) {
        let key = match job {
            // All tasks are alike here: the snapshot tells them apart elsewhere.
            Job::Step(_) => 0,
            job => subjects::key(job) as usize,
        };
        if self.0.len() >= Self::KEPT && !self.0.contains_key(&key) {
            return;
        }
        let group = self.0.entry(key).or_insert_with(|| (0, when, job.object().map(|object| object.clone_ref(py))));
        group.0 += 1;
        group.1 = group.1.min(when);
    }

    fn most_frequent(self, py: Python<'_>) -> Vec<Group<'_>> {
        let mut groups: Vec<_> = self.0.into_values().collect();
        groups.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
        let shown = groups.into_iter().take(Self::SHOWN);
        shown.filter_map(|(count, when, object)| Some((count, seconds(when), object?.into_bound(py)))).collect()
    }
}
