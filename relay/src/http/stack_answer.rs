//! What the API answers about stacks: the contract's words over the use cases' views.

use std::collections::BTreeMap;

use compose::{
    exchange::{Cause, Progress, StackReport},
    plan::Plan,
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::{
    Deployed, Planned, RegistryLoginView, ReleaseDiff, ReleaseView, Scope, StackView, VariableView,
};

/// A stack at an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deployment {
    /// Name of the environment.
    environment: String,
    /// Name of the stack.
    stack: String,
    /// Number of the assignment there; the highest counts.
    assignment: u64,
    /// Number of the release that shall run; null where none shall.
    release: Option<u64>,
    /// `pending` (the agent is offline), `sending`, `unreachable`, `removed`, or as the agent
    /// says: `receiving`, `pulling`, `applying`, `verifying`, `committed`, `reverting`,
    /// `reverted`, `failed`, `refused`, `removing`.
    state: String,
    /// Nothing will change without somebody's doing.
    settled: bool,
    /// Why it is not as it was asked for: code, service, line, output.
    #[schema(value_type = Option<Object>)]
    cause: Option<Cause>,
    /// Who assigned it.
    author: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    assigned_at: Timestamp,
    /// When the relay heard what became of it.
    #[schema(value_type = Option<String>, format = DateTime)]
    settled_at: Option<Timestamp>,
    /// The agent is at it for longer than it may be.
    overdue: bool,
    /// The agent tells of changes at this moment.
    live: bool,
    /// How long ago it last said anything of its stacks; null where it never did since the
    /// relay's start.
    heard_ms_ago: Option<u64>,
    /// The last that the agent told: services, containers, health, drift, digests.
    #[schema(value_type = Option<Object>)]
    report: Option<StackReport>,
}

/// Stacks at environments.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deployments {
    /// By stack and environment.
    pub(super) deployments: Vec<Deployment>,
}

/// One line of a watch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WatchLine {
    /// A stack at an environment as it is now.
    Deployment(Box<Deployment>),
    /// What is going on, in numbers.
    Progress {
        /// Name of the environment.
        environment: String,
        /// Stack, subject, layer, state, current, total.
        #[schema(value_type = Object)]
        progress: Progress,
    },
    /// All that there is has been told; from now on, what changes.
    Complete {},
    /// Nothing has changed.
    Alive {},
}

/// One environment of a deployment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Assignment {
    /// Name of the environment.
    environment: String,
    /// Number of the release; null where none shall run.
    release: Option<u64>,
    /// Number of the assignment.
    assignment: u64,
    /// False: the very same was assigned already, and nothing happens.
    new: bool,
}

/// What was assigned.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeployAnswer {
    /// Name of the stack.
    stack: String,
    /// By environment.
    assignments: Vec<Assignment>,
    /// What its author should know of.
    warnings: Vec<String>,
}

/// What a deployment would do at one environment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlanAnswer {
    /// Name of the environment.
    environment: String,
    /// Steps and notes of the agent; null where it could not be asked.
    #[schema(value_type = Option<Object>)]
    plan: Option<Plan>,
    /// Each step in words.
    operations: Vec<String>,
    /// Why the agent could not be asked.
    unavailable: Option<String>,
    /// The stack as it would be; secrets are masked.
    rendered: String,
    /// What its author should know of.
    warnings: Vec<String>,
}

/// Plans by environment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Plans {
    /// By environment.
    pub(super) plans: Vec<PlanAnswer>,
}

/// A release of a stack.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Release {
    /// Counts up for every stack.
    number: u64,
    /// Names its content: `sha256:…`.
    digest: String,
    /// Who made it.
    author: String,
    /// What its author has to say.
    note: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Compose files in their order.
    compose: Vec<String>,
    /// Everything in the bundle: path to digest.
    files: BTreeMap<String, String>,
    /// Active profiles.
    profiles: Vec<String>,
    /// Its own variables.
    variables: BTreeMap<String, String>,
    /// Names of secret variables that it was given with.
    secrets: Vec<String>,
    /// What its images are pinned to, learnt ones included.
    pins: BTreeMap<String, String>,
}

/// Releases, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Releases {
    /// At most 200.
    pub(super) releases: Vec<Release>,
}

