//! Requests about variables of Compose files, and logins at registries.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    auth::Authenticated,
    body::{Filter, LargeJsonBody},
    problem::{Problem, ProblemBody},
    stack::SecretValue,
    stack_answer::{RegistryLogins, Variables},
};
use crate::control::{Error, NewVariable, Scope, VariableKind};

/// A variable to be written at one level: of an environment, of a stack, or of neither.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutVariable {
    /// The environment that it counts for.
    environment: Option<String>,
    /// The stack that it counts for.
    stack: Option<String>,
    /// `string` (the default), `int` or `bool`.
    #[serde(default = "string")]
    kind: String,
    /// Its value is shown to nobody.
    #[serde(default)]
    secret: bool,
    /// Without a value nothing is deployed.
    #[serde(default)]
    required: bool,
    /// Its value; without one it is declared alone.
    #[schema(value_type = Option<String>)]
    value: Option<SecretValue>,
}

fn string() -> String {
    "string".to_owned()
}

/// Where a variable counts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Level {
    environment: Option<String>,
    stack: Option<String>,
}

/// A login at a registry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutRegistryLogin {
    /// The account.
    user: String,
    /// Its password or token: kept sealed, and answered by nothing.
    #[schema(value_type = String)]
    password: SecretValue,
}

fn scope(environment: Option<String>, stack: Option<String>) -> Result<Scope, Error> {
    match (environment, stack) {
        (None, None) => Ok(Scope::Global),
        (Some(environment), None) => Ok(Scope::Environment(environment)),
        (None, Some(stack)) => Ok(Scope::Stack(stack)),
        (Some(_), Some(_)) => Err(Error::Invalid {
            field: "stack",
            reason: "a variable is of an environment or of a stack, not of both".to_owned(),
        }),
    }
}

/// Lists variables of all levels; values of secret ones are left out.
#[utoipa::path(
    get,
    path = "/api/v1/variables",
    operation_id = "list_variables",
    tag = "variables",
    responses(
        (status = 200, description = "The variables.", body = Variables),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<Variables>, Problem> {
    let views = state.control.variables(&principal).await?;
    Ok(Json(Variables {
        variables: views.into_iter().map(Into::into).collect(),
    }))
}

/// Writes a variable at one level, in place of an earlier one.
#[utoipa::path(
    put,
    path = "/api/v1/variables/{name}",
    operation_id = "put_variable",
    tag = "variables",
    params(
        ("name" = String, Path, description = "Name of the variable."),
    ),
    request_body = PutVariable,
    responses(
        (status = 204, description = "Written."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn put(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(name): Path<String>,
    LargeJsonBody(body): LargeJsonBody<PutVariable>,
) -> Result<StatusCode, Problem> {
    let kind = VariableKind::from_text(&body.kind).ok_or_else(|| Error::Invalid {
        field: "kind",
        reason: "expected `string`, `int` or `bool`".to_owned(),
    })?;
    let new = NewVariable {
        scope: scope(body.environment, body.stack)?,
        name,
        kind,
        is_secret: body.secret,
        is_required: body.required,
        value: body.value.map(|value| value.0),
    };
    let control = state.control.clone();
    state
        .complete(async move { control.put_variable(&principal, new).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a variable at one level.
#[utoipa::path(
    delete,
    path = "/api/v1/variables/{name}",
    operation_id = "remove_variable",
    tag = "variables",
    params(
        ("name" = String, Path, description = "Name of the variable."),
        ("environment" = Option<String>, Query, description = "The environment that it counts for."),
        ("stack" = Option<String>, Query, description = "The stack that it counts for."),
    ),
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
    Filter(level): Filter<Level>,
) -> Result<StatusCode, Problem> {
    let scope = scope(level.environment, level.stack)?;
    let control = state.control.clone();
    state
        .complete(async move { control.remove_variable(&principal, &scope, &name).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists logins at registries; passwords are left out.
#[utoipa::path(
    get,
    path = "/api/v1/registries",
    operation_id = "list_registry_logins",
    tag = "registries",
    responses(
        (status = 200, description = "The logins.", body = RegistryLogins),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn list_registries(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
) -> Result<Json<RegistryLogins>, Problem> {
    let views = state.control.registry_logins(&principal).await?;
    Ok(Json(RegistryLogins {
        registries: views.into_iter().map(Into::into).collect(),
    }))
}

/// Writes a login at a registry: sent to agents that pull from it, and kept sealed.
#[utoipa::path(
    put,
    path = "/api/v1/registries/{host}",
    operation_id = "put_registry_login",
    tag = "registries",
    params(
        ("host" = String, Path, description = "The registry, such as registry.example:5000."),
    ),
    request_body = PutRegistryLogin,
    responses(
        (status = 204, description = "Written."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn put_registry(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(host): Path<String>,
    LargeJsonBody(body): LargeJsonBody<PutRegistryLogin>,
) -> Result<StatusCode, Problem> {
    let control = state.control.clone();
    state
        .complete(async move {
            let login = (host.as_str(), body.user.as_str());
            control
                .put_registry_login(&principal, login, &body.password.0)
                .await
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a login at a registry.
#[utoipa::path(
    delete,
    path = "/api/v1/registries/{host}",
    operation_id = "remove_registry_login",
    tag = "registries",
    params(
        ("host" = String, Path, description = "The registry, such as registry.example:5000."),
    ),
    responses(
        (status = 204, description = "Removed."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn remove_registry(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(host): Path<String>,
) -> Result<StatusCode, Problem> {
    let control = state.control.clone();
    state
        .complete(async move { control.remove_registry_login(&principal, &host).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
