//! The operations that a plan is made of: one request to the Engine each, or one wait.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Condition;

/// A container in a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerRef {
    /// What it is called when the step's turn comes.
    pub name: String,
    /// Its id, where it was there before the plan. So a step that is done twice cannot hit
    /// another container that has got the name in the meantime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl ContainerRef {
    /// What the Engine is to be asked for: the id, or else the name.
    #[must_use]
    pub fn reference(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
#[expect(missing_docs, reason = "fields are what they are called")]
pub enum Operation {
    /// Pull an image. All pulls come before everything else; after them, what there is has to be
    /// looked at again, and the plan made again with [`Options::pulled`](super::Options::pulled).
    Pull { image: String, service: String },
    /// Make a network of the stack.
    CreateNetwork { key: String, name: String },
    /// Take a container off a network.
    Disconnect {
        network: String,
        container: ContainerRef,
    },
    /// Put a container on a network, as its service says.
    Connect {
        network: String,
        container: ContainerRef,
        service: String,
        number: u32,
    },
    /// Remove a network.
    RemoveNetwork { name: String },
    /// Make a volume of the stack.
    CreateVolume { key: String, name: String },
    /// Remove a volume and what is on it. Only where that was asked for.
    RemoveVolume { name: String },
    /// Make a container, connect it to all its networks, and copy its files into it. It has a
    /// temporary name while another has the final one. `inherits`: the container whose anonymous
    /// volumes it takes over, see [`inherit`](super::spec::inherit).
    CreateContainer {
        service: String,
        number: u32,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inherits: Option<ContainerRef>,
    },
    /// Start a container. The Engine gives out ports of ranges one after another only if starts
    /// come one after another.
    StartContainer {
        service: String,
        container: ContainerRef,
    },
    /// Stop a container, with the grace that it was made with; `grace_seconds` where it was made
    /// without one and its service has one.
    StopContainer {
        service: String,
        container: ContainerRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_seconds: Option<i64>,
    },
    /// Let a container go on that somebody has paused.
    UnpauseContainer {
        service: String,
        container: ContainerRef,
    },
    /// Remove a container; with `volumes` its anonymous volumes as well.
    RemoveContainer {
        service: String,
        container: ContainerRef,
        #[serde(default)]
        volumes: bool,
    },
    /// Give a container its final name.
    RenameContainer {
        service: String,
        container: ContainerRef,
        name: String,
    },
    /// Restart a container whose dependency was replaced.
    RestartContainer {
        service: String,
        container: ContainerRef,
    },
    /// Wait until these containers are so far. Where it is not `required`, going on without is
    /// right. One that has ended with code 0 was started.
    Wait {
        service: String,
        containers: Vec<ContainerRef>,
        until: Condition,
        required: bool,
    },
    /// Wait between two batches of an update.
    Delay { service: String, nanoseconds: i64 },
}

impl Operation {
    /// The service that it is for, where it is for one.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Pull { service, .. }
            | Self::Connect { service, .. }
            | Self::CreateContainer { service, .. }
            | Self::StartContainer { service, .. }
            | Self::StopContainer { service, .. }
            | Self::UnpauseContainer { service, .. }
            | Self::RemoveContainer { service, .. }
            | Self::RenameContainer { service, .. }
            | Self::RestartContainer { service, .. }
            | Self::Wait { service, .. }
            | Self::Delay { service, .. } => Some(service),
            Self::CreateNetwork { .. }
            | Self::Disconnect { .. }
            | Self::RemoveNetwork { .. }
            | Self::CreateVolume { .. }
            | Self::RemoveVolume { .. } => None,
        }
    }

    /// Does it change nothing by itself: a pull, a wait?
    #[must_use]
    pub const fn is_passive(&self) -> bool {
        matches!(
            self,
            Self::Pull { .. } | Self::Wait { .. } | Self::Delay { .. }
        )
    }
}

impl fmt::Display for Operation {
    /// One line for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pull { image, .. } => write!(f, "pull image {image}"),
            Self::CreateNetwork { name, .. } => write!(f, "create network {name}"),
            Self::Disconnect { network, container } => {
                write!(f, "disconnect {container} from network {network}")
            }
            Self::Connect {
                network, container, ..
            } => {
                write!(f, "connect {container} to network {network}")
            }
            Self::RemoveNetwork { name } => write!(f, "remove network {name}"),
            Self::CreateVolume { name, .. } => write!(f, "create volume {name}"),
            Self::RemoveVolume { name } => write!(f, "REMOVE VOLUME {name} and what is on it"),
            Self::CreateContainer { name, .. } => write!(f, "create container {name}"),
            Self::StartContainer { container, .. } => write!(f, "start container {container}"),
            Self::StopContainer { container, .. } => write!(f, "stop container {container}"),
            Self::UnpauseContainer { container, .. } => {
                write!(f, "unpause container {container}")
            }
            Self::RemoveContainer {
                container, volumes, ..
            } => {
                let volumes = if *volumes {
                    " and its anonymous volumes"
                } else {
                    ""
                };
                write!(f, "remove container {container}{volumes}")
            }
            Self::RenameContainer {
                container, name, ..
            } => {
                write!(f, "rename container {container} to {name}")
            }
            Self::RestartContainer { container, .. } => write!(f, "restart container {container}"),
            Self::Wait {
                service,
                containers,
                until,
                ..
            } => {
                let until = match until {
                    Condition::Started => "runs",
                    Condition::Healthy => "is healthy",
                    Condition::Completed => "has completed",
                };
                match containers.as_slice() {
                    [one] => write!(f, "wait until {one} {until}"),
                    _ => write!(f, "wait until {service} {until}"),
                }
            }
            Self::Delay {
                service,
                nanoseconds,
            } => {
                let seconds = *nanoseconds / 1_000_000_000;
                let milliseconds = *nanoseconds / 1_000_000 % 1_000;
                write!(
                    f,
                    "wait {seconds}.{milliseconds:03} s before more of {service}"
                )
            }
        }
    }
}
