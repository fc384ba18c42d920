//! The listener for machines that watch: metrics, liveness, readiness.
//!
//! Apart from the API, so that it can be kept off the internet and answers while
//! the API's door is full.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use jiff::Timestamp;
use prometheus::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    control::{Control, EnvironmentStatus, EnvironmentView},
    limits::{METRICS_CONNECTIONS_MAX, METRICS_REQUEST_TIMEOUT},
    metrics::{self, EnvironmentRow, Metrics, SessionRow},
};

/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the store may take to show that it answers.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Pause after a failed accept: out of file descriptors, mostly; a busy loop would
/// take the time of those who could close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a relay is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all ports are served yet.
    Starting,
    /// In service.
    Serving,
    /// Takes nothing new.
    Draining,
}

/// What the health routes need.
#[derive(Debug, Clone)]
pub struct Health {
    /// Every series.
    pub registry: Registry,
    /// What the store is asked for at a scrape goes here.
    pub metrics: Arc<Metrics>,
    /// The relay's phase.
    pub phase: watch::Receiver<Phase>,
    /// For asking the store.
    pub control: Arc<Control>,
    /// Whether environments are shown by name.
    pub shows_environments: bool,
}

/// `/metrics`, `/metrics/environments`, `/healthz` and `/readyz`.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/metrics/environments", get(show_environments))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(health)
}

async fn show_metrics(State(health): State<Health>) -> Response {
    let counted = tokio::time::timeout(STORE_PATIENCE, health.control.count_environments());
    let counts = counted.await.ok().and_then(Result::ok);
    health.metrics.environments_counted(counts);
    match metrics::render(&health.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the listener for machines that watch is the program's, beside the node: its page tells fractions of a second, which no seam has"
)]
async fn show_environments(State(health): State<Health>) -> Response {
    if !health.shows_environments {
        let advice = "set `metrics.environments = true` in the relay's configuration\n";
        return (StatusCode::NOT_FOUND, advice).into_response();
    }
    match health.control.watched_environments().await {
        Ok(watched) => {
            let now = Timestamp::now().as_duration().as_secs_f64();
            let rows: Vec<_> = watched
                .shown
                .into_iter()
                .map(|(view, heard)| row(view, heard, now))
                .collect();
            let text = metrics::render_environments(&rows, watched.left_out);
            ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response()
        }
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response(),
    }
}

/// An environment in the words of the metrics, `now` in seconds since 1970.
fn row(view: EnvironmentView, heard: Option<Duration>, now: f64) -> EnvironmentRow {
    // One that waits for a connection is of no use to anybody at the moment.
    let live = view.session.filter(|session| session.is_connected);
    let session = live.as_ref().map(|session| SessionRow {
        transport: session.transport,
        round_trip: session.rtt.map(|rtt| rtt.as_secs_f64()),
        began: session.connected_since.as_duration().as_secs_f64(),
        streams_open: session.streams_open,
        bytes_sent: session.bytes_sent,
        bytes_received: session.bytes_received,
    });
    EnvironmentRow {
        name: view.record.name,
        id: view.record.id.to_string(),
        is_enrolled: view.record.agent.is_some(),
        is_held: matches!(view.status, EnvironmentStatus::CopiedIdentity),
        // To the millisecond: more is noise of the scrape.
        last_heard: heard.map(|ago| ((now - ago.as_secs_f64()) * 1_000.0).round() / 1_000.0),
        session,
        figures: live.and_then(|session| session.figures),
    }
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let phase = *health.phase.borrow();
    match phase {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Phase::Serving => {
            match tokio::time::timeout(STORE_PATIENCE, health.control.check_ready()).await {
                Ok(Ok(())) => (StatusCode::OK, "ready\n"),
                Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "the store fails\n"),
                Err(_) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the store does not answer\n",
                ),
            }
        }
    }
}

/// Serves the routes on a plain TCP listener until the token is cancelled. A
/// connection beyond the bound waits in the kernel's queue for its turn.
///
/// Cancel safe: connections are tasks of their own and end with the token.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Some((stream, permit)) => {
                tasks.spawn(serve_one(stream, permit, router.clone(), stop.clone()));
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(e) => {
            warn!(error = %e, "metrics listener cannot accept");
            None
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    router: Router,
    stop: CancellationToken,
) {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(METRICS_REQUEST_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024);
    let connection =
        server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let outcome = tokio::select! {
        () = stop.cancelled() => return,
        outcome = tokio::time::timeout(METRICS_REQUEST_TIMEOUT, connection) => outcome,
    };
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(e)) => debug!(error = %e, "metrics connection broke"),
        Err(_) => debug!("metrics connection took too long"),
    }
}
