//! An edge whose firewall and NAT are the kernel's own: a namespace with a cable for each
//! of its links, rules and conntrack.

use std::{
    fs, io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use netsim_core::{
    middlebox::{Cause, EdgeAddress},
    model::{Deed, Edge, Scenario, Side},
    topology::{LinkId, Node, NodeId, Topology, outer_addresses},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

use super::{
    host::quiet,
    namespace::{Namespace, feed},
    ruleset::{self, COUNTERS, Sides, TABLE},
};

/// `linux/netfilter/nfnetlink_conntrack.h`: everything that conntrack knows is deleted.
const CONNTRACK_DELETE: u16 = 1 << 8 | 2;
/// `linux/netlink.h`: asked for, with an answer.
const REQUEST_AND_ACK: u16 = 1 | 4;

/// See the module.
#[derive(Debug)]
pub(super) struct KernelEdge {
    pub(super) node: NodeId,
    namespace: Namespace,
    edge: Edge,
    links: Vec<(LinkId, String)>,
    sides: Sides,
    routes: String,
    turn: AtomicU32,
    rebound: AtomicU64,
    /// What counters had counted before their rules were made anew.
    before: Mutex<Vec<(Cause, u64)>>,
}

impl KernelEdge {
    /// An edge without cables; none where the node is no edge, or not the kernel's.
    pub(super) fn new(
        scenario: &Scenario,
        topology: &Topology,
        node: NodeId,
    ) -> io::Result<Option<Self>> {
        let Node::Edge { edge: number } = topology.nodes[node.0] else {
            return Ok(None);
        };
        let edge = &scenario.edges[number];
        if !edge.kernel {
            return Ok(None);
        }
        let namespace = Namespace::new()?;
        namespace.set(&quiet())?;
        let mut sides = Sides::default();
        let mut links = Vec::new();
        for (number, link) in topology.links_at(node).iter().enumerate() {
            let name = format!("l{number}");
            match topology.links[link.0].near_end(node).side {
                Some(Side::Inside) => sides.inside.push(name.clone()),
                Some(Side::Outside) | None => sides.outside.push(name.clone()),
            }
            links.push((*link, name));
        }
        Ok(Some(Self {
            node,
            namespace,
            routes: routes(scenario, topology, (node, number), &links),
            edge: edge.clone(),
            links,
            sides,
            turn: AtomicU32::new(0),
            rebound: AtomicU64::new(0),
            before: Mutex::new(Vec::new()),
        }))
    }

    pub(super) fn name(&self) -> &str {
        self.edge.name.as_str()
    }

    pub(super) const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn links(&self) -> &[(LinkId, String)] {
        &self.links
    }

    /// Its cables are there: it forwards from now on.
    pub(super) fn plugged(&self) -> io::Result<()> {
        self.namespace.ip(&self.routes)?;
        self.namespace.set(&ruleset::parameters(&self.edge))?;
        self.write_rules()
    }

    /// What an event does to it.
    pub(super) fn happen(&self, deed: Deed) -> io::Result<()> {
        match deed {
            Deed::Forget => self.namespace.within(forget_flows),
            Deed::Rebind => self.rebind(),
            Deed::Cut
            | Deed::Mend
            | Deed::Line
            | Deed::Crash
            | Deed::Stop
            | Deed::Start
            | Deed::Suspend
            | Deed::Resume
            | Deed::Skew
            | Deed::Readdress
            | Deed::VpnUp
            | Deed::VpnDown
            | Deed::Release => Ok(()),
        }
    }

    /// Flows keep going, from other ports: conntrack forgets them, and they alone may go
    /// on in their middle.
    fn rebind(&self) -> io::Result<()> {
        let flows = self
            .namespace
            .within(|| fs::read_to_string("/proc/thread-self/net/nf_conntrack"))?;
        let counted = self.counted()?;
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.write_rules()?;
        let mut commands = String::new();
        let mut count = 0;
        for (protocol, source, port) in flows.lines().filter_map(flow) {
            count += 1;
            if protocol == "tcp" {
                let set = if source.contains(':') {
                    "rebound6"
                } else {
                    "rebound4"
                };
                commands.push_str(&format!(
                    "add element inet {TABLE} {set} {{ {source} . {port} }}\n"
                ));
            }
        }
        self.namespace
            .within(|| feed("nft", &["-f", "-"], &commands))?;
        self.namespace.within(forget_flows)?;
        self.rebound.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn write_rules(&self) -> io::Result<()> {
        let turn = self.turn.load(Ordering::Relaxed);
        let rules = ruleset::rules(&self.edge, &self.sides, turn);
        self.namespace
            .within(|| feed("nft", &["-f", "-"], &rules))
            .map(drop)
    }

    /// How many packets it has touched, by what was done.
    pub(super) fn counted(&self) -> io::Result<Vec<(Cause, u64)>> {
        let listed = self
            .namespace
            .within(|| feed("nft", &["list", "counters"], ""))?;
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = |cause: Cause| {
            let mut before = before.iter();
            before.find(|(one, _)| *one == cause).map_or(0, |(_, n)| *n)
        };
        let rebound = self.rebound.load(Ordering::Relaxed);
        let counted = COUNTERS.iter().map(|(name, cause)| {
            let count = match cause {
                // Packets that went on in their middle are some of these flows.
                Cause::Rebound => rebound,
                _ => packets(&listed, name) + earlier(*cause),
            };
            (*cause, count)
        });
        Ok(counted.collect())
    }
}

/// The packets of a named counter, as `nft` prints it.
fn packets(listed: &str, name: &str) -> u64 {
    let after = listed.split(&format!("counter {name} {{")).nth(1);
    let number = after.and_then(|rest| rest.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Protocol, inner address and inner port of a line of conntrack's table.
fn flow(line: &str) -> Option<(&str, &str, &str)> {
    let protocol = line.split_whitespace().nth(2)?;
    let value = |key: &str| {
        let mut fields = line.split_whitespace();
        fields.find_map(|field| field.strip_prefix(key))
    };
    Some((protocol, value("src=")?, value("sport=")?))
}

/// What `ip` is told: own addresses, and which link leads where.
fn routes(
    scenario: &Scenario,
    topology: &Topology,
    (node, number): (NodeId, usize),
    links: &[(LinkId, String)],
) -> String {
    let by = EdgeAddress::of(number);
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("address add {} dev lo", by.ipv4),
        format!("address add {} dev lo nodad", by.ipv6),
    ];
    // What nobody is mapped to ends here, and is not sent back to where it came from.
    for own in outer_addresses(&scenario.edges[number]) {
        let nodad = if own.is_ipv6() { " nodad" } else { "" };
        lines.push(format!("address add {own} dev lo{nodad}"));
    }
    for (_, name) in links {
        lines.push(format!("link set dev {name} mtu 1500 arp off up"));
    }
    let name_of = |link: LinkId| links.iter().find(|(one, _)| *one == link);
    for (address, link) in topology.routes(scenario, node) {
        if let Some((_, name)) = name_of(link) {
            lines.push(format!("route replace {address} dev {name}"));
        }
    }
    let mut outside = links
        .iter()
        .filter(|(link, _)| topology.links[link.0].near_end(node).side == Some(Side::Outside));
    if let (Some((_, name)), None) = (outside.next(), outside.next()) {
        lines.push(format!("route add 0.0.0.0/0 dev {name}"));
        lines.push(format!("route add ::/0 dev {name}"));
    }
    lines.join("\n") + "\n"
}

/// Conntrack of the calling thread's namespace forgets everything.
fn forget_flows() -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    // A header of 16 bytes, and netfilter's own of 4: any family.
    let mut message = [0_u8; 20];
    message[..4].copy_from_slice(&20_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&CONNTRACK_DELETE.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    rustix::io::write(&socket, &message)?;
    let mut answer = [0_u8; 1024];
    let length = rustix::io::read(&socket, &mut answer)?;
    // Behind the header, the error's number: 0, or negative.
    let number: [u8; 4] = std::array::from_fn(|at| answer[16 + at]);
    match i32::from_ne_bytes(number) {
        0 if length >= 20 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_read_from_conntracks_table() {
        let line = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=203.0.113.10 \
                    sport=40000 dport=8000 src=203.0.113.10 dst=198.51.100.1 sport=8000 \
                    dport=40000 [ASSURED] mark=0 use=1";

        assert_eq!(flow(line), Some(("tcp", "10.1.0.2", "40000")));
    }

    #[test]
    fn counters_are_read_as_nft_prints_them() {
        let listed = "table inet edge {\n\tcounter rule {\n\t\tpackets 3 bytes 180\n\t}\n}\n";

        assert_eq!(
            (packets(listed, "rule"), packets(listed, "expired")),
            (3, 0)
        );
    }
}
