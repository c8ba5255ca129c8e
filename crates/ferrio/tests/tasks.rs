//! Tasks, sleeping, gathering, timeouts and blocking calls, as a Rust program sees them.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use ferrio::*;

const SECOND: Duration = Duration::from_secs(1);

fn virtual_loop() -> Loop {
    Loop::builder().virtual_clock().build().unwrap()
}

/// What several tasks of one thread write into.
type Notes = Rc<RefCell<Vec<String>>>;

/// Writes its name when it is dropped.
struct Dropped(&'static str, Notes);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0.to_owned());
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<&str>()
        .map_or_else(|| panic.downcast_ref::<String>().unwrap().clone(), |text| (*text).to_owned())
}

// --- run -----------------------------------------------------------------------------------------------------------

#[test]
fn run_gives_the_result_and_lets_the_future_borrow_from_its_caller() {
    let text = String::from("borrowed");
    let length = run(async {
        yield_now().await;
        text.len()
    });
    assert_eq!(length, 8);
}

#[test]
fn a_panic_of_the_main_future_goes_on_in_run_and_the_loop_can_run_again() {
    let one = Loop::new().unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| one.run(async { panic!("main") }))).unwrap_err();
    assert_eq!(panic_text(panic), "main");
    assert_eq!(one.run(async { create_task(async { 1 }).await.unwrap() }), 1);
}

#[test]
fn a_run_within_a_run_is_refused() {
    let panic = catch_unwind(|| run(async { run(async {}) })).unwrap_err();
    assert!(panic_text(panic).contains("a loop runs on this thread already"));
}

#[test]
fn what_needs_a_loop_says_so_where_there_is_none() {
    let panic = catch_unwind(|| drop(create_task(async {}))).unwrap_err();
    assert!(panic_text(panic).contains("no loop runs on this thread"));
}

