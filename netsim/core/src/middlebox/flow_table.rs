//! How long a flow is remembered: an entry's age and phase, and the timeouts of a box.

use std::time::Duration;

use crate::{
    model::{Protocol, Timeouts},
    packet::{Flags, Packet},
    time::Instant,
};

/// The most flows that a box remembers at once: what a small firewall of 2020 sells.
pub(super) const FLOWS_MAX: usize = 1 << 17;

/// How long an unfinished handshake or a closed connection is remembered, unless the
/// box forgets faster: conntrack's `syn_sent` and `time_wait`.
const TRANSITORY: Duration = Duration::from_secs(120);

/// How far a TCP connection is, as far as a bystander can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Only one end has spoken.
    Opening,
    /// Both have.
    Established,
    /// One of them has ended.
    Closing,
}

/// One flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    seen_at: Instant,
    phase: Phase,
}

impl Entry {
    /// A flow that begins.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            seen_at: now,
            phase: Phase::Opening,
        }
    }

    /// A flow that was found in its middle.
    pub(super) const fn in_the_middle(now: Instant) -> Self {
        Self {
            seen_at: now,
            phase: Phase::Established,
        }
    }

    /// Another packet of it.
    pub(super) fn on_packet(&mut self, now: Instant, flags: Flags, is_answer: bool) {
        self.seen_at = now;
        self.phase = match self.phase {
            _ if flags.has(Flags::FIN) || flags.has(Flags::RST) => Phase::Closing,
            // The same ends again: a new connection.
            _ if flags.opens() && !is_answer => Phase::Opening,
            Phase::Opening if is_answer => Phase::Established,
            phase @ (Phase::Opening | Phase::Established | Phase::Closing) => phase,
        };
    }

    /// Whether it is still remembered.
    pub(super) fn is_known(&self, now: Instant, protocol: Protocol, timeouts: &Timeouts) -> bool {
        let idle = match protocol {
            Protocol::Udp => timeouts.udp,
            Protocol::Icmp => timeouts.icmp,
            Protocol::Tcp => match self.phase {
                Phase::Established => timeouts.tcp,
                Phase::Opening | Phase::Closing => {
                    Some(timeouts.tcp.map_or(TRANSITORY, |tcp| tcp.min(TRANSITORY)))
                }
            },
        };
        idle.is_none_or(|idle| now.since(self.seen_at) < idle)
    }
}

/// Whether a packet may begin a flow: anything but TCP in its middle.
pub(super) fn may_begin(packet: &Packet) -> bool {
    packet.sequence().is_none() || packet.flags().opens()
}
