//! The Docker Engine, in the words of stacks: what there is of one, and the operations that
//! a plan is made of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{
        ContainerCreateBody, ContainerInspectResponse, EndpointSettings, EventMessage,
        ImageInspect, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
        NetworkInspect, Volume, VolumeCreateRequest,
    },
    query_parameters::{
        CreateContainerOptions, EventsOptions, InspectContainerOptions, ListContainersOptions,
        ListImagesOptions, ListNetworksOptions, ListVolumesOptions, RemoveContainerOptions,
        RemoveVolumeOptions, RenameContainerOptions, RestartContainerOptions,
        StartContainerOptions, StopContainerOptions, TagImageOptions, UploadToContainerOptions,
    },
};
use futures_util::Stream;
use tokio::time::timeout;
use tunnel::world::{Net, TargetEnd};

use super::fault::{Fault, Kind, cause};
use crate::docker::Transport;

/// The label by which Docker's own tool knows what belongs to a stack.
pub const PROJECT: &str = "com.docker.compose.project";

/// How long the Engine may take to answer what it only has to look up, or to begin.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How long any request may take to be answered. Operations have bounds of their own.
const REQUEST_WITHIN: Duration = Duration::from_secs(15 * 60);
/// On top of a container's grace, for what the Engine does about its end.
const STOP_MARGIN: Duration = Duration::from_secs(60);
/// A container's grace where nothing is said.
const GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// An Engine that has answered.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    /// Its API's version, as far as this agent knows it.
    pub api: (u32, u32),
    /// What it runs images of, such as `linux/amd64`.
    pub platform: String,
}

/// What there is of one stack.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Containers with the project's label, whatever their state.
    pub containers: Vec<ContainerInspectResponse>,
    /// Networks with the label, and those that were asked for by name.
    pub networks: Vec<NetworkInspect>,
    /// Volumes with the label, and those that were asked for by name.
    pub volumes: Vec<Volume>,
    /// Images that were asked for, by the reference they were asked by.
    pub images: BTreeMap<String, ImageInspect>,
}

/// What is looked for beside a project's own.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Image references.
    pub images: BTreeSet<String>,
    /// Networks by name.
    pub networks: BTreeSet<String>,
    /// Volumes by name.
    pub volumes: BTreeSet<String>,
}

type Answer<T> = Result<T, Fault>;

impl Engine {
    /// Connects, and agrees on a version.
    ///
    /// # Errors
    ///
    /// The Engine does not answer.
    pub async fn connect(net: &Arc<dyn Net>, socket: &Path) -> Answer<Self> {
        let away = |why: String| Fault {
            kind: Kind::EngineAway,
            cause: cause(
                "engine",
                format!("the Docker Engine does not answer: {why}"),
            ),
        };
        let connect = async {
            let connected = net.connect_target(TargetEnd::Unix(socket)).await;
            let connected = connected.map_err(|error| away(error.to_string()))?;
            let transport = Transport::new(net.clone(), socket.to_owned(), connected);
            let docker = transport.engine(REQUEST_WITHIN, API_DEFAULT_VERSION);
            let docker = docker.map_err(|error| away(error.to_string()))?;
            let docker = docker.negotiate_version().await;
            let docker = docker.map_err(|error| away(error.to_string()))?;
            let version = docker
                .version()
                .await
                .map_err(|error| away(error.to_string()))?;
            let system = version.os.unwrap_or_else(|| "linux".to_owned());
            let platform = format!("{system}/{}", version.arch.unwrap_or_default());
            Ok((docker, platform))
        };
        let (docker, platform) = match timeout(ANSWER_WITHIN, connect).await {
            Ok(docker) => docker?,
            Err(_) => return Err(away("no answer within a minute".to_owned())),
        };
        let version = docker.client_version();
        let part = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let api = (part(version.major_version), part(version.minor_version));
        Ok(Self {
            docker,
            api,
            platform,
        })
    }

    /// The API itself, for what flows: pulls, logs, events.
    pub const fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Names of all projects that have a container.
    pub async fn projects(&self) -> Answer<BTreeSet<String>> {
        let found = self.list_containers(PROJECT).await?;
        let labels = found.into_iter().filter_map(|found| found.labels);
        Ok(labels
            .filter_map(|mut labels| labels.remove(PROJECT))
            .collect())
    }

