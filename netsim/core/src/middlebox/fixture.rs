//! What tests of boxes have in common: ends, packets, and what came out.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use super::{Cause, EdgeAddress, Middlebox, Verdict};
use crate::{
    model::Side,
    packet::{Flags, Packet, Segment},
    time::Instant,
};

pub(super) const BY: EdgeAddress = EdgeAddress {
    ipv4: Ipv4Addr::new(198, 18, 0, 1),
    ipv6: Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1),
};
pub(super) const INNER: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 2), 40_000));
pub(super) const OUTER: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 10), 8000));

pub(super) fn end(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

pub(super) const fn seconds(seconds: u64) -> Instant {
    Instant::at(Duration::from_secs(seconds))
}

pub(super) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Packet {
    Packet::udp(from, to, payload)
}

pub(super) fn tcp(from: SocketAddr, to: SocketAddr, flags: Flags, payload: &[u8]) -> Packet {
    Packet::tcp(Segment {
        source: from,
        destination: to,
        flags,
        sequence: 1000,
        acknowledges: 2000,
        payload,
    })
}

pub(super) fn syn(from: SocketAddr, to: SocketAddr) -> Packet {
    tcp(from, to, Flags::SYN, &[])
}

pub(super) fn syn_ack(from: SocketAddr, to: SocketAddr) -> Packet {
    tcp(from, to, Flags::SYN.and(Flags::ACK), &[])
}

pub(super) fn ack(from: SocketAddr, to: SocketAddr) -> Packet {
    tcp(from, to, Flags::ACK, &[])
}

/// What came out of a box for one packet.
#[derive(Debug)]
pub(super) struct Out {
    from: Side,
    verdicts: Vec<Verdict>,
}

impl Out {
    /// Everything that left, and where.
    pub(super) fn forwarded(&self) -> Vec<(Side, Packet)> {
        let all = self.verdicts.iter();
        all.filter_map(|verdict| match verdict {
            Verdict::Forward { to, packet } => Some((*to, packet.clone())),
            Verdict::Drop { .. } => None,
        })
        .collect()
    }

    /// Why packets ended.
    pub(super) fn dropped(&self) -> Vec<Cause> {
        let all = self.verdicts.iter();
        all.filter_map(|verdict| match verdict {
            Verdict::Forward { .. } => None,
            Verdict::Drop { why, .. } => Some(*why),
        })
        .collect()
    }

    /// The one packet that left.
    pub(super) fn only(&self) -> (Side, Packet) {
        let mut forwarded = self.forwarded();
        assert_eq!(forwarded.len(), 1, "{:?}", self.verdicts);
        forwarded.remove(0)
    }

    /// Whether one packet left on the other side.
    pub(super) fn passed(&self) -> bool {
        let forwarded = self.forwarded();
        forwarded.len() == 1 && forwarded[0].0 == self.from.other()
    }
}

fn put(passage: &mut dyn Middlebox, now: Instant, from: Side, packet: Packet) -> Out {
    let mut verdicts = Vec::new();
    passage.on_packet(now, from, packet, &mut verdicts);
    Out { from, verdicts }
}

/// A packet from inside.
pub(super) fn outbound(passage: &mut dyn Middlebox, now: Instant, packet: Packet) -> Out {
    put(passage, now, Side::Inside, packet)
}

/// A packet from outside.
pub(super) fn inbound(passage: &mut dyn Middlebox, now: Instant, packet: Packet) -> Out {
    put(passage, now, Side::Outside, packet)
}

/// What becomes due.
pub(super) fn on_time(passage: &mut dyn Middlebox, now: Instant) -> Out {
    let mut verdicts = Vec::new();
    passage.on_time(now, &mut verdicts);
    Out {
        from: Side::Inside,
        verdicts,
    }
}
