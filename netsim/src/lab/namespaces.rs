//! Namespaces of a scenario: one for each host that something runs on, one for each edge
//! that is the kernel's, and one beside each edge with transparent proxies.

use std::{fs, io, path::PathBuf, sync::Arc};

use netsim_core::{
    model::{self, Role, Scenario},
    network::Network,
    term::Name,
    topology::{Node, NodeId},
};

use super::{
    caretaker::Real,
    host::Host,
    kernel_edge::KernelEdge,
    proxies::{Standing, redirect},
    sandbox,
    settings::{hosts_file, interfaces},
    tools,
};

/// Namespaces of hosts and edges, without cables.
pub(super) fn real(network: &Network, also: &[Name]) -> io::Result<Real> {
    let (scenario, topology) = (network.scenario(), network.topology());
    let folder = PathBuf::from(sandbox::FOLDER).join(scenario.name.as_str());
    // Of an earlier run in the same sandbox.
    fs::remove_dir_all(&folder).ok();
    let mut hosts = Vec::new();
    let mut edges = Vec::new();
    for id in (0..topology.nodes.len()).map(NodeId) {
        let (name, has_resolver) = match &topology.nodes[id.0] {
            Node::Edge { edge } => {
                edges.extend(KernelEdge::new(scenario, topology, id)?);
                if !network.diverts(id) {
                    continue;
                }
                // Beside it are its transparent proxies.
                (&*scenario.edges[*edge].name, false)
            }
            Node::Host { host, name, .. } => {
                let model = &scenario.hosts[*host];
                if !is_real(scenario, model) && !also.contains(&model.name) {
                    continue;
                }
                (name, model.resolver.is_some())
            }
        };
        let hosts_file = hosts_file(scenario, name.as_str(), has_resolver);
        let interfaces = interfaces(scenario, topology, id);
        let folder = folder.join(name.as_str());
        let host = Host::new((id, name.clone()), interfaces, &hosts_file, folder)?;
        hosts.push(Arc::new(host));
    }
    Ok(Real::new(hosts, edges))
}

/// Whether something runs on a host that needs a kernel.
fn is_real(scenario: &Scenario, host: &model::Host) -> bool {
    let runs_programs = matches!(host.runs, Role::Relay | Role::Agent) || host.real.is_some();
    let mut proxies = scenario.proxies.iter();
    runs_programs || proxies.any(|proxy| *proxy.on == *host.name)
}

/// Resolvers of other people are started; proxies are there, and are not.
pub(super) fn with_others(mut real: Real, network: &Network) -> io::Result<Real> {
    let (scenario, topology) = (network.scenario(), network.topology());
    for host in real.hosts.clone() {
        let name = match topology.nodes[host.node.0] {
            Node::Edge { edge } => &*scenario.edges[edge].name,
            Node::Host { host: model, .. } => {
                let model = &scenario.hosts[model];
                if let Some(program) = &model.real {
                    let resolver = tools::resolver(**program, scenario, &host)?;
                    resolver.start()?;
                    tools::resolver_answers(&resolver)?;
                    real.resolvers.push(Arc::new(resolver));
                }
                &*model.name
            }
        };
        let standing = Standing::on(scenario, name, &host)?;
        if network.diverts(host.node) {
            redirect(&host, &standing)?;
        }
        real.proxies.extend(standing);
    }
    Ok(real)
}
