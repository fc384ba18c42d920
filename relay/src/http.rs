//! The API over HTTP: translates, and decides nothing.
//!
//! What a use case says becomes a status, a stable code and a request id. A use
//! case that writes runs to its end even if the asker goes away. The document of
//! the API is generated from these routes, and `openapi.json` is its contract.

mod answer;
mod auth;
mod body;
mod environment;
mod exposure;
mod health;
mod page;
mod probe;
mod problem;
mod relay;
mod release;
mod stack;
mod stack_answer;
mod stack_stream;
mod variable;

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use wire::id::RequestId;

pub use self::health::{Health, Phase, router as health_router, serve as serve_health};
use self::{auth::Bucket, problem::Problem};
use crate::{
    control::{Control, Error},
    limits::{BODY_BYTES_MAX, REQUEST_TIMEOUT, UPLOAD_TIMEOUT},
    metrics::Metrics,
    probe::Probe,
};

/// What the handlers need.
#[derive(Debug, Clone)]
pub struct ApiState {
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    /// Use cases that write, each until its end.
    tasks: TaskTracker,
    failures: Arc<Mutex<Bucket>>,
    /// The probe, where it is served.
    probe: Option<Arc<Probe>>,
}

impl ApiState {
    /// Puts the handlers over the use cases. Tasks that must end before the process
    /// does are spawned on the tracker.
    pub fn new(control: Arc<Control>, metrics: Arc<Metrics>, tasks: TaskTracker) -> Self {
        let failures = Arc::new(Mutex::new(Bucket::full(Instant::now())));
        Self {
            control,
            metrics,
            tasks,
            failures,
            probe: None,
        }
    }

    /// The same with the probe: its page, its program, and where its reports go.
    pub fn with_probe(mut self, probe: Option<Arc<Probe>>) -> Self {
        self.probe = probe;
        self
    }

    /// Counts somebody without a valid token, and says so where there are too many of them.
    fn slow_failures(&self) -> Result<(), Problem> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let may_answer = failures.take(Instant::now());
        may_answer
            .then_some(())
            .ok_or_else(Problem::too_many_failures)
    }

    /// Runs a use case that writes to its end, whether or not its asker waits: a
    /// request that is dropped half-way must not leave half of its work.
    async fn complete<T, F>(&self, use_case: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let task = self.tasks.spawn(use_case.in_current_span());
        match task.await {
            Ok(outcome) => outcome.map_err(Problem::from),
            Err(e) => Err(Problem::internal(&e)),
        }
    }
}

/// The document of the API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sternline relay",
        description = "Environments, their agents, ports that lead to them, and stacks. \
            Every error is `application/problem+json` with a stable `code`."
    ),
    security(("api_token" = [])),
    modifiers(&ApiToken)
)]
struct Document;

struct ApiToken;

impl Modify for ApiToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_token", scheme);
    }
}

fn documented() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(relay::show))
        .routes(routes!(relay::drain))
        .routes(routes!(environment::list, environment::add))
        .routes(routes!(environment::show, environment::remove))
        .routes(routes!(environment::issue_token))
        .routes(routes!(environment::release))
        .routes(routes!(exposure::list, exposure::add))
        .routes(routes!(exposure::remove))
        .routes(routes!(stack::list))
        .routes(routes!(stack_stream::watch))
        .routes(routes!(stack::deploy))
        .routes(routes!(stack::plan))
        .routes(routes!(stack::rollback))
        .routes(routes!(stack::remove))
        .routes(routes!(stack::cancel))
        .routes(routes!(stack::restart))
        .routes(routes!(stack_stream::logs))
        .routes(routes!(release::list))
        .routes(routes!(release::show))
        .routes(routes!(release::diff))
        .routes(routes!(release::missing))
        .routes(routes!(release::put_blob))
        .routes(routes!(variable::list))
        .routes(routes!(variable::put, variable::remove))
        .routes(routes!(variable::list_registries))
        .routes(routes!(variable::put_registry, variable::remove_registry))
        .routes(routes!(relay::document))
}

/// The API's document: JSON, as `openapi.json` has it.
///
/// # Panics
///
/// Never: the document is made of plain values.
pub fn document() -> String {
    let document = documented().to_openapi();
    let mut text = document
        .to_pretty_json()
        .expect("a document of plain values is JSON");
    text.push('\n');
    text
}

/// The API and a page that says what this is.
pub fn router(state: ApiState) -> Router {
    let (routes, _) = documented().split_for_parts();
    let routes = probe::routes()
        .into_iter()
        .fold(routes, |routes, (path, method)| routes.route(path, method));
    routes
        .route("/", get(relay::page))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), frame))
        .with_state(state)
}

async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this path",
    )
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "the path does not take this method",
    )
}

/// Around every request: an id, a deadline, a span, a count, and the form of errors.
async fn frame(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let started = Instant::now();
    let request_id = request_id(&request, &state.control);
    let method = request.method().clone();
    let span = info_span!("request", %request_id);
    let limit = match request.uri().path().starts_with("/api/v1/blobs/sha256:") {
        true => UPLOAD_TIMEOUT,
        false => REQUEST_TIMEOUT,
    };
    let handled = tokio::time::timeout(limit, next.run(request)).instrument(span.clone());
    let mut response = handled
        .await
        .unwrap_or_else(|_| Problem::timeout().into_response());
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = span.in_scope(|| problem.into_answer(request_id));
    }
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&request_id.to_string());
    headers.extend(
        id.ok()
            .map(|id| (HeaderName::from_static("x-request-id"), id)),
    );
    // Answers hold one-time tokens.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let (status, duration) = (response.status().as_u16(), started.elapsed());
    span.in_scope(|| debug!(%method, status, ?duration, "answered"));
    state.metrics.api_request(method.as_str(), status, duration);
    Ok(response)
}

/// The asker's request id where it is one of ours in form, else one drawn here.
fn request_id(request: &Request, control: &Control) -> RequestId {
    let asked = request
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok());
    asked
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| control.draw_request_id())
}

#[cfg(test)]
mod tests;
