//! What an agent's reports come to: outcomes, pins, series. Written once each.

use std::collections::BTreeMap;

use compose::exchange::{Cause, Phase, Refused, StackReport};
use tracing::{info, warn};
use wire::id::EnvironmentId;

use super::board::Attendance;
use crate::{
    control::{Control, REMOVED, phase_text},
    metrics::Metrics,
};

/// Writes what became of assignments of one environment, for one session.
#[derive(Debug)]
pub(super) struct Outcomes<'a> {
    pub(super) control: &'a Control,
    pub(super) metrics: &'a Metrics,
    pub(super) environment: EnvironmentId,
    pub(super) attendance: &'a Attendance<'a>,
    /// What was written last of each stack, so that the store is left alone.
    known: BTreeMap<String, Known>,
}

#[derive(Debug, PartialEq)]
struct Known {
    number: u64,
    phase: &'static str,
    cause: Option<Cause>,
}

impl<'a> Outcomes<'a> {
    pub(super) fn new(
        (control, metrics): (&'a Control, &'a Metrics),
        environment: EnvironmentId,
        attendance: &'a Attendance<'a>,
    ) -> Self {
        Self {
            control,
            metrics,
            environment,
            attendance,
            known: BTreeMap::new(),
        }
    }

    /// An agent has told of a stack.
    pub(super) async fn report(&mut self, report: &StackReport) {
        let is_ours = report.assignment > 0 && report.phase != Phase::Foreign;
        if !is_ours || !report.phase.is_settled() {
            return;
        }
        if report.phase == Phase::Committed {
            self.learn(report).await;
        }
        let phase = phase_text(report.phase);
        let of = (report.stack.as_str(), report.assignment);
        self.settle(of, phase, report.cause.as_ref()).await;
    }

    /// A stack is gone that was to go.
    pub(super) async fn removed(&mut self, stack: &str, number: u64) {
        self.settle((stack, number), REMOVED, None).await;
    }

    /// The agent does not take an assignment.
    pub(super) async fn refused(&mut self, stack: &str, number: u64, refused: Refused) {
        let cause = Cause {
            code: refused.code,
            service: None,
            line: refused.reason,
            output: refused.details,
        };
        let phase = phase_text(Phase::Refused);
        self.settle((stack, number), phase, Some(&cause)).await;
    }

    async fn settle(
        &mut self,
        (stack, number): (&str, u64),
        phase: &'static str,
        cause: Option<&Cause>,
    ) {
        let known = Known {
            number,
            phase,
            cause: cause.cloned(),
        };
        if self.known.get(stack) == Some(&known) {
            return;
        }
        let took = self.attendance.settled(stack, number);
        let of = (stack, number);
        let settled = self
            .control
            .settle_assignment(self.environment, of, (phase, cause))
            .await;
        match settled {
            Ok(is_new) => {
                self.known.insert(stack.to_owned(), known);
                if is_new {
                    self.metrics.deployment_settled(phase, took);
                    let line = cause.map(|cause| cause.line.as_str());
                    info!(
                        environment_id = %self.environment, stack, number, phase, cause = line,
                        "deployment settled"
                    );
                    self.attendance.changed(stack);
                }
            }
            Err(error) => {
                self.metrics.stack_trouble("store");
                warn!(%error, stack, number, "what became of a deployment was not written");
            }
        }
    }

    async fn learn(&self, report: &StackReport) {
        let release = report
            .release
            .as_deref()
            .and_then(|name| name.strip_prefix('r'));
        let Some(release) = release.and_then(|number| number.parse().ok()) else {
            return;
        };
        let is_known = self
            .known
            .get(&report.stack)
            .is_some_and(|known| known.number == report.assignment);
        if is_known || report.digests.is_empty() {
            return;
        }
        let of = (report.stack.as_str(), release);
        let learnt = self
            .control
            .learn_pins(self.environment, of, &report.digests);
        if let Err(error) = learnt.await {
            self.metrics.stack_trouble("store");
            warn!(%error, stack = report.stack, "digests of images were not written");
        }
    }
}
