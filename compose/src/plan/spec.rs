//! What the Engine is asked for: the model in the Engine's own words.
//!
//! Values may hold the marks of secret variables (see [`secret`](crate::load::secret)); the
//! agent reveals them in the body on its way to the Engine.

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{ContainerCreateBody, EndpointSettings, HealthConfig};

use super::{hash, labels};
use crate::model::{HealthTest, Healthcheck, Service, Stack};

mod endpoint;
mod host;
mod mounts;
mod needs;
mod objects;

pub use mounts::inherit;
pub use needs::{Unsupported, unsupported};
pub use objects::{network, volume};

pub(crate) use objects::{network_hash, volume_hash};

/// What a request depends on beside the stack.
#[derive(Debug, Clone)]
pub struct Context {
    /// The version of the Engine's API that is spoken with it.
    pub api: (u32, u32),
    /// A path of the host. The file, the folder or the text of
    /// [`Stack::files`](crate::model::Stack::files) with the key `KEY` lies at `ROOT/KEY`, for as
    /// long as a container of this stack may use it.
    pub shipped_root: String,
    /// What goes into the hash in place of the values of secret variables, by name.
    pub fingerprints: BTreeMap<String, String>,
    /// What image references stand for, by reference: the digest of a manifest, or an image's
    /// id, each `sha256:…`. A container of another image is replaced.
    pub digests: BTreeMap<String, String>,
    /// The id of the first container of each service, as far as there is one: what
    /// `network_mode: service:NAME` and the like refer to. Without it they refer to its name.
    pub containers: BTreeMap<String, String>,
    /// Name of the release, for its label.
    pub release: String,
    /// Number of the assignment, for its label.
    pub assignment: u64,
    /// For the label of Docker's own tool: where the files are.
    pub working_dir: String,
    /// For the label of Docker's own tool: which files, separated by commas.
    pub config_files: String,
}

impl Default for Context {
    /// The oldest Engine that is supported, and nothing known.
    fn default() -> Self {
        Self {
            api: (1, 41),
            shipped_root: "/".to_owned(),
            fingerprints: BTreeMap::new(),
            digests: BTreeMap::new(),
            containers: BTreeMap::new(),
            release: String::new(),
            assignment: 0,
            working_dir: String::new(),
            config_files: String::new(),
        }
    }
}

/// A container as it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    /// Its final name.
    pub name: String,
    /// Such as `linux/amd64`: an argument of the request, not in its body.
    pub platform: Option<String>,
    /// The request's body.
    pub body: ContainerCreateBody,
    /// Every network that it shall be on, by name, in order. The body has the first alone where
    /// the API is older than 1.44, else all: see [`ContainerSpec::to_connect`].
    pub networks: Vec<(String, EndpointSettings)>,
    /// What is copied into it before it starts.
    pub files: Vec<FileInto>,
    /// What it is made from, without its name and number: see [`hash`](mod@super::hash).
    pub hash: String,
}

impl ContainerSpec {
    /// The networks that it has to be connected to after it was made and before it starts.
    #[must_use]
    pub fn to_connect(&self) -> &[(String, EndpointSettings)] {
        let networking = self.body.networking_config.as_ref();
        let endpoints = networking.and_then(|config| config.endpoints_config.as_ref());
        let in_body = endpoints.map_or(0, HashMap::len);
        self.networks.get(in_body..).unwrap_or_default()
    }
}

/// A config or a secret on its way into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInto {
    /// A key of [`Stack::files`](crate::model::Stack::files).
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// The name of a container: the author's, or `PROJECT-SERVICE-NUMBER`.
#[must_use]
pub fn container_name(stack: &Stack, service: &str, number: u32) -> String {
    let chosen = stack
        .services
        .get(service)
        .and_then(|service| service.container_name.clone());
    chosen.unwrap_or_else(|| format!("{}-{service}-{number}", stack.name))
}

/// The request that makes one container of a service.
///
/// # Errors
///
/// The Engine is too old for what the service asks for, or the stack has no such service.
pub fn container(
    stack: &Stack,
    service: &str,
    number: u32,
    context: &Context,
) -> Result<ContainerSpec, Unsupported> {
    let Some(wanted) = stack.services.get(service) else {
        return Err(Unsupported::absent(service));
    };
    if let Some(first) = unsupported(service, wanted, context.api).into_iter().next() {
        return Err(first);
    }
    let name = container_name(stack, service, number);
    let networks = endpoint::all(stack, service, wanted, &name);
    let files = mounts::files(wanted);
    let mut body = body(wanted);
    body.host_config = Some(host::config(stack, wanted, &networks, context));
    body.networking_config = endpoint::in_body(&networks, context.api);
    let hash = hash::container(stack, wanted, (&body, &networks, &files), context);
    body.labels = Some(all_labels(stack, (service, number), &hash, context));
    Ok(ContainerSpec {
        name,
        platform: wanted.platform.clone(),
        body,
        networks,
        files,
        hash,
    })
}