    async fn list_containers(&self, label: &str) -> Answer<Vec<bollard::models::ContainerSummary>> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(by_label(label)),
            ..ListContainersOptions::default()
        };
        brief(
            "list containers",
            self.docker.list_containers(Some(options)),
        )
        .await
    }

    /// Looks at everything of a project, and at what else is wanted. What vanishes while it
    /// is looked at is not there.
    pub async fn look(&self, project: &str, wanted: &Wanted) -> Answer<Found> {
        let label = format!("{PROJECT}={project}");
        let mut found = Found::default();
        for summary in self.list_containers(&label).await? {
            let id = summary.id.unwrap_or_default();
            if let Some(container) = self.container(&id).await? {
                found.containers.push(container);
            }
        }
        found.networks = self.networks(&label, &wanted.networks).await?;
        found.volumes = self.volumes(&label, &wanted.volumes).await?;
        for reference in &wanted.images {
            if let Some(image) = self.image(reference).await? {
                found.images.insert(reference.clone(), image);
            }
        }
        Ok(found)
    }

    /// One container, unless it is gone.
    pub async fn container(&self, id: &str) -> Answer<Option<ContainerInspectResponse>> {
        let look = self
            .docker
            .inspect_container(id, None::<InspectContainerOptions>);
        unless_gone(brief(&format!("inspect container {id}"), look).await)
    }

    async fn networks(&self, label: &str, names: &BTreeSet<String>) -> Answer<Vec<NetworkInspect>> {
        let options = ListNetworksOptions {
            filters: Some(by_label(label)),
        };
        let listed = brief("list networks", self.docker.list_networks(Some(options))).await?;
        // By id where it is ours: the Engine lets several have one name.
        let mut ids: BTreeSet<String> = listed.into_iter().filter_map(|one| one.id).collect();
        ids.extend(names.iter().cloned());
        let mut networks: Vec<NetworkInspect> = Vec::new();
        for id in ids {
            let look = self.docker.inspect_network(&id, None);
            let Some(network) = unless_gone(brief("inspect a network", look).await)? else {
                continue;
            };
            if networks.iter().all(|known| known.id != network.id) {
                networks.push(network);
            }
        }
        Ok(networks)
    }

    async fn volumes(&self, label: &str, names: &BTreeSet<String>) -> Answer<Vec<Volume>> {
        let options = ListVolumesOptions {
            filters: Some(by_label(label)),
        };
        let listed = brief("list volumes", self.docker.list_volumes(Some(options))).await?;
        let mut volumes = listed.volumes.unwrap_or_default();
        for name in names {
            if volumes.iter().any(|known| known.name == *name) {
                continue;
            }
            let look = self.docker.inspect_volume(name);
            volumes.extend(unless_gone(brief("inspect a volume", look).await)?);
        }
        Ok(volumes)
    }

    /// One image, unless the Engine does not have it.
    pub async fn image(&self, reference: &str) -> Answer<Option<ImageInspect>> {
        let look = self.docker.inspect_image(reference);
        unless_gone(brief(&format!("inspect image {reference}"), look).await)
    }

    /// The layers of all images that there are, of each from the bottom up.
    pub async fn layers(&self) -> Answer<Vec<Vec<String>>> {
        let listed = self.docker.list_images(None::<ListImagesOptions>);
        let listed = brief("list images", listed).await?;
        let mut layers = Vec::new();
        for image in listed {
            if let Some(image) = self.image(&image.id).await? {
                layers.extend(image.root_fs.and_then(|root| root.layers));
            }
        }
        Ok(layers)
    }

    /// Gives an image a further name.
    pub async fn tag(&self, image: &str, reference: &str) -> Answer<()> {
        let (repo, tag) = repository_and_tag(reference);
        let options = TagImageOptions {
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
        };
        let tagged = self.docker.tag_image(image, Some(options));
        brief(&format!("tag image {reference}"), tagged).await
    }

    /// What happens to containers, networks and volumes of all stacks, for ever.
    pub fn events(
        &self,
    ) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
        let mut filters = HashMap::new();
        let types = ["container", "network", "volume"].map(str::to_owned);
        filters.insert("type".to_owned(), types.to_vec());
        let options = EventsOptions {
            filters: Some(filters),
            ..EventsOptions::default()
        };
        self.docker.clone().events(Some(options))
    }

    /// Makes a network.
    pub async fn create_network(&self, request: NetworkCreateRequest) -> Answer<()> {
        let what = format!("create network {}", request.name);
        brief(&what, self.docker.create_network(request))
            .await
            .map(drop)
    }

    /// Removes a network; one that is gone is removed.
    pub async fn remove_network(&self, name: &str) -> Answer<()> {
        let removed = self.docker.remove_network(name);
        unless_gone(brief(&format!("remove network {name}"), removed).await).map(drop)
    }

    /// Puts a container on a network.
    pub async fn connect_network(
        &self,
        network: &str,
        container: &str,
        endpoint: Option<EndpointSettings>,
    ) -> Answer<()> {
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: endpoint,
        };
        let connected = self.docker.connect_network(network, request);
        brief(
            &format!("connect {container} to network {network}"),
            connected,
        )
        .await
    }

    /// Takes a container off a network; one that is not on it is off it.
    pub async fn disconnect_network(&self, network: &str, container: &str) -> Answer<()> {
        let request = NetworkDisconnectRequest {
            container: container.to_owned(),
            force: Some(true),
        };
        let disconnected = self.docker.disconnect_network(network, request);
        let what = format!("disconnect {container} from network {network}");
        match unless_gone(brief(&what, disconnected).await) {
            Err(fault) if fault.cause.line.contains("is not connected") => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Makes a volume; one that is there stays as it is.
    pub async fn create_volume(&self, request: VolumeCreateRequest) -> Answer<()> {
        let name = request.name.clone().unwrap_or_default();
        let created = self.docker.create_volume(request);
        brief(&format!("create volume {name}"), created)
            .await
            .map(drop)
    }

    /// Removes a volume and what is on it.
    pub async fn remove_volume(&self, name: &str) -> Answer<()> {
        let removed = self.docker.remove_volume(name, None::<RemoveVolumeOptions>);
        unless_gone(brief(&format!("remove volume {name}"), removed).await).map(drop)
    }

    /// Makes a container, and returns its id.
    pub async fn create_container(
        &self,
        name: &str,
        platform: Option<&str>,
        body: ContainerCreateBody,
    ) -> Answer<String> {
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            platform: platform.unwrap_or_default().to_owned(),
        };
        let created = self.docker.create_container(Some(options), body);
        let created = brief(&format!("create container {name}"), created).await?;
        Ok(created.id)
    }

    /// Unpacks an archive into a container.
    pub async fn put_files(&self, container: &str, tar: Vec<u8>) -> Answer<()> {
        let options = UploadToContainerOptions {
            path: "/".to_owned(),
            ..UploadToContainerOptions::default()
        };
        let body = bollard::body_full(tar.into());
        let put = self
            .docker
            .upload_to_container(container, Some(options), body);
        brief(&format!("copy files into {container}"), put).await
    }

    /// Starts a container.
    pub async fn start(&self, container: &str) -> Answer<()> {
        let started = self
            .docker
            .start_container(container, None::<StartContainerOptions>);
        bounded(
            &format!("start container {container}"),
            REQUEST_WITHIN,
            started,
        )
        .await
    }

    /// Stops a container, with the grace that it was made with.
    pub async fn stop(&self, container: &ContainerInspectResponse) -> Answer<()> {
        let id = container.id.clone().unwrap_or_default();
        let stopped = self
            .docker
            .stop_container(&id, None::<StopContainerOptions>);
        let what = format!("stop container {}", name_of(container));
        let within = grace(container) + STOP_MARGIN;
        unless_gone(bounded(&what, within, stopped).await).map(drop)
    }

    /// Stops a container, and starts it again.
    pub async fn restart(&self, container: &ContainerInspectResponse) -> Answer<()> {
        let id = container.id.clone().unwrap_or_default();
        let restarted = self
            .docker
            .restart_container(&id, None::<RestartContainerOptions>);
        let what = format!("restart container {}", name_of(container));
        bounded(&what, grace(container) + STOP_MARGIN, restarted).await
    }

    /// Removes a container that does not run, and with `volumes` its anonymous volumes.
    pub async fn remove(&self, container: &str, volumes: bool) -> Answer<()> {
        let options = RemoveContainerOptions {
            v: volumes,
            force: true,
            link: false,
        };
        let removed = self.docker.remove_container(container, Some(options));
        unless_gone(brief(&format!("remove container {container}"), removed).await).map(drop)
    }

    /// Gives a container another name.
    pub async fn rename(&self, container: &str, name: &str) -> Answer<()> {
        let options = RenameContainerOptions {
            name: name.to_owned(),
        };
        let renamed = self.docker.rename_container(container, options);
        brief(&format!("rename container {container} to {name}"), renamed).await
    }
}

