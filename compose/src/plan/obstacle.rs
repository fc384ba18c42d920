//! Why there can be no plan. Nothing is touched then.

use super::spec::Unsupported;

/// One reason, for a person: what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "fields are what they are called")]
pub enum Obstacle {
    /// The Engine is too old for an attribute.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// An external network or volume is not there.
    #[error(
        "external {kind} {name} (key {key}) does not exist on this host: create it first, \
             or take `external` out so that the stack makes it"
    )]
    Missing {
        kind: &'static str,
        key: String,
        name: String,
    },
    /// A network that the stack would make is there and is another's.
    #[error(
        "network {name} exists and does not belong to stack {stack}: declare it \
             `external: true`, or give this one another `name`"
    )]
    NotOurs { name: String, stack: String },
    /// A network has to be made anew, and somebody else is on it.
    #[error(
        "network {name} has to be made anew, and container {container}, which is not of \
             this stack's release, is attached to it: disconnect that first"
    )]
    NetworkInUse { name: String, container: String },
    /// A container's name is another's.
    #[error(
        "service {service}: the name {name} belongs to a container that is not of this \
             stack's release: remove that, or choose another `container_name`"
    )]
    NameTaken { service: String, name: String },
    /// Two containers of the stack would have one name.
    #[error(
        "service {service}: more than one container would be called {name}: scale it to 1, \
             or take `container_name` out"
    )]
    NameTwice { service: String, name: String },
    /// Two containers of the stack would publish one port of the host.
    #[error(
        "service {service}: port {port} of the host is published twice (also by {other}): \
             publish a range, no fixed port, or scale the service to 1"
    )]
    PortTwice {
        service: String,
        other: String,
        port: String,
    },
    /// Two containers of the stack would have one fixed address.
    #[error(
        "service {service}: address {address} is given twice (also to {other}): give another \
             one, none, or scale the service to 1"
    )]
    AddressTwice {
        service: String,
        other: String,
        address: String,
    },
    /// A port of the host is held by a container that stays.
    #[error(
        "service {service}: port {port} of the host is held by container {container}, which \
             is of no service of the release: allow orphans to be removed, or stop it"
    )]
    PortTaken {
        service: String,
        port: String,
        container: String,
    },
    /// Somebody waits for the health of a service that has no check.
    #[error(
        "service {dependent} waits until {service} is healthy, and {service} has no health \
             check: give it one, or wait for `service_started`"
    )]
    NoCheck { service: String, dependent: String },
    /// More containers of one service than any host should run.
    #[error(
        "service {service}: {replicas} containers are more than the {} that are possible: scale \
             it down",
        super::REPLICAS_MAX
    )]
    TooMany { service: String, replicas: u32 },
    /// An image that may not be pulled is not there.
    #[error(
        "service {service}: image {image} is not on this host, and `pull_policy: never` \
             forbids to pull it: load it first, or change the policy"
    )]
    NoImage { service: String, image: String },
    /// Services that wait for each other.
    #[error("services depend on each other in a circle: {}", services.join(", "))]
    Circle { services: Vec<String> },
}