#[test]
fn the_end_of_run_cancels_what_is_left_eldest_first_and_what_that_makes_anew() {
    struct MakesAnother(Notes);
    impl Drop for MakesAnother {
        fn drop(&mut self) {
            let late = Dropped("made while another was dropped", self.0.clone());
            drop(create_task(async move {
                let _late = late;
                pending::<()>().await;
            }));
        }
    }
    let notes = Notes::default();
    run(async {
        for name in ["eldest", "middle", "youngest"] {
            let guard = Dropped(name, notes.clone());
            drop(create_task(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
        }
        let guard = MakesAnother(notes.clone());
        drop(create_task(async move {
            let _guard = guard;
            sleep(3600 * SECOND).await;
        }));
        yield_now().await;
    });
    assert_eq!(*notes.borrow(), ["eldest", "middle", "youngest", "made while another was dropped"]);
}

#[test]
fn the_end_of_run_cancels_tasks_that_never_began_too() {
    let notes = Notes::default();
    run(async {
        let guard = Dropped("dropped", notes.clone());
        drop(create_task(async move {
            let _guard = guard;
            unreachable!("cancelled before its first step");
        }));
    });
    assert_eq!(*notes.borrow(), ["dropped"]);
}

#[test]
fn a_waker_that_outlives_its_run_disturbs_no_later_one() {
    let one = Loop::new().unwrap();
    let kept = Rc::new(RefCell::new(None::<Waker>));
    let keep = kept.clone();
    one.run(poll_fn(move |cx| {
        *keep.borrow_mut() = Some(cx.waker().clone());
        Poll::Ready(())
    }));
    kept.borrow().as_ref().unwrap().wake_by_ref();
    let polls = Cell::new(0);
    one.run(async {
        let mut sleep = std::pin::pin!(sleep(Duration::from_millis(5)));
        poll_fn(|cx| {
            polls.set(polls.get() + 1);
            kept.borrow().as_ref().unwrap().wake_by_ref();
            sleep.as_mut().poll(cx)
        })
        .await;
    });
    assert_eq!(polls.get(), 2);
}

// --- tasks ---------------------------------------------------------------------------------------------------------

#[test]
fn a_panic_of_a_task_comes_out_of_its_handle_and_nowhere_else() {
    run(async {
        let failed = create_task(async { panic!("task {}", 7) });
        let fine = create_task(async { "fine" });
        let Err(JoinError::Panicked(panic)) = failed.await else { unreachable!("it panics") };
        assert_eq!(panic.message(), "task 7");
        assert_eq!(panic_text(panic.into_payload()), "task 7");
        assert_eq!(fine.await.unwrap(), "fine");
    });
}

#[test]
fn a_panic_while_a_cancelled_task_is_dropped_comes_out_of_its_handle_too() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    run(async {
        let guard = PanicsInDrop;
        let task = create_task(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        yield_now().await;
        task.cancel();
        assert_eq!(task.await.unwrap_err().to_string(), "the task panicked: in drop");
    });
}

#[test]
fn a_task_whose_handle_is_dropped_goes_on() {
    let done = Rc::new(Cell::new(false));
    let seen = done.clone();
    virtual_loop().run(async move {
        drop(create_task(async move {
            sleep(SECOND).await;
            done.set(true);
        }));
        sleep(2 * SECOND).await;
    });
    assert!(seen.get());
}

#[test]
fn cancelling_drops_the_future_where_it_stands_and_only_then_wakes_who_waits() {
    let notes = Notes::default();
    run(async {
        let guard = Dropped("future dropped", notes.clone());
        let task = create_task(async move {
            let _guard = guard;
            sleep(3600 * SECOND).await;
        });
        yield_now().await;
        let canceller = task.canceller();
        canceller.cancel();
        canceller.cancel();
        assert!(notes.borrow().is_empty(), "not within cancel()");
        assert!(task.await.unwrap_err().is_cancelled());
        notes.borrow_mut().push("handle told".into());
    });
    assert_eq!(*notes.borrow(), ["future dropped", "handle told"]);
}

#[test]
fn a_task_that_has_ended_cannot_be_cancelled() {
    run(async {
        let task = create_task(async { 1 });
        yield_now().await;
        assert!(task.is_finished());
        task.cancel();
        assert_eq!(task.await.unwrap(), 1);
    });
}

#[test]
fn a_task_can_cancel_itself_and_another_thread_can_cancel_it() {
    run(async {
        let own = Rc::new(RefCell::new(None::<Canceller>));
        let task = create_task({
            let own = own.clone();
            async move {
                own.borrow().as_ref().unwrap().cancel();
                yield_now().await;
                unreachable!("cancelled at its await");
            }
        });
        *own.borrow_mut() = Some(task.canceller());
        assert!(task.await.unwrap_err().is_cancelled());

        let task = create_task(pending::<()>());
        let canceller = task.canceller();
        let other = thread::spawn(move || canceller.cancel());
        assert!(task.await.unwrap_err().is_cancelled());
        other.join().unwrap();
    });
}

#[test]
fn a_task_woken_by_another_thread_while_the_loop_sleeps_runs() {
    run(async {
        let (give, take) = mpsc::channel::<Waker>();
        let ready = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let ready = ready.clone();
            move || {
                let waker = take.recv().unwrap();
                thread::sleep(Duration::from_millis(20));
                ready.store(true, Ordering::Release);
                waker.wake();
            }
        });
        let task = create_task(poll_fn(move |cx| {
            if ready.load(Ordering::Acquire) {
                return Poll::Ready("woken");
            }
            give.send(cx.waker().clone()).unwrap();
            Poll::Pending
        }));
        assert_eq!(task.await.unwrap(), "woken");
        other.join().unwrap();
    });
}

#[test]
fn a_handle_can_be_awaited_on_the_loop_of_another_thread() {
    let (give, take) = mpsc::channel::<JoinHandle<i32>>();
    let other = thread::spawn(move || run(async move { take.recv().unwrap().await }));
    let result = run(async {
        give.send(create_task(async {
            sleep(Duration::from_millis(10)).await;
            5
        }))
        .unwrap();
        spawn_blocking(move || other.join().unwrap()).await.unwrap()
    });
    assert_eq!(result.unwrap(), 5, "what the other thread was given");
}

