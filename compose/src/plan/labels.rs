//! What containers, networks and volumes say of themselves: the labels of Docker's own tool,
//! written so that it sees our stacks, and ours.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Condition, Dependency};

/// The prefix of Docker's own tool.
pub const COMPOSE: &str = "com.docker.compose.";
/// Our prefix.
pub const OURS: &str = "com.sternline.";

/// The project, of everything.
pub const PROJECT: &str = "com.docker.compose.project";
/// The service, of a container.
pub const SERVICE: &str = "com.docker.compose.service";
/// Which of the service's containers, from 1.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// `True` for a container of `docker compose run`, which is not ours to touch.
pub const ONEOFF: &str = "com.docker.compose.oneoff";
/// The tool's own hash; we write ours into it, because the tool expects one.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// The version of the tool.
pub const VERSION: &str = "com.docker.compose.version";
/// The image's id or digest.
pub const IMAGE: &str = "com.docker.compose.image";
/// `SERVICE:CONDITION:RESTART`, separated by commas.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Where the files were.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// Which files they were, separated by commas.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The key of a network.
pub const NETWORK: &str = "com.docker.compose.network";
/// The key of a volume.
pub const VOLUME: &str = "com.docker.compose.volume";

/// What it was made from: see [`hash`](mod@super::hash).
pub const HASH: &str = "com.sternline.hash";
/// The release that it was made for; a later one may go on using it.
pub const RELEASE: &str = "com.sternline.release";
/// The stack. Whatever carries it, we have made.
pub const STACK: &str = "com.sternline.stack";
/// The assignment that it was made for: see [`Options::force_recreate`](super::Options).
pub const ASSIGNMENT: &str = "com.sternline.assignment";

/// Is it one that the author of a stack did not write?
#[must_use]
pub fn is_reserved(label: &str) -> bool {
    label.starts_with(COMPOSE) || label.starts_with(OURS)
}

/// The label's value, where there is one.
#[must_use]
pub fn get<'a>(labels: Option<&'a HashMap<String, String>>, name: &str) -> Option<&'a str> {
    labels?.get(name).map(String::as_str)
}

/// [`DEPENDS_ON`] as Docker's own tool writes it.
#[must_use]
pub(crate) fn depends_on(dependencies: &BTreeMap<String, Dependency>) -> String {
    let one = |(name, dependency): (&String, &Dependency)| {
        let condition = match dependency.condition {
            Condition::Started => "service_started",
            Condition::Healthy => "service_healthy",
            Condition::Completed => "service_completed_successfully",
        };
        format!("{name}:{condition}:{}", dependency.restart)
    };
    dependencies.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The services that a [`DEPENDS_ON`] names.
pub(crate) fn dependencies(label: &str) -> impl Iterator<Item = &str> {
    let entries = label.split(',').filter(|entry| !entry.is_empty());
    entries.filter_map(|entry| entry.split(':').next())
}
