//! How a host should be configured at a moment, as commands and files of a real kernel.
//!
//! What the simulation does to a stack (`sim::configured`), a host in the lab has done to
//! its interfaces: its own cable is `eth0`, a VPN's is an interface of its own, which is
//! up while the tunnel is and has the better route. Nothing here touches a kernel.

use std::{fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use netsim_core::{
    model::{Host, Scenario},
    network::Network,
    term::Name,
    topology::{LinkId, Node, NodeId, Topology, nth_address, proxy_addresses},
};

/// The MTU of hosts; cables may be narrower.
pub(super) const MTU: u32 = 1500;

/// Routes of a VPN win over those of the host's own cable.
const METRIC_OF_VPN: u32 = 50;
const METRIC: u32 = 100;

/// An interface of a host: its own cable, or a VPN's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) link: LinkId,
    /// Which VPN, by its place in the scenario.
    pub(super) vpn: Option<usize>,
}

/// The interfaces that a host has, up or not.
pub(super) fn interfaces(scenario: &Scenario, topology: &Topology, id: NodeId) -> Vec<Interface> {
    let vpn_of = |link: LinkId| {
        let cable = &scenario.cables[topology.links[link.0].cable].name;
        scenario.vpns.iter().position(|vpn| *vpn.cable == **cable)
    };
    let mut tunnels = 0..;
    // The namespace beside an edge has one cable, to the edge.
    let most = match topology.nodes[id.0] {
        Node::Edge { .. } => 1,
        Node::Host { .. } => usize::MAX,
    };
    let links = topology.links_at(id).iter().take(most);
    links
        .map(|link| {
            let vpn = vpn_of(*link);
            let name = match vpn {
                None => "eth0".to_owned(),
                Some(_) => format!("tun{}", tunnels.next().unwrap_or(0)),
            };
            let link = *link;
            Interface { name, link, vpn }
        })
        .collect()
}

/// How a host is configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    /// By interface that is up: its addresses, and its MTU.
    up: Vec<(String, Vec<IpNet>, u32, u32)>,
    resolver: Option<IpAddr>,
}

impl Settings {
    /// How a host should be configured now; `new` stands in the place of its own address
    /// of that family.
    pub(super) fn of(network: &Network, id: NodeId, new: Option<IpNet>) -> Self {
        let (scenario, topology) = (network.scenario(), network.topology());
        let Some((host, copy)) = host_of(scenario, topology, id) else {
            return Self::beside_edge(topology, id);
        };
        let nth =
            |net: &IpNet| IpNet::new(nth_address(net, copy), net.prefix_len()).unwrap_or(*net);
        let own = host.addresses.iter().map(|net| {
            let same_family = |new: &IpNet| new.addr().is_ipv4() == net.addr().is_ipv4();
            new.filter(same_family).unwrap_or_else(|| nth(net))
        });
        let vpn = network.vpn_of(id);
        let mut up = vec![("eth0".to_owned(), own.collect(), MTU, METRIC)];
        for interface in interfaces(scenario, topology, id) {
            let number = interface.vpn.filter(|number| Some(*number) == vpn);
            if let Some(vpn) = number.map(|number| &scenario.vpns[number]) {
                let addresses = vec![nth(&vpn.address)];
                up.push((interface.name, addresses, vpn.mtu.get(), METRIC_OF_VPN));
            }
        }
        let resolver = vpn
            .and_then(|number| scenario.vpns[number].resolver.as_ref())
            .or(host.resolver.as_ref())
            .and_then(|name| reachable(scenario, name, host));
        Self { up, resolver }
    }

    /// How the namespace beside an edge is configured, in which its transparent proxies are.
    fn beside_edge(topology: &Topology, id: NodeId) -> Self {
        let Node::Edge { edge } = topology.nodes[id.0] else {
            return Self::default();
        };
        let own = proxy_addresses(edge).map(IpNet::from).to_vec();
        Self {
            up: vec![("eth0".to_owned(), own, MTU, METRIC)],
            resolver: None,
        }
    }

    /// What `ip` is told, to come here from another configuration.
    pub(super) fn commands_from(&self, before: &Self) -> String {
        let mut commands = String::new();
        let mut say = |command: std::fmt::Arguments<'_>| {
            // Into a string, which takes everything.
            writeln!(commands, "{command}").expect("memory");
        };
        for (name, ..) in &before.up {
            if !self.up.iter().any(|(one, ..)| one == name) {
                say(format_args!("address flush dev {name}"));
                say(format_args!("link set dev {name} down"));
            }
        }
        for (name, addresses, mtu, metric) in &self.up {
            let was = before.up.iter().find(|(one, ..)| one == name);
            let old = was.map_or(&[][..], |(_, old, ..)| old.as_slice());
            for gone in old.iter().filter(|old| !addresses.contains(*old)) {
                say(format_args!("address del {gone} dev {name}"));
            }
            if was.is_none() {
                say(format_args!("link set dev {name} mtu {mtu} arp off up"));
            }
            for new in addresses.iter().filter(|new| !old.contains(*new)) {
                let nodad = if new.addr().is_ipv4() { "" } else { "nodad" };
                say(format_args!("address add {new} dev {name} {nodad}"));
            }
            for net in addresses {
                let (all, source) = (everything(net), net.addr());
                say(format_args!(
                    "route replace {all} dev {name} src {source} metric {metric}"
                ));
            }
        }
        commands
    }

    /// The file that says whom to ask for names.
    pub(super) fn resolv_conf(&self) -> String {
        match self.resolver {
            Some(address) => format!("nameserver {address}\n"),
            None => String::new(),
        }
    }
}