impl ContainerSpec {
    /// The same for another container of the service: much cheaper than to make it again.
    pub(crate) fn renumbered(&self, stack: &Stack, service: &str, number: u32) -> Self {
        let mut other = self.clone();
        other.name = container_name(stack, service, number);
        let networking = other.body.networking_config.as_mut();
        let in_body = networking.and_then(|config| config.endpoints_config.as_mut());
        let listed = other.networks.iter_mut().map(|(_, settings)| settings);
        for settings in listed.chain(in_body.into_iter().flat_map(HashMap::values_mut)) {
            let own = settings
                .aliases
                .as_mut()
                .and_then(|aliases| aliases.first_mut());
            if let Some(own) = own {
                own.clone_from(&other.name);
            }
        }
        if let Some(all) = &mut other.body.labels {
            all.insert(labels::NUMBER.to_owned(), number.to_string());
        }
        other
    }
}

/// All of the body that concerns the container alone, without labels.
fn body(service: &Service) -> ContainerCreateBody {
    let env = service.environment.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    });
    ContainerCreateBody {
        hostname: service.hostname.clone(),
        domainname: service.domainname.clone(),
        user: service.user.clone(),
        exposed_ports: filled(exposed(service)),
        tty: service.tty.then_some(true),
        open_stdin: service.stdin_open.then_some(true),
        env: filled(env.collect()),
        cmd: service.command.clone(),
        entrypoint: service.entrypoint.clone(),
        healthcheck: service.healthcheck.as_ref().map(health),
        image: Some(service.image.clone()),
        working_dir: service.working_dir.clone(),
        stop_signal: service.stop_signal.clone(),
        stop_timeout: service.stop_grace_period.map(whole_seconds),
        ..ContainerCreateBody::default()
    }
}

/// Nanoseconds to seconds, rounded up: a grace of 500 ms is not none.
pub(crate) const fn whole_seconds(nanoseconds: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    nanoseconds / SECOND + (nanoseconds % SECOND > 0) as i64
}

/// `PORT/PROTOCOL` of everything that is published or exposed, sorted, each once.
fn exposed(service: &Service) -> Vec<String> {
    let published = service
        .ports
        .iter()
        .map(|port| format!("{}/{}", port.target, port.protocol));
    let exposed = service.expose.iter().map(|port| match port.contains('/') {
        true => port.clone(),
        false => format!("{port}/tcp"),
    });
    let mut all: Vec<_> = published.chain(exposed).collect();
    all.sort();
    all.dedup();
    all
}

fn health(check: &Healthcheck) -> HealthConfig {
    let test = match &check.test {
        HealthTest::Inherit => None,
        HealthTest::Disabled => Some(vec!["NONE".to_owned()]),
        HealthTest::Command(words) => Some(
            std::iter::once("CMD".to_owned())
                .chain(words.iter().cloned())
                .collect(),
        ),
        HealthTest::Shell(line) => Some(vec!["CMD-SHELL".to_owned(), line.clone()]),
    };
    HealthConfig {
        test,
        interval: check.interval,
        timeout: check.timeout,
        retries: check.retries,
        start_period: check.start_period,
        start_interval: check.start_interval,
    }
}

fn all_labels(
    stack: &Stack,
    (name, number): (&str, u32),
    hash: &str,
    context: &Context,
) -> HashMap<String, String> {
    let service = stack.services.get(name);
    let mut all: HashMap<_, _> = service
        .map(|service| service.labels.clone().into_iter().collect())
        .unwrap_or_default();
    let dependencies = service.map(|service| labels::depends_on(&service.depends_on));
    let image = service.and_then(|service| context.digests.get(&service.image));
    for (label, value) in [
        (labels::PROJECT, stack.name.clone()),
        (labels::SERVICE, name.to_owned()),
        (labels::NUMBER, number.to_string()),
        (labels::ONEOFF, "False".to_owned()),
        (labels::CONFIG_HASH, hash.to_owned()),
        (labels::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (labels::IMAGE, image.cloned().unwrap_or_default()),
        (labels::DEPENDS_ON, dependencies.unwrap_or_default()),
        (labels::WORKING_DIR, context.working_dir.clone()),
        (labels::CONFIG_FILES, context.config_files.clone()),
        (labels::HASH, hash.to_owned()),
        (labels::RELEASE, context.release.clone()),
        (labels::STACK, stack.name.clone()),
        (labels::ASSIGNMENT, context.assignment.to_string()),
    ] {
        all.insert(label.to_owned(), value);
    }
    all
}

/// Nothing for an empty list: the Engine's or the image's own.
fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Nothing for an empty map.
fn filled_map<'a>(
    map: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Option<HashMap<String, String>> {
    let map: HashMap<_, _> = map
        .into_iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    (!map.is_empty()).then_some(map)
}
