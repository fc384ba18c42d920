//! Reading the policy's text: every mistake at once, each with its line.

use std::ops::RangeInclusive;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Access, DockerRules, Entry, Limits, Policy, PolicyError, Rate,
    docker::{self, BindMount},
    limits::Limited,
    place::parse_ports,
};
use crate::strict_toml::{Document, Mistake, alternatives, kind};

/// Entries of one list; beyond it something wider is meant and should be written so.
const ENTRIES_MAX: usize = 1_000;

/// A value, where it stands.
type Value<'a> = Spanned<DeValue<'a>>;

const TABLES: [&str; 3] = ["docker", "limits", "targets"];
const TARGETS: [&str; 2] = ["docker", "tcp"];
const LIMITS: [&str; 4] = [
    "bytes_per_second",
    "streams",
    "streams_per_minute",
    "target_bytes_per_second",
];
/// What `read-only` knows of `[docker]`: anything else would allow a change.
const READ_ONLY: [&str; 2] = ["exec", "files"];
const DOCKER: [&str; 14] = [
    "access",
    "bind_mounts",
    "build",
    "capabilities",
    "devices",
    "exec",
    "files",
    "host_namespaces",
    "log_drivers",
    "opaque_upgrades",
    "ports",
    "privileged",
    "registries",
    "volumes_from",
];

/// See [`Policy::parse`].
pub(super) fn policy(text: &str) -> Result<Policy, PolicyError> {
    let mut mistakes = Vec::new();
    let document = Document::parse(text, &mut mistakes);
    let mut reader = Reader {
        document: &document,
        mistakes,
        policy: Policy::default(),
    };
    reader.read();
    match reader.mistakes.is_empty() {
        true => Ok(reader.policy),
        false => {
            let mut mistakes = reader.mistakes;
            // In the order of the file, whatever the order of tables.
            mistakes.sort_by_key(|mistake| {
                let line = mistake.place.rsplit(' ').next().unwrap_or_default();
                line.parse::<usize>().unwrap_or_default()
            });
            Err(PolicyError(mistakes))
        }
    }
}

struct Reader<'d, 't> {
    document: &'d Document<'t>,
    mistakes: Vec<Mistake>,
    policy: Policy,
}

impl<'d, 't> Reader<'d, 't> {
    fn read(&mut self) {
        let document = self.document;
        let mut docker_said = false;
        for (name, value) in &document.table {
            let table = match (name.get_ref().as_ref(), value.get_ref()) {
                (known, DeValue::Table(table)) if TABLES.contains(&known) => table,
                (known, other) if TABLES.contains(&known) => {
                    self.wrong(
                        value,
                        format!("`{known}` must be a table, not {}", kind(other)),
                    );
                    continue;
                }
                (unknown, _) => {
                    let expected = alternatives(&TABLES);
                    self.wrong(
                        name,
                        format!("unknown key `{unknown}`: expected {expected}"),
                    );
                    continue;
                }
            };
            match name.get_ref().as_ref() {
                "docker" => {
                    self.docker(value, table);
                    if std::mem::replace(&mut docker_said, true) {
                        self.said_twice(value);
                    }
                }
                "limits" => self.limits(table),
                _ => {
                    let says = table.iter().find(|(key, _)| key.get_ref() == "docker");
                    self.targets(table);
                    if let Some((_, value)) = says
                        && std::mem::replace(&mut docker_said, true)
                    {
                        self.said_twice(value);
                    }
                }
            }
        }
    }

    fn wrong<T>(&mut self, at: &Spanned<T>, problem: impl Into<String>) {
        self.mistakes.push(self.document.mistake(at, problem));
    }

    fn said_twice(&mut self, at: &Value<'_>) {
        self.wrong(
            at,
            "`targets.docker` and the table `[docker]` say the same thing: leave one of them out",
        );
    }

