//! A network in virtual time: packets move between hosts, through cables and the boxes of
//! edges, from event to event.
//!
//! It has no hosts of its own: what they send comes in by [`Network::send`], what is for
//! them waits in [`Network::take_delivered`]. Nothing happens between two events: whoever
//! drives it jumps to [`Network::poll_at`]. Invariants: events are handled in order of
//! time, and at one moment in a fixed order of components, so that a scenario and a seed
//! are one run; every packet is delivered, dropped with a cause that is counted, or under
//! way.

mod agenda;
mod capture;
mod diverter;
mod edge;
mod external;
mod faults;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};

use self::agenda::Agenda;
pub use self::capture::Caught;
pub use self::external::EdgeDeed;
pub use self::timeline::{Change, HostDeed, Moment, timeline};
use self::{diverter::Diversion, edge::EdgeNode, faults::Fault};
use crate::{
    middlebox::{CableBox, Cause, EdgeAddress, Middlebox, Touched, Verdict},
    model::{Protocol, Role, Scenario, Side, Word},
    packet::{Flow, Packet},
    random::Seed,
    term::Name,
    time::Instant,
    topology::{LinkId, Node, NodeId, Topology},
    trace::{Observation, Sighting, Trace},
};

/// What has a time at which something happens by itself.
#[derive(Debug, Clone, Copy)]
enum Component {
    Timeline,
    Link(LinkId),
    Edge(NodeId),
}

/// How a host is, as far as the network is concerned.
#[derive(Debug)]
struct HostState {
    /// Its own cable.
    main: Option<LinkId>,
    /// The cables of VPNs that are up; the last one is used.
    vpns: Vec<LinkId>,
    is_awake: bool,
    /// Flows that it has begun or answered; of agents only.
    asked: Option<BTreeSet<Flow>>,
}

/// See the module.
#[derive(Debug)]
pub struct Network {
    scenario: Scenario,
    topology: Topology,
    links: Vec<CableBox>,
    /// By node; none where that is a host.
    edges: Vec<Option<EdgeNode>>,
    /// By node; none where that is an edge.
    hosts: Vec<Option<HostState>>,
    moments: Vec<Moment>,
    next_moment: usize,
    agenda: Agenda,
    /// Rooms for what boxes decide: one for each cable or edge that is passed at one moment.
    rooms: Vec<Vec<Verdict>>,
    delivered: Vec<(NodeId, Packet)>,
    host_deeds: Vec<HostDeed>,
    /// What waits for edges that are somebody else's.
    at_edges: Vec<(NodeId, LinkId, Packet)>,
    edge_deeds: Vec<EdgeDeed>,
    seed: Seed,
    /// Drops that belong to no box.
    touched: Touched,
    faults: Vec<Fault>,
    trace: Trace,
    keeps_sightings: bool,
    capture: Option<capture::Capture>,
    /// How many packets each conversation has had, as long as it may be a handshake.
    begun: BTreeMap<Flow, u32>,
    /// How often a connection began that leads to each proxy, by its place in the scenario.
    proxied: Vec<u64>,
    /// Captive portals that let through.
    released: BTreeSet<usize>,
}

/// The first packets of a conversation carry its handshake, in which signatures and
/// certificates vary by a byte: their lengths are no part of a run's shape.
const HANDSHAKE_PACKETS: u32 = 48;

impl Network {
    /// The network of a drawn scenario. `seed` is what the dice of single packets grow
    /// from.
    pub fn new(scenario: Scenario, seed: Seed) -> Self {
        let topology = Topology::of(&scenario);
        let links = (0..topology.links.len())
            .map(|number| cable(&scenario, &topology, number, seed))
            .collect();
        let ids = || (0..topology.nodes.len()).map(NodeId);
        let edges = ids()
            .map(|id| EdgeNode::of(&scenario, &topology, id, seed))
            .collect();
        let hosts = ids().map(|id| host(&scenario, &topology, id)).collect();
        let moments = timeline(&scenario);
        let components = 1 + topology.links.len() + topology.nodes.len();
        let mut network = Self {
            topology,
            links,
            edges,
            hosts,
            next_moment: 0,
            agenda: Agenda::new(components),
            rooms: Vec::new(),
            delivered: Vec::new(),
            host_deeds: Vec::new(),
            at_edges: Vec::new(),
            edge_deeds: Vec::new(),
            seed,
            touched: Touched::default(),
            faults: Vec::new(),
            trace: Trace::default(),
            keeps_sightings: true,
            capture: None,
            begun: BTreeMap::new(),
            proxied: vec![0; scenario.proxies.len()],
            released: BTreeSet::new(),
            moments,
            scenario,
        };
        network.bring_vpns_up();
        network.schedule(Component::Timeline);
        network
    }

