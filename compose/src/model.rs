//! A stack as it shall be: every file merged, every variable put in, every short form
//! written out, profiles applied, files read.
//!
//! It is what a release is rendered to for one environment, and all that an agent needs.
//! Its JSON is canonical: maps are sorted, and what is absent is left out, so that equal
//! stacks have equal bytes.
//!
//! Units: sizes are bytes, durations nanoseconds (as the Engine has them), processor time
//! billionths of a core. Source of the vocabulary: the Compose specification.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod life;
mod service;

pub use life::{
    Deploy, FailureAction, HealthTest, Healthcheck, Hook, Logging, Order, PullPolicy, Restart,
    UpdateConfig,
};
pub use service::{
    Blkio, BlkioRate, BlkioWeight, Condition, Dependency, DeviceMapping, DeviceRequest, FileMount,
    Mount, MountKind, NetworkAttachment, Port, Resources, Service, ServiceScope, Ulimit,
};

/// A stack: Compose calls it a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The project's name: lower case letters, digits, `-` and `_`.
    pub name: String,
    /// By service name. Those whose profile is not active are not here.
    pub services: BTreeMap<String, Service>,
    /// By key. Only those that a service is attached to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, Network>,
    /// By key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Volume>,
    /// What `configs` and `secrets` of services, and bind mounts of files that ship with the
    /// release, refer to, by [`FileMount::source`] and [`Mount::source`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Shipped>,
}

/// A network of the stack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// As the Engine shall know it: `PROJECT_KEY` where the file gives no `name`.
    pub name: String,
    /// Not ours: it has to exist, and is never made or removed.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// Such as `bridge`; the Engine's default where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// No way out.
    #[serde(skip_serializing_if = "is_false")]
    pub internal: bool,
    /// Containers of other stacks may attach.
    #[serde(skip_serializing_if = "is_false")]
    pub attachable: bool,
    /// IPv6 addresses as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// IPv4 addresses; `false` needs API 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Address management: `driver`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipam_driver: Option<String>,
    /// Address management: `options`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ipam_options: BTreeMap<String, String>,
    /// Address management: `config`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ipam_config: Vec<IpamPool>,
    /// The author's labels; those of Compose are added by the plan.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One pool of addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpamPool {
    /// In CIDR form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The part of it that containers get addresses from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Addresses of others, by host name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, String>,
}

/// A named volume of the stack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// As the Engine shall know it: `PROJECT_KEY` where the file gives no `name`.
    pub name: String,
    /// Not ours: it has to exist, and is never made or removed.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// Such as `local`; the Engine's default where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// The author's labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What ships inside the release and ends up in containers: a file, a folder of them, the
/// content of a config or a secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Shipped {
    /// A file's bytes, by their digest (`sha256:…`), which travel apart.
    File {
        /// `sha256:` and 64 hex digits.
        digest: String,
        /// Bytes.
        size: u64,
        /// Permission bits as on the author's machine, such as `0o644`.
        mode: u32,
    },
    /// A folder: relative path, with `/`, to file.
    Folder {
        /// No `..`, no leading `/`.
        entries: BTreeMap<String, Self>,
    },
    /// Text that is in the model itself: `content`, `environment`.
    Text {
        /// What is written.
        text: String,
    },
    /// A secret: its value never stands in a release. It is looked up by name among the
    /// secret variables of the assignment, and put in on its way to the agent.
    Secret {
        /// The variable's name.
        variable: String,
    },
}

impl std::fmt::Debug for Shipped {
    /// Content is left out: it may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { digest, size, mode } => f
                .debug_struct("File")
                .field("digest", digest)
                .field("size", size)
                .field("mode", mode)
                .finish(),
            Self::Folder { entries } => f.debug_struct("Folder").field("entries", entries).finish(),
            Self::Text { text } => write!(f, "Text({} bytes)", text.len()),
            Self::Secret { variable } => write!(f, "Secret({variable})"),
        }
    }
}

/// For what is left out of JSON where it is not so.
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}
