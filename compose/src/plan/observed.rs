//! What is there: what the Engine says of one project.

use std::collections::{BTreeMap, BTreeSet};

use bollard_stubs::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, EndpointSettings, HealthConfig,
    HealthStatusEnum, ImageInspect, NetworkInspect, PortMap, Volume,
};

use super::labels;

/// What there is of a project, and of what it refers to.
///
/// It holds the containers, networks and volumes that carry the project's label, those that have
/// a name which the stack wants, and the external networks and volumes of the stack. Whatever
/// lacks the label is looked at and never touched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// As inspected, running or not.
    pub containers: Vec<ContainerInspectResponse>,
    /// As inspected, with the containers that are attached.
    pub networks: Vec<NetworkInspect>,
    /// As listed.
    pub volumes: Vec<Volume>,
    /// By reference, and by id those that containers were made of. One that the Engine does not
    /// have is not here.
    pub images: BTreeMap<String, ImageSeen>,
}

impl Observed {
    /// The containers of a project, without those of `docker compose run`.
    pub fn of_project<'a>(&'a self, project: &'a str) -> impl Iterator<Item = Seen<'a>> {
        let all = self.containers.iter().map(Seen);
        all.filter(move |seen| seen.project() == Some(project) && !seen.is_oneoff())
    }

    /// The network of this name.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<&NetworkInspect> {
        self.networks
            .iter()
            .find(|network| network.name.as_deref() == Some(name))
    }

    /// The volume of this name.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }
}

/// An image that the Engine has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageSeen {
    /// `sha256:…`.
    pub id: String,
    /// `REPOSITORY@sha256:…`.
    pub repo_digests: Vec<String>,
    /// When it was last pulled or tagged here, in seconds since 1970, where that is known.
    pub since_seconds: Option<i64>,
    /// What containers of it inherit.
    pub env: Vec<String>,
    /// The same.
    pub cmd: Vec<String>,
    /// The same.
    pub entrypoint: Vec<String>,
    /// The same.
    pub user: String,
    /// The same.
    pub working_dir: String,
    /// The same.
    pub stop_signal: String,
    /// The same.
    pub labels: BTreeMap<String, String>,
    /// The same: `PORT/PROTOCOL`.
    pub exposed_ports: Vec<String>,
    /// Paths that get an anonymous volume where nothing else is mounted.
    pub volumes: Vec<String>,
    /// The check, where it has one.
    pub healthcheck: Option<HealthConfig>,
}

impl ImageSeen {
    /// From what the Engine says. `since_seconds` is the caller's to fill.
    #[must_use]
    pub fn of(image: &ImageInspect) -> Self {
        let config = image.config.clone().unwrap_or_default();
        Self {
            id: image.id.clone().unwrap_or_default(),
            repo_digests: image.repo_digests.clone().unwrap_or_default(),
            since_seconds: None,
            env: config.env.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            stop_signal: config.stop_signal.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            exposed_ports: config.exposed_ports.unwrap_or_default(),
            volumes: config.volumes.unwrap_or_default(),
            healthcheck: config.healthcheck,
        }
    }

    /// Is it what this digest of a manifest, or this id, stands for?
    #[must_use]
    pub fn is(&self, digest: &str) -> bool {
        let of_manifest = |entry: &String| entry.split_once('@').is_some_and(|(_, d)| d == digest);
        self.id == digest || self.repo_digests.iter().any(of_manifest)
    }

    /// Does it bring a check of its own?
    #[must_use]
    pub fn has_check(&self) -> bool {
        let test = self
            .healthcheck
            .as_ref()
            .and_then(|check| check.test.as_ref());
        test.is_some_and(|test| !test.is_empty() && test[0] != "NONE")
    }
}

/// A container, with what it says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a>(pub &'a ContainerInspectResponse);

/// A port of the host: protocol, port, address (empty: all).
pub(crate) type HostPort = (String, u16, String);

