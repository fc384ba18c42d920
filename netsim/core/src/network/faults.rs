//! Faults that touched nothing: a run that passes because its fault never happened has
//! shown nothing.

use super::Network;
use crate::{
    middlebox::{Cause, Middlebox},
    model::{Cable, Edge, Proxy, ProxyKind, Ruling},
    packet::Packet,
    topology::{Node, NodeId},
};

/// A fault of the timeline, and what was counted before it.
#[derive(Debug)]
pub(super) struct Fault {
    what: String,
    cause: Cause,
    before: u64,
}

impl Fault {
    pub(super) const fn new(what: String, cause: Cause, before: u64) -> Self {
        Self {
            what,
            cause,
            before,
        }
    }
}

impl Network {
    /// Every fault of the scenario that has touched no packet, as a sentence.
    pub fn vacuous(&self) -> Vec<String> {
        let mut vacuous = Vec::new();
        let touched = self.touched();
        for (number, fault) in self.faults.iter().enumerate() {
            // Counted until the next fault of the same kind.
            let later = self.faults[number + 1..].iter();
            let next = later
                .filter(|one| one.cause == fault.cause)
                .map(|one| one.before)
                .next();
            if next.unwrap_or_else(|| touched.of(fault.cause)) == fault.before {
                vacuous.push(format!("{} touched no packet", fault.what.trim_end()));
            }
        }
        for (index, cable) in self.scenario.cables.iter().enumerate() {
            let of_it = self.topology.links.iter().zip(&self.links);
            let of_it = of_it.filter(|(link, _)| link.cable == index);
            let touched: Vec<_> = of_it.map(|(_, cable)| cable.touched()).collect();
            for cause in causes_of_cable(cable) {
                if touched.iter().all(|touched| touched.of(cause) == 0) {
                    let what = cause.as_str();
                    vacuous.push(format!(
                        "{what} on the cable {} touched no packet",
                        *cable.name
                    ));
                }
            }
        }
        for (node, edge) in self.topology.nodes.iter().zip(&self.edges) {
            let (Node::Edge { edge: index }, Some(edge)) = (node, edge) else {
                continue;
            };
            let config = &self.scenario.edges[*index];
            let touched = edge.touched();
            for cause in causes_of_edge(config)
                .into_iter()
                .filter(|cause| touched.of(*cause) == 0)
            {
                let what = cause.as_str();
                vacuous.push(format!(
                    "{what} on the edge {} touched no packet",
                    *config.name
                ));
            }
        }
        vacuous.extend(self.unused_proxies());
        vacuous
    }

    /// A packet comes to a host: it may be the first of a connection to a proxy there.
    pub(super) fn note_proxied(&mut self, node: NodeId, packet: &Packet) {
        let Some(flow) = packet.flow().filter(|_| packet.flags().opens()) else {
            return;
        };
        let Node::Host { host, .. } = self.topology.nodes[node.0] else {
            return;
        };
        let name = &self.scenario.hosts[host].name;
        let proxies = self.scenario.proxies.iter().zip(&mut self.proxied);
        for (proxy, count) in proxies {
            if *proxy.on == **name && proxy.port.contains(flow.destination.port()) {
                *count += 1;
            }
        }
    }

    /// Proxies that no connection came to: transparent ones, and those that a host is
    /// configured with. Where something is known to fail, that may be because nobody uses
    /// the proxy.
    fn unused_proxies(&self) -> impl Iterator<Item = String> {
        let mut expectations = self.scenario.expectations.iter();
        let may_be_unused = expectations.any(|one| one.known_failing.is_some());
        let is_meant_for_use = move |proxy: &Proxy| {
            let mut hosts = self.scenario.hosts.iter();
            let is_configured = hosts.any(|host| host.proxy.as_deref() == Some(&*proxy.name));
            proxy.speaks == ProxyKind::Transparent || (is_configured && !may_be_unused)
        };
        let proxies = self.scenario.proxies.iter().zip(&self.proxied);
        let unused = proxies.filter(move |(proxy, count)| **count == 0 && is_meant_for_use(proxy));
        unused.map(|(proxy, _)| format!("no connection came to the proxy {}", *proxy.name))
    }
}

/// What a cable must do at least once. A queue or an MTU need not be reached: they are
/// bounds, not faults.
fn causes_of_cable(cable: &Cable) -> Vec<Cause> {
    let lines = || std::iter::once(&cable.line).chain(&cable.back);
    let mut causes = Vec::new();
    let mut must = |cause, is_there: bool| {
        if is_there {
            causes.push(cause);
        }
    };
    must(Cause::Loss, lines().any(|line| line.loss.get().get() > 0.0));
    must(Cause::Burst, lines().any(|line| line.bursts.is_some()));
    must(Cause::Reordered, lines().any(|line| line.reorder.is_some()));
    must(
        Cause::Duplicated,
        lines().any(|line| line.duplicate.get().get() > 0.0),
    );
    must(
        Cause::Corrupted,
        lines().any(|line| line.corrupt.get().get() > 0.0),
    );
    causes
}

/// What an edge must do at least once. That flows expire is what heartbeats prevent, and
/// no duty.
fn causes_of_edge(edge: &Edge) -> Vec<Cause> {
    let refuses = |ruling: &Ruling| *ruling != Ruling::Allow;
    let has_rules = edge.firewall.as_ref().is_some_and(|firewall| {
        let mut rulings = firewall.rules.iter().map(|rule| &rule.ruling);
        rulings.any(refuses) || refuses(&firewall.otherwise)
    });
    let there = [
        (Cause::Misled, !edge.dns.is_empty()),
        (Cause::Swallowed, edge.black_hole.is_some()),
        (Cause::UdpBlocked, edge.udp_block.is_some()),
        (Cause::Inspected, edge.dpi.is_some()),
        (Cause::Rule, has_rules),
        (
            Cause::Translated,
            edge.nat.is_some() || edge.nat64.is_some(),
        ),
    ];
    there
        .into_iter()
        .filter(|(_, is_there)| *is_there)
        .map(|(cause, _)| cause)
        .collect()
}
