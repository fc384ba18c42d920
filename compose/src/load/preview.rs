//! A stack as a person may read it: in the words of Compose, every short form written out, and
//! secrets masked.

mod service;
mod yaml;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::secret;
use crate::model::{Network, Shipped, Stack, Volume};

/// The stack as YAML.
#[must_use]
pub fn preview(stack: &Stack) -> String {
    yaml::write(&compose(stack))
}

/// The stack as a Compose file in JSON, with secrets masked.
#[must_use]
pub fn compose(stack: &Stack) -> Value {
    let mut top = Map::new();
    put(&mut top, "name", json!(stack.name));
    let services = stack
        .services
        .iter()
        .map(|(name, one)| (name.clone(), service::service(one)));
    put(&mut top, "services", Value::Object(services.collect()));
    put(&mut top, "networks", each(&stack.networks, network));
    put(&mut top, "volumes", each(&stack.volumes, volume));
    for section in ["config", "secret"] {
        let prefix = format!("{section}:");
        let named = stack.files.iter().filter_map(|(key, file)| {
            let name = key.strip_prefix(&prefix)?;
            Some((name.to_owned(), content(file)))
        });
        put(
            &mut top,
            &format!("{section}s"),
            Value::Object(named.collect()),
        );
    }
    let shipped = stack.files.iter().filter_map(|(key, file)| {
        let path = key.strip_prefix("file:")?;
        Some((path.to_owned(), content(file)))
    });
    put(&mut top, "x-files", Value::Object(shipped.collect()));
    masked(Value::Object(top))
}

/// `****NAME****` in place of each secret.
fn masked(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(secret::mask(&text)),
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::Object(entries) => {
            let entries = entries.into_iter();
            Value::Object(entries.map(|(key, inner)| (key, masked(inner))).collect())
        }
        other => other,
    }
}

fn each<T>(all: &BTreeMap<String, T>, one: fn(&T) -> Value) -> Value {
    Value::Object(
        all.iter()
            .map(|(key, value)| (key.clone(), one(value)))
            .collect(),
    )
}

/// Leaves out what is empty.
fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    let is_empty = match &value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(_) | Value::String(_) => false,
    };
    if !is_empty {
        map.insert(key.to_owned(), value);
    }
}

fn network(network: &Network) -> Value {
    let mut map = Map::new();
    put(&mut map, "name", json!(network.name));
    put(&mut map, "external", json!(network.external));
    put(&mut map, "driver", json!(network.driver));
    put(&mut map, "driver_opts", json!(network.driver_opts));
    put(&mut map, "internal", json!(network.internal));
    put(&mut map, "attachable", json!(network.attachable));
    if let Some(flag) = network.enable_ipv4 {
        map.insert("enable_ipv4".to_owned(), json!(flag));
    }
    if let Some(flag) = network.enable_ipv6 {
        map.insert("enable_ipv6".to_owned(), json!(flag));
    }
    let mut ipam = Map::new();
    put(&mut ipam, "driver", json!(network.ipam_driver));
    put(&mut ipam, "options", json!(network.ipam_options));
    put(&mut ipam, "config", json!(network.ipam_config));
    put(&mut map, "ipam", Value::Object(ipam));
    put(&mut map, "labels", json!(network.labels));
    Value::Object(map)
}

fn volume(volume: &Volume) -> Value {
    let mut map = Map::new();
    put(&mut map, "name", json!(volume.name));
    put(&mut map, "external", json!(volume.external));
    put(&mut map, "driver", json!(volume.driver));
    put(&mut map, "driver_opts", json!(volume.driver_opts));
    put(&mut map, "labels", json!(volume.labels));
    Value::Object(map)
}

fn content(file: &Shipped) -> Value {
    match file {
        Shipped::File { digest, size, mode } => {
            json!({"digest": digest, "size": size, "mode": format!("{mode:04o}")})
        }
        Shipped::Folder { entries } => each(entries, content),
        Shipped::Text { text } => json!({"content": text}),
        Shipped::Secret { variable } => json!({"environment": variable}),
    }
}

/// Nanoseconds as Go prints them: `1m30s`.
fn duration(nanos: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < SECOND {
        let (unit, name) = match nanos {
            1_000_000.. => (1_000_000, "ms"),
            1_000.. => (1_000, "µs"),
            _ => (1, "ns"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let (hours, rest) = (nanos / (3600 * SECOND), nanos % (3600 * SECOND));
    let (minutes, rest) = (rest / (60 * SECOND), rest % (60 * SECOND));
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&format!("{}s", decimal(rest, SECOND)));
    text
}

/// A number of units, exactly.
fn decimal(number: i64, unit: i64) -> String {
    let (whole, mut rest) = (number / unit, number % unit);
    let mut text = whole.to_string();
    let mut place = unit / 10;
    if rest > 0 {
        text.push('.');
    }
    while rest > 0 && place > 0 {
        text.push_str(&(rest / place).to_string());
        rest %= place;
        place /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let durations = [
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (2_500_000_000, "2.5s"),
            (20_000_000, "20ms"),
            (1_500, "1.5µs"),
            (0, "0s"),
        ];
        for (nanos, text) in durations {
            assert_eq!(duration(nanos), text);
        }
    }
}
