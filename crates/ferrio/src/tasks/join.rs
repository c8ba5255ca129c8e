//! [`create_task`]: a future that runs by itself, and the handle to wait for it or to cancel it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_task::FallibleTask;

use crate::task::{self, Canceller};

/// Makes `future` a task of the loop that runs on this thread: it runs from the next turn on, beside its maker, whether
/// or not anybody waits for it.
///
/// ```
/// ferrio::run(async {
///     let answer = ferrio::create_task(async { 6 * 7 });
///     assert_eq!(answer.await?, 42);
///     Ok::<_, ferrio::JoinError>(())
/// }).unwrap();
/// ```
///
/// # Panics
/// If no loop runs on this thread.
#[track_caller]
pub fn create_task<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    // A big future is moved about as a pointer: by value, each of the layers round it may copy it onto the stack.
    if size_of::<F>() > BIG { start(Box::pin(future)) } else { start(future) }
}

/// Futures bigger than this are boxed.
const BIG: usize = 1024;

#[track_caller]
fn start<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    task::current(|reactor| {
        let unwanted = Arc::new(AtomicBool::new(false));
        let number = reactor.next_task();
        let place = Place { identity: reactor.identity(), number };
        let scheduler = reactor.scheduler();
        let body = run_to_end(future, unwanted.clone(), place);
        let (runnable, task) = async_task::spawn_local(body, move |runnable| scheduler.schedule(runnable));
        let canceller = Canceller::new(unwanted, runnable.waker());
        reactor.adopt(number, canceller.clone());
        runnable.schedule();
        JoinHandle { task: Some(task.fallible()), canceller }
    })
}

/// The body of a task: `future` until it is ready, panics or is not wanted any more. It is dropped in here in each case.
async fn run_to_end<F: Future>(future: F, unwanted: Arc<AtomicBool>, place: Place) -> Result<F::Output, JoinError> {
    let _place = place;
    let mut slot = pin!(Some(future));
    let mut outcome = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| match slot.as_mut().as_pin_mut() {
            Some(future) if !unwanted.load(Ordering::Relaxed) => future.poll(cx).map(Ok),
            _ => Poll::Ready(Err(JoinError::Cancelled)),
        }));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(JoinError::Panicked(Panic::new(panic)))))
    })
    .await;
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| slot.set(None))) {
        outcome = Err(JoinError::Panicked(Panic::new(panic)));
    }
    outcome
}

/// A task's place in its loop's list, given up when the task ends in whatever way.
struct Place {
    identity: u64,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Elsewhere than on its loop there is no list to leave: the loop has ended and forgotten it.
        task::with_loop(self.identity, |reactor| reactor.disown(self.number));
    }
}

/// Waits for a task when awaited; dropping it lets the task go on by itself.
///
/// It may be awaited on another loop or thread too, if the task's result can go there.
pub struct JoinHandle<T> {
    /// `None` only while the handle is dropped.
    task: Option<FallibleTask<Result<T, JoinError>>>,
    canceller: Canceller,
}

impl<T> JoinHandle<T> {
    /// Asks the task to end: when its turn comes, its future is dropped where it stands, and awaiting the handle gives
    /// [`JoinError::Cancelled`]. A task that ends by itself before that has its result; one that has ended is left
    /// alone.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// ferrio::run(async {
    ///     let task = ferrio::create_task(ferrio::sleep(Duration::from_secs(3600)));
    ///     task.cancel();
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// What cancels the task from elsewhere, while this handle is awaited.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Whether the task has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(FallibleTask::is_finished)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &mut self.task else { return Poll::Ready(Err(JoinError::Cancelled)) };
        // Without a result, the loop was closed over the task.
        Poll::Ready(ready!(Pin::new(task).poll(cx)).unwrap_or(Err(JoinError::Cancelled)))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish()
    }
}

/// Why a task has no result.
#[derive(Debug)]
pub enum JoinError {
    /// It was cancelled, or its loop ended before it did.
    Cancelled,
    /// It panicked.
    Panicked(Panic),
}

impl JoinError {
    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, JoinError::Cancelled)
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self, JoinError::Panicked(_))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Cancelled => f.write_str("the task was cancelled"),
            JoinError::Panicked(panic) => write!(f, "the task panicked: {}", panic.message()),
        }
    }
}

impl Error for JoinError {}

/// What a task's panic carried.
pub struct Panic {
    /// What is told of it when the payload itself is no text.
    message: String,
    /// A mutex not for its lock but to be `Sync`, as errors are expected to be.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("(a panic without a text)").to_owned();
        Panic { message, payload: Mutex::new(payload) }
    }

    /// The text that `panic!` was called with.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the panic carried, as [`std::panic::catch_unwind`] would give it.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with the panic here, as if it had happened here.
    pub fn resume(self) -> ! {
        resume_unwind(self.into_payload())
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message).finish()
    }
}