/// Every address of a family, in words from which `ip` knows the family.
const fn everything(of: &IpNet) -> &'static str {
    match of {
        IpNet::V4(_) => "0.0.0.0/0",
        IpNet::V6(_) => "::/0",
    }
}

/// Every name of the scenario with its addresses, copies included.
pub(super) fn names(scenario: &Scenario) -> Vec<(String, Vec<IpAddr>)> {
    let named = scenario.hosts.iter().flat_map(|host| {
        let all: Vec<IpAddr> = (0..*host.count)
            .flat_map(|copy| host.addresses.iter().map(move |net| nth_address(net, copy)))
            .collect();
        host.names
            .iter()
            .map(move |name| (name.as_str().to_owned(), all.clone()))
    });
    let mut names: Vec<(String, Vec<IpAddr>)> = Vec::new();
    for (name, addresses) in named {
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => known.extend(addresses),
            None => names.push((name, addresses)),
        }
    }
    names
}

/// The hosts file: who asks nobody for names has all of them in it.
pub(super) fn hosts_file(scenario: &Scenario, own_name: &str, has_resolver: bool) -> String {
    let mut text = format!("127.0.0.1 localhost {own_name}\n::1 localhost\n");
    for (name, addresses) in names(scenario).iter().filter(|_| !has_resolver) {
        for address in addresses {
            writeln!(text, "{address} {name}").expect("memory");
        }
    }
    text
}

/// The host at a node, and which copy that is.
pub(super) fn host_of<'a>(
    scenario: &'a Scenario,
    topology: &Topology,
    id: NodeId,
) -> Option<(&'a Host, u32)> {
    match topology.nodes[id.0] {
        Node::Host { host, copy, .. } => Some((&scenario.hosts[host], copy)),
        Node::Edge { .. } => None,
    }
}

/// An address of the host of this name, of a family that `from` has.
fn reachable(scenario: &Scenario, name: &Name, from: &Host) -> Option<IpAddr> {
    let host = scenario.host(name)?;
    let mut addresses = host.addresses.iter().map(|net| net.addr());
    addresses.find(|address| {
        let mut own = from.addresses.iter();
        own.any(|own| own.addr().is_ipv4() == address.is_ipv4())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(up: &[(&str, &str, u32)]) -> Settings {
        let up = up.iter().map(|(name, net, mtu)| {
            let metric = if *name == "eth0" {
                METRIC
            } else {
                METRIC_OF_VPN
            };
            let net = net.parse().expect("a network");
            ((*name).to_owned(), vec![net], *mtu, metric)
        });
        Settings {
            up: up.collect(),
            resolver: None,
        }
    }

    #[test]
    fn a_tunnel_that_comes_up_brings_address_route_and_mtu() {
        let before = settings(&[("eth0", "10.1.0.2/24", 1500)]);
        let after = settings(&[("eth0", "10.1.0.2/24", 1500), ("tun0", "10.9.0.2/24", 1400)]);

        let commands = after.commands_from(&before);

        assert!(
            commands.contains("link set dev tun0 mtu 1400 arp off up"),
            "{commands}"
        );
        assert!(
            commands.contains("address add 10.9.0.2/24 dev tun0"),
            "{commands}"
        );
        assert!(!commands.contains("address add 10.1.0.2"), "{commands}");
        assert!(
            commands.contains("route replace 0.0.0.0/0 dev tun0 src 10.9.0.2 metric 50"),
            "{commands}"
        );
    }

    #[test]
    fn a_tunnel_that_goes_down_takes_its_address_with_it() {
        let before = settings(&[("eth0", "10.1.0.2/24", 1500), ("tun0", "10.9.0.2/24", 1400)]);
        let after = settings(&[("eth0", "10.1.0.2/24", 1500)]);

        let commands = after.commands_from(&before);

        assert!(commands.starts_with("address flush dev tun0\nlink set dev tun0 down\n"));
    }

    #[test]
    fn another_address_takes_the_place_of_the_old_one() {
        let before = settings(&[("eth0", "2001:db8::2/64", 1500)]);
        let after = settings(&[("eth0", "2001:db8::3/64", 1500)]);

        let commands = after.commands_from(&before);

        assert!(
            commands.contains("address del 2001:db8::2/64 dev eth0"),
            "{commands}"
        );
        assert!(
            commands.contains("address add 2001:db8::3/64 dev eth0 nodad"),
            "{commands}"
        );
    }
}
