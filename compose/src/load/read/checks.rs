//! Rules between services: whom they depend on, and what is there once.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{interpolate::Findings, spot::Spot};
use crate::model::{Condition, Dependency, Service, ServiceScope};

/// Adds the dependencies that other attributes imply, and finds those that cannot be.
pub(super) fn check(
    top: &Spot<'_>,
    services: &mut BTreeMap<String, Service>,
    active: &BTreeSet<String>,
    out: &mut Findings,
) {
    let all = top.get("services");
    let Some(all) = all else {
        return;
    };
    for (name, service) in services.iter_mut() {
        let Some(spot) = all.get(name) else {
            continue;
        };
        imply(service);
        dependencies(&spot, &all, service, active, out);
        targets(&spot, service, out);
        mine_alone(&spot, service, out);
        published_on_the_host(&spot, service, out);
    }
    circles(&all, services, out);
    names(&all, services, out);
}

/// A service that an attribute names, and so depends on.
struct Named {
    name: String,
    /// Whether it starts again with it, as Docker's Compose has it.
    restart: bool,
    by: &'static str,
}

/// The services that other attributes name.
fn named(service: &Service) -> Vec<Named> {
    let links = service.links.iter();
    let links = links.filter_map(|link| link.split(':').next());
    let mut named: Vec<Named> = links
        .map(|name| Named {
            name: name.to_owned(),
            restart: true,
            by: "links",
        })
        .collect();
    for (scope, by) in [
        (&service.network_mode, "network_mode"),
        (&service.ipc, "ipc"),
        (&service.pid, "pid"),
    ] {
        if let Some(ServiceScope::Service(name)) = scope {
            named.push(Named {
                name: name.clone(),
                restart: true,
                by,
            });
        }
    }
    for (scope, _) in &service.volumes_from {
        if let ServiceScope::Service(name) = scope {
            named.push(Named {
                name: name.clone(),
                restart: false,
                by: "volumes_from",
            });
        }
    }
    named
}

fn imply(service: &mut Service) {
    for named in named(service) {
        service.depends_on.entry(named.name).or_insert(Dependency {
            condition: Condition::Started,
            restart: named.restart,
            required: true,
        });
    }
}

fn dependencies(
    spot: &Spot<'_>,
    all: &Spot<'_>,
    service: &mut Service,
    active: &BTreeSet<String>,
    out: &mut Findings,
) {
    let implied: BTreeMap<String, &str> = named(service)
        .into_iter()
        .map(|named| (named.name, named.by))
        .collect();
    service.depends_on.retain(|name, dependency| {
        if active.contains(name) {
            return true;
        }
        let is_there = all.node.get(name).is_some();
        if is_there && !dependency.required {
            return false;
        }
        let by = implied.get(name).copied().unwrap_or("depends_on");
        let at = spot.get(by).unwrap_or(*spot);
        let problem = if is_there {
            let message = format!("depends on {name}, whose profile is not active");
            at.problem(message, "Activate its profile, or write required: false")
        } else {
            let message = format!("depends on {name}, and there is no such service");
            at.problem(message, "Write its name as it stands under services:")
        };
        out.refuse(problem);
        false
    });
}

/// Nothing is mounted over something else.
fn targets(spot: &Spot<'_>, service: &Service, out: &mut Findings) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    let tmpfs = service.tmpfs.keys().map(|path| (path.as_str(), "tmpfs"));
    let mounts = service
        .mounts
        .iter()
        .map(|mount| (mount.target.as_str(), "volumes"));
    let configs = service
        .configs
        .iter()
        .map(|mount| (mount.target.as_str(), "configs"));
    let secrets = service
        .secrets
        .iter()
        .map(|mount| (mount.target.as_str(), "secrets"));
    for (target, by) in tmpfs.chain(mounts).chain(configs).chain(secrets) {
        if let Some(before) = taken.insert(target, by) {
            let message = format!("{target} is mounted by {before} and by {by}");
            out.refuse(spot.problem(message, "Take one of them out"));
        }
    }
}

/// What several containers of one host cannot share.
fn mine_alone(spot: &Spot<'_>, service: &Service, out: &mut Findings) {
    if service.replicas < 2 {
        return;
    }
    let fixed = service.ports.iter().find(|port| {
        let published = port.published.as_deref();
        published.is_some_and(|published| !published.contains('-'))
    });
    if let (Some(port), Some(ports)) = (fixed, spot.get("ports")) {
        let published = port.published.clone().unwrap_or_default();
        let message = format!(
            "{} replicas cannot all have port {published} of the host",
            service.replicas
        );
        let help = "Write a range, no host port, or put a proxy in front";
        out.refuse(ports.problem(message, help));
    }
    let fixed = service
        .networks
        .iter()
        .find(|(_, network)| network.ipv4_address.is_some() || network.ipv6_address.is_some());
    if let (Some((name, _)), Some(networks)) = (fixed, spot.get("networks")) {
        let message = format!(
            "{} replicas cannot have one address on {name}",
            service.replicas
        );
        out.refuse(networks.problem(message, "Take the address out"));
    }
}

fn published_on_the_host(spot: &Spot<'_>, service: &Service, out: &mut Findings) {
    let is_host = service.network_mode == Some(ServiceScope::Mode("host".to_owned()));
    if let Some(ports) = spot
        .get("ports")
        .filter(|_| is_host && !service.ports.is_empty())
    {
        let message = "cannot stand beside network_mode: host, where every port is the host's";
        out.refuse(ports.problem(message, "Take one of them out"));
    }
}

fn circles(all: &Spot<'_>, services: &BTreeMap<String, Service>, out: &mut Findings) {
    // Taking away who depends on nobody that is left leaves those who go round in a circle.
    let mut left: BTreeMap<&str, BTreeSet<&str>> = services
        .iter()
        .map(|(name, service)| {
            (
                name.as_str(),
                service.depends_on.keys().map(String::as_str).collect(),
            )
        })
        .collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, on)| on.iter().all(|name| !left.contains_key(name)))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name, _| !free.contains(name));
    }
    let Some(first) = left.keys().next().copied() else {
        return;
    };
    let mut way = vec![first];
    while let Some(next) = way
        .last()
        .and_then(|name| left.get(name))
        .and_then(|on| on.iter().find(|name| left.contains_key(*name)))
    {
        if let Some(at) = way.iter().position(|name| name == next) {
            way.drain(..at);
            way.push(next);
            break;
        }
        way.push(next);
    }
    let at = way.first().and_then(|name| all.get(name)).unwrap_or(*all);
    let message = format!("services depend on each other: {}", way.join(" on "));
    out.refuse(at.problem(message, "Take one of these dependencies out"));
}

fn names(all: &Spot<'_>, services: &BTreeMap<String, Service>, out: &mut Findings) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, service) in services {
        let Some(container) = service.container_name.as_deref() else {
            continue;
        };
        if let Some(before) = taken.insert(container, name)
            && let Some(spot) = all.get(name)
        {
            let message = format!("{before} has the container_name {container} as well");
            out.refuse(spot.problem(message, "Give one of them another name"));
        }
    }
}
