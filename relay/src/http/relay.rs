//! Requests about the relay itself.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{ApiState, answer::Relay, auth::Authenticated, problem::ProblemBody};
use crate::control::RelayView;

/// What the relay says of itself.
#[utoipa::path(
    get,
    path = "/api/v1/relay",
    operation_id = "show_relay",
    tag = "relay",
    responses(
        (status = 200, description = "The relay.", body = Relay),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Json<Relay> {
    Json(answer(state.control.relay(&principal)))
}

fn answer(view: RelayView) -> Relay {
    Relay {
        version: view.facts.version.to_owned(),
        commit: view.facts.commit.to_owned(),
        node: view.facts.node,
        identity: view.facts.identity.to_string(),
        public_name: view.facts.address.host,
        tunnel_port: view.facts.address.tunnel_port,
        https_port: view.facts.address.https_port,
        sessions: view.sessions,
    }
}

/// Has the relay drain and end: it takes nothing new, sends everybody away, each agent with
/// a time to come back, and waits for streams until its deadline.
#[utoipa::path(
    post,
    path = "/api/v1/relay/drain",
    operation_id = "drain_relay",
    tag = "relay",
    responses(
        (status = 202, description = "The relay drains.", body = Relay),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn drain(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> (StatusCode, Json<Relay>) {
    let relay = answer(state.control.relay(&principal));
    state.control.drain(&principal);
    (StatusCode::ACCEPTED, Json(relay))
}

/// The document of the API.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    operation_id = "show_document",
    tag = "relay",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json"))
)]
pub(super) async fn document() -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        super::document(),
    )
        .into_response()
}

/// A page for a person who comes by with a browser.
pub(super) async fn page() -> &'static str {
    "This is a Sternline relay.\n\n\
     Agents and operators reach it with their own programs; there is nothing to see here.\n\
     The API is described at /api/v1/openapi.json.\n"
}
