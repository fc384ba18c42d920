//! What relay and agent say to each other about stacks: JSON over HTTP/1.1, on streams of the
//! session with the target `stacks`. The agent is the server.
//!
//! | request | meaning |
//! |---|---|
//! | `PUT /v1/stacks/NAME` [`Assignment`] | run this from now on → 200 [`Accepted`]; 409 [`Refused`] where a later one is known |
//! | `POST /v1/plan` [`Assignment`] | what it would do → 200 [`Plan`](crate::plan::Plan); nothing is kept |
//! | `POST /v1/stacks/NAME/cancel` | end what is going on, and go back → 204 |
//! | `POST /v1/stacks/NAME/restart?service=S` | restart containers → 204 |
//! | `GET /v1/stacks/NAME/logs?service=S&tail=N&follow=BOOL` | lines of [`LogLine`] |
//! | `GET /v1/follow` | lines of [`Update`]: first all there is, then what changes, for ever |
//! | `GET /v1/blobs/DIGEST` | → 200 [`BlobState`] |
//! | `PUT /v1/blobs/DIGEST?offset=N&size=N` | bytes from there on → 200 [`BlobState`]; 409 [`Refused`] where the agent has another number of them |
//! | `POST /v1/images/needed` [`ImageLoad`] | which of its blobs have to be sent → 200 [`Accepted`] |
//! | `POST /v1/images` [`ImageLoad`] | put an image of blobs into the Engine → 200 [`ImageLoaded`] |
//! | `POST /v1/images/refused` [`ImageRefused`] | the relay cannot send a wanted image → 204 |
//!
//! Other answers are 4xx and 5xx with a [`Refused`]. A connection serves one request after
//! another. Times are milliseconds since 1970 by the agent's clock.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::model::Stack;

/// The most that a request or an answer without a stream may be. 8 MiB: a stack of a few
/// hundred services with inline configs.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most that one request may carry of a blob.
pub const BLOB_PART_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest line of a stream of lines.
pub const LINE_BYTES_MAX: usize = DOCUMENT_BYTES_MAX;

/// What an environment shall run of one stack, from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Counts up for every environment and stack, never twice with different content: the
    /// highest wins, and the same again changes nothing.
    pub number: u64,
    /// The stack's name.
    pub stack: String,
    /// Who wants it, in the relay's words: for the audit log on the customer's host.
    #[serde(default)]
    pub author: String,
    /// What for.
    pub desired: Desired,
    /// Values of secret variables, by name. See [`secret`](crate::load::secret).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretText>,
    /// How to log in to registries, by host. Used for pulls of this assignment; kept in memory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registries: BTreeMap<String, RegistryLogin>,
    /// What each image reference stands for, where that is known: `sha256:…` of its manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<String, String>,
    /// After so many seconds without being done, what was begun is taken back.
    pub deadline_seconds: u32,
    /// Also remove containers of this project that another tool made for services which are
    /// not in the release. Those that Sternline made go in any case.
    #[serde(default)]
    pub remove_foreign_orphans: bool,
    /// Replace every container, changed or not.
    #[serde(default)]
    pub force_recreate: bool,
}

/// See [`Assignment`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// This release.
    Run {
        /// Names it for people and reports.
        release: String,
        /// What it is, rendered for this environment.
        stack: Box<Stack>,
    },
    /// Nothing.
    Absent {
        /// Its volumes go as well.
        volumes: bool,
    },
}

/// A value that is shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// How to log in to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The account.
    pub user: String,
    /// Its password or token.
    pub password: SecretText,
}

/// The agent has taken an assignment, and will run it once it has these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Digests of shipped files that it does not have.
    pub missing: Vec<String>,
}

/// How much of a blob the agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobState {
    /// Bytes that are kept: where to go on.
    pub received: u64,
    /// All of them, and their digest is right.
    pub complete: bool,
}

/// An image that the Engine cannot pull, and that the relay is asked to send.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WantedImage {
    /// What it is called.
    pub reference: String,
    /// The digest of its manifest, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// For which system, such as `linux/amd64`.
    pub platform: String,
}

/// The relay cannot send an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRefused {
    /// What it is called.
    pub reference: String,
    /// Why, for a person.
    pub reason: String,
}

/// An image made of blobs that the agent has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLoad {
    /// What it shall be called.
    pub reference: String,
    /// The digest of its manifest.
    pub manifest: String,
    /// The image's configuration, a blob.
    pub config: String,
    /// Its layers, bottom first: blobs, compressed or not.
    pub layers: Vec<String>,
}

