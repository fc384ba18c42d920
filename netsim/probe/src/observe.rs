//! What was seen, before anybody judges it: every attempt with its stages, and every test that
//! changes one thing. Pure, and JSON as it is.

mod ladder;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::protocol::{Echo, Witness};

pub use ladder::{IdleRung, ParallelTest, RateTest, SizeRung};

/// What a relay needs of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// HTTPS, 443/tcp: downloads, the API, and a tunnel under a path.
    Https,
    /// A WebSocket over TLS, 8000/tcp.
    Websocket,
    /// QUIC, 8000/udp. Optional.
    Quic,
}

impl Flow {
    /// In the order of a report.
    pub const ALL: [Self; 3] = [Self::Https, Self::Websocket, Self::Quic];

    /// As a report names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Websocket => "websocket",
            Self::Quic => "quic",
        }
    }

    /// `tcp` or `udp`.
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Https | Self::Websocket => "tcp",
            Self::Quic => "udp",
        }
    }

    /// Whether a customer's network has to let it through.
    pub const fn is_required(self) -> bool {
        !matches!(self, Self::Quic)
    }
}

/// Who is asked, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// Of HTTPS.
    pub https_port: u16,
    /// Of WebSocket and QUIC.
    pub tunnel_port: u16,
    /// The relay's identity key, where one was given.
    pub pin: Option<String>,
}

impl Target {
    /// The port of a flow.
    pub const fn port(&self, flow: Flow) -> u16 {
        match flow {
            Flow::Https => self.https_port,
            Flow::Websocket | Flow::Quic => self.tunnel_port,
        }
    }
}

/// A time in a run: microseconds since its start.
pub type Micros = u64;

/// How a try failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// The system's number of the error, where it was one.
    pub errno: Option<i32>,
    /// This host said so at once, before a packet can have come back.
    pub is_local: bool,
    /// Of an answer by HTTP, of a proxy or of the other end.
    pub status: Option<u16>,
    /// In words, and within bounds.
    pub says: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nothing came in the time that there was.
    TimedOut,
    /// ECONNREFUSED: a RST, or an ICMP port unreachable.
    Refused,
    /// ECONNRESET.
    Reset,
    /// The other end closed in the middle.
    Ended,
    /// EHOSTUNREACH: an ICMP error, or no neighbour that answers.
    HostUnreachable,
    /// ENETUNREACH.
    NetUnreachable,
    /// EPERM, EACCES: this host's own firewall.
    NotPermitted,
    /// EADDRNOTAVAIL, EAGAIN: no free port on this host.
    NoPort,
    /// A TLS alert from the other end.
    Alert,
    /// Bytes that are not TLS.
    NotTls,
    /// The relay's word that it has no time now.
    Busy,
    /// An HTTP answer with another status than the one that is needed.
    Status,
    /// What answers does not speak the protocol.
    Protocol,
    /// The proxy was not reached.
    ProxyUnreached,
    /// The proxy wants a login.
    ProxyLogin,
    /// The proxy says no.
    ProxyDenied,
    /// What is configured as a proxy is none, or breaks off.
    ProxyBroken,
    /// Anything else.
    Other,
}

impl Fault {
    /// A failure of this kind.
    pub fn new(kind: FaultKind, says: impl Into<String>) -> Self {
        Self {
            kind,
            errno: None,
            is_local: false,
            status: None,
            says: says.into(),
        }
    }
}

/// What a stage of an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A name to its addresses.
    Resolve,
    /// TCP, to the relay or to the proxy.
    Tcp,
    /// The proxy's yes.
    Proxy,
    /// TLS.
    Tls,
    /// A request and its answer.
    Http,
    /// The switch to WebSocket.
    Websocket,
    /// QUIC's handshake.
    Quic,
    /// The relay's proof of its identity over the connection.
    Proof,
}

impl Stage {
    /// As a report names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "DNS",
            Self::Tcp => "TCP",
            Self::Proxy => "proxy",
            Self::Tls => "TLS",
            Self::Http => "HTTP",
            Self::Websocket => "WebSocket",
            Self::Quic => "QUIC",
            Self::Proof => "proof",
        }
    }
}

/// One stage, from when to when, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSeen {
    /// Which.
    pub stage: Stage,
    /// When it began.
    pub start: Micros,
    /// When it ended.
    pub end: Micros,
    /// `None`: it went well.
    pub fault: Option<Fault>,
}

