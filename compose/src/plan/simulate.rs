//! A small model of an Engine: what operations do to what is there. For tests, here and of what
//! carries plans out: it refuses what a real Engine would refuse.

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EndpointResource, Health,
    HealthStatusEnum, NetworkInspect, Volume,
};

use super::{
    ContainerRef, ImageSeen, Observed, Operation, Options,
    observed::{Seen, collide},
    spec,
};
use crate::model::{Condition, Stack};

mod birth;

/// What is there, and what time it is.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    /// What a plan is made from.
    pub observed: Observed,
    /// Images that can be pulled, by reference.
    pub registry: BTreeMap<String, ImageSeen>,
    /// Counts up, for ids and times.
    pub clock: u64,
}

impl Engine {
    /// Does what a step says, as the agent would.
    ///
    /// # Errors
    ///
    /// What a real Engine would say.
    pub fn apply(
        &mut self,
        operation: &Operation,
        stack: &Stack,
        options: &Options,
    ) -> Result<(), String> {
        self.clock += 1;
        match operation {
            Operation::Pull { image, .. } => self.pull(image),
            Operation::CreateNetwork { key, .. } => self.create_network(stack, key, options),
            Operation::RemoveNetwork { name } => self.remove_network(name),
            Operation::Disconnect { network, container } => self.disconnect(network, container),
            Operation::Connect {
                network,
                container,
                service,
                number,
            } => {
                let spec = spec::container(stack, service, *number, &options.context)
                    .map_err(|error| error.to_string())?;
                let settings = spec.networks.into_iter().find(|(name, _)| name == network);
                let (_, settings) = settings.ok_or_else(|| format!("no endpoint on {network}"))?;
                self.connect(network, container, settings)
            }
            Operation::CreateVolume { key, .. } => self.create_volume(stack, key),
            Operation::RemoveVolume { name } => {
                self.observed.volumes.retain(|volume| volume.name != *name);
                Ok(())
            }
            Operation::CreateContainer {
                service,
                number,
                name,
                inherits,
            } => self.create(
                (stack, options),
                (service, *number),
                name,
                inherits.as_ref(),
            ),
            Operation::StartContainer { container, .. } => self.start(container),
            Operation::StopContainer { container, .. } => self.stop(container),
            Operation::UnpauseContainer { container, .. } => {
                let now = self.now();
                let container = self.find(container)?;
                set(container, ContainerStateStatusEnum::RUNNING, None, now);
                Ok(())
            }
            Operation::RemoveContainer {
                container, volumes, ..
            } => self.remove(container, *volumes),
            Operation::RenameContainer {
                container, name, ..
            } => self.rename(container, name),
            Operation::RestartContainer { container, .. } => {
                self.stop(container)?;
                self.start(container)
            }
            Operation::Wait {
                containers, until, ..
            } => self.wait(containers, *until),
            Operation::Delay { .. } => Ok(()),
        }
    }

    fn now(&self) -> String {
        let (minutes, seconds) = (self.clock / 60, self.clock % 60);
        format!(
            "2026-01-01T{:02}:{:02}:{seconds:02}Z",
            minutes / 60 % 24,
            minutes % 60
        )
    }

    fn pull(&mut self, image: &str) -> Result<(), String> {
        let found = self.registry.get(image).cloned();
        let found = found.ok_or_else(|| format!("{image}: not found"))?;
        self.observed.images.insert(found.id.clone(), found.clone());
        self.observed.images.insert(image.to_owned(), found);
        Ok(())
    }

    fn create_network(
        &mut self,
        stack: &Stack,
        key: &str,
        options: &Options,
    ) -> Result<(), String> {
        let request = spec::network(stack, key, &options.context).map_err(|e| e.to_string())?;
        if self.observed.network(&request.name).is_some() {
            return Err(format!("network {} exists", request.name));
        }
        let id = Some(self.fresh_id());
        self.observed.networks.push(NetworkInspect {
            id,
            name: Some(request.name),
            driver: request.driver.or_else(|| Some("bridge".to_owned())),
            internal: request.internal,
            attachable: request.attachable,
            enable_ipv6: request.enable_ipv6,
            options: request.options,
            ipam: request.ipam,
            labels: request.labels,
            containers: Some(HashMap::new()),
            ..NetworkInspect::default()
        });
        Ok(())
    }

