//! Cables and ways: both ends, both sides, one way between two edges, and a way from
//! every agent to a relay.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    limits,
    model::{Cable, End, Host, Proxy, Role, Scenario, Side, TargetKind},
    term::{At, Reader, nearest},
    topology::{Node, NodeId, Topology, outer_addresses},
};

pub(super) fn check(scenario: &Scenario, reader: &mut Reader<'_>) {
    for cable in &scenario.cables {
        cable_ends(scenario, cable, reader);
        mtu(cable, reader);
    }
    for host in &scenario.hosts {
        host_cables(scenario, host, reader);
        host_addresses(host, reader);
        host_references(scenario, host, reader);
    }
    edge_sides(scenario, reader);
    let is_wired = reader.is_clean();
    let topology = Topology::of(scenario);
    for link in topology.circles() {
        let cable = &scenario.cables[topology.links[link.0].cable];
        reader.report(
            &cable.name.place(),
            format!(
                "the cable `{}` closes a circle of edges; between two edges there is one way",
                *cable.name
            ),
        );
    }
    // What is not wired rightly is not asked where it leads.
    if is_wired {
        addresses_twice(scenario, &topology, reader);
        ways_to_relays(scenario, &topology, reader);
    }
}

fn cable_ends(scenario: &Scenario, cable: &Cable, reader: &mut Reader<'_>) {
    if cable.ends.len() != 2 && !cable.name.place().is_empty() {
        let problem = format!(
            "the cable `{}` has {} ends; a cable has two: `ends = [\"a\", \"b\"]`",
            *cable.name,
            cable.ends.len()
        );
        reader.report(&cable.name.place(), problem);
    }
    for end in &cable.ends {
        cable_end(scenario, end, reader);
    }
    let [first, second] = cable.ends.as_slice() else {
        return;
    };
    if first.node == second.node && !first.node.is_blank() {
        reader.report(
            &second.place(),
            format!("both ends are at `{}`; a cable leads elsewhere", first.node),
        );
    }
    let counts = [first, second].map(|end| scenario.host(&end.node).map_or(1, |host| *host.count));
    if counts[0] > 1 && counts[1] > 1 {
        reader.report(
            &second.place(),
            "both ends have several copies; put an edge between them",
        );
    }
}

