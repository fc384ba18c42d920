//! What a run comes to: per flow a verdict, who is behind it, how sure that is, and what to
//! change. Written as JSON, whose `version` grows with every change that a reader would notice.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::observe::{Flow, Observations, Target};

/// Of the JSON report.
pub const REPORT_KIND: &str = "sternline-probe report";
/// Of the JSON report's form.
pub const REPORT_VERSION: u32 = 1;

/// Of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowVerdict {
    /// It works.
    Open,
    /// It works, and something about it will bite.
    Caveat,
    /// It does not work.
    Blocked,
    /// The evidence does not say.
    CannotTell,
}

impl FlowVerdict {
    /// For a person.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Caveat => "OPEN WITH CAVEAT",
            Self::Blocked => "BLOCKED",
            Self::CannotTell => "CANNOT TELL",
        }
    }

    /// Whether a session can go over it.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Open | Self::Caveat)
    }
}

/// Of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything works.
    Open,
    /// Something works; something does not, or has a caveat.
    Degraded,
    /// Nothing works.
    Blocked,
    /// Nothing is known to work, and of something the evidence does not say.
    CannotTell,
}

impl Verdict {
    /// For a person.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Degraded => "DEGRADED",
            Self::Blocked => "BLOCKED",
            Self::CannotTell => "CANNOT TELL",
        }
    }

    /// The program's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Degraded => 10,
            Self::Blocked => 20,
            Self::CannotTell => 30,
        }
    }

    /// Of flows together.
    pub fn of(flows: &[FlowReport]) -> Self {
        let all = |wanted: fn(&FlowReport) -> bool| flows.iter().all(wanted);
        let any = |wanted: fn(&FlowReport) -> bool| flows.iter().any(wanted);
        if all(|flow| flow.verdict == FlowVerdict::Open) {
            Self::Open
        } else if any(|flow| flow.verdict.is_usable()) {
            Self::Degraded
        } else if any(|flow| flow.required && flow.verdict == FlowVerdict::CannotTell) {
            Self::CannotTell
        } else {
            Self::Blocked
        }
    }

    /// Of several addresses of a relay, of which an agent needs one.
    pub fn of_any(reports: &[Report]) -> Self {
        let any = |wanted: Self| reports.iter().any(|one| one.verdict == wanted);
        if reports.iter().all(|one| one.verdict == Self::Open) {
            Self::Open
        } else if any(Self::Open) || any(Self::Degraded) {
            Self::Degraded
        } else if any(Self::CannotTell) {
            Self::CannotTell
        } else {
            Self::Blocked
        }
    }
}

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// It fits, and so would other explanations.
    Low,
    /// Nothing that was tried speaks against it.
    Medium,
    /// A test that changes one thing, or a word of the system, shows it.
    High,
}

impl Confidence {
    /// For a person.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Who, or what, is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// Names.
    Dns,
    /// No way to there.
    NoRoute,
    /// A firewall on this host.
    HostFirewall,
    /// A firewall on the way that says nothing.
    FirewallDrop,
    /// A firewall on the way that says no.
    FirewallReject,
    /// The proxy that is configured.
    Proxy,
    /// A proxy that nobody configured.
    TransparentProxy,
    /// Somebody ends the TLS on the way.
    TlsInterception,
    /// Somebody looks into packets, and lets some through.
    Inspection,
    /// Somebody forgets connections that are silent.
    IdleTimer,
    /// Large packets vanish.
    Mtu,
    /// The relay itself.
    Relay,
    /// A page that wants a click first.
    CaptivePortal,
    /// This host's clock.
    Clock,
    /// Only so many connections at once.
    PortExhaustion,
    /// Addresses of IPv6 that lead nowhere.
    Ipv6,
    /// Little goes through.
    Rate,
    /// The evidence does not say.
    Unknown,
}

impl Code {
    /// In the order in which they are declared.
    pub const ALL: [Self; 18] = [
        Self::Dns,
        Self::NoRoute,
        Self::HostFirewall,
        Self::FirewallDrop,
        Self::FirewallReject,
        Self::Proxy,
        Self::TransparentProxy,
        Self::TlsInterception,
        Self::Inspection,
        Self::IdleTimer,
        Self::Mtu,
        Self::Relay,
        Self::CaptivePortal,
        Self::Clock,
        Self::PortExhaustion,
        Self::Ipv6,
        Self::Rate,
        Self::Unknown,
    ];

