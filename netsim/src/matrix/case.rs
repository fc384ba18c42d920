//! A case: a network, what is told to the probe, and what is true of each flow.
//!
//! The network is always the same but for what the case says: a customer's host and the edge
//! `office` before it, the internet, a relay, and a resolver out there.
//!
//! ```toml
//! [[case]]
//! name = "drop-8000-tcp"
//! says = "The office's firewall swallows 8000/tcp."
//! office = { firewall = { rules = [{ protocol = "tcp", ports = 8000, do = "drop" }] } }
//! websocket = "blocked: firewall-drop"
//! ```
//!
//! Tables of edges, lines and proxies are those of scenarios (docs/netsim-scenarios.md).

use serde::{Deserialize, Serialize};
use toml::Table;

use super::claim::{Truth, Verdict};

/// What a case is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One thing is wrong.
    Fault,
    /// Nothing is wrong, however it looks.
    Healthy,
    /// Two things are wrong.
    Mixed,
}

/// What becomes of the relay before the probe comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelayIs {
    /// It runs.
    Up,
    /// It has ended: its host is there, and its ports are closed.
    Stopped,
    /// It is there and does nothing: connections are accepted for it by its kernel.
    Hung,
}

/// See the module.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// What it is called: small letters, digits and hyphens.
    pub name: String,
    /// What is true of this network, in a sentence.
    pub says: String,
    /// What it is for.
    #[serde(default = "fault")]
    pub kind: Kind,

    /// The customer's edge, over a firewall that lets everything out and, where there is no
    /// IPv6, a NAT; `false` takes one of its boxes away.
    #[serde(default)]
    pub office: Table,
    /// Rules of the office, where it is the kernel's (`kernel = true`), before those of its
    /// firewall.
    #[serde(default)]
    pub office_rules: Vec<[String; 2]>,
    /// Where the same sends connections in the place of where they were meant to go.
    #[serde(default)]
    pub office_nat: Vec<[String; 2]>,
    /// A second edge, the provider's, where there is one.
    pub carrier: Option<Table>,
    /// The line from the office to the internet.
    #[serde(default)]
    pub uplink: Table,
    /// The same from the internet to the office, where that differs.
    pub downlink: Option<Table>,
    /// Proxies: transparent ones stand on the office's edge, others on 10.1.0.8.
    #[serde(default)]
    pub proxy: Vec<Table>,
    /// The customer's addresses.
    #[serde(default = "customer")]
    pub customer: Vec<String>,
    /// The relay's addresses.
    #[serde(default = "relay")]
    pub relay: Vec<String>,
    /// Whether the resolver is in the customer's own network, behind no edge.
    #[serde(default)]
    pub resolver_inside: bool,
    /// Whether the resolver is dnsmasq.
    #[serde(default)]
    pub dnsmasq: bool,
    /// Whether another relay, of somebody else, is at 203.0.113.66.
    #[serde(default)]
    pub impostor: bool,

    /// Rules of the customer's own host for what it sends, as nftables has them: what fits,
    /// and what is done.
    #[serde(default)]
    pub host_rules: Vec<[String; 2]>,
    /// Commands of `ip` on the customer's host.
    #[serde(default)]
    pub host_ip: Vec<String>,
    /// What becomes of the relay.
    #[serde(default = "up")]
    pub relay_is: RelayIs,
    /// Lines of the relay's configuration file.
    #[serde(default)]
    pub relay_config: String,
    /// By how much the relay's clock is wrong, in seconds: then it is the relay's own code, and
    /// not its program.
    #[serde(default)]
    pub relay_skew: i64,
    /// Rules of the relay's host for what comes to it.
    #[serde(default)]
    pub relay_rules: Vec<[String; 2]>,
    /// Whether others come to the relay all the time, more of them than it takes.
    #[serde(default)]
    pub relay_crowd: bool,

    /// Whether the probe is given the relay's pin.
    #[serde(default = "yes")]
    pub pin: bool,
    /// Whether the probe is given the CA of whoever ends TLS between, and of the registry.
    #[serde(default)]
    pub ca: bool,
    /// Variables of the probe's environment.
    #[serde(default)]
    pub variables: Vec<[String; 2]>,
    /// The idle ladder, such as `2s,4s,8s`; without, the run is a quick one.
    pub idle: Option<String>,
    /// What else is told to the probe; `--full` in it makes the run a full one.
    #[serde(default)]
    pub arguments: Vec<String>,

    /// What must have been done to at least one packet, beside what every scenario must:
    /// words of a lab's count, such as `expired` or `too-big`.
    #[serde(default)]
    pub touches: Vec<String>,
    /// What is true of 443/tcp.
    #[serde(default = "Truth::open")]
    pub https: Truth,
    /// What is true of 8000/tcp.
    #[serde(default = "Truth::open")]
    pub websocket: Truth,
    /// What is true of 8000/udp.
    #[serde(default = "Truth::open")]
    pub quic: Truth,
    /// What is true of a registry on the relay's host, at port 5000; without, there is none.
    pub images: Option<Verdict>,
}

impl Case {
    /// What is true of each flow, in the order of the report.
    pub const fn truths(&self) -> [(&'static str, &Truth); 3] {
        [
            ("https", &self.https),
            ("websocket", &self.websocket),
            ("quic", &self.quic),
        ]
    }

    /// Whether something of its network, host or relay is as no healthy one has it.
    pub fn has_a_fault(&self) -> bool {
        let tables = [
            !self.office.is_empty(),
            !self.uplink.is_empty(),
            !self.proxy.is_empty(),
            self.carrier.is_some(),
        ];
        let others = [
            !self.host_rules.is_empty(),
            !self.host_ip.is_empty(),
            !self.relay_rules.is_empty(),
            self.relay_is != RelayIs::Up,
            self.relay_skew != 0,
            !self.relay_config.is_empty(),
            !self.variables.is_empty(),
            self.images.is_some_and(|one| one != Verdict::Open),
        ];
        tables.into_iter().chain(others).any(|one| one)
    }
}

const fn fault() -> Kind {
    Kind::Fault
}

const fn up() -> RelayIs {
    RelayIs::Up
}

const fn yes() -> bool {
    true
}

fn customer() -> Vec<String> {
    vec!["10.1.0.2/24".to_owned()]
}

fn relay() -> Vec<String> {
    vec!["203.0.113.10/24".to_owned()]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// Files of cases, in the order of the published table.
const FILES: [(&str, &str); 9] = [
    ("healthy", include_str!("../../cases/healthy.toml")),
    ("firewalls", include_str!("../../cases/firewalls.toml")),
    ("hosts", include_str!("../../cases/hosts.toml")),
    ("names", include_str!("../../cases/names.toml")),
    ("proxies", include_str!("../../cases/proxies.toml")),
    ("inspection", include_str!("../../cases/inspection.toml")),
    ("lines", include_str!("../../cases/lines.toml")),
    ("registries", include_str!("../../cases/registries.toml")),
    ("mixed", include_str!("../../cases/mixed.toml")),
];

/// Every case that comes with the program, or what is wrong with one of their files.
///
/// # Errors
///
/// With the file, and what the reader said: a test keeps it from happening.
pub fn all() -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for (name, text) in FILES {
        let file: File = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        cases.extend(file.case);
    }
    Ok(cases)
}
