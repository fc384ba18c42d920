//! From what shall be and what is, to what to do. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What to do, in an order that is right: every step after those it has in
/// [`Step::after`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The operations. Empty: all is as it shall be.
    pub steps: Vec<Step>,
    /// What a person should know of, and nobody has to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One operation: one request to the Engine, or one wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its place in the plan, from 0.
    pub id: usize,
    /// Steps that have to be done before it, all with lower ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
    /// What is done.
    pub operation: Operation,
    /// Why, for a person. Empty where it follows from the step before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
#[allow(missing_docs, reason = "fields are what they are called")]
pub enum Operation {
    /// Pull an image.
    Pull { image: String, service: String },
    /// Make a network of the stack.
    CreateNetwork { key: String, name: String },
    /// Take a container off a network.
    Disconnect { network: String, container: String },
    /// Put a container on a network.
    Connect { network: String, container: String, service: String },
    /// Remove a network.
    RemoveNetwork { name: String },
    /// Make a volume of the stack.
    CreateVolume { key: String, name: String },
    /// Remove a volume and what is on it. Only where that was asked for.
    RemoveVolume { name: String },
    /// Make a container, under a temporary name while its predecessor has the final one.
    /// `inherits`: the container whose anonymous volumes it takes over.
    CreateContainer {
        service: String,
        number: u32,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inherits: Option<String>,
    },
    /// Start a container.
    StartContainer { service: String, container: String },
    /// Stop a container, with the grace that it was made with.
    StopContainer { service: String, container: String },
    /// Remove a container; its anonymous volumes stay where another has taken them over.
    RemoveContainer {
        service: String,
        container: String,
        #[serde(default)]
        volumes: bool,
    },
    /// Give a container its final name.
    RenameContainer { service: String, container: String, name: String },
    /// Restart a container whose dependency was replaced.
    RestartContainer { service: String, container: String },
    /// Wait until a service's containers are so far.
    Wait { service: String, until: crate::model::Condition },
}

impl Plan {
    /// All is as it shall be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
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
            Self::Connect { network, container, .. } => {
                write!(f, "connect {container} to network {network}")
            }
            Self::RemoveNetwork { name } => write!(f, "remove network {name}"),
            Self::CreateVolume { name, .. } => write!(f, "create volume {name}"),
            Self::RemoveVolume { name } => write!(f, "REMOVE VOLUME {name} and what is on it"),
            Self::CreateContainer { name, .. } => write!(f, "create container {name}"),
            Self::StartContainer { container, .. } => write!(f, "start container {container}"),
            Self::StopContainer { container, .. } => write!(f, "stop container {container}"),
            Self::RemoveContainer { container, .. } => write!(f, "remove container {container}"),
            Self::RenameContainer { container, name, .. } => {
                write!(f, "rename container {container} to {name}")
            }
            Self::RestartContainer { container, .. } => write!(f, "restart container {container}"),
            Self::Wait { service, until } => {
                use crate::model::Condition::{Completed, Healthy, Started};
                let until = match until {
                    Started => "runs",
                    Healthy => "is healthy",
                    Completed => "has completed",
                };
                write!(f, "wait until {service} {until}")
            }
        }
    }
}
