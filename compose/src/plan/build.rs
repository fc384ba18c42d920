//! The plan as it grows: images, networks, volumes, services in their order, what is left over.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::{
    ContainerRef, Observed, Obstacle, Operation, Options, Plan,
    decide::{self, Fleet, View},
    graph::{Graph, Node},
    observed::Seen,
    topology,
};
use crate::model::Stack;

mod claims;
mod images;
mod leftovers;
mod networks;
mod services;
mod slot;
mod volumes;
mod waits;

/// What has been thought of so far.
#[derive(Debug)]
struct Build<'a> {
    view: View<'a>,
    graph: Graph,
    notes: Vec<String>,
    obstacles: Vec<Obstacle>,
    /// What has to be done before a container can be on a network, by its name.
    networks: BTreeMap<String, Node>,
    /// What has to be done before a volume can be mounted, by its key.
    volumes: BTreeMap<String, Node>,
    /// Networks that containers are taken off, by id, and have to be put on again.
    taken_off: BTreeMap<&'a str, BTreeSet<String>>,
    /// Steps that need a container, by id, and have to be done before it is removed.
    needing: BTreeMap<&'a str, Vec<Node>>,
    /// Stops, by id.
    stops: BTreeMap<&'a str, Node>,
    /// Temporary names of containers that go, by id.
    going: BTreeMap<&'a str, String>,
    /// Removals, by id.
    removals: BTreeMap<&'a str, Node>,
    /// Renames away from a name, by that name.
    left: BTreeMap<String, Node>,
    /// Steps that give a container its final name: service, name, step.
    named: Vec<(&'a str, String, Node)>,
    /// Leavers that have something which another slot needs, by id: they go at once.
    early: BTreeMap<&'a str, Early>,
    /// Starts, with the slot.
    starts: Vec<(&'a str, u32, Node)>,
    /// How each service stands.
    ends: BTreeMap<&'a str, End>,
    /// Waits: service, condition, required.
    waits: BTreeMap<waits::Key<'a>, Vec<Node>>,
}

/// Why a container goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Early {
    /// What it has while it runs is needed.
    Running,
    /// Its name is needed, and perhaps more.
    Named,
}

/// What a service's dependents have to know.
#[derive(Debug, Default)]
struct End {
    /// The last steps of its containers; empty where nothing is done.
    last: Vec<Node>,
    /// How its containers will be called.
    containers: Vec<ContainerRef>,
    /// Containers are made anew.
    replaced: bool,
    /// All that change were waited for until they are healthy.
    waited: bool,
}

impl<'a> Build<'a> {
    fn new(view: View<'a>, obstacles: Vec<Obstacle>) -> Self {
        Self {
            view,
            obstacles,
            graph: Graph::default(),
            notes: Vec::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            taken_off: BTreeMap::new(),
            needing: BTreeMap::new(),
            stops: BTreeMap::new(),
            going: BTreeMap::new(),
            removals: BTreeMap::new(),
            left: BTreeMap::new(),
            named: Vec::new(),
            early: BTreeMap::new(),
            starts: Vec::new(),
            ends: BTreeMap::new(),
            waits: BTreeMap::new(),
        }
    }

    /// Stops a container that is there, where it runs.
    ///
    /// One that would then look as if it had done its work gets a temporary name first: if the
    /// plan is interrupted here and the container stays after all, its name tells that it has to
    /// be started again.
    fn stop(&mut self, seen: Seen<'a>, why: &str, after: &[Node]) -> Option<Node> {
        if !seen.is_running() || self.stops.contains_key(seen.id()) {
            return self.stops.get(seen.id()).copied();
        }
        let mut after = after.to_vec();
        let task = seen.may_be_task() || decide::is_task(self.view, seen.service());
        let named = self.early.get(seen.id()) == Some(&Early::Named);
        if named || (task && !seen.is_temporary()) {
            after = vec![self.rename_away(seen, why, &after)];
        }
        let operation = Operation::StopContainer {
            service: seen.service().to_owned(),
            container: self.at(seen),
            grace_seconds: self.grace(seen),
        };
        let node = self.graph.add(operation, why, &after);
        self.stops.insert(seen.id(), node);
        Some(node)
    }

