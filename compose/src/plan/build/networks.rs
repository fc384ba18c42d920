//! Networks: made where they are missing, made anew where they have changed, removed where
//! nobody of the stack wants them.

use std::collections::BTreeSet;

use bollard_stubs::models::NetworkInspect;

use super::{Build, there};
use crate::{
    model::Network,
    plan::{
        Obstacle, Operation,
        decide::{self, Fleet},
        labels,
        observed::Seen,
        spec,
    },
};

impl<'a> Build<'a> {
    pub(super) fn networks(&mut self, fleet: &Fleet<'a>) {
        let view = self.view;
        for (key, network) in &view.stack.networks {
            let name = &network.name;
            let there = view.observed.network(name);
            if network.external {
                if there.is_none() {
                    self.obstacle(Obstacle::Missing {
                        kind: "network",
                        key: key.clone(),
                        name: name.clone(),
                    });
                }
                continue;
            }
            if let Err(refused) = spec::network(view.stack, key, &view.options.context) {
                self.obstacle(refused.into());
                continue;
            }
            let Some(there) = there else {
                self.create_network(key, name, "it does not exist", &[]);
                continue;
            };
            if labels::get(there.labels.as_ref(), labels::PROJECT) != Some(&view.stack.name) {
                self.obstacle(Obstacle::NotOurs {
                    name: name.clone(),
                    stack: view.stack.name.clone(),
                });
                continue;
            }
            if let Some(why) = changed(network, there) {
                self.make_anew((key, name), there, &why, fleet);
            }
        }
    }

    fn create_network(&mut self, key: &str, name: &str, why: &str, after: &[usize]) {
        let operation = Operation::CreateNetwork {
            key: key.to_owned(),
            name: name.to_owned(),
        };
        let node = self.graph.add(operation, why, after);
        self.networks.insert(name.to_owned(), node);
    }

    /// Takes everything off, removes it, makes it. Slots put their containers on again.
    fn make_anew(
        &mut self,
        (key, name): (&str, &str),
        there_is: &NetworkInspect,
        why: &str,
        fleet: &Fleet<'a>,
    ) {
        let stayers = fleet.stayers();
        let leavers: BTreeSet<_> = fleet.leavers().map(|seen| seen.id()).collect();
        let observed = self.view.observed;
        let known = |id: &str| stayers.contains_key(id) || leavers.contains(id);
        if let Some(container) = stranger(there_is, observed.containers.iter().map(Seen), known) {
            self.obstacle(Obstacle::NetworkInUse {
                name: name.to_owned(),
                container,
            });
            return;
        }
        let mut off = Vec::new();
        let attached = observed.of_project(&self.view.stack.name);
        for seen in attached.filter(|seen| seen.is_on(name) && known(seen.id())) {
            let mut after = Vec::new();
            if let Some((service, _)) = stayers.get(seen.id()) {
                self.taken_off
                    .entry(seen.id())
                    .or_default()
                    .insert(name.to_owned());
                // Half of a task is worse than a task that loses its network for a moment; and
                // one that has ended by being stopped would look like one that is done.
                if !decide::is_task(self.view, service) {
                    after.extend(self.stop(seen, why, &[]));
                }
            }
            let operation = Operation::Disconnect {
                network: name.to_owned(),
                container: there(seen),
            };
            let node = self.graph.add(operation, why, &after);
            self.needing.entry(seen.id()).or_default().push(node);
            off.push(node);
        }
        let operation = Operation::RemoveNetwork {
            name: name.to_owned(),
        };
        let removed = self.graph.add(operation, why, &off);
        self.create_network(key, name, why, &[removed]);
    }

