//! The customer's policy on a stack, before anything is touched.
//!
//! The requests that a plan would make are judged by the very rules that hold for requests
//! on a Docker stream (see [`judge`](crate::judge)), each member of a body by itself, so that
//! a person hears of everything that is refused at once.

use compose::plan::spec;
use serde::Serialize;
use serde_json::{Map, Value};

use super::site::Prepared;
use crate::{
    judge::{
        Denied,
        content::{image, judge},
        json::Json,
        operation::Look,
    },
    policy::{Access, DockerRules, Policy},
};

/// All that the policy refuses, a line each; nothing where it allows the stack.
pub fn refusals(policy: &Policy, prepared: &Prepared) -> Vec<String> {
    let rules = policy.docker();
    if rules.access == Access::Full {
        return Vec::new();
    }
    let Prepared { stack, options, .. } = prepared;
    let mut found = Vec::new();
    for (name, service) in &stack.services {
        if let Err(denied) = image(rules, &service.image) {
            found.push(format!("{name}: {denied}"));
        }
        // One that the Engine does not support is refused by the plan, with its reason.
        let Ok(made) = spec::container(stack, name, 1, &options.context) else {
            continue;
        };
        let root = format!("{}/", options.context.shipped_root);
        let mut body = value(&made.body);
        without_shipped(&mut body, &root);
        if let Some(body) = body.as_object_mut() {
            // Judged above, by its name.
            body.remove("Image");
        }
        found.extend(of_body(rules, Look::Container, &body).map(|d| format!("{name}: {d}")));
        let hooks = !service.post_start.is_empty() || !service.pre_stop.is_empty();
        if hooks && !rules.exec {
            found.push(format!(
                "{name}: hooks run commands in containers; the key is `docker.exec`"
            ));
        }
    }
    found.extend(of_objects(rules, prepared));
    found
}

fn of_objects(rules: &DockerRules, prepared: &Prepared) -> Vec<String> {
    let Prepared { stack, options, .. } = prepared;
    let networks = stack
        .networks
        .iter()
        .filter(|(_, network)| !network.external);
    let networks = networks.filter_map(|(key, _)| {
        let made = spec::network(stack, key, &options.context).ok()?;
        Some((format!("network {key}"), Look::Network, value(&made)))
    });
    let volumes = stack.volumes.iter().filter(|(_, volume)| !volume.external);
    let volumes = volumes.filter_map(|(key, _)| {
        let made = spec::volume(stack, key).ok()?;
        Some((format!("volume {key}"), Look::Volume, value(&made)))
    });
    let mut found = Vec::new();
    for (what, look, body) in networks.chain(volumes) {
        found.extend(of_body(rules, look, &body).map(|denied| format!("{what}: {denied}")));
    }
    found
}

/// Each member by itself; those of `HostConfig` too.
fn of_body<'a>(
    rules: &'a DockerRules,
    look: Look,
    body: &'a Value,
) -> impl Iterator<Item = Denied> + 'a {
    let members = body.as_object().into_iter().flatten();
    let single = move |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("HostConfig", Value::Object(host)) => {
            let inner = host
                .iter()
                .map(|(key, value)| object("HostConfig", object(key, value.clone())));
            inner.collect::<Vec<Value>>()
        }
        _ => vec![object(key, value.clone())],
    };
    members.flat_map(single).filter_map(move |part| {
        let json = serde_json::from_value::<Json>(part).unwrap_or(Json::Null);
        judge(rules, look, &json).err()
    })
}

/// Files of the release lie where the agent has put them: that is no path the vendor chose.
fn without_shipped(body: &mut Value, root: &str) {
    let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(Value::Array(binds)) = host.get_mut("Binds") {
        binds.retain(|bind| !bind.as_str().unwrap_or_default().starts_with(root));
    }
    if let Some(Value::Array(mounts)) = host.get_mut("Mounts") {
        mounts.retain(|mount| {
            let source = mount.get("Source").and_then(Value::as_str);
            !source.unwrap_or_default().starts_with(root)
        });
    }
}

fn object(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

fn value(body: &impl Serialize) -> Value {
    serde_json::to_value(body).unwrap_or(Value::Null)
}
