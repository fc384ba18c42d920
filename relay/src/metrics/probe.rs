//! The probe: who asks it, and who is told to wait.

use prometheus::{IntCounterVec, IntGaugeVec, Result, core::Collector};

use super::{
    Metrics,
    declare::{Declare, gauges_at_scrape},
};

/// What is asked of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// What the relay sees of a request.
    Echo,
    /// What it has seen arrive.
    Witness,
    /// A socket over WebSocket.
    Socket,
    /// One over QUIC.
    Quic,
    /// The page, the program or its checksum.
    Download,
    /// To keep the report of a run with a token.
    Report,
}

impl ProbeKind {
    const ALL: [Self; 6] = [
        Self::Echo,
        Self::Witness,
        Self::Socket,
        Self::Quic,
        Self::Download,
        Self::Report,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Witness => "witness",
            Self::Socket => "socket",
            Self::Quic => "quic",
            Self::Download => "download",
            Self::Report => "report",
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It was answered.
    Answered,
    /// The address, or all together, have had their share.
    Limited,
    /// So many came to the relay that its witness may have forgotten some, and says nothing.
    Forgotten,
    /// It could not be answered: it asks for nothing, shows no valid token, or there is no
    /// program.
    Refused,
}

impl ProbeOutcome {
    const ALL: [Self; 4] = [
        Self::Answered,
        Self::Limited,
        Self::Forgotten,
        Self::Refused,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Limited => "limited",
            Self::Forgotten => "forgotten",
            Self::Refused => "refused",
        }
    }
}

/// The probe's own series.
#[derive(Debug)]
pub(super) struct ProbeSeries {
    requests: IntCounterVec,
}

impl ProbeSeries {
    pub(super) fn declare(declare: &Declare<'_>) -> Result<Self> {
        let requests = declare.counters(
            "probe_requests_total",
            "What was asked of the probe, by kind and outcome: `answered`, `limited` because \
             the address or all together had their share, `forgotten` because the witness may \
             have forgotten arrivals, or `refused`.",
            &["kind", "outcome"],
        )?;
        for kind in ProbeKind::ALL {
            for outcome in ProbeOutcome::ALL {
                requests
                    .with_label_values(&[kind.as_str(), outcome.as_str()])
                    .reset();
            }
        }
        Ok(Self { requests })
    }
}

impl Metrics {
    /// Somebody has asked something of the probe.
    pub fn probe_asked(&self, kind: ProbeKind, outcome: ProbeOutcome) {
        self.probe
            .requests
            .with_label_values(&[kind.as_str(), outcome.as_str()])
            .inc();
    }
}

/// What is looked at when somebody scrapes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSums {
    /// Arrivals that are remembered.
    pub arrivals: u64,
    /// Sockets that are open.
    pub sockets: u64,
}

/// [`ProbeSums`] as series.
#[derive(Debug)]
pub(super) struct ProbeGauges {
    arrivals: IntGaugeVec,
    sockets: IntGaugeVec,
}

impl ProbeGauges {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            arrivals: gauges_at_scrape(
                "probe_arrivals",
                "Arrivals at the doors that are remembered for the probe's witness.",
                &[],
            )?,
            sockets: gauges_at_scrape(
                "probe_sockets_open",
                "Sockets of the probe that are open, over WebSocket and over QUIC.",
                &[],
            )?,
        })
    }

    pub(super) fn families(&self) -> [&dyn Collector; 2] {
        [&self.arrivals, &self.sockets]
    }

    pub(super) fn fill(&self, sums: ProbeSums) {
        let none: &[&str] = &[];
        for (family, sum) in [
            (&self.arrivals, sums.arrivals),
            (&self.sockets, sums.sockets),
        ] {
            let sum = i64::try_from(sum).unwrap_or(i64::MAX);
            family.with_label_values(none).set(sum);
        }
    }
}
