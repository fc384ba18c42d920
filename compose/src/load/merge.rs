//! One file over another, by the rules of the specification.
//!
//! What has to be unique by a key (ports, volumes, devices, configs, secrets) is appended here
//! like any list; `read` keeps the last of equal keys, in the place of the first, once short
//! forms are written out.

use super::{
    node::{Key, Node, Tag, Value},
    problem::Problem,
    yaml::crowded,
};

/// How an attribute is merged, where it is not by what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Maps deep, lists appended, scalars replaced.
    ByKind,
    /// The later one.
    Replace,
    /// `KEY: VALUE` or `KEY=VALUE`: by key.
    Pairs,
    /// A list of names or a map: by name.
    Names,
    /// The same, where a name alone means defaults.
    Dependencies,
    /// One or a list: appended.
    Append,
    /// `HOST: ADDRESS` or a list: appended, each once.
    Hosts,
    /// Options only within one driver.
    Logging,
    /// A number or a map: maps deep, otherwise the later one.
    Limit,
    /// By subnet.
    Pools,
}

/// The rule of a path; the top is the empty one.
fn rule(path: &[&str]) -> Rule {
    match path {
        ["networks" | "volumes" | "configs" | "secrets", _, "labels"] => Rule::Pairs,
        ["networks", _, "ipam", "config"] => Rule::Pools,
        ["services", _, rest @ ..] => match rest {
            ["command" | "entrypoint"] | ["healthcheck", "test"] => Rule::Replace,
            ["annotations" | "environment" | "labels" | "sysctls"]
            | ["deploy", "labels"]
            | ["build", "args" | "labels" | "additional_contexts"] => Rule::Pairs,
            ["networks" | "models"] => Rule::Names,
            ["depends_on"] => Rule::Dependencies,
            ["dns" | "dns_opt" | "dns_search" | "env_file" | "label_file" | "tmpfs"] => {
                Rule::Append
            }
            ["extra_hosts"] => Rule::Hosts,
            ["logging"] => Rule::Logging,
            ["ulimits", _] => Rule::Limit,
            _ => Rule::ByKind,
        },
        _ => Rule::ByKind,
    }
}

/// Takes out of `base` whatever `over` has a tag for.
pub(super) fn apply_tags(base: &mut Node, over: &Node) {
    let Some(entries) = over.entries() else {
        return;
    };
    for (key, value) in entries {
        if value.tag != Tag::None {
            base.take(&key.text);
        } else if let Some(inner) = base.get_mut(&key.text) {
            apply_tags(inner, value);
        }
    }
}

/// Takes tags away, and what is only there to reset something.
pub(super) fn strip(node: &mut Node) {
    node.tag = Tag::None;
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|(_, value)| value.tag != Tag::Reset);
            entries.iter_mut().for_each(|(_, value)| strip(value));
        }
        Value::List(items) => {
            items.retain(|item| item.tag != Tag::Reset);
            items.iter_mut().for_each(strip);
        }
        Value::Null | Value::Scalar(..) => {}
    }
}

/// Merges `over` into `base`, both at `path`.
///
/// # Errors
///
/// They are of different kinds.
pub(super) fn merge(base: Node, over: Node, path: &[&str]) -> Result<Node, Problem> {
    match over.tag {
        Tag::Reset => return Ok(Node::new(&over.place, Value::Null)),
        Tag::Override => return Ok(stripped(over)),
        Tag::None => {}
    }
    match rule(path) {
        Rule::ByKind => by_kind(base, over, path),
        Rule::Replace if over.is_null() => Ok(base),
        Rule::Replace => Ok(stripped(over)),
        Rule::Pairs => by_kind(pairs(base), pairs(over), path),
        Rule::Names => by_kind(names(base, false), names(over, false), path),
        Rule::Dependencies => by_kind(names(base, true), names(over, true), path),
        Rule::Append => by_kind(listed(base), listed(over), path),
        Rule::Hosts => {
            let mut merged = by_kind(hosts(base), hosts(over), path)?;
            if let Value::List(items) = &mut merged.value {
                unique(items);
            }
            Ok(merged)
        }
        Rule::Logging => {
            let driver = |node: &Node| node.get("driver").and_then(Node::scalar);
            let (ours, theirs) = (driver(&base), driver(&over));
            if ours.is_some() && theirs.is_some() && ours != theirs {
                return Ok(stripped(over));
            }
            by_kind(base, over, path)
        }
        Rule::Limit => match (&base.value, &over.value) {
            (Value::Map(_), Value::Map(_)) => by_kind(base, over, path),
            (_, Value::Null) => Ok(base),
            _ => Ok(stripped(over)),
        },
        Rule::Pools => pools(base, over, path),
    }
}

fn stripped(mut node: Node) -> Node {
    strip(&mut node);
    node
}

fn by_kind(base: Node, over: Node, path: &[&str]) -> Result<Node, Problem> {
    let (place, value) = match (base.value, over.value) {
        (value, Value::Null) => (base.place, value),
        (Value::Null, value) => {
            let whole = Node {
                place: over.place,
                tag: Tag::None,
                value,
            };
            return Ok(stripped(whole));
        }
        (Value::Map(mut entries), Value::Map(further)) => {
            for (key, value) in further {
                put(&mut entries, key, value, path)?;
            }
            (base.place, Value::Map(entries))
        }
        (Value::List(mut items), Value::List(further)) => {
            items.extend(
                further
                    .into_iter()
                    .filter(|i| i.tag != Tag::Reset)
                    .map(stripped),
            );
            (base.place, Value::List(items))
        }
        (Value::Scalar(..), Value::Scalar(text, kind)) => (over.place, Value::Scalar(text, kind)),
        (ours, theirs) => {
            let was = Node::new(&base.place, ours).what();
            let node = Node::new(&over.place, theirs);
            let message = format!("is {} here, and {was} in {}", node.what(), base.place);
            let help = "Write both in the same form, or put !override in front of this one";
            return Err(Problem::new(&over.place, path.join("."), message).help(help));
        }
    };
    let merged = Node::new(&place, value);
    crowded(&merged)?;
    Ok(merged)
}

