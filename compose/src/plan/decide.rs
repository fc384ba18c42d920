//! Which containers stay, which go, and which are missing.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use bollard_stubs::models::ContainerStateStatusEnum;

use super::{
    Obstacle, Options, REPLICAS_MAX, compare, labels,
    observed::{ImageSeen, Observed, Seen},
    spec::{self, ContainerSpec},
    topology,
};
use crate::model::{Condition, HealthTest, PullPolicy, Service, ServiceScope, Stack};

/// One container that there shall be, and those that are or were it.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    pub service: &'a str,
    pub number: u32,
    pub spec: ContainerSpec,
    /// What it shall be called: the specification's name, or, of a container that another tool
    /// made, that tool's.
    pub name: String,
    /// The one that stays.
    pub current: Option<Seen<'a>>,
    /// Those that go; the first serves until then.
    pub olds: Vec<Seen<'a>>,
    /// Why it is made anew.
    pub why: String,
}

impl Slot<'_> {
    /// A container has to be made.
    pub(super) const fn is_new(&self) -> bool {
        self.current.is_none()
    }
}

/// All containers of a project, with what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Fleet<'a> {
    /// By service, by number.
    pub slots: BTreeMap<&'a str, Vec<Slot<'a>>>,
    /// Of services of the stack that have too many.
    pub excess: Vec<Seen<'a>>,
    /// Of no service of the stack; these go.
    pub orphans: Vec<Seen<'a>>,
    /// Of no service of the stack; these stay, for another tool made them.
    pub foreign: Vec<Seen<'a>>,
    /// See [`Plan::adopts`](super::Plan::adopts).
    pub adopts: BTreeMap<String, String>,
}

impl<'a> Fleet<'a> {
    /// All that go: predecessors, those too many, orphans.
    pub(super) fn leavers(&self) -> impl Iterator<Item = Seen<'a>> {
        let slots = self.slots.values().flatten();
        let olds = slots.flat_map(|slot| slot.olds.iter().copied());
        olds.chain(self.excess.iter().copied())
            .chain(self.orphans.iter().copied())
    }

    /// All that stay, by id.
    pub(super) fn stayers(&self) -> BTreeMap<&'a str, (&'a str, u32)> {
        let slots = self.slots.values().flatten();
        let current = |slot: &Slot<'a>| {
            slot.current
                .map(|seen| (seen.id(), (slot.service, slot.number)))
        };
        slots.filter_map(current).collect()
    }
}

/// What a judgement depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub stack: &'a Stack,
    pub observed: &'a Observed,
    pub options: &'a Options,
}

/// Sorts out the containers, with the services in the order given.
pub(super) fn fleet<'a>(
    view: View<'a>,
    order: &[&'a str],
    obstacles: &mut Vec<Obstacle>,
) -> Fleet<'a> {
    let mut fleet = Fleet::default();
    let mut by_service: BTreeMap<&str, Vec<Seen<'a>>> = BTreeMap::new();
    for seen in view.observed.of_project(&view.stack.name) {
        if view.stack.services.contains_key(seen.service()) {
            by_service.entry(seen.service()).or_default().push(seen);
        } else if seen.is_ours() || view.options.remove_foreign_orphans {
            fleet.orphans.push(seen);
        } else {
            fleet.foreign.push(seen);
        }
    }
    for name in order {
        let Some(service) = view.stack.services.get(*name) else {
            continue;
        };
        if service.replicas > REPLICAS_MAX {
            obstacles.push(Obstacle::TooMany {
                service: (*name).to_owned(),
                replicas: service.replicas,
            });
            continue;
        }
        let found = spec::unsupported(name, service, view.options.context.api);
        if !found.is_empty() {
            obstacles.extend(found.into_iter().map(Obstacle::from));
            continue;
        }
        let there = by_service.remove(name).unwrap_or_default();
        settle(view, (name, service), there, (&mut fleet, obstacles));
    }
    fleet
}

