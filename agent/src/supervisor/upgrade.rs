//! A session over a lesser transport moves to a better one, once there is one that holds.
//!
//! What the network swallowed at the start it may let through later: a firewall's rule, a
//! proxy that is gone, a hotel that was left. So a better transport is tried quietly, rarer
//! each time it fails. The session stays where it is until the other connection has held for
//! a while, and moves with all its streams; nobody notices.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use tunnel::{DialError, DialOptions, Dialled, TransportChoice, handshake::Turn};
use wire::{limits::HANDSHAKE_TIMEOUT, transport::Transport};

use super::Supervisor;

/// The first try: a session that is seconds old may be about to end.
const PAUSE_MIN: Duration = Duration::from_secs(30);

/// Where the pause between tries stops doubling.
const PAUSE_MAX: Duration = Duration::from_secs(30 * 60);

/// How long the other connection must hold before the session moves to it.
const HOLD: Duration = Duration::from_secs(HANDSHAKE_TIMEOUT.as_secs() / 2);

/// A connection that is lost so soon after the session has moved to it was no better one.
const PROVEN_AFTER: Duration = Duration::from_secs(60);

/// When a better transport is tried. Time must not run backwards.
#[derive(Debug, Clone)]
pub struct Upgrade {
    pause: Duration,
    moved_at: Option<Instant>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            pause: PAUSE_MIN,
            moved_at: None,
        }
    }
}

/// The next try of one connection, or one that is under way.
pub(super) enum Better {
    At(Instant),
    Dialling(Dial),
}

/// A dial that is under way.
type Dial = Pin<Box<dyn Future<Output = Result<Dialled, DialError>> + Send>>;

impl Upgrade {
    /// A connection is up.
    pub(super) fn begin(&self, now: Instant) -> Better {
        Better::At(now + self.pause)
    }

    fn note_failed(&mut self, now: Instant) -> Better {
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        self.begin(now)
    }

    fn note_moved(&mut self, now: Instant) -> Better {
        self.moved_at = Some(now);
        self.begin(now)
    }

    /// The connection is gone.
    pub(super) fn note_lost(&mut self, now: Instant) {
        if let Some(moved_at) = self.moved_at.take() {
            let held = now.saturating_duration_since(moved_at);
            self.pause = match held < PROVEN_AFTER {
                true => (4 * self.pause).min(PAUSE_MAX),
                false => PAUSE_MIN,
            };
        }
    }
}

impl Better {
    /// Waits until a dial is due (`None`), or the one that is under way has come to its end.
    ///
    /// Cancel safe: it goes on with the next wait.
    pub(super) async fn next(&mut self) -> Option<Result<Box<Dialled>, DialError>> {
        match self {
            Self::At(at) => {
                tokio::time::sleep_until((*at).into()).await;
                None
            }
            Self::Dialling(dial) => Some(dial.await.map(Box::new)),
        }
    }
}

impl Supervisor {
    /// Whether there is a better transport than that of a connection.
    pub(super) fn can_be_better(&self, dialled: &Dialled) -> bool {
        self.dialling.transport.is_none() && dialled.transport() != Transport::ALL[0]
    }

    /// Dials what is better than a connection, for its session.
    fn dial_better(&self, dialled: &Dialled) -> Better {
        let options = DialOptions {
            transports: TransportChoice::Above(dialled.transport()),
            addresses: vec![dialled.way.address.clone()],
            // The keys that the network lets pass.
            prefer: Some(dialled.preference()),
            resume: Some(dialled.session.clone()),
            ..self.options()
        };
        let (world, credential) = (self.world.clone(), self.credential());
        let figures = self.figures.clone();
        Better::Dialling(Box::pin(async move {
            let turn = Turn::after(HOLD);
            let shared = (&figures.dials, &turn);
            tunnel::dial_counting(&world, &options, &credential, shared).await
        }))
    }

    /// What [`Better::next`] came to: the connection that the session has moved to, if it has.
    pub(super) fn note_better(
        &mut self,
        better: &mut Better,
        dialled: &Dialled,
        result: Option<Result<Box<Dialled>, DialError>>,
    ) -> Option<Dialled> {
        let Some(result) = result else {
            *better = self.dial_better(dialled);
            return None;
        };
        let now = self.world.clock.now();
        match result {
            Ok(moved) => {
                *better = self.upgrade.note_moved(now);
                self.welcome(&moved);
                self.remember(&moved);
                // What was under way to the relay is lost with the former connection.
                self.report(&moved.session);
                Some(*moved)
            }
            Err(error) => {
                tracing::debug!(%error, "no better transport");
                *better = self.upgrade.note_failed(now);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tunnel::World;

    use super::*;

    fn next(better: &Better, now: Instant) -> Duration {
        match better {
            Better::At(at) => at.saturating_duration_since(now),
            Better::Dialling(_) => panic!("nothing was dialled"),
        }
    }

    #[test]
    fn tries_become_rarer_while_they_fail_and_never_end() {
        let (mut upgrade, now) = (Upgrade::default(), World::real().clock.now());
        let pauses: Vec<Duration> = (0..10)
            .map(|_| next(&upgrade.note_failed(now), now))
            .collect();

        assert_eq!(next(&Upgrade::default().begin(now), now), PAUSE_MIN);
        assert_eq!(pauses[0], 2 * PAUSE_MIN);
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
    }

    #[test]
    fn a_connection_that_is_lost_soon_after_the_move_makes_the_next_try_later() {
        let (mut upgrade, now) = (Upgrade::default(), World::real().clock.now());

        upgrade.note_moved(now);
        upgrade.note_lost(now + PROVEN_AFTER / 2);
        let soon = next(&upgrade.begin(now), now);
        upgrade.note_moved(now);
        upgrade.note_lost(now + PROVEN_AFTER);

        assert_eq!(soon, 4 * PAUSE_MIN);
        assert_eq!(next(&upgrade.begin(now), now), PAUSE_MIN);
    }
}