/// What an attempt changes against production.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variation {
    /// Nothing.
    Production,
    /// Another name in the ClientHello.
    NeutralName,
    /// Another application protocol.
    NeutralAlpn,
    /// A ClientHello that fits one packet.
    SmallHello,
    /// Segments of at most so many bytes, both ways.
    Mss(u16),
    /// No TLS, but a line of plain HTTP.
    Plain,
}

/// A certificate, as far as a person and a judge need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whose.
    pub subject: String,
    /// Who vouches.
    pub issuer: String,
    /// By its own key.
    pub is_self_signed: bool,
    /// SHA-256 of the public key, in hexadecimal.
    pub spki_sha256: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// What TLS showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The leaf first.
    pub certificates: Vec<Certificate>,
    /// Whether the system's CAs, or those given, vouch for it; else why not.
    pub not_vouched: Option<String>,
    /// Whether the leaf names the host that was asked for.
    pub names_host: bool,
    /// Whether a CA vouches for it that an agent here is told may intercept.
    #[serde(default)]
    pub may_intercept: bool,
}

/// The relay's proof of its identity, over the very connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofSeen {
    /// Whom the other end says to be.
    pub identity: String,
    /// Whether the proof is of this connection.
    pub is_proven: bool,
    /// Whether it is the one that was given; `None`: none was.
    pub is_pinned: Option<bool>,
}

/// An answer by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers, bounded.
    pub headers: Vec<(String, String)>,
    /// How its body begins.
    pub body: String,
}

impl HttpAnswer {
    /// The first header of a name, which is given in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter();
        let found = found.find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// One try, from the first packet to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// For which flow.
    pub flow: Flow,
    /// 1 for the first.
    pub round: u8,
    /// What it changes.
    pub variation: Variation,
    /// To which address of the relay; `None`: the proxy resolves.
    pub address: Option<IpAddr>,
    /// Through the proxy.
    pub is_through_proxy: bool,
    /// This end.
    pub from: Option<SocketAddr>,
    /// In order.
    pub stages: Vec<StageSeen>,
    /// What TLS showed.
    pub chain: Option<Chain>,
    /// What the relay proved.
    pub proof: Option<ProofSeen>,
    /// The last answer by HTTP.
    pub answer: Option<HttpAnswer>,
    /// What the relay saw of it.
    pub echo: Option<Echo>,
}

impl Attempt {
    /// Where it failed.
    pub fn failure(&self) -> Option<(Stage, &Fault)> {
        let last = self.stages.iter().find(|seen| seen.fault.is_some())?;
        Some((last.stage, last.fault.as_ref()?))
    }

    /// Whether all of its stages went well.
    pub fn is_well(&self) -> bool {
        !self.stages.is_empty() && self.failure().is_none()
    }

    /// Whether a stage was done.
    pub fn has_done(&self, stage: Stage) -> bool {
        let mut stages = self.stages.iter();
        stages.any(|seen| seen.stage == stage && seen.fault.is_none())
    }

    /// How long a stage took.
    pub fn took(&self, stage: Stage) -> Option<Micros> {
        let mut stages = self.stages.iter();
        let seen = stages.find(|seen| seen.stage == stage)?;
        Some(seen.end.saturating_sub(seen.start))
    }

    /// Whether anything came back behind TCP: a certificate, an alert, any byte.
    pub fn is_answered(&self) -> bool {
        let is_answer = |fault: &Fault| {
            use FaultKind::{Alert, Busy, NotTls, Protocol, Status};
            matches!(fault.kind, Alert | NotTls | Status | Protocol | Busy)
        };
        self.chain.is_some()
            || self.answer.is_some()
            || self.failure().is_some_and(|(_, fault)| is_answer(fault))
    }
}

/// One look-up of the relay's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUp {
    /// When it began.
    pub start: Micros,
    /// When it ended.
    pub end: Micros,
    /// What came; or what failed.
    pub outcome: Result<Vec<IpAddr>, NameFault>,
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameFault {
    /// The resolver says that there is none.
    NoSuchName,
    /// No resolver answered in time.
    TimedOut,
    /// The resolver failed.
    Failed(String),
}

/// An ICMP error, as the socket was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// Its type: 3 of IPv4, 1 of IPv6 is "unreachable".
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Who sent it.
    pub offender: Option<IpAddr>,
    /// This host made it itself.
    pub is_local: bool,
    /// As an errno.
    pub errno: i32,
}

/// A datagram that every QUIC server answers, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpTest {
    /// To whom.
    pub to: SocketAddr,
    /// When the first was sent.
    pub start: Micros,
    /// This end.
    pub from: Option<SocketAddr>,
    /// How many were sent.
    pub sent: u8,
    /// After how long an answer came.
    pub answered_after: Option<Micros>,
    /// ICMP errors.
    pub icmp: Vec<Icmp>,
    /// What sending, or the socket, failed with.
    pub fault: Option<Fault>,
}

