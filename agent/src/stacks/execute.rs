//! Doing what a plan says: every step once those before it are done, several at a time.
//!
//! Nothing here remembers what was done. Where it is interrupted, or the Engine says that
//! things are not as the plan thought, the plan is made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bollard::{
    exec::{StartExecOptions, StartExecResults},
    models::{ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ExecConfig},
};
use compose::{
    exchange::Progress,
    load::secret,
    model::{Condition, Hook, Restart, ServiceScope, Stack},
    plan::{ContainerRef, Operation, Plan, Seen, Step, spec},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Mutex, watch};

use super::{
    engine::Engine,
    fault::{Fault, Kind},
    health::{self, Standing},
    record::Version,
    site::{Prepared, Site},
};

/// Steps that are done at the same time.
const AT_A_TIME: usize = 8;
/// How often a container that is waited for is looked at where no event comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of a hook's output that are kept.
const HOOK_OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// Lines of a container's output that go with a fault.
const LOG_LINES: &str = "10";

/// One execution.
#[derive(Debug)]
pub struct Execution<'a> {
    site: &'a Site,
    engine: Engine,
    version: &'a Version,
    prepared: &'a Prepared,
    /// Tells that something of the project has changed.
    changed: watch::Receiver<u64>,
    /// One start at a time: the Engine gives out ports of a range one after another only then.
    starting: Mutex<()>,
}

impl<'a> Execution<'a> {
    /// Of a plan that was made from `prepared`.
    ///
    /// # Errors
    ///
    /// The Engine is away.
    pub fn new(
        site: &'a Site,
        version: &'a Version,
        prepared: &'a Prepared,
        changed: watch::Receiver<u64>,
    ) -> Result<Self, Fault> {
        Ok(Self {
            engine: site.engine()?,
            site,
            version,
            prepared,
            changed,
            starting: Mutex::default(),
        })
    }

    /// Does all steps.
    ///
    /// # Errors
    ///
    /// The first that fails; those under way are let go of.
    pub async fn run(&self, plan: &Plan) -> Result<(), Fault> {
        let mut done = BTreeSet::new();
        let mut waiting: BTreeMap<usize, &Step> = plan.steps.iter().map(|s| (s.id, s)).collect();
        let mut under_way = FuturesUnordered::new();
        loop {
            let ready: Vec<usize> = waiting
                .values()
                .filter(|step| step.after.iter().all(|before| done.contains(before)))
                .map(|step| step.id)
                .collect();
            for id in ready {
                if under_way.len() >= AT_A_TIME {
                    break;
                }
                if let Some(step) = waiting.remove(&id) {
                    under_way
                        .push(async move { Box::pin(self.step(step)).await.map(|()| step.id) });
                }
            }
            match under_way.next().await {
                Some(finished) => drop(done.insert(finished?)),
                None if waiting.is_empty() => return Ok(()),
                None => {
                    let line = "the plan cannot go on: it waits for itself";
                    return Err(Fault::last("internal", line));
                }
            }
        }
    }

    async fn step(&self, step: &Step) -> Result<(), Fault> {
        let tell = |state: &str| {
            self.site.board.progress(Progress {
                stack: self.prepared.stack.name.clone(),
                subject: step.operation.to_string(),
                layer: None,
                state: state.to_owned(),
                current: None,
                total: None,
            });
        };
        tell("begun");
        // Boxed: several are kept at a time, and the largest sets the size of all.
        let outcome = Box::pin(self.operation(&step.operation)).await;
        tell(if outcome.is_ok() { "done" } else { "failed" });
        outcome.map_err(|fault| match step.operation.service() {
            Some(service) => fault.of_service(service),
            None => fault,
        })
    }

    async fn operation(&self, operation: &Operation) -> Result<(), Fault> {
        let engine = &self.engine;
        match operation {
            // Before the plan; see [`images`](super::images).
            Operation::Pull { .. } => Ok(()),
            Operation::CreateNetwork { .. }
            | Operation::RemoveNetwork { .. }
            | Operation::CreateVolume { .. }
            | Operation::RemoveVolume { .. }
            | Operation::Connect { .. }
            | Operation::Disconnect { .. } => self.network_or_volume(operation).await,
            Operation::CreateContainer {
                service,
                number,
                name,
                inherits,
            } => {
                self.create((service, *number), name, inherits.as_ref())
                    .await
            }
            Operation::StartContainer { service, container } => {
                self.start(service, container).await
            }
            Operation::StopContainer {
                service, container, ..
            } => self.stop(service, container).await,
            Operation::UnpauseContainer { container, .. } => {
                let reference = container.reference();
                let unpaused = engine.docker().unpause_container(reference).await;
                unpaused.map_err(|e| Fault::of_engine(&format!("unpause {container}"), &e))
            }
            Operation::RemoveContainer {
                container, volumes, ..
            } => engine.remove(container.reference(), *volumes).await,
            Operation::RenameContainer {
                container, name, ..
            } => engine.rename(container.reference(), name).await,
            Operation::RestartContainer { service, container } => {
                let seen = self.there(container).await?;
                self.hooks(service, &seen, false).await?;
                engine.restart(&seen).await?;
                self.hooks(service, &seen, true).await
            }
            Operation::Wait {
                service,
                containers,
                until,
                required,
            } => match self.wait(service, containers, *until).await {
                Err(fault) if !required && fault.kind == Kind::Final => Ok(()),
                outcome => outcome,
            },
            Operation::Delay { nanoseconds, .. } => {
                let nanoseconds = u64::try_from(*nanoseconds).unwrap_or_default();
                tokio::time::sleep(Duration::from_nanos(nanoseconds)).await;
                Ok(())
            }
        }
    }

