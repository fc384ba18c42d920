//! Network address and port translation for IPv4, with the mapping and filtering of
//! RFC 4787.

mod bindings;

use std::net::SocketAddr;

pub(super) use self::bindings::{Bindings, Pool, Refused};
use super::{
    Cause, Middlebox, Touched, Verdict,
    refusal::{EdgeAddress, refuse},
};
use crate::{
    model::{Expired, Nat, Ruling, Side, Timeouts},
    packet::{Packet, Transport},
    random::Stream,
    time::Instant,
};

/// See the module.
#[derive(Debug)]
pub struct NatBox {
    hairpin: bool,
    exhausted: Ruling,
    expired: Expired,
    by: EdgeAddress,
    bindings: Bindings,
    touched: Touched,
}

impl NatBox {
    /// A NAT that maps nothing yet. `stream` chooses ports.
    pub fn new(nat: &Nat, timeouts: Timeouts, by: EdgeAddress, stream: Stream) -> Self {
        let pool = Pool {
            addresses: nat.addresses.iter().map(|address| **address).collect(),
            ports: nat.ports,
            keep_port: nat.keep_port,
            ports_per_host: nat.ports_per_host.as_ref().map(|ports| **ports),
        };
        Self {
            hairpin: nat.hairpin,
            exhausted: *nat.exhausted,
            expired: timeouts.expired,
            by,
            bindings: Bindings::new(pool, (nat.mapping, nat.filtering), timeouts, stream),
            touched: Touched::default(),
        }
    }

    fn outbound(&mut self, now: Instant, mut packet: Packet, verdicts: &mut Vec<Verdict>) {
        let refused = match self.send(now, &mut packet) {
            Ok(()) => None,
            Err(Refused::Expired) => Some((
                match self.expired {
                    Expired::Silent => Ruling::Drop,
                    Expired::Reset => Ruling::Reset,
                },
                Cause::Expired,
            )),
            Err(Refused::Exhausted) => Some((self.exhausted, Cause::Exhausted)),
            Err(Refused::Unsupported) => Some((Ruling::Drop, Cause::Unsupported)),
            Err(Refused::Filtered) => Some((Ruling::Drop, Cause::Filtered)),
        };
        if let Some(refused) = refused {
            let out = (&mut self.touched, verdicts);
            refuse(refused, self.by, Side::Inside, packet, out);
            return;
        }
        self.touched.count(Cause::Translated);
        if !self.bindings.is_outer(packet.destination()) {
            verdicts.push(Verdict::Forward {
                to: Side::Outside,
                packet,
            });
        } else if self.hairpin {
            self.inbound(now, packet, verdicts);
        } else {
            self.touched.count(Cause::Filtered);
            let why = Cause::Filtered;
            verdicts.push(Verdict::Drop { packet, why });
        }
    }

    /// Puts the outer end in the place of the inner one.
    fn send(&mut self, now: Instant, packet: &mut Packet) -> Result<(), Refused> {
        if let Transport::Error { about, .. } = packet.transport() {
            let flow = about.ok_or(Refused::Unsupported)?.reversed();
            let outer = self.bindings.known(now, &flow).ok_or(Refused::Filtered)?;
            packet.set_about_destination(outer);
            packet.set_source(SocketAddr::new(outer.ip(), 0));
            return Ok(());
        }
        let flow = packet.flow().ok_or(Refused::Unsupported)?;
        let sent = self.bindings.send(now, packet, &flow)?;
        if sent.was_rebound {
            self.touched.count(Cause::Rebound);
        }
        packet.set_source(sent.outer);
        Ok(())
    }

    fn inbound(&mut self, now: Instant, mut packet: Packet, verdicts: &mut Vec<Verdict>) {
        let inner = if let Transport::Error { about, .. } = packet.transport() {
            // About a packet that was sent from here: its source is the outer end.
            let inner = about.and_then(|about| self.bindings.inner_of_error(now, &about));
            if let Some(inner) = inner {
                packet.set_about_source(inner);
            }
            inner
        } else {
            let flow = packet.flow();
            flow.and_then(|flow| self.bindings.receive(now, packet.flags(), &flow))
        };
        match inner {
            Some(inner) => {
                packet.set_destination(inner);
                self.touched.count(Cause::Translated);
                verdicts.push(Verdict::Forward {
                    to: Side::Inside,
                    packet,
                });
            }
            None => {
                self.touched.count(Cause::Filtered);
                let why = Cause::Filtered;
                verdicts.push(Verdict::Drop { packet, why });
            }
        }
    }
}

impl Middlebox for NatBox {
    fn on_packet(&mut self, now: Instant, from: Side, packet: Packet, verdicts: &mut Vec<Verdict>) {
        match from {
            // IPv6 passes beside a NAT for IPv4, as it does in a home router.
            _ if packet.source().is_ipv6() => verdicts.push(Verdict::Forward {
                to: from.other(),
                packet,
            }),
            Side::Inside => self.outbound(now, packet, verdicts),
            Side::Outside => self.inbound(now, packet, verdicts),
        }
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
