//! One container, from what is there to what shall be.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::{Build, Node, there};
use crate::{
    model::{Condition, Order},
    plan::{
        ContainerRef, Operation,
        decide::{self, Fleet, Slot},
        observed::Seen,
        topology,
    },
};

/// How a slot ends.
#[derive(Debug)]
pub(super) struct Done {
    /// The last steps; none where nothing is done.
    pub last: Vec<Node>,
    /// How the container is called then.
    pub container: ContainerRef,
    /// It was waited for until it is healthy.
    pub healthy: bool,
}

impl<'a> Build<'a> {
    /// Makes, replaces or mends one container. `rolling`: others wait until it is well.
    pub(super) fn slot(
        &mut self,
        slot: &Slot<'a>,
        (order, rolling): (Order, bool),
        gate: &[Node],
        fleet: &Fleet<'a>,
    ) -> Done {
        let mut before: Vec<Node> = gate.to_vec();
        let mut serving = slot.olds.iter().copied();
        let first = serving.next();
        for surplus in serving {
            let why = "another container has its place";
            let stop = self.stop(surplus, why, &[]);
            before.push(self.remove(surplus, why, stop.as_slice()));
        }
        let mut work = Work {
            now: ContainerRef {
                name: slot.name.clone(),
                id: None,
            },
            last: before,
            starts: true,
            changed: false,
            rolling,
            why: slot.why.clone(),
        };
        match slot.current {
            Some(current) => self.mend(slot, current, &mut work, fleet),
            None => self.create(slot, first, &mut work, fleet),
        }
        let ready = match work.starts {
            true => self.ready(slot.service, fleet),
            false => Vec::new(),
        };
        match (first, order) {
            (Some(old), Order::StartFirst) => self.start_first(slot, old, &ready, work),
            (Some(old), Order::StopFirst) => self.stop_first(slot, old, &ready, work),
            (None, _) => {
                self.settle(slot, &ready, &mut work);
                work.done(false)
            }
        }
    }

    fn create(&mut self, slot: &Slot<'a>, old: Option<Seen<'a>>, work: &mut Work, f: &Fleet<'a>) {
        let stack = self.view.stack;
        let holder = self.holder(&slot.name);
        if let Some(holder) = holder {
            work.now.name = self.temporary(&slot.name, old.map_or(holder, Seen::id));
        }
        let mut after = std::mem::take(&mut work.last);
        let networks = slot.spec.networks.iter().map(|(name, _)| name);
        after.extend(networks.filter_map(|name| self.networks.get(name)));
        if let Some(service) = stack.services.get(slot.service) {
            let mounted = service
                .mounts
                .iter()
                .filter_map(|mount| mount.source.as_ref());
            after.extend(mounted.filter_map(|key| self.volumes.get(key)));
            for parent in topology::parents(service) {
                after.extend(self.wait((parent, Condition::Started, true), f));
            }
        }
        let why = if slot.why.is_empty() {
            "there is none"
        } else {
            &slot.why
        };
        let operation = Operation::CreateContainer {
            service: slot.service.to_owned(),
            number: slot.number,
            name: work.now.name.clone(),
            inherits: old.map(there),
        };
        let node = self.graph.add(operation, why, &after);
        if work.now.name == slot.name {
            self.named.push((slot.service, slot.name.clone(), node));
        }
        if let Some(old) = old {
            self.needing.entry(old.id()).or_default().push(node);
        }
        work.last = vec![node];
        work.changed = true;
        work.why = String::new();
    }

    /// Puts a container that stays right, and finds out whether it has to be started.
    fn mend(&mut self, slot: &Slot<'a>, current: Seen<'a>, work: &mut Work, fleet: &Fleet<'a>) {
        work.now = there(current);
        let halted = self.stops.get(current.id()).copied();
        work.starts = halted.is_some()
            || !(current.is_running() || decide::is_done(self.view, slot, current));
        work.why = match (halted, current.exit_code()) {
            (Some(_), _) => String::new(),
            (None, Some(code)) => format!("it has ended with code {code}"),
            (None, None) => "it does not run".to_owned(),
        };
        if current.status() == bollard_stubs::models::ContainerStateStatusEnum::PAUSED
            && halted.is_none()
        {
            let operation = Operation::UnpauseContainer {
                service: slot.service.to_owned(),
                container: work.now.clone(),
            };
            let node = self.graph.add(operation, "somebody has paused it", &[]);
            work.last.push(node);
            work.changed = true;
        }
        let off = self
            .taken_off
            .get(current.id())
            .cloned()
            .unwrap_or_default();
        let detached = decide::detached(slot, current)
            .into_iter()
            .map(str::to_owned);
        for network in off.into_iter().chain(detached) {
            let mut after = work.last.clone();
            after.extend(self.networks.get(&network));
            after.extend(halted);
            let operation = Operation::Connect {
                network: network.clone(),
                container: work.now.clone(),
                service: slot.service.to_owned(),
                number: slot.number,
            };
            let why = format!("it is not on network {network}");
            work.last = vec![self.graph.add(operation, &why, &after)];
            work.changed = true;
        }
        self.leave_name(slot, current, work, fleet);
    }

