//! What is asked for and what is there, field by field, with what the image and the Engine put
//! in by themselves taken into account. For stacks that Docker's own tool has started, and for
//! what somebody changed by hand.

use std::collections::{BTreeMap, BTreeSet};

use bollard_stubs::models::ContainerConfig;
use serde_json::Value;

use super::{
    labels,
    observed::{ImageSeen, Seen},
    spec::ContainerSpec,
};
use crate::{load::secret, model::Service};

mod host;
mod mounts;
mod networks;

pub(crate) use mounts::missing as missing_mount;

/// One field that is not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// As the Compose file calls it, such as `environment.LEVEL`.
    pub field: String,
    /// What was asked for, secrets masked.
    pub desired: String,
    /// What is there.
    pub observed: String,
}

/// Collects differences.
#[derive(Debug, Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, field: &str, desired: &str, observed: &str) {
        // What is observed where a secret was asked for may be one.
        let observed = if secret::has_mark(desired) {
            "****"
        } else {
            observed
        };
        self.0.push(Difference {
            field: field.to_owned(),
            desired: secret::mask(desired),
            observed: observed.to_owned(),
        });
    }

    fn text(&mut self, field: &str, desired: &str, observed: &str) {
        if !matches(desired, observed) {
            self.add(field, desired, observed);
        }
    }

    fn value(&mut self, field: &str, desired: &Value, observed: &Value) {
        let (desired, observed) = (prune(desired), prune(observed));
        if !same(&desired, &observed) {
            self.add(field, &plain(&desired), &plain(&observed));
        }
    }
}

/// All differences between what is asked for and a container. `image` is the container's.
pub(crate) fn differences(
    spec: &ContainerSpec,
    service: &Service,
    seen: Seen<'_>,
    image: Option<&ImageSeen>,
) -> Vec<Difference> {
    let mut found = Differences::default();
    let none = ContainerConfig::default();
    let config = seen.0.config.as_ref().unwrap_or(&none);
    program(&mut found, spec, config, image);
    settings(&mut found, spec, config, image);
    environment(&mut found, spec, config, image);
    authors_labels(&mut found, service, config, image);
    health(&mut found, spec, config, image);
    if let (Some(desired), Some(observed)) = (&spec.body.host_config, &seen.0.host_config) {
        host::compare(&mut found, service, desired, observed);
    }
    mounts::compare(&mut found, spec, service, seen, image);
    networks::compare(&mut found, spec, seen);
    found.0
}

fn program(
    found: &mut Differences,
    spec: &ContainerSpec,
    config: &ContainerConfig,
    image: Option<&ImageSeen>,
) {
    let body = &spec.body;
    let of_image = |pick: fn(&ImageSeen) -> &Vec<String>| image.map(pick).cloned();
    let observed = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let entrypoint = body
        .entrypoint
        .clone()
        .or_else(|| of_image(|image| &image.entrypoint));
    if let Some(desired) = &entrypoint {
        found.value(
            "entrypoint",
            &list(desired),
            &list(&observed(&config.entrypoint)),
        );
    }
    let given = body.cmd.clone().filter(|words| !words.is_empty());
    let inherited = || match &body.entrypoint {
        // A new program does not get the arguments of the old one.
        Some(words) if !words.is_empty() => Some(Vec::new()),
        _ => of_image(|image| &image.cmd),
    };
    if let Some(desired) = given.or_else(inherited) {
        found.value("command", &list(&desired), &list(&observed(&config.cmd)));
    }
}

