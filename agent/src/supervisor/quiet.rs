//! How long an idle session may be silent: learned from the path.
//!
//! A firewall or a NAT forgets an idle flow after a time that nobody tells. An agent that is
//! silent for longer finds its session gone each time it asks. So where idle connections die
//! at about the same silence twice in a row, the next ones ask earlier; and, rarely, later
//! again, because networks change.

use std::time::{Duration, Instant};

use wire::limits::{HEARTBEAT_ANSWER_MAX, HEARTBEAT_IDLE_WEBSOCKET};

/// An agent that must ask more often than this is no idle one.
const QUIET_MIN: Duration = Duration::from_secs(5);

/// Deaths in silence, one after the other, that are no accident.
const DEATHS: u32 = 2;

/// How long connections must live before a longer silence is tried.
const TRUSTED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The longest silence that this path allows, as far as it is known. Time must not run
/// backwards.
#[derive(Debug, Clone)]
pub struct Quiet {
    max: Duration,
    deaths: u32,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// When it was up.
    pub(super) since: Instant,
    /// When something was last heard.
    pub(super) last_heard: Instant,
    /// Now.
    pub(super) at: Instant,
    /// Whether no stream was open, and nobody meant it to end.
    pub(super) is_idle_death: bool,
}

impl Default for Quiet {
    fn default() -> Self {
        Self {
            max: HEARTBEAT_IDLE_WEBSOCKET,
            deaths: 0,
        }
    }
}

impl Quiet {
    /// The longest silence to ask a relay for.
    pub(super) const fn max(&self) -> Duration {
        self.max
    }

    /// A connection has ended.
    pub(super) fn note_end(&mut self, end: &End) {
        let lived = end.at.saturating_duration_since(end.since);
        let silent = end.at.saturating_duration_since(end.last_heard);
        // Heard of by its own question: after the pause, and within an answer's time.
        let pause = self.max.min(lived);
        let is_by_silence = silent + Duration::from_secs(1) >= pause
            && silent <= pause + HEARTBEAT_ANSWER_MAX
            && lived >= QUIET_MIN;
        if lived >= TRUSTED_AFTER {
            self.deaths = 0;
            self.max = (self.max * 5 / 4).min(HEARTBEAT_IDLE_WEBSOCKET);
        } else if end.is_idle_death && is_by_silence {
            self.deaths += 1;
            if self.deaths >= DEATHS {
                self.deaths = 0;
                self.max = (self.max * 3 / 5).max(QUIET_MIN);
                tracing::info!(heartbeat = ?self.max, "idle connections die here: asking earlier");
            }
        } else if lived > 4 * self.max {
            self.deaths = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tunnel::World;

    use super::*;

    fn death(start: Instant, lived: u64, silent: u64) -> End {
        let at = start + Duration::from_secs(lived);
        End {
            since: start,
            last_heard: at.checked_sub(Duration::from_secs(silent)).unwrap(),
            at,
            is_idle_death: true,
        }
    }

    #[test]
    fn two_deaths_in_silence_have_the_next_connection_ask_earlier_and_one_does_not() {
        let (mut quiet, now) = (Quiet::default(), World::real().clock.now());

        quiet.note_end(&death(now, 28, 28));
        let after_one = quiet.max();
        quiet.note_end(&death(now, 29, 29));

        assert_eq!(after_one, HEARTBEAT_IDLE_WEBSOCKET);
        assert_eq!(quiet.max(), HEARTBEAT_IDLE_WEBSOCKET * 3 / 5);
    }

    #[test]
    fn a_line_that_breaks_under_traffic_says_nothing_of_silence() {
        let (mut quiet, now) = (Quiet::default(), World::real().clock.now());

        for _ in 0..5 {
            quiet.note_end(&death(now, 120, 3));
            quiet.note_end(&End {
                is_idle_death: false,
                ..death(now, 28, 28)
            });
        }

        assert_eq!(quiet.max(), HEARTBEAT_IDLE_WEBSOCKET);
    }

    #[test]
    fn it_never_asks_more_often_than_every_five_seconds_and_dares_more_after_an_hour() {
        let (mut quiet, now) = (Quiet::default(), World::real().clock.now());
        for _ in 0..20 {
            let silent = quiet.max().as_secs() + 3;
            quiet.note_end(&death(now, silent, silent));
        }
        let least = quiet.max();

        quiet.note_end(&death(now, 2 * TRUSTED_AFTER.as_secs(), 0));

        assert_eq!(least, QUIET_MIN);
        assert_eq!(quiet.max(), QUIET_MIN * 5 / 4);
    }
}
