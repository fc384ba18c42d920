//! What is known of stacks: what was assigned, and what agents last said of it.

use std::time::Duration;

use compose::exchange::{Cause, Phase};
use jiff::Timestamp;
use wire::id::EnvironmentId;

use super::{Control, Error, Principal, Report, since};
use crate::{
    control::converger::Seen,
    store::{AssignmentRecord, EnvironmentRecord, OutcomeRecord},
};

/// How far an environment is with what was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackState {
    /// The agent is offline, and gets it when it returns.
    Pending,
    /// The agent is there, and is about to get it.
    Sending,
    /// The agent cannot be had to do it: see the trouble.
    Unreachable,
    /// The agent has it, and is so far.
    At(Phase),
    /// The stack is gone, as was asked for.
    Removed,
}

/// A stack at an environment.
#[derive(Debug, Clone)]
pub struct StackView {
    /// Which environment.
    pub environment_id: EnvironmentId,
    /// Its name.
    pub environment: String,
    /// The stack's name.
    pub stack: String,
    /// The assignment's number.
    pub number: u64,
    /// The release that shall run; `None`: none shall.
    pub release: Option<u64>,
    /// Who assigned it.
    pub author: String,
    /// When.
    pub assigned_at: Timestamp,
    /// How far it is.
    pub state: StackState,
    /// Why it is not as it was asked for.
    pub cause: Option<Cause>,
    /// When it was first known what became of it.
    pub settled_at: Option<Timestamp>,
    /// It is not done, and was to be.
    pub is_overdue: bool,
    /// The agent tells of changes at this moment.
    pub is_live: bool,
    /// How long ago it last did.
    pub heard_ago: Option<Duration>,
    /// What the agent last told.
    pub report: Option<Report>,
}

impl StackState {
    /// In text; phases are called as agents call them.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Unreachable => "unreachable",
            Self::At(phase) => phase_text(phase),
            Self::Removed => REMOVED,
        }
    }

    /// Nothing will change without somebody's doing.
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Pending | Self::Sending => false,
            Self::Unreachable | Self::Removed => true,
            Self::At(phase) => phase.is_settled(),
        }
    }
}

/// How the end of a stack is called that was to go.
pub const REMOVED: &str = "removed";

/// A phase, as agents and the store call it.
pub const fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Receiving => "receiving",
        Phase::Pulling => "pulling",
        Phase::Applying => "applying",
        Phase::Verifying => "verifying",
        Phase::Committed => "committed",
        Phase::Reverting => "reverting",
        Phase::Reverted => "reverted",
        Phase::Failed => "failed",
        Phase::Refused => "refused",
        Phase::Removing => "removing",
        Phase::Foreign => "foreign",
    }
}

fn phase_of(text: &str) -> Option<Phase> {
    [
        Phase::Committed,
        Phase::Reverted,
        Phase::Failed,
        Phase::Refused,
    ]
    .into_iter()
    .find(|phase| phase_text(*phase) == text)
}

/// It ended otherwise than it was asked for: asked again, it is tried again.
pub(super) fn is_in_vain(outcome: &OutcomeRecord) -> bool {
    !matches!(outcome.phase.as_str(), "committed" | REMOVED)
}

impl Control {
    /// What is known of stacks, by stack and environment; of one stack or environment alone
    /// where that is asked for.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn stack_views(
        &self,
        principal: &Principal,
        (stack, environment): (Option<&str>, Option<&str>),
    ) -> Result<Vec<StackView>, Error> {
        let only = match environment {
            Some(name) => Some(self.resolve_environment(principal, name).await?),
            None => None,
        };
        let environments = self.store.environments(principal.customer()).await?;
        let records = self
            .store
            .customer_assignments(principal.customer(), stack)
            .await?;
        let now = self.now();
        let mut views: Vec<StackView> = records
            .into_iter()
            .filter(|record| only.is_none_or(|id| record.environment == id))
            .filter_map(|record| {
                let is_its = |one: &&EnvironmentRecord| one.id == record.environment;
                let name = environments.iter().find(is_its)?.name.clone();
                Some(self.stack_view_of(record, name, now))
            })
            .collect();
        views.sort_by(|a, b| (&a.stack, &a.environment).cmp(&(&b.stack, &b.environment)));
        Ok(views)
    }

    /// What is known of one stack at one environment; `None` where it is not the
    /// principal's, or nothing was ever assigned.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn stack_view(
        &self,
        principal: &Principal,
        environment: EnvironmentId,
        stack: &str,
    ) -> Result<Option<StackView>, Error> {
        let found = self.store.environment_by_id(environment).await?;
        let own = found.filter(|record| record.customer == *principal.customer());
        let Some(record) = own else { return Ok(None) };
        let history = self.store.assignment_history(environment, stack, 1).await?;
        let newest = history.into_iter().next();
        Ok(newest.map(|newest| self.stack_view_of(newest, record.name, self.now())))
    }

    fn stack_view_of(
        &self,
        record: AssignmentRecord,
        environment: String,
        now: Timestamp,
    ) -> StackView {
        let seen = self.converger.seen(record.environment, &record.stack);
        let state = state_of(&record, &seen);
        let told = seen
            .report
            .as_ref()
            .filter(|report| report.assignment == record.number);
        let kept = record
            .outcome
            .as_ref()
            .and_then(|outcome| outcome.cause.as_ref());
        let cause = told
            .and_then(|report| report.cause.clone())
            .or_else(|| serde_json::from_str(kept?).ok())
            .or_else(|| seen.trouble.as_ref().map(|line| trouble(line)));
        let age = since(record.created_at, now).as_secs();
        StackView {
            environment_id: record.environment,
            environment,
            stack: record.stack,
            number: record.number,
            release: record.release,
            author: record.author,
            assigned_at: record.created_at,
            state,
            cause,
            settled_at: record.outcome.map(|outcome| outcome.at),
            is_overdue: !state.is_settled()
                && state != StackState::Pending
                && age > u64::from(record.deadline_seconds),
            is_live: seen.is_live,
            heard_ago: seen.heard_ago,
            report: seen.report,
        }
    }
}

fn state_of(record: &AssignmentRecord, seen: &Seen) -> StackState {
    let told = seen
        .report
        .as_ref()
        .filter(|report| report.assignment == record.number);
    if let Some(report) = told {
        return StackState::At(report.phase);
    }
    let kept = record
        .outcome
        .as_ref()
        .map(|outcome| outcome.phase.as_str());
    match kept {
        Some(REMOVED) => return StackState::Removed,
        Some(phase) if let Some(phase) = phase_of(phase) => return StackState::At(phase),
        _ => {}
    }
    match (&seen.trouble, seen.is_live) {
        (Some(_), _) => StackState::Unreachable,
        (None, true) => StackState::Sending,
        (None, false) => StackState::Pending,
    }
}

fn trouble(line: &str) -> Cause {
    Cause {
        code: "unreachable".to_owned(),
        service: None,
        line: line.to_owned(),
        output: Vec::new(),
    }
}
