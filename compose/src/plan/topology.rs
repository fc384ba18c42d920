//! Which service needs which.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Condition, Service, ServiceScope, Stack};

/// How far a service has to be for another one, and whether that can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub condition: Condition,
    pub required: bool,
    pub restart: bool,
}

const STARTED: Need = Need {
    condition: Condition::Started,
    required: true,
    restart: false,
};

/// What a service needs, of the services that are in the stack.
pub(super) fn needs<'a>(stack: &'a Stack, service: &'a Service) -> BTreeMap<&'a str, Need> {
    let mut all = BTreeMap::new();
    for parent in parents(service) {
        all.insert(parent, STARTED);
    }
    for link in &service.links {
        all.insert(link.split(':').next().unwrap_or(link), STARTED);
    }
    for (name, dependency) in &service.depends_on {
        let need = Need {
            condition: dependency.condition,
            required: dependency.required,
            restart: dependency.restart,
        };
        all.insert(name, need);
    }
    all.retain(|name, _| stack.services.contains_key(*name));
    all
}

/// The services whose containers this one's refer to: it is replaced whenever they are.
pub(super) fn parents(service: &Service) -> BTreeSet<&str> {
    let from = service
        .volumes_from
        .iter()
        .filter_map(|(from, _)| match from {
            ServiceScope::Service(name) => Some(name.as_str()),
            _ => None,
        });
    namespaces(service).into_iter().chain(from).collect()
}

/// The services whose namespaces this one lives in: it cannot run without them.
pub(super) fn namespaces(service: &Service) -> BTreeSet<&str> {
    let scopes = [&service.network_mode, &service.ipc, &service.pid];
    let services = scopes
        .into_iter()
        .flatten()
        .filter_map(|scope| match scope {
            ServiceScope::Service(name) => Some(name.as_str()),
            _ => None,
        });
    services.collect()
}

/// The services, each after those that it needs.
///
/// # Errors
///
/// Those that need each other.
pub(super) fn order(stack: &Stack) -> Result<Vec<&str>, Vec<String>> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, service) in &stack.services {
        left.insert(name, needs(stack, service).into_keys().collect());
    }
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let free: Vec<_> = left
            .iter()
            .filter(|(_, needs)| needs.is_empty())
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            return Err(left.into_keys().map(str::to_owned).collect());
        }
        for name in &free {
            left.remove(name);
        }
        for needs in left.values_mut() {
            needs.retain(|name| !free.contains(name));
        }
        order.extend(free);
    }
    Ok(order)
}

/// Does somebody wait until this service has completed, and nobody that it is healthy?
pub(super) fn is_awaited(stack: &Stack, name: &str, condition: Condition) -> bool {
    let mut all = stack
        .services
        .values()
        .filter_map(|service| service.depends_on.get(name));
    all.any(|dependency| dependency.condition == condition)
}

/// Does a service end by itself, and is then done? Somebody waits for that; or it is not started
/// again, and has neither a check nor a port that others could use.
pub(super) fn is_task(stack: &Stack, name: &str, service: &Service) -> bool {
    use crate::model::{HealthTest, Restart};
    if is_awaited(stack, name, Condition::Completed) {
        return true;
    }
    let ends = matches!(service.restart, Restart::No | Restart::OnFailure { .. });
    let check = service.healthcheck.as_ref();
    let checked = check.is_some_and(|check| check.test != HealthTest::Disabled);
    let used = !service.ports.is_empty() || is_awaited(stack, name, Condition::Healthy);
    ends && !checked && !used
}
