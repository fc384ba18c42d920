//! Values as they were given, with where they stand; nothing is understood yet.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{
    Inputs,
    key::{KEYS, Key, OTHER_VARIABLES, VARIABLE_PREFIX},
};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File(PathBuf),
    Flag(&'static str),
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// All values as they were given, the strongest of each key, and what was given in vain.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) given: BTreeMap<&'static str, Given>,
    pub(super) mistakes: Vec<String>,
    pub(super) unknown_variables: Vec<String>,
}

impl Raw {
    /// Collects from the weakest source to the strongest.
    pub(super) fn collect(inputs: &Inputs) -> Self {
        let mut raw = Self::default();
        for key in KEYS {
            if let Some(default) = key.default {
                raw.put(key, default.to_owned(), Origin::Default);
            }
        }
        if let Some((path, text)) = &inputs.file {
            raw.take_file(path, text);
        }
        raw.take_variables(&inputs.variables);
        let flags = &inputs.flags;
        for (name, value) in [
            ("data_dir", &flags.data_dir),
            ("listen.https", &flags.https),
            ("listen.tunnel", &flags.tunnel),
            ("listen.metrics", &flags.metrics),
            ("public_name", &flags.public_name),
        ] {
            if let (Some(key), Some(value)) = (Key::find(name), value) {
                raw.put(
                    key,
                    value.clone(),
                    Origin::Flag(key.flag.unwrap_or(key.name)),
                );
            }
        }
        raw
    }

    fn put(&mut self, key: &'static Key, text: String, origin: Origin) {
        self.given.insert(key.name, Given { text, origin });
    }

    fn take_file(&mut self, path: &PathBuf, text: &str) {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(e) => {
                let cause = e.to_string();
                let cause = cause.trim_end().replace('\n', "\n    ");
                self.mistakes
                    .push(format!("{}: is not TOML: {cause}", path.display()));
                return;
            }
        };
        self.take_table(path, "", &table);
    }

    fn take_table(&mut self, path: &PathBuf, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            if let toml::Value::Table(inner) = value
                && Key::find(&name).is_none()
            {
                self.take_table(path, &format!("{name}."), inner);
                continue;
            }
            let Some(key) = Key::find(&name) else {
                let hint = nearest(&name);
                self.mistakes.push(format!(
                    "{}: there is no key `{name}`: did you mean `{}`?",
                    path.display(),
                    hint.name
                ));
                continue;
            };
            match scalar(value) {
                Some(text) => self.put(key, text, Origin::File(path.clone())),
                None => self.mistakes.push(format!(
                    "{}: `{name}` is {}: it must be one value",
                    path.display(),
                    value.type_str()
                )),
            }
        }
    }

    /// Unknown variables are told and not refused: Kubernetes makes variables out of
    /// the names of services, and a service called `sternline-relay` is likely.
    fn take_variables(&mut self, variables: &BTreeMap<String, String>) {
        for key in KEYS {
            let variable = key.variable();
            if let Some(value) = variables.get(&variable).filter(|value| !value.is_empty()) {
                self.put(key, value.clone(), Origin::Variable(variable));
            }
        }
        let is_unknown = |name: &str| {
            name.starts_with(VARIABLE_PREFIX)
                && !OTHER_VARIABLES.contains(&name)
                && KEYS.iter().all(|key| key.variable() != name)
        };
        self.unknown_variables = variables
            .keys()
            .filter(|name| is_unknown(name))
            .cloned()
            .collect();
    }
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// The key that a mistyped name is nearest to.
fn nearest(name: &str) -> &'static Key {
    let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    KEYS.iter()
        .min_by_key(|key| distance(name, key.name).min(distance(&last(name), &last(key.name)) + 1))
        .unwrap_or(&KEYS[0])
}

/// Levenshtein's distance: how many characters to change.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
