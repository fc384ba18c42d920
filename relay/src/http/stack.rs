//! Requests about stacks: deploy, plan, status, roll back, remove, cancel, restart.

use std::{collections::BTreeMap, fmt};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    ApiState,
    auth::Authenticated,
    body::{Filter, LargeJsonBody},
    problem::{Problem, ProblemBody},
    stack_answer::{DeployAnswer, Deployments, Plans},
};
use crate::control::{BundleFile, DeployOptions, DeployRequest, Error, Manifest, Source, Targets};

/// A value that is shown nowhere.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(from = "String")]
#[schema(value_type = String)]
pub(super) struct SecretValue(pub(super) Zeroizing<String>);

impl From<String> for SecretValue {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// Where: these environments, those with a tag, or where the stack is assigned already.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Places {
    /// Names of environments.
    environments: Vec<String>,
    /// Environments that have this tag: `KEY=VALUE`.
    tag: Option<String>,
}

/// A file in a bundle.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// `sha256:…`; its bytes are sent before.
    digest: String,
    /// Bytes.
    size: u64,
    /// Permission bits, such as 420 for 0644.
    mode: u32,
}

/// What a release is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bundle {
    /// Compose files by their path in the bundle, in the order in which they are merged.
    compose: Vec<String>,
    /// Everything in the bundle, by path.
    files: BTreeMap<String, File>,
    /// Active profiles.
    #[serde(default)]
    profiles: Vec<String>,
    /// The release's own variables; everybody may read them.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// What images are pinned to from the start.
    #[serde(default)]
    pins: BTreeMap<String, String>,
    /// Something else for a release whose images shall be looked up anew.
    #[serde(default)]
    refresh: String,
}

/// A deployment.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    /// Where.
    #[serde(default)]
    places: Places,
    /// What: new files. Without them and without `release`: the newest release.
    bundle: Option<Bundle>,
    /// What: a release that there is.
    release: Option<u64>,
    /// What the author of new files has to say.
    #[serde(default)]
    note: String,
    /// Values of secret variables: kept sealed for the stack, and answered by nothing.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    secrets: BTreeMap<String, SecretValue>,
    /// After so many seconds without being done, the agent takes it back.
    deadline_seconds: Option<u32>,
    /// Replace every container, changed or not.
    #[serde(default)]
    force_recreate: bool,
    /// Also remove containers that another tool made for services which are gone.
    #[serde(default)]
    remove_orphans: bool,
}

/// A return to an earlier release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Where.
    #[serde(default)]
    places: Places,
    /// To which; without it, to the one before that was last found well.
    to: Option<u64>,
    /// After so many seconds without being done, the agent takes it back.
    deadline_seconds: Option<u32>,
}

/// The end of a stack.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Removal {
    /// Where.
    #[serde(default)]
    places: Places,
    /// Its volumes go as well, and what is on them.
    #[serde(default)]
    volumes: bool,
    /// Also remove containers that another tool made for its services.
    #[serde(default)]
    remove_orphans: bool,
}

/// A restart of containers.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Restart {
    /// Where.
    #[serde(default)]
    places: Places,
    /// One service; without it, all.
    service: Option<String>,
}

/// What ends what is going on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    /// Where.
    #[serde(default)]
    places: Places,
}

/// Which deployments are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Of this stack.
    pub(super) stack: Option<String>,
    /// At this environment.
    pub(super) environment: Option<String>,
}

impl Places {
    pub(super) fn into_targets(self) -> Result<Targets, Error> {
        match (self.environments.is_empty(), self.tag) {
            (true, None) => Ok(Targets::Assigned),
            (false, None) => Ok(Targets::Named(self.environments)),
            (true, Some(tag)) => Ok(Targets::Tagged(tag.parse()?)),
            (false, Some(_)) => Err(Error::Invalid {
                field: "places",
                reason: "name environments or a tag, not both".to_owned(),
            }),
        }
    }
}

impl Bundle {
    fn into_manifest(self, stack: &str) -> Manifest {
        let file = |file: File| BundleFile {
            digest: file.digest,
            size: file.size,
            mode: file.mode,
        };
        let files = self.files.into_iter();
        Manifest {
            stack: stack.to_owned(),
            compose: self.compose,
            files: files.map(|(path, one)| (path, file(one))).collect(),
            profiles: self.profiles.into_iter().collect(),
            variables: self.variables,
            pins: self.pins,
            refresh: self.refresh,
            ..Manifest::default()
        }
    }
}

impl Deploy {
    fn into_request(self, stack: String, key: Option<String>) -> Result<DeployRequest, Error> {
        let source = match (self.bundle, self.release) {
            (Some(bundle), None) => Source::Bundle {
                manifest: Box::new(bundle.into_manifest(&stack)),
                note: self.note,
            },
            (None, Some(release)) => Source::Release(release),
            (None, None) => Source::Newest,
            (Some(_), Some(_)) => {
                return Err(Error::Invalid {
                    field: "release",
                    reason: "give files or a release, not both".to_owned(),
                });
            }
        };
        let secrets = self.secrets.into_iter();
        Ok(DeployRequest {
            stack,
            targets: self.places.into_targets()?,
            source,
            secrets: secrets.map(|(name, value)| (name, value.0)).collect(),
            options: DeployOptions {
                force_recreate: self.force_recreate,
                remove_foreign_orphans: self.remove_orphans,
                ..options(self.deadline_seconds)
            },
            key,
        })
    }
}

fn options(deadline_seconds: Option<u32>) -> DeployOptions {
    let default = DeployOptions::default();
    DeployOptions {
        deadline_seconds: deadline_seconds.unwrap_or(default.deadline_seconds),
        ..default
    }
}

