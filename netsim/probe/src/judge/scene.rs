//! Questions to what was seen, that several judgements ask.

use std::net::IpAddr;

use crate::{
    observe::{
        Attempt, Fault, FaultKind, Flow, HopOutcome, Icmp, Micros, Observations, Stage, Variation,
    },
    protocol::{Arrival, Door, Stage as Arrived},
};

/// Below, a round trip says nothing about who answered.
const TELLING_RTT: Micros = 3_000;

/// So far away, the last device before a relay is its vendor's and no customer's.
const FAR_HOPS: u8 = 5;

/// What was seen, with questions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) seen: &'a Observations,
}

/// How an attempt of production ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended<'a> {
    /// The relay has proven itself, over this very connection.
    Proven,
    /// The proof is of another connection.
    WrongProof,
    /// Another relay than the one that was named.
    WrongRelay,
    /// It failed.
    Failed(Stage, &'a Fault),
}

/// Who sent a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refuser {
    /// Something before the relay, at this hop where it is known.
    Before(Option<u8>),
    /// As far away as the relay.
    AsFarAsRelay,
    /// The evidence does not say.
    Unknown,
}

impl<'a> Scene<'a> {
    /// Attempts that say whether a flow works: through the proxy where there is one.
    pub(super) fn tries(self, flow: Flow) -> impl Iterator<Item = &'a Attempt> {
        let is_proxied = self.is_proxied(flow);
        let of_flow = self
            .seen
            .attempts
            .iter()
            .filter(move |one| one.flow == flow);
        of_flow.filter(move |one| {
            one.variation == Variation::Production
                && one.is_through_proxy == is_proxied
                && !one.has_done(Stage::Http)
                && one.failure().is_none_or(|(stage, _)| stage != Stage::Http)
        })
    }

    pub(super) fn is_proxied(self, flow: Flow) -> bool {
        flow != Flow::Quic && self.seen.proxy.is_some()
    }

    pub(super) fn ended(self, attempt: &'a Attempt) -> Option<Ended<'a>> {
        if let Some(proof) = &attempt.proof {
            return Some(match (proof.is_proven, proof.is_pinned) {
                (false, _) => Ended::WrongProof,
                (true, Some(false)) => Ended::WrongRelay,
                (true, _) => Ended::Proven,
            });
        }
        let (stage, fault) = attempt.failure()?;
        Some(Ended::Failed(stage, fault))
    }

    pub(super) fn is_proven(self, attempt: &Attempt) -> bool {
        let proof = attempt.proof.as_ref();
        proof.is_some_and(|proof| proof.is_proven && proof.is_pinned != Some(false))
    }

    /// Whether a flow works at an address.
    pub(super) fn is_open(self, flow: Flow) -> bool {
        self.tries(flow).any(|attempt| self.is_proven(attempt))
    }

    /// Whether anything behind this address answered at all, over TCP or UDP.
    pub(super) fn is_answered(self, address: Option<IpAddr>) -> bool {
        let seen = self.seen;
        let is_there = |one: Option<IpAddr>| address.is_none() || one == address;
        let by_attempt = seen.attempts.iter().any(|one| {
            !one.is_through_proxy
                && is_there(one.address)
                && (one.has_done(Stage::Tcp) || one.has_done(Stage::Quic))
        });
        let mut udp = seen.udp.iter();
        by_attempt || udp.any(|one| is_there(Some(one.to.ip())) && one.answered_after.is_some())
    }

    /// Whether all that came from an address is that TCP was accepted, as a kernel does it for a
    /// program that hangs.
    pub(super) fn is_mute(self, address: IpAddr) -> bool {
        let seen = self.seen;
        let mut udp = seen.udp.iter();
        let by_udp = udp.any(|one| one.to.ip() == address && one.answered_after.is_some());
        let direct = seen.attempts.iter();
        let mut direct = direct.filter(|one| !one.is_through_proxy && one.address == Some(address));
        let is_silent = |one: &Attempt| {
            let ended = one.failure();
            ended.is_some_and(|(stage, fault)| {
                let is_after = !matches!(stage, Stage::Resolve | Stage::Tcp | Stage::Quic);
                !is_after || fault.kind == FaultKind::TimedOut
            }) && !one.has_done(Stage::Tls)
        };
        !by_udp && self.is_answered(Some(address)) && direct.all(is_silent)
    }

    /// The ICMP errors about datagrams to an address.
    pub(super) fn icmp(self, address: Option<IpAddr>) -> impl Iterator<Item = &'a Icmp> {
        let udp = self.seen.udp.iter();
        let udp = udp.filter(move |one| address.is_none_or(|address| one.to.ip() == address));
        udp.flat_map(|one| &one.icmp)
    }

    /// Who refuses a port: by hops, and by time.
    pub(super) fn refuser(self, address: IpAddr, port: u16) -> Refuser {
        let fewest = |wanted: HopOutcome, port: Option<u16>| {
            let tests = self.seen.hops.iter();
            let tests = tests.filter(|one| one.to.ip() == address && one.outcome == wanted);
            let tests = tests.filter(|one| port.is_none_or(|port| one.to.port() == port));
            tests.map(|one| one.hops).min()
        };
        let refused = fewest(HopOutcome::Refused, Some(port));
        let open = fewest(HopOutcome::Open, None);
        if let (Some(refused), Some(open)) = (refused, open)
            && refused < open
        {
            return Refuser::Before(Some(refused));
        }
        let mut paces = self.seen.paces.iter();
        let pace = paces.find(|pace| pace.to.ip() == address && pace.to.port() == port);
        if let Some((refused, rtt)) = pace.and_then(|pace| Some((pace.refused, pace.answered?)))
            && rtt >= TELLING_RTT
        {
            return match refused * 10 / rtt {
                0..=6 => Refuser::Before(None),
                9.. => Refuser::AsFarAsRelay,
                _ => Refuser::Unknown,
            };
        }
        // A firewall refuses what it would have sent on: at the same count as the host behind it.
        match (refused, open) {
            (Some(refused), Some(open)) if refused == open && open >= FAR_HOPS => {
                Refuser::AsFarAsRelay
            }
            _ => Refuser::Unknown,
        }
    }

    /// Whether the relay's own process is known to serve its tunnel's port: TCP and UDP of it
    /// are one setting.
    pub(super) fn serves_tunnel(self) -> bool {
        self.is_open(Flow::Quic)
    }

    /// Where nothing came back for one thing: what was said for another about the way there.
    pub(super) fn tells_of_no_way(self, address: IpAddr) -> Option<String> {
        let direct = self.seen.attempts.iter();
        let mut direct = direct.filter(|one| !one.is_through_proxy && one.address == Some(address));
        let (stage, fault) = direct.find_map(|one| {
            let is_about_the_way = |fault: &Fault| {
                matches!(
                    fault.kind,
                    FaultKind::HostUnreachable | FaultKind::NetUnreachable
                )
            };
            one.failure().filter(|(_, fault)| is_about_the_way(fault))
        })?;
        let stage = stage.name();
        Some(format!(
            "no way leads to {address}: {stage} was told \"{}\"",
            fault.says
        ))
    }

    /// Whether a flow's port was refused.
    pub(super) fn is_refused(self, flow: Flow) -> bool {
        self.tries(flow).any(|one| {
            let failure = one.failure();
            failure.is_some_and(|(_, fault)| fault.kind == FaultKind::Refused)
        })
    }

    pub(super) fn router_at(self, hop: Option<u8>) -> Option<IpAddr> {
        let mut routers = self.seen.routers.iter();
        let found = routers.find(|router| Some(router.hop) == hop)?;
        Some(found.address)
    }

    /// What the relay saw arrive at a flow's door; `None`: it was not asked, or saw this host
    /// from another address.
    pub(super) fn arrivals(self, flow: Flow) -> Option<Vec<&'a Arrival>> {
        let seen = self.seen.witness.as_ref()?;
        let door = match flow {
            Flow::Https => Door::Https,
            Flow::Websocket => Door::TunnelTcp,
            Flow::Quic => Door::TunnelUdp,
        };
        // What arrived before this run began is another's.
        let within = seen.at / 1_000;
        let arrivals = seen.witness.arrivals.iter();
        let here = arrivals.filter(|one| one.door == door && one.ago_ms <= within);
        Some(here.collect())
    }

    /// Whether the relay at an address has said at one of its doors that it has no time.
    pub(super) fn is_busy(self, address: Option<IpAddr>) -> bool {
        let mut attempts = self.seen.attempts.iter();
        attempts.any(|one| {
            let is_told = |(_, fault): (Stage, &Fault)| fault.kind == FaultKind::Busy;
            one.address == address && one.failure().is_some_and(is_told)
        })
    }

    /// The relay sent somebody away, for want of room.
    pub(super) fn is_sent_away(self, flow: Flow) -> bool {
        let arrivals = self.arrivals(flow).unwrap_or_default();
        arrivals.iter().any(|one| one.stage == Arrived::SentAway)
    }

    /// Whether a variation of an attempt got further than production.
    pub(super) fn varied(
        self,
        flow: Flow,
        wanted: fn(Variation) -> bool,
    ) -> impl Iterator<Item = &'a Attempt> {
        let attempts = self.seen.attempts.iter();
        attempts.filter(move |one| one.flow == flow && wanted(one.variation))
    }

    /// Whether TLS came about in another attempt that was the same in everything.
    pub(super) fn comes_about_at_times(self, attempt: &Attempt) -> bool {
        let mut attempts = self.seen.attempts.iter();
        attempts.any(|one| {
            one.flow == attempt.flow
                && one.variation == attempt.variation
                && one.is_through_proxy == attempt.is_through_proxy
                && one.address == attempt.address
                && one.has_done(Stage::Tls)
        })
    }

    /// The largest packet that came through where larger ones did not, by the largest segment.
    /// None where a smaller one did not either: that was no matter of size.
    pub(super) fn mtu(self, flow: Flow) -> Option<u32> {
        let size = |one: &Attempt| match one.variation {
            Variation::Mss(mss) => Some(mss),
            _ => None,
        };
        let (done, lost): (Vec<&Attempt>, Vec<&Attempt>) = self
            .varied(flow, |one| matches!(one, Variation::Mss(_)))
            .partition(|one| one.has_done(Stage::Tls));
        let largest = done.into_iter().filter_map(size).max()?;
        if lost
            .into_iter()
            .filter_map(size)
            .any(|lost| lost <= largest)
        {
            return None;
        }
        let works = self.varied(flow, |one| matches!(one, Variation::Mss(_)));
        let works = works.filter(|one| one.has_done(Stage::Tls));
        let packet = works.filter_map(|one| {
            let Variation::Mss(mss) = one.variation else {
                return None;
            };
            let head = match one.address? {
                IpAddr::V4(_) => 40,
                IpAddr::V6(_) => 60,
            };
            Some(u32::from(mss) + head)
        });
        packet.max()
    }

    /// The public key of the certificate that the relay itself has shown: over a connection
    /// that it has proven.
    pub(super) fn relays_key(self) -> Option<&'a str> {
        let mut proven = self.seen.attempts.iter().filter(|one| self.is_proven(one));
        proven.find_map(leaf_key)
    }

    /// Whether the other end closed, or nothing came.
    pub(super) fn is_cut(fault: &Fault) -> bool {
        use FaultKind::{Ended, Reset, TimedOut};
        matches!(fault.kind, TimedOut | Reset | Ended)
    }
}

/// The public key of what TLS showed.
pub(super) fn leaf_key(attempt: &Attempt) -> Option<&str> {
    let leaf = attempt.chain.as_ref()?.certificates.first()?;
    Some(&leaf.spki_sha256)
}

/// Who vouches for what TLS showed.
pub(super) fn issuer(attempt: &Attempt) -> Option<String> {
    let leaf = attempt.chain.as_ref()?.certificates.first()?;
    Some(leaf.issuer.clone())
}

/// Whether an ICMP error is a firewall's word, and not a router's: RFC 1812 and RFC 4443.
pub(super) fn is_prohibited(icmp: &Icmp) -> bool {
    matches!((icmp.kind, icmp.code), (3, 9 | 10 | 13) | (1, 1 | 5 | 6))
}

/// Whether an ICMP error says that nobody listens at a port.
pub(super) fn is_port_unreachable(icmp: &Icmp) -> bool {
    matches!((icmp.kind, icmp.code), (3, 3) | (1, 4))
}
