//! One connection of a session, as the machine sees it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{StreamReset, heartbeat::Heartbeat, schedule::Scheduler};
use crate::{
    frame::{Frame, ResumeStream},
    id::{Side, StreamId},
    transport::Transport,
};

/// How a connection carries streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// All frames in one ordered pipe.
    Framed,
    /// A control lane for frames, and a lane of raw bytes for each stream.
    Laned,
}

/// What the machine is told of a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionOptions {
    /// Decides the kind and the busy heartbeat.
    pub transport: Transport,
    /// How long an idle dialler is silent at most, as agreed in the handshake.
    pub heartbeat_idle: Duration,
}

impl ConnectionOptions {
    /// The options that a transport comes with.
    pub const fn of(transport: Transport) -> Self {
        Self {
            transport,
            heartbeat_idle: transport.heartbeat_idle(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) kind: ConnectionKind,
    pub(super) heartbeat: Heartbeat,
    /// Whose turn it is (framed connections).
    pub(super) scheduler: Scheduler,
    /// When a bulk lane was last of use; `None` for the session's own connection.
    pub(super) bulk_used: Option<Instant>,
    pub(super) is_close_sent: bool,
    /// What was received before, to be told first.
    pub(super) resume_out: VecDeque<Frame>,
    /// What the peer tells it has received; `None` once all is known.
    pub(super) resume_in: Option<PeerResume>,
    /// What the control lane said of streams whose open is under way on a lane.
    pub(super) early: BTreeMap<StreamId, Early>,
}

/// What has overtaken a stream's open.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// The peer broke its direction off, after so many bytes.
    pub(super) reset: Option<(StreamReset, u64)>,
    /// The peer will not read.
    pub(super) stop: Option<StreamReset>,
}

/// The peer's resume frames so far.
#[derive(Debug, Default)]
pub(super) struct PeerResume {
    pub(super) streams: BTreeMap<StreamId, ResumeStream>,
    pub(super) gaps: Vec<u64>,
}

impl Connection {
    pub(super) fn new(now: Instant, side: Side, options: ConnectionOptions) -> Self {
        let kind = match options.transport {
            Transport::Quic => ConnectionKind::Laned,
            Transport::Ws | Transport::Ws443 => ConnectionKind::Framed,
        };
        Self {
            kind,
            heartbeat: Heartbeat::new(now, side, options.transport, options.heartbeat_idle),
            scheduler: Scheduler::default(),
            bulk_used: None,
            is_close_sent: false,
            resume_out: VecDeque::new(),
            resume_in: None,
            early: BTreeMap::new(),
        }
    }

    /// Whether streams may travel on it.
    pub(super) const fn is_ready(&self) -> bool {
        self.resume_in.is_none()
    }

    /// Whether it carries the bytes of heavy streams and nothing else.
    pub(super) const fn is_bulk(&self) -> bool {
        self.bulk_used.is_some()
    }

    /// A bulk lane has carried something.
    pub(super) const fn note_used(&mut self, now: Instant) {
        if let Some(used) = &mut self.bulk_used {
            *used = now;
        }
    }

    /// Whether there is something to send that belongs to this connection alone.
    pub(super) fn has_output(&self) -> bool {
        self.heartbeat.has_output() || !self.resume_out.is_empty() || !self.scheduler.is_empty()
    }
}