    async fn network_or_volume(&self, operation: &Operation) -> Result<(), Fault> {
        let (engine, stack) = (&self.engine, &self.prepared.stack);
        match operation {
            Operation::CreateNetwork { key, .. } => {
                let request = spec::network(stack, key, &self.prepared.options.context);
                engine
                    .create_network(request.map_err(|why| unsupported(&why))?)
                    .await
            }
            Operation::RemoveNetwork { name } => engine.remove_network(name).await,
            Operation::CreateVolume { key, .. } => {
                let request = spec::volume(stack, key);
                engine
                    .create_volume(request.map_err(|why| unsupported(&why))?)
                    .await
            }
            Operation::RemoveVolume { name } => engine.remove_volume(name).await,
            Operation::Connect {
                network,
                container,
                service,
                number,
            } => {
                let made = self.spec(service, *number)?;
                let endpoint = made.networks.into_iter().find(|(name, _)| name == network);
                let endpoint = endpoint.map(|(_, endpoint)| endpoint);
                engine
                    .connect_network(network, container.reference(), endpoint)
                    .await
            }
            Operation::Disconnect { network, container } => {
                engine
                    .disconnect_network(network, container.reference())
                    .await
            }
            _ => Ok(()),
        }
    }

    fn spec(&self, service: &str, number: u32) -> Result<spec::ContainerSpec, Fault> {
        let Prepared { stack, options, .. } = self.prepared;
        let made = spec::container(stack, service, number, &options.context);
        made.map_err(|why| unsupported(&why))
    }

    /// The same, where `service:NAME` stands for a container that may have been made just now.
    async fn spec_now(&self, service: &str, number: u32) -> Result<spec::ContainerSpec, Fault> {
        let Prepared { stack, options, .. } = self.prepared;
        if !refers_to_others(stack, service) {
            return self.spec(service, number);
        }
        let found = self
            .engine
            .look(&stack.name, &super::engine::Wanted::default())
            .await?;
        let mut first: BTreeMap<String, (u32, String)> = BTreeMap::new();
        for container in &found.containers {
            let seen = Seen(container);
            let this = (seen.number(), seen.id().to_owned());
            match first.get_mut(seen.service()) {
                Some(known) if *known <= this => {}
                Some(known) => *known = this,
                None => drop(first.insert(seen.service().to_owned(), this)),
            }
        }
        let mut context = options.context.clone();
        context.containers = first
            .into_iter()
            .map(|(name, (_, id))| (name, id))
            .collect();
        let made = spec::container(stack, service, number, &context);
        made.map_err(|why| unsupported(&why))
    }

    async fn there(&self, container: &ContainerRef) -> Result<ContainerInspectResponse, Fault> {
        let found = self.engine.container(container.reference()).await?;
        found.ok_or_else(|| Fault {
            kind: Kind::Moved,
            ..Fault::last("engine", format!("container {container} is gone"))
        })
    }

    async fn create(
        &self,
        (service, number): (&str, u32),
        name: &str,
        inherits: Option<&ContainerRef>,
    ) -> Result<(), Fault> {
        let mut made = self.spec_now(service, number).await?;
        if let Some(predecessor) = inherits {
            let predecessor = self.there(predecessor).await?;
            let image = made.body.image.as_deref().unwrap_or_default();
            let images = &self.prepared.observed.images;
            let volumes = images.get(image).map(|image| image.volumes.as_slice());
            spec::inherit(&mut made.body, &predecessor, volumes.unwrap_or_default());
        }
        let body = self.reveal(made.body.clone())?;
        let platform = made.platform.as_deref();
        let id = self.engine.create_container(name, platform, body).await?;
        for (network, endpoint) in made.to_connect() {
            self.engine
                .connect_network(network, &id, Some(endpoint.clone()))
                .await?;
        }
        Ok(())
    }

