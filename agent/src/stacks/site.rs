//! What all stacks of a host share: the way to its Engine and its disk, its policy, its clock,
//! and where they tell how they are.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use compose::{exchange::SecretText, model::Stack, plan};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tunnel::World;

use super::{
    addressed::addressed,
    board::Board,
    deliveries::Deliveries,
    disk::Disk,
    engine::{Engine, Found, Wanted},
    fault::{Fault, Kind, cause},
    record::{Record, Version},
};
use crate::{audit::Audit, policy_file::PolicyInForce};

/// How long a person waits for an Engine that has not been found yet.
const ENGINE_SOON: Duration = Duration::from_secs(3);

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Site {
    /// Clocks and chance.
    pub world: World,
    /// The Engine, while it is there.
    pub engine: watch::Receiver<Option<Engine>>,
    /// What the customer allows.
    pub policy: watch::Receiver<PolicyInForce>,
    /// Where the policy comes from, for people.
    pub policy_path: PathBuf,
    /// What is kept.
    pub disk: Disk,
    /// What is told.
    pub board: Board,
    /// So that the hash of a secret tells nothing.
    pub salt: Arc<Vec<u8>>,
    /// The customer's record.
    pub audit: Audit,
    /// Images that came through the session.
    pub deliveries: Deliveries,
}

/// A release that is about to be run, and all that is known of it.
#[derive(Debug)]
pub struct Prepared {
    /// With names of files that say what their content is.
    pub stack: Stack,
    /// For the plan.
    pub options: plan::Options,
    /// What is there, as the plan takes it.
    pub observed: plan::Observed,
}

impl Site {
    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.world.clock.unix_milliseconds()).unwrap_or_default()
    }

    /// The Engine.
    ///
    /// # Errors
    ///
    /// It is away.
    pub fn engine(&self) -> Result<Engine, Fault> {
        self.engine.borrow().clone().ok_or_else(|| Fault {
            kind: Kind::EngineAway,
            cause: cause(
                "engine",
                "the Docker Engine does not answer; look at its service and its log",
            ),
        })
    }

    /// The Engine; where it is not there yet, soon. For what a person asks: an agent that has
    /// just started, or an Engine that has, is no reason to refuse.
    ///
    /// # Errors
    ///
    /// It is away.
    pub async fn engine_soon(&self) -> Result<Engine, Fault> {
        let mut engine = self.engine.clone();
        drop(tokio::time::timeout(ENGINE_SOON, engine.wait_for(Option::is_some)).await);
        self.engine()
    }

    /// What goes into hashes in place of the values of secret variables.
    pub fn fingerprints(&self, secrets: &BTreeMap<String, SecretText>) -> BTreeMap<String, String> {
        let print = |(name, value): (&String, &SecretText)| {
            let mut hasher = Sha256::new();
            hasher.update(self.salt.as_slice());
            hasher.update((name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
            hasher.update(value.0.as_bytes());
            let mut hex = data_encoding::HEXLOWER.encode(&hasher.finalize());
            hex.truncate(32);
            (name.clone(), hex)
        };
        secrets.iter().map(print).collect()
    }

    /// The stack of a version as it is run here.
    pub fn addressed(&self, version: &Version) -> Stack {
        addressed(&version.stack, &self.fingerprints(&version.secrets))
    }

    /// Looks at what there is, and puts together what a plan needs.
    ///
    /// # Errors
    ///
    /// The Engine's.
    pub async fn prepare(&self, version: &Version, record: &Record) -> Result<Prepared, Fault> {
        let engine = self.engine()?;
        let stack = self.addressed(version);
        let found = engine.look(&stack.name, &wanted(&stack)).await?;
        let observed = observed(&engine, found).await?;
        let root = self
            .host_path(&engine, &self.disk.files(&stack.name))
            .await?;
        let fingerprints = self.fingerprints(&version.secrets);
        // The id, where it is known: what came through the session has no digest here.
        let digests = version.digests.iter().chain(&version.images);
        let context = plan::Context {
            api: engine.api,
            shipped_root: root,
            fingerprints,
            digests: digests
                .map(|(name, digest)| (name.clone(), digest.clone()))
                .collect(),
            release: version.release.clone(),
            assignment: record.assignment,
            ..plan::Context::default()
        };
        let options = plan::Options {
            context,
            remove_foreign_orphans: record.remove_foreign_orphans,
            force_recreate: record.force_recreate,
            now_seconds: Some(self.world.clock.unix_seconds()),
            adopted: record.adopts.clone(),
            ..plan::Options::default()
        };
        Ok(Prepared {
            stack,
            options,
            observed,
        })
    }

    /// Where the Engine finds a path of this process: the same, unless this process is in
    /// a container, whose mounts the Engine knows.
    async fn host_path(&self, engine: &Engine, path: &std::path::Path) -> Result<String, Fault> {
        let here = path.to_string_lossy().into_owned();
        let Some(id) = own_container() else {
            return Ok(here);
        };
        let Some(container) = engine.container(&id).await? else {
            return Ok(here);
        };
        let mounts = container.mounts.unwrap_or_default();
        let mut best: Option<(usize, String)> = None;
        for mount in mounts {
            let (Some(source), Some(target)) = (mount.source, mount.destination) else {
                continue;
            };
            let Ok(rest) = path.strip_prefix(&target) else {
                continue;
            };
            if best
                .as_ref()
                .is_none_or(|(length, _)| target.len() > *length)
            {
                let source = PathBuf::from(source).join(rest);
                best = Some((target.len(), source.to_string_lossy().into_owned()));
            }
        }
        best.map(|(_, path)| path).ok_or_else(|| {
            Fault::last(
                "invalid",
                format!(
                    "the release ships files, and {here} is in no volume of the agent's container: \
                     mount one at the state directory, as the documentation's command does"
                ),
            )
        })
    }
}

/// The id of the container that this process is in.
fn own_container() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // Docker mounts three files from a folder that is named by the container's id.
    let line = mounts
        .lines()
        .find(|line| line.contains("/containers/") && line.contains("/hostname "))?;
    let rest = line.split("/containers/").nth(1)?;
    let id: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    (id.len() == 64).then_some(id)
}

/// What has to be looked at for a stack beside what carries its label.
pub fn wanted(stack: &Stack) -> Wanted {
    Wanted {
        images: stack
            .services
            .values()
            .map(|service| service.image.clone())
            .collect(),
        networks: stack
            .networks
            .values()
            .map(|network| network.name.clone())
            .collect(),
        volumes: stack
            .volumes
            .values()
            .map(|volume| volume.name.clone())
            .collect(),
    }
}

/// As a plan takes it; images that containers were made of are looked at as well.
pub async fn observed(engine: &Engine, found: Found) -> Result<plan::Observed, Fault> {
    let mut images: BTreeMap<String, plan::ImageSeen> = BTreeMap::new();
    for (reference, image) in &found.images {
        let seen = plan::ImageSeen::of(image);
        images.insert(seen.id.clone(), seen.clone());
        images.insert(reference.clone(), seen);
    }
    for container in &found.containers {
        let Some(id) = container
            .image
            .clone()
            .filter(|id| !images.contains_key(id))
        else {
            continue;
        };
        if let Some(image) = engine.image(&id).await? {
            images.insert(id, plan::ImageSeen::of(&image));
        }
    }
    Ok(plan::Observed {
        containers: found.containers,
        networks: found.networks,
        volumes: found.volumes,
        images,
    })
}