#[test]
fn tasks_step_in_turn_and_a_seed_shuffles_them_reproducibly() {
    fn steps(built: Builder) -> Vec<String> {
        let notes = Notes::default();
        built.build().unwrap().run(async {
            let tasks = ["a", "b", "c", "d"].map(|name| {
                let notes = notes.clone();
                create_task(async move {
                    for step in 1..=3 {
                        notes.borrow_mut().push(format!("{name}{step}"));
                        yield_now().await;
                    }
                })
            });
            drop(gather(tasks).await);
        });
        notes.take()
    }
    let in_turn = steps(Loop::builder());
    assert_eq!(in_turn, ["a1", "b1", "c1", "d1", "a2", "b2", "c2", "d2", "a3", "b3", "c3", "d3"]);
    let orders: Vec<_> = (0..8).map(|seed| steps(Loop::builder().seed(seed))).collect();
    assert_eq!(orders, (0..8).map(|seed| steps(Loop::builder().seed(seed))).collect::<Vec<_>>());
    assert!(orders.iter().any(|order| *order != in_turn));
    for mut order in orders {
        order.sort();
        let mut all = in_turn.clone();
        all.sort();
        assert_eq!(order, all);
    }
}

// --- sleep and timeouts --------------------------------------------------------------------------------------------

#[test]
fn equal_deadlines_end_in_the_order_of_their_sleeps() {
    let notes = Notes::default();
    virtual_loop().run(async {
        let tasks = ["a", "b", "c"].map(|name| {
            let notes = notes.clone();
            create_task(async move {
                sleep(SECOND).await;
                notes.borrow_mut().push(name.into());
            })
        });
        drop(gather(tasks).await);
    });
    assert_eq!(*notes.borrow(), ["a", "b", "c"]);
}

#[test]
fn a_sleep_counts_from_its_first_await() {
    let took = virtual_loop().run(async {
        let later = sleep(SECOND);
        sleep(SECOND).await;
        later.await;
        let start = Instant::now();
        sleep_until(start + 2 * SECOND).await;
        sleep_until(start + SECOND).await;
        assert_eq!(start.elapsed(), 2 * SECOND);
        Instant::now()
    });
    assert_eq!(virtual_loop().run(async { Instant::now() + 4 * SECOND }), took);
}

#[test]
fn a_sleep_is_never_short_and_the_longest_does_not_overflow() {
    run(async {
        for microseconds in [0, 1, 100, 1500] {
            let start = Instant::now();
            let wanted = Duration::from_micros(microseconds);
            sleep(wanted).await;
            assert!(start.elapsed() >= wanted);
        }
        assert!(timeout(Duration::from_millis(1), sleep(Duration::MAX)).await.is_err());
    });
}

#[test]
fn sleeping_for_no_time_lets_the_others_run_once() {
    run(async {
        let other = create_task(async {});
        sleep(Duration::ZERO).await;
        assert!(other.is_finished());
    });
}

#[test]
fn a_timeout_drops_its_future_and_gives_the_result_if_both_come_at_once() {
    let notes = Notes::default();
    virtual_loop().run(async {
        let guard = Dropped("dropped", notes.clone());
        let late = async move {
            let _guard = guard;
            sleep(2 * SECOND).await;
        };
        assert!(timeout(SECOND, late).await.is_err());
        assert_eq!(*notes.borrow(), ["dropped"]);
        assert_eq!(wait_for(async { sleep(SECOND).await }, SECOND).await, Ok(()));
        assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
    });
}

#[test]
fn a_sleep_that_is_dropped_leaves_no_timer_behind() {
    virtual_loop().run(async {
        assert!(timeout(SECOND, sleep(3600 * SECOND)).await.is_err());
        let before = Instant::now();
        // Nothing to do but to wait for a thread: virtual time would jump to any timer that is left.
        let woken = Arc::new(AtomicBool::new(false));
        let mut other = None;
        poll_fn(|cx| {
            if woken.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            let (waker, woken) = (cx.waker().clone(), woken.clone());
            other.get_or_insert_with(|| {
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(20));
                    woken.store(true, Ordering::Release);
                    waker.wake();
                })
            });
            Poll::Pending
        })
        .await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        other.unwrap().join().unwrap();
    });
}

