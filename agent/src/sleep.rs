//! Notices that the host has slept: its own clock stood while the world's went on.
//!
//! On Linux the monotonic clock stops in a suspend, and a virtual machine that was paused or
//! moved shows the same. Deadlines are of that clock, so that nothing times out in a sleep;
//! but what is at the other end has not slept, and the session is asked at once.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tunnel::World;

use crate::nudge::{Nudge, Nudges};

/// How often the clocks are compared.
const EVERY: Duration = Duration::from_secs(2);

/// By how much the world's clock must have gone ahead. Below lies what NTP corrects.
const SLEPT: Duration = Duration::from_secs(5);

/// Nudges after each sleep, until the token is cancelled.
pub async fn watch(world: World, nudges: Nudges, stop: CancellationToken) {
    let look = || (world.clock.now(), world.clock.unix_milliseconds());
    let mut last = look();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = look();
        if let Some(slept) = slept(last, now) {
            tracing::info!(?slept, "the host has slept, or its clock was set");
            nudges.call(Nudge::Network);
        }
        last = now;
    }
}

/// For how long the host slept between two looks at its clocks. A clock that was set back
/// is none of this.
fn slept(before: (Instant, i64), now: (Instant, i64)) -> Option<Duration> {
    let own = now.0.saturating_duration_since(before.0);
    let world = u64::try_from(now.1.saturating_sub(before.1)).ok()?;
    let ahead = Duration::from_millis(world).checked_sub(own)?;
    (ahead >= SLEPT).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_world_that_went_ahead_by_seconds_tells_of_a_sleep() {
        let start = World::real().clock.now();
        let later = |seconds, milliseconds| (start + Duration::from_secs(seconds), milliseconds);
        let before = (start, 1_000_000);

        assert_eq!(slept(before, later(2, 1_002_000)), None);
        assert_eq!(slept(before, later(2, 1_004_500)), None);
        assert_eq!(slept(before, later(2, 400_000)), None, "set back");
        assert_eq!(
            slept(before, later(2, 1_602_000)),
            Some(Duration::from_secs(600))
        );
    }
}
