//! Agents that are on their way back: how many there are, over how long they are to spread,
//! and who waits for one of them.

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tunnel::Session;
use wire::{
    id::EnvironmentId,
    message::{ReconnectWindow, control},
};

use super::{Absence, Registry};
use crate::{
    admission::Fleet,
    limits::{
        RECONNECT_WINDOW_MIN, RECONNECT_WINDOW_TOLD_AT_ONCE, RECONNECT_WINDOW_TOLD_EVERY,
        RETURN_TIME, RETURN_WAIT, RETURN_WAIT_MAX,
    },
};

/// By so much may the window drift before everybody is told: the whole fleet is back that
/// much later, or is sent away that much more.
const WINDOW_DRIFT: f64 = 1.15;

impl Registry {
    /// Over how long all agents would have to spread to come back in good order.
    pub fn reconnect_window(&self) -> Duration {
        self.gate.window(self.agents_expected())
    }

    /// Agents that are here, or on their way.
    pub fn agents_expected(&self) -> u32 {
        let here = u32::try_from(self.live().agents.len()).unwrap_or(u32::MAX);
        here.max(self.expected.load(Ordering::Relaxed))
    }

    /// Who is still to come.
    pub fn fleet(&self) -> Fleet {
        let here = u32::try_from(self.live().agents.len()).unwrap_or(u32::MAX);
        let expected = self.agents_expected();
        Fleet {
            missing: expected.saturating_sub(here),
            window: self.gate.window(expected),
        }
    }

    /// The relay has just started, and so many agents are known to it: they are on their way.
    pub fn expect_back(&self, agents: u32) {
        self.expected.store(agents, Ordering::Relaxed);
        let within = RETURN_TIME.max(2 * self.gate.window(agents));
        let until = self.world.clock.now() + within;
        let here = u32::try_from(self.live().agents.len()).unwrap_or(u32::MAX);
        if here < agents {
            *self.returning() = Some(until);
        }
    }

    /// The session that reaches an environment; waits for it, bounded, where the relay has
    /// just started and not everybody is back.
    pub async fn session_soon(&self, environment: EnvironmentId) -> Option<Session> {
        let mut changes = self.changes();
        let waiting = async {
            loop {
                if let Some(session) = self.session(environment) {
                    return Some(session);
                }
                // Nobody is on the way any more.
                self.returning_until()?;
                changes.changed().await.ok()?;
            }
        };
        let now = self.world.clock.now();
        let until = self.returning_until().unwrap_or(now);
        let longest = RETURN_WAIT.max(self.reconnect_window() * 5 / 4);
        let longest = longest.min(RETURN_WAIT_MAX);
        let within = until.saturating_duration_since(now).min(longest);
        // Looked at once even where there is nothing to wait for.
        tokio::time::timeout(within, waiting).await.ok().flatten()
    }

    /// Until when agents may still be on their way back from a relay that has restarted;
    /// `None`: that time is over.
    pub fn returning_until(&self) -> Option<Instant> {
        let now = self.world.clock.now();
        self.returning().filter(|until| now < *until)
    }

    pub(super) fn returning(&self) -> MutexGuard<'_, Option<Instant>> {
        let returning = self.returning_until.lock();
        returning.unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts who is here, and who has been until a while ago. Right after a start it keeps
    /// to what the store said.
    fn count_expected(&self) {
        if self.returning_until().is_some() {
            return;
        }
        let now = self.world.clock.now();
        let live = self.live();
        let is_late =
            |absence: &&Absence| now.saturating_duration_since(absence.since) < RETURN_TIME;
        let absent = live.absences.values().filter(is_late).count();
        let count = live.agents.len() + absent;
        drop(live);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.expected.store(count, Ordering::Relaxed);
    }

    /// Tells agents that are connected when the window has become another one than
    /// they know, until the token is cancelled: those that came first know of a window
    /// for few.
    pub async fn keep_windows(self: Arc<Self>, stop: CancellationToken) {
        let mut told = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RECONNECT_WINDOW_TOLD_EVERY) => {}
            }
            self.count_expected();
            let window = self.reconnect_window();
            if !is_another_window(told, window) {
                continue;
            }
            told = window;
            let window_ms = u32::try_from(window.as_millis()).unwrap_or(u32::MAX);
            let agents = self.agents();
            for (index, session) in agents.iter().enumerate() {
                session.send_control(control::Message::ReconnectWindow(ReconnectWindow {
                    window_ms,
                }));
                if index % RECONNECT_WINDOW_TOLD_AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Whether who knows of one window would come too early or too late by another: those
/// that say nothing are one and the same.
fn is_another_window(told: Duration, window: Duration) -> bool {
    let (told, window) = (
        told.max(RECONNECT_WINDOW_MIN),
        window.max(RECONNECT_WINDOW_MIN),
    );
    window > told.mul_f64(WINDOW_DRIFT) || told > window.mul_f64(WINDOW_DRIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_told_of_a_window_only_where_it_changes_when_they_come() {
        let seconds = Duration::from_secs;

        assert!(!is_another_window(Duration::ZERO, seconds(1)));
        assert!(!is_another_window(seconds(40), seconds(45)));
        assert!(is_another_window(seconds(40), seconds(48)));
        assert!(is_another_window(Duration::ZERO, seconds(2)));
        assert!(is_another_window(seconds(50), seconds(1)));
    }
}
