//! The loop itself, with callbacks of a host: what a turn does and in which order, and what cannot disturb it.
#![cfg(unix)]

mod common;

use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use ferrio::Direction::{Read as ReadSide, Write as WriteSide};
use ferrio::cause::{Cause, Kind};
use ferrio::clock::Clock;
use ferrio::event_loop::Engine;
use ferrio::ready::Order;
use ferrio::signal::{SIGUSR1, Signal};
use ferrio::task::with_current;

/// A socket with something to read in it, and the other end.
fn readable() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (&far).write_all(b"x").unwrap();
    (near, far)
}

fn stop() -> Job {
    job(|engine| engine.stop())
}

// --- a turn --------------------------------------------------------------------------------------------------------

#[test]
fn a_turn_runs_what_is_ready_then_io_then_timers() {
    let engine = new_loop();
    let (near, _far) = readable();
    engine.timer(engine.now(), due(note("timer")));
    engine.watch(near.as_raw_fd(), ReadSide, note("io")).unwrap();
    engine.soon(note("ready"));
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["ready", "io", "timer"]);
}

#[test]
fn what_a_step_makes_ready_belongs_to_the_next_turn() {
    let engine = new_loop();
    engine.soon(job(|engine| {
        engine.soon(note("second turn"));
        engine.host.0.borrow_mut().push("first turn".into());
    }));
    engine.soon(note("first turn, too"));
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["first turn", "first turn, too"]);
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["second turn"]);
}

#[test]
fn callbacks_that_make_themselves_ready_for_ever_do_not_starve_io() {
    fn again(engine: &Engine<Log>) {
        engine.soon(job(again));
    }
    let engine = new_loop();
    let (near, _far) = readable();
    engine.soon(job(again));
    engine.turn(()).unwrap();
    engine.watch(near.as_raw_fd(), ReadSide, note("io")).unwrap();
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["io"]);
}

#[test]
fn a_descriptor_that_always_has_news_does_not_starve_others() {
    let engine = new_loop();
    let (always, _far) = readable();
    let (other, mut others_far) = UnixStream::pair().unwrap();
    engine.watch(always.as_raw_fd(), ReadSide, note("always")).unwrap();
    engine.watch(other.as_raw_fd(), ReadSide, note("other")).unwrap();
    for _ in 0..100 {
        engine.turn(()).unwrap();
        assert_eq!(written(&engine), ["always"]);
    }
    others_far.write_all(b"x").unwrap();
    for _ in 0..20 {
        engine.turn(()).unwrap();
    }
    assert!(written(&engine).contains(&"other".into()));
}

#[test]
fn a_descriptor_that_has_had_news_for_long_is_told_of_nothing_more_once_it_is_read() {
    let engine = new_loop();
    let (mut near, mut far) = readable();
    let timer = || engine.timer(engine.now(), due(note("timer")));
    for news in [1, 2, 3, 20] {
        engine.watch(near.as_raw_fd(), ReadSide, note("io")).unwrap();
        for _ in 0..news {
            engine.turn(()).unwrap();
        }
        assert_eq!(written(&engine), vec!["io"; news]);
        near.read_exact(&mut [0]).unwrap();
        for _ in 0..20 {
            timer();
            engine.turn(()).unwrap();
        }
        assert_eq!(written(&engine), ["timer"; 20]);
        drop(engine.unwatch(near.as_raw_fd(), ReadSide));
        far.write_all(b"x").unwrap();
    }
}

#[test]
fn where_no_descriptor_has_had_news_for_long_a_few_turns_share_one_look() {
    fn again(engine: &Engine<Log>) {
        engine.soon(job(again));
    }
    let engine = new_loop();
    let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
    engine.watch(near.as_raw_fd(), ReadSide, note("io")).unwrap();
    engine.soon(job(again));
    for _ in 0..1000 {
        engine.turn(()).unwrap();
    }
    for _ in 0..20 {
        std::io::Write::write_all(&mut far, b"x").unwrap();
        let turns = std::iter::repeat_with(|| engine.turn(()).unwrap()).take_while(|()| written(&engine).is_empty());
        assert!(turns.count() <= 32);
        std::io::Read::read_exact(&mut &near, &mut [0]).unwrap();
        engine.turn(()).unwrap();
        engine.host.0.borrow_mut().clear();
    }
}

