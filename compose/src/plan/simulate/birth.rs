//! What a container looks like after the Engine has made it.

use bollard_stubs::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, ContainerState,
    ContainerStateStatusEnum, EndpointSettings, MountPoint, MountType, NetworkSettings, Volume,
};

use super::Engine;
use crate::{
    model::Stack,
    plan::{
        ContainerRef, ImageSeen, Options, Seen,
        spec::{self, Context},
    },
};

impl Engine {
    pub(super) fn create(
        &mut self,
        (stack, options): (&Stack, &Options),
        (service, number): (&str, u32),
        name: &str,
        inherits: Option<&ContainerRef>,
    ) -> Result<(), String> {
        if self
            .observed
            .containers
            .iter()
            .any(|other| Seen(other).name() == name)
        {
            return Err(format!("the name {name} is in use"));
        }
        let context = Context {
            containers: self.firsts(stack),
            ..options.context.clone()
        };
        let wanted = spec::container(stack, service, number, &context);
        let mut wanted = wanted.map_err(|error| error.to_string())?;
        let reference = wanted.body.image.clone().unwrap_or_default();
        let image = self.observed.images.get(&reference).cloned();
        let image = image.ok_or_else(|| format!("no such image: {reference}"))?;
        if let Some(old) = inherits {
            let old = self.find(old)?.clone();
            spec::inherit(&mut wanted.body, &old, &image.volumes);
        }
        let mut networks = Vec::new();
        for (network, settings) in wanted.networks {
            let there = self.observed.network(&network);
            let there = there.ok_or_else(|| format!("network {network} not found"))?;
            networks.push((
                network,
                EndpointSettings {
                    network_id: there.id.clone(),
                    ..settings
                },
            ));
        }
        let mounts = self.mounts(&wanted.body, &image)?;
        let created = ContainerInspectResponse {
            id: Some(self.fresh_id()),
            name: Some(format!("/{name}")),
            created: Some(self.now()),
            image: Some(image.id.clone()),
            state: Some(ContainerState {
                status: Some(ContainerStateStatusEnum::CREATED),
                ..ContainerState::default()
            }),
            host_config: wanted.body.host_config.clone(),
            mounts: Some(mounts),
            config: Some(config(wanted.body, &image)),
            network_settings: Some(NetworkSettings {
                networks: Some(networks.into_iter().collect()),
                ..NetworkSettings::default()
            }),
            ..ContainerInspectResponse::default()
        };
        self.observed.containers.push(created);
        Ok(())
    }

    /// The first container of each service, by the names that they shall have.
    fn firsts(&self, stack: &Stack) -> std::collections::BTreeMap<String, String> {
        let mut all = std::collections::BTreeMap::new();
        for seen in self.observed.of_project(&stack.name) {
            let (service, number) = (seen.service(), seen.number());
            let mut same = self.observed.of_project(&stack.name);
            let lower = |other: Seen<'_>| other.service() == service && other.number() < number;
            let first = !same.any(lower);
            if first && seen.name() == spec::container_name(stack, service, number) {
                all.insert(service.to_owned(), seen.id().to_owned());
            }
        }
        all
    }

    fn mounts(
        &mut self,
        body: &ContainerCreateBody,
        image: &ImageSeen,
    ) -> Result<Vec<MountPoint>, String> {
        let host = body.host_config.clone().unwrap_or_default();
        let mut points = Vec::new();
        for bind in host.binds.iter().flatten() {
            let mut parts = bind.split(':');
            let (source, target) = (parts.next(), parts.next());
            points.push(MountPoint {
                typ: Some("bind".to_owned()),
                source: source.map(str::to_owned),
                destination: target.map(str::to_owned),
                rw: Some(!bind.ends_with(":ro")),
                ..MountPoint::default()
            });
        }
        for mount in host.mounts.into_iter().flatten() {
            let typ = match mount.typ {
                Some(MountType::VOLUME) => "volume",
                Some(MountType::TMPFS) => "tmpfs",
                _ => "bind",
            };
            let name = match (typ, mount.source.clone()) {
                ("volume", Some(name)) => Some(name),
                ("volume", None) => Some(self.anonymous()),
                _ => None,
            };
            if let Some(name) = name
                .as_ref()
                .filter(|name| self.observed.volume(name).is_none())
            {
                return Err(format!("volume {name} not found"));
            }
            points.push(MountPoint {
                typ: Some(typ.to_owned()),
                name,
                source: mount.source,
                destination: mount.target,
                rw: Some(mount.read_only != Some(true)),
                ..MountPoint::default()
            });
        }
        for path in &image.volumes {
            if !points
                .iter()
                .any(|point| point.destination.as_ref() == Some(path))
            {
                points.push(MountPoint {
                    typ: Some("volume".to_owned()),
                    name: Some(self.anonymous()),
                    destination: Some(path.clone()),
                    rw: Some(true),
                    ..MountPoint::default()
                });
            }
        }
        Ok(points)
    }

    fn anonymous(&mut self) -> String {
        let name = self.fresh_id();
        self.observed.volumes.push(Volume {
            name: name.clone(),
            ..Volume::default()
        });
        name
    }
}

/// The request, with what the image brings.
fn config(body: ContainerCreateBody, image: &ImageSeen) -> ContainerConfig {
    let name = |entry: &String| entry.split('=').next().unwrap_or(entry).to_owned();
    let given = body.env.unwrap_or_default();
    let names: Vec<_> = given.iter().map(name).collect();
    let inherited = image
        .env
        .iter()
        .filter(|entry| !names.contains(&name(entry)));
    let env = inherited
        .cloned()
        .chain(given.iter().filter(|e| e.contains('=')).cloned());
    let own_program = body
        .entrypoint
        .as_ref()
        .is_some_and(|words| !words.is_empty());
    let inherited = if own_program {
        Vec::new()
    } else {
        image.cmd.clone()
    };
    let mut labels: std::collections::HashMap<_, _> = image.labels.clone().into_iter().collect();
    labels.extend(body.labels.unwrap_or_default());
    let mut ports = body.exposed_ports.unwrap_or_default();
    ports.extend(image.exposed_ports.iter().cloned());
    ContainerConfig {
        hostname: body.hostname.or_else(|| Some("0123456789ab".to_owned())),
        domainname: body.domainname,
        user: Some(body.user.unwrap_or_else(|| image.user.clone())),
        tty: body.tty,
        open_stdin: body.open_stdin,
        env: Some(env.collect()),
        cmd: Some(
            body.cmd
                .filter(|words| !words.is_empty())
                .unwrap_or(inherited),
        ),
        entrypoint: Some(body.entrypoint.unwrap_or_else(|| image.entrypoint.clone())),
        healthcheck: body.healthcheck.or_else(|| image.healthcheck.clone()),
        image: body.image,
        working_dir: Some(
            body.working_dir
                .unwrap_or_else(|| image.working_dir.clone()),
        ),
        labels: Some(labels),
        exposed_ports: Some(ports),
        stop_signal: body.stop_signal,
        stop_timeout: body.stop_timeout,
        ..ContainerConfig::default()
    }
}
