//! When which way of a dial has its turn, and how long those are waited for that say nothing.

use std::time::Duration;

use tokio::time::Instant;
use wire::transport::Transport;

use super::{error::DialError, way::Way};

/// What a better way gets ahead of the next one.
const HEAD_START: Duration = Duration::from_millis(300);

/// What other ways get, at least, once all of those that are known to be answered have been,
/// and led nowhere: over TCP nobody listens, or the proxy says no. The relay restarts, and
/// where the network swallows QUIC, or whatever passes the proxy by, waiting for that would
/// hold up the next try.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Which ways say whether there is any use in waiting for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deciding {
    /// Those over TCP: of a UDP port that is blocked nothing is heard.
    Tcp,
    /// Those through the proxy: where there is one, the network often swallows all else.
    Proxied,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Race {
    waiting: std::vec::IntoIter<Way>,
    next_at: Instant,
    begun: Instant,
    deciding: Deciding,
    /// How many of the deciding ones have not been answered.
    undecided: usize,
    last_chance: Option<Instant>,
    worst: Option<DialError>,
}

impl Race {
    /// Of these ways, the better ones first; the first one has its turn at once.
    pub(super) fn among(ways: Vec<Way>) -> Self {
        let deciding = match ways.iter().any(|way| way.proxy.is_some()) {
            true => Deciding::Proxied,
            false => Deciding::Tcp,
        };
        let now = Instant::now();
        Self {
            undecided: ways.iter().filter(|way| deciding.includes(way)).count(),
            waiting: ways.into_iter(),
            next_at: now,
            begun: now,
            deciding,
            last_chance: None,
            worst: None,
        }
    }

    /// When the next way has its turn; none where all have had theirs.
    pub(super) fn next_at(&self) -> Option<Instant> {
        (self.waiting.len() > 0).then_some(self.next_at)
    }

    /// The way whose turn it is. The one after it has a head start less.
    pub(super) fn next(&mut self) -> Option<Way> {
        self.next_at = Instant::now() + HEAD_START;
        self.waiting.next()
    }

    /// When waiting is of no use any more.
    pub(super) const fn last_chance(&self) -> Option<Instant> {
        self.last_chance
    }

    /// The relay is about to answer one of those under way.
    pub(super) fn wait_longer(&mut self) {
        self.last_chance = Some(Instant::now() + HEAD_START);
    }

    /// One has led nowhere: whoever waits behind it need not wait any longer.
    pub(super) fn failed(&mut self, error: DialError) {
        let now = Instant::now();
        self.next_at = now;
        if error.is_busy() {
            // Its other ports are as busy. What is under way may be through.
            let elsewhere = |way: &Way| !error.is_of(way);
            let others: Vec<Way> = self.waiting.by_ref().filter(elsewhere).collect();
            self.waiting = others.into_iter();
            if self.waiting.len() == 0 {
                self.last_chance = Some(now + HEAD_START);
            }
        }
        let is_deciding = error.way().is_some_and(|way| self.deciding.includes(way));
        if error.is_answer() && is_deciding {
            self.undecided -= 1;
        }
        if self.undecided == 0 && error.is_answer() && is_deciding {
            // A slow path fails slowly: the others get a multiple of it, after their turns.
            let turns = u32::try_from(self.waiting.len()).unwrap_or(0);
            let chance = LAST_CHANCE.max(3 * (now - self.begun));
            self.last_chance = Some(now + HEAD_START * turns + chance);
        }
        self.worst = Some(DialError::more_telling(self.worst.take(), error));
    }

    /// The failure that says most of all that happened.
    pub(super) fn lost(self) -> DialError {
        self.worst.unwrap_or_else(DialError::nowhere)
    }
}

impl Deciding {
    fn includes(self, way: &Way) -> bool {
        match self {
            Self::Tcp => way.transport != Transport::Quic,
            Self::Proxied => way.proxy.is_some(),
        }
    }
}

/// At a moment that never comes, where there is none.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
