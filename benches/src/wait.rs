//! Waiting for a condition: the one place of the harness where time passes by itself.

use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Looks until `look` returns something, and returns it.
///
/// # Errors
/// `within` has passed.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Failure> {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Failure::new(format!("not within {within:?}: {what}")));
        }
        pause(POLL);
    }
}

/// Lets time pass.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness has no runtime whose threads it could block"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