/// The slots of one service.
fn settle<'a>(
    view: View<'a>,
    (name, service): (&'a str, &'a Service),
    there: Vec<Seen<'a>>,
    (fleet, obstacles): (&mut Fleet<'a>, &mut Vec<Obstacle>),
) {
    let first = match spec::container(view.stack, name, 1, &view.options.context) {
        Ok(first) => first,
        Err(refused) => {
            obstacles.push(refused.into());
            return;
        }
    };
    let wanted = service.replicas as usize;
    let mut numbers: BTreeMap<u32, Vec<Seen<'a>>> = BTreeMap::new();
    for seen in there {
        match seen.number() {
            0 => fleet.excess.push(seen),
            number => numbers.entry(number).or_default().push(seen),
        }
    }
    let mut slots = BTreeMap::new();
    for (number, group) in numbers {
        let slot = sort(view, (service, &first), (name, number), group, fleet);
        slots.insert(number, slot);
    }
    while slots.len() > wanted {
        // Those that would have to be made anew first, then the highest numbers.
        let stale = slots
            .iter()
            .rev()
            .find(|(_, slot)| slot.is_new())
            .map(|(n, _)| *n);
        let Some(number) = stale.or_else(|| slots.keys().next_back().copied()) else {
            break;
        };
        if let Some(slot) = slots.remove(&number) {
            fleet
                .excess
                .extend(slot.olds.into_iter().chain(slot.current));
        }
    }
    for number in 1.. {
        if slots.len() >= wanted {
            break;
        }
        if let Entry::Vacant(free) = slots.entry(number) {
            free.insert(sort(
                view,
                (service, &first),
                (name, number),
                Vec::new(),
                fleet,
            ));
        }
    }
    for slot in slots.values() {
        let Some(seen) = slot.current.filter(|seen| !seen.is_ours()) else {
            continue;
        };
        fleet
            .adopts
            .insert(seen.id().to_owned(), slot.spec.hash.clone());
    }
    fleet.slots.insert(name, slots.into_values().collect());
}

/// One slot: which of the containers of this number is as it shall be? `first` is what is asked
/// for of the service's first container.
fn sort<'a>(
    view: View<'a>,
    (service, first): (&Service, &ContainerSpec),
    (name, number): (&'a str, u32),
    group: Vec<Seen<'a>>,
    fleet: &Fleet<'a>,
) -> Slot<'a> {
    let spec = first.renumbered(view.stack, name, number);
    let mut good = Vec::new();
    let mut olds = Vec::new();
    let mut why = String::new();
    for seen in group {
        match stale(view, (service, &spec), seen, fleet) {
            None => good.push(seen),
            Some(reason) => {
                if why.is_empty() || seen.is_running() {
                    why = reason;
                }
                olds.push(seen);
            }
        }
    }
    let mut slot = Slot {
        service: name,
        number,
        name: spec.name.clone(),
        spec,
        current: None,
        olds: Vec::new(),
        why,
    };
    let rank = |seen: &Seen<'a>| (!seen.is_running(), seen.name() != slot.name);
    good.sort_by_key(rank);
    olds.sort_by_key(rank);
    let mut good = good.into_iter();
    slot.current = good.next();
    olds.extend(good);
    slot.olds = olds;
    if let Some(seen) = slot.current.filter(|seen| !seen.is_ours()) {
        let older = format!("{}_{name}_{number}", view.stack.name);
        if service.container_name.is_none() && seen.name() == older {
            slot.name = older;
        }
    }
    slot
}

/// Why a container has to be replaced, if it has to.
fn stale<'a>(
    view: View<'a>,
    (service, spec): (&Service, &ContainerSpec),
    seen: Seen<'a>,
    fleet: &Fleet<'a>,
) -> Option<String> {
    if seen.is_dead() {
        return Some("the Engine could not remove it".to_owned());
    }
    if seen.status() == ContainerStateStatusEnum::CREATED && !spec.files.is_empty() {
        // Nobody can tell whether they were all copied before something broke off.
        return Some("it was never started, and may lack its files".to_owned());
    }
    let options = view.options;
    let assignment = options.context.assignment.to_string();
    if options.force_recreate && seen.label(labels::ASSIGNMENT) != Some(assignment.as_str()) {
        return Some("all containers are to be replaced".to_owned());
    }
    let image = view.observed.images.get(seen.image_id());
    let adopted = options.adopted.get(seen.id()).map(String::as_str);
    match seen.hash().or(adopted) {
        Some(hash) if hash == spec.hash => {}
        Some(_) => return Some(changed(&compare::differences(spec, service, seen, image))),
        None => {
            let found = compare::differences(spec, service, seen, image);
            // What is not attached is connected, and does not have to be made anew.
            let detached = |d: &compare::Difference| d.observed == "(not attached)";
            if found.iter().any(|difference| !detached(difference)) {
                return Some(changed(&found));
            }
        }
    }
    if let Some(path) = compare::missing_mount(service, seen) {
        return Some(format!("nothing is mounted at {path}"));
    }
    image_moved(view, service, seen)
        .or_else(|| network_moved(view, spec, seen))
        .or_else(|| parent_moved(service, seen, fleet))
}

fn changed(found: &[compare::Difference]) -> String {
    let mut fields: Vec<_> = found
        .iter()
        .map(|difference| difference.field.as_str())
        .collect();
    fields.dedup();
    match fields.as_slice() {
        [] => "its files, secrets or hooks have changed".to_owned(),
        [one] => format!("{one} has changed"),
        [a, b] => format!("{a} and {b} have changed"),
        [a, b, rest @ ..] => format!("{a}, {b} and {} more have changed", rest.len()),
    }
}

