//! Who is connected to whom, and which way leads where.
//!
//! It takes a scenario as it is: what leads nowhere is left out here, and named by
//! `check`. Hosts do not forward; the edges form a tree, so that between two of them
//! there is one way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::{
    model::{Edge, End, ProxyKind, Scenario, Side},
    term::Name,
};

/// A host's copy or an edge, by its place in [`Topology::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A cable's copy, by its place in [`Topology::links`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub usize);

/// What stands at the ends of cables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// One copy of a host.
    Host {
        /// Its place in the scenario.
        host: usize,
        /// Which copy, from 0.
        copy: u32,
        /// `NAME`, or `NAME-COPY` where there are several.
        name: Name,
    },
    /// An edge.
    Edge {
        /// Its place in the scenario.
        edge: usize,
    },
}

/// One end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkEnd {
    /// What stands there.
    pub node: NodeId,
    /// On which side, where that is an edge.
    pub side: Option<Side>,
}

/// One copy of a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its place in the scenario.
    pub cable: usize,
    /// `NAME`, or `NAME-COPY` where it leads to one of several copies.
    pub name: Name,
    /// Its ends, as the scenario has them in order.
    pub ends: [LinkEnd; 2],
}

impl Link {
    /// The end that is not at `node`.
    pub fn far_end(&self, node: NodeId) -> LinkEnd {
        if self.ends[0].node == node {
            self.ends[1]
        } else {
            self.ends[0]
        }
    }

    /// The end that is at `node`.
    pub fn near_end(&self, node: NodeId) -> LinkEnd {
        if self.ends[0].node == node {
            self.ends[0]
        } else {
            self.ends[1]
        }
    }
}

/// Nodes and the links between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Hosts first, copy by copy, then edges.
    pub nodes: Vec<Node>,
    /// One a copy.
    pub links: Vec<Link>,
    at: Vec<Vec<LinkId>>,
    addresses: Vec<Vec<(IpAddr, Option<LinkId>)>>,
}

impl Topology {
    /// Lays out a scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let nodes = nodes(scenario);
        let links = links(scenario, &nodes);
        let mut at = vec![Vec::new(); nodes.len()];
        for (id, link) in links.iter().enumerate() {
            for end in link.ends {
                at[end.node.0].push(LinkId(id));
            }
        }
        let mut topology = Self {
            addresses: vec![Vec::new(); nodes.len()],
            nodes,
            links,
            at,
        };
        topology.give_addresses(scenario);
        topology
    }

    fn give_addresses(&mut self, scenario: &Scenario) {
        for id in 0..self.nodes.len() {
            let own = match &self.nodes[id] {
                Node::Host { host, copy, .. } => {
                    let host = &scenario.hosts[*host];
                    let addresses = host.addresses.iter();
                    let mut own: Vec<_> = addresses
                        .map(|net| (nth_address(net, *copy), None))
                        .collect();
                    for vpn in scenario.vpns.iter().filter(|vpn| *vpn.host == *host.name) {
                        let cable = self.at[id].iter().copied().find(|link| {
                            let cable = &scenario.cables[self.links[link.0].cable];
                            *cable.name == *vpn.cable
                        });
                        own.push((nth_address(&vpn.address, *copy), cable));
                    }
                    own
                }
                Node::Edge { edge } => {
                    let name = &scenario.edges[*edge].name;
                    let mut own = outer_addresses(&scenario.edges[*edge]);
                    let mut proxies = scenario.proxies.iter();
                    if proxies.any(|one| one.speaks == ProxyKind::Transparent && *one.on == **name)
                    {
                        own.extend(proxy_addresses(*edge));
                    }
                    own.into_iter().map(|address| (address, None)).collect()
                }
            };
            self.addresses[id] = own;
        }
    }

    /// The links at a node.
    pub fn links_at(&self, node: NodeId) -> &[LinkId] {
        &self.at[node.0]
    }

    /// A node's own addresses, and the link that one is bound to: a VPN's.
    pub fn addresses(&self, node: NodeId) -> &[(IpAddr, Option<LinkId>)] {
        &self.addresses[node.0]
    }

    /// Nodes that are copies of this host, or the one copy of this name.
    pub fn copies<'a>(&'a self, scenario: &'a Scenario, name: &'a Name) -> Vec<NodeId> {
        let ids = (0..self.nodes.len()).map(NodeId);
        ids.filter(|id| match &self.nodes[id.0] {
            Node::Host {
                host, name: own, ..
            } => *scenario.hosts[*host].name == *name || own == name,
            Node::Edge { .. } => false,
        })
        .collect()
    }

    /// Links that are copies of this cable, or the one copy of this name.
    pub fn copies_of_cable(&self, scenario: &Scenario, name: &Name) -> Vec<LinkId> {
        let links = self.links.iter().enumerate();
        let is_meant =
            |link: &Link| *scenario.cables[link.cable].name == *name || link.name == *name;
        links
            .filter(|(_, link)| is_meant(link))
            .map(|(number, _)| LinkId(number))
            .collect()
    }

    /// Every address that can be reached through a link from one of its ends, without
    /// anybody behind a NAT: of those, only the NAT's own.
    pub fn visible(&self, scenario: &Scenario, from: NodeId, through: LinkId) -> BTreeSet<IpAddr> {
        let mut seen = BTreeSet::from([from]);
        let mut found = BTreeSet::new();
        let mut waiting = vec![(from, through)];
        while let Some((near, link)) = waiting.pop() {
            let end = self.links[link.0].far_end(near);
            if !seen.insert(end.node) {
                continue;
            }
            let on_this_link = |bound: &Option<LinkId>| bound.is_none_or(|bound| bound == link);
            let own = self.addresses(end.node).iter();
            found.extend(
                own.filter(|(_, bound)| on_this_link(bound))
                    .map(|own| own.0),
            );
            let Node::Edge { edge } = self.nodes[end.node.0] else {
                continue;
            };
            let hides = hides_inside(&scenario.edges[edge]) && end.side == Some(Side::Outside);
            for &next in self.links_at(end.node) {
                let side = self.links[next.0].near_end(end.node).side;
                if !(hides && side == Some(Side::Inside)) {
                    waiting.push((end.node, next));
                }
            }
        }
        found
    }

    /// Which link of an edge leads to which address.
    pub fn routes(&self, scenario: &Scenario, edge: NodeId) -> BTreeMap<IpAddr, LinkId> {
        let mut routes = BTreeMap::new();
        for &link in self.links_at(edge) {
            for address in self.visible(scenario, edge, link) {
                routes.entry(address).or_insert(link);
            }
        }
        routes
    }

    /// Links that close a circle of edges.
    pub fn circles(&self) -> Vec<LinkId> {
        let mut root: Vec<usize> = (0..self.nodes.len()).collect();
        fn find(root: &mut [usize], mut node: usize) -> usize {
            while root[node] != node {
                root[node] = root[root[node]];
                node = root[node];
            }
            node
        }
        let mut closing = Vec::new();
        for (id, link) in self.links.iter().enumerate() {
            let is_edge = |end: &LinkEnd| matches!(self.nodes[end.node.0], Node::Edge { .. });
            if !link.ends.iter().all(is_edge) {
                continue;
            }
            let [a, b] = link.ends.map(|end| find(&mut root, end.node.0));
            if a == b {
                closing.push(LinkId(id));
            }
            root[a] = b;
        }
        closing
    }
}

