//! The record: what a loop leaves in its process's page, seen through the page's file as another process sees it.
#![cfg(all(target_os = "linux", feature = "recorder"))]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferrio::cause;
use ferrio::recorder::reading::{LoopView, View};
use ferrio::recorder::{self, Kind, Level, State};

fn view() -> View {
    let path = recorder::path().expect("this machine has a tmpfs");
    View::open(&path).expect("this process's page")
}

/// All tests of this process share one page, which has places for so many loops and one wanted level: whoever makes loops
/// holds this.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The loop that this thread runs.
fn own_loop() -> LoopView {
    // SAFETY: no arguments, cannot fail.
    let thread = unsafe { libc::gettid() } as u32;
    let of_this_thread = |one: &LoopView| one.thread == thread && one.state != State::Free;
    view().loops().into_iter().rfind(of_this_thread).expect("a loop has run on this thread")
}

#[test]
fn pulse_counts_steps_turns_sleeps_and_lateness() {
    let _alone = alone();
    let counters = ferrio::run(async {
        for _ in 0..5 {
            ferrio::sleep(Duration::from_millis(2)).await;
        }
        own_loop()
    });
    assert_eq!(counters.state, State::Running);
    assert!(counters.steps >= 6 && counters.turns >= 6 && counters.sleeps >= 5, "{counters:?}");
    assert!(counters.slept >= 5 * 1_000_000, "{counters:?}");
    assert_eq!(counters.late.count, 5);
    assert!(counters.late.buckets.iter().map(|(_, count)| *count).sum::<u32>() == 5);
}

#[test]
fn a_turn_that_holds_the_others_up_is_counted_once() {
    let _alone = alone();
    let before_and_after = ferrio::run(async {
        ferrio::sleep(Duration::from_millis(1)).await;
        let before = own_loop().slow_turns;
        std::thread::sleep(Duration::from_millis(150));
        ferrio::sleep(Duration::from_millis(1)).await;
        (before, own_loop())
    });
    let (before, after) = before_and_after;
    assert_eq!(after.slow_turns, before + 1);
    assert!(after.longest_turn >= 140_000_000, "{after:?}");
}

#[test]
fn flight_keeps_wakes_and_steps_with_their_causes() {
    let _alone = alone();
    let records = ferrio::run(async {
        recorder::want(Level::Flight);
        // The loop heeds it at its next look.
        ferrio::sleep(Duration::from_millis(2)).await;
        let slot = own_loop().slot as u8;
        ferrio::create_task(async { ferrio::sleep(Duration::from_millis(2)).await }).await.expect("not cancelled");
        recorder::want(Level::Pulse);
        let all = view().records();
        all.into_iter().filter(|record| record.slot == slot).collect::<Vec<_>>()
    });
    let has = |kind: Kind| records.iter().any(|record| record.kind == kind);
    assert!(has(Kind::Wake) && has(Kind::Step) && has(Kind::Sleep) && has(Kind::Timer) && has(Kind::Name));
    let timer = records.iter().find(|record| record.kind == Kind::Timer).expect("set by the task");
    let woken = records
        .iter()
        .find(|record| {
            record.kind == Kind::Wake && record.cause == cause::Cause::new(cause::Kind::Timer, timer.subject)
        })
        .expect("the timer's wake-up names the timer");
    assert!(woken.at >= timer.when, "{woken:?} {timer:?}");
    let ran = records.iter().find(|record| record.kind == Kind::Step && record.at >= woken.at).expect("its step");
    assert_eq!(ran.cause, woken.cause);
    assert!(records.windows(2).all(|pair| pair[1].at + 1_000_000_000 > pair[0].at));
}

#[test]
fn a_file_that_is_no_page_is_refused() {
    let path = std::env::temp_dir().join(format!("ferrio-no-page-{}", std::process::id()));
    std::fs::write(&path, b"something else").expect("a file");
    let error = View::open(&path).err().expect("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(View::open(&path).err().expect("gone").kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn the_file_is_its_users_alone() {
    let _alone = alone();
    use std::os::unix::fs::MetadataExt;
    ferrio::run(async {});
    let path = recorder::path().expect("this machine has a tmpfs");
    assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
    assert_eq!(path.parent().expect("a folder").metadata().expect("there").mode() & 0o777, 0o700);
}

#[test]
fn more_loops_than_slots_run_all_the_same() {
    let _alone = alone();
    let loops: Vec<_> = (0..40).map(|_| ferrio::Loop::new().expect("a poller")).collect();
    for one in &loops {
        one.run(ferrio::sleep(Duration::from_micros(10)));
    }
}