#[test]
fn stop_lets_the_turn_end_and_keeps_what_comes_after_it() {
    let engine = new_loop();
    engine.soon(job(|engine| engine.soon(note("next turn"))));
    engine.soon(stop());
    engine.soon(note("this turn"));
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["this turn"]);
    engine.soon(stop());
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["next turn"]);
}

#[test]
fn stop_before_the_run_means_one_turn_without_sleeping() {
    let engine = new_loop();
    engine.timer(engine.now() + 3_600_000_000_000, due(note("in an hour")));
    engine.stop();
    engine.run(()).unwrap();
    assert!(written(&engine).is_empty());
}

#[test]
fn an_abort_ends_the_run_at_once_and_keeps_the_rest_queued() {
    let engine = new_loop();
    engine.soon(note("before"));
    engine.soon(abort("interrupted"));
    engine.soon(note("after"));
    assert_eq!(engine.run(()), Err("interrupted"));
    assert_eq!(written(&engine), ["before"]);
    engine.soon(stop());
    assert_eq!(engine.run(()), Ok(()));
    assert_eq!(written(&engine), ["after"]);
}

#[test]
fn a_panic_in_a_step_is_reported_and_the_turn_goes_on() {
    let engine = new_loop();
    engine.soon(job(|_| panic!("oh")));
    engine.soon(note("after"));
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["panic: oh", "after"]);
}

#[test]
fn a_run_within_a_run_serves_the_same_queue_and_leaves_the_outer_turn_intact() {
    let engine = new_loop();
    engine.soon(job(|engine| {
        engine.soon(stop());
        engine.run(()).unwrap();
        engine.host.0.borrow_mut().push("inner run over".into());
    }));
    engine.soon(note("outer"));
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["outer", "inner run over"]);
}

#[test]
fn every_entry_knows_its_cause() {
    let engine = new_loop();
    let (near, _far) = readable();
    engine.soon(note_cause());
    engine.soon(job(|engine| engine.soon(note_cause())));
    engine.timer(engine.now(), due(note_cause()));
    engine.watch(near.as_raw_fd(), ReadSide, note_cause()).unwrap();
    engine.remote().soon(note_cause(), Cause::THREAD);
    engine.turn(()).unwrap();
    drop(engine.unwatch(near.as_raw_fd(), ReadSide));
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["Outside", "Thread", "Descriptor", "Timer", "Step"]);
    assert_eq!(engine.steps(), 6);
}

#[test]
fn whoever_waits_for_a_signal_runs_because_of_the_signal() {
    let engine = new_loop();
    let mut signal = Signal::new(SIGUSR1).unwrap();
    let receiving = Arc::new(Mutex::new(Box::pin(async move { signal.recv().await })));
    let waiting = receiving.clone();
    engine.soon(job(move |_| {
        let told = waker(|| {
            with_engine(|engine| {
                engine.host.0.borrow_mut().push(format!("{:?}", engine.cause()));
                engine.stop();
            });
        });
        assert!(waiting.lock().unwrap().as_mut().poll(&mut Context::from_waker(&told)).is_pending());
        // SAFETY: has no preconditions; there is a handler for the signal.
        assert_eq!(unsafe { libc::raise(SIGUSR1) }, 0);
    }));
    engine.run(()).unwrap();
    assert_eq!(written(&engine), [format!("{:?}", Cause::new(Kind::Signal, SIGUSR1 as u64))]);
    drop(receiving);
}

// --- time ----------------------------------------------------------------------------------------------------------

#[test]
fn a_timer_never_fires_early_on_the_real_clock() {
    let engine = new_loop();
    for microseconds in [1, 50, 333, 1001, 1999] {
        let when = engine.now() + microseconds * 1000;
        engine.timer(when, due(stop()));
        engine.run(()).unwrap();
        assert!(engine.now() >= when);
    }
}

#[test]
fn virtual_time_jumps_from_timer_to_timer_in_the_order_of_their_deadlines() {
    let engine = Engine::new(Log::default(), Clock::starting_at(0), Order::Fifo).unwrap();
    let hour = 3_600_000_000_000;
    engine.timer(2 * hour, due(stop()));
    engine.timer(hour, due(note("after an hour")));
    engine.run(()).unwrap();
    assert_eq!((written(&engine), engine.now()), (vec!["after an hour".to_owned()], 2 * hour));
}

