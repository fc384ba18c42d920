//! The end of a stack, whoever made it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ContainerRef, Observed, Operation, Plan,
    graph::{Graph, Node},
    labels,
    observed::Seen,
};

/// What to do so that nothing of a project is left; its volumes stay unless `volumes` says
/// otherwise. External networks and volumes are not touched: they lack the project's label.
#[must_use]
pub fn remove(project: &str, observed: &Observed, volumes: bool) -> Plan {
    let mut graph = Graph::default();
    let mut notes = Vec::new();
    let removals = containers(project, observed, volumes, &mut graph);
    let known: BTreeSet<_> = removals.keys().copied().collect();
    let removals: Vec<Node> = removals.into_values().collect();
    for network in &observed.networks {
        let name = network.name.clone().unwrap_or_default();
        if labels::get(network.labels.as_ref(), labels::PROJECT) != Some(project) {
            continue;
        }
        let mut attached = network.containers.iter().flatten();
        if let Some((id, other)) = attached.find(|(id, _)| !known.contains(id.as_str())) {
            let other = other.name.as_ref().unwrap_or(id);
            notes.push(format!(
                "network {name} stays: container {other}, which is not of this stack, is \
                 attached to it"
            ));
            continue;
        }
        graph.add(
            Operation::RemoveNetwork { name },
            "the stack is removed",
            &removals,
        );
    }
    for volume in observed.volumes.iter().filter(|_| volumes) {
        if volume.labels.get(labels::PROJECT).map(String::as_str) == Some(project) {
            let operation = Operation::RemoveVolume {
                name: volume.name.clone(),
            };
            graph.add(operation, "its removal was asked for", &removals);
        }
    }
    // Nothing here can wait for itself: every step comes after some that were added before.
    Plan {
        steps: graph.finish().unwrap_or_default(),
        notes,
        adopts: BTreeMap::new(),
    }
}

/// Stops and removes every container, dependents first; the removals by id.
fn containers<'a>(
    project: &str,
    observed: &'a Observed,
    volumes: bool,
    graph: &mut Graph,
) -> BTreeMap<&'a str, Node> {
    let own = |seen: &Seen<'_>| seen.project() == Some(project);
    let mut left: Vec<_> = observed.containers.iter().map(Seen).filter(own).collect();
    let mut removals = BTreeMap::new();
    let mut before: Vec<Node> = Vec::new();
    while !left.is_empty() {
        let needed: BTreeSet<_> = left.iter().flat_map(|seen| needs(*seen)).collect();
        let is_free = |seen: &Seen<'_>| !needed.contains(seen.service());
        let (free, rest): (Vec<_>, Vec<_>) = left.iter().copied().partition(is_free);
        // Labels may name each other in a circle: then all that is left goes at once.
        let (turn, rest) = if free.is_empty() {
            (rest, Vec::new())
        } else {
            (free, rest)
        };
        let mut stops = Vec::new();
        for seen in turn {
            let stop = seen.is_running().then(|| {
                let operation = Operation::StopContainer {
                    service: seen.service().to_owned(),
                    container: there(seen),
                    grace_seconds: None,
                };
                graph.add(operation, "the stack is removed", &before)
            });
            let operation = Operation::RemoveContainer {
                service: seen.service().to_owned(),
                container: there(seen),
                volumes,
            };
            removals.insert(seen.id(), graph.add(operation, "", stop.as_slice()));
            stops.extend(stop);
        }
        if !stops.is_empty() {
            before = stops;
        }
        left = rest;
    }
    removals
}

/// The services that a container says it depends on, without its own.
fn needs<'a>(seen: Seen<'a>) -> impl Iterator<Item = &'a str> {
    let label = seen.label(labels::DEPENDS_ON).unwrap_or_default();
    labels::dependencies(label).filter(move |name| *name != seen.service())
}

fn there(seen: Seen<'_>) -> ContainerRef {
    ContainerRef {
        name: seen.name().to_owned(),
        id: Some(seen.id().to_owned()),
    }
}
