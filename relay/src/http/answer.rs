//! What the API answers: the contract's words over the use cases' views.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use wire::message::{self, AgentFigures, AgentReport, docker};

use crate::control::{
    self, EnvironmentStatus, EnvironmentView, ExposureView, IssuedToken, SessionView,
};

/// The relay.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Relay {
    /// Its release.
    pub(super) version: String,
    /// The commit it was built from.
    pub(super) commit: String,
    /// The node that answers.
    pub(super) node: String,
    /// The public key that agents pin.
    pub(super) identity: String,
    /// The name that agents and operators reach it under.
    pub(super) public_name: String,
    /// Port of WebSocket (TCP) and QUIC (UDP).
    pub(super) tunnel_port: u16,
    /// Port of HTTPS.
    pub(super) https_port: u16,
    /// Sessions open at this moment, operators' included.
    pub(super) sessions: usize,
}

/// How an environment fares.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// Its agent has a session.
    Online,
    /// Its agent's session has lost its connection, and waits for another with its streams.
    Reconnecting,
    /// Its agent has no session.
    Offline,
    /// No agent has enrolled.
    NeverConnected,
    /// Its identity was seen twice: stop one of the two hosts, then release it.
    CopiedIdentity,
}

/// An environment: the relay's record of one agent's host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Environment {
    /// Never used again, not even after removal.
    id: String,
    /// Unique.
    name: String,
    /// For selecting many at once.
    tags: BTreeMap<String, String>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// How it fares.
    status: Status,
    /// The agent that enrolled, if one has.
    agent: Option<Agent>,
    /// Its agent's session, if there is one.
    session: Option<Session>,
    /// What the newest run of the probe with its token found; only where one environment is
    /// asked for, and missing where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<ProbeAnswer>,
}

/// What the probe found, as whoever had the token told it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProbeReport)]
pub(super) struct ProbeAnswer {
    /// When it was told.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// `open`, `degraded`, `blocked` or `cannot-tell`.
    verdict: String,
    /// Each way to the relay.
    flows: Vec<ProbeFlow>,
}

/// One way to the relay, as the probe found it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProbeFlow {
    /// `https`, `websocket` or `quic`.
    flow: String,
    /// The relay's port.
    port: u16,
    /// `tcp` or `udp`.
    protocol: String,
    /// `open`, `caveat`, `blocked` or `cannot-tell`.
    verdict: String,
    /// Why, the main cause first.
    causes: Vec<ProbeCause>,
}

/// Why a way is not open, or open with a caveat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProbeCause {
    /// A stable word.
    code: String,
    /// A sentence.
    says: String,
}

impl From<control::ProbeReport> for ProbeAnswer {
    fn from(report: control::ProbeReport) -> Self {
        let cause = |cause: control::ProbeCause| ProbeCause {
            code: cause.code,
            says: cause.says,
        };
        let flow = |flow: control::ProbeFlow| ProbeFlow {
            flow: flow.flow,
            port: flow.port,
            protocol: flow.protocol,
            verdict: flow.verdict,
            causes: flow.causes.into_iter().map(cause).collect(),
        };
        Self {
            received_at: report.received_at,
            verdict: report.summary.verdict,
            flows: report.summary.flows.into_iter().map(flow).collect(),
        }
    }
}

impl Environment {
    /// The same with what the probe found.
    pub(super) fn with_probe(mut self, report: Option<control::ProbeReport>) -> Self {
        self.probe = report.map(Into::into);
        self
    }
}

/// The agent of an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Agent {
    /// Changes when another agent enrols.
    id: String,
    /// When it enrolled.
    #[schema(value_type = String, format = DateTime)]
    enrolled_at: Timestamp,
}