#[test]
fn virtual_time_does_not_jump_over_news_that_is_there() {
    let engine = Engine::new(Log::default(), Clock::starting_at(0), Order::Fifo).unwrap();
    let (near, _far) = readable();
    engine.timer(10, due(note("timer")));
    engine.watch(near.as_raw_fd(), ReadSide, stop()).unwrap();
    engine.run(()).unwrap();
    assert_eq!((written(&engine).len(), engine.now()), (0, 0));
}

// --- descriptors ---------------------------------------------------------------------------------------------------

#[test]
fn a_watcher_runs_in_every_turn_until_what_it_watches_is_read() {
    let engine = new_loop();
    let (near, _far) = readable();
    engine.watch(near.as_raw_fd(), ReadSide, note("news")).unwrap();
    engine.turn(()).unwrap();
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["news", "news"]);
    (&near).read_exact(&mut [0]).unwrap();
    engine.soon(note("no news"));
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["no news"]);
}

#[test]
fn a_future_is_woken_once_for_one_wait() {
    let engine = new_loop();
    let (near, _far) = readable();
    engine.wake_on(near.as_raw_fd(), ReadSide, noting_waker("woken")).unwrap();
    engine.soon(job(|engine| engine.soon(job(|engine| engine.soon(stop())))));
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["woken"]);
}

#[test]
fn a_future_and_a_watcher_share_a_descriptor_each_in_its_direction() {
    let engine = new_loop();
    let (near, _far) = readable();
    let fd = near.as_raw_fd();
    engine
        .watch(
            fd,
            ReadSide,
            job(|engine| {
                engine.host.0.borrow_mut().push("reader".into());
                engine.stop();
            }),
        )
        .unwrap();
    engine.wake_on(fd, WriteSide, noting_waker("writer woken")).unwrap();
    engine.run(()).unwrap();
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["writer woken", "reader", "reader"]);
}

#[test]
fn news_of_one_direction_does_not_silence_the_future_that_waits_for_the_other() {
    let engine = new_loop();
    let (near, far) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    engine
        .wake_on(fd, ReadSide, waker(|| with_current(|_| with_engine(|engine| engine.stop())).unwrap().unwrap()))
        .unwrap();
    engine.wake_on(fd, WriteSide, noting_waker("there was room to write")).unwrap();
    // The first turn finds room to write; only then comes something to read.
    engine.soon(job(move |_| (&far).write_all(b"x").unwrap()));
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["there was room to write"]);
}

#[test]
fn all_futures_that_wait_for_one_direction_are_woken_in_the_order_they_came() {
    let engine = new_loop();
    let (near, _far) = readable();
    let fd = near.as_raw_fd();
    for name in ["first", "second", "third"] {
        engine.wake_on(fd, ReadSide, noting_waker(name)).unwrap();
    }
    engine.soon(stop());
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["first", "second", "third"]);
}

#[test]
fn a_future_cannot_wait_for_what_a_callback_watches() {
    let engine = new_loop();
    let (near, _far) = readable();
    engine.watch(near.as_raw_fd(), ReadSide, note("watcher")).unwrap();
    let refused = engine.wake_on(near.as_raw_fd(), ReadSide, noting_waker("future")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["watcher"]);
}

#[test]
fn a_callback_that_begins_to_watch_tells_the_futures_that_waited() {
    let engine = new_loop();
    let (near, _far) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    engine.wake_on(fd, ReadSide, noting_waker("look again")).unwrap();
    engine.soon(job(move |engine| assert!(engine.watch(fd, ReadSide, note("watcher")).unwrap().is_none())));
    engine.soon(stop());
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["look again"]);
}

#[test]
fn what_cannot_be_watched_is_an_error_and_leaves_no_watcher() {
    let engine = new_loop();
    let file = std::fs::File::open("Cargo.toml").unwrap();
    for fd in [-1, 1_000_000, file.as_raw_fd()] {
        assert!(engine.watch(fd, ReadSide, note("never")).is_err(), "{fd}");
        assert!(!engine.is_watched(fd, ReadSide));
        assert!(engine.wake_on(fd, WriteSide, noting_waker("never")).is_err(), "{fd}");
    }
}

