//! What agents run of stacks, as the use cases see it: implemented above, over sessions.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use compose::{
    exchange::{Assignment, LogLine, Progress, Refused, StackReport},
    plan::Plan,
};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc};
use wire::id::EnvironmentId;

use super::Principal;

/// What is known of a stack at an environment.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The agent tells of changes at this moment.
    pub is_live: bool,
    /// How long ago it last did; `None`: never since this relay's start.
    pub heard_ago: Option<Duration>,
    /// Why the relay cannot have the agent do it, in words.
    pub trouble: Option<String>,
    /// What the agent last told.
    pub report: Option<Arc<StackReport>>,
}

/// Something has changed at an environment.
#[derive(Debug, Clone)]
pub enum StackEvent {
    /// What is known of this stack, or whether it exists.
    Stack(EnvironmentId, String),
    /// What is known of every stack there: the agent came or went.
    Environment(EnvironmentId),
    /// What is going on, in numbers.
    Progress(EnvironmentId, Arc<Progress>),
    /// Nothing more will be told: the relay stops.
    Closing,
}

/// Which lines of output are asked for.
#[derive(Debug, Clone)]
pub struct LogRequest {
    /// The stack.
    pub stack: String,
    /// One service, or all.
    pub service: Option<String>,
    /// So many lines of what there is already, of each container.
    pub tail: u32,
    /// And what comes.
    pub follow: bool,
}

/// Why an agent did not do what it was asked for.
#[derive(Debug, Clone, Error)]
pub enum AskError {
    /// It has no session.
    #[error("the agent is offline")]
    Offline,
    /// It, or its policy, serves no stacks.
    #[error("{0}")]
    NotServed(String),
    /// It has said no.
    #[error("{}", .0.reason)]
    Refused(Refused),
    /// The stream broke, or the agent said what it should not.
    #[error("{0}")]
    Broken(String),
}

/// Has agents run what is assigned, and knows what they say of it.
#[async_trait]
pub trait Converger: Send + Sync {
    /// Something was assigned to the environment: it is sent at once, or as soon as its agent
    /// is there.
    fn assigned(&self, environment: EnvironmentId);

    /// The environment is no more.
    fn forget(&self, environment: EnvironmentId);

    /// What is known of a stack.
    fn seen(&self, environment: EnvironmentId, stack: &str) -> Seen;

    /// Every change from now on. Who is too slow misses some, and is told so.
    fn watch(&self) -> broadcast::Receiver<StackEvent>;

    /// What the agent would do for this assignment. Nothing is kept there.
    async fn plan(
        &self,
        environment: EnvironmentId,
        (principal, assignment): (&Principal, &Assignment),
    ) -> Result<Plan, AskError>;

    /// Ends what is going on with a stack.
    async fn cancel(
        &self,
        environment: EnvironmentId,
        (principal, stack): (&Principal, &str),
    ) -> Result<(), AskError>;

    /// Restarts a stack's containers, or those of one service.
    async fn restart(
        &self,
        environment: EnvironmentId,
        (principal, stack): (&Principal, &str),
        service: Option<&str>,
    ) -> Result<(), AskError>;

    /// Lines of output, until there are no more or the receiver is dropped.
    async fn logs(
        &self,
        environment: EnvironmentId,
        (principal, request): (&Principal, &LogRequest),
    ) -> Result<mpsc::Receiver<LogLine>, AskError>;
}
