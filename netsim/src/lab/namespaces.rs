//! Namespaces of a scenario: one for each host that something runs on, one for each edge
//! that is the kernel's, and one beside each edge with transparent proxies.

use std::{fs, io, path::PathBuf, sync::Arc};

use netsim_core::{
    model::{self, Deed, Role, Scenario},
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
    wireguard::Tunnel,
    wrong_clock::WrongClock,
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
        let (name, has_resolver, clock) = match &topology.nodes[id.0] {
            Node::Edge { edge } => {
                edges.extend(KernelEdge::new(scenario, topology, id)?);
                if !network.diverts(id) {
                    continue;
                }
                // Beside it are its transparent proxies.
                (&*scenario.edges[*edge].name, false, None)
            }
            Node::Host { host, name, .. } => {
                let model = &scenario.hosts[*host];
                if !is_real(scenario, model) && !also.contains(&model.name) {
                    continue;
                }
                (name, model.resolver.is_some(), clock_of(scenario, model))
            }
        };
        let hosts_file = hosts_file(scenario, name.as_str(), has_resolver);
        let interfaces = interfaces(scenario, topology, id);
        let folder = folder.join(name.as_str());
        let host = Host::new((id, name.clone()), interfaces, &hosts_file, folder)?;
        hosts.push(Arc::new(host.with_clock(clock)));
    }
    let mut real = Real::new(hosts, edges);
    for (number, vpn) in scenario.vpns.iter().enumerate() {
        let Some(program) = &vpn.real else {
            continue;
        };
        let of_it = |host: &&Arc<Host>| *vpn.host == host.name;
        let Some(host) = real.hosts.iter().find(of_it) else {
            continue;
        };
        let mut interfaces = host.interfaces().iter();
        let Some(interface) = interfaces.find(|one| one.vpn == Some(number)) else {
            continue;
        };
        let gateway = folder.join(format!("{}.gateway", *vpn.name));
        let gateway = Host::new((host.node, (*vpn.name).clone()), Vec::new(), "", gateway)?;
        let inside = (vpn.address.addr(), vpn.mtu.get());
        let tunnel = Tunnel::new(**program, (host, &interface.name), gateway, inside)?;
        real.tunnels.push(tunnel);
    }
    Ok(real)
}

/// The clock of a host's programs, where it is wrong at some time.
fn clock_of(scenario: &Scenario, host: &model::Host) -> Option<WrongClock> {
    let by = host.skew.get().nanos;
    let mut events = scenario.events.iter();
    // Of several copies each has its own, and is asked for where one of them is skewed.
    let is_skewed = events.any(|event| {
        let is_it = *event.on == *host.name;
        *event.deed == Deed::Skew
            && (is_it
                || scenario
                    .copy(&event.on)
                    .is_some_and(|one| *one.name == *host.name))
    });
    (by != 0 || is_skewed).then(|| WrongClock::by(by))
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