impl<'a> Seen<'a> {
    /// Its id, 64 hex digits.
    #[must_use]
    pub fn id(self) -> &'a str {
        self.0.id.as_deref().unwrap_or_default()
    }

    /// Its name, without the slash that the Engine puts in front.
    #[must_use]
    pub fn name(self) -> &'a str {
        let name = self.0.name.as_deref().unwrap_or_default();
        name.strip_prefix('/').unwrap_or(name)
    }

    /// One of its labels.
    #[must_use]
    pub fn label(self, label: &str) -> Option<&'a str> {
        let config = self.0.config.as_ref()?;
        labels::get(config.labels.as_ref(), label)
    }

    /// Its project.
    #[must_use]
    pub fn project(self) -> Option<&'a str> {
        self.label(labels::PROJECT)
    }

    /// Its service; empty where it does not say.
    #[must_use]
    pub fn service(self) -> &'a str {
        self.label(labels::SERVICE).unwrap_or_default()
    }

    /// Which of the service's containers; 0 where it does not say.
    #[must_use]
    pub fn number(self) -> u32 {
        let number = self
            .label(labels::NUMBER)
            .and_then(|number| number.parse().ok());
        number.unwrap_or(0)
    }

    /// What it was made from, where we have made it.
    #[must_use]
    pub fn hash(self) -> Option<&'a str> {
        self.label(labels::HASH)
    }

    /// Have we made it?
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.label(labels::STACK).is_some()
    }

    /// Is it of `docker compose run`?
    #[must_use]
    pub fn is_oneoff(self) -> bool {
        self.label(labels::ONEOFF) == Some("True")
    }

    /// The Engine's word for its state.
    #[must_use]
    pub fn status(self) -> ContainerStateStatusEnum {
        let status = self.0.state.as_ref().and_then(|state| state.status);
        status.unwrap_or(ContainerStateStatusEnum::EMPTY)
    }

    /// Does it run, or will the Engine start it again at once?
    #[must_use]
    pub fn is_running(self) -> bool {
        use ContainerStateStatusEnum::{PAUSED, RESTARTING, RUNNING, STOPPING};
        matches!(self.status(), RUNNING | RESTARTING | PAUSED | STOPPING)
    }

    /// Can nothing be done with it but to remove it?
    #[must_use]
    pub fn is_dead(self) -> bool {
        use ContainerStateStatusEnum::{DEAD, REMOVING};
        matches!(self.status(), DEAD | REMOVING)
    }

    /// The exit code of a container that has run and ended.
    #[must_use]
    pub fn exit_code(self) -> Option<i64> {
        if self.status() != ContainerStateStatusEnum::EXITED {
            return None;
        }
        self.0.state.as_ref().and_then(|state| state.exit_code)
    }

    /// Has it a name such as `0123456789ab_NAME`: is it on its way in or out?
    #[must_use]
    pub fn is_temporary(self) -> bool {
        let hex = self.name().split_once('_').map_or("", |(hex, _)| hex);
        hex.len() == 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// Would one that has ended with code 0 look as if it had done its work? See
    /// [`is_task`](super::topology::is_task).
    pub(crate) fn may_be_task(self) -> bool {
        use bollard_stubs::models::RestartPolicyNameEnum::{ALWAYS, UNLESS_STOPPED};
        let host = self.0.host_config.as_ref();
        let policy = host.and_then(|host| host.restart_policy.as_ref()?.name);
        let config = self.0.config.as_ref();
        let test = config.and_then(|config| config.healthcheck.as_ref()?.test.as_ref());
        let checked = test.is_some_and(|test| !test.is_empty() && test[0] != "NONE");
        let bindings = host.and_then(|host| host.port_bindings.as_ref());
        let used = bindings.is_some_and(|bindings| !bindings.is_empty());
        !matches!(policy, Some(ALWAYS | UNLESS_STOPPED)) && !checked && !used
    }

    /// What its check says.
    #[must_use]
    pub fn health(self) -> HealthStatusEnum {
        let health = self
            .0
            .state
            .as_ref()
            .and_then(|state| state.health.as_ref());
        health
            .and_then(|health| health.status)
            .unwrap_or(HealthStatusEnum::NONE)
    }

    /// The id of its image.
    #[must_use]
    pub fn image_id(self) -> &'a str {
        self.0.image.as_deref().unwrap_or_default()
    }

    /// The networks that it is on, by name.
    pub fn networks(self) -> impl Iterator<Item = (&'a str, &'a EndpointSettings)> {
        let networks = self
            .0
            .network_settings
            .as_ref()
            .and_then(|n| n.networks.as_ref());
        networks
            .into_iter()
            .flatten()
            .map(|(name, settings)| (name.as_str(), settings))
    }

    /// Is it on this network?
    #[must_use]
    pub fn is_on(self, network: &str) -> bool {
        self.networks().any(|(name, _)| name == network)
    }

    /// When it was made, as the Engine writes it.
    #[must_use]
    pub fn created(self) -> String {
        self.0
            .created
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// When it was last started, as the Engine writes it.
    #[must_use]
    pub fn started(self) -> &'a str {
        let state = self.0.state.as_ref();
        state
            .and_then(|state| state.started_at.as_deref())
            .unwrap_or_default()
    }

    /// Ports of the host that it takes whenever it runs.
    pub(crate) fn fixed_ports(self) -> BTreeSet<HostPort> {
        let bindings = self
            .0
            .host_config
            .as_ref()
            .and_then(|host| host.port_bindings.as_ref());
        bindings.map(fixed_ports).unwrap_or_default()
    }

    /// Fixed addresses that it takes whenever it runs: network, address.
    pub(crate) fn fixed_addresses(self) -> BTreeSet<(String, String)> {
        self.networks()
            .flat_map(|(name, settings)| fixed_addresses(name, settings))
            .collect()
    }
}