/// Users, folders, signals and terminals.
fn settings(
    found: &mut Differences,
    spec: &ContainerSpec,
    config: &ContainerConfig,
    image: Option<&ImageSeen>,
) {
    let body = &spec.body;
    let of_image = |pick: fn(&ImageSeen) -> &String| image.map(pick);
    for (field, given, default, observed) in [
        (
            "user",
            &body.user,
            of_image(|image| &image.user),
            &config.user,
        ),
        (
            "working_dir",
            &body.working_dir,
            of_image(|image| &image.working_dir),
            &config.working_dir,
        ),
        (
            "stop_signal",
            &body.stop_signal,
            of_image(|image| &image.stop_signal),
            &config.stop_signal,
        ),
    ] {
        let Some(desired) = given.as_ref().or(default) else {
            continue;
        };
        let observed = observed.as_deref().unwrap_or_default();
        // Older Engines write their defaults out.
        let default = matches!(observed, "SIGTERM" | "/") && desired.is_empty();
        let same = default || (field == "stop_signal" && same_signal(desired, observed));
        if !same {
            found.text(field, desired, observed);
        }
    }
    for (field, desired, observed) in [
        ("hostname", &body.hostname, &config.hostname),
        ("domainname", &body.domainname, &config.domainname),
    ] {
        if let Some(desired) = desired {
            found.text(field, desired, observed.as_deref().unwrap_or_default());
        }
    }
    for (field, desired, observed) in [
        ("tty", body.tty, config.tty),
        ("stdin_open", body.open_stdin, config.open_stdin),
    ] {
        found.value(field, &desired.into(), &observed.into());
    }
    // Docker's older tool gives the time with each stop, and not to the container.
    if let (Some(desired), Some(observed)) = (body.stop_timeout, config.stop_timeout) {
        found.value("stop_grace_period", &desired.into(), &observed.into());
    }
    exposed(found, spec, config, image);
}

fn same_signal(a: &str, b: &str) -> bool {
    a.trim_start_matches("SIG") == b.trim_start_matches("SIG")
}

fn exposed(
    found: &mut Differences,
    spec: &ContainerSpec,
    config: &ContainerConfig,
    image: Option<&ImageSeen>,
) {
    let mut desired: BTreeSet<_> = spec.body.exposed_ports.iter().flatten().cloned().collect();
    desired.extend(
        image
            .into_iter()
            .flat_map(|image| image.exposed_ports.iter().cloned()),
    );
    let observed: BTreeSet<_> = config.exposed_ports.iter().flatten().cloned().collect();
    let missing: Vec<_> = desired.difference(&observed).cloned().collect();
    if !missing.is_empty() {
        found.add("expose", &missing.join(" "), "");
    }
    let extra: Vec<_> = observed.difference(&desired).cloned().collect();
    if image.is_some() && !extra.is_empty() {
        found.add("expose", "", &extra.join(" "));
    }
}

fn environment(
    found: &mut Differences,
    spec: &ContainerSpec,
    config: &ContainerConfig,
    image: Option<&ImageSeen>,
) {
    let inherited = image.map(|image| variables(&image.env)).unwrap_or_default();
    let given = spec.body.env.as_deref().unwrap_or_default();
    let desired = variables(given);
    let removed: BTreeSet<_> = given.iter().filter(|entry| !entry.contains('=')).collect();
    let observed = variables(config.env.as_deref().unwrap_or_default());
    for (name, value) in inherited
        .iter()
        .filter(|(name, _)| !desired.contains_key(*name))
    {
        let gone = removed.iter().any(|removed| removed == name);
        if !gone && observed.get(name) != Some(value) {
            let has = observed.get(name).copied().unwrap_or("(not set)");
            found.add(&format!("environment.{name}"), value, has);
        }
    }
    for (name, value) in &desired {
        match observed.get(name) {
            Some(has) => found.text(&format!("environment.{name}"), value, has),
            None => found.add(&format!("environment.{name}"), value, "(not set)"),
        }
    }
    for name in observed.keys().filter(|name| !desired.contains_key(*name)) {
        // The Engine adds PATH by itself; and what an unknown image brings is not a difference.
        if image.is_some() && *name != "PATH" && !inherited.contains_key(name) {
            found.add(&format!("environment.{name}"), "(not set)", "(set)");
        }
    }
}

fn variables(list: &[String]) -> BTreeMap<&str, &str> {
    list.iter()
        .filter_map(|entry| entry.split_once('='))
        .collect()
}