#[test]
fn a_hang_up_reaches_reader_and_writer() {
    let engine = new_loop();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    // Full, so that only the hang-up can be news to the writer.
    while (&near).write(&[0; 4096]).is_ok() {}
    engine.wake_on(near.as_raw_fd(), ReadSide, noting_waker("reader")).unwrap();
    engine.wake_on(near.as_raw_fd(), WriteSide, noting_waker("writer")).unwrap();
    drop(far);
    engine.soon(stop());
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["reader", "writer"]);
}

/// Closes what `number` names and gives the number to `successor`, at once: no other thread can get it in between.
fn give_number(number: i32, successor: &UnixStream) {
    // SAFETY: the number belongs to a socket of the calling test, which knows that it names another one from now on.
    assert_eq!(unsafe { libc::dup2(successor.as_raw_fd(), number) }, number);
}

#[test]
fn a_new_descriptor_with_the_number_of_a_released_one_is_watched_afresh() {
    let engine = new_loop();
    let (near, _far) = readable();
    let fd = near.as_raw_fd();
    engine.watch(fd, ReadSide, note("old")).unwrap();
    engine.turn(()).unwrap();
    engine.release(fd);
    let (successor, far) = UnixStream::pair().unwrap();
    give_number(fd, &successor);
    engine.watch(fd, ReadSide, note("new")).unwrap();
    engine.soon(note("silence"));
    engine.turn(()).unwrap();
    (&far).write_all(b"x").unwrap();
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["old", "silence", "new"]);
}

#[test]
fn even_a_descriptor_closed_without_a_word_does_not_deafen_the_next_of_its_number() {
    let engine = new_loop();
    let (near, _far) = UnixStream::pair().unwrap();
    let fd = near.as_raw_fd();
    engine.watch(fd, ReadSide, note("old")).unwrap();
    engine.wake_on(fd, WriteSide, noting_waker("old writer")).unwrap();
    let (successor, _far) = readable();
    give_number(fd, &successor);
    assert!(engine.watch(fd, ReadSide, note("new")).unwrap().is_some(), "the former callback comes back");
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["new"]);
}

#[test]
fn news_for_a_descriptor_that_was_released_in_the_same_turn_does_not_reach_its_successor() {
    let engine = new_loop();
    let ((first, _a), (second, _b)) = (readable(), readable());
    let fd = second.as_raw_fd();
    let (quiet, _c) = UnixStream::pair().unwrap();
    // Both have news. Whoever hears of the first closes the second and waits for a quiet socket under its number.
    let replace = waker(move || {
        with_engine(|engine| {
            engine.release(fd);
            give_number(fd, &quiet);
            engine.wake_on(fd, ReadSide, noting_waker("the successor was told")).unwrap();
        });
    });
    engine.wake_on(first.as_raw_fd(), ReadSide, replace).unwrap();
    engine.wake_on(fd, ReadSide, noting_waker("released")).unwrap();
    engine.soon(job(|engine| engine.soon(stop())));
    engine.run(()).unwrap();
    assert_eq!(written(&engine), ["released"]);
}

// --- other threads -------------------------------------------------------------------------------------------------

#[test]
fn threads_that_flood_the_inbox_lose_nothing_and_keep_their_order() {
    const EACH: usize = 5_000;
    let engine = new_loop();
    let seen = Arc::new([const { AtomicUsize::new(0) }; 4]);
    let left = Arc::new(AtomicUsize::new(4 * EACH));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (remote, seen, left) = (engine.remote().clone(), seen.clone(), left.clone());
            thread::spawn(move || {
                for number in 0..EACH {
                    let (seen, left) = (seen.clone(), left.clone());
                    let count = job(move |engine| {
                        assert_eq!(seen[sender].fetch_add(1, Ordering::Relaxed), number);
                        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                            engine.stop();
                        }
                    });
                    remote.soon(count, Cause::THREAD);
                    if number % 100 == 0 {
                        // Time for the loop to fall asleep in between.
                        thread::sleep(Duration::from_micros(20));
                    }
                }
            })
        })
        .collect();
    engine.run(()).unwrap();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert!(written(&engine).is_empty(), "no assertion failed within a step");
    assert_eq!(left.load(Ordering::Relaxed), 0);
}

