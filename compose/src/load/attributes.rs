//! Every attribute of the Compose schema, and what becomes of it here.
//!
//! `docs/compose.md` is made from it, and a file is checked against it: what is refused or
//! unknown is an error by name, and nothing is left out in silence.

mod deploy;
mod needs;
mod service;
mod top;

use std::{collections::BTreeMap, sync::OnceLock};

pub use needs::{Need, needs};

use super::{
    interpolate::Findings,
    node::{Node, Value},
    problem::Problem,
};

/// What becomes of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what the specification says.
    Honoured,
    /// The same, on engines from this version of the API on; refused on older ones.
    HonouredFrom(&'static str),
    /// There is nothing in an Engine that it could change. It is taken, with a warning.
    NoEffect,
    /// An error where it is used.
    Refused,
}

/// An attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Such as `services.*.ports[].target`: `*` is a name of the author's, `[]` a list's item.
    pub path: &'static str,
    /// What becomes of it.
    pub support: Support,
    /// Where there is more to say; of what is refused: why, and what to do instead.
    pub note: &'static str,
}

const fn yes(path: &'static str) -> Attribute {
    Attribute {
        path,
        support: Support::Honoured,
        note: "",
    }
}

const fn noted(path: &'static str, note: &'static str) -> Attribute {
    Attribute {
        path,
        support: Support::Honoured,
        note,
    }
}

const fn from(path: &'static str, api: &'static str, note: &'static str) -> Attribute {
    Attribute {
        path,
        support: Support::HonouredFrom(api),
        note,
    }
}

const fn idle(path: &'static str, note: &'static str) -> Attribute {
    Attribute {
        path,
        support: Support::NoEffect,
        note,
    }
}

const fn no(path: &'static str, note: &'static str) -> Attribute {
    Attribute {
        path,
        support: Support::Refused,
        note,
    }
}

/// All of them, in the order of the document.
pub fn all() -> impl Iterator<Item = &'static Attribute> {
    top::TOP
        .iter()
        .chain(service::SERVICE)
        .chain(deploy::DEPLOY)
        .chain(top::RESOURCES)
}

/// The attributes as a tree by their steps.
#[derive(Default)]
struct Branch {
    attribute: Option<&'static Attribute>,
    below: BTreeMap<&'static str, Self>,
}

fn tree() -> &'static Branch {
    static TREE: OnceLock<Branch> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut root = Branch::default();
        for attribute in all() {
            let mut branch = &mut root;
            for step in attribute.path.split('.') {
                let (name, is_list) = match step.strip_suffix("[]") {
                    Some(name) => (name, true),
                    None => (step, false),
                };
                branch = branch.below.entry(name).or_default();
                if is_list {
                    branch = branch.below.entry("[]").or_default();
                }
            }
            branch.attribute = Some(attribute);
        }
        root
    })
}

/// Finds what is unknown, refused or without effect in a merged tree. In services that are not
/// active, only what is unknown.
pub(super) fn check(root: &Node, is_active: &dyn Fn(&str) -> bool, out: &mut Findings) {
    let walk = Walk { is_active };
    walk.map(root, tree(), &mut Vec::new(), out);
}

struct Walk<'a> {
    is_active: &'a dyn Fn(&str) -> bool,
}

impl Walk<'_> {
    fn map(&self, node: &Node, branch: &Branch, path: &mut Vec<String>, out: &mut Findings) {
        let Some(entries) = node.entries() else {
            return;
        };
        for (key, value) in entries {
            if out.is_full() {
                return;
            }
            let named = branch.below.get("*");
            let is_extension = named.is_none() && key.text.starts_with("x-");
            if is_extension {
                continue;
            }
            path.push(key.text.clone());
            match branch.below.get(key.text.as_str()).or(named) {
                Some(inner) => {
                    let shown = value.is_null() || self.judge(key, inner, path, out);
                    if shown {
                        self.below(value, inner, path, out);
                    }
                }
                None => unknown(key, branch, path, out),
            }
            path.pop();
        }
    }

    fn below(&self, node: &Node, branch: &Branch, path: &mut Vec<String>, out: &mut Findings) {
        if let (Value::List(items), Some(inner)) = (&node.value, branch.below.get("[]")) {
            let name = path.last().cloned().unwrap_or_default();
            for (at, item) in items.iter().enumerate() {
                if let Some(last) = path.last_mut() {
                    *last = format!("{name}[{at}]");
                }
                self.map(item, inner, path, out);
            }
            if let Some(last) = path.last_mut() {
                *last = name;
            }
        } else if !branch.below.is_empty() {
            self.map(node, branch, path, out);
        }
    }

    /// Is there any use in looking at what is below?
    fn judge(
        &self,
        key: &super::node::Key,
        branch: &Branch,
        path: &[String],
        out: &mut Findings,
    ) -> bool {
        let Some(attribute) = branch.attribute else {
            return true;
        };
        let is_service = path.first().is_some_and(|section| section == "services");
        let is_idle = is_service && path.get(1).is_some_and(|name| !(self.is_active)(name));
        match attribute.support {
            Support::Refused if is_idle => false,
            Support::Refused => {
                let message = format!("{} is refused: {}", key.text, attribute.note);
                out.refuse(Problem::new(&key.place, path.join("."), message));
                false
            }
            Support::NoEffect if !is_idle => {
                let message = format!("{} has no effect: {}", key.text, attribute.note);
                out.warn(Problem::new(&key.place, path.join("."), message));
                false
            }
            Support::Honoured | Support::HonouredFrom(_) | Support::NoEffect => true,
        }
    }
}

fn unknown(key: &super::node::Key, branch: &Branch, path: &[String], out: &mut Findings) {
    let known: Vec<&str> = branch.below.keys().copied().collect();
    let nearest = known
        .iter()
        .map(|name| (distance(name, &key.text), *name))
        .min();
    let help = match nearest {
        Some((far, name)) if far <= 2 && far < key.text.len() => format!("Did you mean {name}?"),
        _ if known.len() <= 12 => format!("It has {}", known.join(", ")),
        _ => "Take it out, or write x- in front of its name to keep a note".to_owned(),
    };
    let message = format!("{} is no attribute of Compose here", key.text);
    out.refuse(Problem::new(&key.place, path.join("."), message).help(help));
}

/// Letters to change, put in or take out; names are short, so the plain way does.
fn distance(a: &str, b: &str) -> usize {
    if b.len() > 40 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in b.iter().enumerate() {
            let above = row[j + 1];
            let changed = diagonal + usize::from(c != *d);
            row[j + 1] = changed.min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