    /// Who is connected to whom.
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The scenario that is played.
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Keeps no packets in the trace: for large fleets.
    pub fn without_sightings(&mut self) {
        self.keeps_sightings = false;
    }

    /// What was seen so far.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What was seen so far, which is then forgotten.
    pub fn take_trace(&mut self) -> Trace {
        std::mem::take(&mut self.trace)
    }

    /// Whether something was observed of a host after a moment.
    pub fn has_seen_since(&self, host: &Name, word: Word, since: Instant) -> bool {
        let latest = self.trace.observations.iter().rev();
        let mut latest = latest.take_while(|one| one.at > since);
        latest.any(|one| one.word == word && one.host.as_ref() == Some(host))
    }

    /// Adds an observation of what runs on the hosts.
    pub fn observe(&mut self, observation: Observation) {
        self.trace.observations.push(observation);
    }

    /// A host sends a packet: by its VPN while one is up, else by its own cable. An edge is
    /// the host of the transparent proxies on it.
    pub fn send(&mut self, now: Instant, from: NodeId, packet: Packet) {
        if self.diverts(from) {
            let mut verdicts = self.room();
            self.edge(from).on_own_packet(now, packet, &mut verdicts);
            self.after_edge(now, from, verdicts);
            self.schedule(Component::Edge(from));
            return;
        }
        let Some(host) = self.hosts[from.0].as_mut().filter(|host| host.is_awake) else {
            self.touched.count(Cause::HostDown);
            return;
        };
        let (vpn, main) = (host.vpns.last().copied(), host.main);
        if let (Some(asked), Some(flow)) = (&mut host.asked, packet.flow())
            && asked.insert(flow)
            && let Some(transport) = transport_of(&flow)
        {
            let host = self.host_name(from);
            self.observe(Observation {
                at: now,
                host,
                word: Word::Attempt,
                detail: transport.to_owned(),
            });
        }
        let own = self.topology.addresses(from).iter();
        let mut of_vpn = own.filter(|(_, bound)| bound.is_some() && *bound == vpn);
        // A gateway takes from a tunnel what has the tunnel's address, and nothing else:
        // sockets from before are cut off.
        let is_fitting = vpn.is_none() || of_vpn.any(|(own, _)| *own == packet.source());
        match vpn.or(main).filter(|_| is_fitting) {
            Some(link) => self.put(now, from, link, packet),
            None => self.touched.count(Cause::Unroutable),
        }
    }

    /// Whether transparent proxies stand on a node: an edge then, whose node sends and is
    /// delivered packets as a host's, with the topology's `proxy_addresses` as its own.
    pub fn diverts(&self, node: NodeId) -> bool {
        let edge = self.edges[node.0].as_ref();
        edge.is_some_and(|edge| edge.diverter.is_some())
    }

    /// Whether a proxy, by its place in the scenario, answers everything with its page.
    pub fn is_captive(&self, proxy: usize) -> bool {
        self.scenario.proxies[proxy].captive && !self.released.contains(&proxy)
    }

    /// Packets that have come to hosts since the last call.
    pub fn take_delivered(&mut self) -> Vec<(NodeId, Packet)> {
        std::mem::take(&mut self.delivered)
    }

    /// What has happened to hosts since the last call: the network only cuts them off,
    /// what runs on them is the caller's.
    pub fn take_host_deeds(&mut self) -> Vec<HostDeed> {
        std::mem::take(&mut self.host_deeds)
    }

