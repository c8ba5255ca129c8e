//! What a snapshot asks of a loop that may have a hundred thousand of everything: counted here, shown there.
//!
//! While the engine is being walked nothing of Python's is called or let go of; references are taken, and used later.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use ferrio::event_loop::Engine;
use ferrio::poll::RawFd;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::Loop;
use crate::core::{Job, PyHost};
use crate::handle;
use crate::recording;
use crate::tasks::gather::Address;
use crate::tasks::wait::Waiting;

/// By address: a hundred thousand timers are to be looked at in a few milliseconds.
type ByAddress<T> = HashMap<usize, T, BuildHasherDefault<Address>>;
/// How many are alike, the seconds until the first of them is due (0 for what is ready), and one of them.
type Group<'py> = (usize, f64, Bound<'py, PyAny>);
/// Seconds until something is due, and what.
type Dated<'py> = (f64, Bound<'py, PyAny>);
/// What `_look_at_timers` returns.
type Timers<'py> = (usize, Vec<Group<'py>>, Vec<Option<f64>>, Vec<Dated<'py>>);

#[pymethods]
impl Loop {
    /// The timers: how many; the most frequent kinds; in how many seconds one ends each of the futures `awaited` (None:
    /// none does); and those whose object, or whose callback's, is of one of the classes `limits`. Looks at no more than `most` timers.
    fn _look_at_timers<'py>(
        this: &Bound<'py, Self>,
        awaited: Vec<Bound<'py, PyAny>>,
        limits: Vec<Bound<'py, PyType>>,
        most: usize,
    ) -> PyResult<Timers<'py>> {
        let py = this.py();
        let engine = this.get().core.engine()?;
        let now = engine.now();
        let mut places: ByAddress<(usize, Option<u64>)> =
            awaited.iter().enumerate().map(|(place, object)| (object.as_ptr() as usize, (place, None))).collect();
        let classes = limits;
        let (mut groups, mut limits) = (Groups::default(), Vec::new());
        let count = engine.for_each_deadline(most, |when, job| {
            let Some(job) = job else { return };
            groups.add(py, when, job);
            let ended = match job {
                Job::Handle(timer) => handle::first_argument(timer),
                job => job.object().map_or(0, |object| {
                    let waiting = object.bind(py).cast::<Waiting>();
                    waiting.map_or(object.as_ptr(), |waiting| waiting.get().waiter.as_ptr()) as usize
                }),
            };
            if let Some((_, known)) = places.get_mut(&ended) {
                *known = Some(known.map_or(when, |known| known.min(when)));
            }
            let object = match job {
                Job::Call(object, _) => object.as_ptr(),
                Job::Handle(timer) => handle::callback_self(timer),
                _ => return,
            };
            // SAFETY: a living object, held by the timer, and two classes.
            unsafe {
                let is_one = |class: &Bound<'_, PyType>| ffi::PyObject_TypeCheck(object, class.as_ptr().cast()) != 0;
                if !object.is_null() && limits.len() < Self::LIMITS && classes.iter().any(is_one) {
                    limits.push((when, Bound::from_borrowed_ptr(py, object)));
                }
            }
        });
        let mut ends = vec![None; awaited.len()];
        for (place, when) in places.into_values() {
            ends[place] = when.map(|when| left(when, now));
        }
        let limits = limits.into_iter().map(|(when, object)| (left(when, now), object)).collect();
        Ok((count, groups.most_frequent(py, now), ends, limits))
    }

    /// The ready queue: how many, and the most frequent kinds.
    fn _look_at_ready<'py>(this: &Bound<'py, Self>) -> PyResult<(usize, Vec<Group<'py>>)> {
        let py = this.py();
        let engine: &Engine<PyHost> = this.get().core.engine()?;
        let (mut groups, mut count) = (Groups::default(), 0);
        engine.for_each_ready(|job| {
            count += 1;
            groups.add(py, 0, job);
            Ok::<_, PyErr>(())
        })?;
        Ok((count, groups.most_frequent(py, 0)))
    }

    /// The transports that own a descriptor.
    fn _transports<'py>(this: &Bound<'py, Self>) -> Vec<(RawFd, Bound<'py, PyAny>)> {
        this.get().core.owners.all(this.py())
    }
}

impl Loop {
    /// So many timeouts are shown.
    const LIMITS: usize = 2000;
}

fn left(when: u64, now: u64) -> f64 {
    (when as f64 - now as f64) / 1e9
}

/// Jobs by what they run; of those that belong to tasks by their object's class.
#[derive(Default)]
struct Groups(ByAddress<(usize, u64, Option<Py<PyAny>>)>);

impl Groups {
    const SHOWN: usize = 12;
    const KEPT: usize = 1000;

    fn add(&mut self, py: Python<'_>, when: u64, job: &Job) {
        let key = match job {
            // All tasks are alike here: the snapshot tells them apart elsewhere.
            Job::Step(_) => 0,
            job => recording::key(job) as usize,
        };
        if self.0.len() >= Self::KEPT && !self.0.contains_key(&key) {
            return;
        }
        let group = self.0.entry(key).or_insert_with(|| (0, when, job.object().map(|object| object.clone_ref(py))));
        group.0 += 1;
        group.1 = group.1.min(when);
    }

    fn most_frequent<'py>(self, py: Python<'py>, now: u64) -> Vec<Group<'py>> {
        let mut groups: Vec<_> = self.0.into_values().collect();
        groups.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
        let shown = groups.into_iter().take(Self::SHOWN);
        shown
            .filter_map(|(count, when, object)| {
                let due = if now == 0 { 0.0 } else { left(when, now) };
                Some((count, due, object?.into_bound(py)))
            })
            .collect()
    }
}
