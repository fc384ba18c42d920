//! Deploy, plan, roll back and remove.

use std::collections::BTreeMap;

use compose::exchange::Desired;
use serde_json::json;

use super::{
    Assigned, Candidate, Content, Control, DeployOptions, DeployRequest, Deployed, Error,
    Placement, Planned, Principal, Source, Targets, check_stack_name,
};
use crate::{
    control::{
        release::{ReleaseView, read_manifest},
        variable::{NewVariable, Scope, VariableKind},
    },
    limits::{DEPLOY_DEADLINE_MAX, HISTORY_SHOWN_MAX},
    store::{AssignmentRecord, EnvironmentRecord, ReleaseRecord, VariableRecord, VariableScope},
};

/// How a committed assignment's outcome is called.
const COMMITTED: &str = "committed";

impl Control {
    /// Has environments run a release from now on.
    ///
    /// It is rendered for each of them first; where that fails anywhere, nothing is written.
    /// Whoever has the very same assigned already, and not in vain, gets nothing new.
    ///
    /// # Errors
    ///
    /// No such environment or release; a release that cannot be rendered; a key that was used
    /// for something else; a full or failing store.
    pub async fn deploy(
        &self,
        principal: &Principal,
        request: DeployRequest,
    ) -> Result<Deployed, Error> {
        check_stack_name(&request.stack)?;
        check_options(&request.options)?;
        let asked = request_fingerprint(&request)?;
        let asked = self.fingerprint(&asked);
        if let Some(done) = self
            .done_before(principal, request.key.as_deref(), &asked)
            .await?
        {
            return Ok(done);
        }
        let targets = (request.stack.as_str(), &request.targets);
        let environments = self.chosen(principal, targets).await?;
        let candidate = self.candidate(principal, &request).await?;
        let rendered = self
            .render_all(principal, &candidate, &environments)
            .await?;
        for one in &rendered {
            for (digest, bytes) in one.further_blobs(&candidate.manifest) {
                self.keep_blob(principal.customer(), digest, bytes).await?;
            }
        }
        let release = match candidate.record {
            Some(record) => record,
            None => {
                self.make_release(principal, &candidate.manifest, &candidate.note)
                    .await?
            }
        };
        let (number, pins) = (release.number, ReleaseView::of(release)?.pins);
        let mut warnings = Vec::new();
        let mut placements = Vec::new();
        for (environment, mut one) in environments.into_iter().zip(rendered) {
            warnings.append(&mut one.warnings);
            placements.push(Placement {
                content: one.into_content(format!("r{number}"), pins.clone(), &request.options),
                release: Some(number),
                environment,
            });
        }
        warnings.sort();
        warnings.dedup();
        let variables = self.given_secrets(principal, &request).await?;
        let draft = Deployed {
            stack: request.stack,
            assignments: Vec::new(),
            warnings,
        };
        let key = request.key.map(|key| (key, asked));
        let command = (variables, key, request.options.deadline_seconds);
        self.place(principal, draft, placements, command).await
    }

    /// What a deployment would do, environment by environment. Nothing is written.
    ///
    /// # Errors
    ///
    /// No such environment or release; a release that cannot be rendered; a failing store.
    pub async fn plan_stack(
        &self,
        principal: &Principal,
        request: &DeployRequest,
    ) -> Result<Vec<Planned>, Error> {
        check_stack_name(&request.stack)?;
        check_options(&request.options)?;
        let targets = (request.stack.as_str(), &request.targets);
        let environments = self.chosen(principal, targets).await?;
        let candidate = self.candidate(principal, request).await?;
        let rendered = self
            .render_all(principal, &candidate, &environments)
            .await?;
        let (name, pins) = match candidate.record {
            Some(record) => {
                let view = ReleaseView::of(record)?;
                (format!("r{}", view.number), view.pins)
            }
            None => ("planned".to_owned(), candidate.manifest.pins),
        };
        let mut planned = Vec::new();
        for (environment, mut one) in environments.into_iter().zip(rendered) {
            let warnings = std::mem::take(&mut one.warnings);
            let preview = compose::load::preview(&one.stack);
            let content = one.into_content(name.clone(), pins.clone(), &request.options);
            let newest = self.newest(&environment, &request.stack).await?;
            let number = newest.map_or(0, |newest| newest.number) + 1;
            let deadline = request.options.deadline_seconds;
            let mut assignment = content.into_assignment((&request.stack, number), deadline);
            self.add_logins(principal.customer(), &mut assignment)
                .await?;
            let asked = self
                .converger
                .plan(environment.id, (principal, &assignment));
            planned.push(Planned {
                plan: asked
                    .await
                    .map_err(|e| Error::asked(&environment.name, e).to_string()),
                environment: environment.name,
                rendered: preview,
                warnings,
            });
        }
        Ok(planned)
    }