/// The Engine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLoaded {
    /// Its id in the Engine.
    pub id: String,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Stable, for programs: `stale`, `policy`, `invalid`, `engine`, `not_found`, `too_large`,
    /// `disk_full`, `internal`.
    pub code: String,
    /// For a person: what, and what to do.
    pub reason: String,
    /// Each rule or mistake, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// One line of `/v1/follow`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// All there is; replaces what was known.
    Snapshot {
        /// Every stack that the agent has something of.
        stacks: Vec<StackReport>,
    },
    /// One stack, whole: it has changed.
    Stack(Box<StackReport>),
    /// A stack that is no more.
    Gone {
        /// Its name.
        stack: String,
    },
    /// What is going on, in numbers that change fast.
    Progress(Progress),
    /// Nothing has changed.
    Alive,
}

/// A stack as the agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackReport {
    /// Its name.
    pub stack: String,
    /// The last assignment that was taken; 0 for what another tool runs.
    pub assignment: u64,
    /// The release that the last assignment is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The release that was last found well, and is gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<String>,
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since_ms: u64,
    /// When what is going on will be taken back if it is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Why it is not as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// By name, those of the release and those that are there without being in it.
    pub services: BTreeMap<String, ServiceReport>,
    /// Networks of the stack that are there, by their names in the Engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Volumes of the stack that are there, by their names in the Engine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// What somebody has changed by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
    /// What each image reference turned out to be: reference to digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// How many operations the last deployment took.
    #[serde(default)]
    pub operations: u32,
    /// Images that the Engine cannot pull, and the relay is asked to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted_images: Vec<WantedImage>,
}

/// How far a stack is with its assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Taken; shipped files are still missing.
    Receiving,
    /// Images are being pulled.
    Pulling,
    /// Operations are being done.
    Applying,
    /// All is done, and it is watched for its monitor window.
    Verifying,
    /// Well: what was asked for runs.
    Committed,
    /// Going back to the last committed release.
    Reverting,
    /// The last committed release runs again.
    Reverted,
    /// Neither: see the cause. Nothing is going on.
    Failed,
    /// Nothing was touched: the policy or the Engine does not allow it.
    Refused,
    /// Going away.
    Removing,
    /// Not ours; another tool runs it.
    Foreign,
}

impl Phase {
    /// Nothing will change without a further assignment or event.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Committed | Self::Reverted | Self::Failed | Self::Refused | Self::Foreign
        )
    }
}

/// Why a deployment did not end as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Stable, for programs: `unhealthy`, `exited`, `pull_failed`, `policy`, `engine`, `deadline`,
    /// `cancelled`, `invalid`, `interrupted`, `disk_full`.
    pub code: String,
    /// Which service, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// One line for a person: what happened and what to do.
    pub line: String,
    /// The last output of the check or the container, or further lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// A service as the agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// How many containers the release wants; 0 for one that is not in it.
    pub desired: u32,
    /// Is it as it shall be?
    pub state: ServiceState,
    /// Why not, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The image as the release has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Its containers, by number.
    pub containers: Vec<ContainerReport>,
}

/// See [`ServiceReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Running, and healthy where it has a check; or completed, where that is its job.
    Ok,
    /// On its way.
    Starting,
    /// Not as it shall be.
    Bad,
    /// Not in the release.
    Orphan,
}

/// A container as the Engine has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Its name.
    pub name: String,
    /// The first twelve digits of its id.
    pub id: String,
    /// Which of the service's.
    pub number: u32,
    /// The Engine's word: `created`, `running`, `paused`, `restarting`, `exited`, `dead`.
    pub state: String,
    /// The Engine's word, where it has a check: `starting`, `healthy`, `unhealthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Of the last run, where it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// How often the Engine has started it again.
    #[serde(default)]
    pub restarts: u64,
    /// When it was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// Id of its image in the Engine.
    #[serde(default)]
    pub image_id: String,
    /// What it uses, where that has been measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Cores, over the last interval.
    pub cpu_cores: f64,
    /// Bytes, without the page cache.
    pub memory_bytes: u64,
    /// The limit, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
}

/// One field of one container, network or volume that is not as the committed release has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Which service.
    pub service: String,
    /// Which container, network or volume.
    pub subject: String,
    /// The field, such as `environment.LEVEL`.
    pub field: String,
    /// What the release says.
    pub desired: String,
    /// What is there.
    pub observed: String,
}

/// What is going on, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The stack.
    pub stack: String,
    /// What it is about: an image reference, or a step in words.
    pub subject: String,
    /// The layer, where it is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Such as `downloading`, `extracting`, `done`; or of a step `begun`, `done`.
    pub state: String,
    /// How much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// Of how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Which service.
    pub service: String,
    /// Which container.
    pub container: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// As the Engine has it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Without its line feed; bytes that are not UTF-8 are replaced.
    pub text: String,
}
