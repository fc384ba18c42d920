//! What people are shown of the relay's answers. Every field that a relay of
//! another version may lack is optional; fields it has more are left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::failure::{Exit, Failure};

/// An environment, as the API describes it.
#[derive(Debug, Deserialize)]
pub struct Environment {
    /// Stable id: `env_…`.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// The operator's tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Option<String>,
    /// `online`, `reconnecting`, `offline`, `never_connected`, `copied_identity`.
    pub status: String,
    /// The agent that enrolled; none before.
    pub agent: Option<Agent>,
    /// The live session; none while offline.
    pub session: Option<Session>,
    /// What the probe found with the environment's token; none where it did not run.
    pub probe: Option<ProbeReport>,
}

/// What the newest run of the probe found.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProbeReport {
    /// When it was told.
    pub received_at: String,
    /// `open`, `degraded`, `blocked`, `cannot-tell`.
    pub verdict: String,
    /// Each way to the relay.
    pub flows: Vec<ProbeFlow>,
}

/// One way to the relay, as the probe found it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProbeFlow {
    /// `https`, `websocket`, `quic`.
    pub flow: String,
    /// The relay's port.
    pub port: u16,
    /// `tcp`, `udp`.
    pub protocol: String,
    /// `open`, `caveat`, `blocked`, `cannot-tell`.
    pub verdict: String,
    /// Why, the main cause first.
    pub causes: Vec<ProbeCause>,
}

/// Why a way is not open, or open with a caveat.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProbeCause {
    /// A stable word.
    pub code: String,
    /// A sentence.
    pub says: String,
}

/// An enrolled agent.
#[derive(Debug, Deserialize)]
pub struct Agent {
    /// Stable id: `agt_…`.
    pub id: String,
    /// When it enrolled.
    pub enrolled_at: Option<String>,
}

/// A live session of an agent, and what the agent has reported in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Session {
    /// `quic`, `ws`, `ws-443`.
    pub transport: String,
    /// Heartbeat round trip in milliseconds; none before the first.
    pub rtt_ms: Option<f64>,
    /// When it was opened.
    pub connected_since: Option<String>,
    /// Silence so far, in milliseconds.
    pub last_heard_ms_ago: Option<u64>,
    /// The address it comes from.
    pub remote: Option<String>,
    /// The proxy that it goes through; none where there is none.
    pub proxy: Option<String>,
    /// Whether somebody on the customer's side ends the TLS around the session's own.
    pub intercepted: bool,
    /// Who that is.
    pub intercepted_by: Option<String>,
    /// The agent's name and version.
    pub software: Option<String>,
    /// Fencing number.
    pub epoch: Option<String>,
    /// Streams open at the moment.
    pub streams_open: Option<u64>,
    /// Bytes sent to the agent.
    pub bytes_sent: Option<u64>,
    /// Bytes received from it.
    pub bytes_received: Option<u64>,
    /// The host's Docker Engine.
    pub docker: Option<Docker>,
    /// The host's name for itself.
    pub hostname: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Processor architecture.
    pub arch: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Targets that the customer's policy allows.
    pub allowed_targets: Vec<String>,
    /// What else the policy says; none of an older relay or agent.
    pub policy_rules: Vec<String>,
    /// Whether the policy's file cannot be used.
    pub policy_file_broken: bool,
    /// What the kernel enforces on the agent's process, one by one.
    pub fences: Vec<Fence>,
    /// The agent's process, where the relay asks for it.
    pub process: Option<AgentProcess>,
}

/// What the kernel denies to an agent's process.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fence {
    /// Such as `listen`.
    pub name: String,
    /// Whether it holds.
    pub in_force: bool,
    /// How that is known, or why it does not.
    pub detail: String,
    /// Whether it is needed.
    pub needed: bool,
}

/// What the agent says about its own process.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AgentProcess {
    /// How long it has run.
    pub uptime_seconds: u64,
    /// Time on a processor.
    pub cpu_seconds: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// File descriptors open.
    pub open_files: u64,
    /// Sessions that it has opened.
    pub sessions: u64,
}

/// What the agent says about its Docker Engine.
#[derive(Debug, Deserialize)]
pub struct Docker {
    /// `ok`, or why not: `missing`, `permission_denied`, `not_responding`, …
    pub state: String,
    /// Version of the engine.
    pub engine_version: Option<String>,
    /// Newest API version of the engine.
    pub api_version: Option<String>,
    /// What went wrong, in words.
    pub detail: Option<String>,
}

/// A port on the relay's host that leads to a target.
#[derive(Debug, Deserialize)]
pub struct Exposure {
    /// Stable id.
    pub id: String,
    /// The environment's name.
    pub environment: String,
    /// `tcp:HOST:PORT`.
    pub target: String,
    /// Address on the relay's host.
    pub listen: String,
    /// Whether it listens, and why not.
    pub status: Option<String>,
}

/// A token that was made, with the commands that use it.
#[derive(Debug, Deserialize)]
pub struct Enrolment {
    /// The one-time token.
    pub token: String,
    /// When the relay stops taking it.
    pub token_expires_at: Option<String>,
    /// What to run on the customer's host.
    pub agent_command: Option<String>,
    /// The same in a container.
    pub docker_run_command: Option<String>,
}

/// Reads an answer of the relay.
///
/// # Errors
///
/// The relay speaks another version of the API.
pub fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        Failure::new(
            Exit::Protocol,
            format!("the relay's answer is not understood: {error}"),
        )
        .advise("use a `sternline-relay` of the relay's own version, or --json to see the answer")
    })
}

/// Reads the list under `key` of an answer.
///
/// # Errors
///
/// As [`read`].
pub fn read_list<T: DeserializeOwned>(answer: &Value, key: &str) -> Result<Vec<T>, Failure> {
    read(answer.get(key).unwrap_or(&Value::Null))
}
