//! [`timeout`]: a future, but no longer than this.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::tasks::sleep;

/// Waits for `future`, but no longer than `limit`; then the future is dropped, which cancels what it was doing.
///
/// If result and deadline come in the same turn, the result counts.
///
/// ```
/// use std::time::Duration;
///
/// ferrio::run(async {
///     let forever = std::future::pending::<()>();
///     assert!(ferrio::timeout(Duration::from_millis(1), forever).await.is_err());
///     assert_eq!(ferrio::timeout(Duration::from_secs(9), async { 1 }).await, Ok(1));
/// });
/// ```
///
/// # Errors
/// [`TimeoutError`], if the time is over first.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, TimeoutError> {
    let mut future = pin!(future);
    let mut limit = pin!(sleep(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending => limit.as_mut().poll(cx).map(|()| Err(TimeoutError(()))),
    })
    .await
}

/// [`timeout`] with asyncio's name and order of arguments.
///
/// # Errors
/// [`TimeoutError`], if the time is over first.
pub async fn wait_for<F: Future>(future: F, limit: Duration) -> Result<F::Output, TimeoutError> {
    timeout(limit, future).await
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutError(());

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over first")
    }
}

impl Error for TimeoutError {}

impl From<TimeoutError> for std::io::Error {
    fn from(error: TimeoutError) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, error)
    }
}
