//! Waiting for a condition: the one place of the tests where time passes by itself.

use std::time::{Duration, Instant};

/// Enough for anything that happens at once, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Looks until `look` returns something, and returns it.
///
/// # Panics
/// Once `within` has passed, with `what` was waited for.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
