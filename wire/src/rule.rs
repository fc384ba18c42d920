//! What a customer's policy refuses by: each kind by the key that would allow it. Closed,
//! so that both ends count the same ones.

use std::fmt;

macro_rules! rules {
    ($( $(#[$doc:meta])* $variant:ident = $text:literal; )+) => {
        /// The key of the policy that refuses something.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $( $(#[$doc])* $variant, )+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$( Self::$variant, )+];

            /// The key, in messages, in the record and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }
    };
}

rules! {
    /// How far the vendor may go with the Engine; requests that nobody knows.
    Access = "docker.access";
    /// Paths of the host.
    BindMounts = "docker.bind_mounts";
    /// Images that come from no registry.
    Build = "docker.build";
    /// Capabilities.
    Capabilities = "docker.capabilities";
    /// Devices.
    Devices = "docker.devices";
    /// Commands in running containers.
    Exec = "docker.exec";
    /// Files of containers, and whole images.
    Files = "docker.files";
    /// Namespaces of the host.
    HostNamespaces = "docker.host_namespaces";
    /// Log drivers.
    LogDrivers = "docker.log_drivers";
    /// What cannot be judged after it has begun.
    OpaqueUpgrades = "docker.opaque_upgrades";
    /// Ports of the host.
    Ports = "docker.ports";
    /// Walls of a container.
    Privileged = "docker.privileged";
    /// Registries.
    Registries = "docker.registries";
    /// Volumes of other containers.
    VolumesFrom = "docker.volumes_from";
    /// Requests that readers could understand in two ways; no key allows them.
    Request = "request";
    /// How many streams.
    Limits = "limits";
    /// Addresses that must be named.
    Named = "targets.named";
    /// TCP targets.
    Targets = "targets.tcp";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
