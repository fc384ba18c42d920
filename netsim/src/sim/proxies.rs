//! Proxies in a simulated world: on hosts behind their listeners, on edges behind stacks
//! that take in what is diverted.

use std::{future::poll_fn, io};

use async_trait::async_trait;
use ipnet::IpNet;
use netsim_core::{
    model::ProxyKind,
    network::Network,
    random::Seed,
    stack::{HostError, Stack},
    topology::{Node, NodeId, proxy_addresses},
};
use tokio::task::JoinSet;

use super::{Awaited, MTU, Sim, tcp::SimTcp};
use crate::proxy::{Diverted, Door, Proxy, TakeIn};

/// Has every proxy of the scenario serve; until what is returned is dropped.
pub(super) fn serve_all(sim: &Sim) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    let proxies = sim.state().network.scenario().proxies.clone();
    for (number, config) in proxies.iter().enumerate() {
        // In a statement of its own: the loop would hold the lock.
        let nodes = nodes(&sim.state().network, number);
        for node in nodes {
            let door = match config.speaks {
                ProxyKind::Transparent => sim.take_in(node, number),
                ProxyKind::Connect | ProxyKind::Socks5 => sim
                    .listen(node, config.port.first)
                    .map(|listener| Door::Spoken(Box::new(listener))),
            };
            let door = door.expect("a proxy's port is its own");
            let gate = sim.clone();
            let is_captive = move || gate.state().network.is_captive(number);
            let proxy = Proxy::new(config, sim.world(node), is_captive);
            if let Some(certificate) = proxy.authority() {
                let name = (*config.name).clone();
                sim.state().authorities.insert(name, certificate);
            }
            serving.spawn(proxy.serve(door));
        }
    }
    serving
}

/// Where a proxy runs: on the copies of a host, or on an edge.
fn nodes(network: &Network, proxy: usize) -> Vec<NodeId> {
    let (topology, scenario) = (network.topology(), network.scenario());
    let proxy = &scenario.proxies[proxy];
    if proxy.speaks != ProxyKind::Transparent {
        return topology.copies(scenario, &proxy.on);
    }
    let ids = (0..topology.nodes.len()).map(NodeId);
    let is_meant = |id: &NodeId| match topology.nodes[id.0] {
        Node::Edge { edge } => *scenario.edges[edge].name == *proxy.on,
        Node::Host { .. } => false,
    };
    ids.filter(is_meant).collect()
}

/// The stack of the proxies on an edge; none where none stand.
pub(super) fn stack(network: &Network, id: NodeId, seed: Seed) -> Option<Stack> {
    let Node::Edge { edge } = network.topology().nodes[id.0] else {
        return None;
    };
    let addresses = proxy_addresses(edge).map(IpNet::from).to_vec();
    let name = &*network.scenario().edges[edge].name;
    let stream = seed.stream(&format!("edge.{name}.stack"));
    network.diverts(id).then(|| {
        let mut stack = Stack::new(addresses, MTU, stream);
        stack.take_any_address();
        stack
    })
}

impl Sim {
    fn take_in(&self, node: NodeId, proxy: usize) -> io::Result<Door> {
        let ports = self.state().network.scenario().proxies[proxy].port;
        self.with_stack(node, |stack, _| stack.listen_on(ports))?;
        Ok(Door::Diverted(Box::new(SimIntake {
            sim: self.clone(),
            node,
            first_port: ports.first,
        })))
    }
}

/// What an edge diverts to one proxy.
#[derive(Debug)]
struct SimIntake {
    sim: Sim,
    node: NodeId,
    first_port: u16,
}

#[async_trait]
impl TakeIn for SimIntake {
    async fn accept(&self) -> io::Result<Diverted> {
        let accept = |stack: &mut Stack| {
            let (id, _) = stack.accept(self.first_port).ok_or(HostError::WouldBlock)?;
            let (to, _) = stack.ends(id).ok_or(HostError::ConnectionReset)?;
            Ok((id, to))
        };
        let what = (self.node, Awaited::Connection);
        let (id, to) = poll_fn(|cx| self.sim.poll_stack(what, cx, accept)).await?;
        let io = Box::new(SimTcp::accepted(&self.sim, self.node, id));
        Ok(Diverted { io, to })
    }
}
