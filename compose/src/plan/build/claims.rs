//! What only one container can have: names, ports of the host, fixed addresses. Who has it, who
//! wants it, and in which order it changes hands.

use std::collections::{BTreeMap, BTreeSet};

use super::{Build, Early};
use crate::plan::{
    Obstacle,
    decide::{Fleet, Slot},
    observed::{HostPort, Seen, collide, fixed_addresses, fixed_ports},
};

/// What one slot wants for itself.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub ports: BTreeSet<HostPort>,
    pub addresses: BTreeSet<(String, String)>,
}

/// What the container of a slot will take when it runs.
pub(super) fn of(slot: &Slot<'_>) -> Claims {
    let host = slot.spec.body.host_config.as_ref();
    let bindings = host.and_then(|host| host.port_bindings.as_ref());
    let networks = slot.spec.networks.iter();
    Claims {
        ports: bindings.map(fixed_ports).unwrap_or_default(),
        addresses: networks
            .flat_map(|(name, endpoint)| fixed_addresses(name, endpoint))
            .collect(),
    }
}

impl Claims {
    /// Can they not be had while this container runs?
    fn collide(&self, seen: Seen<'_>) -> bool {
        let address = |seen: Seen<'_>| !self.addresses.is_disjoint(&seen.fixed_addresses());
        self.port_of(seen).is_some() || (!self.addresses.is_empty() && address(seen))
    }

    fn port_of(&self, seen: Seen<'_>) -> Option<&HostPort> {
        if self.ports.is_empty() {
            return None;
        }
        let held = seen.fixed_ports();
        self.ports
            .iter()
            .find(|port| held.iter().any(|held| collide(port, held)))
    }
}

impl<'a> Build<'a> {
    /// Finds what cannot be, and the leavers that have to go at once.
    pub(super) fn claims(&mut self, fleet: &Fleet<'a>) {
        let slots: Vec<_> = fleet.slots.values().flatten().collect();
        self.twice(&slots);
        let leavers: Vec<_> = fleet.leavers().collect();
        let stayers = fleet.stayers();
        let leaving: BTreeSet<_> = leavers.iter().map(|seen| seen.id()).collect();
        let all = self.view.observed.containers.iter().map(Seen);
        let strangers: Vec<_> = all
            .filter(|seen| !stayers.contains_key(seen.id()) && !leaving.contains(seen.id()))
            .collect();
        for slot in &slots {
            let claims = of(slot);
            for seen in &leavers {
                let own = slot.olds.iter().any(|old| old.id() == seen.id());
                if !own && seen.name() == slot.name {
                    self.early.insert(seen.id(), Early::Named);
                } else if !own && claims.collide(*seen) {
                    self.early.entry(seen.id()).or_insert(Early::Running);
                }
            }
            self.taken(slot, &claims, &strangers);
        }
        for (name, slots) in &fleet.slots {
            let service = self.view.stack.services.get(*name);
            let shares = service.is_some_and(|s| !super::topology::namespaces(s).is_empty());
            if shares {
                let olds = slots.iter().flat_map(|slot| slot.olds.iter());
                for old in olds {
                    self.early.entry(old.id()).or_insert(Early::Running);
                }
            }
        }
    }

    /// Two containers of the stack that want the same.
    fn twice(&mut self, slots: &[&Slot<'a>]) {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        let mut ports: Vec<(HostPort, &str)> = Vec::new();
        let mut addresses: BTreeMap<(String, String), &str> = BTreeMap::new();
        for slot in slots {
            if names.insert(&slot.name, slot.service).is_some() {
                self.obstacle(Obstacle::NameTwice {
                    service: slot.service.to_owned(),
                    name: slot.name.clone(),
                });
            }
            let claims = of(slot);
            for address in claims.addresses {
                if let Some(other) = addresses.insert(address.clone(), slot.service) {
                    self.obstacle(Obstacle::AddressTwice {
                        service: slot.service.to_owned(),
                        other: other.to_owned(),
                        address: address.1,
                    });
                }
            }
            for port in claims.ports {
                let other = ports.iter().find(|(held, _)| collide(held, &port));
                if let Some((_, other)) = other {
                    self.obstacle(Obstacle::PortTwice {
                        service: slot.service.to_owned(),
                        other: (*other).to_owned(),
                        port: format!("{}/{}", port.1, port.0),
                    });
                }
                ports.push((port, slot.service));
            }
        }
    }

    /// What a container has that we leave alone.
    fn taken(&mut self, slot: &Slot<'a>, claims: &Claims, strangers: &[Seen<'a>]) {
        for seen in strangers {
            if seen.name() == slot.name {
                self.obstacle(Obstacle::NameTaken {
                    service: slot.service.to_owned(),
                    name: slot.name.clone(),
                });
            }
            let waits = slot.current.is_none_or(|current| !current.is_running());
            if let Some(port) = claims.port_of(*seen).filter(|_| waits && seen.is_running()) {
                self.obstacle(Obstacle::PortTaken {
                    service: slot.service.to_owned(),
                    port: format!("{}/{}", port.1, port.0),
                    container: seen.name().to_owned(),
                });
            }
        }
    }

    /// Each reason once.
    pub(super) fn obstacle(&mut self, obstacle: Obstacle) {
        if !self.obstacles.contains(&obstacle) {
            self.obstacles.push(obstacle);
        }
    }

    /// Puts what changes hands into an order.
    pub(super) fn hand_over(&mut self, fleet: &Fleet<'a>) {
        let leavers: Vec<_> = fleet.leavers().collect();
        for (service, number, start) in std::mem::take(&mut self.starts) {
            let slots = fleet.slots.get(service).into_iter().flatten();
            let Some(slot) = slots.into_iter().find(|slot| slot.number == number) else {
                continue;
            };
            let claims = of(slot);
            for seen in leavers.iter().filter(|seen| claims.collide(**seen)) {
                if let Some(stop) = self.stops.get(seen.id()) {
                    self.graph.order(*stop, start);
                }
            }
        }
        for (_, name, node) in std::mem::take(&mut self.named) {
            let holder = leavers.iter().find(|seen| seen.name() == name);
            let removal = holder.and_then(|seen| self.removals.get(seen.id()));
            if let Some(free) = self.left.get(&name).or(removal) {
                self.graph.order(*free, node);
            }
        }
        self.shared_namespaces(fleet);
    }

    /// What lives in another's namespace stops before it.
    fn shared_namespaces(&mut self, fleet: &Fleet<'a>) {
        for (name, slots) in &fleet.slots {
            let Some(service) = self.view.stack.services.get(*name) else {
                continue;
            };
            for parent in super::topology::namespaces(service) {
                let parents = fleet.slots.get(parent).into_iter().flatten();
                for old in parents.flat_map(|slot| slot.olds.iter()) {
                    let Some(last) = self.stops.get(old.id()).copied() else {
                        continue;
                    };
                    for child in slots.iter().flat_map(|slot| slot.olds.iter()) {
                        if let Some(first) = self.stops.get(child.id()) {
                            self.graph.order(*first, last);
                        }
                    }
                }
            }
        }
    }
}
