//! [`gather`]: several futures at once, all their results.
//!
//! The futures are polled inside the task that awaits them, each with a waker of its own, so that a wake-up costs one
//! poll and not one per future.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Runs all `futures` at once, a tuple, an array or a `Vec` of them, and gives all their results in the same order.
///
/// They run within the task that awaits this and may borrow from it. If one panics, so does the whole, and the others
/// are dropped with it; for futures that go on by themselves, make tasks and gather their handles.
///
/// ```
/// use std::time::Duration;
/// use ferrio::{gather, sleep};
///
/// async fn fetch(name: &str) -> usize {
///     sleep(Duration::from_millis(5)).await;
///     name.len()
/// }
///
/// ferrio::run(async {
///     // Different kinds of futures: a tuple.
///     let (length, ()) = gather((fetch("one"), sleep(Duration::from_millis(5)))).await;
///     assert_eq!(length, 3);
///     // Any number of one kind: a vector.
///     let names = ["one", "two", "three"];
///     let lengths = gather(names.map(fetch).into_iter().collect::<Vec<_>>()).await;
///     assert_eq!(lengths, [3, 3, 5]);
/// });
/// ```
pub async fn gather<G: Gather>(futures: G) -> G::Output {
    futures.gather().await
}

/// Several futures that [`gather`] can run at once.
pub trait Gather {
    /// All their results.
    type Output;

    /// Runs them all.
    fn gather(self) -> impl Future<Output = Self::Output>;
}

impl<F: Future> Gather for Vec<F> {
    type Output = Vec<F::Output>;

    async fn gather(self) -> Self::Output {
        let mut children = Children::new(self.len());
        let mut futures: Vec<_> = self.into_iter().map(|future| Some(Box::pin(future))).collect();
        let mut results: Vec<_> = futures.iter().map(|_| None).collect();
        poll_fn(|cx| {
            children.poll(cx, |index, cx| {
                let Some(future) = &mut futures[index] else { return Poll::Pending };
                future.as_mut().poll(cx).map(|result| {
                    results[index] = Some(result);
                    futures[index] = None;
                })
            })
        })
        .await;
        results.into_iter().flatten().collect()
    }
}

impl<F: Future, const N: usize> Gather for [F; N] {
    type Output = [F::Output; N];

    async fn gather(self) -> Self::Output {
        let mut results = Vec::from(self).gather().await.into_iter();
        std::array::from_fn(|_| results.next().expect("a gathered vector is as long as what was gathered"))
    }
}

macro_rules! gather_tuple {
    ($($future:ident: $F:ident, $result:ident, $index:literal;)+) => {
        impl<$($F: Future),+> Gather for ($($F,)+) {
            type Output = ($($F::Output,)+);

            async fn gather(self) -> Self::Output {
                let ($($future,)+) = self;
                $(
                    let mut $future = pin!(Some($future));
                    let mut $result = None;
                )+
                let mut children = Children::new([$($index),+].len());
                poll_fn(|cx| {
                    children.poll(cx, |index, cx| match index {
                        $($index => {
                            let Some(future) = $future.as_mut().as_pin_mut() else { return Poll::Pending };
                            future.poll(cx).map(|value| {
                                $result = Some(value);
                                $future.set(None);
                            })
                        })+
                        _ => Poll::Pending,
                    })
                })
                .await;
                ($($result.expect("gathering ends only when every result is there"),)+)
            }
        }
    };
}

gather_tuple!(a: A, a_result, 0;);
gather_tuple!(a: A, a_result, 0; b: B, b_result, 1;);
gather_tuple!(a: A, a_result, 0; b: B, b_result, 1; c: C, c_result, 2;);
gather_tuple!(a: A, a_result, 0; b: B, b_result, 1; c: C, c_result, 2; d: D, d_result, 3;);
gather_tuple!(a: A, a_result, 0; b: B, b_result, 1; c: C, c_result, 2; d: D, d_result, 3; e: E, e_result, 4;);
gather_tuple!(
    a: A, a_result, 0; b: B, b_result, 1; c: C, c_result, 2; d: D, d_result, 3; e: E, e_result, 4; f: F, f_result, 5;
);
gather_tuple!(
    a: A, a_result, 0; b: B, b_result, 1; c: C, c_result, 2; d: D, d_result, 3; e: E, e_result, 4; f: F, f_result, 5;
    g: G, g_result, 6;
);
gather_tuple!(
    a: A, a_result, 0; b: B, b_result, 1; c: C, c_result, 2; d: D, d_result, 3; e: E, e_result, 4; f: F, f_result, 5;
    g: G, g_result, 6; h: H, h_result, 7;
);

/// The futures of one gathering, by index: which of them were woken, and how many have not ended.
struct Children {
    family: Arc<Family>,
    wakers: Vec<Arc<Child>>,
    unfinished: usize,
}

struct Family {
    state: Mutex<FamilyState>,
}

struct FamilyState {
    /// Woken children in the order of their waking, each at most once.
    woken: Vec<usize>,
    /// Whoever awaits the whole.
    parent: Option<Waker>,
}

impl Family {
    fn lock(&self) -> MutexGuard<'_, FamilyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of one child.
struct Child {
    family: Arc<Family>,
    index: usize,
    is_woken: AtomicBool,
}

impl Wake for Child {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let parent = {
            let mut family = self.family.lock();
            family.woken.push(self.index);
            family.parent.take()
        };
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

impl Children {
    fn new(count: usize) -> Self {
        // Everybody is to be polled once to begin with.
        let state = FamilyState { woken: (0..count).collect(), parent: None };
        let family = Arc::new(Family { state: Mutex::new(state) });
        let child = |index| Arc::new(Child { family: family.clone(), index, is_woken: AtomicBool::new(true) });
        Children { wakers: (0..count).map(child).collect(), family, unfinished: count }
    }

    /// Polls the children that were woken; ready when all have ended. `poll_child` answers Ready exactly once for each.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut poll_child: impl FnMut(usize, &mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        let waker = cx.waker().clone();
        let (woken, former) = {
            let mut family = self.family.lock();
            (std::mem::take(&mut family.woken), family.parent.replace(waker))
        };
        drop(former);
        for index in woken {
            let child = &self.wakers[index];
            // Down before the poll: a wake-up during it asks for another.
            child.is_woken.store(false, Ordering::Release);
            if poll_child(index, &mut Context::from_waker(&Waker::from(child.clone()))).is_ready() {
                self.unfinished -= 1;
            }
        }
        if self.unfinished == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
