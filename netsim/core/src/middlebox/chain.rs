//! The boxes of an edge in a row, from inside to outside, as one box.

use std::collections::VecDeque;

use super::{
    BlackHoleBox, DnsBox, DpiBox, EdgeAddress, FirewallBox, Middlebox, Nat64Box, NatBox, Touched,
    UdpBlockBox, Verdict, earlier,
};
use crate::{
    model::{Edge, Side},
    packet::Packet,
    random::Seed,
    time::Instant,
};

/// See the module.
#[derive(Debug)]
pub struct Chain {
    boxes: Vec<Box<dyn Middlebox>>,
    /// Room for what one box decides, and for packets between two boxes.
    of_one: Vec<Verdict>,
    waiting: VecDeque<(usize, Side, Packet)>,
}

impl Chain {
    /// The boxes of an edge. `by` is the edge's own address.
    pub fn of(edge: &Edge, by: EdgeAddress, seed: Seed) -> Self {
        let timeouts = edge.idle.timeouts();
        let stream = |what: &str| seed.stream(&format!("edge.{}.{what}", *edge.name));
        let mut boxes: Vec<Box<dyn Middlebox>> = Vec::new();
        if !edge.dns.is_empty() {
            boxes.push(Box::new(DnsBox::new(edge.dns.clone())));
        }
        if let Some(hole) = &edge.black_hole {
            boxes.push(Box::new(BlackHoleBox::new(hole)));
        }
        if let Some(block) = &edge.udp_block {
            boxes.push(Box::new(UdpBlockBox::new(block.clone(), by)));
        }
        if let Some(dpi) = &edge.dpi {
            boxes.push(Box::new(DpiBox::new(dpi.clone(), by)));
        }
        if let Some(firewall) = &edge.firewall {
            boxes.push(Box::new(FirewallBox::new(firewall.clone(), timeouts, by)));
        }
        if let Some(nat) = &edge.nat {
            boxes.push(Box::new(NatBox::new(nat, timeouts, by, stream("nat"))));
        }
        if let Some(nat64) = &edge.nat64 {
            boxes.push(Box::new(Nat64Box::new(
                nat64,
                timeouts,
                by,
                stream("nat64"),
            )));
        }
        Self {
            boxes,
            of_one: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// What waits between the boxes goes on, until all that follows from it has left the
    /// chain.
    fn run(&mut self, now: Instant, verdicts: &mut Vec<Verdict>) {
        while let Some((at, from, packet)) = self.waiting.pop_front() {
            let mut of_one = std::mem::take(&mut self.of_one);
            self.boxes[at].on_packet(now, from, packet, &mut of_one);
            self.go_on(at, of_one, verdicts);
        }
    }

    /// What the box at `at` decided goes on to the next one, or leaves the chain.
    fn go_on(&mut self, at: usize, mut of_one: Vec<Verdict>, verdicts: &mut Vec<Verdict>) {
        for verdict in of_one.drain(..) {
            self.next(at, verdict, verdicts);
        }
        self.of_one = of_one;
    }

    fn next(&mut self, at: usize, verdict: Verdict, verdicts: &mut Vec<Verdict>) {
        let (to, packet) = match verdict {
            Verdict::Forward { to, packet } => (to, packet),
            Verdict::Drop { .. } => {
                verdicts.push(verdict);
                return;
            }
        };
        let next = match to {
            Side::Outside => Some(at + 1).filter(|next| *next < self.boxes.len()),
            Side::Inside => at.checked_sub(1),
        };
        match next {
            Some(next) => self.waiting.push_back((next, to.other(), packet)),
            None => verdicts.push(Verdict::Forward { to, packet }),
        }
    }
}

impl Middlebox for Chain {
    fn on_packet(&mut self, now: Instant, from: Side, packet: Packet, verdicts: &mut Vec<Verdict>) {
        let first = match from {
            Side::Inside => 0,
            Side::Outside => self.boxes.len().saturating_sub(1),
        };
        if self.boxes.is_empty() {
            verdicts.push(Verdict::Forward {
                to: from.other(),
                packet,
            });
        } else {
            self.waiting.push_back((first, from, packet));
            self.run(now, verdicts);
        }
    }

    fn poll_at(&self) -> Option<Instant> {
        let times = self.boxes.iter().map(|one| one.poll_at());
        times.fold(None, earlier)
    }

    fn on_time(&mut self, now: Instant, verdicts: &mut Vec<Verdict>) {
        for at in 0..self.boxes.len() {
            let mut of_one = std::mem::take(&mut self.of_one);
            self.boxes[at].on_time(now, &mut of_one);
            self.go_on(at, of_one, verdicts);
            self.run(now, verdicts);
        }
    }

    fn forget(&mut self) {
        for one in &mut self.boxes {
            one.forget();
        }
    }

    fn rebind(&mut self) {
        for one in &mut self.boxes {
            one.rebind();
        }
    }

    fn touched(&self) -> Touched {
        let mut touched = Touched::default();
        for one in &self.boxes {
            touched.add(&one.touched());
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Cause, super::fixture::*, *};
    use crate::{
        model::{Firewall, Idle, Nat, Preset, UdpBlock},
        packet::Flags,
        term::{At, Name, Term},
    };

    fn edge() -> Edge {
        let mut edge = Edge::blank();
        edge.name = At::nowhere(Name::of("office"));
        edge
    }

    fn with_nat() -> Edge {
        let mut nat = Nat::blank();
        nat.addresses = vec![At::nowhere("198.51.100.1".parse().expect("an address"))];
        let mut edge = edge();
        edge.nat = Some(At::nowhere(nat));
        edge
    }

    #[test]
    fn an_edge_without_boxes_is_a_router() {
        let mut chain = Chain::of(&edge(), BY, Seed(1));

        assert!(outbound(&mut chain, seconds(0), udp(INNER, OUTER, b"x")).passed());
        assert!(inbound(&mut chain, seconds(0), udp(OUTER, INNER, b"x")).passed());
    }

    #[test]
    fn a_packet_passes_every_box_and_its_answer_comes_back() {
        let mut edge = with_nat();
        edge.firewall = Some(Firewall::blank());
        edge.udp_block = Some(UdpBlock::blank());
        let mut chain = Chain::of(&edge, BY, Seed(1));

        let (_, sent) = outbound(&mut chain, seconds(0), syn(INNER, OUTER)).only();
        let outer = sent.flow().expect("it has ports").source;
        let answer = inbound(&mut chain, seconds(0), syn_ack(OUTER, outer));
        let blocked = outbound(&mut chain, seconds(0), udp(INNER, OUTER, b"x"));

        assert_eq!(outer.ip().to_string(), "198.51.100.1");
        assert_eq!(answer.only().1.destination(), INNER.ip());
        assert_eq!(blocked.dropped(), [Cause::UdpBlocked]);
    }

    #[test]
    fn a_flow_idle_for_too_long_hangs_or_is_reset_as_the_preset_has_it() {
        let presets = [
            (Preset::AzureLoadBalancer, false),
            (Preset::AzureLoadBalancerReset, true),
        ];
        for (preset, hears_reset) in presets {
            let mut edge = with_nat();
            edge.firewall = Some(Firewall::blank());
            edge.idle = Idle {
                preset: Some(preset),
                ..Idle::blank()
            };
            let mut chain = Chain::of(&edge, BY, Seed(1));
            let (_, sent) = outbound(&mut chain, seconds(0), syn(INNER, OUTER)).only();
            let outer = sent.flow().expect("it has ports").source;
            inbound(&mut chain, seconds(0), syn_ack(OUTER, outer));

            assert!(outbound(&mut chain, seconds(239), ack(INNER, OUTER)).passed());
            let late = outbound(&mut chain, seconds(239 + 240), ack(INNER, OUTER));

            assert_eq!(late.dropped(), [Cause::Expired]);
            let resets = late.forwarded();
            assert_eq!(
                resets.iter().any(|(_, one)| one.flags().has(Flags::RST)),
                hears_reset
            );
        }
    }
}
