//! Use cases on stacks: what shall run where, and what does.
//!
//! A deployment renders a release for each environment first, and writes nothing where one
//! cannot be rendered. What is written then is all that there is to know: an agent that is
//! offline gets it when it returns.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use compose::{
    exchange::{Assignment, Desired, SecretText},
    plan::Plan,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire::id::EnvironmentId;
use zeroize::Zeroizing;

mod assign;
mod converge;
mod deploy;
mod render;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use self::converge::registry_of;
pub use self::status::{REMOVED, StackState, StackView, phase_text};
use super::{Control, Error, Principal, release::Manifest, variable::SecretValues};
use crate::{
    limits::STACK_NAME_CHARS_MAX,
    store::{EnvironmentRecord, ReleaseRecord},
};

/// Which environments are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// These.
    Named(Vec<String>),
    /// All that have this tag.
    Tagged(super::TagFilter),
    /// Where the stack is assigned already.
    Assigned,
}

/// Which release is meant.
#[derive(Debug, Clone)]
pub enum Source {
    /// A new one, or the one that it is already.
    Bundle {
        /// What it is made of.
        manifest: Box<Manifest>,
        /// What its author has to say.
        note: String,
    },
    /// One that there is.
    Release(u64),
    /// The newest that there is.
    Newest,
}

/// How a deployment is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployOptions {
    /// After so many seconds without being done, the agent takes it back.
    pub deadline_seconds: u32,
    /// Replace every container, changed or not.
    pub force_recreate: bool,
    /// Also remove containers that another tool made for services which are gone.
    pub remove_foreign_orphans: bool,
}

/// A deployment that is asked for.
pub struct DeployRequest {
    /// The stack's name.
    pub stack: String,
    /// Where.
    pub targets: Targets,
    /// What.
    pub source: Source,
    /// Values of secret variables: kept sealed for the stack.
    pub secrets: BTreeMap<String, Zeroizing<String>>,
    /// How.
    pub options: DeployOptions,
    /// The asker's own name for this request: asked again, it is answered again.
    pub key: Option<String>,
}

/// What was assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// The stack's name.
    pub stack: String,
    /// By environment.
    pub assignments: Vec<Assigned>,
    /// What its author should know of, and nobody has to do.
    pub warnings: Vec<String>,
}

/// What was assigned to one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Its name.
    pub environment: String,
    /// Which release; `None`: nothing shall run.
    pub release: Option<u64>,
    /// The assignment's number there.
    pub number: u64,
    /// `false`: the very same was assigned already, and nothing happens.
    pub is_new: bool,
}

/// What a deployment would do at one environment.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The environment's name.
    pub environment: String,
    /// What the agent would do, or why it cannot be asked.
    pub plan: Result<Plan, String>,
    /// The stack as it would be, in Compose's words. Secrets are masked.
    pub rendered: String,
    /// What its author should know of.
    pub warnings: Vec<String>,
}

/// The content of an assignment, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Content {
    desired: Desired,
    secrets: BTreeMap<String, SecretText>,
    pins: BTreeMap<String, String>,
    remove_foreign_orphans: bool,
    force_recreate: bool,
}

impl Content {
    fn into_assignment(self, (stack, number): (&str, u64), deadline_seconds: u32) -> Assignment {
        Assignment {
            number,
            stack: stack.to_owned(),
            author: String::new(),
            desired: self.desired,
            secrets: self.secrets,
            registries: BTreeMap::new(),
            pins: self.pins,
            deadline_seconds,
            remove_foreign_orphans: self.remove_foreign_orphans,
            force_recreate: self.force_recreate,
        }
    }
}

/// A release rendered for one environment, about to be assigned.
struct Placement {
    environment: EnvironmentRecord,
    release: Option<u64>,
    content: Content,
}

/// A release that may not be written yet.
struct Candidate {
    manifest: Manifest,
    /// What is written of it already.
    record: Option<ReleaseRecord>,
    note: String,
    given: SecretValues,
}

impl Default for DeployOptions {
    fn default() -> Self {
        Self {
            deadline_seconds: u32::try_from(crate::limits::DEPLOY_DEADLINE.as_secs())
                .unwrap_or(u32::MAX),
            force_recreate: false,
            remove_foreign_orphans: false,
        }
    }
}

