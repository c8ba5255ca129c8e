//! The record, in Python's words: what the flight ring calls a job ([`subjects`]), what this process leaves for those who look
//! at it ([`leaving`]), and reading the pages of other processes ([`viewing`]). What is kept, and where, is the engine's
//! (`ferrio::recorder`).

pub mod leaving;
pub mod subjects;
pub mod viewing;

use ferrio::recorder::reading::{LoopView, Times};
use ferrio::recorder::{Level, State};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn level_number(level: &str) -> PyResult<u32> {
    match level {
        "pulse" => Ok(Level::Pulse as u32),
        "flight" => Ok(Level::Flight as u32),
        "deep" => Ok(Level::Deep as u32),
        other => Err(PyValueError::new_err(format!("level must be 'pulse', 'flight' or 'deep', got '{other}'"))),
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    // (A conversion to an integer takes what is too large for the largest.)
    (seconds * 1e9).max(1.0) as u64
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// What a loop has counted, for Python.
fn counters<'py>(py: Python<'py>, one: &LoopView) -> PyResult<Bound<'py, PyDict>> {
    let known = PyDict::new(py);
    let state = match one.state {
        State::Running => "running",
        State::Asleep => "asleep",
        State::Idle => "idle",
        State::Free => "closed",
    };
    known.set_item("slot", one.slot)?;
    known.set_item("number", one.number)?;
    known.set_item("has_room", one.has_room)?;
    known.set_item("state", state)?;
    known.set_item("thread", one.thread)?;
    for (name, count) in [("steps", one.steps), ("turns", one.turns), ("sleeps", one.sleeps)] {
        known.set_item(name, count)?;
    }
    known.set_item("heard", one.heard)?;
    known.set_item("timers", one.timers)?;
    known.set_item("slow_turns", one.slow_turns)?;
    let times = [
        ("slept", one.slept),
        ("run_began", one.run_began),
        ("since", one.since),
        ("looked", one.looked),
        ("worked", one.worked),
        ("longest_turn", one.longest_turn),
        ("longest_turn_at", one.longest_turn_at),
    ];
    for (name, time) in times {
        known.set_item(name, seconds(time))?;
    }
    known.set_item("quiet", one.quiet.map(seconds))?;
    for (name, times) in [("late", &one.late), ("busy", &one.busy)] {
        known.set_item(name, histogram(py, times)?)?;
    }
    Ok(known)
}

/// `{"count": …, "longest": seconds, "buckets": [(at most so many seconds, how many lately), …]}`
fn histogram<'py>(py: Python<'py>, times: &Times) -> PyResult<Bound<'py, PyDict>> {
    let known = PyDict::new(py);
    known.set_item("count", times.count)?;
    known.set_item("longest", seconds(times.longest))?;
    let buckets: Vec<_> = times.buckets.iter().map(|(end, count)| (seconds(*end), *count)).collect();
    known.set_item("buckets", buckets)?;
    Ok(known)
}
