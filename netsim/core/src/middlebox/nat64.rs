//! NAT64 (RFC 6146): IPv6 inside reaches IPv4 outside, under a prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::Ipv6Net;

use super::{
    Cause, Middlebox, Touched, Verdict,
    nat::{Bindings, Pool, Refused},
    refusal::{EdgeAddress, refuse},
};
use crate::{
    model::{Dependence, Expired, Nat64, Protocol, Ruling, Side, Timeouts},
    packet::{Flags, Flow, Packet, Segment, Transport, Trouble},
    random::Stream,
    time::Instant,
};

/// How much longer a packet is in IPv6 than in IPv4.
const LONGER: u16 = 20;

/// See the module.
#[derive(Debug)]
pub struct Nat64Box {
    prefix: Ipv6Net,
    expired: Expired,
    by: EdgeAddress,
    bindings: Bindings,
    touched: Touched,
}

impl Nat64Box {
    /// A translator that maps nothing yet. `stream` chooses ports.
    pub fn new(nat64: &Nat64, timeouts: Timeouts, by: EdgeAddress, stream: Stream) -> Self {
        let pool = Pool {
            addresses: vec![IpAddr::V4(*nat64.address)],
            ports: nat64.ports,
            keep_port: true,
            ports_per_host: None,
        };
        // RFC 6146 asks for endpoint-independent mapping, and leaves the filter open.
        let behaviour = (Dependence::Endpoint, Dependence::AddressAndPort);
        Self {
            prefix: *nat64.prefix,
            expired: timeouts.expired,
            by,
            bindings: Bindings::new(pool, behaviour, timeouts, stream),
            touched: Touched::default(),
        }
    }

    /// The IPv4 address that is meant by one under the prefix.
    fn embedded(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V6(address) if self.prefix.contains(&address) => {
                let [.., a, b, c, d] = address.octets();
                Some(Ipv4Addr::new(a, b, c, d).into())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// The address under the prefix that stands for an IPv4 one.
    fn embed(&self, end: SocketAddr) -> SocketAddr {
        let IpAddr::V4(address) = end.ip() else {
            return end;
        };
        let prefix = self.prefix.network().to_bits();
        let whole = Ipv6Addr::from_bits(prefix | u128::from(address.to_bits()));
        SocketAddr::new(whole.into(), end.port())
    }

    fn outbound(
        &mut self,
        now: Instant,
        packet: &Packet,
        toward: IpAddr,
    ) -> Result<Packet, Refused> {
        let flow = packet.flow().ok_or(Refused::Unsupported)?;
        let destination = SocketAddr::new(toward, flow.destination.port());
        let outer_flow = Flow {
            destination,
            ..flow
        };
        let sent = self.bindings.send(now, packet, &outer_flow)?;
        if sent.was_rebound {
            self.touched.count(Cause::Rebound);
        }
        packet
            .translated(sent.outer, destination)
            .ok_or(Refused::Unsupported)
    }

    fn inbound(&mut self, now: Instant, packet: &Packet) -> Option<Packet> {
        if let Transport::Error { about, .. } = packet.transport() {
            let about = about?;
            let inner = self.bindings.inner_of_error(now, &about)?;
            let sent = quoted_again(&about, inner, self.embed(about.destination))?;
            let trouble = match packet.trouble()? {
                Trouble::TooBig { mtu } => Trouble::TooBig {
                    mtu: mtu.saturating_add(LONGER),
                },
                trouble @ (Trouble::Prohibited
                | Trouble::PortUnreachable
                | Trouble::HostUnreachable
                | Trouble::TooManyHops) => trouble,
            };
            let by = self.embed(SocketAddr::new(packet.source(), 0)).ip();
            return sent.error(trouble, by);
        }
        let flow = packet.flow()?;
        let inner = self.bindings.receive(now, packet.flags(), &flow)?;
        packet.translated(self.embed(flow.source), inner)
    }
}

/// A packet of the flow that an error is about, as the inner host has sent it. Its bytes
/// are not known any more; hosts look at the ends alone.
fn quoted_again(about: &Flow, source: SocketAddr, destination: SocketAddr) -> Option<Packet> {
    match about.protocol {
        Protocol::Tcp => Some(Packet::tcp(Segment {
            source,
            destination,
            flags: Flags::ACK,
            sequence: 0,
            acknowledges: 0,
            payload: &[],
        })),
        Protocol::Udp => Some(Packet::udp(source, destination, &[])),
        Protocol::Icmp => Some(Packet::echo(source.ip(), destination.ip(), source.port())),
    }
}

impl Middlebox for Nat64Box {
    fn on_packet(&mut self, now: Instant, from: Side, packet: Packet, verdicts: &mut Vec<Verdict>) {
        let translated = match (from, self.embedded(packet.destination())) {
            (Side::Inside, Some(toward)) => self.outbound(now, &packet, toward),
            (Side::Outside, _) if self.bindings.is_outer(packet.destination()) => {
                self.inbound(now, &packet).ok_or(Refused::Filtered)
            }
            // IPv6 to IPv6, and IPv4 that is not for the translator, pass beside it.
            (Side::Inside | Side::Outside, _) => {
                verdicts.push(Verdict::Forward {
                    to: from.other(),
                    packet,
                });
                return;
            }
        };
        let refused = match translated {
            Ok(packet) => {
                self.touched.count(Cause::Translated);
                verdicts.push(Verdict::Forward {
                    to: from.other(),
                    packet,
                });
                return;
            }
            Err(Refused::Expired) => match self.expired {
                Expired::Silent => (Ruling::Drop, Cause::Expired),
                Expired::Reset => (Ruling::Reset, Cause::Expired),
            },
            Err(Refused::Exhausted) => (Ruling::Reject, Cause::Exhausted),
            Err(Refused::Unsupported) => (Ruling::Drop, Cause::Unsupported),
            Err(Refused::Filtered) => (Ruling::Drop, Cause::Filtered),
        };
        refuse(
            refused,
            self.by,
            from,
            packet,
            (&mut self.touched, verdicts),
        );
    }

    fn forget(&mut self) {
        self.bindings.forget();
    }

    fn rebind(&mut self) {
        self.bindings.rebind();
    }

    fn touched(&self) -> Touched {
        self.touched.clone()
    }
}

#[cfg(test)]
mod tests;