    /// When something happens by itself.
    pub fn poll_at(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _)| at)
    }

    /// Everything that is due until `now` happens, in order.
    pub fn advance(&mut self, now: Instant) {
        while let Some((at, number)) = self.agenda.first().filter(|one| one.0 <= now) {
            let component = self.component(number);
            let mut verdicts = self.room();
            match component {
                Component::Timeline => {
                    self.keep_room(verdicts);
                    self.next_change(at);
                }
                Component::Link(link) => {
                    self.links[link.0].on_time(at, &mut verdicts);
                    self.after_link(at, link, verdicts);
                }
                Component::Edge(node) => {
                    let edge = self.edge(node);
                    edge.chain.on_time(at, &mut verdicts);
                    if edge.is_external {
                        self.after_external_wait(at, node, verdicts);
                    } else {
                        self.after_edge(at, node, verdicts);
                    }
                }
            }
            self.schedule(component);
        }
    }

    /// How many packets were touched, by cause, in the whole network.
    pub fn touched(&self) -> Touched {
        let mut touched = self.touched.clone();
        for link in &self.links {
            touched.add(&link.touched());
        }
        for edge in self.edges.iter().flatten() {
            touched.add(&edge.touched());
            if let Some(diverter) = &edge.diverter {
                touched.add(diverter.touched());
            }
        }
        touched
    }

    fn edge(&mut self, node: NodeId) -> &mut EdgeNode {
        self.edges[node.0]
            .as_mut()
            .expect("only edges have components")
    }

    fn schedule(&mut self, component: Component) {
        let at = match component {
            Component::Timeline => self.moments.get(self.next_moment).map(|moment| moment.at),
            Component::Link(link) => self.links[link.0].poll_at(),
            Component::Edge(node) => self.edges[node.0]
                .as_ref()
                .and_then(|edge| edge.chain.poll_at()),
        };
        self.agenda.set(self.number(component), at);
    }

    /// The number of a component on the agenda: at one moment, the timeline is first, then come
    /// cables, then edges.
    const fn number(&self, component: Component) -> usize {
        match component {
            Component::Timeline => 0,
            Component::Link(link) => 1 + link.0,
            Component::Edge(node) => 1 + self.links.len() + node.0,
        }
    }

    const fn component(&self, number: usize) -> Component {
        let links = self.links.len();
        match number {
            0 => Component::Timeline,
            number if number <= links => Component::Link(LinkId(number - 1)),
            number => Component::Edge(NodeId(number - 1 - links)),
        }
    }

    /// Room for what a box decides; given back empty by [`Self::keep_room`].
    fn room(&mut self) -> Vec<Verdict> {
        self.rooms.pop().unwrap_or_default()
    }

    fn keep_room(&mut self, room: Vec<Verdict>) {
        debug_assert!(room.is_empty(), "whoever had it has taken everything out");
        self.rooms.push(room);
    }

    /// A packet goes into a link from one of its ends.
    fn put(&mut self, now: Instant, from: NodeId, link: LinkId, packet: Packet) {
        let [first, _] = self.topology.links[link.0].ends;
        let side = if first.node == from {
            Side::Inside
        } else {
            Side::Outside
        };
        self.catch(now, (link, side.other()), &packet);
        if self.keeps_sightings {
            let is_handshake = self.may_be_handshake(&packet);
            let name = &self.topology.links[link.0].name;
            let seen = Sighting::of((now, name, side.other()), &packet, is_handshake);
            self.trace.sightings.push(seen);
        }
        let mut verdicts = self.room();
        self.links[link.0].on_packet(now, side, packet, &mut verdicts);
        self.after_link(now, link, verdicts);
        self.schedule(Component::Link(link));
    }

    /// Whether a packet is one of the first of its conversation, counted on every link
    /// that it passes.
    fn may_be_handshake(&mut self, packet: &Packet) -> bool {
        let Some(flow) = packet.flow() else {
            return false;
        };
        let conversation = flow.min(flow.reversed());
        if packet.flags().opens() {
            self.begun.remove(&conversation);
        }
        let count = self.begun.entry(conversation).or_insert(0);
        *count = count.saturating_add(1);
        *count <= HANDSHAKE_PACKETS
    }

    /// What comes out of a link arrives at its ends; an answer to what was too long goes
    /// back to the end that it came from.
    fn after_link(&mut self, now: Instant, link: LinkId, mut verdicts: Vec<Verdict>) {
        for verdict in verdicts.drain(..) {
            let Verdict::Forward { to, packet } = verdict else {
                continue;
            };
            let end = match to {
                Side::Inside => self.topology.links[link.0].ends[0],
                Side::Outside => self.topology.links[link.0].ends[1],
            };
            match (&self.topology.nodes[end.node.0], end.side) {
                (Node::Host { .. }, _) | (Node::Edge { .. }, None) => {
                    self.deliver(now, end.node, packet);
                }
                (Node::Edge { .. }, Some(side)) => {
                    let edge = self.edges[end.node.0].as_ref();
                    if edge.is_some_and(|edge| edge.is_external) {
                        self.arrive_external(now, (end.node, link), side, packet);
                    } else {
                        self.arrive(now, end.node, side, packet);
                    }
                }
            }
        }
        self.keep_room(verdicts);
    }

    /// A packet arrives at a side of an edge.
    fn arrive(&mut self, now: Instant, node: NodeId, from: Side, packet: Packet) {
        let edge = self.edge(node);
        let diversion = edge.divert(from, &packet);
        if let Diversion::Begins(proxy) = diversion {
            self.proxied[proxy] += 1;
        }
        if diversion != Diversion::None {
            self.delivered.push((node, packet));
            return;
        }
        let mut verdicts = self.room();
        let edge = self.edge(node);
        edge.on_packet(now, from, packet, &mut verdicts);
        self.after_edge(now, node, verdicts);
        self.schedule(Component::Edge(node));
    }

    /// What an edge decided goes into the link that leads there.
    fn after_edge(&mut self, now: Instant, node: NodeId, mut verdicts: Vec<Verdict>) {
        for verdict in verdicts.drain(..) {
            match verdict {
                Verdict::Forward { to, packet }
                    if to == Side::Inside
                        && self.edge(node).is_for_proxies(packet.destination()) =>
                {
                    self.delivered.push((node, packet));
                }
                Verdict::Forward { to, packet } => match self.edge(node).link_for(to, &packet) {
                    Some(link) => self.put(now, node, link, packet),
                    None => self.touched.count(Cause::Unroutable),
                },
                Verdict::Drop { why, .. }
                    if matches!(why, Cause::Unroutable | Cause::TooManyHops) =>
                {
                    self.touched.count(why);
                }
                // The box has counted it.
                Verdict::Drop { .. } => {}
            }
        }
        self.keep_room(verdicts);
    }

    fn deliver(&mut self, now: Instant, node: NodeId, packet: Packet) {
        let Some(host) = &self.hosts[node.0] else {
            return;
        };
        if !host.is_awake {
            self.touched.count(Cause::HostDown);
            return;
        }
        let answers = packet.about().or_else(|| packet.flow().map(Flow::reversed));
        let is_asked_for = match (&host.asked, answers) {
            (Some(asked), Some(flow)) => asked.contains(&flow),
            (None, _) | (_, None) => true,
        };
        if !is_asked_for {
            let host = self.host_name(node);
            self.observe(Observation {
                at: now,
                host,
                word: Word::InboundFlow,
                detail: packet
                    .flow()
                    .map(|flow| flow.to_string())
                    .unwrap_or_default(),
            });
        }
        self.note_proxied(node, &packet);
        self.delivered.push((node, packet));
    }

    /// The VPN that a host's packets go through, by its place in the scenario.
    pub fn vpn_of(&self, node: NodeId) -> Option<usize> {
        let link = *self.hosts[node.0].as_ref()?.vpns.last()?;
        let cable = &self.scenario.cables[self.topology.links[link.0].cable];
        let mut vpns = self.scenario.vpns.iter();
        vpns.position(|vpn| *vpn.cable == *cable.name)
    }

    /// What a node's host is called.
    pub fn host_name(&self, node: NodeId) -> Option<Name> {
        match &self.topology.nodes[node.0] {
            Node::Host { name, .. } => Some(name.clone()),
            Node::Edge { .. } => None,
        }
    }

    /// A VPN whose cable is plugged in from the start is up.
    fn bring_vpns_up(&mut self) {
        for number in 0..self.scenario.vpns.len() {
            let vpn = &self.scenario.vpns[number];
            let mut cables = self.scenario.cables.iter();
            let is_up = cables.any(|cable| *cable.name == *vpn.cable && cable.up);
            if is_up {
                self.set_vpn(number, true);
            }
        }
    }
}