/// The image that a reference stands for, where that is known and it is there.
pub(super) fn image_of<'a>(view: View<'a>, service: &Service) -> Option<&'a ImageSeen> {
    let image = view.observed.images.get(&service.image)?;
    match view.options.context.digests.get(&service.image) {
        Some(pin) if !image.is(pin) => None,
        _ => Some(image),
    }
}

fn image_moved(view: View<'_>, service: &Service, seen: Seen<'_>) -> Option<String> {
    let moved = || Some(format!("image {} is another one now", service.image));
    if let Some(image) = image_of(view, service) {
        return if image.id == seen.image_id() {
            None
        } else {
            moved()
        };
    }
    let pin = view.options.context.digests.get(&service.image)?;
    let own = view.observed.images.get(seen.image_id());
    let is_pinned = seen.image_id() == pin || own.is_some_and(|image| image.is(pin));
    if is_pinned || service.pull_policy == PullPolicy::Never {
        None
    } else {
        moved()
    }
}

/// A container that stands still remembers a network by its id, and cannot go to another one of
/// the same name.
fn network_moved(view: View<'_>, spec: &ContainerSpec, seen: Seen<'_>) -> Option<String> {
    for (name, settings) in seen.networks() {
        let known = settings.network_id.as_deref().unwrap_or_default();
        let wanted = spec.networks.iter().any(|(network, _)| network == name);
        let there = view
            .observed
            .network(name)
            .and_then(|network| network.id.as_deref());
        if wanted && !known.is_empty() && there != Some(known) {
            return Some(format!("network {name} is another one now"));
        }
    }
    None
}

/// Does it refer to a container that is replaced, or was?
fn parent_moved<'a>(service: &Service, seen: Seen<'a>, fleet: &Fleet<'a>) -> Option<String> {
    let host = seen.0.host_config.as_ref()?;
    let from = |index: usize| {
        let all = host.volumes_from.as_ref()?;
        let entry = all.get(index)?;
        Some(entry.split(':').next().unwrap_or(entry).to_owned())
    };
    let mode = |mode: &Option<String>| {
        let mode = mode.as_deref()?;
        Some(mode.strip_prefix("container:")?.to_owned())
    };
    let namespaces = [
        (service.network_mode.as_ref(), mode(&host.network_mode)),
        (service.ipc.as_ref(), mode(&host.ipc_mode)),
        (service.pid.as_ref(), mode(&host.pid_mode)),
    ];
    let volumes = service
        .volumes_from
        .iter()
        .enumerate()
        .map(|(i, (s, _))| (Some(s), from(i)));
    for (scope, reference) in namespaces.into_iter().chain(volumes) {
        let Some(ServiceScope::Service(parent)) = scope else {
            continue;
        };
        let first = fleet
            .slots
            .get(parent.as_str())
            .and_then(|slots| slots.first());
        let Some(first) = first else { continue };
        let fits = first.current.is_some_and(|stays| {
            reference.is_some_and(|reference| reference == stays.id() || reference == stays.name())
        });
        if !fits {
            return Some(format!(
                "the container of {parent} that it lives with is replaced"
            ));
        }
    }
    None
}

/// Has the service a check, by itself or by its image? Absent: its image is not known.
pub(super) fn has_check(view: View<'_>, service: &Service) -> Option<bool> {
    match service.healthcheck.as_ref().map(|check| &check.test) {
        Some(HealthTest::Disabled) => Some(false),
        Some(HealthTest::Command(_) | HealthTest::Shell(_)) => Some(true),
        Some(HealthTest::Inherit) | None => image_of(view, service).map(ImageSeen::has_check),
    }
}

/// Has a container done all that it has to do? One with a temporary name has not: it was stopped
/// on its way out, and stays after all.
pub(super) fn is_done(view: View<'_>, slot: &Slot<'_>, seen: Seen<'_>) -> bool {
    let going = seen.is_temporary() && seen.name() != slot.name;
    is_task(view, slot.service) && seen.exit_code() == Some(0) && !going
}

/// Does a service end by itself?
pub(super) fn is_task(view: View<'_>, name: &str) -> bool {
    let Some(service) = view.stack.services.get(name) else {
        return false;
    };
    let awaited = topology::is_awaited(view.stack, name, Condition::Completed);
    let checked = has_check(view, service) == Some(true);
    topology::is_task(view.stack, name, service) && (awaited || !checked)
}

/// Networks that a container shall be on and is not.
pub(super) fn detached<'s>(slot: &'s Slot<'_>, seen: Seen<'_>) -> BTreeSet<&'s str> {
    let names = slot.spec.networks.iter().map(|(name, _)| name.as_str());
    names.filter(|name| !seen.is_on(name)).collect()
}
