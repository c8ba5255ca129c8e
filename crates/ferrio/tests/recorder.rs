//! The record: what a loop leaves in its process's page, seen through the page's file as another process sees it.
#![cfg(all(target_os = "linux", feature = "recorder"))]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferrio::cause;
use ferrio::recorder::reading::{LoopView, Record, View};
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

/// What the ring has of a loop in which `turns` steps were made at the level flight.
fn records_of(turns: usize) -> Vec<Record> {
    ferrio::run(async move {
        // The loop heeds it at its next look.
        ferrio::sleep(Duration::from_millis(2)).await;
        for _ in 0..turns {
            ferrio::yield_now().await;
        }
        let slot = own_loop().slot as u8;
        let mut records: Vec<_> = view().records().into_iter().filter(|record| record.slot == slot).collect();
        // An earlier loop may have had the slot.
        let is_first = |place: &usize| records[*place].kind == Kind::Step && records[*place].number == 1;
        let first = (0..records.len()).rfind(is_first).unwrap_or(0);
        records.split_off(first)
    })
}

/// The numbers of the steps, which follow each other.
fn steps(records: &[Record]) -> Vec<u32> {
    let steps: Vec<_> = records.iter().filter(|record| record.kind == Kind::Step).map(|record| record.number).collect();
    assert!(steps.windows(2).all(|pair| pair[1] == pair[0] + 1), "a step is missing");
    steps
}

#[test]
fn loops_in_many_threads_write_side_by_side() {
    let _alone = alone();
    recorder::want(Level::Flight);
    let before = recorder::records();
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| records_of(3_000))).collect();
    let all: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    recorder::want(Level::Pulse);
    for records in &all {
        assert!(steps(records).len() >= 3_000, "{}", records.len());
        let wakes = records.iter().filter(|record| record.kind == Kind::Wake).count();
        assert!(wakes >= 3_000, "{wakes}");
    }
    let written = all.iter().map(Vec::len).sum::<usize>() as u64;
    assert!(recorder::records() - before >= written);
}

#[test]
fn many_loops_that_live_for_a_moment_share_the_room() {
    let _alone = alone();
    recorder::want(Level::Flight);
    (0..3_000).for_each(|_| ferrio::run(ferrio::yield_now()));
    // Those of the first are there yet, though there are fewer chunks than loops.
    let ends = view().records().iter().filter(|record| record.kind == Kind::Step).count();
    recorder::want(Level::Pulse);
    assert!(ends >= 3_000, "{ends}");
}

#[test]
fn of_more_records_than_there_is_room_for_the_newest_are_kept_with_their_names() {
    let _alone = alone();
    recorder::want(Level::Flight);
    let records = records_of(300_000);
    recorder::want(Level::Pulse);
    assert!((400_000..=512 * 1024).contains(&records.len()), "{}", records.len());
    let kept = steps(&records);
    assert!(kept.len() > 200_000 && *kept.last().expect("some") >= 300_000, "{}", kept.len());
    let name = records.iter().find(|record| record.kind == Kind::Name).expect("said again before it was overwritten");
    let last = records.iter().rfind(|record| record.kind == Kind::Step).expect("some");
    assert_eq!((name.name.as_str(), name.subject), ("the main future", last.subject));
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
    let _alone = alone();
    // The first loop of a process makes its page, and this may be the first test.
    ferrio::run(async {});
    let path = std::env::temp_dir().join(format!("ferrio-no-page-{}", std::process::id()));
    std::fs::write(&path, b"something else").expect("a file");
    let error = View::open(&path).err().expect("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(error.to_string(), "not a page of ferrio's");
    let mut other = std::fs::read(recorder::path().expect("this machine has a tmpfs")).expect("a page");
    other[8..12].copy_from_slice(&77_u32.to_le_bytes());
    std::fs::write(&path, &other).expect("a file");
    let error = View::open(&path).err().expect("refused");
    assert!(error.to_string().starts_with("a page of version 77; this ferrio reads version "), "{error}");
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
