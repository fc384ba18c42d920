//! What is live, as the use cases see it: implemented above the store, below nothing.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use wire::{
    close::CloseCode,
    id::{EnvironmentId, Epoch},
    message::{AgentFigures, AgentReport},
    target::Target,
    transport::Transport,
};

use crate::id::ExposureId;

/// An agent's session at one moment.
#[derive(Debug, Clone)]
pub struct SessionView {
    /// Whether it has a connection; otherwise it waits for one.
    pub is_connected: bool,
    /// What carries it, or did last.
    pub transport: Transport,
    /// The latest round trip; `None` before the first heartbeat's answer.
    pub rtt: Option<Duration>,
    /// When it was admitted.
    pub connected_since: Timestamp,
    /// How long ago anything was heard from the agent.
    pub last_heard_ago: Duration,
    /// Where it comes from, as the relay's host sees it.
    pub remote: SocketAddr,
    /// Program and version, such as `sternline-agent/0.1.0`.
    pub software: String,
    /// Somebody on its side ends the TLS around the session's.
    pub is_intercepted: bool,
    /// Its fencing number.
    pub epoch: Epoch,
    /// Streams open.
    pub streams_open: usize,
    /// Sent to the agent.
    pub bytes_sent: u64,
    /// Received from the agent.
    pub bytes_received: u64,
    /// What the agent told of its host, once it has.
    pub report: Option<AgentReport>,
    /// What the agent's process told of itself, once it was asked and has.
    pub figures: Option<AgentFigures>,
}

/// Who is connected.
pub trait Presence: Send + Sync {
    /// The environment's session; `None` while there is none.
    fn view(&self, environment: EnvironmentId) -> Option<SessionView>;

    /// How long ago anything was last heard from an environment whose session is over;
    /// `None` where this process never heard of it, or it is back.
    fn last_heard_ago(&self, environment: EnvironmentId) -> Option<Duration>;

    /// Ends the environment's session, if there is one.
    fn close(&self, environment: EnvironmentId, code: CloseCode, reason: &str);

    /// Sessions open, operators' included.
    fn open_sessions(&self) -> usize;
}

/// The end of service of everybody who is connected.
pub trait Drain: Send + Sync {
    /// Tells every session to come back, each agent at a time of its own, all of them
    /// spread evenly; streams are served for as long as `serve_for`.
    fn goaway_all(&self, spread: Duration, serve_for: Duration);

    /// Streams open in all sessions.
    fn streams_open(&self) -> usize;

    /// Operators who have a session.
    fn operators(&self) -> usize;

    /// Ends every session.
    fn close_all(&self, code: CloseCode, reason: &str);
}

/// A port on the relay's host that leads to a target at an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Names it in the API.
    pub id: ExposureId,
    /// Whose agent is reached.
    pub environment_id: EnvironmentId,
    /// The environment's name.
    pub environment: String,
    /// What is reached there.
    pub target: Target,
    /// Where the relay listens; port 0 lets the system choose.
    pub listen: SocketAddr,
}

/// Ports on the relay's host.
#[async_trait]
pub trait Exposer: Send + Sync {
    /// Listens, and from then on leads every connection to the target. Returns the
    /// address that was bound, or the cause in words.
    async fn start(&self, exposure: Exposure) -> Result<SocketAddr, String>;

    /// Listens no more and ends the connections that came in; a no-op for an id
    /// that is not started.
    async fn stop(&self, id: ExposureId);
}
