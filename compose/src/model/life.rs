//! A service over its time: how it is fetched, checked, changed, ended and brought back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_false;

/// What brings a container back that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// `no`, and where nothing is said.
    #[default]
    No,
    /// Whatever its exit code.
    Always,
    /// The same, but not after it was stopped.
    UnlessStopped,
    /// With another exit code than 0, so many times (0: without end).
    OnFailure {
        /// How often.
        max_retries: u32,
    },
}

/// How the Engine asks whether a container is well. Durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Healthcheck {
    /// What is run.
    pub test: HealthTest,
    /// Between two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// Of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// So many failures in a row are unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
    /// During which a failure does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two during it. Needs API 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
}

/// See [`Healthcheck`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// The image's own, with other times.
    #[default]
    Inherit,
    /// `disable: true`, or `NONE`: not even the image's.
    Disabled,
    /// `CMD`: program and arguments.
    Command(Vec<String>),
    /// `CMD-SHELL`: a line for the shell.
    Shell(String),
}

/// Where output goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// The Engine's default where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Where the Engine does not have it.
    #[default]
    Missing,
    /// At every deployment.
    Always,
    /// Not at all.
    Never,
    /// Where the Engine's is older than so many seconds: `daily`, `weekly`, `every_…`.
    Older {
        /// Seconds.
        seconds: u64,
    },
}

/// How a change is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// Of a new release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateConfig>,
    /// Of going back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<UpdateConfig>,
}

impl Deploy {
    /// Nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `update_config` or `rollback_config`. Durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Containers at a time; 0: all of them. 1 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Between two batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<i64>,
    /// Where a container fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_action: Option<FailureAction>,
    /// How long after its start a container that fails counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<i64>,
    /// Share of failures that is borne, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failure_ratio: Option<f64>,
    /// Which goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// What follows where an update fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// Go on with the next.
    Continue,
    /// Back to the last committed release; also where nothing is said.
    Rollback,
    /// Stay as it is, and say so.
    Pause,
}

/// Whether the old container goes before the new one comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `start-first`.
    StartFirst,
    /// `stop-first`.
    StopFirst,
}

/// A command inside a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Another user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With everything of the host.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// On top of the container's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<String>>,
}