/// A container's name, without the slash that the Engine puts before it.
pub fn name_of(container: &ContainerInspectResponse) -> &str {
    let name = container.name.as_deref().unwrap_or_default();
    name.strip_prefix('/').unwrap_or(name)
}

/// Repository and tag of a reference; `latest` where it has none. A digest is left out.
pub fn repository_and_tag(reference: &str) -> (&str, &str) {
    let reference = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    match reference.rsplit_once(':') {
        // A colon before a slash is that of a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

fn grace(container: &ContainerInspectResponse) -> Duration {
    let config = container.config.as_ref();
    let seconds = config.and_then(|config| config.stop_timeout);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(GRACE_DEFAULT, Duration::from_secs)
}

fn by_label(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.to_owned()])])
}

async fn brief<T>(
    what: &str,
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Answer<T> {
    bounded(what, ANSWER_WITHIN, request).await
}

async fn bounded<T>(
    what: &str,
    within: Duration,
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Answer<T> {
    let outcome = timeout(within, request).await;
    let outcome = outcome.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError));
    outcome.map_err(|error| Fault::of_engine(what, &error))
}

/// What is gone is no fault.
fn unless_gone<T>(outcome: Answer<T>) -> Answer<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.kind == Kind::Moved => Ok(None),
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_a_registry_is_not_taken_for_a_tag() {
        assert_eq!(repository_and_tag("r:5000/app"), ("r:5000/app", "latest"));
        assert_eq!(repository_and_tag("r:5000/app:2"), ("r:5000/app", "2"));
        assert_eq!(repository_and_tag("app:2@sha256:00"), ("app", "2"));
    }
}