    /// As in the JSON report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::NoRoute => "no-route",
            Self::HostFirewall => "host-firewall",
            Self::FirewallDrop => "firewall-drop",
            Self::FirewallReject => "firewall-reject",
            Self::Proxy => "proxy",
            Self::TransparentProxy => "transparent-proxy",
            Self::TlsInterception => "tls-interception",
            Self::Inspection => "inspection",
            Self::IdleTimer => "idle-timer",
            Self::Mtu => "mtu",
            Self::Relay => "relay",
            Self::CaptivePortal => "captive-portal",
            Self::Clock => "clock",
            Self::PortExhaustion => "port-exhaustion",
            Self::Ipv6 => "ipv6",
            Self::Rate => "rate",
            Self::Unknown => "unknown",
        }
    }
}

/// One cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Which.
    pub code: Code,
    /// One sentence that names who.
    pub says: String,
    /// The device's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Who vouches for the certificate that was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Of a timer, or of a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// Of the largest packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u32>,
    /// Of an answer by HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl Cause {
    /// Without details.
    pub fn new(code: Code, says: impl Into<String>) -> Self {
        Self {
            code,
            says: says.into(),
            address: None,
            issuer: None,
            seconds: None,
            bytes: None,
            status: None,
        }
    }

    /// With a device's address.
    #[must_use]
    pub fn at(mut self, address: impl ToString) -> Self {
        self.address = Some(address.to_string());
        self
    }
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Milliseconds from the run's start.
    pub at_ms: u64,
    /// At which stage, or by which test.
    pub stage: String,
    /// What.
    pub says: String,
}

/// What to change, in three languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// For a person.
    pub ticket: String,
    /// For nftables.
    pub nft: String,
    /// For a security group of AWS.
    pub aws: Value,
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowReport {
    /// Which.
    pub flow: Flow,
    /// Its port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Whether a customer's network has to let it through.
    pub required: bool,
    /// `direct`, or `proxy`.
    pub route: String,
    /// Whether it works.
    pub verdict: FlowVerdict,
    /// How sure.
    pub confidence: Confidence,
    /// Who; the first is the main one. Caveats, where the flow is open.
    pub causes: Vec<Cause>,
    /// What was seen, in order.
    pub evidence: Vec<Evidence>,
    /// What to change; `None` where nothing has to be.
    pub changes: Option<Changes>,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_KIND`].
    pub kind: String,
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The probe's release.
    pub program: String,
    /// Milliseconds since 1970, by this host's clock.
    pub started_ms: i64,
    /// How long it took.
    pub took_ms: u64,
    /// Who was asked.
    pub target: Target,
    /// Of the whole.
    pub verdict: Verdict,
    /// Each flow.
    pub flows: Vec<FlowReport>,
    /// Hosts of images, where they were asked about.
    pub images: Vec<ImageReport>,
    /// What works without any change, and at what cost.
    pub without_change: String,
    /// What is worth to know, and no fault.
    pub notes: Vec<String>,
    /// Everything that was seen.
    pub observations: Observations,
}

/// Of the JSON of several reports.
pub const REPORTS_KIND: &str = "sternline-probe reports";

/// A relay with several addresses, each with a report of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// [`REPORTS_KIND`].
    pub kind: String,
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Of all: [`Verdict::of_any`].
    pub verdict: Verdict,
    /// One an address, in the order in which an agent has them.
    pub reports: Vec<Report>,
}

impl Reports {
    /// Of reports in the order of the addresses.
    pub fn of(reports: Vec<Report>) -> Self {
        Self {
            kind: REPORTS_KIND.to_owned(),
            version: REPORT_VERSION,
            verdict: Verdict::of_any(&reports),
            reports,
        }
    }
}

/// A host that holds images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// `HOST:PORT`.
    pub host: String,
    /// What for.
    pub role: String,
    /// Whether it is reached.
    pub verdict: FlowVerdict,
    /// In words.
    pub says: String,
}
