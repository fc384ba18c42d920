//! Has agents run what is assigned to them, and keeps what they say of it.
//!
//! ```text
//! control ── assigned ──► board ── wakes ──► attend, one an agent's session
//!    ▲                      ▲                 │  PUT assignments, missing files
//!    └── outcome, pins ─────┴── reports ──────┘  GET what changes, for as long as it lasts
//! ```
//!
//! Nothing is asked again and again: an assignment wakes who attends to the agent, and the
//! agent tells what changes. Who attends is part of the agent's session and ends with it; what
//! was told stays on the board until the relay ends. An agent without assignments costs
//! nothing but a place on the board.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use compose::{
    exchange::{Assignment, LogLine},
    plan::Plan,
};
use http::Method;
use tokio::sync::{broadcast, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tunnel::{Session, World};
use wire::id::EnvironmentId;

use crate::{
    control::{AskError, Control, Converger, LogRequest, Principal, Seen, StackEvent},
    limits::LOG_LINES_AHEAD,
    metrics::{Metrics, StackSums},
    registry::Registry,
};

mod attend;
mod board;
mod deliver;
mod images;
mod link;
mod outcome;

use board::Board;
use link::{Caller, Link};

/// Whom the agent is told that the relay itself asks for.
const RELAY: &str = "relay";

/// See the module.
#[derive(Debug)]
pub struct Stacks {
    world: World,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    board: Board,
    /// Streams of output that operators read.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Stacks {
    /// Nothing is known yet.
    pub fn new(world: World, registry: Arc<Registry>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            world,
            registry,
            metrics,
            board: Board::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Learns which environments have anything assigned: agents of others are not asked.
    pub async fn begin(&self, control: &Control) {
        match control.assigned_environments().await {
            Ok(all) => self.board.begin(&all),
            Err(error) => {
                self.metrics.stack_trouble("store");
                tracing::warn!(%error, "assignments cannot be read: agents are asked when it is");
                self.board.begin_unknown();
            }
        }
    }

    /// Ends streams of output, and waits until they have ended.
    pub async fn stop_all(&self) {
        self.stop.cancel();
        self.board.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Sums over all that is known, for a scrape.
    pub fn sums(&self) -> StackSums {
        self.board.sums()
    }

    fn caller<'a>(&'a self, session: &'a Session, principal: &'a str) -> Caller<'a> {
        Caller {
            world: &self.world,
            metrics: &self.metrics,
            session,
            principal,
        }
    }

    async fn dial(
        &self,
        environment: EnvironmentId,
        principal: &Principal,
    ) -> Result<Link, AskError> {
        let session = self
            .registry
            .session(environment)
            .ok_or(AskError::Offline)?;
        Link::open(self.caller(&session, principal.name())).await
    }
}

#[async_trait]
impl Converger for Stacks {
    fn assigned(&self, environment: EnvironmentId) {
        self.board.assigned(environment);
    }

    fn forget(&self, environment: EnvironmentId) {
        self.board.forget(environment);
    }

    fn seen(&self, environment: EnvironmentId, stack: &str) -> Seen {
        self.board.seen(environment, stack)
    }

    fn watch(&self) -> broadcast::Receiver<StackEvent> {
        self.board.watch()
    }

    async fn plan(
        &self,
        environment: EnvironmentId,
        (principal, assignment): (&Principal, &Assignment),
    ) -> Result<Plan, AskError> {
        let mut link = self.dial(environment, principal).await?;
        let body = link::body_of(assignment)?;
        link.document(Method::POST, "/v1/plan", body).await
    }

    async fn cancel(
        &self,
        environment: EnvironmentId,
        (principal, stack): (&Principal, &str),
    ) -> Result<(), AskError> {
        let mut link = self.dial(environment, principal).await?;
        let path = format!("/v1/stacks/{}/cancel", link::encoded(stack));
        link.done(Method::POST, &path, Bytes::new()).await
    }

    async fn restart(
        &self,
        environment: EnvironmentId,
        (principal, stack): (&Principal, &str),
        service: Option<&str>,
    ) -> Result<(), AskError> {
        let mut link = self.dial(environment, principal).await?;
        let mut path = format!("/v1/stacks/{}/restart", link::encoded(stack));
        if let Some(service) = service {
            path.push_str(&format!("?service={}", link::encoded(service)));
        }
        link.done(Method::POST, &path, Bytes::new()).await
    }

    async fn logs(
        &self,
        environment: EnvironmentId,
        (principal, request): (&Principal, &LogRequest),
    ) -> Result<mpsc::Receiver<LogLine>, AskError> {
        let mut link = self.dial(environment, principal).await?;
        let mut path = format!(
            "/v1/stacks/{}/logs?tail={}&follow={}",
            link::encoded(&request.stack),
            request.tail,
            request.follow
        );
        if let Some(service) = &request.service {
            path.push_str(&format!("&service={}", link::encoded(service)));
        }
        link.begin_lines(&path).await?;
        let (lines, receiver) = mpsc::channel(LOG_LINES_AHEAD);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let pass = async {
                while let Ok(Some(line)) = link.next_line::<LogLine>().await {
                    if lines.send(line).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = lines.closed() => {}
                () = pass => {}
            }
        });
        Ok(receiver)
    }
}
