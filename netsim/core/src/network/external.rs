//! Edges whose firewall and NAT somebody else is: a real kernel, beside the network.
//!
//! What reaches such an edge waits in [`Network::take_at_edges`], with the link that it
//! came by; what the other one forwards goes on with [`Network::send_from_edge`]. Boxes of
//! the edge that stand further inside (DNS, black hole, inspection) stay here. Invariant:
//! the network neither counts a hop nor chooses a route there: both are the other one's.

use super::{Component, Network};
use crate::{
    middlebox::{Cause, Middlebox, Verdict},
    model::Side,
    packet::Packet,
    time::Instant,
    topology::{LinkId, NodeId},
};

/// Something that happens to an edge that is somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeDeed {
    /// When.
    pub at: Instant,
    /// Which edge.
    pub edge: NodeId,
    /// Which event, by its place in the scenario.
    pub event: usize,
}

impl Network {
    /// Leaves firewall and NAT of these edges to somebody else. Hosts are no edges, and
    /// stay as they are.
    #[must_use]
    pub fn with_external(mut self, edges: &[NodeId]) -> Self {
        for id in edges {
            let edge = super::EdgeNode::external(&self.scenario, &self.topology, *id, self.seed);
            if let Some(edge) = edge {
                self.edges[id.0] = Some(edge);
            }
        }
        self
    }

    /// Packets that have come to edges of somebody else since the last call, with the
    /// link that each came by.
    pub fn take_at_edges(&mut self) -> Vec<(NodeId, LinkId, Packet)> {
        std::mem::take(&mut self.at_edges)
    }

    /// What has happened to edges of somebody else since the last call.
    pub fn take_edge_deeds(&mut self) -> Vec<EdgeDeed> {
        std::mem::take(&mut self.edge_deeds)
    }

    /// An edge of somebody else forwards a packet into one of its links.
    pub fn send_from_edge(&mut self, now: Instant, (node, link): (NodeId, LinkId), packet: Packet) {
        if self.side_of(node, link) == Some(Side::Outside) {
            self.put(now, node, link, packet);
            return;
        }
        let mut verdicts = Vec::new();
        let edge = self.edge(node);
        let chain = &mut edge.chain;
        chain.on_packet(now, Side::Outside, packet, &mut verdicts);
        self.after_external(now, (node, link), verdicts);
        self.schedule(Component::Edge(node));
    }

    /// What somebody else's edge has done so far, as its own counters say.
    pub fn set_touched_at_edge(&mut self, node: NodeId, cause: Cause, count: u64) {
        if let Some(edge) = &mut self.edges[node.0] {
            edge.elsewhere.set(cause, count);
        }
    }

    /// A packet comes to an edge of somebody else by a link.
    pub(super) fn arrive_external(
        &mut self,
        now: Instant,
        (node, link): (NodeId, LinkId),
        from: Side,
        packet: Packet,
    ) {
        let edge = self.edge(node);
        if from == Side::Outside || edge.stays_inside(&packet) {
            self.at_edges.push((node, link, packet));
            return;
        }
        let mut verdicts = Vec::new();
        edge.chain.on_packet(now, from, packet, &mut verdicts);
        self.after_external(now, (node, link), verdicts);
        self.schedule(Component::Edge(node));
    }

    /// What came out of the boxes that are here. `link` is the one inside that the packet
    /// came by or goes to.
    fn after_external(
        &mut self,
        now: Instant,
        (node, link): (NodeId, LinkId),
        verdicts: Vec<Verdict>,
    ) {
        for verdict in verdicts {
            match verdict {
                Verdict::Forward { to, packet } => match to {
                    Side::Inside => self.put(now, node, link, packet),
                    Side::Outside => self.at_edges.push((node, link, packet)),
                },
                // The box has counted it.
                Verdict::Drop { .. } => {}
            }
        }
    }

    /// What the boxes had kept for a while: who sent it, or whose it is, tells the link.
    pub(super) fn after_external_wait(
        &mut self,
        now: Instant,
        node: NodeId,
        verdicts: Vec<Verdict>,
    ) {
        for verdict in verdicts {
            let Verdict::Forward { to, packet } = &verdict else {
                continue;
            };
            let inner = match to {
                Side::Inside => packet.destination(),
                Side::Outside => packet.source(),
            };
            match self.edge(node).inside_link_of(inner) {
                Some(link) => self.after_external(now, (node, link), vec![verdict]),
                None => self.touched.count(Cause::Unroutable),
            }
        }
    }

    fn side_of(&self, node: NodeId, link: LinkId) -> Option<Side> {
        self.topology.links[link.0].near_end(node).side
    }
}
