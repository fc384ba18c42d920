//! What somebody has changed by hand, field by field.

use bollard_stubs::models::ContainerStateStatusEnum;

use super::{
    Observed, Options, compare,
    decide::{self, Fleet, Slot, View},
    observed::Seen,
    topology,
};
use crate::{exchange::Drift, model::Stack};

/// Every field of containers, networks and volumes that is not as the stack has it. It says what
/// differs, whoever did it: ask for it while no deployment is going on.
#[must_use]
pub fn drift(stack: &Stack, observed: &Observed, options: &Options) -> Vec<Drift> {
    let view = View {
        stack,
        observed,
        options,
    };
    // A stack that cannot be planned was not deployed either.
    let order = topology::order(stack).unwrap_or_default();
    let mut obstacles = Vec::new();
    let fleet = decide::fleet(view, &order, &mut obstacles);
    let mut found = Vec::new();
    for slot in fleet.slots.values().flatten() {
        container(view, slot, &mut found);
    }
    strangers(&fleet, &mut found);
    let absent = |kind: &str, name: &String| Drift {
        service: String::new(),
        subject: name.clone(),
        field: kind.to_owned(),
        desired: "there".to_owned(),
        observed: "removed".to_owned(),
    };
    let networks = stack.networks.values().map(|network| &network.name);
    let networks = networks.filter(|name| observed.network(name).is_none());
    found.extend(networks.map(|name| absent("network", name)));
    let volumes = stack.volumes.values().map(|volume| &volume.name);
    let volumes = volumes.filter(|name| observed.volume(name).is_none());
    found.extend(volumes.map(|name| absent("volume", name)));
    found
}

fn container(view: View<'_>, slot: &Slot<'_>, found: &mut Vec<Drift>) {
    let mut add = |field: &str, desired: &str, observed: &str| {
        found.push(Drift {
            service: slot.service.to_owned(),
            subject: slot.name.clone(),
            field: field.to_owned(),
            desired: desired.to_owned(),
            observed: observed.to_owned(),
        });
    };
    let Some(seen) = slot.current.or_else(|| slot.olds.first().copied()) else {
        add("container", "there", "removed");
        return;
    };
    if seen.name() != slot.name {
        add("name", &slot.name, seen.name());
    }
    let status = seen.status();
    let paused = status == ContainerStateStatusEnum::PAUSED;
    if paused || !(seen.is_running() || decide::is_done(view, slot, seen)) {
        let state = match seen.exit_code() {
            Some(code) => format!("{status} with code {code}"),
            None => status.to_string(),
        };
        add("state", "running", &state);
    }
    let Some(service) = view.stack.services.get(slot.service) else {
        return;
    };
    let image = view.observed.images.get(seen.image_id());
    for difference in compare::differences(&slot.spec, service, seen, image) {
        add(&difference.field, &difference.desired, &difference.observed);
    }
}

/// Containers that nobody has asked for.
fn strangers(fleet: &Fleet<'_>, found: &mut Vec<Drift>) {
    let olds = fleet.slots.values().flatten().flat_map(|slot| {
        let shown = usize::from(slot.current.is_none());
        slot.olds.iter().skip(shown)
    });
    let all = olds.chain(&fleet.excess).chain(&fleet.orphans);
    found.extend(all.map(|seen: &Seen<'_>| Drift {
        service: seen.service().to_owned(),
        subject: seen.name().to_owned(),
        field: "container".to_owned(),
        desired: "not there".to_owned(),
        observed: seen.status().to_string(),
    }));
}
