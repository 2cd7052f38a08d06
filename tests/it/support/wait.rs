//! Waiting for a condition, with a deadline. Nothing here or in a test sleeps and hopes.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Seconds, for deadlines.
pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Milliseconds, for deadlines.
pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Asks `probe` until it answers `Ok`, and returns that. `Err` holds what it saw instead; past the
/// deadline the test fails with the last of these.
pub(crate) async fn eventually<T, E: Debug>(
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() >= deadline => {
                panic!("not within {deadline:?}; last seen: {seen:#?}")
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
