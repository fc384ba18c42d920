//! Deep inspection: looks at the first bytes that a client sends, and ends what it does
//! not like. It decrypts nothing, QUIC's first packets neither: of QUIC it knows that it
//! is QUIC.

mod first_flight;

use std::collections::{BTreeMap, VecDeque};

use self::first_flight::{Look, look_at_datagram, look_at_stream};
use super::{
    Cause, Middlebox, Touched, Verdict,
    dns::fits,
    refusal::{EdgeAddress, refuse},
};
use crate::{
    model::{Dpi, Protocol, Side},
    packet::{Flags, Flow, Packet},
    time::Instant,
};

/// The most flows that it has an opinion of; the oldest opinion goes first.
const FLOWS_MAX: usize = 1 << 16;

/// The most bytes of a first flight that it keeps: a ClientHello with a post-quantum key
/// share has about 1,800.
const FLIGHT_MAX: usize = 16 * 1024;

/// What it thinks of a flow from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opinion {
    /// Nothing yet: the bytes so far, and the number of the next one.
    Undecided { flight: Vec<u8>, next: Option<u32> },
    /// It may pass.
    Liked,
    /// Nothing of it passes any more.
    Disliked,
}

/// See the module.
#[derive(Debug)]
pub struct DpiBox {
    dpi: Dpi,
    by: EdgeAddress,
    opinions: BTreeMap<Flow, Opinion>,
    /// Flows in the order of their appearance.
    order: VecDeque<Flow>,
    touched: Touched,
}

impl DpiBox {
    /// An inspector that has seen nothing yet.
    pub fn new(dpi: Dpi, by: EdgeAddress) -> Self {
        Self {
            dpi,
            by,
            opinions: BTreeMap::new(),
            order: VecDeque::new(),
            touched: Touched::default(),
        }
    }

    /// The flow of a packet as its inner end sends it, if it is looked at.
    fn watched(&self, from: Side, packet: &Packet) -> Option<Flow> {
        let flow = match from {
            Side::Inside => packet.flow()?,
            Side::Outside => packet.flow()?.reversed(),
        };
        let port = flow.destination.port();
        let is_watched = flow.protocol != Protocol::Icmp
            && self.dpi.ports.iter().any(|ports| ports.contains(port));
        is_watched.then_some(flow)
    }

    fn opinion(&mut self, flow: Flow, packet: &Packet) -> &mut Opinion {
        if self.order.len() >= FLOWS_MAX
            && !self.opinions.contains_key(&flow)
            && let Some(oldest) = self.order.pop_front()
        {
            self.opinions.remove(&oldest);
        }
        let order = &mut self.order;
        let fresh = Opinion::Undecided {
            flight: Vec::new(),
            next: None,
        };
        let opinion = self.opinions.entry(flow).or_insert_with(|| {
            order.push_back(flow);
            fresh.clone()
        });
        // The same ends again: another connection.
        if packet.flags().opens() {
            *opinion = fresh;
        }
        opinion
    }

    /// A packet from inside; whether it may pass.
    fn outbound(&mut self, flow: Flow, packet: &Packet) -> bool {
        let opinion = self.opinion(flow, packet);
        let look = match opinion {
            Opinion::Liked => return true,
            Opinion::Disliked => return false,
            Opinion::Undecided { flight, next } => match flow.protocol {
                Protocol::Udp => look_at_datagram(packet.payload()),
                Protocol::Tcp | Protocol::Icmp => {
                    add(flight, next, packet);
                    look_at_stream(flight)
                }
            },
        };
        let verdict = match look {
            Look::More => return true,
            Look::Known(first) => self.likes(&first),
        };
        let opinion = if verdict {
            Opinion::Liked
        } else {
            Opinion::Disliked
        };
        self.opinions.insert(flow, opinion);
        verdict
    }

    fn likes(&self, first: &first_flight::First) -> bool {
        let is_only = self.dpi.only.is_empty()
            || first
                .speech
                .is_some_and(|speech| self.dpi.only.contains(&speech));
        let is_named = first.server_name.as_ref().is_some_and(|name| {
            let mut disliked = self.dpi.server_names.iter();
            disliked.any(|pattern| fits(pattern.as_str(), name))
        });
        let is_offered = first.alpn.iter().any(|offered| {
            let mut disliked = self.dpi.alpn.iter();
            disliked.any(|disliked| disliked.as_str() == offered)
        });
        let hello_max = self.dpi.hello_max.as_ref().map(|max| max.get().bytes);
        let is_too_long = hello_max.is_some_and(|max| first.hello_bytes > max);
        is_only && !is_named && !is_offered && !is_too_long
    }
}

/// Adds a segment's bytes, if they are the next ones.
fn add(flight: &mut Vec<u8>, next: &mut Option<u32>, packet: &Packet) {
    let Some(sequence) = packet.sequence() else {
        return;
    };
    if packet.flags().has(Flags::SYN) {
        *next = Some(sequence.wrapping_add(1));
        return;
    }
    // Without the beginning, what is seen first is taken for it.
    let expected = *next.get_or_insert(sequence);
    let payload = packet.payload();
    let room = FLIGHT_MAX.saturating_sub(flight.len());
    if expected == sequence && !payload.is_empty() {
        flight.extend(&payload[..payload.len().min(room)]);
        let length = u32::try_from(payload.len()).unwrap_or(0);
        *next = Some(sequence.wrapping_add(length));
    }
}

impl Middlebox for DpiBox {
    fn on_packet(
        &mut self,
        _now: Instant,
        from: Side,
        packet: Packet,
        verdicts: &mut Vec<Verdict>,
    ) {
        let passes = match (self.watched(from, &packet), from) {
            (None, _) => true,
            (Some(flow), Side::Inside) => self.outbound(flow, &packet),
            (Some(flow), Side::Outside) => self.opinions.get(&flow) != Some(&Opinion::Disliked),
        };
        if passes {
            verdicts.push(Verdict::Forward {
                to: from.other(),
                packet,
            });
        } else {
            let refused = (*self.dpi.ruling, Cause::Inspected);
            refuse(
                refused,
                self.by,
                from,
                packet,
                (&mut self.touched, verdicts),
            );
        }
    }

    fn forget(&mut self) {
        self.opinions.clear();
        self.order.clear();
    }

    fn touched(&self) -> Touched {
        self.touched.clone()
    }
}

#[cfg(test)]
mod tests;