fn put(
    entries: &mut Vec<(Key, Node)>,
    key: Key,
    value: Node,
    path: &[&str],
) -> Result<(), Problem> {
    let Some(at) = entries.iter().position(|(k, _)| k.text == key.text) else {
        if value.tag != Tag::Reset {
            entries.push((key, stripped(value)));
        }
        return Ok(());
    };
    if value.tag == Tag::Reset {
        entries.remove(at);
        return Ok(());
    }
    let mut inner: Vec<&str> = path.to_vec();
    inner.push(&key.text);
    let place = value.place.clone();
    let kept = std::mem::replace(&mut entries[at].1, Node::new(&place, Value::Null));
    entries[at].1 = merge(kept, value, &inner)?;
    Ok(())
}

/// `[A=b, C]` as `{A: b, C: null}`; of equal keys the last.
fn pairs(node: Node) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let mut entries: Vec<(Key, Node)> = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item.scalar() else {
            // Not a pair: `read` says so, at its place.
            entries.push((key(&item, "?"), item));
            continue;
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Node::text(&item.place, value)),
            None => (text.as_str(), Node::new(&item.place, Value::Null)),
        };
        let value = Node {
            tag: item.tag,
            ..value
        };
        match entries.iter_mut().find(|(kept, _)| kept.text == name) {
            Some(kept) => kept.1 = value,
            None => entries.push((key(&item, name), value)),
        }
    }
    Node {
        value: Value::Map(entries),
        ..node
    }
}

fn key(node: &Node, text: &str) -> Key {
    Key {
        text: text.to_owned(),
        place: node.place.clone(),
    }
}

/// `[a, b]` as `{a: null, b: null}`; dependencies get what a name alone means.
fn names(node: Node, are_dependencies: bool) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let entries = items.into_iter().map(|item| {
        let Some(name) = item.scalar() else {
            return (key(&item, "?"), item);
        };
        let name = key(&item, &name);
        let value = if are_dependencies {
            let condition = Node::text(&item.place, "service_started");
            Value::Map(vec![(key(&item, "condition"), condition)])
        } else {
            Value::Null
        };
        (name, Node { value, ..item })
    });
    Node {
        value: Value::Map(entries.collect()),
        ..node
    }
}

/// One as a list of one.
fn listed(node: Node) -> Node {
    if !matches!(node.value, Value::Scalar(..)) {
        return node;
    }
    let (place, tag) = (node.place.clone(), node.tag);
    Node {
        place,
        tag,
        value: Value::List(vec![Node {
            tag: Tag::None,
            ..node
        }]),
    }
}

/// `{host: address}` as `[host=address]`.
fn hosts(node: Node) -> Node {
    let Value::Map(entries) = node.value else {
        return node;
    };
    let mut items = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let addresses = match value.value {
            Value::List(addresses) => addresses,
            _ => vec![value],
        };
        for address in addresses {
            let text = address.scalar().unwrap_or_default();
            items.push(Node::text(&key.place, format!("{}={text}", key.text)));
        }
    }
    Node {
        value: Value::List(items),
        ..node
    }
}

fn unique(items: &mut Vec<Node>) {
    let mut seen: Vec<Option<String>> = Vec::with_capacity(items.len());
    items.retain(|item| {
        let text = item.scalar();
        let is_new = text.is_none() || !seen.contains(&text);
        seen.push(text);
        is_new
    });
}

fn pools(base: Node, over: Node, path: &[&str]) -> Result<Node, Problem> {
    let (Value::List(mut ours), Value::List(theirs)) = (base.value, over.value) else {
        let message = "has to be a list in both files";
        return Err(Problem::new(&over.place, path.join("."), message));
    };
    let subnet = |node: &Node| node.get("subnet").and_then(Node::scalar);
    for pool in theirs {
        let same = ours.iter().position(|kept| subnet(kept) == subnet(&pool));
        match same {
            Some(at) => {
                let kept = ours.remove(at);
                ours.insert(at, by_kind(kept, pool, path)?);
            }
            None => ours.push(stripped(pool)),
        }
    }
    Ok(Node::new(&base.place, Value::List(ours)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::{problem::Origin, yaml::parse};
    use super::*;

    fn node(text: &str) -> Node {
        let origin = Arc::new(Origin {
            file: "compose.yml".to_owned(),
            base: String::new(),
        });
        parse(text, &origin).unwrap().remove(0)
    }

    fn any_map() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![Just("1".to_owned()), Just("x".to_owned())];
        scalar.prop_recursive(4, 24, 4, |inner| {
            proptest::collection::btree_map("[a-e]", inner, 1..4).prop_map(|map| {
                let entries: Vec<String> = map
                    .iter()
                    .map(|(key, value)| format!("{key}: {value}"))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            })
        })
    }

    proptest! {
        #[test]
        fn maps_merged_over_themselves_stay_as_they_are(text in any_map()) {
            let one = node(&format!("services: {{web: {{x: {text}}}}}"));
            prop_assert_eq!(merge(one.clone(), one.clone(), &[]).unwrap(), one);
        }
    }

    #[test]
    fn maps_and_scalars_of_different_kinds_are_refused_with_both_places() {
        let problem = merge(node("a: 1"), node("a: {b: 1}"), &[]).unwrap_err();
        assert!(problem.to_string().contains("compose.yml:1:4"), "{problem}");
    }
}
