//! [`yield_now`]: let the others run.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Lets everything run that is ready now, then goes on: `await asyncio.sleep(0)`.
///
/// A task that computes for long does this now and then, because while it runs nothing else does.
///
/// ```
/// ferrio::run(async {
///     let greeting = ferrio::create_task(async { println!("printed first") });
///     ferrio::yield_now().await;
///     assert!(greeting.is_finished());
/// });
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { has_yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    has_yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
