//! An edge in a network: its boxes, and which of its links leads where.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::diverter::{Diversion, Diverter};
use crate::{
    middlebox::{Cause, Chain, EdgeAddress, Middlebox, Touched, Verdict},
    model::{Edge, Scenario, Side},
    packet::{Packet, Trouble},
    random::Seed,
    time::Instant,
    topology::{LinkId, Node, NodeId, Topology, outer_addresses},
};

#[derive(Debug)]
pub(super) struct EdgeNode {
    pub(super) chain: Chain,
    by: EdgeAddress,
    routes: BTreeMap<IpAddr, (Side, LinkId)>,
    /// Where what nobody knows goes, on either side: the only link there.
    default: BTreeMap<Side, LinkId>,
    own: BTreeSet<IpAddr>,
    /// To the transparent proxies that stand here.
    pub(super) diverter: Option<Diverter>,
    /// Whether firewall and NAT are somebody else's.
    pub(super) is_external: bool,
    /// What that one has counted.
    pub(super) elsewhere: Touched,
}

impl EdgeNode {
    /// The edge at a node; none where that is a host.
    pub(super) fn of(
        scenario: &Scenario,
        topology: &Topology,
        id: NodeId,
        seed: Seed,
    ) -> Option<Self> {
        let Node::Edge { edge: number } = topology.nodes[id.0] else {
            return None;
        };
        let edge = &scenario.edges[number];
        let by = EdgeAddress::of(number);
        let side_of = |link: LinkId| topology.links[link.0].near_end(id).side;
        let routes = topology.routes(scenario, id).into_iter();
        let links_on = |side: Side| {
            let mut links = topology.links_at(id).iter().copied();
            let first = links.find(|link| side_of(*link) == Some(side))?;
            let is_only = links.all(|link| side_of(link) != Some(side));
            is_only.then_some((side, first))
        };
        Some(Self {
            chain: Chain::of(edge, by, seed),
            by,
            routes: routes
                .filter_map(|(address, link)| Some((address, (side_of(link)?, link))))
                .collect(),
            default: Side::ALL
                .iter()
                .filter_map(|side| links_on(*side))
                .collect(),
            own: outer_addresses(edge).into_iter().collect(),
            diverter: Diverter::of(scenario, number),
            is_external: false,
            elsewhere: Touched::default(),
        })
    }

    /// The same, with firewall and NAT left to somebody else.
    pub(super) fn external(
        scenario: &Scenario,
        topology: &Topology,
        id: NodeId,
        seed: Seed,
    ) -> Option<Self> {
        let Node::Edge { edge: number } = topology.nodes[id.0] else {
            return None;
        };
        let edge = Edge {
            firewall: None,
            nat: None,
            nat64: None,
            ..scenario.edges[number].clone()
        };
        Some(Self {
            chain: Chain::of(&edge, EdgeAddress::of(number), seed),
            is_external: true,
            ..Self::of(scenario, topology, id, seed)?
        })
    }

    /// What it has done so far, with what somebody else did in its name.
    pub(super) fn touched(&self) -> Touched {
        let mut touched = self.chain.touched();
        touched.add(&self.elsewhere);
        touched
    }

    /// Whether a packet from inside is for somebody inside.
    pub(super) fn stays_inside(&self, packet: &Packet) -> bool {
        let known = self.routes.get(&packet.destination());
        known.is_some_and(|(side, _)| *side == Side::Inside)
    }

    /// The link inside that leads to an address.
    pub(super) fn inside_link_of(&self, address: IpAddr) -> Option<LinkId> {
        let known = self.routes.get(&address);
        let known = known.filter(|(side, _)| *side == Side::Inside);
        known.map(|(_, link)| *link)
    }

    /// A packet arrives at a side: it crosses to the other one through the boxes, or
    /// stays where it came from.
    pub(super) fn on_packet(
        &mut self,
        now: Instant,
        from: Side,
        mut packet: Packet,
        verdicts: &mut Vec<Verdict>,
    ) {
        if !packet.take_hop() {
            self.complain(
                from,
                packet,
                (Trouble::TooManyHops, Cause::TooManyHops),
                verdicts,
            );
            return;
        }
        let to = self.way(from, packet.destination());
        if to != from {
            self.chain.on_packet(now, from, packet, verdicts);
        } else if self.link_for(to, &packet).is_some() {
            verdicts.push(Verdict::Forward { to, packet });
        } else {
            let trouble = (Trouble::HostUnreachable, Cause::Unroutable);
            self.complain(from, packet, trouble, verdicts);
        }
    }

    /// To which side a packet from a side goes.
    fn way(&self, from: Side, destination: IpAddr) -> Side {
        match self.routes.get(&destination) {
            // What is for the edge's own NAT passes it, from either side, and what is for
            // its proxies comes from outside.
            _ if self.own.contains(&destination) || self.is_for_proxies(destination) => {
                from.other()
            }
            Some((side, _)) => *side,
            // What nobody knows is outside.
            None => Side::Outside,
        }
    }

    /// Whether a packet that arrives at a side is for the proxies on this edge.
    pub(super) fn divert(&mut self, from: Side, packet: &Packet) -> Diversion {
        let destination = packet.destination();
        let crosses = from == Side::Inside
            && !self.own.contains(&destination)
            && self.way(from, destination) == Side::Outside;
        match &mut self.diverter {
            Some(diverter) if crosses => diverter.judge(packet),
            Some(_) | None => Diversion::None,
        }
    }

    /// Whether this is an address that proxies on this edge dial from.
    pub(super) fn is_for_proxies(&self, destination: IpAddr) -> bool {
        let diverter = self.diverter.as_ref();
        diverter.is_some_and(|diverter| diverter.owns(destination))
    }

    /// The proxies on this edge send a packet: an answer in what was diverted goes inside
    /// at once, what they dial passes the boxes.
    pub(super) fn on_own_packet(
        &mut self,
        now: Instant,
        packet: Packet,
        verdicts: &mut Vec<Verdict>,
    ) {
        let is_dialled = self.is_for_proxies(packet.source());
        if is_dialled && self.way(Side::Inside, packet.destination()) == Side::Outside {
            self.chain.on_packet(now, Side::Inside, packet, verdicts);
        } else {
            let to = Side::Inside;
            verdicts.push(Verdict::Forward { to, packet });
        }
    }

    /// The link on a side by which a packet leaves.
    pub(super) fn link_for(&self, to: Side, packet: &Packet) -> Option<LinkId> {
        let known = self.routes.get(&packet.destination());
        let known = known.filter(|(side, _)| *side == to).map(|(_, link)| *link);
        // By default only outward: inside, every address is known.
        let default = self.default.get(&to).filter(|_| to == Side::Outside);
        known.or_else(|| default.copied())
    }

    fn complain(
        &self,
        from: Side,
        packet: Packet,
        (trouble, why): (Trouble, Cause),
        verdicts: &mut Vec<Verdict>,
    ) {
        if let Some(error) = packet.error(trouble, self.by.toward(packet.source())) {
            verdicts.push(Verdict::Forward {
                to: from,
                packet: error,
            });
        }
        verdicts.push(Verdict::Drop { packet, why });
    }
}
