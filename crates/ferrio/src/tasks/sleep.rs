//! [`sleep`]: a timer that wakes a task.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Instant;
use crate::task;
use crate::timers::TimerId;

/// Waits for `delay`, counted from when it is first awaited. Without a delay it only lets the others run, as
/// [`yield_now`](crate::yield_now) does.
///
/// ```
/// use std::time::Duration;
/// use ferrio::Instant;
///
/// // With virtual time an hour takes no time, and it is an hour to the nanosecond.
/// ferrio::Loop::builder().virtual_clock().build().unwrap().run(async {
///     let start = Instant::now();
///     ferrio::sleep(Duration::from_secs(3600)).await;
///     assert_eq!(start.elapsed(), Duration::from_secs(3600));
/// });
/// ```
pub fn sleep(delay: Duration) -> Sleep {
    Sleep { until: Until::After(delay), timer: None }
}

/// Waits until `deadline`; with one that has passed it only lets the others run.
///
/// ```
/// use std::time::Duration;
/// use ferrio::Instant;
///
/// ferrio::run(async {
///     let mut next = Instant::now();
///     for _ in 0..3 {
///         // Steady: what the work takes does not push the next round back.
///         next += Duration::from_millis(1);
///         ferrio::sleep_until(next).await;
///     }
/// });
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { until: Until::At(deadline), timer: None }
}

#[derive(Debug)]
enum Until {
    After(Duration),
    At(Instant),
}

/// The future of [`sleep`] and [`sleep_until`]. Dropping it takes its timer back.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    until: Until,
    timer: Option<Timer>,
}

#[derive(Debug)]
struct Timer {
    id: TimerId,
    /// The loop that has it.
    identity: u64,
    waker: Waker,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        task::current(|reactor| {
            let now = Instant(reactor.now());
            let deadline = match self.until {
                Until::After(delay) => now + delay,
                Until::At(deadline) => deadline,
            };
            if let Some(timer) = &self.timer {
                if now >= deadline {
                    return Poll::Ready(());
                }
                // Polled for another reason (under a timeout, say): the timer keeps its place among its equals.
                if timer.waker.will_wake(cx.waker()) {
                    return Poll::Pending;
                }
            }
            // Even a deadline that has passed costs a turn, as asyncio.sleep(0) does.
            self.take_back();
            self.until = Until::At(deadline);
            let waker = cx.waker().clone();
            let id = reactor.wake_at(deadline.0, waker.clone());
            self.timer = Some(Timer { id, identity: reactor.identity(), waker });
            Poll::Pending
        })
    }
}

impl Sleep {
    fn take_back(&mut self) {
        if let Some(Timer { id, identity, .. }) = self.timer.take() {
            task::with_loop(identity, |reactor| reactor.forget_timer(id));
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.take_back();
    }
}
