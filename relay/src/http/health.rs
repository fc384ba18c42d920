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
use prometheus::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    control::Control,
    limits::{METRICS_CONNECTIONS_MAX, METRICS_REQUEST_TIMEOUT},
    metrics,
};

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
    /// The relay's phase.
    pub phase: watch::Receiver<Phase>,
    /// For asking the store.
    pub control: Arc<Control>,
}

/// `/metrics`, `/healthz` and `/readyz`.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(health)
}

async fn show_metrics(State(health): State<Health>) -> Response {
    match metrics::render(&health.registry) {
        Ok(text) => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response(),
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