/// An agent's session at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// `quic`, `ws` or `ws-443`.
    transport: String,
    /// The latest round trip; null before the first heartbeat's answer.
    rtt_ms: Option<f64>,
    /// When it was admitted.
    #[schema(value_type = String, format = DateTime)]
    connected_since: Timestamp,
    /// How long ago anything was heard from the agent.
    last_heard_ms_ago: u64,
    /// Where it comes from, as the relay's host sees it.
    remote: String,
    /// Program and version of the agent.
    software: String,
    /// The proxy that the session goes through, as the agent tells; null where there is none.
    proxy: Option<String>,
    /// Whether somebody on the customer's side ends the TLS around the session's own, as the
    /// customer allows.
    intercepted: bool,
    /// Who that is: the issuer of the certificate, as the agent tells.
    intercepted_by: Option<String>,
    /// Fencing number: the newer session has the higher one.
    epoch: String,
    /// Streams open.
    streams_open: usize,
    /// Sent to the agent.
    bytes_sent: u64,
    /// Received from the agent.
    bytes_received: u64,
    /// The Docker Engine of its host; null until the agent has told of it.
    docker: Option<Docker>,
    /// Name of its host.
    hostname: Option<String>,
    /// Operating system of its host.
    os: Option<String>,
    /// Architecture of its host.
    arch: Option<String>,
    /// Kernel of its host.
    kernel: Option<String>,
    /// Targets that the customer's policy allows, in the policy's own words.
    allowed_targets: Vec<String>,
    /// What else the policy says, in its own words: what of Docker is allowed, and limits.
    policy_rules: Vec<String>,
    /// The policy's file has changed and cannot be used; what is shown stays in force.
    policy_file_broken: bool,
    /// What the kernel enforces on the agent's process, one by one.
    fences: Vec<Fence>,
    /// What the kernel enforces on the agent's process, in words.
    sandbox: Option<String>,
    /// The agent's process, as it tells of itself; null unless `metrics.environments` is on.
    process: Option<AgentProcess>,
}

/// One thing that the kernel denies to an agent's process.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Fence {
    /// Such as `listen`.
    name: String,
    /// Whether it holds.
    in_force: bool,
    /// How that is known, or why it does not.
    detail: String,
    /// Whether the process is outbound only by this fence among others.
    needed: bool,
}

impl From<message::Fence> for Fence {
    fn from(fence: message::Fence) -> Self {
        Self {
            name: fence.name,
            in_force: fence.in_force,
            detail: fence.detail,
            needed: fence.needed,
        }
    }
}

/// An agent's process, as it tells of itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentProcess {
    /// How long it has run.
    uptime_seconds: u64,
    /// Time on a processor.
    cpu_seconds: f64,
    /// Memory in RAM.
    resident_bytes: u64,
    /// File descriptors open.
    open_files: u64,
    /// Sessions that it has opened.
    sessions: u64,
}

impl From<AgentFigures> for AgentProcess {
    fn from(figures: AgentFigures) -> Self {
        Self {
            uptime_seconds: figures.uptime_ms / 1_000,
            cpu_seconds: milliseconds_to_seconds(figures.cpu_ms),
            resident_bytes: figures.resident_bytes,
            open_files: figures.open_files,
            sessions: figures.sessions,
        }
    }
}

fn milliseconds_to_seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

/// What stands in the way of a Docker Engine, if anything.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DockerState {
    /// It answers.
    Ok,
    /// There is no socket.
    Missing,
    /// The agent may not open the socket.
    PermissionDenied,
    /// The socket opens and nothing answers.
    NotResponding,
    /// The customer's policy does not allow it.
    NotAllowed,
    /// The agent says something that this relay does not know.
    Unknown,
}

/// A Docker Engine, as its agent sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Docker {
    /// What stands in its way.
    state: DockerState,
    /// Its release.
    engine_version: Option<String>,
    /// The newest API that it speaks.
    api_version: Option<String>,
    /// What to do about it; null when there is nothing to do.
    detail: Option<String>,
}

/// A one-time token and how to use it. Shown this one time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Token {
    /// The string to paste.
    token: String,
    /// From when on it is refused.
    #[schema(value_type = String, format = DateTime)]
    token_expires_at: Timestamp,
    /// Runs an agent with it.
    agent_command: String,
    /// Runs an agent with it in a container.
    docker_run_command: String,
}

/// An environment just added, with its first token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedEnvironment {
    /// The environment.
    environment: Environment,
    /// Its token.
    #[serde(flatten)]
    token: Token,
}

/// Environments by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Environments {
    /// All that were asked for.
    pub(super) environments: Vec<Environment>,
}

