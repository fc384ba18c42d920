//! The customer's policy: which targets the vendor may reach on this host.
//!
//! Deny by default. A rule names a host or a network; a host is matched by its very
//! name, a network by the addresses that are actually connected to. Pure: no file,
//! no name resolution; see [`policy_file`](crate::policy_file) and
//! [`work`](crate::work).

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};
use wire::target::Target;

use crate::strict_toml::{Document, Mistake, kind};

/// Rules in one policy; beyond it a network is meant and should be written as one.
const RULES_MAX: usize = 1_000;

/// What the vendor may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    docker: bool,
    tcp: Vec<Rule>,
}

impl Default for Policy {
    /// Without a file: the Docker Engine, because serving it is what an agent is
    /// installed for, and nothing on the network.
    fn default() -> Self {
        Self {
            docker: true,
            tcp: Vec::new(),
        }
    }
}

/// What the policy says about a target before any name is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No rule can allow it, whatever it resolves to.
    Denied,
    /// Allowed by its very name, wherever that leads.
    Allowed,
    /// Allowed at those addresses that [`Policy::permits_address`] permits.
    ByAddress,
}

/// All mistakes of a policy, none left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError(pub Vec<Mistake>);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<String> = self.0.iter().map(Mistake::to_string).collect();
        f.write_str(&text.join("; "))
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// Reads a policy file's text.
    ///
    /// # Errors
    ///
    /// All mistakes at once, each with its line; unknown keys are mistakes.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut mistakes = Vec::new();
        let document = Document::parse(text, &mut mistakes);
        let mut policy = Self::default();
        for (name, value) in &document.table {
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("targets", DeValue::Table(targets)) => {
                    for (name, value) in targets {
                        policy.read_target(&document, (name.get_ref(), name), value, &mut mistakes);
                    }
                }
                ("targets", other) => {
                    let problem = format!("`targets` must be a table, not {}", kind(other));
                    mistakes.push(document.mistake(value, problem));
                }
                (unknown, _) => {
                    let problem = format!("unknown key `{unknown}`: expected `targets`");
                    mistakes.push(document.mistake(name, problem));
                }
            }
        }
        if mistakes.is_empty() {
            Ok(policy)
        } else {
            Err(PolicyError(mistakes))
        }
    }

    fn read_target<T>(
        &mut self,
        document: &Document<'_>,
        (name, place): (&str, &Spanned<T>),
        value: &Spanned<DeValue<'_>>,
        mistakes: &mut Vec<Mistake>,
    ) {
        match (name, value.get_ref()) {
            ("docker", DeValue::Boolean(docker)) => self.docker = *docker,
            ("docker", other) => {
                let problem = format!("`docker` must be true or false, not {}", kind(other));
                mistakes.push(document.mistake(value, problem));
            }
            ("tcp", DeValue::Array(entries)) if entries.len() > RULES_MAX => {
                let problem = format!(
                    "`tcp` has {} entries, at most {RULES_MAX} are read",
                    entries.len()
                );
                mistakes.push(document.mistake(value, problem));
            }
            ("tcp", DeValue::Array(entries)) => {
                for entry in entries {
                    let rule = match entry.get_ref().as_str() {
                        Some(text) => Rule::parse(text),
                        None => Err(format!("expected a string, not {}", kind(entry.get_ref()))),
                    };
                    match rule {
                        Ok(rule) => self.tcp.push(rule),
                        Err(problem) => mistakes.push(document.mistake(entry, problem)),
                    }
                }
            }
            ("tcp", other) => {
                let problem = format!("`tcp` must be an array of strings, not {}", kind(other));
                mistakes.push(document.mistake(value, problem));
            }
            (unknown, _) => {
                let problem =
                    format!("unknown key `targets.{unknown}`: expected `docker` or `tcp`");
                mistakes.push(document.mistake(place, problem));
            }
        }
    }

    /// Whether the Docker Engine may be reached.
    pub const fn docker(&self) -> bool {
        self.docker
    }

    /// Judges a target by what it is called.
    pub fn judge(&self, target: &Target) -> Verdict {
        match target {
            Target::Docker if self.docker => Verdict::Allowed,
            Target::Docker => Verdict::Denied,
            Target::Tcp { host, port } => self.judge_tcp(host, *port),
        }
    }

    fn judge_tcp(&self, host: &str, port: u16) -> Verdict {
        if let Ok(address) = host.parse::<IpAddr>() {
            // What it is called is where it leads.
            return match self.permits_address(address, port) {
                true => Verdict::Allowed,
                false => Verdict::Denied,
            };
        }
        let mut verdict = Verdict::Denied;
        for rule in self.tcp.iter().filter(|rule| rule.ports.contains(&port)) {
            match &rule.place {
                Place::Name(name) if name == host => return Verdict::Allowed,
                Place::Name(_) => {}
                Place::Network(_) => verdict = Verdict::ByAddress,
            }
        }
        verdict
    }

    /// Whether some network of the policy holds the address and the port. An IPv4
    /// address in IPv6 clothing counts as the IPv4 address that it is.
    pub fn permits_address(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.tcp
            .iter()
            .filter(|rule| rule.ports.contains(&port))
            .any(|rule| match &rule.place {
                Place::Network(network) => network.contains(&address),
                Place::Name(_) => false,
            })
    }

    /// The policy in its own words, for the vendor to see.
    pub fn words(&self) -> Vec<String> {
        let docker = self.docker.then(|| "docker".to_owned());
        docker
            .into_iter()
            .chain(self.tcp.iter().map(|rule| format!("tcp:{rule}")))
            .collect()
    }
}