/// Whether what is inside has no address outside.
const fn hides_inside(edge: &Edge) -> bool {
    edge.nat.is_some()
}

/// The addresses of an edge's NAT and NAT64.
pub fn outer_addresses(edge: &Edge) -> Vec<IpAddr> {
    let nat = edge.nat.iter().flat_map(|nat| nat.addresses.iter());
    let mut outer: Vec<IpAddr> = nat.map(|address| **address).collect();
    outer.extend(edge.nat64.iter().map(|nat64| IpAddr::V4(*nat64.address)));
    outer
}

/// The addresses that transparent proxies on the edge with this number dial from, as hosts
/// inside of it: from the networks for measurements (RFC 2544, RFC 5180), beside those in
/// whose name the edge complains.
pub fn proxy_addresses(edge: usize) -> [IpAddr; 2] {
    let number = u16::try_from(edge.saturating_add(1)).unwrap_or(u16::MAX);
    let [high, low] = number.to_be_bytes();
    [
        Ipv4Addr::new(198, 19, high, low).into(),
        Ipv6Addr::new(0x2001, 2, 0, 1, 0, 0, 0, number).into(),
    ]
}

/// The address of a host's copy: the next ones in a row.
pub fn nth_address(first: &IpNet, copy: u32) -> IpAddr {
    match first.addr() {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(copy)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(copy.into())).into(),
    }
}

/// What a copy is called.
pub fn copy_name(name: &Name, count: u32, copy: u32) -> Name {
    if count == 1 {
        name.clone()
    } else {
        Name::of(format!("{name}-{copy}"))
    }
}

fn nodes(scenario: &Scenario) -> Vec<Node> {
    let hosts = scenario.hosts.iter().enumerate();
    let copies = hosts.flat_map(|(index, host)| {
        (0..*host.count).map(move |copy| Node::Host {
            host: index,
            copy,
            name: copy_name(&host.name, *host.count, copy),
        })
    });
    let edges = (0..scenario.edges.len()).map(|edge| Node::Edge { edge });
    copies.chain(edges).collect()
}

fn links(scenario: &Scenario, nodes: &[Node]) -> Vec<Link> {
    let mut links = Vec::new();
    for (index, cable) in scenario.cables.iter().enumerate() {
        let [first, second] = cable.ends.as_slice() else {
            continue;
        };
        let (first, second) = (ends(scenario, nodes, first), ends(scenario, nodes, second));
        let count = first.len().max(second.len());
        let copies = u32::try_from(count).unwrap_or(u32::MAX);
        if first.is_empty() || second.is_empty() {
            continue;
        }
        for copy in 0..count {
            let end = |ends: &[LinkEnd]| ends[copy.min(ends.len() - 1)];
            let number = u32::try_from(copy).unwrap_or(u32::MAX);
            links.push(Link {
                cable: index,
                name: copy_name(&cable.name, copies, number),
                ends: [end(&first), end(&second)],
            });
        }
    }
    links
}

/// Every node that an end stands for: the copies of a host, or one edge.
fn ends(scenario: &Scenario, nodes: &[Node], end: &End) -> Vec<LinkEnd> {
    let ids = nodes.iter().enumerate();
    ids.filter(|(_, node)| match node {
        Node::Host { host, .. } => end.side.is_none() && *scenario.hosts[*host].name == end.node,
        Node::Edge { edge } => end.side.is_some() && *scenario.edges[*edge].name == end.node,
    })
    .map(|(id, _)| LinkEnd {
        node: NodeId(id),
        side: end.side,
    })
    .collect()
}