fn key_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("idempotency-key")?.to_str().ok()?;
    Some(value.to_owned())
}

/// Tells how stacks fare, by stack and environment.
#[utoipa::path(
    get,
    path = "/api/v1/deployments",
    operation_id = "list_deployments",
    tag = "stacks",
    params(
        ("stack" = Option<String>, Query, description = "Of this stack."),
        ("environment" = Option<String>, Query, description = "At this environment."),
    ),
    responses(
        (status = 200, description = "Stacks at environments.", body = Deployments),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Filter(which): Filter<Which>,
) -> Result<Json<Deployments>, Problem> {
    let which = (which.stack.as_deref(), which.environment.as_deref());
    let views = state.control.stack_views(&principal, which).await?;
    Ok(Json(Deployments {
        deployments: views.into_iter().map(Into::into).collect(),
    }))
}

/// Has environments run a release from now on; nothing is written where it cannot be
/// rendered for one of them.
#[utoipa::path(
    post,
    path = "/api/v1/stacks/{stack}/deploy",
    operation_id = "deploy_stack",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
        ("Idempotency-Key" = Option<String>, Header, description = "Asked again with the same key within a day, it is answered again."),
    ),
    request_body = Deploy,
    responses(
        (status = 200, description = "Assigned.", body = DeployAnswer),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn deploy(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    headers: HeaderMap,
    LargeJsonBody(body): LargeJsonBody<Deploy>,
) -> Result<Json<DeployAnswer>, Problem> {
    let request = body.into_request(stack, key_of(&headers))?;
    let control = state.control.clone();
    let deployed = state
        .complete(async move { control.deploy(&principal, request).await })
        .await?;
    Ok(Json(deployed.into()))
}

/// Tells what a deployment would do; nothing is written.
#[utoipa::path(
    post,
    path = "/api/v1/stacks/{stack}/plan",
    operation_id = "plan_stack",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
    ),
    request_body = Deploy,
    responses(
        (status = 200, description = "Plans by environment.", body = Plans),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn plan(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    LargeJsonBody(body): LargeJsonBody<Deploy>,
) -> Result<Json<Plans>, Problem> {
    let request = body.into_request(stack, None)?;
    let planned = state.control.plan_stack(&principal, &request).await?;
    Ok(Json(Plans {
        plans: planned.into_iter().map(Into::into).collect(),
    }))
}

/// Has environments run an earlier release again.
#[utoipa::path(
    post,
    path = "/api/v1/stacks/{stack}/rollback",
    operation_id = "rollback_stack",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
        ("Idempotency-Key" = Option<String>, Header, description = "Asked again with the same key within a day, it is answered again."),
    ),
    request_body = Rollback,
    responses(
        (status = 200, description = "Assigned.", body = DeployAnswer),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn rollback(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    headers: HeaderMap,
    LargeJsonBody(body): LargeJsonBody<Rollback>,
) -> Result<Json<DeployAnswer>, Problem> {
    let request = DeployRequest {
        stack,
        targets: body.places.into_targets()?,
        source: Source::Newest,
        secrets: BTreeMap::new(),
        options: options(body.deadline_seconds),
        key: key_of(&headers),
    };
    let control = state.control.clone();
    let deployed = state
        .complete(async move { control.rollback_stack(&principal, request, body.to).await })
        .await?;
    Ok(Json(deployed.into()))
}

/// Has environments run nothing of a stack from now on.
#[utoipa::path(
    post,
    path = "/api/v1/stacks/{stack}/remove",
    operation_id = "remove_stack",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
    ),
    request_body = Removal,
    responses(
        (status = 200, description = "Assigned.", body = DeployAnswer),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    LargeJsonBody(body): LargeJsonBody<Removal>,
) -> Result<Json<DeployAnswer>, Problem> {
    let targets = body.places.into_targets()?;
    let control = state.control.clone();
    let options = DeployOptions {
        remove_foreign_orphans: body.remove_orphans,
        ..DeployOptions::default()
    };
    let removed = state
        .complete(async move {
            let how = (body.volumes, &options);
            control
                .remove_stack(&principal, (&stack, &targets), how)
                .await
        })
        .await?;
    Ok(Json(removed.into()))
}

/// Ends what is going on with a stack, and has agents go back.
#[utoipa::path(
    post,
    path = "/api/v1/stacks/{stack}/cancel",
    operation_id = "cancel_stack",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
    ),
    request_body = Cancel,
    responses(
        (status = 204, description = "Done."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    LargeJsonBody(body): LargeJsonBody<Cancel>,
) -> Result<StatusCode, Problem> {
    let targets = body.places.into_targets()?;
    let control = state.control.clone();
    state
        .complete(async move { control.cancel_stack(&principal, (&stack, &targets)).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restarts a stack's containers, or those of one service.
#[utoipa::path(
    post,
    path = "/api/v1/stacks/{stack}/restart",
    operation_id = "restart_stack",
    tag = "stacks",
    params(
        ("stack" = String, Path, description = "Name of the stack."),
    ),
    request_body = Restart,
    responses(
        (status = 204, description = "Done."),
        (status = "default", description = "Why not.", body = ProblemBody,
            content_type = "application/problem+json")
    )
)]
pub(super) async fn restart(
    State(state): State<ApiState>,
    Authenticated(principal): Authenticated,
    Path(stack): Path<String>,
    LargeJsonBody(body): LargeJsonBody<Restart>,
) -> Result<StatusCode, Problem> {
    let targets = body.places.into_targets()?;
    let control = state.control.clone();
    state
        .complete(async move {
            let service = body.service.as_deref();
            control
                .restart_stack(&principal, (&stack, &targets), service)
                .await
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