    /// Gives a container that goes a temporary name, once.
    fn rename_away(&mut self, seen: Seen<'a>, why: &str, after: &[Node]) -> Node {
        if let Some(known) = self.left.get(seen.name()) {
            return *known;
        }
        let digest = HEXLOWER.encode(&Sha256::digest(seen.id().as_bytes()));
        let name = self.temporary(seen.name(), &digest);
        let operation = Operation::RenameContainer {
            service: seen.service().to_owned(),
            container: there(seen),
            name: name.clone(),
        };
        let node = self.graph.add(operation, why, after);
        self.left.insert(seen.name().to_owned(), node);
        self.going.insert(seen.id(), name);
        node
    }

    /// A container that goes, as it is called by then.
    fn at(&self, seen: Seen<'_>) -> ContainerRef {
        let going = self.going.get(seen.id());
        ContainerRef {
            name: going.map_or_else(|| seen.name().to_owned(), Clone::clone),
            id: Some(seen.id().to_owned()),
        }
    }

    /// The grace of a container that was made without one.
    fn grace(&self, seen: Seen<'_>) -> Option<i64> {
        let own = seen
            .0
            .config
            .as_ref()
            .and_then(|config| config.stop_timeout);
        if own.is_some() {
            return None;
        }
        let service = self.view.stack.services.get(seen.service())?;
        service.stop_grace_period.map(super::spec::whole_seconds)
    }

    /// Removes a container that is there. Its anonymous volumes stay: the next may have them.
    fn remove(&mut self, seen: Seen<'a>, why: &str, after: &[Node]) -> Node {
        let mut after = after.to_vec();
        if self.early.get(seen.id()) == Some(&Early::Named) {
            // Its removal may have to wait for what waits for its name.
            after.push(self.rename_away(seen, why, &[]));
        }
        let operation = Operation::RemoveContainer {
            service: seen.service().to_owned(),
            container: self.at(seen),
            volumes: false,
        };
        let node = self.graph.add(operation, why, &after);
        for earlier in self.needing.get(seen.id()).into_iter().flatten() {
            self.graph.order(*earlier, node);
        }
        self.removals.insert(seen.id(), node);
        node
    }
}

/// A container that is there.
fn there(seen: Seen<'_>) -> ContainerRef {
    ContainerRef {
        name: seen.name().to_owned(),
        id: Some(seen.id().to_owned()),
    }
}

pub(super) fn plan(
    stack: &Stack,
    observed: &Observed,
    options: &Options,
) -> Result<Plan, Vec<Obstacle>> {
    let view = View {
        stack,
        observed,
        options,
    };
    let order = topology::order(stack).map_err(|services| vec![Obstacle::Circle { services }])?;
    let mut obstacles = Vec::new();
    let fleet = decide::fleet(view, &order, &mut obstacles);
    let mut build = Build::new(view, obstacles);
    build.claims(&fleet);
    build.images(&fleet);
    build.volumes();
    build.networks(&fleet);
    build.services(&order, &fleet);
    build.leftovers(&fleet);
    build.hand_over(&fleet);
    build.finish(fleet)
}

impl Build<'_> {
    fn finish(self, fleet: Fleet<'_>) -> Result<Plan, Vec<Obstacle>> {
        if !self.obstacles.is_empty() {
            return Err(self.obstacles);
        }
        let steps = self.graph.finish();
        let steps = steps.map_err(|services| vec![Obstacle::Circle { services }])?;
        Ok(Plan {
            steps,
            notes: self.notes,
            adopts: fleet.adopts,
        })
    }
}
