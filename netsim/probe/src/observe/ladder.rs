//! What was seen over connections that work: silences, sizes, bytes in time, and many at once.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Fault, Flow, Micros};

/// A rung of the idle ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleRung {
    /// On which flow.
    pub flow: Flow,
    /// How long nothing was sent, in milliseconds.
    pub idle_ms: u64,
    /// Who spoke first after it: the relay, or this end.
    pub is_relay_first: bool,
    /// `None`: the connection was alive. Timed out: silent; reset: told.
    pub fault: Option<Fault>,
}

/// Many connections at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParallelTest {
    /// To whom.
    pub to: SocketAddr,
    /// Wanted at once.
    pub wanted: u16,
    /// How many came about.
    pub opened: u16,
    /// How many came about before the first that failed, in the order in which they were begun.
    #[serde(default)]
    pub opened_first: u16,
    /// How the others failed, mostly.
    pub fault: Option<Fault>,
}

/// How much went through, bounded in time and in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateTest {
    /// On which flow.
    pub flow: Flow,
    /// From the relay.
    pub is_down: bool,
    /// Bytes that went through.
    pub bytes: u64,
    /// In so many microseconds.
    pub micros: u64,
    /// A round trip without load.
    pub idle_rtt: Micros,
    /// The slowest round trip under load.
    pub loaded_rtt: Option<Micros>,
}

impl RateTest {
    /// Bytes in a second.
    pub fn per_second(&self) -> u64 {
        self.bytes.saturating_mul(1_000_000) / self.micros.max(1)
    }
}

/// One size of the ladder, there and back over a connection that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeRung {
    /// On which flow.
    pub flow: Flow,
    /// Bytes of the message.
    pub bytes: u32,
    /// From the relay, or to it.
    pub is_down: bool,
    /// `None`: it came.
    pub fault: Option<Fault>,
}