    fn remove_network(&mut self, name: &str) -> Result<(), String> {
        let mut all = self.observed.containers.iter().map(Seen);
        if let Some(seen) = all.find(|seen| seen.is_running() && seen.is_on(name)) {
            return Err(format!(
                "network {name} has active endpoints: {}",
                seen.name()
            ));
        }
        if self.observed.network(name).is_none() {
            return Err(format!("network {name} not found"));
        }
        self.observed
            .networks
            .retain(|network| network.name.as_deref() != Some(name));
        Ok(())
    }

    fn create_volume(&mut self, stack: &Stack, key: &str) -> Result<(), String> {
        let request = spec::volume(stack, key).map_err(|error| error.to_string())?;
        self.observed.volumes.push(Volume {
            name: request.name.unwrap_or_default(),
            driver: request.driver.unwrap_or_else(|| "local".to_owned()),
            labels: request.labels.unwrap_or_default(),
            options: request.driver_opts.unwrap_or_default(),
            ..Volume::default()
        });
        Ok(())
    }

    fn connect(
        &mut self,
        network: &str,
        container: &ContainerRef,
        mut settings: bollard_stubs::models::EndpointSettings,
    ) -> Result<(), String> {
        let there = self.observed.network(network);
        let id = there
            .ok_or_else(|| format!("network {network} not found"))?
            .id
            .clone();
        settings.network_id = id;
        let found = self.find(container)?;
        let networks = found.network_settings.get_or_insert_default();
        let networks = networks.networks.get_or_insert_default();
        if networks.insert(network.to_owned(), settings).is_some() {
            return Err(format!("{container} is already on {network}"));
        }
        self.list_endpoints();
        Ok(())
    }

    fn disconnect(&mut self, network: &str, container: &ContainerRef) -> Result<(), String> {
        let found = self.find(container)?;
        let networks = found
            .network_settings
            .as_mut()
            .and_then(|n| n.networks.as_mut());
        if networks
            .and_then(|networks| networks.remove(network))
            .is_none()
        {
            return Err(format!("{container} is not on {network}"));
        }
        self.list_endpoints();
        Ok(())
    }

    fn start(&mut self, container: &ContainerRef) -> Result<(), String> {
        let now = self.now();
        let found = self.find(container)?.clone();
        let seen = Seen(&found);
        if seen.is_running() {
            return Err(format!("{container} runs already"));
        }
        let others = self.observed.containers.iter().map(Seen);
        for other in others.filter(|other| other.is_running()) {
            let held = other.fixed_ports();
            if seen
                .fixed_ports()
                .iter()
                .any(|port| held.iter().any(|held| collide(port, held)))
            {
                return Err(format!("{container}: {} has its port", other.name()));
            }
            if !seen.fixed_addresses().is_disjoint(&other.fixed_addresses()) {
                return Err(format!("{container}: {} has its address", other.name()));
            }
        }
        let host = found.host_config.clone().unwrap_or_default();
        for mode in [host.network_mode, host.ipc_mode, host.pid_mode]
            .into_iter()
            .flatten()
        {
            let Some(parent) = mode.strip_prefix("container:") else {
                continue;
            };
            let mut all = self.observed.containers.iter().map(Seen);
            if !all.any(|s| s.is_running() && (s.id() == parent || s.name() == parent)) {
                return Err(format!("{container}: container {parent} does not run"));
            }
        }
        for (network, settings) in seen.networks() {
            let there = self
                .observed
                .network(network)
                .and_then(|there| there.id.clone());
            if settings.network_id.is_some() && there != settings.network_id {
                return Err(format!("{container}: network {network} not found"));
            }
        }
        let check = found
            .config
            .as_ref()
            .and_then(|config| config.healthcheck.clone());
        let test = check.and_then(|check| check.test).unwrap_or_default();
        let checked = test.first().is_some_and(|first| first != "NONE");
        let health = checked.then_some(HealthStatusEnum::STARTING);
        set(
            self.find(container)?,
            ContainerStateStatusEnum::RUNNING,
            health,
            now,
        );
        self.list_endpoints();
        Ok(())
    }