/// By which transport an agent knocks at a relay that begins a flow so. The ports are those
/// of every simulated relay.
const fn transport_of(flow: &Flow) -> Option<&'static str> {
    match (flow.protocol, flow.destination.port()) {
        (Protocol::Udp, 8000) => Some("quic"),
        (Protocol::Tcp, 8000) => Some("ws"),
        (Protocol::Tcp, 443) => Some("ws-443"),
        (Protocol::Tcp | Protocol::Udp | Protocol::Icmp, _) => None,
    }
}

fn cable(scenario: &Scenario, topology: &Topology, number: usize, seed: Seed) -> CableBox {
    let link = &topology.links[number];
    let cable = &scenario.cables[link.cable];
    // Who complains about what is too long: the edge at either end.
    let mut edges = link
        .ends
        .iter()
        .filter_map(|end| match topology.nodes[end.node.0] {
            Node::Edge { edge } => Some(edge),
            Node::Host { .. } => None,
        });
    let by = EdgeAddress::of(edges.next().unwrap_or_else(|| u16::MAX.into()));
    CableBox::new(cable, by, (seed, &format!("cable.{}", link.name)))
}

fn host(scenario: &Scenario, topology: &Topology, id: NodeId) -> Option<HostState> {
    let Node::Host { host, .. } = topology.nodes[id.0] else {
        return None;
    };
    let is_of_vpn = |link: &LinkId| {
        let cable = &scenario.cables[topology.links[link.0].cable];
        scenario.vpns.iter().any(|vpn| *vpn.cable == *cable.name)
    };
    let mut links = topology.links_at(id).iter().copied();
    let is_agent = scenario.hosts[host].runs == Role::Agent;
    Some(HostState {
        main: links.find(|link| !is_of_vpn(link)),
        vpns: Vec::new(),
        is_awake: true,
        asked: is_agent.then(BTreeSet::new),
    })
}

#[cfg(test)]
mod tests;
