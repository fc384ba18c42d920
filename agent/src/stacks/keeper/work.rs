//! What is done about a stack, phase by phase.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use compose::{
    exchange::{Cause, Phase},
    model::{FailureAction, Stack},
    plan::{self, Operation, Plan, Seen},
};

use super::{
    super::{
        engine::Wanted,
        execute::{self, Execution},
        fault::{Fault, Kind, cause},
        health::{self, Standing},
        images,
        record::{Goal, Record, Version},
        rules,
        site::{Prepared, observed},
    },
    State,
};

/// How long a release is watched where nothing says so: Swarm's own.
const MONITOR_DEFAULT: Duration = Duration::from_secs(5);

/// How often a release is looked at while it is watched, where no event comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a plan is made again because things were not as it thought.
const REPLANS_MAX: u32 = 8;

/// The pause before that: somebody else is changing things.
const REPLAN_PAUSE: Duration = Duration::from_millis(250);

/// Before the deadline: what has failed is told, and not that it is too late.
const LAST_MOMENT: Duration = Duration::from_secs(1);

impl State {
    /// Does what is to be done next, and says whether the stack is no more.
    pub(super) async fn work(&mut self) -> bool {
        let goal = self.record.goal();
        self.show_now(None);
        let now = self.site.now_ms();
        let left = self
            .record
            .deadline_ms
            .map(|deadline| deadline.saturating_sub(now));
        let left = Duration::from_millis(left.unwrap_or(u64::MAX / 1_000_000));
        let outcome = tokio::time::timeout(left, self.patiently(&goal)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(self.too_late(&goal)));
        match outcome {
            Ok(()) if goal == Goal::Remove => {
                let forgotten = self.site.disk.forget(&self.record);
                if let Err(error) = forgotten {
                    self.fail(Fault::of_disk("forget the stack", &error).cause)
                        .await;
                    return false;
                }
                self.site.board.forget(&self.record.stack);
                return true;
            }
            Ok(()) => {}
            Err(fault) => self.failed(fault).await,
        }
        false
    }

    fn too_late(&self, goal: &Goal) -> Fault {
        let what = match goal {
            Goal::Receive => "files of the release did not come",
            Goal::Pull => "its images were not there",
            Goal::Apply | Goal::Remove => "it was not done",
            Goal::Verify => "it was not well",
            Goal::Revert => "it was not back",
            Goal::Rest => "",
        };
        let seconds = self.record.deadline_seconds;
        Fault::last(
            "deadline",
            format!(
                "{what} within {seconds} s; look at the services, or give it longer with --deadline"
            ),
        )
    }

