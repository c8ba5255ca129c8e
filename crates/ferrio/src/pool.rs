//! Threads for calls that block: started when needed, kept until the loop ends.
//!
//! A job leaves its result where it likes and wakes a task of the loop through the inbox; nothing here knows the loop.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one loop. Dropping them lets calls that run go on to their end, and forgets those that wait.
#[derive(Default)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: RefCell<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    idle: usize,
    closed: bool,
}

impl Pool {
    /// Runs `job`, which must not panic, on a thread of its own or as soon as one is free.
    ///
    /// # Errors
    /// The operating system's, if it refuses the first thread; with at least one the job waits for its turn.
    pub(crate) fn submit(&self, job: Job) -> io::Result<()> {
        let mut threads = self.threads.borrow_mut();
        let mut state = self.shared.lock();
        if state.idle <= state.waiting.len() && threads.len() < most_threads() {
            match self.start_thread(threads.len()) {
                Ok(thread) => {
                    threads.push(thread);
                    state.idle += 1;
                }
                Err(error) if threads.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        state.waiting.push_back(job);
        drop(state);
        self.shared.news.notify_one();
        Ok(())
    }

    /// Forgets the calls that wait, waits for those that run, and ends the threads. The pool can be used again.
    pub(crate) fn shutdown(&self) {
        self.close();
        for thread in self.threads.take() {
            // Jobs catch their panics, so there is nothing to learn from the result.
            drop(thread.join());
        }
        let mut state = self.shared.lock();
        (state.closed, state.idle) = (false, 0);
    }

    fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.shared.news.notify_all();
        drop(waiting);
    }

    fn start_thread(&self, number: usize) -> io::Result<JoinHandle<()>> {
        let shared = self.shared.clone();
        thread::Builder::new().name(format!("ferrio-blocking-{number}")).spawn(move || shared.work())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of one thread; it is counted as idle when it begins.
    fn work(&self) {
        let mut state = self.lock();
        while !state.closed {
            if let Some(job) = state.waiting.pop_front() {
                state.idle -= 1;
                drop(state);
                job();
                state = self.lock();
                state.idle += 1;
            } else {
                state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// As many as asyncio's default executor has: blocking calls mostly wait, so there may be more than processors.
fn most_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).saturating_add(4).min(32)
}
