//! Who comes to the doors, who is let in, and why others are not.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounterVec, Result};
use wire::{close::RefusalCode, transport::Transport};

use super::{
    Metrics,
    declare::{Declare, begin},
};

/// Bounds of handshakes: from a loopback's millisecond to the deadline of 10 s.
const HANDSHAKE_SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Reasons of refusals before a hello was understood; [`RefusalCode`] has the others.
const REASONS: [&str; 11] = [
    "accept_error",
    "admission",
    "broken",
    "handshake_timeout",
    "http_error",
    "http_timeout",
    "not_quic",
    "not_websocket",
    "quic_error",
    "tls_error",
    "too_many_connections",
];

/// Bounds of times to come back: from the least to what an agent believes without a window.
const SLOT_SECONDS: [f64; 8] = [0.25, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 120.0];

/// Results of enrolments beside refusals.
const ENROLLED: &str = "enrolled";

/// The doors.
#[derive(Debug)]
pub(super) struct AdmissionSeries {
    handshake: HistogramVec,
    refusals: IntCounterVec,
    enrolments: IntCounterVec,
    slots: Histogram,
}

impl AdmissionSeries {
    pub(super) fn declare(declare: &Declare<'_>) -> Result<Self> {
        let series = Self {
            handshake: declare.histograms(
                "handshake_duration_seconds",
                "From the accepted connection to the end of its handshake, by transport and \
                 result: `admitted`, or why it was not.",
                &["transport", "result"],
                &HANDSHAKE_SECONDS,
            )?,
            refusals: declare.counters(
                "refusals_total",
                "Connections, datagrams and hellos that did not become a session, by reason.",
                &["reason"],
            )?,
            enrolments: declare.counters(
                "enrolments_total",
                "Attempts to enrol with a one-time token, by result: `enrolled`, or why not.",
                &["result"],
            )?,
            slots: declare.histogram(
                "admission_slot_seconds",
                "Times that who was sent away before a handshake was told to come back after.",
                &SLOT_SECONDS,
            )?,
        };
        let codes = || RefusalCode::ALL.iter().map(|code| code.as_str());
        begin(&series.refusals, codes().chain(REASONS));
        begin(&series.enrolments, codes().chain([ENROLLED]));
        Ok(series)
    }
}

impl Metrics {
    /// A handshake ended: `result` is `admitted`, a refusal code, or a close code.
    pub fn handshake(&self, transport: Transport, result: &'static str, duration: Duration) {
        self.admission
            .handshake
            .with_label_values(&[transport.as_str(), result])
            .observe(duration.as_secs_f64());
    }

    /// Somebody was sent away before a handshake; told to come back after that long, or
    /// told nothing.
    pub fn sent_away(&self, slot: Option<Duration>) {
        self.refused("admission");
        if let Some(slot) = slot {
            self.admission.slots.observe(slot.as_secs_f64());
        }
    }

    /// A connection or a hello did not become a session.
    pub fn refused(&self, reason: &'static str) {
        self.refused_many(reason, 1);
    }

    /// So many datagrams did not belong to a session, and cannot.
    pub fn refused_many(&self, reason: &'static str, count: u64) {
        self.admission
            .refusals
            .with_label_values(&[reason])
            .inc_by(count);
    }

    /// Somebody showed an enrolment token.
    pub fn enrolment(&self, outcome: std::result::Result<(), RefusalCode>) {
        let result = outcome.map_or_else(RefusalCode::as_str, |()| ENROLLED);
        self.admission.enrolments.with_label_values(&[result]).inc();
    }
}
