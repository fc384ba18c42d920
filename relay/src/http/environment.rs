//! Requests about environments.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    answer::{AddedEnvironment, Environment, Environments, Token},
    auth::Authenticated,
    body::{Filter, JsonBody},
    problem::{Problem, ProblemBody},
};
use crate::control::TagFilter;

/// An environment to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddEnvironment {
    /// Unique: 1 to 63 of a-z, 0-9, `-`, `_` and `.`.
    name: String,
    /// For selecting many at once.
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// Which environments are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListEnvironments {
    /// Those that have this tag: `KEY=VALUE`.
    tag: Option<String>,
}

/// Lists environments by name.
#[utoipa::path(
    get,
    path = "/api/v1/environments",
    operation_id = "list_environments",
    tag = "environments",
    params(("tag" = Option<String>, Query, description = "Those that have this tag: KEY=VALUE.")),
    responses(
        (status = 200, description = "The environments.", body = Environments),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Filter(query): Filter<ListEnvironments>,
) -> Result<Json<Environments>, Problem> {
    let filter = query
        .tag
        .map(|text| text.parse::<TagFilter>())
        .transpose()?;
    let views = state
        .control
        .environments(&principal, filter.as_ref())
        .await?;
    Ok(Json(Environments {
        environments: views.into_iter().map(Into::into).collect(),
    }))
}

/// Adds an environment and issues its first token.
#[utoipa::path(
    post,
    path = "/api/v1/environments",
    operation_id = "add_environment",
    tag = "environments",
    request_body = AddEnvironment,
    responses(
        (status = 201, description = "Added; the token is shown this one time.",
            body = AddedEnvironment),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn add(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    JsonBody(body): JsonBody<AddEnvironment>,
) -> Result<(StatusCode, Json<AddedEnvironment>), Problem> {
    let control = state.control.clone();
    let (view, token) = state
        .complete(async move {
            control
                .add_environment(&principal, &body.name, body.tags)
                .await
        })
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(AddedEnvironment::new(view, token)),
    ))
}

/// Shows one environment.
#[utoipa::path(
    get,
    path = "/api/v1/environments/{name}",
    operation_id = "show_environment",
    tag = "environments",
    params(("name" = String, Path, description = "Name of the environment.")),
    responses(
        (status = 200, description = "The environment.", body = Environment),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<Environment>, Problem> {
    let view = state.control.environment(&principal, &name).await?;
    let probe = state.control.probe_report(&principal, &name).await?;
    Ok(Json(Environment::from(view).with_probe(probe)))
}

/// Removes an environment: its agent is cut off at once and cannot return.
#[utoipa::path(
    delete,
    path = "/api/v1/environments/{name}",
    operation_id = "remove_environment",
    tag = "environments",
    params(("name" = String, Path, description = "Name of the environment.")),
    responses(
        (status = 204, description = "Removed."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let control = state.control.clone();
    state
        .complete(async move { control.remove_environment(&principal, &name).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Issues a further token: whoever enrols with it replaces the agent. Unused
/// earlier tokens of the environment are taken back.
#[utoipa::path(
    post,
    path = "/api/v1/environments/{name}/tokens",
    operation_id = "issue_token",
    tag = "environments",
    params(("name" = String, Path, description = "Name of the environment.")),
    responses(
        (status = 201, description = "Issued; the token is shown this one time.", body = Token),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn issue_token(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Token>), Problem> {
    let control = state.control.clone();
    let token = state
        .complete(async move { control.issue_token(&principal, &name).await })
        .await?;
    Ok((StatusCode::CREATED, Json(token.into())))
}

/// Ends the hold of an environment whose identity was copied: the next agent with
/// its key is believed.
#[utoipa::path(
    post,
    path = "/api/v1/environments/{name}/release",
    operation_id = "release_environment",
    tag = "environments",
    params(("name" = String, Path, description = "Name of the environment.")),
    responses(
        (status = 200, description = "Released.", body = Environment),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn release(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(name): Path<String>,
) -> Result<Json<Environment>, Problem> {
    let control = state.control.clone();
    let view = state
        .complete(async move { control.release_environment(&principal, &name).await })
        .await?;
    Ok(Json(view.into()))
}
