//! Sessions: how many there are, how they fare, how they end, and how soon an agent
//! is back.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Result};
use wire::{close::CloseCode, transport::Transport};

use super::{Metrics, declare::Declare};

/// Bounds of round trips: one machine, one city, one continent, the world, trouble.
const ROUND_TRIP_SECONDS: [f64; 10] = [
    0.000_5, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// Bounds of ages: a flap, a lost heartbeat, an hour, a day, a release.
const AGE_SECONDS: [f64; 8] = [
    1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0,
];

/// Bounds of gaps: another path, one backoff, a dead peer noticed, a host restarted.
const GAP_SECONDS: [f64; 9] = [0.1, 0.5, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 3_600.0];

/// How it is told that a connection is lost.
const LOSSES: [CloseCode; 2] = [CloseCode::ConnectionLost, CloseCode::HeartbeatTimeout];

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An agent's.
    Agent,
    /// An operator's.
    Operator,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Operator];

    /// Value of the label `role`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

/// Sessions, from the welcome to the end.
#[derive(Debug)]
pub(super) struct SessionSeries {
    sessions: IntGaugeVec,
    heartbeat_rtt: HistogramVec,
    closes: IntCounterVec,
    losses: IntCounterVec,
    ages: HistogramVec,
    gaps: HistogramVec,
    bulk_lanes: IntGauge,
    waiting: IntGauge,
    waiting_bytes: IntGauge,
    resumes: IntCounterVec,
    intercepted: IntCounterVec,
}

/// What became of a session that was to go on over another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// It had lost its connection, and goes on over another.
    Resumed,
    /// It moved to another connection while it still had one.
    Moved,
    /// It ended before another connection came.
    Ended,
    /// The node keeps as much for resumption as it may already.
    Refused,
    /// An agent asked for one that this node does not have.
    Unknown,
}

impl Resumed {
    /// Every result.
    pub const ALL: [Self; 5] = [
        Self::Resumed,
        Self::Moved,
        Self::Ended,
        Self::Refused,
        Self::Unknown,
    ];

    /// Value of the label `result`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Moved => "moved",
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl SessionSeries {
    pub(super) fn declare(declare: &Declare<'_>) -> Result<Self> {
        let series = Self {
            sessions: declare.gauges(
                "sessions",
                "Sessions at this moment, by transport, by whose they are, and by state: \
                 `live`, or `draining` once told to go elsewhere.",
                &["transport", "role", "state"],
            )?,
            heartbeat_rtt: declare.histograms(
                "heartbeat_round_trip_seconds",
                "Round trips of heartbeats through sessions, by transport.",
                &["transport"],
                &ROUND_TRIP_SECONDS,
            )?,
            closes: declare.counters(
                "closes_total",
                "Sessions that ended, by whose they were and close code.",
                &["role", "close_code"],
            )?,
            losses: declare.counters(
                "connections_lost_total",
                "Connections of sessions that were lost, whether the session was resumed or not, \
                 by transport and by how that was told: `connection_lost` by the network, \
                 `heartbeat_timeout` by a peer's silence.",
                &["transport", "close_code"],
            )?,
            ages: declare.histograms(
                "session_age_at_close_seconds",
                "How old sessions became, by whose they were.",
                &["role"],
                &AGE_SECONDS,
            )?,
            gaps: declare.histograms(
                "reconnect_gap_seconds",
                "From the end of an agent's session to its next one, by the next one's \
                 transport; 0 where the next one came first.",
                &["transport"],
                &GAP_SECONDS,
            )?,
            bulk_lanes: declare.gauge(
                "bulk_lanes",
                "Connections at this moment that agents have added to their sessions for \
                 the bytes of heavy streams.",
            )?,
            waiting: declare.gauge(
                "sessions_waiting",
                "Agents' sessions at this moment that have lost their connection, and wait for \
                 another with their streams.",
            )?,
            waiting_bytes: declare.gauge(
                "sessions_waiting_bytes",
                "Bytes of streams that sessions without a connection held when they lost it.",
            )?,
            resumes: declare.counters(
                "resumes_total",
                "Agents' sessions that were to go on over another connection, by result: \
                 `resumed` after a loss, `moved` without one, `ended` because none came in \
                 time, `refused` because the node keeps no more, `unknown` to this node.",
                &["result"],
            )?,
            intercepted: declare.counters(
                "intercepted_sessions_total",
                "Sessions of agents that were admitted inside another TLS, which somebody on \
                 the customer's side ends and is allowed to, by transport.",
                &["transport"],
            )?,
        };
        series.begin();
        Ok(series)
    }

    /// Gives every value of a label its series from the start.
    fn begin(&self) {
        for result in Resumed::ALL {
            self.resumes.with_label_values(&[result.as_str()]).reset();
        }
        for role in Role::ALL {
            for code in CloseCode::ALL {
                let labels = [role.as_str(), code.as_str()];
                self.closes.with_label_values(&labels).reset();
            }
            for transport in Transport::ALL {
                let labels = [transport.as_str(), role.as_str(), "live"];
                self.sessions.with_label_values(&labels).set(0);
            }
        }
        for transport in Transport::ALL {
            for code in LOSSES {
                let labels = [transport.as_str(), code.as_str()];
                self.losses.with_label_values(&labels).reset();
            }
            let count = self.intercepted.with_label_values(&[transport.as_str()]);
            count.reset();
        }
    }
}

impl Metrics {
    /// A session was admitted; it counts until the guard is dropped.
    pub fn session_opened(&self, transport: Transport, role: Role) -> SessionGuard {
        let gauge = |state| {
            let labels = [transport.as_str(), role.as_str(), state];
            self.session.sessions.with_label_values(&labels)
        };
        let guard = SessionGuard {
            draining: gauge("draining"),
            current: gauge("live"),
            is_draining: false,
        };
        guard.current.inc();
        guard
    }

