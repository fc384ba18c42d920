//! Requests about releases and the files in them.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    auth::Authenticated,
    body::{Filter, LargeJsonBody, whole},
    problem::{Problem, ProblemBody},
    stack_answer::{Difference, MissingBlobs, Release, Releases},
};
use crate::limits::BLOB_BYTES_MAX;

/// Which files are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AskBlobs {
    /// `sha256:…` each.
    digests: Vec<String>,
}

/// Two releases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    from: u64,
    to: u64,
}

/// Tells which of these files the relay does not have.
#[utoipa::path(
    post,
    path = "/api/v1/blobs/missing",
    operation_id = "missing_blobs",
    tag = "stacks",
    request_body = AskBlobs,
    responses(
        (status = 200, description = "Those to be sent.", body = MissingBlobs),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn missing(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    LargeJsonBody(body): LargeJsonBody<AskBlobs>,
) -> Result<Json<MissingBlobs>, Problem> {
    let missing = state
        .control
        .missing_blobs(&principal, &body.digests)
        .await?;
    Ok(Json(MissingBlobs { missing }))
}

/// Keeps a file of releases, sealed; at most 32 MiB.
#[utoipa::path(
    put,
    path = "/api/v1/blobs/{digest}",
    operation_id = "put_blob",
    tag = "stacks",
    params(
        ("digest" = String, Path, description = "`sha256:…` of the bytes."),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 204, description = "Kept."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn put_blob(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode, Problem> {
    let bytes = whole(body, BLOB_BYTES_MAX).await?;
    let control = state.control.clone();
    state
        .complete(async move { control.put_blob(&principal, &digest, &bytes).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the releases of a stack, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/stacks/{stack}/releases",
    operation_id = "list_releases",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
    ),
    responses(
        (status = 200, description = "The releases.", body = Releases),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
) -> Result<Json<Releases>, Problem> {
    let views = state.control.releases(&principal, &stack).await?;
    Ok(Json(Releases {
        releases: views.into_iter().map(Into::into).collect(),
    }))
}

/// Shows a release.
#[utoipa::path(
    get,
    path = "/api/v1/stacks/{stack}/releases/{number}",
    operation_id = "show_release",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
        ("number" = u64, Path, description = "Number of the release."),
    ),
    responses(
        (status = 200, description = "The release.", body = Release),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path((stack, number)): Path<(String, u64)>,
) -> Result<Json<Release>, Problem> {
    let view = state.control.release(&principal, &stack, number).await?;
    Ok(Json(view.into()))
}

/// Tells what is different between two releases; values of secrets are in neither.
#[utoipa::path(
    get,
    path = "/api/v1/stacks/{stack}/diff",
    operation_id = "diff_releases",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
        ("from" = u64, Query, description = "Number of the first."),
        ("to" = u64, Query, description = "Number of the second."),
    ),
    responses(
        (status = 200, description = "The difference.", body = Difference),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn diff(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    Filter(pair): Filter<Pair>,
) -> Result<Json<Difference>, Problem> {
    let pair = (pair.from, pair.to);
    let difference = state
        .control
        .diff_releases(&principal, &stack, pair)
        .await?;
    Ok(Json(Difference { difference }))
}