    fn stop(&mut self, container: &ContainerRef) -> Result<(), String> {
        let found = self.find(container)?;
        if !Seen(found).is_running() {
            return Err(format!("{container} does not run"));
        }
        let started = Seen(found).started().to_owned();
        set(found, ContainerStateStatusEnum::EXITED, None, started);
        self.list_endpoints();
        Ok(())
    }

    fn remove(&mut self, container: &ContainerRef, volumes: bool) -> Result<(), String> {
        let found = self.find(container)?.clone();
        if Seen(&found).is_running() {
            return Err(format!("{container} runs: stop it first"));
        }
        self.observed
            .containers
            .retain(|other| other.id != found.id);
        let anonymous = |name: &str| name.len() == 64;
        for point in found.mounts.iter().flatten().filter(|_| volumes) {
            if let Some(name) = point.name.as_deref().filter(|name| anonymous(name)) {
                self.observed.volumes.retain(|volume| volume.name != name);
            }
        }
        Ok(())
    }

    fn rename(&mut self, container: &ContainerRef, name: &str) -> Result<(), String> {
        if self
            .observed
            .containers
            .iter()
            .any(|other| Seen(other).name() == name)
        {
            return Err(format!("the name {name} is in use"));
        }
        self.find(container)?.name = Some(format!("/{name}"));
        Ok(())
    }

    /// What is waited for comes true.
    fn wait(&mut self, containers: &[ContainerRef], until: Condition) -> Result<(), String> {
        for container in containers {
            let found = self.find(container)?;
            let seen = Seen(found);
            let (started, running) = (seen.started().to_owned(), seen.is_running());
            let done = seen.exit_code() == Some(0);
            match until {
                Condition::Started | Condition::Healthy if !running => {
                    return Err(format!("{container} is waited for and does not run"));
                }
                Condition::Started => {}
                Condition::Healthy => {
                    let health = Some(HealthStatusEnum::HEALTHY);
                    set(found, ContainerStateStatusEnum::RUNNING, health, started);
                }
                Condition::Completed if done || running => {
                    set(found, ContainerStateStatusEnum::EXITED, None, started);
                }
                Condition::Completed => {
                    return Err(format!("{container} is waited for and was not started"));
                }
            }
        }
        self.list_endpoints();
        Ok(())
    }

    fn find(&mut self, container: &ContainerRef) -> Result<&mut ContainerInspectResponse, String> {
        let wanted = container.reference();
        let mut all = self.observed.containers.iter_mut();
        let found = all.find(|c| Seen(c).id() == wanted || Seen(c).name() == wanted);
        found.ok_or_else(|| format!("no such container: {container}"))
    }

    fn fresh_id(&mut self) -> String {
        self.clock += 1;
        format!("{:064x}", self.clock.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .chars()
            .rev()
            .collect()
    }

    /// Networks list the running containers that are on them.
    fn list_endpoints(&mut self) {
        for network in &mut self.observed.networks {
            let name = network.name.clone().unwrap_or_default();
            let all = self.observed.containers.iter().map(Seen);
            let here = all.filter(|seen| seen.is_running() && seen.is_on(&name));
            let endpoint = |seen: Seen<'_>| {
                let endpoint = EndpointResource {
                    name: Some(seen.name().to_owned()),
                    ..EndpointResource::default()
                };
                (seen.id().to_owned(), endpoint)
            };
            network.containers = Some(here.map(endpoint).collect());
        }
    }
}

fn set(
    container: &mut ContainerInspectResponse,
    status: ContainerStateStatusEnum,
    health: Option<HealthStatusEnum>,
    started: String,
) {
    container.state = Some(ContainerState {
        status: Some(status),
        exit_code: Some(0),
        started_at: Some(started),
        health: health.map(|status| Health {
            status: Some(status),
            ..Health::default()
        }),
        ..ContainerState::default()
    });
}
