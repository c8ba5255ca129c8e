//! The programs that every asyncio tutorial begins with, in Rust.
//!
//! ```text
//! cargo run -p ferrio --example tutorial
//! ```
//!
//! Two coffees, one of two seconds and one of one, brewed in four ways. `tests/tutorial.rs` runs the same functions on a
//! virtual clock and checks the times to the nanosecond.

use std::time::Duration;

use ferrio::{Instant, JoinError, create_task, gather, run, sleep, spawn_blocking};

const LONG: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_secs(1);

/// Takes its time and says what came of it.
async fn brew(what: &'static str, time: Duration) -> &'static str {
    println!("  {what}: begun");
    sleep(time).await;
    println!("  {what}: done");
    what
}

/// One after the other: each await is waited out before the next begins. 3 s.
pub async fn one_after_the_other() -> [&'static str; 2] {
    [brew("espresso", LONG).await, brew("ristretto", SHORT).await]
}

/// As tasks, both run from the moment they are made; the awaits only collect. 2 s.
pub async fn as_tasks() -> Result<[&'static str; 2], JoinError> {
    let long = create_task(brew("espresso", LONG));
    let short = create_task(brew("ristretto", SHORT));
    Ok([long.await?, short.await?])
}

/// Gathered: the same in one line, and without tasks. 2 s.
pub async fn gathered() -> [&'static str; 2] {
    gather([brew("espresso", LONG), brew("ristretto", SHORT)]).await
}

/// A call that blocks its thread, beside a future: the loop goes on meanwhile.
pub async fn beside_a_blocking_call(call: Duration) -> Result<&'static str, JoinError> {
    let grinding = spawn_blocking(move || {
        std::thread::sleep(call);
        "ground"
    });
    brew("ristretto", SHORT).await;
    grinding.await
}

// The test uses the functions above and not this one.
#[allow(dead_code)]
fn main() {
    run(async {
        let start = Instant::now();
        println!("one after the other");
        one_after_the_other().await;
        println!("took {:.1?}", start.elapsed());

        let start = Instant::now();
        println!("as tasks");
        as_tasks().await.expect("nobody cancels them");
        println!("took {:.1?}", start.elapsed());

        let start = Instant::now();
        println!("gathered");
        gathered().await;
        println!("took {:.1?}", start.elapsed());

        let start = Instant::now();
        println!("beside a blocking call of 1 s");
        beside_a_blocking_call(SHORT).await.expect("nobody cancels it");
        println!("took {:.1?}", start.elapsed());
    });
}
