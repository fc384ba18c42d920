//! Streams towards agents. What is counted for each chunk is resolved beforehand.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, Result};
use wire::close::ResetCode;

use super::{
    Metrics,
    declare::{Declare, begin},
};

/// Bounds of opening a stream: one machine, one continent, a slow target, its deadline.
const ACCEPT_SECONDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// Which way bytes go, seen from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the relay.
    Received,
    /// From the relay.
    Sent,
}

/// Who opened a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody who connected to an exposure.
    Exposure,
    /// An operator's command: `docker`, or a listener of `forward`.
    Operator,
    /// The relay itself, for stacks.
    Relay,
}

impl Origin {
    const ALL: [Self; 3] = [Self::Exposure, Self::Operator, Self::Relay];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Exposure => "exposure",
            Self::Operator => "operator",
            Self::Relay => "relay",
        }
    }
}

/// Kinds of target, as [`Target::kind`](wire::target::Target::kind) has them.
const KINDS: [&str; 3] = ["docker", "stacks", "tcp"];

/// The two series of one kind of stream.
#[derive(Debug)]
struct Opened {
    origin: Origin,
    kind: &'static str,
    total: IntCounter,
    open: IntGauge,
}

/// Streams towards agents.
#[derive(Debug)]
pub(super) struct StreamSeries {
    opened: Vec<Opened>,
    bytes_sent: IntCounter,
    bytes_received: IntCounter,
    resets: IntCounterVec,
    accepts: HistogramVec,
}

impl StreamSeries {
    pub(super) fn declare(declare: &Declare<'_>) -> Result<Self> {
        let bytes = declare.counters(
            "bytes_total",
            "Payload bytes of streams to and from agents, by direction seen from the relay.",
            &["direction"],
        )?;
        let totals = declare.counters(
            "streams_opened_total",
            "Streams opened towards agents, by kind of target and by who asked: an \
             operator's command, a connection to an exposure, or the relay for stacks.",
            &["target", "origin"],
        )?;
        let open = declare.gauges(
            "streams_open",
            "Streams towards agents open at this moment, by kind of target and by who asked.",
            &["target", "origin"],
        )?;
        let opened = |origin: Origin, kind| Opened {
            origin,
            kind,
            total: totals.with_label_values(&[kind, origin.as_str()]),
            open: open.with_label_values(&[kind, origin.as_str()]),
        };
        let series = Self {
            opened: Origin::ALL
                .into_iter()
                .flat_map(|origin| KINDS.map(|kind| opened(origin, kind)))
                .collect(),
            bytes_sent: bytes.with_label_values(&["sent"]),
            bytes_received: bytes.with_label_values(&["received"]),
            resets: declare.counters(
                "resets_total",
                "Streams that were broken off, by reset code.",
                &["reset_code"],
            )?,
            accepts: declare.histograms(
                "stream_accept_duration_seconds",
                "From the opening of an operator's stream to the agent's answer, by kind of \
                 target and result: `accepted`, or `refused` where the target was not reached.",
                &["target", "result"],
                &ACCEPT_SECONDS,
            )?,
        };
        begin(
            &series.resets,
            ResetCode::ALL.iter().map(|code| code.as_str()),
        );
        Ok(series)
    }
}

impl Metrics {
    /// A stream towards an agent was opened; it counts as open until the guard is
    /// dropped. `kind` is [`Target::kind`](wire::target::Target::kind).
    pub fn stream_opened(&self, origin: Origin, kind: &'static str) -> StreamGuard {
        let opened = self
            .stream
            .opened
            .iter()
            .find(|opened| opened.origin == origin && opened.kind == kind);
        let open = opened.map(|opened| {
            opened.total.inc();
            opened.open.inc();
            opened.open.clone()
        });
        debug_assert!(open.is_some(), "a kind of target without a series: {kind}");
        StreamGuard { open }
    }

    /// Streams that the relay has open for itself, for stacks: nobody else waits for them.
    pub fn own_streams_open(&self) -> usize {
        let own = self.stream.opened.iter();
        let own = own.filter(|opened| opened.origin == Origin::Relay);
        let open = own.map(|opened| usize::try_from(opened.open.get()).unwrap_or(0));
        open.sum()
    }

    /// The agent has answered to an operator's stream.
    pub fn stream_answered(&self, kind: &'static str, is_accepted: bool, after: Duration) {
        let result = if is_accepted { "accepted" } else { "refused" };
        self.stream
            .accepts
            .with_label_values(&[kind, result])
            .observe(after.as_secs_f64());
    }

    /// Payload went through a session.
    pub fn bytes(&self, direction: Direction, bytes: u64) {
        match direction {
            Direction::Received => self.stream.bytes_received.inc_by(bytes),
            Direction::Sent => self.stream.bytes_sent.inc_by(bytes),
        }
    }

    /// A stream was broken off.
    pub fn reset(&self, code: ResetCode) {
        self.stream.resets.with_label_values(&[code.as_str()]).inc();
    }
}

/// Counts a stream as open for as long as it lives.
#[derive(Debug)]
pub struct StreamGuard {
    open: Option<IntGauge>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.dec();
        }
    }
}
