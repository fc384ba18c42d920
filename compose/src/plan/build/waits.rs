//! What a service waits for before it starts.

use bollard_stubs::models::HealthStatusEnum;

use super::{Build, Node};
use crate::{
    model::Condition,
    plan::{
        Obstacle, Operation,
        decide::{self, Fleet},
        topology,
    },
};

/// Service, condition, required.
pub(super) type Key<'a> = (&'a str, Condition, bool);

impl<'a> Build<'a> {
    /// The steps after which a service may start.
    pub(super) fn ready(&mut self, name: &'a str, fleet: &Fleet<'a>) -> Vec<Node> {
        let stack = self.view.stack;
        let Some(service) = stack.services.get(name) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (dependency, need) in topology::needs(stack, service) {
            let other = stack.services.get(dependency);
            let check = other.and_then(|other| decide::has_check(self.view, other));
            if need.condition == Condition::Healthy && need.required && check == Some(false) {
                self.obstacle(Obstacle::NoCheck {
                    service: dependency.to_owned(),
                    dependent: name.to_owned(),
                });
            }
            all.extend(self.wait((dependency, need.condition, need.required), fleet));
        }
        all
    }

    /// The steps after which a service is so far; none where it is already.
    pub(super) fn wait(&mut self, key: Key<'a>, fleet: &Fleet<'a>) -> Vec<Node> {
        if let Some(known) = self.waits.get(&key) {
            return known.clone();
        }
        let (name, until, required) = key;
        let Some(end) = self.ends.get(name).filter(|end| !end.containers.is_empty()) else {
            return Vec::new();
        };
        let waited = until == Condition::Healthy && end.waited;
        let fulfilled = fleet.slots.get(name).is_none_or(|slots| {
            let mut current = slots.iter().filter_map(|slot| slot.current);
            current.all(|seen| match until {
                Condition::Started => true,
                Condition::Healthy => seen.health() == HealthStatusEnum::HEALTHY,
                Condition::Completed => seen.exit_code() == Some(0),
            })
        });
        let nothing_to_wait_for = match end.last.is_empty() {
            true => fulfilled,
            false => until == Condition::Started || (waited && fulfilled),
        };
        let nodes = if nothing_to_wait_for {
            end.last.clone()
        } else {
            let operation = Operation::Wait {
                service: name.to_owned(),
                containers: end.containers.clone(),
                until,
                required,
            };
            let last = end.last.clone();
            vec![
                self.graph
                    .add(operation, "other services depend on it", &last),
            ]
        };
        self.waits.insert(key, nodes.clone());
        nodes
    }
}