    /// Networks of ours that nobody of the stack wants. Last of all.
    pub(super) fn unused_networks(&mut self, fleet: &Fleet<'a>) {
        let view = self.view;
        let wanted: BTreeSet<_> = view
            .stack
            .networks
            .values()
            .map(|n| n.name.as_str())
            .collect();
        let stayers = fleet.stayers();
        let leavers: BTreeSet<_> = fleet.leavers().map(|seen| seen.id()).collect();
        for network in &view.observed.networks {
            let name = network.name.as_deref().unwrap_or_default();
            let own = labels::get(network.labels.as_ref(), labels::PROJECT);
            if own != Some(view.stack.name.as_str()) || wanted.contains(name) {
                continue;
            }
            let ours = labels::get(network.labels.as_ref(), labels::STACK).is_some();
            if !ours && !view.options.remove_foreign_orphans {
                self.notes.push(format!(
                    "network {name} of this project is not in the stack: it stays, for another \
                     tool made it"
                ));
                continue;
            }
            let known = |id: &str| stayers.contains_key(id) || leavers.contains(id);
            let all = view.observed.containers.iter().map(Seen);
            if let Some(container) = stranger(network, all, known) {
                self.notes.push(format!(
                    "network {name} is no longer used by the stack, and stays because container \
                     {container} is attached to it"
                ));
                continue;
            }
            let mut after = Vec::new();
            let attached = view.observed.of_project(&view.stack.name);
            for seen in attached.filter(|seen| seen.is_on(name)) {
                if let Some(removal) = self.removals.get(seen.id()) {
                    after.push(*removal);
                } else if stayers.contains_key(seen.id()) {
                    let operation = Operation::Disconnect {
                        network: name.to_owned(),
                        container: there(seen),
                    };
                    after.push(self.graph.add(operation, "the stack does not want it", &[]));
                }
            }
            let operation = Operation::RemoveNetwork {
                name: name.to_owned(),
            };
            self.graph
                .add(operation, "the stack does not want it", &after);
        }
    }
}

/// A container on the network that is none of those that we know. The network lists those that
/// run; those that do not say it themselves.
fn stranger<'a>(
    network: &NetworkInspect,
    mut all: impl Iterator<Item = Seen<'a>>,
    known: impl Fn(&str) -> bool,
) -> Option<String> {
    let name = network.name.as_deref().unwrap_or_default();
    let running = network.containers.iter().flatten();
    let mut running = running.filter(|(id, _)| !known(id));
    let by_network = running
        .next()
        .map(|(id, endpoint)| endpoint.name.clone().unwrap_or_else(|| id.clone()));
    by_network.or_else(|| {
        let other = all.find(|seen| seen.is_on(name) && !known(seen.id()));
        other.map(|seen| seen.name().to_owned())
    })
}

/// Why a network has to be made anew, if it has to.
fn changed(wanted: &Network, there: &NetworkInspect) -> Option<String> {
    if let Some(hash) = labels::get(there.labels.as_ref(), labels::HASH) {
        let same = hash == spec::network_hash(wanted);
        return (!same).then(|| "its definition has changed".to_owned());
    }
    let differs = |field: &str| Some(format!("its {field} has changed"));
    if wanted.driver.is_some() && wanted.driver != there.driver {
        return differs("driver");
    }
    if wanted.internal != there.internal.unwrap_or(false) {
        return differs("`internal`");
    }
    if wanted
        .enable_ipv6
        .is_some_and(|ipv6| ipv6 != there.enable_ipv6.unwrap_or(false))
    {
        return differs("`enable_ipv6`");
    }
    let options = there.options.clone().unwrap_or_default();
    if wanted
        .driver_opts
        .iter()
        .any(|(key, value)| options.get(key) != Some(value))
    {
        return differs("driver options");
    }
    let pools = there
        .ipam
        .clone()
        .unwrap_or_default()
        .config
        .unwrap_or_default();
    let there_is = |subnet: &String| {
        pools
            .iter()
            .any(|pool| pool.subnet.as_ref() == Some(subnet))
    };
    let subnets = wanted
        .ipam_config
        .iter()
        .filter_map(|pool| pool.subnet.as_ref());
    if subnets.into_iter().any(|subnet| !there_is(subnet)) {
        return differs("subnet");
    }
    None
}
