//! Stacks: what became of deployments, how stacks fare, and what keeps the relay from agents.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Result, core::Collector};

use super::{
    Metrics,
    declare::{Declare, begin, gauges_at_scrape},
};

/// Bounds of a deployment: nothing to do, one container, small images, large ones, trouble.
const DEPLOYMENT_SECONDS: [f64; 9] = [0.5, 2.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 7_200.0];

/// How deployments end.
const OUTCOMES: [&str; 5] = ["committed", "failed", "refused", "removed", "reverted"];

/// What keeps the relay from having agents do what is assigned.
const TROUBLES: [&str; 4] = ["broken", "not_served", "refused", "store"];

/// How far stacks are, as agents call it.
pub const STACK_PHASES: [&str; 11] = [
    "applying",
    "committed",
    "failed",
    "foreign",
    "pulling",
    "receiving",
    "refused",
    "removing",
    "reverted",
    "reverting",
    "verifying",
];

/// Sums over all that is known of stacks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StackSums {
    /// Stacks by phase, in the order of [`STACK_PHASES`].
    pub phases: [u64; STACK_PHASES.len()],
    /// Of which somebody has changed something by hand.
    pub drifted: u64,
    /// That an agent is at for longer than it may be.
    pub overdue: u64,
}

/// Counted where it happens.
#[derive(Debug)]
pub(super) struct StackSeries {
    deployments: IntCounterVec,
    durations: HistogramVec,
    troubles: IntCounterVec,
}

/// Looked at when somebody scrapes.
#[derive(Debug)]
pub(super) struct StackGauges {
    stacks: IntGaugeVec,
    drifted: IntGaugeVec,
    overdue: IntGaugeVec,
}

impl StackSeries {
    pub(super) fn declare(declare: &Declare<'_>) -> Result<Self> {
        let series = Self {
            deployments: declare.counters(
                "stack_deployments_total",
                "Deployments of stacks that have ended, by outcome: `committed` (well), \
                 `reverted` to the release before, `failed`, `refused` by the agent or its \
                 policy, `removed` as was asked for.",
                &["outcome"],
            )?,
            durations: declare.histograms(
                "stack_deployment_duration_seconds",
                "From the agent's having an assignment to the end of its deployment, by \
                 outcome.",
                &["outcome"],
                &DEPLOYMENT_SECONDS,
            )?,
            troubles: declare.counters(
                "stack_troubles_total",
                "Times that an agent could not be had to do what is assigned, by cause: \
                 `refused` an assignment, `not_served` (its policy or an older release), \
                 `broken` (no sensible answer), `store` (the relay's own).",
                &["cause"],
            )?,
        };
        begin(&series.deployments, OUTCOMES);
        for outcome in OUTCOMES {
            // There from the start, as the others are.
            series.durations.with_label_values(&[outcome]);
        }
        begin(&series.troubles, TROUBLES);
        Ok(series)
    }
}

impl StackGauges {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            stacks: gauges_at_scrape(
                "stacks",
                "Stacks at environments as agents last told, by phase.",
                &["phase"],
            )?,
            drifted: gauges_at_scrape(
                "stacks_drifted",
                "Stacks of which somebody has changed something by hand.",
                &[],
            )?,
            overdue: gauges_at_scrape(
                "stacks_overdue",
                "Deployments that an agent is at for two minutes longer than their deadline.",
                &[],
            )?,
        })
    }

    pub(super) fn families(&self) -> [&dyn Collector; 3] {
        [&self.stacks, &self.drifted, &self.overdue]
    }

    pub(super) fn fill(&self, sums: &StackSums) {
        let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
        for (phase, count) in STACK_PHASES.iter().zip(sums.phases) {
            self.stacks.with_label_values(&[phase]).set(gauge(count));
        }
        let none: &[&str] = &[];
        self.drifted
            .with_label_values(none)
            .set(gauge(sums.drifted));
        self.overdue
            .with_label_values(none)
            .set(gauge(sums.overdue));
    }
}

impl Metrics {
    /// A deployment has ended.
    pub fn deployment_settled(&self, outcome: &'static str, took: Option<Duration>) {
        debug_assert!(
            OUTCOMES.contains(&outcome),
            "an outcome without a series: {outcome}"
        );
        let labels = [outcome];
        self.stack.deployments.with_label_values(&labels).inc();
        if let Some(took) = took {
            let durations = self.stack.durations.with_label_values(&labels);
            durations.observe(took.as_secs_f64());
        }
    }

    /// An agent could not be had to do what is assigned.
    pub fn stack_trouble(&self, cause: &'static str) {
        debug_assert!(
            TROUBLES.contains(&cause),
            "a cause without a series: {cause}"
        );
        self.stack.troubles.with_label_values(&[cause]).inc();
    }
}