    /// Two containers that have each other's names: both go to temporary ones first.
    fn leave_name(
        &mut self,
        slot: &Slot<'a>,
        current: Seen<'a>,
        work: &mut Work,
        fleet: &Fleet<'a>,
    ) {
        if work.now.name == slot.name || current.is_temporary() {
            return;
        }
        let holder = self.holder(&slot.name);
        if !holder.is_some_and(|holder| fleet.stayers().contains_key(holder)) {
            return;
        }
        let away = self.temporary(&slot.name, work.now.id.as_deref().unwrap_or_default());
        let operation = Operation::RenameContainer {
            service: slot.service.to_owned(),
            container: work.now.clone(),
            name: away.clone(),
        };
        let why = "it has the name of another one";
        let node = self.graph.add(operation, why, &work.last);
        self.left
            .insert(std::mem::replace(&mut work.now.name, away), node);
        work.last = vec![node];
        work.changed = true;
    }

    fn start_first(&mut self, slot: &Slot<'a>, old: Seen<'a>, ready: &[Node], work: Work) -> Done {
        let mut work = work;
        self.start(slot, ready, &mut work);
        let healthy = self.wait_for(slot, &mut work);
        let stop = self.stop(old, "its successor runs", &work.last);
        let after: Vec<_> = stop.map_or_else(|| work.last.clone(), |stop| vec![stop]);
        work.last = vec![self.remove(old, "", &after)];
        work.changed = true;
        self.rename(slot, &mut work);
        work.done(healthy)
    }

    fn stop_first(&mut self, slot: &Slot<'a>, old: Seen<'a>, ready: &[Node], work: Work) -> Done {
        let mut work = work;
        let mut after = work.last.clone();
        after.extend(ready);
        if self.early.contains_key(old.id()) {
            after.clear();
        }
        let stop = self.stop(old, "its successor is ready to start", &after);
        let mut after = work.last.clone();
        after.extend(stop);
        work.last = vec![self.remove(old, "", &after)];
        work.changed = true;
        self.settle(slot, ready, &mut work);
        let healthy = work.rolling && self.wait_for(slot, &mut work);
        work.done(healthy)
    }

    /// Its final name, and it runs. One that was stopped on its way out keeps the name that tells
    /// so until it runs.
    fn settle(&mut self, slot: &Slot<'a>, ready: &[Node], work: &mut Work) {
        let stopped = slot
            .current
            .is_some_and(|current| current.exit_code().is_some());
        if stopped {
            self.start(slot, ready, work);
            self.rename(slot, work);
        } else {
            self.rename(slot, work);
            self.start(slot, ready, work);
        }
    }

    fn start(&mut self, slot: &Slot<'a>, ready: &[Node], work: &mut Work) {
        if !work.starts {
            return;
        }
        let mut after = work.last.clone();
        after.extend(ready);
        let operation = Operation::StartContainer {
            service: slot.service.to_owned(),
            container: work.now.clone(),
        };
        let node = self.graph.add(operation, &work.why, &after);
        self.starts.push((slot.service, slot.number, node));
        work.last = vec![node];
        work.changed = true;
    }

    /// Gives the container its final name, where it has another one.
    fn rename(&mut self, slot: &Slot<'a>, work: &mut Work) {
        if work.now.name == slot.name {
            return;
        }
        let operation = Operation::RenameContainer {
            service: slot.service.to_owned(),
            container: work.now.clone(),
            name: slot.name.clone(),
        };
        let node = self.graph.add(operation, "", &work.last);
        self.named.push((slot.service, slot.name.clone(), node));
        self.left.entry(work.now.name.clone()).or_insert(node);
        work.now.name.clone_from(&slot.name);
        work.last = vec![node];
        work.changed = true;
    }

    /// Waits until one container is well. Says whether that means that it is healthy.
    fn wait_for(&mut self, slot: &Slot<'a>, work: &mut Work) -> bool {
        let service = self.view.stack.services.get(slot.service);
        let check = service.and_then(|service| decide::has_check(self.view, service));
        let healthy = check == Some(true);
        let runs = slot.current.is_some_and(Seen::is_running);
        if !(work.starts || runs) {
            // A task that has done its work before it got its place.
            return false;
        }
        let operation = Operation::Wait {
            service: slot.service.to_owned(),
            containers: vec![work.now.clone()],
            until: if healthy {
                Condition::Healthy
            } else {
                Condition::Started
            },
            required: true,
        };
        work.last = vec![self.graph.add(operation, "", &work.last)];
        healthy
    }

    /// Who has this name now?
    fn holder(&self, name: &str) -> Option<&'a str> {
        let all = self.view.observed.containers.iter().map(Seen);
        let mut holders = all.filter(|seen| seen.name() == name);
        holders.next().map(Seen::id)
    }

    /// A name for as long as another container has the final one.
    pub(super) fn temporary(&self, name: &str, id: &str) -> String {
        let mut hex = id.get(..12).unwrap_or_default().to_owned();
        let is_hex = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
        loop {
            let candidate = format!("{hex}_{name}");
            if is_hex(&hex) && self.holder(&candidate).is_none() {
                return candidate;
            }
            let digest = HEXLOWER.encode(&Sha256::digest(candidate.as_bytes()));
            hex = digest.get(..12).unwrap_or_default().to_owned();
        }
    }
}

/// A container on its way.
#[derive(Debug)]
struct Work {
    now: ContainerRef,
    last: Vec<Node>,
    /// It has to be started.
    starts: bool,
    /// Something is done with it.
    changed: bool,
    /// Others wait until it is well.
    rolling: bool,
    /// Why it is started.
    why: String,
}

impl Work {
    fn done(self, healthy: bool) -> Done {
        Done {
            last: if self.changed { self.last } else { Vec::new() },
            container: self.now,
            healthy,
        }
    }
}