    fn targets(&mut self, table: &'d DeTable<'t>) {
        for (name, value) in table {
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("docker", DeValue::Boolean(true)) => {
                    self.policy.docker = DockerRules::with(Access::Full);
                }
                ("docker", DeValue::Boolean(false)) => {
                    self.policy.docker = DockerRules::with(Access::None);
                }
                ("docker", other) => {
                    let problem = format!("`docker` must be true or false, not {}", kind(other));
                    self.wrong(value, problem);
                }
                ("tcp", _) => self.policy.tcp = self.list("tcp", value, Entry::parse),
                (unknown, _) => {
                    let expected = alternatives(&TARGETS);
                    let problem = format!("unknown key `targets.{unknown}`: expected {expected}");
                    self.wrong(name, problem);
                }
            }
        }
    }

    fn limits(&mut self, table: &'d DeTable<'t>) {
        let mut limits = Limits::default();
        for (name, value) in table {
            match name.get_ref().as_ref() {
                "streams" => limits.streams = self.count("streams", value),
                "streams_per_minute" => {
                    limits.streams_per_minute = self.count("streams_per_minute", value);
                }
                "bytes_per_second" => limits.bytes_per_second = self.rate(value),
                "target_bytes_per_second" => limits.target_bytes_per_second = self.rates(value),
                unknown => {
                    let expected = alternatives(&LIMITS);
                    let problem = format!("unknown key `limits.{unknown}`: expected {expected}");
                    self.wrong(name, problem);
                }
            }
        }
        self.policy.limits = limits;
    }

    fn docker(&mut self, at: &Value<'_>, table: &'d DeTable<'t>) {
        let given = table.iter().find(|(name, _)| name.get_ref() == "access");
        let access = match given {
            Some((_, value)) => self.access(value),
            None => {
                let names = Access::ALL.map(Access::as_str);
                let problem = format!("`[docker]` needs `access`: {}", alternatives(&names));
                self.wrong(at, problem);
                None
            }
        };
        let mut rules = DockerRules::with(access.unwrap_or(Access::Limited));
        for (name, value) in table {
            let key = name.get_ref().as_ref();
            if !DOCKER.contains(&key) {
                let problem = format!(
                    "unknown key `docker.{key}`: expected {}",
                    alternatives(&DOCKER)
                );
                self.wrong(name, problem);
                continue;
            }
            let has_effect = match rules.access {
                Access::Limited => true,
                Access::ReadOnly => key == "access" || READ_ONLY.contains(&key),
                Access::None | Access::Full => key == "access",
            };
            if !has_effect {
                let problem = format!(
                    "`{key}` has no effect with `access = \"{}\"`: leave it out, or say `access = \"limited\"`",
                    rules.access.as_str()
                );
                self.wrong(name, problem);
            }
            self.docker_key(&mut rules, key, value);
        }
        self.policy.docker = rules;
    }

    fn docker_key(&mut self, rules: &mut DockerRules, key: &str, value: &'d Value<'t>) {
        match key {
            "exec" => rules.exec = self.switch(key, value),
            "files" => rules.files = self.switch(key, value),
            "build" => rules.build = self.switch(key, value),
            "opaque_upgrades" => rules.opaque_upgrades = self.switch(key, value),
            "privileged" => rules.privileged = self.switch(key, value),
            "volumes_from" => rules.volumes_from = self.switch(key, value),
            "bind_mounts" => rules.bind_mounts = self.list(key, value, BindMount::parse),
            "capabilities" => rules.capabilities = self.list(key, value, docker::capability),
            "host_namespaces" => rules.host_namespaces = self.list(key, value, docker::namespace),
            "devices" => rules.devices = self.list(key, value, docker::device),
            "registries" => rules.registries = self.list(key, value, docker::registry),
            "log_drivers" => rules.log_drivers = self.list(key, value, docker::log_driver),
            "ports" => rules.ports = self.list(key, value, ports),
            // `access` was read first.
            _ => {}
        }
    }

    fn access(&mut self, value: &Value<'_>) -> Option<Access> {
        let names = alternatives(&Access::ALL.map(Access::as_str));
        let problem = match value.get_ref() {
            DeValue::String(text) => {
                let found = Access::ALL
                    .into_iter()
                    .find(|access| access.as_str() == text.as_ref());
                if found.is_some() {
                    return found;
                }
                format!("`access` must be {names}, not `{text}`")
            }
            other => format!("`access` must be {names}, not {}", kind(other)),
        };
        self.wrong(value, problem);
        None
    }

    fn switch(&mut self, key: &str, value: &Value<'_>) -> bool {
        match value.get_ref() {
            DeValue::Boolean(on) => *on,
            other => {
                self.wrong(
                    value,
                    format!("`{key}` must be true or false, not {}", kind(other)),
                );
                false
            }
        }
    }

    fn count(&mut self, key: &str, value: &Value<'_>) -> Option<u32> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        if number.is_none_or(|number| number == 0) {
            self.wrong(value, format!("`{key}` must be a whole number from 1"));
        }
        number
    }

    fn rate(&mut self, value: &Value<'_>) -> Option<Rate> {
        let read = match value.get_ref() {
            DeValue::String(text) => Rate::parse(text),
            DeValue::Integer(number) => Rate::parse(number.as_str()),
            other => Err(format!(
                "expected bytes a second, such as \"10MiB\", not {}",
                kind(other)
            )),
        };
        read.map_err(|problem| self.wrong(value, problem)).ok()
    }

    fn rates(&mut self, value: &'d Value<'t>) -> Vec<(Limited, Rate)> {
        let entries = match value.get_ref() {
            DeValue::Table(entries) if entries.len() <= ENTRIES_MAX => entries,
            other => {
                let problem = format!(
                    "`target_bytes_per_second` must be a table of at most {ENTRIES_MAX} targets \
                     with their rates, such as {{ docker = \"10MiB\" }}, not {}",
                    kind(other)
                );
                self.wrong(value, problem);
                return Vec::new();
            }
        };
        // In the order of the file, so that it is the later one that is named.
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut rates: Vec<(Limited, Rate)> = Vec::new();
        for (name, value) in entries {
            let limited = match Limited::parse(name.get_ref()) {
                Ok(limited) if rates.iter().any(|(other, _)| *other == limited) => Err(format!(
                    "`{limited}` has a rate already, in another spelling"
                )),
                read => read,
            };
            let limited = limited.map_err(|problem| self.wrong(name, problem)).ok();
            rates.extend(limited.zip(self.rate(value)));
        }
        rates
    }

    fn list<T>(
        &mut self,
        key: &str,
        value: &'d Value<'t>,
        read: fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let entries = match value.get_ref() {
            DeValue::Array(entries) => entries,
            other => {
                let problem = format!("`{key}` must be an array of strings, not {}", kind(other));
                self.wrong(value, problem);
                return Vec::new();
            }
        };
        if entries.len() > ENTRIES_MAX {
            let count = entries.len();
            let problem = format!("`{key}` has {count} entries, at most {ENTRIES_MAX} are read");
            self.wrong(value, problem);
            return Vec::new();
        }
        let mut list = Vec::new();
        for entry in entries {
            let read = match entry.get_ref().as_str() {
                Some(text) => read(text),
                None => Err(format!("expected a string, not {}", kind(entry.get_ref()))),
            };
            match read {
                Ok(value) => list.push(value),
                Err(problem) => self.wrong(entry, problem),
            }
        }
        list
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    parse_ports(text).ok_or_else(|| format!("`{text}` is no port or range of ports (1 to 65535)"))
}