    /// A session goes on over another transport.
    pub fn session_moved(&self, guard: &mut SessionGuard, transport: Transport, role: Role) {
        let is_draining = guard.is_draining;
        *guard = self.session_opened(transport, role);
        if is_draining {
            guard.draining();
        }
    }

    /// A session has lost its connection.
    pub fn connection_lost(&self, transport: Transport, code: CloseCode) {
        let labels = [transport.as_str(), code.as_str()];
        self.session.losses.with_label_values(&labels).inc();
    }

    /// A session waits for another connection, and holds so much.
    pub fn session_waits(&self, bytes: u64) {
        self.session.waiting.inc();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.session.waiting_bytes.add(bytes);
    }

    /// A session waits no longer.
    pub fn session_waited(&self, bytes: u64) {
        self.session.waiting.dec();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.session.waiting_bytes.sub(bytes);
    }

    /// A session was to go on over another connection.
    pub fn resume(&self, result: Resumed) {
        self.session
            .resumes
            .with_label_values(&[result.as_str()])
            .inc();
    }

    /// A session was admitted inside another TLS.
    pub fn session_intercepted(&self, transport: Transport) {
        let count = &self.session.intercepted;
        count.with_label_values(&[transport.as_str()]).inc();
    }

    /// A bulk lane was added to a session; it counts until the guard is dropped.
    pub fn bulk_lane_opened(&self) -> BulkLaneGuard {
        self.session.bulk_lanes.inc();
        BulkLaneGuard(self.session.bulk_lanes.clone())
    }

    /// A heartbeat was answered.
    pub fn heartbeat_rtt(&self, transport: Transport, rtt: Duration) {
        self.session
            .heartbeat_rtt
            .with_label_values(&[transport.as_str()])
            .observe(rtt.as_secs_f64());
    }

    /// A session ended at this age.
    pub fn closed(&self, role: Role, code: CloseCode, age: Duration) {
        self.session
            .closes
            .with_label_values(&[role.as_str(), code.as_str()])
            .inc();
        self.session
            .ages
            .with_label_values(&[role.as_str()])
            .observe(age.as_secs_f64());
    }

    /// An agent is back, so long after its former session.
    pub fn came_back(&self, transport: Transport, gap: Duration) {
        self.session
            .gaps
            .with_label_values(&[transport.as_str()])
            .observe(gap.as_secs_f64());
    }
}

/// Counts a bulk lane for as long as it lives.
#[derive(Debug)]
pub struct BulkLaneGuard(IntGauge);

impl Drop for BulkLaneGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a session for as long as it lives.
#[derive(Debug)]
pub struct SessionGuard {
    current: IntGauge,
    draining: IntGauge,
    is_draining: bool,
}

impl SessionGuard {
    /// The session has been told to go elsewhere.
    pub fn draining(&mut self) {
        self.current.dec();
        self.draining.inc();
        self.current = self.draining.clone();
        self.is_draining = true;
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.current.dec();
    }
}