fn cable_end(scenario: &Scenario, end: &At<End>, reader: &mut Reader<'_>) {
    let node = &end.node;
    if node.is_blank() {
        return;
    }
    let (is_host, is_edge) = (scenario.host(node).is_some(), scenario.edge(node).is_some());
    let problem = match (is_host, is_edge, end.side) {
        (true, _, None) | (_, true, Some(_)) => return,
        (true, _, Some(_)) => format!("`{node}` is a host, and has no sides: write `{node}`"),
        (_, true, None) => {
            format!("`{node}` is an edge: write `{node}:inside` or `{node}:outside`")
        }
        (false, false, _) => {
            let mut known = super::names_of(scenario, TargetKind::Host);
            known.extend(super::names_of(scenario, TargetKind::Edge));
            let advice = nearest(node.as_str(), &known).map_or_else(
                || format!("it is one of {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            format!("no host or edge is called `{node}`; {advice}")
        }
    };
    reader.report(&end.place(), problem);
}

fn mtu(cable: &Cable, reader: &mut Reader<'_>) {
    for line in std::iter::once(&cable.line).chain(&cable.back) {
        let mtu = line.mtu.get();
        if !(limits::MTU_MIN..=limits::MTU_MAX).contains(&mtu) {
            reader.report(
                &line.mtu.place(),
                format!(
                    "an MTU of {mtu} is none that hosts can use; it lies in {}..={}",
                    limits::MTU_MIN,
                    limits::MTU_MAX
                ),
            );
        }
    }
}

fn host_cables(scenario: &Scenario, host: &Host, reader: &mut Reader<'_>) {
    let is_vpn = |cable: &Cable| scenario.vpns.iter().any(|vpn| *vpn.cable == *cable.name);
    let ends_here = |cable: &&Cable| cable.ends.iter().any(|end| end.node == *host.name);
    let own = scenario.cables.iter().filter(ends_here);
    let count = own.filter(|cable| !is_vpn(cable)).count();
    if count == 1 || host.name.is_blank() {
        return;
    }
    let problem = if count == 0 {
        format!("no cable ends at `{}`; nobody can reach it", *host.name)
    } else {
        format!(
            "{count} cables end at `{}`; a host has one, and one more for each of its VPNs",
            *host.name
        )
    };
    reader.report(&host.name.place(), problem);
}

fn host_addresses(host: &Host, reader: &mut Reader<'_>) {
    let count = *host.count;
    if count == 0 || count > limits::COPIES_MAX {
        reader.report(
            &host.count.place(),
            format!("`count` lies in 1..={}", limits::COPIES_MAX),
        );
    }
    let mut families = Vec::new();
    for net in &host.addresses {
        let is_ipv4 = net.addr().is_ipv4();
        if families.contains(&is_ipv4) {
            let problem = "a second address of the same family; a host has one of each";
            reader.report(&net.place(), problem);
        }
        families.push(is_ipv4);
        let host_bits = net.max_prefix_len() - net.prefix_len();
        let room = 1_u128.checked_shl(host_bits.into()).unwrap_or(u128::MAX);
        let first = match (net.addr(), net.network()) {
            (IpAddr::V4(own), IpAddr::V4(network)) => u128::from(own.to_bits() - network.to_bits()),
            (IpAddr::V6(own), IpAddr::V6(network)) => own.to_bits() - network.to_bits(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
        };
        if first.saturating_add(count.into()) > room {
            reader.report(
                &net.place(),
                format!(
                    "{count} addresses from {} on do not fit into {}",
                    net.addr(),
                    net.trunc()
                ),
            );
        }
    }
    if host.addresses.is_empty() && reader.is_clean() {
        reader.report(
            &host.name.place(),
            "a host needs an address: `addresses = \"10.1.0.2/24\"`",
        );
    }
}

fn host_references(scenario: &Scenario, host: &Host, reader: &mut Reader<'_>) {
    if let Some(proxy) = &host.proxy {
        super::must_exist(scenario, TargetKind::Proxy, (proxy, proxy.place()), reader);
    }
    if let Some(proxy) = &host.trusts {
        super::must_exist(scenario, TargetKind::Proxy, (proxy, proxy.place()), reader);
        let mut proxies = scenario.proxies.iter();
        let is_silent = |other: &Proxy| *other.name == **proxy && other.intercepts_as.is_none();
        if proxies.any(is_silent) {
            reader.report(
                &proxy.place(),
                "this proxy intercepts nothing: `intercepts-as`",
            );
        }
    }
    if let Some(resolver) = &host.resolver {
        let name = (&**resolver, resolver.place());
        super::must_exist(scenario, TargetKind::Host, name, reader);
    }
    for vpn in scenario.vpns.iter().filter(|vpn| *vpn.host == *host.name) {
        let ends_here = |cable: &&Cable| {
            *cable.name == *vpn.cable && cable.ends.iter().any(|end| end.node == *host.name)
        };
        let is_known = scenario
            .cables
            .iter()
            .any(|cable| *cable.name == *vpn.cable);
        if is_known && !scenario.cables.iter().any(|cable| ends_here(&cable)) {
            reader.report(
                &vpn.cable.place(),
                format!(
                    "the cable `{}` does not end at `{}`",
                    *vpn.cable, *host.name
                ),
            );
        }
    }
}

fn edge_sides(scenario: &Scenario, reader: &mut Reader<'_>) {
    for edge in &scenario.edges {
        for side in Side::ALL {
            let ends = scenario.cables.iter().flat_map(|cable| &cable.ends);
            let is_there = |end: &At<End>| end.node == *edge.name && end.side == Some(*side);
            if !ends.into_iter().any(is_there) && !edge.name.is_blank() {
                let problem = format!(
                    "the edge `{0}` has no {side}: let a cable end at `{0}:{side}`",
                    *edge.name
                );
                reader.report(&edge.name.place(), problem);
            }
        }
    }
}

/// Two that hear of each other's address must not have the same one.
fn addresses_twice(scenario: &Scenario, topology: &Topology, reader: &mut Reader<'_>) {
    let mut owners: BTreeMap<IpAddr, Vec<NodeId>> = BTreeMap::new();
    for id in (0..topology.nodes.len()).map(NodeId) {
        for (address, _) in topology.addresses(id) {
            owners.entry(*address).or_default().push(id);
        }
    }
    owners.retain(|_, owners| owners.len() > 1);
    for (address, owners) in owners {
        let meet = owners.iter().any(|one| {
            topology
                .links_at(*one)
                .iter()
                .any(|link| topology.visible(scenario, *one, *link).contains(&address))
        });
        if !meet {
            continue;
        }
        let places = scenario
            .hosts
            .iter()
            .flat_map(|host| host.addresses.iter().map(|net| (net.addr(), net.place())));
        let outer = scenario
            .edges
            .iter()
            .filter_map(|edge| edge.nat.as_ref())
            .flat_map(|nat| {
                nat.addresses
                    .iter()
                    .map(|address| (**address, address.place()))
            });
        let all: Vec<_> = places.chain(outer).collect();
        let second = all.iter().filter(|(own, _)| *own == address).nth(1);
        let place = second.map_or(0..0, |(_, place)| place.clone());
        reader.report(
            &place,
            format!("the address {address} is given twice, and both are within reach"),
        );
    }
}

/// Every agent can send to a relay, as far as cables and families go.
fn ways_to_relays(scenario: &Scenario, topology: &Topology, reader: &mut Reader<'_>) {
    let relays = scenario
        .hosts
        .iter()
        .filter(|host| host.runs == Role::Relay);
    let mut targets: Vec<IpAddr> = relays
        .flat_map(|host| topology.copies(scenario, &host.name))
        .flat_map(|relay| topology.addresses(relay).to_vec())
        .map(|(address, _)| address)
        .collect();
    // A relay behind a NAT of the vendor's is reached at the NAT.
    let relays_own = targets.clone();
    let edges = (0..topology.nodes.len()).map(NodeId);
    targets.extend(edges.flat_map(|id| outer_of_relays(scenario, topology, id, &relays_own)));
    let translates = scenario.edges.iter().any(|edge| edge.nat64.is_some());
    for host in scenario
        .hosts
        .iter()
        .filter(|host| host.runs == Role::Agent)
    {
        let Some(agent) = topology.copies(scenario, &host.name).first().copied() else {
            continue;
        };
        let own: Vec<bool> = topology
            .addresses(agent)
            .iter()
            .map(|own| own.0.is_ipv4())
            .collect();
        let speaks =
            |target: &IpAddr| own.contains(&target.is_ipv4()) || (translates && target.is_ipv4());
        let reaches = topology.links_at(agent).iter().any(|link| {
            let visible = topology.visible(scenario, agent, *link);
            targets
                .iter()
                .any(|target| speaks(target) && visible.contains(target))
        });
        if !reaches {
            reader.report(
                &host.name.place(),
                format!(
                    "no way leads from `{}` to a relay: look at cables and address families",
                    *host.name
                ),
            );
        }
    }
}

/// The outer addresses of an edge that has a relay inside.
fn outer_of_relays(
    scenario: &Scenario,
    topology: &Topology,
    id: NodeId,
    relays: &[IpAddr],
) -> Vec<IpAddr> {
    let Node::Edge { edge } = topology.nodes[id.0] else {
        return Vec::new();
    };
    let inside = topology
        .links_at(id)
        .iter()
        .filter(|link| topology.links[link.0].near_end(id).side == Some(Side::Inside));
    let mut seen = inside.flat_map(|link| topology.visible(scenario, id, *link));
    if seen.any(|address| relays.contains(&address)) {
        outer_addresses(&scenario.edges[edge])
    } else {
        Vec::new()
    }
}