/// A connection with a bounded number of hops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopTest {
    /// To whom.
    pub to: SocketAddr,
    /// Hops that it may take at most.
    pub hops: u8,
    /// Whether the answer of the full way came already: a RST where it is refused, a
    /// connection where it is open.
    pub outcome: HopOutcome,
}

/// What came of a [`HopTest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HopOutcome {
    /// Connected.
    Open,
    /// Refused.
    Refused,
    /// The hops were used up, or nothing came.
    Short,
}

/// How fast a port is refused, and how fast the relay answers otherwise: each the shortest of
/// some, measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// What is refused.
    pub to: SocketAddr,
    /// How fast.
    pub refused: Micros,
    /// How fast the relay's host answers elsewhere, where it does.
    pub answered: Option<Micros>,
}

/// A device on the way that counts hops, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// 1 for the first.
    pub hop: u8,
    /// Its address.
    pub address: IpAddr,
}

/// What this host's kernel counted during the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnHost {
    /// Segments that this host itself refused to send again: its own firewall.
    pub resends_refused: u64,
    /// Tries of a refused connection, and for how many of them something went over the
    /// loopback: a rejection that this host made.
    pub refused_over_loopback: Option<(u8, u8)>,
}

/// Connections to where nobody is (192.0.2.1, RFC 5737), and plain HTTP to the relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalTest {
    /// Whether a connection to port 80 of nowhere came about.
    pub is_nowhere_80_open: bool,
    /// Whether a connection to port 443 of nowhere came about.
    pub is_nowhere_443_open: bool,
    /// What answered plain HTTP at nowhere.
    pub answer: Option<HttpAnswer>,
    /// What answered plain HTTP at the relay's address: it may be the vendor's own.
    pub at_relay: Option<HttpAnswer>,
}

/// What the relay says of who arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessSeen {
    /// When it was asked.
    pub at: Micros,
    /// From which address of this host.
    pub from: Option<SocketAddr>,
    /// Its word.
    pub witness: Witness,
}

/// A host that holds images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryTest {
    /// `HOST:PORT`.
    pub host: String,
    /// What for: registry, token or blobs.
    pub role: String,
    /// Through which proxy.
    pub proxy: Option<String>,
    /// Whether its certificate is vouched for; else why not.
    pub not_vouched: Option<String>,
    /// The answer's status, where one came.
    pub status: Option<u16>,
    /// Where it failed.
    pub fault: Option<Fault>,
}

/// All of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observations {
    /// Milliseconds since 1970, by this host's clock.
    pub started_ms: i64,
    /// How long it took.
    pub took: Micros,
    /// Who was asked.
    pub target: Target,
    /// The proxy for TCP, without its login.
    pub proxy: Option<String>,
    /// Of the relay's name.
    pub look_ups: Vec<LookUp>,
    /// Addresses that were tried.
    pub addresses: Vec<IpAddr>,
    /// They were given, and not looked up.
    pub is_pinned_address: bool,
    /// The network translates addresses of IPv4 (RFC 7050).
    pub is_nat64: bool,
    /// Every try.
    pub attempts: Vec<Attempt>,
    /// Bare datagrams.
    pub udp: Vec<UdpTest>,
    /// How far away refusals and openings are.
    pub hops: Vec<HopTest>,
    /// How fast refusals and answers come.
    pub paces: Vec<Pace>,
    /// Devices on the way.
    pub routers: Vec<Router>,
    /// Of this host.
    pub own: OwnHost,
    /// Whether somebody answers in everybody's place.
    pub portal: Option<PortalTest>,
    /// What the relay saw.
    pub witness: Option<WitnessSeen>,
    /// The idle ladder.
    pub idle: Vec<IdleRung>,
    /// The size ladder.
    pub sizes: Vec<SizeRung>,
    /// Many at once.
    pub parallel: Option<ParallelTest>,
    /// Bytes in time.
    pub rates: Vec<RateTest>,
    /// Hosts of images.
    pub registry: Vec<RegistryTest>,
}

impl Observations {
    /// Production's attempts of a flow, in order.
    pub fn production(&self, flow: Flow) -> impl Iterator<Item = &Attempt> {
        let is_production = |attempt: &&Attempt| attempt.variation == Variation::Production;
        let of_flow = self.attempts.iter().filter(move |a| a.flow == flow);
        of_flow.filter(is_production)
    }
}
