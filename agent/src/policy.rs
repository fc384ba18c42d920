//! The customer's policy: what the vendor may reach on this host, and what it may ask of
//! the Docker Engine.
//!
//! Deny by default. A rule names a host or a network; a host is matched by its very
//! name, a network by the addresses that are actually connected to. Addresses that lead
//! to the host itself or to a cloud's secrets are reached only where a rule names them
//! and nothing wider; see [`address`]. Pure: no file, no name resolution; see
//! [`policy_file`](crate::policy_file) and [`work`](crate::work).

use std::{fmt, net::IpAddr};

use wire::target::Target;

use crate::strict_toml::Mistake;

pub mod address;
pub mod docker;
mod limits;
mod place;
mod rate;
mod read;

use address::Special;
pub use docker::{Access, DockerRules};
pub use limits::{Limits, SharedRate};
use place::{Entry, Place};
pub use rate::Rate;
pub use wire::rule::Rule;

/// What the vendor may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    docker: DockerRules,
    tcp: Vec<Entry>,
    limits: Limits,
}

impl Default for Policy {
    /// Without a file: the Docker Engine, because serving it is what an agent is
    /// installed for, and nothing on the network.
    fn default() -> Self {
        Self {
            docker: DockerRules::with(Access::Full),
            tcp: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What the policy says about a target before any name is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No rule can allow it, whatever it resolves to.
    Denied,
    /// The Docker Engine, which has rules of its own for each request.
    Docker,
    /// Allowed at those addresses that [`Policy::permits`] permits.
    ByAddress,
}

/// Why an address may not be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressDenied {
    /// No rule has it.
    NoRule,
    /// A rule has it among others, and it is one that must be named.
    Unnamed(Special),
}

impl fmt::Display for AddressDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule of `targets.tcp` has it"),
            Self::Unnamed(special) => write!(
                f,
                "it leads to {special}, which a rule of `targets.tcp` must name by its address"
            ),
        }
    }
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
        read::policy(text)
    }

    /// What may be asked of the Docker Engine.
    pub const fn docker(&self) -> &DockerRules {
        &self.docker
    }

    /// How many streams there may be, and how fast.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Judges a target by what it is called.
    pub fn judge(&self, target: &Target) -> Verdict {
        match target {
            Target::Docker if self.docker.access == Access::None => Verdict::Denied,
            Target::Docker => Verdict::Docker,
            Target::Stacks => match self.docker.access {
                Access::None | Access::ReadOnly => Verdict::Denied,
                Access::Limited | Access::Full => Verdict::Docker,
            },
            Target::Tcp { host, port } => self.judge_tcp(host, *port),
        }
    }

    fn judge_tcp(&self, host: &str, port: u16) -> Verdict {
        let literal = host.parse::<IpAddr>().ok();
        let can_match = |rule: &Entry| match (&rule.place, literal) {
            (Place::Network(network), Some(address)) => network.contains(&address.to_canonical()),
            (Place::Network(_), None) => true,
            (Place::Name(name), _) => name == host,
        };
        match self.rules_of(port).any(can_match) {
            true => Verdict::ByAddress,
            false => Verdict::Denied,
        }
    }

    fn rules_of(&self, port: u16) -> impl Iterator<Item = &Entry> {
        self.tcp
            .iter()
            .filter(move |rule| rule.ports.contains(&port))
    }

    /// Whether the very address that `host` resolved to may be connected to. An IPv4
    /// address in IPv6 clothing counts as the IPv4 address that it is. `gateways` are this
    /// host's addresses towards its containers.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn permits(
        &self,
        host: &str,
        address: IpAddr,
        port: u16,
        gateways: &[IpAddr],
    ) -> Result<(), AddressDenied> {
        let address = address.to_canonical();
        let mut rules = self.rules_of(port);
        let has_it = rules.any(|rule| rule.place.has(host, address));
        if !has_it {
            return Err(AddressDenied::NoRule);
        }
        let Some(special) = address::special(address, gateways) else {
            return Ok(());
        };
        let is_named = self.rules_of(port).any(|rule| match &rule.place {
            Place::Network(network) => special.is_named_by(*network, address),
            // This name is the address, in another spelling.
            Place::Name(name) => {
                special == Special::Loopback && name == host && name == "localhost"
            }
        });
        match is_named {
            true => Ok(()),
            false => Err(AddressDenied::Unnamed(special)),
        }
    }

    /// The targets in the policy's own words, for the vendor to see.
    pub fn words(&self) -> Vec<String> {
        let docker = (self.docker.access != Access::None).then(|| "docker".to_owned());
        docker
            .into_iter()
            .chain(self.tcp.iter().map(|rule| format!("tcp:{rule}")))
            .collect()
    }

    /// The other rules in the policy's own words, for the vendor to see.
    pub fn rules(&self) -> Vec<String> {
        let docker = self.docker.words();
        docker.into_iter().chain(self.limits.words()).collect()
    }
}

#[cfg(test)]
mod tests;