#[test]
fn a_sleeping_loop_is_woken_by_another_thread() {
    let engine = new_loop();
    let remote = engine.remote().clone();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        remote.soon(stop(), Cause::THREAD);
    });
    let start = Instant::now();
    engine.timer(engine.now() + 60_000_000_000, due(stop()));
    engine.run(()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    sender.join().unwrap();
}

// --- spinning ------------------------------------------------------------------------------------------------------

/// A loop that asks for a minute before it sleeps.
fn spinning_loop() -> Engine<Log> {
    let engine = new_loop();
    engine.set_spin(60_000_000_000);
    engine
}

#[test]
fn a_loop_that_spins_has_news_of_descriptors_threads_and_timers() {
    let engine = spinning_loop();
    let start = Instant::now();
    let (near, _far) = readable();
    engine.watch(near.as_raw_fd(), ReadSide, stop()).unwrap();
    engine.run(()).unwrap();
    assert!(engine.unwatch(near.as_raw_fd(), ReadSide).is_some());

    let remote = engine.remote().clone();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        remote.soon(stop(), Cause::THREAD);
    });
    engine.run(()).unwrap();
    sender.join().unwrap();

    let when = engine.now() + 20_000_000;
    engine.timer(when, due(stop()));
    engine.run(()).unwrap();
    assert!(engine.now() >= when);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_loop_that_has_spun_in_vain_sleeps_until_the_timer_or_a_thread() {
    let engine = new_loop();
    engine.set_spin(1_000_000);
    let when = engine.now() + 20_000_000;
    engine.timer(when, due(stop()));
    engine.run(()).unwrap();
    assert!(engine.now() >= when);

    let remote = engine.remote().clone();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        remote.soon(stop(), Cause::THREAD);
    });
    engine.run(()).unwrap();
    sender.join().unwrap();
}

// --- the end -------------------------------------------------------------------------------------------------------

/// Makes a callback ready when it is dropped, as a Python `__del__` may.
struct CallsTheLoop;

impl Drop for CallsTheLoop {
    fn drop(&mut self) {
        with_engine(|engine| {
            engine.soon(note("never run"));
            engine.timer(0, due(note("never run")));
        })
        .expect("clear() lets what it drops find the loop");
    }
}

#[test]
fn clear_goes_on_until_what_is_dropped_adds_nothing_more() {
    let engine = new_loop();
    let (near, _far) = readable();
    let dropped = || {
        let guard = CallsTheLoop;
        job(move |_| {
            let _ = &guard;
        })
    };
    engine.soon(dropped());
    engine.timer(0, due(dropped()));
    engine.watch(near.as_raw_fd(), ReadSide, dropped()).unwrap();
    engine.remote().soon(dropped(), Cause::THREAD);
    engine.clear();
    assert_eq!(engine.ready_len(), 0);
    engine.soon(note("after"));
    engine.turn(()).unwrap();
    assert_eq!(written(&engine), ["after"]);
}

#[test]
fn every_place_where_a_job_can_be_replaced_or_refused_drops_it_where_the_loop_may_be_called() {
    let engine = new_loop();
    let (near, _far) = readable();
    let fd = near.as_raw_fd();
    engine.soon(job(move |engine| {
        let dropped = || {
            let guard = CallsTheLoop;
            job(move |_| {
                let _ = &guard;
            })
        };
        drop(engine.watch(fd, ReadSide, dropped()).unwrap());
        drop(engine.watch(fd, ReadSide, dropped()).unwrap());
        drop(engine.unwatch(fd, ReadSide));
        assert!(engine.watch(-1, ReadSide, dropped()).is_err());
        assert!(engine.watch(1_000_000, ReadSide, dropped()).is_err());
        engine.watch(fd, ReadSide, dropped()).unwrap();
        engine.release(fd);
        let id = engine.timer(engine.now() + 1_000_000_000, due(dropped()));
        drop(engine.cancel_timer(id));
        engine.stop();
    }));
    engine.run(()).unwrap();
    assert!(written(&engine).is_empty(), "no panic in the step");
}

#[test]
fn a_closed_loop_watches_nothing_and_takes_messages_without_a_sound() {
    let engine = new_loop();
    let (near, _far) = readable();
    let remote = engine.remote().clone();
    engine.close();
    assert!(engine.watch(near.as_raw_fd(), ReadSide, note("never")).is_err());
    remote.soon(note("never"), Cause::THREAD);
}
