//! The relay's side of the probe: an echo, a witness, and a socket to measure with.
//!
//! It answers without asking who comes, so it must be of no use to anybody who means harm:
//! an answer goes only to who has proven its address by TCP or QUIC, none names a third
//! address, none is much larger than what TLS cost the asker, and everything is bounded by
//! address and in all. What is said is in [`::probe::protocol`].
//!
//! | module | what it is |
//! |---|---|
//! | `ledger` | who arrived, for a while |
//! | `quota` | how much of it one address may have, and all together |
//! | `request` | the three paths, as HTTP |
//! | `line`, `socket` | messages over WebSocket and over QUIC; the answers |
//! | `program` | the program that the vendor's relay hands out |

mod ledger;
mod line;
mod program;
mod quota;
mod request;
mod socket;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use ::probe::protocol::{Door, Echo, HEADER_BYTES_MAX, VERSION, Witness};
use http::HeaderMap;
use tunnel::world::Clock;

pub use self::{
    ledger::Footprint,
    line::{Ended, Line, QuicLine, WebSocketLine},
    program::{Download, Offered, Program, ProgramError},
    quota::Place,
    request::{Answer, Opening},
    socket::serve,
};
use self::{
    ledger::Ledger,
    quota::{Limited, Quota},
};
use crate::metrics::{Metrics, ProbeKind, ProbeOutcome};

/// What the probe is served with.
#[derive(Debug, Clone, Default)]
pub struct ProbeParts {
    /// Where the program is that is handed out; `None`: nowhere.
    pub program: Option<PathBuf>,
    /// Whether the certificate is the relay's own, which no browser trusts.
    pub is_certificate_own: bool,
}

/// What a relay tells of itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// Program and version.
    pub relay: String,
    /// The identity key, as text.
    pub identity: String,
}

/// See the module.
#[derive(Debug)]
pub struct Probe {
    introduction: Introduction,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    quota: Arc<Quota>,
    program: Program,
    is_certificate_own: bool,
}

impl Probe {
    /// Nobody has come yet.
    pub fn new(
        parts: ProbeParts,
        introduction: Introduction,
        (clock, metrics): (Arc<dyn Clock>, Arc<Metrics>),
    ) -> Arc<Self> {
        let now = clock.now();
        Arc::new(Self {
            introduction,
            clock,
            metrics,
            ledger: Ledger::default(),
            quota: Arc::new(Quota::new(now)),
            program: Program::at(parts.program),
            is_certificate_own: parts.is_certificate_own,
        })
    }

    /// Somebody has come to a door.
    pub fn arrived(&self, door: Door, from: SocketAddr) -> Footprint {
        self.ledger.note(self.clock.now(), door, from)
    }

    /// The program that is handed out.
    pub const fn program(&self) -> &Program {
        &self.program
    }

    /// Whether the certificate is the relay's own, which no browser trusts.
    pub const fn is_certificate_own(&self) -> bool {
        self.is_certificate_own
    }

    /// Arrivals that are remembered, and sockets that are open.
    pub fn reading(&self) -> (u64, u64) {
        (self.ledger.len(self.clock.now()), self.quota.sockets())
    }

    /// Takes one request of an address, and counts it where there is none left.
    pub fn may_ask(&self, kind: ProbeKind, from: SocketAddr) -> bool {
        let taken = self.quota.request(self.clock.now(), from.ip());
        if taken.is_err() {
            self.metrics.probe_asked(kind, ProbeOutcome::Limited);
        }
        taken.is_ok()
    }

    fn echo(&self, from: SocketAddr, headers: &HeaderMap) -> Echo {
        Echo {
            version: VERSION,
            relay: self.introduction.relay.clone(),
            identity: self.introduction.identity.clone(),
            time_ms: self.clock.unix_milliseconds(),
            from: canonical(from),
            headers: heard(headers),
        }
    }

    /// `None`: some of it may have been forgotten.
    fn witness(&self, from: SocketAddr) -> Option<Witness> {
        let arrivals = self.ledger.of(self.clock.now(), from.ip())?;
        Some(Witness {
            from: Some(canonical(from)),
            arrivals,
        })
    }

    /// Takes a place for a socket, and counts it.
    fn enter(&self, kind: ProbeKind, from: SocketAddr) -> Result<Place, Limited> {
        let place = self.quota.enter(self.clock.now(), from.ip());
        let outcome = match place {
            Ok(_) => ProbeOutcome::Answered,
            Err(_) => ProbeOutcome::Limited,
        };
        self.metrics.probe_asked(kind, outcome);
        place
    }

    /// A place for a connection over QUIC, and what the relay says first.
    pub fn enter_quic(&self, from: SocketAddr) -> Option<Opening> {
        let place = self.enter(ProbeKind::Quic, from).ok()?;
        Some(Opening {
            place,
            echo: self.echo(from, &HeaderMap::new()),
        })
    }
}

fn canonical(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip().to_canonical(), from.port())
}

/// Names and values as they arrived, up to the bound; what is not text is shown as far as it
/// is.
fn heard(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut left = HEADER_BYTES_MAX;
    let mut all = Vec::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else {
            break;
        };
        left = rest;
        all.push((name.as_str().to_owned(), value));
    }
    all
}
