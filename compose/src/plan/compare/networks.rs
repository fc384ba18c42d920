//! The networks that a container is on.

use std::collections::BTreeSet;

use bollard_stubs::models::EndpointSettings;

use super::Differences;
use crate::plan::{
    observed::{Seen, fixed_addresses},
    spec::ContainerSpec,
};

pub(super) fn compare(found: &mut Differences, spec: &ContainerSpec, seen: Seen<'_>) {
    for (name, wanted) in &spec.networks {
        let field = format!("networks.{name}");
        match seen.networks().find(|(network, _)| network == name) {
            Some((_, has)) => endpoint(found, (spec, seen), (&field, name), (wanted, has)),
            None => found.add(&field, "attached", "(not attached)"),
        }
    }
    if spec.networks.is_empty() {
        return;
    }
    let known = |name: &str| spec.networks.iter().any(|(network, _)| network == name);
    let extra: BTreeSet<_> = seen.networks().map(|(name, _)| name).collect();
    for name in extra.into_iter().filter(|name| !known(name)) {
        found.add(&format!("networks.{name}"), "(not attached)", "attached");
    }
}

fn endpoint(
    found: &mut Differences,
    (spec, seen): (&ContainerSpec, Seen<'_>),
    (field, network): (&str, &str),
    (wanted, has): (&EndpointSettings, &EndpointSettings),
) {
    let hostname = seen
        .0
        .config
        .as_ref()
        .and_then(|config| config.hostname.as_ref());
    let aliases = |settings: &EndpointSettings| {
        let all = settings.aliases.iter().flatten().cloned();
        // The Engine resolves a container's own name, host name and id by itself.
        let own = |alias: &String| {
            let id = alias.len() >= 12 && seen.id().starts_with(alias.as_str());
            let host = hostname == Some(alias);
            *alias == spec.name || *alias == seen.name() || id || host
        };
        all.filter(|alias| !own(alias)).collect::<BTreeSet<_>>()
    };
    let (desired, observed) = (aliases(wanted), aliases(has));
    if desired != observed {
        let words = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
        found.add(
            &format!("{field}.aliases"),
            &words(desired),
            &words(observed),
        );
    }
    let addresses = |settings: &EndpointSettings| {
        let all: BTreeSet<_> = fixed_addresses(network, settings).map(|(_, a)| a).collect();
        all.into_iter().collect::<Vec<_>>().join(" ")
    };
    found.text(
        &format!("{field}.address"),
        &addresses(wanted),
        &addresses(has),
    );
    if let Some(mac) = &wanted.mac_address {
        let observed = has.mac_address.as_deref().unwrap_or_default();
        if !mac.eq_ignore_ascii_case(observed) {
            found.add(&format!("{field}.mac_address"), mac, observed);
        }
    }
}