/// What is different between two releases.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Difference {
    /// `files`, `variables`, `secrets_added`, `secrets_removed`, `profiles`, `pins`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub(super) difference: ReleaseDiff,
}

/// A variable at one level.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Variable {
    /// Its name.
    name: String,
    /// The environment that it counts for; null where it is of another level.
    environment: Option<String>,
    /// The stack that it counts for; null where it is of another level.
    stack: Option<String>,
    /// `string`, `int` or `bool`.
    kind: String,
    /// Its value is shown to nobody.
    secret: bool,
    /// Without a value nothing is deployed.
    required: bool,
    /// It has a value at this level.
    set: bool,
    /// Its value; null of a secret one.
    value: Option<String>,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// Variables of all levels.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Variables {
    /// By name, the more general level first.
    pub(super) variables: Vec<Variable>,
}

/// A login at a registry of images.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RegistryLogin {
    /// The registry.
    host: String,
    /// The account.
    user: String,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// Logins at registries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RegistryLogins {
    /// By host.
    pub(super) registries: Vec<RegistryLogin>,
}

/// Which of the named files the relay does not have.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MissingBlobs {
    /// Digests, in the order of the question.
    pub(super) missing: Vec<String>,
}

impl From<StackView> for Deployment {
    fn from(view: StackView) -> Self {
        let milliseconds = |ago: std::time::Duration| u64::try_from(ago.as_millis());
        Self {
            environment: view.environment,
            stack: view.stack,
            assignment: view.number,
            release: view.release,
            state: view.state.as_str().to_owned(),
            settled: view.state.is_settled(),
            cause: view.cause,
            author: view.author,
            assigned_at: view.assigned_at,
            settled_at: view.settled_at,
            overdue: view.is_overdue,
            live: view.is_live,
            heard_ms_ago: view
                .heard_ago
                .map(|ago| milliseconds(ago).unwrap_or(u64::MAX)),
            report: view.report.map(|report| (*report).clone()),
        }
    }
}

impl From<Deployed> for DeployAnswer {
    fn from(deployed: Deployed) -> Self {
        let one = |assigned: crate::control::Assigned| Assignment {
            environment: assigned.environment,
            release: assigned.release,
            assignment: assigned.number,
            new: assigned.is_new,
        };
        Self {
            stack: deployed.stack,
            assignments: deployed.assignments.into_iter().map(one).collect(),
            warnings: deployed.warnings,
        }
    }
}

impl From<Planned> for PlanAnswer {
    fn from(planned: Planned) -> Self {
        let (plan, unavailable) = match planned.plan {
            Ok(plan) => (Some(plan), None),
            Err(reason) => (None, Some(reason)),
        };
        let steps = plan.iter().flat_map(|plan| &plan.steps);
        Self {
            environment: planned.environment,
            operations: steps.map(|step| step.operation.to_string()).collect(),
            plan,
            unavailable,
            rendered: planned.rendered,
            warnings: planned.warnings,
        }
    }
}

impl From<ReleaseView> for Release {
    fn from(view: ReleaseView) -> Self {
        let manifest = view.manifest;
        let files = manifest.files.into_iter();
        Self {
            number: view.number,
            digest: view.digest,
            author: view.author,
            note: view.note,
            created_at: view.created_at,
            compose: manifest.compose,
            files: files.map(|(path, file)| (path, file.digest)).collect(),
            profiles: manifest.profiles.into_iter().collect(),
            variables: manifest.variables,
            secrets: manifest.secrets.into_iter().collect(),
            pins: view.pins,
        }
    }
}

impl From<VariableView> for Variable {
    fn from(view: VariableView) -> Self {
        let (environment, stack) = match view.scope {
            Scope::Global => (None, None),
            Scope::Environment(name) => (Some(name), None),
            Scope::Stack(name) => (None, Some(name)),
        };
        Self {
            name: view.name,
            environment,
            stack,
            kind: view.kind.as_str().to_owned(),
            secret: view.is_secret,
            required: view.is_required,
            set: view.is_set,
            value: view.value,
            updated_at: view.updated_at,
        }
    }
}

impl From<RegistryLoginView> for RegistryLogin {
    fn from(view: RegistryLoginView) -> Self {
        Self {
            host: view.host,
            user: view.account,
            updated_at: view.updated_at,
        }
    }
}