    /// Has environments run an earlier release again: the given one, or the one before what
    /// they shall run now that was last found well.
    ///
    /// # Errors
    ///
    /// As [`Self::deploy`]; no release to go back to.
    pub async fn rollback_stack(
        &self,
        principal: &Principal,
        mut request: DeployRequest,
        to: Option<u64>,
    ) -> Result<Deployed, Error> {
        check_stack_name(&request.stack)?;
        let targets = (request.stack.as_str(), &request.targets);
        let environments = self.chosen(principal, targets).await?;
        let mut back_to: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for environment in environments {
            let release = match to {
                Some(release) => release,
                None => self.last_well(&environment, &request.stack).await?,
            };
            back_to.entry(release).or_default().push(environment.name);
        }
        let mut deployed = Deployed {
            stack: request.stack.clone(),
            assignments: Vec::new(),
            warnings: Vec::new(),
        };
        for (release, names) in back_to {
            let key = request.key.as_ref().map(|key| format!("{key}/r{release}"));
            let part = DeployRequest {
                stack: request.stack.clone(),
                targets: Targets::Named(names),
                source: Source::Release(release),
                secrets: std::mem::take(&mut request.secrets),
                options: request.options.clone(),
                key,
            };
            let mut part = self.deploy(principal, part).await?;
            deployed.assignments.append(&mut part.assignments);
            deployed.warnings.append(&mut part.warnings);
        }
        Ok(deployed)
    }

