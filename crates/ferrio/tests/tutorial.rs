//! The tutorial's programs take exactly the time that the tutorial says, by the virtual clock.

use std::time::Duration;

use ferrio::{Instant, Loop};

#[path = "../examples/tutorial.rs"]
mod tutorial;

/// What a program gives, and how long it took.
fn timed<F: Future>(program: impl FnOnce() -> F) -> (F::Output, Duration) {
    Loop::builder().virtual_clock().build().unwrap().run(async {
        let start = Instant::now();
        let result = program().await;
        (result, start.elapsed())
    })
}

#[test]
fn awaiting_one_after_the_other_takes_the_sum() {
    assert_eq!(timed(tutorial::one_after_the_other), (["espresso", "ristretto"], Duration::from_secs(3)));
}

#[test]
fn tasks_run_side_by_side() {
    let (result, time) = timed(tutorial::as_tasks);
    assert_eq!((result.unwrap(), time), (["espresso", "ristretto"], Duration::from_secs(2)));
}

#[test]
fn gathered_futures_run_side_by_side() {
    assert_eq!(timed(tutorial::gathered), (["espresso", "ristretto"], Duration::from_secs(2)));
}

#[test]
fn a_blocking_call_does_not_hold_up_the_loop() {
    // The call takes real time, during which virtual time stands still; the one second of brewing comes after it.
    let (result, time) = timed(|| tutorial::beside_a_blocking_call(Duration::from_millis(20)));
    assert_eq!((result.unwrap(), time), ("ground", Duration::from_secs(1)));
}