/// One entry of `tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    place: Place,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In lower case.
    Name(String),
    Network(IpNet),
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected HOST:PORT or NETWORK:PORT-RANGE, such as `db.internal:5432`, `10.0.0.0/8:8000-8100` or `[2001:db8::/32]:443`";
        let Some((place, ports)) = text.rsplit_once(':') else {
            return Err(format!("`{text}` has no port: {expected}"));
        };
        let ports = parse_ports(ports).ok_or_else(|| {
            format!("`{ports}` in `{text}` is no port or range of ports (1 to 65535)")
        })?;
        let place =
            parse_place(place).map_err(|problem| format!("`{text}`: {problem}: {expected}"))?;
        Ok(Self { place, ports })
    }
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok().filter(|port| *port != 0),
        false => None,
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    (!range.is_empty()).then_some(range)
}

fn parse_place(text: &str) -> Result<Place, String> {
    // `[2001:db8::/32]` and `[2001:db8::]/32` are both what people write.
    let bare = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, prefix)) if prefix.is_empty() || prefix.starts_with('/') => {
            format!("{inner}{prefix}")
        }
        Some(_) => return Err("something stands behind the bracket".into()),
        None if text.contains(':') => return Err("an IPv6 address needs brackets".into()),
        None => text.to_owned(),
    };
    if text.starts_with('[') && !bare.contains(':') {
        return Err("only IPv6 addresses stand in brackets".into());
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Place::Network(address.to_canonical().into()));
    }
    if bare.contains('/') {
        let network: IpNet = bare
            .parse()
            .map_err(|_| format!("`{bare}` is not a network"))?;
        if network.trunc() != network {
            return Err(format!(
                "`{bare}` is an address within the network `{}`",
                network.trunc()
            ));
        }
        return Ok(Place::Network(network));
    }
    parse_name(&bare)
}

fn parse_name(text: &str) -> Result<Place, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > 253 || !text.bytes().all(fits) {
        return Err(format!(
            "`{text}` is not a host name, an address or a network"
        ));
    }
    // `10.0.0` or `0x7f.1` would be resolved as addresses, never as names.
    let last_label = text.rsplit('.').next().unwrap_or_default();
    if last_label.bytes().all(|byte| byte.is_ascii_digit()) || last_label.starts_with("0x") {
        return Err(format!("`{text}` is an incomplete address"));
    }
    Ok(Place::Name(text.to_ascii_lowercase()))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Name(name) => f.write_str(name)?,
            Place::Network(IpNet::V4(network)) if network.prefix_len() == 32 => {
                write!(f, "{}", network.addr())?;
            }
            Place::Network(IpNet::V4(network)) => write!(f, "{network}")?,
            Place::Network(IpNet::V6(network)) if network.prefix_len() == 128 => {
                write!(f, "[{}]", network.addr())?;
            }
            Place::Network(IpNet::V6(network)) => write!(f, "[{network}]")?,
        }
        match (self.ports.start(), self.ports.end()) {
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests;
