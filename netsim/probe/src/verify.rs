//! A customer's list of rules as a test: what must be open is open, what must be closed is
//! closed. Run before and after a change of the firewall.

use std::{net::IpAddr, path::Path};

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod listening;
mod sample;

use crate::measure::{Asked, Came};

pub use listening::{Listening, agents};
pub use sample::sample;

/// Rules of one file; enough for any site, and bounded.
const RULES_MAX: usize = 1_000;

/// A file of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What must be open.
    #[serde(default)]
    pub allow: Vec<Rule>,
    /// What must be closed.
    #[serde(default)]
    pub deny: Vec<Rule>,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For people.
    #[serde(default)]
    pub name: Option<String>,
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TCP unless told otherwise.
    #[serde(default)]
    pub protocol: Protocol,
    /// Direct unless told otherwise.
    #[serde(default)]
    pub via: Via,
}

/// Over which protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A connection.
    #[default]
    Tcp,
    /// A datagram, and an answer.
    Udp,
}

/// Which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Without a proxy.
    #[default]
    Direct,
    /// Through the one of the options, or of the environment.
    Proxy,
}

/// A file that holds no rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRules {
    /// Not as it must be.
    #[error("{0}")]
    Form(String),
    /// Nothing is asked.
    #[error("it holds neither [[allow]] nor [[deny]]")]
    Empty,
    /// Too many.
    #[error("it holds more than {RULES_MAX} rules")]
    TooMany,
    /// A rule that nobody can test.
    #[error("rule for {0}: UDP does not go through a proxy")]
    UdpThroughProxy(String),
}

impl Rules {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// See [`BadRules`].
    pub fn parse(text: &str) -> Result<Self, BadRules> {
        let form = |error: toml::de::Error| BadRules::Form(error.to_string());
        let rules: Self = toml::from_str(text).map_err(form)?;
        let all = rules.allow.iter().chain(&rules.deny);
        let mut udp = all.filter(|one| one.protocol == Protocol::Udp && one.via == Via::Proxy);
        if let Some(rule) = udp.next() {
            return Err(BadRules::UdpThroughProxy(rule.host.clone()));
        }
        match rules.allow.len() + rules.deny.len() {
            0 => Err(BadRules::Empty),
            1..=RULES_MAX => Ok(rules),
            _ => Err(BadRules::TooMany),
        }
    }
}

/// What a rule demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Demand {
    /// Open.
    Allow,
    /// Closed.
    Deny,
}

/// Of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As demanded.
    AsDemanded,
    /// Not as demanded.
    Otherwise,
    /// The evidence does not say.
    CannotTell,
}

/// One rule, tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// What it demands.
    pub demand: Demand,
    /// It is none of the file's, but one of the strict sample's.
    pub is_sample: bool,
    /// Whether it holds.
    pub outcome: Outcome,
    /// What was seen.
    pub says: String,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// `sternline-probe verification`.
    pub kind: String,
    /// 1.
    pub version: u32,
    /// Each rule.
    pub rules: Vec<Tested>,
    /// Whether the agent on this host listens; `None` where that was not asked.
    pub listening: Option<Listening>,
}

/// What a rule and what was seen come to.
pub fn judge(rule: &Rule, demand: Demand, came: &Came) -> (Outcome, String) {
    let is_open = match came {
        Came::Answered => Some(true),
        Came::Refused(_) | Came::Rejected(_) => Some(false),
        // Nobody has to answer a datagram that it does not understand.
        Came::Nothing if rule.protocol == Protocol::Udp => None,
        Came::Nothing => Some(false),
        Came::NotAsked(_) => None,
    };
    let outcome = match (demand, is_open) {
        (Demand::Allow, Some(true)) | (Demand::Deny, Some(false)) => Outcome::AsDemanded,
        (Demand::Allow, Some(false)) | (Demand::Deny, Some(true)) => Outcome::Otherwise,
        // A datagram that leads to nothing is what a rule that drops looks like.
        (Demand::Deny, None) if *came == Came::Nothing => Outcome::AsDemanded,
        (_, None) => Outcome::CannotTell,
    };
    (outcome, came.to_string())
}

impl Verified {
    /// The program's exit code: 0 all is as demanded, 20 something is not, 30 cannot tell.
    pub fn exit_code(&self) -> u8 {
        let any = |wanted: Outcome| self.rules.iter().any(|one| one.outcome == wanted);
        let listens = self.listening.as_ref().map(Listening::outcome);
        if any(Outcome::Otherwise) || listens == Some(Outcome::Otherwise) {
            20
        } else if any(Outcome::CannotTell) || listens == Some(Outcome::CannotTell) {
            30
        } else {
            0
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.rules.iter().map(Tested::line).collect();
        let sampled = self.rules.iter().filter(|one| one.is_sample);
        let sampled: Vec<String> = sampled.map(|one| one.rule.destination()).collect();
        if !sampled.is_empty() {
            let list = sampled.join(", ");
            lines.push(format!(
                "strict: {} destinations of the Internet must be closed: {list}",
                sampled.len()
            ));
        }
        lines.extend(
            self.listening
                .as_ref()
                .map(|listening| listening.to_string()),
        );
        let as_demanded = |one: &&Tested| one.outcome == Outcome::AsDemanded;
        let held = self.rules.iter().filter(as_demanded).count();
        lines.push(format!("{held} of {} rules hold", self.rules.len()));
        lines.join("\n") + "\n"
    }
}

impl Tested {
    fn line(&self) -> String {
        let outcome = match self.outcome {
            Outcome::AsDemanded => "holds",
            Outcome::Otherwise => "FAILS",
            Outcome::CannotTell => "CANNOT TELL",
        };
        let demand = match self.demand {
            Demand::Allow => "open",
            Demand::Deny => "closed",
        };
        let name = self.rule.name.as_deref().unwrap_or_default();
        let destination = self.rule.destination();
        format!(
            "{outcome:<12}{destination:<40} to be {demand}: {}  {name}",
            self.says
        )
    }
}

impl Rule {
    /// `HOST:PORT/protocol`, and which way.
    pub fn destination(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let via = match self.via {
            Via::Direct => "",
            Via::Proxy => " through the proxy",
        };
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("[{}]", self.host),
            _ => self.host.clone(),
        };
        format!("{host}:{}/{protocol}{via}", self.port)
    }

    /// What is to be asked of the network.
    pub fn asked(&self) -> Asked {
        Asked {
            host: self.host.clone(),
            port: self.port,
            is_udp: self.protocol == Protocol::Udp,
            is_through_proxy: self.via == Via::Proxy,
        }
    }
}

/// Reads a file of rules.
///
/// # Errors
///
/// It cannot be read, or holds none: in words, with what to do.
pub fn read(path: &Path) -> Result<Rules, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Rules::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
