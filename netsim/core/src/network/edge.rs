//! An edge in a network: its boxes, and which of its links leads where.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

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
        let destination = packet.destination();
        let is_own = self.own.contains(&destination);
        let to = match self.routes.get(&destination) {
            // What is for the edge's own NAT passes it, from either side.
            _ if is_own => from.other(),
            Some((side, _)) => *side,
            // What nobody knows is outside.
            None => Side::Outside,
        };
        if to != from {
            self.chain.on_packet(now, from, packet, verdicts);
        } else if self.link_for(to, &packet).is_some() {
            verdicts.push(Verdict::Forward { to, packet });
        } else {
            let trouble = (Trouble::HostUnreachable, Cause::Unroutable);
            self.complain(from, packet, trouble, verdicts);
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
