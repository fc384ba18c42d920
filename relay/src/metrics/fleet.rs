//! What customers' policies and kernels say, summed over all agents: no label names one.

use prometheus::{IntCounterVec, Result};
use wire::{
    message::{AgentReport, PolicyRefusals},
    rule::Rule,
};

use super::{
    Metrics,
    declare::{Declare, begin},
};

/// Value of the label `rule` for what a newer agent, or a lying one, says.
const OTHER: &str = "other";
/// What one message may add to a rule's count: more than an agent can refuse in half a
/// minute.
const COUNT_MAX: u64 = 1_000_000;
/// Counts of one message that are looked at.
const COUNTS_MAX: usize = 64;

/// How far an agent's process is fenced in by its kernel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// The agent has not said, or is an older one.
    #[default]
    Unknown,
    /// It can be made to listen.
    Partial,
    /// It cannot.
    Whole,
}

impl Sandbox {
    /// All.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Partial, Self::Whole];

    /// Value of the label `sandbox`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Partial => "partial",
            Self::Whole => "whole",
        }
    }

    /// As a report says it.
    pub fn of(report: &AgentReport) -> Self {
        let needed: Vec<_> = report.fences.iter().filter(|fence| fence.needed).collect();
        match needed.iter().all(|fence| fence.in_force) {
            _ if needed.is_empty() => Self::Unknown,
            true => Self::Whole,
            false => Self::Partial,
        }
    }
}

/// Refusals.
#[derive(Debug)]
pub(super) struct FleetSeries {
    refusals: IntCounterVec,
}

impl FleetSeries {
    pub(super) fn declare(declare: &Declare<'_>) -> Result<Self> {
        let refusals = declare.counters(
            "policy_refusals_total",
            "What agents have refused by their customers' policies, streams and requests to \
             Docker Engines, by the policy's key.",
            &["rule"],
        )?;
        begin(&refusals, Rule::ALL.iter().map(|rule| rule.as_str()));
        begin(&refusals, [OTHER]);
        Ok(Self { refusals })
    }
}

impl Metrics {
    /// An agent tells what it has refused.
    pub fn policy_refused(&self, refusals: &PolicyRefusals) {
        for told in refusals.counts.iter().take(COUNTS_MAX) {
            let known = Rule::ALL.iter().find(|rule| rule.as_str() == told.rule);
            let label = known.map_or(OTHER, |rule| rule.as_str());
            let count = told.count.min(COUNT_MAX);
            self.fleet
                .refusals
                .with_label_values(&[label])
                .inc_by(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::message::Fence;

    use super::*;

    #[test]
    fn a_process_is_whole_only_where_all_that_is_needed_holds() {
        let fence = |needed, in_force| Fence {
            needed,
            in_force,
            ..Fence::default()
        };
        let of = |fences: &[Fence]| {
            Sandbox::of(&AgentReport {
                fences: fences.to_vec(),
                ..AgentReport::default()
            })
        };

        assert_eq!(of(&[]), Sandbox::Unknown);
        assert_eq!(
            of(&[fence(true, true), fence(false, false)]),
            Sandbox::Whole
        );
        assert_eq!(
            of(&[fence(true, true), fence(true, false)]),
            Sandbox::Partial
        );
    }
}
