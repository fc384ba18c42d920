//! Requests about exposures.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::ToSchema;
use wire::target::Target;

use super::{
    ApiState,
    answer::{Exposure, Exposures},
    auth::Authenticated,
    body::JsonBody,
    problem::{Problem, ProblemBody},
};
use crate::control::Error;

/// An exposure to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddExposure {
    /// Name of the environment.
    environment: String,
    /// What is reached there: `tcp:HOST:PORT` or `docker`.
    target: String,
    /// Where the relay listens: `ADDRESS:PORT`; port 0 lets the system choose.
    listen: String,
}

/// Lists exposures, oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/exposures",
    operation_id = "list_exposures",
    tag = "exposures",
    responses(
        (status = 200, description = "The exposures.", body = Exposures),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<Exposures>, Problem> {
    let views = state.control.exposures(&principal).await?;
    Ok(Json(Exposures {
        exposures: views.into_iter().map(Into::into).collect(),
    }))
}

/// Opens a port on the relay's host that leads to a target at an agent.
#[utoipa::path(
    post,
    path = "/api/v1/exposures",
    operation_id = "add_exposure",
    tag = "exposures",
    request_body = AddExposure,
    responses(
        (status = 201, description = "Listening, and again after every restart.", body = Exposure),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn add(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    JsonBody(body): JsonBody<AddExposure>,
) -> Result<(StatusCode, Json<Exposure>), Problem> {
    let target: Target = body
        .target
        .parse()
        .map_err(|e: wire::target::ParseTargetError| invalid("target", e.to_string()))?;
    let listen: SocketAddr = body.listen.parse().map_err(|_| {
        let shown = body.listen.escape_debug();
        invalid(
            "listen",
            format!("`{shown}` is not ADDRESS:PORT, such as 127.0.0.1:5432"),
        )
    })?;
    let control = state.control.clone();
    let view = state
        .complete(async move {
            control
                .add_exposure(&principal, &body.environment, target, listen)
                .await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(view.into())))
}

/// Closes an exposure and the connections through it.
#[utoipa::path(
    delete,
    path = "/api/v1/exposures/{id}",
    operation_id = "remove_exposure",
    tag = "exposures",
    params(("id" = String, Path, description = "Id of the exposure.")),
    responses(
        (status = 204, description = "Closed."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let parsed = id.parse().map_err(|_| Error::ExposureUnknown { id })?;
    let control = state.control.clone();
    state
        .complete(async move { control.remove_exposure(&principal, parsed).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn invalid(field: &'static str, reason: String) -> Problem {
    Error::Invalid { field, reason }.into()
}