/// Ports of the host that are said exactly. A range leaves the choice to the Engine.
pub(crate) fn fixed_ports(bindings: &PortMap) -> BTreeSet<HostPort> {
    let mut all = BTreeSet::new();
    for (target, hosts) in bindings {
        let protocol = target
            .split_once('/')
            .map_or("tcp", |(_, protocol)| protocol);
        for host in hosts.iter().flatten() {
            let port = host
                .host_port
                .as_deref()
                .and_then(|port| port.parse::<u16>().ok());
            let Some(port) = port.filter(|port| *port != 0) else {
                continue;
            };
            let address = host.host_ip.clone().unwrap_or_default();
            let all_of_them = matches!(address.as_str(), "0.0.0.0" | "::");
            let address = if all_of_them { String::new() } else { address };
            all.insert((protocol.to_owned(), port, address));
        }
    }
    all
}

/// Can these not both be taken?
pub(crate) fn collide(a: &HostPort, b: &HostPort) -> bool {
    a.0 == b.0 && a.1 == b.1 && (a.2 == b.2 || a.2.is_empty() || b.2.is_empty())
}

/// The fixed addresses of one endpoint: network, address.
pub(crate) fn fixed_addresses(
    network: &str,
    settings: &EndpointSettings,
) -> impl Iterator<Item = (String, String)> {
    let config = settings.ipam_config.clone().unwrap_or_default();
    let addresses = [config.ipv4_address, config.ipv6_address];
    let given = addresses
        .into_iter()
        .flatten()
        .filter(|address| !address.is_empty());
    let network = network.to_owned();
    given.map(move |address| (network.clone(), address))
}

/// Is one time of the Engine's (RFC 3339, UTC) later than another? `false` where one is absent.
pub(crate) fn later(a: &str, b: &str) -> bool {
    let parts = |time: &str| {
        let time = time
            .trim_end_matches(|c: char| !c.is_ascii_digit())
            .replace(' ', "T");
        let (seconds, fraction) = time.split_once('.').unwrap_or((&time, ""));
        (seconds.to_owned(), format!("{fraction:0<9}"))
    };
    !a.is_empty() && !b.is_empty() && parts(a) > parts(b)
}
