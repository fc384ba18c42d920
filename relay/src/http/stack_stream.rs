//! Answers that go on: how stacks fare, and what their containers say. A line of JSON each.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};
use wire::id::EnvironmentId;

use super::{
    ApiState,
    auth::Authenticated,
    body::Filter,
    problem::{Problem, ProblemBody},
    stack::Which,
    stack_answer::WatchLine,
};
use crate::{
    control::{Control, LogRequest, Principal, StackEvent, Targets},
    limits::STACK_WATCH_ALIVE,
};

/// Lines that are made ahead of a slow reader.
const LINES_AHEAD: usize = 64;
/// Lines of each container's output, unless asked otherwise.
const TAIL: u32 = 100;

/// Which output is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Output {
    environment: Option<String>,
    service: Option<String>,
    tail: Option<u32>,
    #[serde(default)]
    follow: bool,
}

/// Tells how stacks fare, and then every change: lines of JSON, for as long as they are read.
#[utoipa::path(
    get,
    path = "/api/v1/deployments/watch",
    operation_id = "watch_deployments",
    tag = "stacks",
    params(
        ("stack" = Option<String>, Query, description = "Of this stack."),
        ("environment" = Option<String>, Query, description = "At this environment."),
    ),
    responses(
        (status = 200, description = "Lines, the first for each that there is.",
            body = WatchLine, content_type = "application/x-ndjson"),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn watch(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Filter(which): Filter<Which>,
) -> Result<Response, Problem> {
    // Before the first look: what changes meanwhile is told as well.
    let events = state.control.watch_stacks();
    let only = match &which.environment {
        Some(name) => Some(state.control.resolve_environment(&principal, name).await?),
        None => None,
    };
    let (lines, receiver) = mpsc::channel(LINES_AHEAD);
    let watch = Watch {
        control: state.control.clone(),
        principal,
        which,
        only,
        names: BTreeMap::new(),
        lines,
    };
    state.tasks.spawn(watch.run(events));
    Ok(answer(receiver))
}

/// Lines that a stack's containers have written, and with `follow` those that they write.
#[utoipa::path(
    get,
    path = "/api/v1/stacks/{stack}/logs",
    operation_id = "stack_logs",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
        ("environment" = Option<String>, Query, description = "Name of the environment."),
        ("service" = Option<String>, Query, description = "One service; without it, all."),
        ("tail" = Option<u32>, Query, description = "So many lines of what there is, of each container; 100."),
        ("follow" = Option<bool>, Query, description = "And what comes."),
    ),
    responses(
        (status = 200, description = "Lines: service, container, stream, time, text.",
            content_type = "application/x-ndjson"),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn logs(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    Filter(output): Filter<Output>,
) -> Result<Response, Problem> {
    let targets = match output.environment {
        Some(name) => Targets::Named(vec![name]),
        None => Targets::Assigned,
    };
    let request = LogRequest {
        stack,
        service: output.service,
        tail: output.tail.unwrap_or(TAIL),
        follow: output.follow,
    };
    let lines = state
        .control
        .stack_logs(&principal, &targets, &request)
        .await?;
    let bytes = stream::unfold(lines, async |mut lines| {
        let line = lines.recv().await?;
        Some((Ok::<_, Infallible>(as_line(&line)), lines))
    });
    Ok(ndjson(Body::from_stream(bytes)))
}

/// Somebody who watches.
struct Watch {
    control: Arc<Control>,
    principal: Principal,
    which: Which,
    only: Option<EnvironmentId>,
    /// Of environments that were shown.
    names: BTreeMap<EnvironmentId, String>,
    lines: mpsc::Sender<Bytes>,
}

/// The reader is gone, or nothing more can be told.
struct Over;

impl Watch {
    async fn run(mut self, mut events: broadcast::Receiver<StackEvent>) {
        let lines = self.lines.clone();
        tokio::select! {
            () = lines.closed() => {}
            _over = self.tell(&mut events) => {}
        }
    }

    async fn tell(&mut self, events: &mut broadcast::Receiver<StackEvent>) -> Result<(), Over> {
        self.show_all(None).await?;
        self.send(&WatchLine::Complete {}).await?;
        loop {
            let event = tokio::time::timeout(STACK_WATCH_ALIVE, events.recv()).await;
            match event {
                Err(_) => self.send(&WatchLine::Alive {}).await?,
                Ok(Err(broadcast::error::RecvError::Closed)) => return Err(Over),
                Ok(Ok(StackEvent::Closing)) => return Err(Over),
                // What was missed is in what there is now.
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => self.show_all(None).await?,
                Ok(Ok(StackEvent::Environment(environment))) => {
                    if self.is_wanted(environment, None) {
                        self.show_all(Some(environment)).await?;
                    }
                }
                Ok(Ok(StackEvent::Stack(environment, stack))) => {
                    if self.is_wanted(environment, Some(&stack)) {
                        self.show(environment, &stack).await?;
                    }
                }
                Ok(Ok(StackEvent::Progress(environment, progress))) => {
                    // Only of what was shown, and so is the principal's.
                    let name = self.names.get(&environment);
                    if let Some(name) =
                        name.filter(|_| self.is_wanted(environment, Some(&progress.stack)))
                    {
                        let line = WatchLine::Progress {
                            environment: name.clone(),
                            progress: (*progress).clone(),
                        };
                        self.send(&line).await?;
                    }
                }
            }
        }
    }

    fn is_wanted(&self, environment: EnvironmentId, stack: Option<&str>) -> bool {
        let wanted = self.which.stack.as_deref();
        self.only.is_none_or(|only| only == environment)
            && stack.is_none_or(|stack| wanted.is_none_or(|wanted| wanted == stack))
    }

    async fn show_all(&mut self, environment: Option<EnvironmentId>) -> Result<(), Over> {
        let which = (
            self.which.stack.as_deref(),
            self.which.environment.as_deref(),
        );
        let views = self.control.stack_views(&self.principal, which).await;
        for view in views.map_err(|_| Over)? {
            self.names
                .insert(view.environment_id, view.environment.clone());
            if environment.is_none_or(|only| only == view.environment_id) {
                self.send(&WatchLine::Deployment(Box::new(view.into())))
                    .await?;
            }
        }
        Ok(())
    }

    async fn show(&mut self, environment: EnvironmentId, stack: &str) -> Result<(), Over> {
        let view = self
            .control
            .stack_view(&self.principal, environment, stack)
            .await;
        if let Some(view) = view.map_err(|_| Over)? {
            self.names.insert(environment, view.environment.clone());
            self.send(&WatchLine::Deployment(Box::new(view.into())))
                .await?;
        }
        Ok(())
    }

    async fn send(&self, line: &WatchLine) -> Result<(), Over> {
        self.lines.send(as_line(line)).await.map_err(|_| Over)
    }
}

fn as_line(document: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(document).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn answer(receiver: mpsc::Receiver<Bytes>) -> Response {
    let bytes = stream::unfold(receiver, async |mut receiver| {
        let line = receiver.recv().await?;
        Some((Ok::<_, Infallible>(line), receiver))
    });
    ndjson(Body::from_stream(bytes))
}

fn ndjson(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
