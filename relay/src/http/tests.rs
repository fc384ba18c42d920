//! Requests through the whole router, without a socket.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::{
    control::fixture::Fixture,
    limits::{AUTH_FAILURES_BURST, BODY_BYTES_MAX},
    metrics,
};

mod probe;
mod stacks;

/// Where the contract is kept.
const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

struct Api {
    fixture: Fixture,
    registry: Registry,
    service: TowerToHyperService<Router>,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> (u16, String) {
        (
            self.status,
            self.json()["code"].as_str().unwrap_or_default().to_owned(),
        )
    }
}

impl Api {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry, "0.1.0", "abc").unwrap());
        let state = ApiState::new(fixture.control.clone(), metrics, TaskTracker::new());
        Self {
            fixture,
            registry,
            service: TowerToHyperService::new(router(state)),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let token = format!("Bearer {}", self.fixture.api_token);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", token)
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.send(request).await
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        let (parts, body) = self.service.call(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    async fn add(&self, name: &str) -> Answer {
        self.ask(
            "POST",
            "/api/v1/environments",
            &json!({ "name": name }).to_string(),
        )
        .await
    }
}

fn without_token(path: &str) -> http::Request<Body> {
    http::Request::builder()
        .uri(path)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn an_environment_is_added_listed_shown_and_removed() {
    let api = Api::new().await;

    let added = api.add("berlin").await;
    let listed = api.ask("GET", "/api/v1/environments", "").await.json();
    let shown = api
        .ask("GET", "/api/v1/environments/berlin", "")
        .await
        .json();
    let removed = api.ask("DELETE", "/api/v1/environments/berlin", "").await;
    let gone = api.ask("GET", "/api/v1/environments/berlin", "").await;

    assert_eq!(added.status, 201);
    let added = added.json();
    let token = added["token"].as_str().unwrap();
    assert!(token.starts_with("stl1_"), "{added}");
    assert!(
        added["agent_command"].as_str().unwrap().ends_with(token),
        "{added}"
    );
    assert!(
        added["docker_run_command"]
            .as_str()
            .unwrap()
            .contains(token),
        "{added}"
    );
    assert_eq!(added["environment"], shown);
    assert_eq!(listed["environments"], json!([shown]));
    assert_eq!(
        (shown["status"].as_str(), &shown["session"]),
        (Some("never_connected"), &Value::Null)
    );
    assert_eq!(removed.status, 204);
    assert_eq!(gone.code(), (404, "environment_unknown".to_owned()));
}

#[tokio::test]
async fn an_online_environment_shows_its_session() {
    let api = Api::new().await;
    let agent = api.fixture.enrol("berlin").await;
    api.fixture
        .live
        .online
        .lock()
        .unwrap()
        .insert(agent.environment_id);

    let shown = api
        .ask("GET", "/api/v1/environments/berlin", "")
        .await
        .json();

    assert_eq!(shown["status"], "online");
    assert_eq!(shown["agent"]["id"], agent.agent_id.to_string());
    assert_eq!(shown["session"]["transport"], "quic");
    assert_eq!(shown["session"]["rtt_ms"], 3.0);
    assert_eq!(shown["session"]["docker"], Value::Null);
}

#[tokio::test]
async fn a_further_token_is_issued_and_a_release_needs_an_agent() {
    let api = Api::new().await;
    api.add("berlin").await;

    let issued = api
        .ask("POST", "/api/v1/environments/berlin/tokens", "")
        .await;
    let released = api
        .ask("POST", "/api/v1/environments/berlin/release", "")
        .await;

    assert_eq!(issued.status, 201);
    assert!(
        issued.json()["token_expires_at"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(released.code(), (409, "agent_not_enrolled".to_owned()));
}

#[tokio::test]
async fn an_exposure_is_added_listed_and_removed() {
    let api = Api::new().await;
    api.add("berlin").await;
    let body = json!({ "environment": "berlin", "target": "tcp:db:5432", "listen": "127.0.0.1:1" });

    let added = api
        .ask("POST", "/api/v1/exposures", &body.to_string())
        .await;
    let listed = api.ask("GET", "/api/v1/exposures", "").await.json();
    let path = format!("/api/v1/exposures/{}", added.json()["id"].as_str().unwrap());
    let removed = api.ask("DELETE", &path, "").await;
    let again = api.ask("DELETE", &path, "").await;

    assert_eq!(added.status, 201);
    assert_eq!(added.json()["status"], "listening");
    assert_eq!(listed["exposures"], json!([added.json()]));
    assert_eq!(
        (removed.status, again.code()),
        (204, (404, "exposure_unknown".to_owned()))
    );
}

#[tokio::test]
async fn every_refusal_has_a_stable_code_and_the_requests_id() {
    let api = Api::new().await;
    api.add("berlin").await;
    let long = json!({ "name": "x", "tags": { "t": "y".repeat(BODY_BYTES_MAX) } }).to_string();
    let no_port = r#"{"environment":"berlin","target":"docker","listen":"here"}"#;
    let cases = [
        ("GET", "/api/v1/nothing", "", 404, "not_found"),
        ("PUT", "/api/v1/environments", "", 405, "method_not_allowed"),
        ("POST", "/api/v1/environments", "{", 400, "invalid_request"),
        (
            "POST",
            "/api/v1/environments",
            r#"{"name":"x","nmae":"y"}"#,
            400,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v1/environments",
            r#"{"name":"No Name"}"#,
            400,
            "invalid_request",
        ),
        (
            "POST",
            "/api/v1/environments",
            r#"{"name":"berlin"}"#,
            409,
            "environment_exists",
        ),
        ("POST", "/api/v1/environments", &long, 413, "body_too_large"),
        (
            "GET",
            "/api/v1/environments?tag=x",
            "",
            400,
            "invalid_request",
        ),
        (
            "GET",
            "/api/v1/environments?tga=x",
            "",
            400,
            "invalid_request",
        ),
        ("POST", "/api/v1/exposures", no_port, 400, "invalid_request"),
        ("DELETE", "/api/v1/exposures/x", "", 404, "exposure_unknown"),
    ];

    for (method, path, body, status, code) in cases {
        let answer = api.ask(method, path, body).await;

        assert_eq!(
            answer.code(),
            (status, code.to_owned()),
            "{method} {path} {body:.40}"
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(
            answer.json()["request_id"],
            answer.headers["x-request-id"].to_str().unwrap()
        );
    }
}

#[tokio::test]
async fn a_request_id_of_the_asker_is_kept_if_it_is_one() {
    let api = Api::new().await;
    let asked = RequestId::from_bytes([4; 16]).to_string();
    let ask = |id: &str| {
        http::Request::builder()
            .uri("/")
            .header("x-request-id", id)
            .body(Body::empty())
            .unwrap()
    };

    let kept = api.send(ask(&asked)).await;
    let replaced = api.send(ask("anything at all")).await;

    assert_eq!(kept.headers["x-request-id"], asked.as_str());
    assert!(
        replaced.headers["x-request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
}

#[tokio::test]
async fn without_a_token_nothing_but_the_page_and_the_document_is_shown() {
    let api = Api::new().await;

    let page = api.send(without_token("/")).await;
    let document = api.send(without_token("/api/v1/openapi.json")).await;
    let relay = api.send(without_token("/api/v1/relay")).await;

    assert_eq!((page.status, document.status), (200, 200));
    assert_eq!(relay.code(), (401, "unauthenticated".to_owned()));
    assert_eq!(relay.headers["www-authenticate"], "Bearer");
    let shown = metrics::render(&api.registry).unwrap();
    assert!(
        shown.contains("sternline_relay_api_auth_failures_total 1"),
        "{shown}"
    );
}

#[tokio::test]
async fn many_failures_slow_down_those_without_a_token_and_nobody_else() {
    let api = Api::new().await;
    for _ in 0..AUTH_FAILURES_BURST {
        api.send(without_token("/api/v1/relay")).await;
    }

    let refused = api.send(without_token("/api/v1/relay")).await;
    let served = api.ask("GET", "/api/v1/relay", "").await;

    assert_eq!(refused.code(), (429, "too_many_failures".to_owned()));
    assert_eq!(served.status, 200);
    assert_eq!(served.json()["public_name"], "relay.example");
}

#[tokio::test]
async fn readiness_follows_the_phase() {
    let fixture = Fixture::new().await;
    let (phase, watched) = watch::channel(Phase::Starting);
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry, "0.1.0", "abc").unwrap());
    let health = Health {
        registry,
        metrics,
        phase: watched,
        control: fixture.control.clone(),
        shows_environments: false,
    };
    let service = TowerToHyperService::new(health_router(health));
    let ask = |path: &'static str| {
        let answer = service.call(without_token(path));
        async move { answer.await.unwrap().status().as_u16() }
    };

    let starting = ask("/readyz").await;
    phase.send_replace(Phase::Serving);
    let serving = ask("/readyz").await;
    phase.send_replace(Phase::Draining);
    let draining = ask("/readyz").await;

    assert_eq!((starting, serving, draining), (503, 200, 503));
    assert_eq!((ask("/healthz").await, ask("/metrics").await), (200, 200));
    assert_eq!(
        ask("/metrics/environments").await,
        404,
        "nobody asked for names"
    );
}

/// Write the contract anew with `STERNLINE_UPDATE_CONTRACT=1 cargo test -p relay contract`,
/// and have the difference reviewed.
#[test]
fn the_contract_in_the_repository_is_what_the_code_does() {
    let generated = document();
    if std::env::var_os("STERNLINE_UPDATE_CONTRACT").is_some() {
        std::fs::write(CONTRACT, &generated).unwrap();
    }

    let kept = std::fs::read_to_string(CONTRACT).unwrap();

    assert!(
        kept == generated,
        "relay/openapi.json differs from the code: \
         STERNLINE_UPDATE_CONTRACT=1 cargo test -p relay contract"
    );
    assert!(kept.contains("\"openapi\": \"3.1.0\""));
}
