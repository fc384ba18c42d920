//! What a container is made from, as one number: SHA-256 over canonical JSON.
//!
//! Two requests with equal hashes make containers that differ in nothing but their name, their
//! number, their release and their image's id, which the plan compares apart. The values of
//! secret variables are not in it; their fingerprints are.

use std::collections::{BTreeMap, BTreeSet};

use bollard_stubs::models::{ContainerCreateBody, EndpointSettings};
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::spec::{Context, FileInto};
use crate::{
    load::secret,
    model::{MountKind, Service, ServiceScope, Shipped, Stack},
};

/// The hash of anything that has a canonical JSON.
pub(crate) fn of(thing: &impl Serialize) -> String {
    // What is hashed are our own types: maps with text for keys and no numbers that JSON lacks.
    digest(&serde_json::to_value(thing).unwrap_or(Value::Null))
}

fn digest(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// Sorted, without white space and without what is null: the same whatever the map was.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            out.push('{');
            let sorted: BTreeMap<_, _> = map.iter().filter(|(_, v)| !v.is_null()).collect();
            for (key, value) in sorted {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for value in list {
                canonical(value, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// The hash of one container of a service.
pub(crate) fn container(
    stack: &Stack,
    service: &Service,
    (body, networks, files): (
        &ContainerCreateBody,
        &[(String, EndpointSettings)],
        &[FileInto],
    ),
    context: &Context,
) -> String {
    let mut body = serde_json::to_value(body).unwrap_or(Value::Null);
    // The first network or all of them, as the API has it: listed below in any case.
    remove(&mut body, "NetworkingConfig");
    if let Some(Value::Object(host)) = body.get_mut("HostConfig") {
        settle(host, service, context);
    }
    let mut sources: BTreeSet<&str> = files.iter().map(|file| file.source.as_str()).collect();
    let shipped = |kind| matches!(kind, MountKind::Shipped);
    let mounted = service.mounts.iter().filter(|mount| shipped(mount.kind));
    sources.extend(mounted.filter_map(|mount| mount.source.as_deref()));
    if service.read_only {
        let all = service.configs.iter().chain(&service.secrets);
        sources.extend(all.map(|file| file.source.as_str()));
    }
    let contents: Map<_, _> = sources
        .into_iter()
        .map(|key| {
            let content = stack.files.get(key).map(content);
            (key.to_owned(), content.unwrap_or(Value::Null))
        })
        .collect();
    let copied = files
        .iter()
        .map(|f| json!([f.source, f.target, f.uid, f.gid, f.mode]));
    let mut whole = json!({
        "body": body,
        "labels": service.labels,
        "name": service.container_name,
        "platform": service.platform,
        "networks": networks.iter().map(endpoint).collect::<Vec<_>>(),
        "files": copied.collect::<Vec<_>>(),
        "contents": contents,
        "hooks": [service.post_start, service.pre_stop],
    });
    let used = fingerprints(&whole, context);
    if let Value::Object(map) = &mut whole {
        map.insert("secrets".to_owned(), used);
    }
    digest(&whole)
}

fn remove(value: &mut Value, key: &str) {
    if let Value::Object(map) = value {
        map.remove(key);
    }
}

/// Takes out what depends on where things happen to be: ids of other containers, and where
/// shipped files lie.
fn settle(host: &mut Map<String, Value>, service: &Service, context: &Context) {
    let namespaces = [
        ("NetworkMode", &service.network_mode),
        ("IpcMode", &service.ipc),
        ("PidMode", &service.pid),
    ];
    for (field, scope) in namespaces {
        if let Some(ServiceScope::Service(name)) = scope {
            host.insert(field.to_owned(), json!(format!("service:{name}")));
        }
    }
    if !service.volumes_from.is_empty() {
        host.insert("VolumesFrom".to_owned(), json!(service.volumes_from));
    }
    let Some(Value::Array(mounts)) = host.get_mut("Mounts") else {
        return;
    };
    let root = context.shipped_root.trim_end_matches('/');
    for mount in mounts {
        let Some(Value::String(source)) = mount.get("Source") else {
            continue;
        };
        let target = mount
            .get("Target")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let host_path = service
            .mounts
            .iter()
            .any(|mount| mount.kind == MountKind::Bind && mount.target == target);
        if let (false, Some(key)) = (host_path, source.strip_prefix(root)) {
            let key = key.to_owned();
            if let Value::Object(mount) = mount {
                mount.insert("Source".to_owned(), Value::from(key));
            }
        }
    }
}

/// A network without the container's own name among its aliases, which has its number in it.
fn endpoint((name, settings): &(String, EndpointSettings)) -> Value {
    let mut settings = settings.clone();
    if let Some(aliases) = &mut settings.aliases {
        aliases.drain(..1.min(aliases.len()));
    }
    json!([name, settings])
}

/// What stands for a shipped file: digests, and marks of secrets.
fn content(file: &Shipped) -> Value {
    match file {
        Shipped::File { digest, mode, .. } => json!([digest, mode]),
        Shipped::Folder { entries } => {
            let entry = |(path, file): (&String, &Shipped)| (path.clone(), content(file));
            Value::Object(entries.iter().map(entry).collect())
        }
        Shipped::Text { text } => Value::from(text.as_str()),
        Shipped::Secret { variable } => Value::from(secret::mark(variable)),
    }
}

/// The fingerprints of all secret variables that are named somewhere in it.
fn fingerprints(whole: &Value, context: &Context) -> Value {
    let mut names = BTreeSet::new();
    collect(whole, &mut names);
    let fingerprint = |name: String| {
        let fingerprint = context.fingerprints.get(&name).cloned();
        (name, fingerprint.map_or(Value::Null, Value::from))
    };
    Value::Object(names.into_iter().map(fingerprint).collect())
}

fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => names.extend(secret::names(text).map(str::to_owned)),
        Value::Array(list) => list.iter().for_each(|value| collect(value, names)),
        Value::Object(map) => map.values().for_each(|value| collect(value, names)),
        _ => {}
    }
}
