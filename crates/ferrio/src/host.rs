//! What an engine asks of the language it serves.

use std::any::Any;
use std::io;

use crate::cause::Cause;
use crate::event_loop::Engine;
use crate::recorder::{Observed, Title};

/// The half of a loop that knows the language: Python's callbacks, or nothing at all for a Rust program.
///
/// The engine calls these on the loop's thread. `Cx` is whatever proof the language needs for being called (Python's
/// interpreter lock), carried through the engine without the engine knowing it.
pub trait Host: Sized + 'static {
    /// Proof that the language may be entered.
    type Cx<'a>: Copy;
    /// A ready callback of the language. `Send`, because other threads may leave one in the inbox.
    type Job: Send + 'static;
    /// What makes a run end at once, the rest of the ready queue untouched (`KeyboardInterrupt`).
    type Abort;

    /// Runs one ready entry.
    fn run(engine: &Engine<Self>, cx: Self::Cx<'_>, job: Self::Job, cause: Cause) -> Result<(), Self::Abort>;

    /// As [`run`](Self::run), at [`Level::Flight`](crate::recorder::Level::Flight) and above: whoever knows that the
    /// subject of the job is over says so ([`Engine::forget_subject`]).
    fn run_recorded(engine: &Engine<Self>, cx: Self::Cx<'_>, job: Self::Job, cause: Cause) -> Result<(), Self::Abort> {
        Self::run(engine, cx, job, cause)
    }

    /// The job of a watcher that stays, for one more piece of news.
    fn again(cx: Self::Cx<'_>, job: &Self::Job) -> Self::Job;

    /// A turn ends: what its steps have put off (writes, gathered to leave together) happens now.
    fn settle(engine: &Engine<Self>, cx: Self::Cx<'_>);

    /// Runs `wait`, which may sleep, while other threads may enter the language.
    fn park<R: Send>(cx: Self::Cx<'_>, wait: impl FnOnce() -> R + Send) -> R;

    /// The wait failed; `error` is of kind `Interrupted` if a signal came.
    fn wait_failed(engine: &Engine<Self>, cx: Self::Cx<'_>, error: io::Error) -> Result<(), Self::Abort>;

    /// Somebody watches this loop ([`Level::Deep`](crate::recorder::Level::Deep)): this happens in it right now. It may
    /// call the loop. Not called at other levels.
    fn observe(engine: &Engine<Self>, event: Observed<'_, Self::Job>) {
        let _ = (engine, event);
    }

    /// What tells the subject of a job from others while it lives (its address, say). For the flight record.
    fn key(job: &Self::Job) -> u64 {
        let _ = job;
        0
    }

    /// What stands for that subject's name: asked for each subject, so that the name itself is asked for once for all that
    /// have the same. None if only the language can tell, which must not be called here.
    fn title(job: &Self::Job) -> Option<Title> {
        let _ = job;
        None
    }

    /// The same where that is None; the language may be called.
    fn asked_title(job: &Self::Job) -> Title {
        let _ = job;
        Title::default()
    }

    /// What changes when that name does (the address of a string, say); 0 if only the language can tell, which must not be
    /// called here.
    fn name_stamp(job: &Self::Job) -> usize {
        let _ = job;
        0
    }

    /// What people call it (`fetch`).
    fn name(job: &Self::Job) -> String {
        let _ = job;
        String::new()
    }

    /// Somebody who looks at this process wants to know what everything in the loop waits for, or it is time to leave
    /// that for whoever looks later: [`Engine::write_snapshot`]. True if there is more to do: it is asked again after a
    /// turn, and the loop does not sleep before.
    fn snapshot(engine: &Engine<Self>, cx: Self::Cx<'_>) -> Result<bool, Self::Abort> {
        let _ = (engine, cx);
        Ok(false)
    }

    /// The page asks for [`Level::Deep`](crate::recorder::Level::Deep), or not any more: it is the host who then writes
    /// down what it [observes](Engine::set_observed).
    fn deepen(engine: &Engine<Self>, cx: Self::Cx<'_>, deep: bool) -> Result<(), Self::Abort> {
        let _ = (engine, cx, deep);
        Ok(())
    }

    /// A step panicked; the loop goes on.
    fn panicked(engine: &Engine<Self>, cx: Self::Cx<'_>, panic: Box<dyn Any + Send>);
}