// --- gather --------------------------------------------------------------------------------------------------------

#[test]
fn gathered_results_stand_in_the_order_of_the_futures_not_of_their_ends() {
    virtual_loop().run(async {
        async fn after(seconds: u32) -> u32 {
            sleep(seconds * SECOND).await;
            seconds
        }
        assert_eq!(gather(vec![after(3), after(1), after(2)]).await, [3, 1, 2]);
        assert_eq!(gather([after(2), after(1)]).await, [2, 1]);
        assert_eq!(gather((after(2), async { "other" }, after(1))).await, (2, "other", 1));
        assert_eq!(gather(Vec::<Sleep>::new()).await, []);
    });
}

#[test]
fn a_wake_up_polls_one_of_the_gathered_futures_and_not_all() {
    let polls = Cell::new(0);
    virtual_loop().run(async {
        let counted = |seconds: u32| {
            let polls = &polls;
            async move {
                let mut sleep = std::pin::pin!(sleep(seconds * SECOND));
                poll_fn(|cx| {
                    polls.set(polls.get() + 1);
                    sleep.as_mut().poll(cx)
                })
                .await;
            }
        };
        gather((1..=100).map(counted).collect::<Vec<_>>()).await;
    });
    assert_eq!(polls.get(), 200);
}

#[test]
fn a_panic_of_a_gathered_future_is_the_whole_s_and_drops_the_others() {
    let notes = Notes::default();
    let guard = Dropped("dropped", notes.clone());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        run(async {
            let waits = async move {
                let _guard = guard;
                pending::<()>().await;
            };
            gather((waits, async { panic!("one of them") })).await
        })
    }));
    assert_eq!(panic_text(panic.unwrap_err()), "one of them");
    assert_eq!(*notes.borrow(), ["dropped"]);
}

// --- blocking calls ------------------------------------------------------------------------------------------------

#[test]
fn blocking_calls_run_beside_the_loop_and_beside_each_other() {
    run(async {
        let (to_second, from_first) = mpsc::channel();
        // Each alone would wait for ever: the first needs the second, and both need the loop.
        let first = spawn_blocking(move || {
            to_second.send(thread::current().id()).unwrap();
            thread::current().name().map(str::to_owned)
        });
        let second = spawn_blocking(move || from_first.recv().unwrap());
        let (name, other) = gather((first, second)).await;
        assert!(name.unwrap().unwrap().starts_with("ferrio-blocking"));
        assert_ne!(other.unwrap(), thread::current().id());
    });
}

#[test]
fn a_panic_of_a_blocking_call_comes_out_of_its_handle() {
    run(async {
        let Err(JoinError::Panicked(panic)) = spawn_blocking(|| panic!("there")).await else { unreachable!() };
        assert_eq!(panic.message(), "there");
        assert_eq!(spawn_blocking(|| 1).await.unwrap(), 1, "its thread goes on");
    });
}

#[test]
fn a_blocking_call_that_is_cancelled_before_a_thread_is_free_never_runs() {
    let ran = Arc::new(AtomicUsize::new(0));
    run(async {
        let (release, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        // More than there can be threads: the last ones wait for a free one.
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let (wait, ran) = (wait.clone(), ran.clone());
                spawn_blocking(move || {
                    ran.fetch_add(1, Ordering::Relaxed);
                    drop(wait.lock().map(|wait| wait.recv()));
                })
            })
            .collect();
        calls.last().unwrap().cancel();
        yield_now().await;
        drop(release);
        let results = gather(calls).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 39);
    });
    assert_eq!(ran.load(Ordering::Relaxed), 39);
}

#[test]
fn the_end_of_run_waits_for_a_call_that_runs() {
    let done = Arc::new(AtomicBool::new(false));
    run(async {
        let (begun, has_begun) = mpsc::channel();
        let done = done.clone();
        drop(spawn_blocking(move || {
            begun.send(()).unwrap();
            thread::sleep(Duration::from_millis(30));
            done.store(true, Ordering::Release);
        }));
        has_begun.recv().unwrap();
    });
    assert!(done.load(Ordering::Acquire));
}