fn authors_labels(
    found: &mut Differences,
    service: &Service,
    config: &ContainerConfig,
    image: Option<&ImageSeen>,
) {
    let observed = config.labels.clone().unwrap_or_default();
    for (name, value) in &service.labels {
        let has = observed.get(name).map_or("(not set)", String::as_str);
        found.text(&format!("labels.{name}"), value, has);
    }
    let Some(image) = image else { return };
    let unknown = |name: &&String| {
        let known = service.labels.contains_key(*name) || image.labels.contains_key(*name);
        !known && !labels::is_reserved(name)
    };
    for name in observed.keys().filter(unknown).collect::<BTreeSet<_>>() {
        let has = observed.get(name).map_or("", String::as_str);
        found.add(&format!("labels.{name}"), "(not set)", has);
    }
}

fn health(
    found: &mut Differences,
    spec: &ContainerSpec,
    config: &ContainerConfig,
    image: Option<&ImageSeen>,
) {
    let mut desired = spec.body.healthcheck.clone().unwrap_or_default();
    let inherited = image.and_then(|image| image.healthcheck.clone());
    if desired.test.is_none() && image.is_none() {
        return;
    }
    if let Some(inherited) = inherited.filter(|_| desired.test.as_deref() != Some(&none_test())) {
        desired.test = desired.test.or(inherited.test);
        desired.interval = desired.interval.or(inherited.interval);
        desired.timeout = desired.timeout.or(inherited.timeout);
        desired.retries = desired.retries.or(inherited.retries);
        desired.start_period = desired.start_period.or(inherited.start_period);
        desired.start_interval = desired.start_interval.or(inherited.start_interval);
    }
    let desired = serde_json::to_value(desired).unwrap_or(Value::Null);
    let observed = serde_json::to_value(&config.healthcheck).unwrap_or(Value::Null);
    for (field, name) in [
        ("Test", "healthcheck.test"),
        ("Interval", "healthcheck.interval"),
        ("Timeout", "healthcheck.timeout"),
        ("Retries", "healthcheck.retries"),
        ("StartPeriod", "healthcheck.start_period"),
        ("StartInterval", "healthcheck.start_interval"),
    ] {
        found.value(name, &desired[field], &observed[field]);
    }
}

fn none_test() -> [String; 1] {
    ["NONE".to_owned()]
}

fn list(words: &[String]) -> Value {
    Value::from(words)
}

/// Is this text what was asked for? Where the mark of a secret variable stands, anything may be.
fn matches(desired: &str, observed: &str) -> bool {
    let mut names = secret::names(desired).peekable();
    if names.peek().is_none() {
        return desired == observed;
    }
    let (mut pattern, mut rest) = (desired, observed);
    for (index, name) in names.enumerate() {
        let Some((literal, after)) = pattern.split_once(&secret::mark(name)) else {
            return false;
        };
        let at = match index {
            0 => rest.starts_with(literal).then_some(0),
            _ => rest.find(literal),
        };
        let Some(at) = at else { return false };
        rest = &rest[at + literal.len()..];
        pattern = after;
    }
    rest.ends_with(pattern)
}

fn same(desired: &Value, observed: &Value) -> bool {
    match (desired, observed) {
        (Value::String(a), Value::String(b)) => matches(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let equal = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| same(a, b));
            a.len() == b.len() && a.iter().all(equal)
        }
        (a, b) => a == b,
    }
}

/// Without all that says nothing: null, zero, `false`, and what is empty.
fn prune(value: &Value) -> Value {
    let pruned = match value {
        Value::Array(list) => Value::Array(list.iter().map(prune).collect()),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), prune(value)))
                .filter(|(_, value)| !value.is_null())
                .collect(),
        ),
        other => other.clone(),
    };
    let empty = match &pruned {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Null => true,
    };
    if empty { Value::Null } else { pruned }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "(default)".to_owned(),
        other => other.to_string(),
    }
}
