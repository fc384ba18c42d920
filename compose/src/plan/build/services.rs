//! Services, each after those that it needs, in batches where its author wants them.

use super::{Build, End, Node, there};
use crate::{
    model::{Condition, Order, Service, ServiceScope, UpdateConfig},
    plan::{
        Operation,
        decide::{self, Fleet, Slot},
        observed::{Seen, later},
        topology,
    },
};

impl<'a> Build<'a> {
    pub(super) fn services(&mut self, order: &[&'a str], fleet: &Fleet<'a>) {
        for name in order {
            let Some((service, slots)) = self
                .view
                .stack
                .services
                .get(*name)
                .zip(fleet.slots.get(name))
            else {
                continue;
            };
            let end = self.service((name, service), slots, fleet);
            self.ends.insert(name, end);
        }
    }

    fn service(
        &mut self,
        (name, service): (&'a str, &'a Service),
        slots: &[Slot<'a>],
        fleet: &Fleet<'a>,
    ) -> End {
        let update = self.update(service);
        let parallelism = match update.parallelism {
            Some(0) => usize::MAX,
            Some(count) => count as usize,
            None => 1,
        };
        let mut end = End {
            waited: true,
            ..End::default()
        };
        let mut gate: Vec<Node> = Vec::new();
        let mut batch: Vec<Node> = Vec::new();
        let mut in_batch = 0;
        let updates = slots.iter().filter(|slot| is_update(slot)).count();
        for slot in slots {
            let mut turn = &[][..];
            if is_update(slot) {
                if in_batch == parallelism {
                    gate = self.delay(name, &update, std::mem::take(&mut batch));
                    in_batch = 0;
                }
                in_batch += 1;
                turn = gate.as_slice();
            }
            let rolling = is_update(slot) && updates > parallelism;
            let order = self.order(service, &update, slot);
            let done = self.slot(slot, (order, rolling), turn, fleet);
            if is_update(slot) {
                batch.extend(&done.last);
            }
            end.waited &= done.healthy || done.last.is_empty();
            end.replaced |= slot.is_new();
            end.containers.push(done.container);
            end.last.extend(done.last);
        }
        self.restarts((name, service), slots, &mut end, fleet);
        end
    }

    fn update(&self, service: &Service) -> UpdateConfig {
        let deploy = &service.deploy;
        let config = match self.view.options.rollback {
            true => deploy.rollback.as_ref(),
            false => deploy.update.as_ref(),
        };
        config.cloned().unwrap_or_default()
    }

    /// What the next batch waits for.
    fn delay(&mut self, name: &str, update: &UpdateConfig, batch: Vec<Node>) -> Vec<Node> {
        match update.delay.filter(|delay| *delay > 0) {
            None => batch,
            Some(nanoseconds) => {
                let operation = Operation::Delay {
                    service: name.to_owned(),
                    nanoseconds,
                };
                vec![self.graph.add(operation, "as `deploy` says", &batch)]
            }
        }
    }

    /// Which goes first, the old container or the new one?
    fn order(&mut self, service: &Service, update: &UpdateConfig, slot: &Slot<'a>) -> Order {
        let Some(old) = slot.olds.first().filter(|old| old.is_running()) else {
            return Order::StopFirst;
        };
        let claims = super::claims::of(slot);
        let exclusive = !claims.ports.is_empty() || !claims.addresses.is_empty();
        let held = self.early.contains_key(old.id()) || exclusive;
        let completed = Condition::Completed;
        let awaited = topology::is_awaited(self.view.stack, slot.service, completed);
        match update.order {
            Some(Order::StartFirst) if held => {
                self.notes.push(format!(
                    "service {}: `order: start-first` is not possible for {}, because the old \
                     container has a port, an address or a name that is needed: it stops first",
                    slot.service, slot.name
                ));
                Order::StopFirst
            }
            // Two of a task are never at work.
            Some(_) if awaited => Order::StopFirst,
            Some(order) => order,
            None if held || !can_overlap(service, *old) => Order::StopFirst,
            None if decide::is_task(self.view, slot.service) => Order::StopFirst,
            None => Order::StartFirst,
        }
    }

    /// Restarts containers that stay and have to know that what they depend on is another one.
    fn restarts(
        &mut self,
        (name, service): (&'a str, &'a Service),
        slots: &[Slot<'a>],
        end: &mut End,
        fleet: &Fleet<'a>,
    ) {
        let needs = topology::needs(self.view.stack, service);
        let needs: Vec<_> = needs.into_iter().filter(|(_, need)| need.restart).collect();
        for slot in slots {
            let started = self
                .starts
                .iter()
                .any(|(service, number, _)| *service == name && *number == slot.number);
            let Some(seen) = slot.current.filter(|seen| seen.is_running() && !started) else {
                continue;
            };
            let mut after = end.last.clone();
            let mut whose = Vec::new();
            for (dependency, need) in &needs {
                let replaced = self.ends.get(dependency).is_some_and(|end| end.replaced);
                let others = fleet.slots.get(dependency).into_iter().flatten();
                let mut others = others.filter_map(|slot| slot.current);
                if replaced || others.any(|other| later(&other.created(), seen.started())) {
                    whose.push(*dependency);
                    after.extend(self.wait((dependency, need.condition, need.required), fleet));
                }
            }
            if whose.is_empty() {
                continue;
            }
            let operation = Operation::RestartContainer {
                service: name.to_owned(),
                container: there(seen),
            };
            let why = format!("{} was made anew", whose.join(", "));
            end.last.push(self.graph.add(operation, &why, &after));
        }
    }
}

/// A container takes the place of another one.
fn is_update(slot: &Slot<'_>) -> bool {
    !slot.olds.is_empty()
}

/// May two containers of a service run side by side without doing harm?
fn can_overlap(service: &Service, old: Seen<'_>) -> bool {
    use crate::model::MountKind::{Bind, Cluster, Npipe, Volume};
    let writes = service
        .mounts
        .iter()
        .any(|mount| matches!(mount.kind, Volume | Bind | Cluster | Npipe) && !mount.read_only);
    let shares = !topology::namespaces(service).is_empty()
        || service.volumes_from.iter().any(|(_, read_only)| !read_only)
        || matches!(&service.network_mode, Some(ServiceScope::Mode(mode)) if mode == "host")
        || matches!(&service.network_mode, Some(ServiceScope::Container(_)));
    let named = service.container_name.is_some() || service.mac_address.is_some();
    let mac = service
        .networks
        .values()
        .any(|network| network.mac_address.is_some());
    // An anonymous volume, of the image perhaps, that the new one would take over at once.
    let mut points = old.0.mounts.iter().flatten();
    let inherits =
        points.any(|point| point.typ.as_deref() == Some("volume") && point.rw != Some(false));
    !(writes || shares || named || mac || inherits)
}