impl std::fmt::Debug for DeployRequest {
    /// Secrets are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeployRequest")
            .field("stack", &self.stack)
            .field("targets", &self.targets)
            .field("source", &self.source)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Checks a stack's name: Compose's rule for projects, and as long as an environment's.
pub(super) fn check_stack_name(name: &str) -> Result<(), Error> {
    let is_outer = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_name = bytes.len() <= STACK_NAME_CHARS_MAX
        && bytes.first().is_some_and(is_outer)
        && bytes
            .iter()
            .all(|b| is_outer(b) || matches!(b, b'-' | b'_'));
    if is_name {
        return Ok(());
    }
    Err(Error::Invalid {
        field: "stack",
        reason: format!(
            "`{}` is no name of a stack: 1 to {STACK_NAME_CHARS_MAX} of a-z, 0-9, `-` and `_`, \
             first a letter or a digit",
            name.chars()
                .take(STACK_NAME_CHARS_MAX + 1)
                .collect::<String>()
                .escape_debug()
        ),
    })
}

/// How long ago the moment was.
fn since(moment: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(moment).try_into().unwrap_or_default()
}

impl Control {
    /// Environments that are meant, by name; each once.
    async fn chosen(
        &self,
        principal: &Principal,
        (stack, targets): (&str, &Targets),
    ) -> Result<Vec<EnvironmentRecord>, Error> {
        let all = self.store.environments(principal.customer()).await?;
        let chosen: Vec<EnvironmentRecord> = match targets {
            Targets::Named(names) => {
                let mut named = BTreeMap::new();
                for name in names {
                    let found = all.iter().find(|record| record.name == *name);
                    let unknown = || Error::EnvironmentUnknown { name: name.clone() };
                    named.insert(name.clone(), found.ok_or_else(unknown)?.clone());
                }
                named.into_values().collect()
            }
            Targets::Tagged(filter) => all
                .into_iter()
                .filter(|record| filter.selects(&record.tags))
                .collect(),
            Targets::Assigned => {
                let customer = principal.customer();
                let assigned = self
                    .store
                    .customer_assignments(customer, Some(stack))
                    .await?;
                let running = assigned.iter().filter(|record| record.release.is_some());
                let ids: Vec<EnvironmentId> = running.map(|record| record.environment).collect();
                all.into_iter()
                    .filter(|record| ids.contains(&record.id))
                    .collect()
            }
        };
        if chosen.is_empty() {
            let reason = match targets {
                Targets::Assigned => format!(
                    "`{stack}` is assigned nowhere: name an environment, or see \
                     `sternline-relay stack status`"
                ),
                _ => "none has that tag, or none was named".to_owned(),
            };
            return Err(Error::Invalid {
                field: "environments",
                reason,
            });
        }
        Ok(chosen)
    }

    /// The one environment that is meant.
    async fn chosen_one(
        &self,
        principal: &Principal,
        (stack, targets): (&str, &Targets),
    ) -> Result<EnvironmentRecord, Error> {
        let mut chosen = self.chosen(principal, (stack, targets)).await?;
        let names: Vec<String> = chosen.iter().map(|record| record.name.clone()).collect();
        match (chosen.pop(), chosen.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(Error::Invalid {
                field: "environments",
                reason: format!("`{stack}` is at {}: name one of them", names.join(", ")),
            }),
        }
    }

    /// Ends what is going on with a stack, and has the agents go back.
    ///
    /// # Errors
    ///
    /// No such environment; an agent that is offline or refuses; a failing store.
    pub async fn cancel_stack(
        &self,
        principal: &Principal,
        (stack, targets): (&str, &Targets),
    ) -> Result<(), Error> {
        for environment in self.chosen(principal, (stack, targets)).await? {
            let asked = self.converger.cancel(environment.id, (principal, stack));
            asked
                .await
                .map_err(|e| Error::asked(&environment.name, e))?;
            tracing::info!(%principal, stack, environment = environment.name, "stack cancelled");
        }
        Ok(())
    }

    /// Restarts a stack's containers, or those of one service.
    ///
    /// # Errors
    ///
    /// No such environment; an agent that is offline or refuses; a failing store.
    pub async fn restart_stack(
        &self,
        principal: &Principal,
        (stack, targets): (&str, &Targets),
        service: Option<&str>,
    ) -> Result<(), Error> {
        for environment in self.chosen(principal, (stack, targets)).await? {
            let asked = self
                .converger
                .restart(environment.id, (principal, stack), service);
            asked
                .await
                .map_err(|e| Error::asked(&environment.name, e))?;
            tracing::info!(
                %principal, stack, service, environment = environment.name, "stack restarted"
            );
        }
        Ok(())
    }

    /// Lines of a stack's output.
    ///
    /// # Errors
    ///
    /// No such environment; an agent that is offline or refuses; a failing store.
    pub async fn stack_logs(
        &self,
        principal: &Principal,
        targets: &Targets,
        request: &super::LogRequest,
    ) -> Result<tokio::sync::mpsc::Receiver<compose::exchange::LogLine>, Error> {
        let environment = self
            .chosen_one(principal, (&request.stack, targets))
            .await?;
        let asked = self.converger.logs(environment.id, (principal, request));
        asked.await.map_err(|e| Error::asked(&environment.name, e))
    }

    /// Every change of stacks from now on, of all customers: whoever looks asks for the
    /// [view](Self::stack_view) of what has changed, and gets only what is theirs.
    pub fn watch_stacks(&self) -> tokio::sync::broadcast::Receiver<super::StackEvent> {
        self.converger.watch()
    }
}

/// The report of an agent, shared.
type Report = Arc<compose::exchange::StackReport>;
