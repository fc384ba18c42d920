//! Whether a scenario makes sense: every mistake at once, each with its line, its column
//! and what to do.
//!
//! Mistakes of form and of meaning are looked for together: what could not be read is
//! blank, and blanks are not complained about a second time.

mod boxes;
mod expectations;
mod programs;
mod timeline;
mod wiring;

use crate::{
    limits,
    model::{Role, Scenario, TargetKind},
    term::{Mistake, Name, Place, Reader, nearest},
};

/// Reads and checks a scenario.
///
/// # Errors
///
/// Every mistake there is, in the order of the file.
pub fn check(text: &str) -> Result<Scenario, Vec<Mistake>> {
    if text.len() > limits::SCENARIO_BYTES_MAX {
        return Err(vec![Mistake {
            line: 1,
            column: 1,
            problem: format!(
                "a scenario has at most {} bytes, this one has {}",
                limits::SCENARIO_BYTES_MAX,
                text.len()
            ),
        }]);
    }
    let (scenario, mut reader) = Scenario::read(text);
    examine(&scenario, &mut reader);
    if reader.is_clean() {
        Ok(scenario)
    } else {
        Err(reader.mistakes())
    }
}

/// Reports what does not make sense in a scenario that was read.
pub(crate) fn examine(scenario: &Scenario, reader: &mut Reader<'_>) {
    whole(scenario, reader);
    boxes::check(scenario, reader);
    programs::check(scenario, reader);
    timeline::check(scenario, reader);
    expectations::check(scenario, reader);
    wiring::check(scenario, reader);
}

/// What is true of a scenario as a whole: names are unique, and there is somebody in it.
fn whole(scenario: &Scenario, reader: &mut Reader<'_>) {
    let file = 0..0;
    let is_there = |role| scenario.hosts.iter().any(|host| host.runs == role);
    for role in [Role::Relay, Role::Agent] {
        if !is_there(role) && reader.is_clean() {
            reader.report(
                &file,
                format!("no host runs the {role}: add `[[host]]` with `runs = \"{role}\"`"),
            );
        }
    }
    if scenario.observed.is_empty() && reader.is_clean() {
        reader.report(
            &file,
            "`observed` is empty: say who saw such a network, or where",
        );
    }
    if scenario.duration.get().is_zero() && !scenario.duration.place().is_empty() {
        reader.report(
            &scenario.duration.place(),
            "a run that lasts no time shows nothing; give it some",
        );
    }
    let mut seen: Vec<&Name> = Vec::new();
    for (name, place) in names(scenario) {
        if scenario.copy(name).is_some() || scenario.is_copy_of_cable(name) {
            let problem = format!("the name `{name}` is that of a copy of another thing");
            reader.report(&place, problem);
        }
        unless_taken(&seen, (name, place), reader);
        seen.push(name);
    }
    // Events may share a name: repetitions do, and an expectation means all of them.
    for name in scenario
        .events
        .iter()
        .filter_map(|event| event.name.as_ref())
    {
        unless_taken(&seen, (name, name.place()), reader);
    }
}

fn unless_taken(taken: &[&Name], (name, place): (&Name, Place), reader: &mut Reader<'_>) {
    if taken.contains(&name) && !name.is_blank() {
        let problem = format!("the name `{name}` is taken; every name stands for one thing");
        reader.report(&place, problem);
    }
}

/// Every name of a thing, in the order of kinds.
fn names(scenario: &Scenario) -> Vec<(&Name, Place)> {
    let hosts = scenario.hosts.iter().map(|host| &host.name);
    let cables = scenario.cables.iter().map(|cable| &cable.name);
    let edges = scenario.edges.iter().map(|edge| &edge.name);
    let proxies = scenario.proxies.iter().map(|proxy| &proxy.name);
    let vpns = scenario.vpns.iter().map(|vpn| &vpn.name);
    hosts
        .chain(cables)
        .chain(edges)
        .chain(proxies)
        .chain(vpns)
        .map(|name| (&**name, name.place()))
        .collect()
}

/// Names of one kind of thing.
fn names_of(scenario: &Scenario, kind: TargetKind) -> Vec<&str> {
    let named: Vec<&Name> = match kind {
        TargetKind::Host => scenario.hosts.iter().map(|host| &*host.name).collect(),
        TargetKind::Cable => scenario.cables.iter().map(|cable| &*cable.name).collect(),
        TargetKind::Edge => scenario.edges.iter().map(|edge| &*edge.name).collect(),
        TargetKind::Proxy => scenario.proxies.iter().map(|proxy| &*proxy.name).collect(),
        TargetKind::Vpn => scenario.vpns.iter().map(|vpn| &*vpn.name).collect(),
    };
    named.into_iter().map(Name::as_str).collect()
}

/// Whether one copy of several is meant.
fn is_copy(scenario: &Scenario, kind: TargetKind, name: &Name) -> bool {
    match kind {
        TargetKind::Host => scenario.copy(name).is_some(),
        TargetKind::Cable => scenario.is_copy_of_cable(name),
        TargetKind::Edge | TargetKind::Vpn | TargetKind::Proxy => false,
    }
}

/// Reports a name that stands for nothing of its kind.
fn must_exist(
    scenario: &Scenario,
    kind: TargetKind,
    (name, place): (&Name, Place),
    reader: &mut Reader<'_>,
) {
    let known = names_of(scenario, kind);
    if name.is_blank() || known.contains(&name.as_str()) {
        return;
    }
    let what = kind.as_str();
    let one = kind.with_article();
    let others = [
        TargetKind::Host,
        TargetKind::Cable,
        TargetKind::Edge,
        TargetKind::Proxy,
        TargetKind::Vpn,
    ];
    let other = others
        .into_iter()
        .find(|other| names_of(scenario, *other).contains(&name.as_str()));
    let advice = match (other, nearest(name.as_str(), &known)) {
        (Some(other), _) => format!("`{name}` is {}, not {one}", other.with_article()),
        (None, Some(near)) => format!("unknown {what} `{name}`; did you mean `{near}`?"),
        (None, None) if known.is_empty() => {
            format!("unknown {what} `{name}`; this scenario has none")
        }
        (None, None) => format!("unknown {what} `{name}`; it is one of {}", known.join(", ")),
    };
    reader.report(&place, advice);
}

#[cfg(test)]
mod tests;