/// A port on the relay's host that leads to a target at an agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Exposure {
    /// Names it.
    id: String,
    /// Name of the environment.
    environment: String,
    /// What is reached there.
    target: String,
    /// Where the relay listens; with the port that the system chose, if it was asked to.
    listen: String,
    /// `listening`, or why it is not.
    status: String,
}

/// Exposures, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Exposures {
    /// All of them.
    pub(super) exposures: Vec<Exposure>,
}

impl From<EnvironmentView> for Environment {
    fn from(view: EnvironmentView) -> Self {
        let record = view.record;
        Self {
            id: record.id.to_string(),
            name: record.name,
            tags: record.tags,
            created_at: record.created_at,
            status: match view.status {
                EnvironmentStatus::CopiedIdentity => Status::CopiedIdentity,
                EnvironmentStatus::NeverConnected => Status::NeverConnected,
                EnvironmentStatus::Offline => Status::Offline,
                EnvironmentStatus::Online => Status::Online,
                EnvironmentStatus::Reconnecting => Status::Reconnecting,
            },
            agent: record.agent.map(|agent| Agent {
                id: agent.agent_id.to_string(),
                enrolled_at: agent.enrolled_at,
            }),
            session: view.session.map(Session::from),
            probe: None,
        }
    }
}

impl From<SessionView> for Session {
    fn from(view: SessionView) -> Self {
        let report = view.report.unwrap_or_default();
        let last_heard_ms_ago = view.last_heard_ago.as_millis();
        Self {
            transport: view.transport.as_str().to_owned(),
            rtt_ms: view.rtt.map(milliseconds),
            connected_since: view.connected_since,
            last_heard_ms_ago: u64::try_from(last_heard_ms_ago).unwrap_or(u64::MAX),
            remote: view.remote.to_string(),
            software: view.software,
            proxy: some(report.proxy.clone()),
            intercepted: view.is_intercepted,
            intercepted_by: some(report.intercepted_by.clone()),
            epoch: view.epoch.to_string(),
            streams_open: view.streams_open,
            bytes_sent: view.bytes_sent,
            bytes_received: view.bytes_received,
            docker: docker_of(&report),
            hostname: some(report.hostname),
            os: some(report.os),
            arch: some(report.arch),
            kernel: some(report.kernel),
            allowed_targets: report.allowed_targets,
            policy_rules: report.policy_rules,
            policy_file_broken: report.policy_file_broken,
            fences: report.fences.into_iter().map(Fence::from).collect(),
            sandbox: some(report.sandbox),
            process: view.figures.map(AgentProcess::from),
        }
    }
}

fn docker_of(report: &AgentReport) -> Option<Docker> {
    let docker = report.docker.as_ref()?;
    Some(Docker {
        state: match docker.state() {
            docker::State::Ok => DockerState::Ok,
            docker::State::Missing => DockerState::Missing,
            docker::State::PermissionDenied => DockerState::PermissionDenied,
            docker::State::NotResponding => DockerState::NotResponding,
            docker::State::NotAllowed => DockerState::NotAllowed,
            docker::State::Unspecified => DockerState::Unknown,
        },
        engine_version: some(docker.engine_version.clone()),
        api_version: some(docker.api_version.clone()),
        detail: some(docker.detail.clone()),
    })
}

/// To the microsecond: more is noise.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// Protocol Buffers leave out what is empty.
fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl From<IssuedToken> for Token {
    fn from(issued: IssuedToken) -> Self {
        Self {
            token: issued.text.to_string(),
            token_expires_at: issued.expires_at,
            agent_command: issued.agent_command.to_string(),
            docker_run_command: issued.docker_run_command.to_string(),
        }
    }
}

impl AddedEnvironment {
    pub(super) fn new(view: EnvironmentView, issued: IssuedToken) -> Self {
        Self {
            environment: view.into(),
            token: issued.into(),
        }
    }
}

impl From<ExposureView> for Exposure {
    fn from(view: ExposureView) -> Self {
        let (listen, status) = match view.outcome {
            Ok(bound) => (bound, "listening".to_owned()),
            Err(reason) => (view.record.listen, reason),
        };
        Self {
            id: view.record.id.to_string(),
            environment: view.record.environment,
            target: view.record.target.to_string(),
            listen: listen.to_string(),
            status,
        }
    }
}