    /// A body with the values of secret variables in it.
    fn reveal(&self, body: ContainerCreateBody) -> Result<ContainerCreateBody, Fault> {
        if self.version.secrets.is_empty() {
            return Ok(body);
        }
        let values = self.version.secrets.iter();
        let values = values
            .map(|(name, value)| (name.clone(), value.0.as_str()))
            .collect();
        let mut json = serde_json::to_value(&body).map_err(unreadable)?;
        reveal(&mut json, &values).map_err(|name| {
            Fault::last(
                "invalid",
                format!("the secret variable {name} has no value"),
            )
        })?;
        serde_json::from_value(json).map_err(unreadable)
    }

    /// Starts a container. Files are copied into one that never ran: it may be left from an
    /// apply that was interrupted before that.
    async fn start(&self, service: &str, container: &ContainerRef) -> Result<(), Fault> {
        let seen = self.there(container).await?;
        if Seen(&seen).status() == ContainerStateStatusEnum::CREATED {
            self.copy_files(service, &seen).await?;
        }
        {
            let _turn = self.starting.lock().await;
            if let Err(fault) = self.engine.start(container.reference()).await {
                return Err(fault.with_output(self.output(&seen).await));
            }
        }
        self.hooks(service, &seen, true).await
    }

    async fn copy_files(
        &self,
        service: &str,
        container: &ContainerInspectResponse,
    ) -> Result<(), Fault> {
        let made = self.spec(service, Seen(container).number())?;
        if made.files.is_empty() {
            return Ok(());
        }
        let mut tar = tar::Builder::new(Vec::new());
        for file in &made.files {
            let shipped = self.prepared.stack.files.get(&file.source);
            let shipped = shipped.ok_or_else(|| {
                Fault::last(
                    "invalid",
                    format!("the release has no file `{}`", file.source),
                )
            })?;
            let content = self.site.disk.content(shipped, self.version);
            let content = content.map_err(|e| Fault::of_disk("read a file of the release", &e))?;
            let mut head = tar::Header::new_gnu();
            head.set_size(content.len() as u64);
            head.set_mode(file.mode);
            head.set_uid(file.uid.into());
            head.set_gid(file.gid.into());
            let path = file.target.trim_start_matches('/');
            let added = tar.append_data(&mut head, path, content.as_slice());
            added.map_err(|e| Fault::of_disk(&format!("pack {path}"), &e))?;
        }
        let tar = tar
            .into_inner()
            .map_err(|e| Fault::of_disk("pack files", &e))?;
        let id = container.id.as_deref().unwrap_or_default();
        self.engine.put_files(id, tar).await
    }

    async fn stop(&self, service: &str, container: &ContainerRef) -> Result<(), Fault> {
        let Some(seen) = self.engine.container(container.reference()).await? else {
            return Ok(());
        };
        if Seen(&seen).status() == ContainerStateStatusEnum::RUNNING {
            // What it was to do before its end has failed; it ends all the same.
            if let Err(fault) = self.hooks(service, &seen, false).await {
                tracing::warn!(%fault, "a hook before the stop of a container");
            }
        }
        self.engine.stop(&seen).await
    }

    async fn hooks(
        &self,
        service: &str,
        container: &ContainerInspectResponse,
        after_start: bool,
    ) -> Result<(), Fault> {
        let Some(service) = self.prepared.stack.services.get(service) else {
            return Ok(());
        };
        let hooks = if after_start {
            &service.post_start
        } else {
            &service.pre_stop
        };
        for hook in hooks {
            self.hook(hook, container).await?;
        }
        Ok(())
    }