    /// Through absences of the Engine, and through plans that no longer fit.
    async fn patiently(&mut self, goal: &Goal) -> Result<(), Fault> {
        let mut replans = 0;
        loop {
            match self.step(goal).await {
                Err(fault) if fault.kind == Kind::EngineAway => {
                    tracing::info!(stack = self.record.stack, %fault, "waiting for the Engine");
                    // Somebody looks at a deployment that does not go on. The cause for which it
                    // goes back is kept.
                    let before = self.record.cause.clone();
                    if before.is_none() {
                        self.record.cause = Some(fault.cause);
                        self.show_now(None);
                    }
                    let mut engine = self.site.engine.clone();
                    // Where it is still thought to be there, the link will notice.
                    tokio::time::sleep(REPLAN_PAUSE).await;
                    drop(engine.wait_for(Option::is_some).await);
                    self.record.cause = before;
                    self.show_now(None);
                    if *goal == Goal::Verify {
                        // An Engine that was killed may leave stopped what it shall restart.
                        return self.enter(Phase::Applying).await;
                    }
                }
                Err(fault) if fault.kind == Kind::Moved && replans < REPLANS_MAX => {
                    tracing::debug!(stack = self.record.stack, %fault, "planning again");
                    replans += 1;
                    tokio::time::sleep(REPLAN_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn step(&mut self, goal: &Goal) -> Result<(), Fault> {
        match goal {
            Goal::Rest => Ok(()),
            Goal::Receive => self.receive().await,
            Goal::Pull => self.pull().await,
            Goal::Apply => self.apply().await,
            Goal::Verify => self.verify().await,
            Goal::Revert => self.revert().await,
            Goal::Remove => self.remove().await,
        }
    }

    /// The last moment at which something may still be waited for, so that there is a better
    /// cause than that it is too late.
    fn until(&self) -> Instant {
        let now = self.site.now_ms();
        let left = self
            .record
            .deadline_ms
            .map(|deadline| deadline.saturating_sub(now));
        let left = Duration::from_millis(left.unwrap_or_default());
        self.site.world.clock.now() + left.saturating_sub(LAST_MOMENT)
    }

    fn target(&self) -> Result<Version, Fault> {
        let target = self.record.target.clone();
        target.ok_or_else(|| Fault::last("internal", "there is no release to run"))
    }

    async fn receive(&mut self) -> Result<(), Fault> {
        if self.missing()?.is_empty() {
            return self.enter(Phase::Pulling).await;
        }
        // The next order says that something has come.
        std::future::pending().await
    }

    async fn pull(&mut self) -> Result<(), Fault> {
        let mut target = self.target()?;
        // What came through the session has no digest in the Engine; its id is known here.
        for (reference, pin) in &target.digests {
            if let Some(id) = self.record.loaded.get(pin) {
                target.images.insert(reference.clone(), id.clone());
            }
        }
        let prepared = self.site.prepare(&target, &self.record).await?;
        if !self.judge(&prepared).await {
            return Ok(());
        }
        let plan = planned(&prepared)?;
        let ours = prepared
            .observed
            .of_project(&prepared.stack.name)
            .any(Seen::is_ours);
        let any = prepared
            .observed
            .of_project(&prepared.stack.name)
            .next()
            .is_some();
        if self.record.committed.is_none() {
            self.record.adopted = any && !ours;
        }
        let needed = needed_images(&plan);
        if !needed.is_empty() {
            images::restore_tags(&self.site, &target).await?;
        }
        let loaded = images::fetch(
            &self.site,
            &mut target,
            &needed,
            (&self.logins, self.until()),
        )
        .await?;
        self.record.loaded.extend(loaded);
        self.record.target = Some(target);
        self.enter(Phase::Applying).await
    }

    /// Whether the policy allows it; what it refuses is told.
    async fn judge(&mut self, prepared: &Prepared) -> bool {
        let in_force = self.site.policy.borrow().clone();
        let refusals = rules::refusals(&in_force.policy, prepared);
        if refusals.is_empty() {
            return true;
        }
        let place = in_force.place(&self.site.policy_path);
        let mut why = cause(
            "policy",
            format!("{place} refuses it: {}", refusals.join("; ")),
        );
        why.output = refusals;
        let now = self.site.now_ms();
        self.record.refuse(why, now);
        self.save().await;
        false
    }

    async fn apply(&mut self) -> Result<(), Fault> {
        let target = self.target()?;
        let (done, empty) = self.make_so(&target, false).await?;
        self.record.operations += done;
        let phase = match empty && self.record.operations == 0 && self.is_well(&target).await? {
            // Nothing was changed, and all is well: there is nothing to watch for.
            true => Phase::Committed,
            false => Phase::Verifying,
        };
        match phase {
            Phase::Committed => self.commit().await,
            phase => self.enter(phase).await,
        }
    }

    /// Plans and executes until nothing is left to do: how many operations it took, and
    /// whether there was nothing to do at all.
    async fn make_so(&mut self, version: &Version, rollback: bool) -> Result<(u32, bool), Fault> {
        let shipped = Version {
            stack: self.site.addressed(version),
            ..version.clone()
        };
        let disk = self.site.disk.clone();
        let written = tokio::task::spawn_blocking(move || disk.ship(&shipped)).await;
        let written = written.unwrap_or_else(|_| Err(std::io::Error::other("it ended")));
        written.map_err(|error| Fault::of_disk("write files of the release", &error))?;
        let mut prepared = self.site.prepare(version, &self.record).await?;
        prepared.options.pulled = true;
        prepared.options.rollback = rollback;
        let plan = planned(&prepared)?;
        self.record.adopts.extend(plan.adopts.clone());
        let execution = Execution::new(&self.site, version, &prepared, self.changed.clone())?;
        execution.run(&plan).await?;
        Ok((
            u32::try_from(plan.changes()).unwrap_or(u32::MAX),
            plan.is_empty(),
        ))
    }

    async fn is_well(&self, version: &Version) -> Result<bool, Fault> {
        let prepared = self.site.prepare(version, &self.record).await?;
        Ok(matches!(
            standing(&prepared.stack, &prepared.observed),
            Standing::Well
        ))
    }

    async fn verify(&mut self) -> Result<(), Fault> {
        let target = self.target()?;
        self.watch_over(&target).await?;
        self.commit().await
    }

    /// Until every service has been well for the monitor window.
    async fn watch_over(&mut self, version: &Version) -> Result<(), Fault> {
        let window = monitor_window(&version.stack);
        let mut well_since = None;
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            let prepared = self.site.prepare(version, &self.record).await?;
            self.show_now(Some(&prepared.observed));
            let now = self.site.world.clock.now();
            match standing(&prepared.stack, &prepared.observed) {
                Standing::Well => {
                    let since = *well_since.get_or_insert(now);
                    if now.saturating_duration_since(since) >= window {
                        return Ok(());
                    }
                }
                Standing::Coming(_) => well_since = None,
                Standing::Bad(why) => return Err(self.with_output(why, &prepared).await),
            }
            drop(tokio::time::timeout(LOOK_EVERY, changed.changed()).await);
        }
    }

    async fn with_output(&self, mut why: Cause, prepared: &Prepared) -> Fault {
        let project = prepared.observed.of_project(&prepared.stack.name);
        let of_it = |seen: &Seen<'_>| why.line.contains(seen.name());
        if why.output.is_empty()
            && let Some(seen) = project.into_iter().find(of_it)
            && let Ok(engine) = self.site.engine()
        {
            why.output = execute::output(&engine, seen.0).await;
        }
        Fault {
            kind: Kind::Final,
            cause: why,
        }
    }

    async fn commit(&mut self) -> Result<(), Fault> {
        let now = self.site.now_ms();
        self.record.commit(now);
        self.try_save().await?;
        self.logins.clear();
        tracing::info!(
            stack = self.record.stack,
            release = self
                .record
                .committed
                .as_ref()
                .map(|version| version.release.as_str()),
            operations = self.record.operations,
            "committed"
        );
        let disk = self.site.disk.clone();
        let record = self.addressed_record();
        let swept = tokio::task::spawn_blocking(move || disk.sweep_files(&record)).await;
        if let Ok(Err(error)) = swept {
            tracing::warn!(%error, "files of old releases are still there");
        }
        Ok(())
    }

    fn addressed_record(&self) -> Record {
        let mut record = self.record.clone();
        for version in [&mut record.target, &mut record.committed]
            .into_iter()
            .flatten()
        {
            version.stack = self.site.addressed(version);
        }
        record
    }

    async fn revert(&mut self) -> Result<(), Fault> {
        match self.record.committed.clone() {
            Some(version) => {
                let prepared = self.site.prepare(&version, &self.record).await?;
                images::restore_tags(&self.site, &version).await?;
                let mut fetched = version.clone();
                let needed = needed_images(&planned(&prepared)?);
                // An image that is there is the one that ran: nothing newer is wanted.
                let absent = |reference: &String| !prepared.observed.images.contains_key(reference);
                let needed = needed
                    .into_iter()
                    .filter(|(reference, _)| absent(reference))
                    .collect();
                let until = self.until();
                images::fetch(&self.site, &mut fetched, &needed, (&self.logins, until)).await?;
                self.make_so(&version, true).await?;
                self.watch_over(&version).await?;
            }
            None => self.take_away(false).await?,
        }
        let now = self.site.now_ms();
        self.record.reverted(now);
        self.try_save().await
    }

    async fn remove(&mut self) -> Result<(), Fault> {
        self.take_away(self.record.remove_volumes).await
    }

    async fn take_away(&mut self, volumes: bool) -> Result<(), Fault> {
        let engine = self.site.engine()?;
        let stack = self.record.stack.clone();
        let found = engine.look(&stack, &Wanted::default()).await?;
        let observed = observed(&engine, found).await?;
        let plan = plan::remove(&stack, &observed, volumes);
        let last = self
            .record
            .target
            .clone()
            .or_else(|| self.record.committed.clone());
        let version = last.unwrap_or_else(|| nothing(&stack));
        let prepared = Prepared {
            stack: self.site.addressed(&version),
            options: plan::Options::default(),
            observed,
        };
        let execution = Execution::new(&self.site, &version, &prepared, self.changed.clone())?;
        execution.run(&plan).await
    }

    /// What was under way has come to nothing.
    async fn failed(&mut self, fault: Fault) {
        let service = fault.cause.service.as_deref();
        let target = self.record.target.as_ref();
        let service = target.and_then(|target| target.stack.services.get(service?));
        let update = service.and_then(|service| service.deploy.update.as_ref());
        let action = update.and_then(|update| update.failure_action);
        let began = matches!(self.record.phase, Phase::Applying | Phase::Verifying);
        tracing::warn!(stack = self.record.stack, phase = ?self.record.phase, %fault, "failed");
        match action.filter(|_| began) {
            Some(FailureAction::Pause) => {
                let now = self.site.now_ms();
                self.record.cause = Some(fault.cause);
                self.record.enter(Phase::Failed, now);
                self.save().await;
            }
            Some(FailureAction::Continue) if self.record.phase == Phase::Verifying => {
                match self.commit().await {
                    // It is kept all the same, and says what is not well.
                    Ok(()) => {
                        self.record.cause = Some(fault.cause);
                        self.save().await;
                    }
                    Err(fault) => self.fail(fault.cause).await,
                }
            }
            _ => self.fail(fault.cause).await,
        }
    }
}

fn nothing(stack: &str) -> Version {
    Version {
        release: String::new(),
        stack: Stack {
            name: stack.to_owned(),
            services: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            files: BTreeMap::new(),
        },
        secrets: BTreeMap::new(),
        digests: BTreeMap::new(),
        images: BTreeMap::new(),
    }
}

/// The plan, or every reason why there is none, in one line.
pub fn planned(prepared: &Prepared) -> Result<Plan, Fault> {
    let Prepared {
        stack,
        options,
        observed,
    } = prepared;
    plan::plan(stack, observed, options).map_err(|obstacles| {
        let lines: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
        Fault::last("invalid", lines.join("; ")).with_output(lines)
    })
}

/// Images that a plan pulls, with a service that wants each.
fn needed_images(plan: &Plan) -> BTreeMap<String, String> {
    let pulls = plan.steps.iter().filter_map(|step| match &step.operation {
        Operation::Pull { image, service } => Some((image.clone(), service.clone())),
        _ => None,
    });
    pulls.collect()
}

/// The longest window that a service asks for.
fn monitor_window(stack: &Stack) -> Duration {
    let updates = stack
        .services
        .values()
        .filter_map(|service| service.deploy.update.as_ref());
    let windows = updates.filter_map(|update| update.monitor);
    let longest = windows
        .filter_map(|window| u64::try_from(window).ok())
        .max();
    longest.map_or(MONITOR_DEFAULT, Duration::from_nanos)
}

/// How the whole stack is: the worst of its services.
fn standing(stack: &Stack, observed: &plan::Observed) -> Standing {
    let mut coming = None;
    for name in stack.services.keys() {
        let seen = observed
            .of_project(&stack.name)
            .filter(|seen| seen.service() == name);
        let own: Vec<_> = seen.map(|seen| seen.0).collect();
        match health::of_service(stack, name, &own) {
            Standing::Well => {}
            Standing::Coming(why) => coming = coming.or(Some(why)),
            Standing::Bad(why) => {
                let line = format!("{name}: {}", why.line);
                let service = Some(name.clone());
                return Standing::Bad(Cause {
                    service,
                    line,
                    ..why
                });
            }
        }
    }
    coming.map_or(Standing::Well, Standing::Coming)
}