    /// Has environments run nothing of a stack from now on.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn remove_stack(
        &self,
        principal: &Principal,
        (stack, targets): (&str, &Targets),
        (volumes, options): (bool, &DeployOptions),
    ) -> Result<Deployed, Error> {
        check_stack_name(stack)?;
        check_options(options)?;
        let environments = self.chosen(principal, (stack, targets)).await?;
        let placements = environments.into_iter().map(|environment| Placement {
            environment,
            release: None,
            content: Content {
                desired: Desired::Absent { volumes },
                secrets: BTreeMap::new(),
                pins: BTreeMap::new(),
                remove_foreign_orphans: options.remove_foreign_orphans,
                force_recreate: false,
            },
        });
        let draft = Deployed {
            stack: stack.to_owned(),
            assignments: Vec::new(),
            warnings: Vec::new(),
        };
        let command = (Vec::new(), None, options.deadline_seconds);
        self.place(principal, draft, placements.collect(), command)
            .await
    }

    /// An environment's assignments of a stack, newest first.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn stack_history(
        &self,
        principal: &Principal,
        (stack, environment): (&str, &str),
    ) -> Result<Vec<AssignmentRecord>, Error> {
        let id = self.resolve_environment(principal, environment).await?;
        Ok(self
            .store
            .assignment_history(id, stack, HISTORY_SHOWN_MAX)
            .await?)
    }

    /// The release that was last found well there, and is not the one that shall run.
    async fn last_well(&self, environment: &EnvironmentRecord, stack: &str) -> Result<u64, Error> {
        let history = self
            .store
            .assignment_history(environment.id, stack, HISTORY_SHOWN_MAX)
            .await?;
        let now = history.first().and_then(|newest| newest.release);
        let was_well = |one: &&AssignmentRecord| {
            let is_well = one.outcome.as_ref().is_some_and(|o| o.phase == COMMITTED);
            is_well && one.release != now
        };
        let found = history.iter().skip(1).find(was_well);
        found
            .and_then(|one| one.release)
            .ok_or_else(|| Error::NothingToGoBackTo {
                stack: stack.to_owned(),
                environment: environment.name.clone(),
            })
    }

    async fn candidate(
        &self,
        principal: &Principal,
        request: &DeployRequest,
    ) -> Result<Candidate, Error> {
        let given = request.secrets.clone();
        let of = |record: ReleaseRecord| {
            Ok(Candidate {
                manifest: read_manifest(&record)?,
                note: record.note.clone(),
                record: Some(record),
                given: given.clone(),
            })
        };
        match &request.source {
            Source::Bundle { manifest, note } => {
                let mut manifest = (**manifest).clone();
                manifest.stack.clone_from(&request.stack);
                manifest.secrets.extend(request.secrets.keys().cloned());
                manifest.check()?;
                Ok(Candidate {
                    manifest,
                    note: note.clone(),
                    record: None,
                    given,
                })
            }
            Source::Release(number) => of(self
                .release_record(principal, &request.stack, *number)
                .await?),
            Source::Newest => {
                let customer = principal.customer();
                let newest = self.store.releases(customer, &request.stack, 1).await?;
                let unknown = || Error::StackUnknown {
                    name: request.stack.clone(),
                };
                of(newest.into_iter().next().ok_or_else(unknown)?)
            }
        }
    }

    /// Secrets that come with a request, as variables of the stack.
    async fn given_secrets(
        &self,
        principal: &Principal,
        request: &DeployRequest,
    ) -> Result<Vec<VariableRecord>, Error> {
        if request.secrets.is_empty() {
            return Ok(Vec::new());
        }
        let had = self.store.variables(principal.customer()).await?;
        let scope = VariableScope::Stack(request.stack.clone());
        let written = request.secrets.iter().map(|(name, value)| {
            let same = |one: &&VariableRecord| one.scope == scope && one.name == *name;
            let former = had.iter().find(same);
            let new = NewVariable {
                scope: Scope::Stack(request.stack.clone()),
                name: name.clone(),
                kind: former
                    .and_then(|one| VariableKind::from_text(&one.kind))
                    .unwrap_or_default(),
                is_secret: true,
                is_required: former.is_some_and(|one| one.is_required),
                value: Some(value.clone()),
            };
            self.variable_record(principal, scope.clone(), &new)
        });
        written.collect()
    }

    /// What was answered to the same request before.
    async fn done_before(
        &self,
        principal: &Principal,
        key: Option<&str>,
        asked: &str,
    ) -> Result<Option<Deployed>, Error> {
        let Some(key) = key else { return Ok(None) };
        if key.is_empty() || key.len() > 255 || key.chars().any(char::is_control) {
            return Err(Error::Invalid {
                field: "idempotency-key",
                reason: "1 to 255 characters are taken".to_owned(),
            });
        }
        let since = self.now() - crate::limits::COMMAND_MEMORY;
        let done = self
            .store
            .done_command(principal.customer(), key, since)
            .await?;
        let Some(done) = done else { return Ok(None) };
        if done.fingerprint != asked {
            return Err(Error::KeyReused);
        }
        Ok(serde_json::from_str(&done.answer).ok())
    }

    async fn newest(
        &self,
        environment: &EnvironmentRecord,
        stack: &str,
    ) -> Result<Option<AssignmentRecord>, Error> {
        let history = self
            .store
            .assignment_history(environment.id, stack, 1)
            .await?;
        Ok(history.into_iter().next())
    }
}

fn check_options(options: &DeployOptions) -> Result<(), Error> {
    let most = DEPLOY_DEADLINE_MAX.as_secs();
    if (1..=most).contains(&u64::from(options.deadline_seconds)) {
        return Ok(());
    }
    Err(Error::Invalid {
        field: "deadline_seconds",
        reason: format!("1 to {most} are taken"),
    })
}

/// What tells two requests under one key apart.
fn request_fingerprint(request: &DeployRequest) -> Result<Vec<u8>, Error> {
    let source = match &request.source {
        Source::Bundle { manifest, note } => json!([manifest.canonical()?, note]),
        Source::Release(number) => json!(number),
        Source::Newest => json!("newest"),
    };
    let secrets: Vec<(&str, &str)> = request
        .secrets
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let targets = format!("{:?}", request.targets);
    let all = json!([request.stack, targets, source, secrets, request.options]);
    Ok(all.to_string().into_bytes())
}

/// The part of an assignment's answer that says what happened.
pub(super) fn assigned(
    environment: &EnvironmentRecord,
    record: &AssignmentRecord,
    is_new: bool,
) -> Assigned {
    Assigned {
        environment: environment.name.clone(),
        release: record.release,
        number: record.number,
        is_new,
    }
}
