//! Boxes on the way, sans-IO: a packet and the time go in, verdicts come out.
//!
//! The same code runs in virtual time and beside a real kernel. A box never waits and
//! never asks for the time; what is to happen later it tells by [`Middlebox::poll_at`].
//! Each counts the packets that it touched, by what it did: a fault that touched nothing
//! was never there.

mod black_hole;
mod cable;
mod chain;
mod dns;
mod dpi;
mod firewall;
mod flow_table;
mod nat;
mod nat64;
mod pipe;
mod refusal;
mod udp_block;

use std::collections::BTreeMap;

pub use self::{
    black_hole::BlackHoleBox, cable::CableBox, chain::Chain, dns::DnsBox, dpi::DpiBox,
    firewall::FirewallBox, nat::NatBox, nat64::Nat64Box, pipe::Pipe, refusal::EdgeAddress,
    udp_block::UdpBlockBox,
};
use crate::{model::Side, packet::Packet, time::Instant};

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves on this side, as it is now.
    Forward {
        /// Where it leaves.
        to: Side,
        /// What leaves: the packet, or an answer to it.
        packet: Packet,
    },
    /// It ends here.
    Drop {
        /// What ends.
        packet: Packet,
        /// By what.
        why: Cause,
    },
}

/// What a box does to packets; each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A cable that is not plugged in.
    Cut,
    /// Random loss.
    Loss,
    /// Loss in a burst.
    Burst,
    /// A queue that is full.
    QueueFull,
    /// A packet that waited because the line is slow.
    Queued,
    /// Longer than the MTU.
    TooBig,
    /// Delivered later than those behind it.
    Reordered,
    /// Delivered twice.
    Duplicated,
    /// One bit turned round.
    Corrupted,
    /// A rule of a firewall.
    Rule,
    /// From outside, and asked for by nobody.
    Unsolicited,
    /// Of a flow that was forgotten, or never known.
    Expired,
    /// Given another end by a NAT.
    Translated,
    /// Nobody is mapped to this outer end, or the filter keeps it out.
    Filtered,
    /// No outer port is left.
    Exhausted,
    /// Given another outer port in the middle of a flow.
    Rebound,
    /// Disliked by deep inspection.
    Inspected,
    /// UDP, where none passes.
    UdpBlocked,
    /// Longer than a black hole admits, or the message that would tell of it.
    Swallowed,
    /// A question about a name that was answered, delayed or swallowed.
    Misled,
    /// What a box cannot carry: fragments, unknown protocols.
    Unsupported,
    /// No way leads to its destination.
    Unroutable,
    /// It has passed too many routers.
    TooManyHops,
    /// The host that it is for is down or asleep.
    HostDown,
    /// Taken in by a proxy on the way.
    Diverted,
}

impl Cause {
    /// For reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Loss => "loss",
            Self::Burst => "burst",
            Self::QueueFull => "queue-full",
            Self::Queued => "queued",
            Self::TooBig => "too-big",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Corrupted => "corrupted",
            Self::Rule => "rule",
            Self::Unsolicited => "unsolicited",
            Self::Expired => "expired",
            Self::Translated => "translated",
            Self::Filtered => "filtered",
            Self::Exhausted => "exhausted",
            Self::Rebound => "rebound",
            Self::Inspected => "inspected",
            Self::UdpBlocked => "udp-blocked",
            Self::Swallowed => "swallowed",
            Self::Misled => "misled",
            Self::Unsupported => "unsupported",
            Self::Unroutable => "unroutable",
            Self::TooManyHops => "too-many-hops",
            Self::HostDown => "host-down",
            Self::Diverted => "diverted",
        }
    }
}

/// How many packets a box touched, by what it did to them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched(BTreeMap<Cause, u64>);

impl Touched {
    /// Counts one.
    pub fn count(&mut self, cause: Cause) {
        *self.0.entry(cause).or_insert(0) += 1;
    }

    /// Takes a count from somebody who counts for himself.
    pub fn set(&mut self, cause: Cause, count: u64) {
        self.0.insert(cause, count);
    }

    /// How many for this cause.
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(&cause).copied().unwrap_or(0)
    }

    /// Adds what another box touched.
    pub fn add(&mut self, other: &Self) {
        for (cause, count) in &other.0 {
            *self.0.entry(*cause).or_insert(0) += count;
        }
    }

    /// Every cause that there was, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> {
        self.0.iter().map(|(cause, count)| (*cause, *count))
    }
}

/// A box between two sides.
pub trait Middlebox: std::fmt::Debug + Send {
    /// A packet arrives at a side. What becomes of it is appended to `verdicts`, now or
    /// by [`Self::on_time`].
    fn on_packet(&mut self, now: Instant, from: Side, packet: Packet, verdicts: &mut Vec<Verdict>);

    /// When something happens by itself; never, where nothing will.
    fn poll_at(&self) -> Option<Instant> {
        None
    }

    /// What has been due until now happens.
    fn on_time(&mut self, _now: Instant, _verdicts: &mut Vec<Verdict>) {}

    /// Forgets every flow, as a box that was restarted.
    fn forget(&mut self) {}

    /// Gives every mapping another outer port.
    fn rebind(&mut self) {}

    /// What it has done so far.
    fn touched(&self) -> Touched;
}

/// The earlier of two times that may never come.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod fixture;