    async fn hook(&self, hook: &Hook, container: &ContainerInspectResponse) -> Result<(), Fault> {
        let what = format!("run `{}`", hook.command.join(" "));
        let failed = |error: &bollard::errors::Error| Fault::of_engine(&what, error);
        let docker = self.engine.docker();
        let env = hook.environment.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        });
        let secrets = self.version.secrets.iter();
        let secrets: BTreeMap<_, _> = secrets.map(|(n, v)| (n.clone(), v.0.as_str())).collect();
        let env: Result<Vec<String>, String> =
            env.map(|line| secret::reveal(&line, &secrets)).collect();
        let env = env.map_err(|name| {
            Fault::last(
                "invalid",
                format!("the secret variable {name} has no value"),
            )
        })?;
        let config = ExecConfig {
            cmd: Some(hook.command.clone()),
            user: hook.user.clone(),
            privileged: Some(hook.privileged),
            working_dir: hook.working_dir.clone(),
            env: Some(env),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let id = container.id.as_deref().unwrap_or_default();
        let created = docker
            .create_exec(id, config)
            .await
            .map_err(|e| failed(&e))?;
        let started = docker
            .start_exec(&created.id, None::<StartExecOptions>)
            .await;
        let mut printed = String::new();
        if let StartExecResults::Attached { mut output, .. } = started.map_err(|e| failed(&e))? {
            while let Some(Ok(part)) = output.next().await {
                if printed.len() < HOOK_OUTPUT_BYTES_MAX {
                    printed.push_str(&part.to_string());
                }
            }
        }
        let ended = docker
            .inspect_exec(&created.id)
            .await
            .map_err(|e| failed(&e))?;
        match ended.exit_code {
            Some(0) | None => Ok(()),
            Some(code) => {
                let line = format!(
                    "the hook `{}` ended with code {code}",
                    hook.command.join(" ")
                );
                Err(Fault::last("exited", line).with_output(health::lines(&printed)))
            }
        }
    }

    async fn wait(
        &self,
        service: &str,
        containers: &[ContainerRef],
        until: Condition,
    ) -> Result<(), Fault> {
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            let mut waiting = false;
            for container in containers {
                let seen = self.there(container).await?;
                match self.standing(service, &seen, until) {
                    Standing::Well => {}
                    Standing::Coming(_) => waiting = true,
                    Standing::Bad(why) => {
                        let mut fault = Fault {
                            kind: Kind::Final,
                            cause: why,
                        };
                        if fault.cause.output.is_empty() {
                            fault.cause.output = self.output(&seen).await;
                        }
                        return Err(fault);
                    }
                }
            }
            if !waiting {
                return Ok(());
            }
            // An event says so at once; the pause is for what has none.
            drop(tokio::time::timeout(LOOK_EVERY, changed.changed()).await);
        }
    }

    fn standing(
        &self,
        service: &str,
        container: &ContainerInspectResponse,
        until: Condition,
    ) -> Standing {
        let Some(service) = self.prepared.stack.services.get(service) else {
            return Standing::Well;
        };
        match until {
            Condition::Completed => health::of(service, true, container),
            Condition::Healthy => match health::of(service, false, container) {
                // Whoever waits for it to be healthy does not want it to have ended.
                Standing::Well if !Seen(container).is_running() => {
                    let name = Seen(container).name();
                    Standing::Bad(super::fault::cause("exited", format!("{name} has ended")))
                }
                standing => standing,
            },
            Condition::Started => match Seen(container).status() {
                ContainerStateStatusEnum::CREATED => health::of(service, false, container),
                ContainerStateStatusEnum::EXITED if service.restart == Restart::No => {
                    health::of(service, false, container)
                }
                _ => Standing::Well,
            },
        }
    }

    /// The last lines that a container printed.
    pub async fn output(&self, container: &ContainerInspectResponse) -> Vec<String> {
        output(&self.engine, container).await
    }
}

/// The last lines that a container printed; none where they cannot be had.
pub async fn output(engine: &Engine, container: &ContainerInspectResponse) -> Vec<String> {
    let options = bollard::query_parameters::LogsOptions {
        stdout: true,
        stderr: true,
        tail: LOG_LINES.to_owned(),
        ..Default::default()
    };
    let id = container.id.as_deref().unwrap_or_default();
    let mut lines = std::pin::pin!(engine.docker().logs(id, Some(options)));
    let mut printed = String::new();
    while let Some(Ok(part)) = lines.next().await {
        if printed.len() < HOOK_OUTPUT_BYTES_MAX {
            printed.push_str(&part.to_string());
        }
    }
    health::lines(&printed)
}

/// Does a service share something of another one, which the Engine is told by its id?
fn refers_to_others(stack: &Stack, service: &str) -> bool {
    let Some(service) = stack.services.get(service) else {
        return false;
    };
    let scopes = [&service.network_mode, &service.ipc, &service.pid];
    let scopes = scopes.into_iter().flatten();
    let mut scopes = scopes.chain(service.volumes_from.iter().map(|(scope, _)| scope));
    scopes.any(|scope| matches!(scope, ServiceScope::Service(_)))
}

fn reveal(json: &mut serde_json::Value, values: &BTreeMap<String, &str>) -> Result<(), String> {
    match json {
        serde_json::Value::String(text) => {
            if secret::has_mark(text) {
                *text = secret::reveal(text, values)?;
            }
            Ok(())
        }
        serde_json::Value::Array(items) => items.iter_mut().try_for_each(|i| reveal(i, values)),
        serde_json::Value::Object(members) => members
            .values_mut()
            .try_for_each(|member| reveal(member, values)),
        _ => Ok(()),
    }
}

fn unsupported(why: &spec::Unsupported) -> Fault {
    Fault::last("invalid", why.to_string())
}

fn unreadable(error: serde_json::Error) -> Fault {
    // Its words could quote a value.
    tracing::debug!(line = error.line(), "a request's body");
    Fault::last("internal", "a request to the Engine could not be written")
}
