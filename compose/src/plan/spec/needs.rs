//! What needs a newer Engine than there is. Source: the version history of the Engine's API.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::host;
use crate::model::{Mount, MountKind, Service};

/// An attribute that this Engine cannot honour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Unsupported {
    /// Which service.
    pub service: String,
    /// Which attribute of it, as the Compose file calls it.
    pub attribute: String,
    /// The first version of the API that has it, such as `1.44`; or, where it is not a matter
    /// of the version, what it needs in words.
    pub needs: String,
    /// The version of the API that is spoken.
    pub has: String,
}

impl Unsupported {
    pub(super) fn absent(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            attribute: "services".to_owned(),
            needs: "a service of this name in the release".to_owned(),
            has: String::new(),
        }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            attribute,
            needs,
            has,
        } = self;
        if !needs.starts_with("1.") {
            return write!(f, "service {service}: {attribute} needs {needs}");
        }
        write!(
            f,
            "service {service}: {attribute} needs Docker {} (API {needs}), and this Engine \
             speaks API {has}: update Docker, or take the attribute out",
            release(needs)
        )
    }
}

/// The release of Docker that brought a version of the API.
fn release(api: &str) -> &'static str {
    match api {
        "1.42" => "23.0",
        "1.43" => "24.0",
        "1.44" => "25.0",
        "1.45" => "26.0",
        "1.46" => "27.0",
        "1.47" => "27.3",
        "1.48" => "28.0",
        "1.49" => "28.1",
        _ => "of a later release",
    }
}

/// All that a service asks for and this version of the API does not have.
#[must_use]
pub fn unsupported(name: &str, service: &Service, api: (u32, u32)) -> Vec<Unsupported> {
    let mut found = Vec::new();
    let mut need = |asked: bool, minor: u32, attribute: &str| {
        if asked && api < (1, minor) {
            found.push(Unsupported {
                service: name.to_owned(),
                attribute: attribute.to_owned(),
                needs: format!("1.{minor}"),
                has: format!("{}.{}", api.0, api.1),
            });
        }
    };
    let check = service.healthcheck.as_ref();
    let start_interval = check.is_some_and(|check| check.start_interval.is_some());
    need(start_interval, 44, "healthcheck.start_interval");
    need(!service.annotations.is_empty(), 43, "annotations");
    need(service.mac_address.is_some(), 44, "mac_address");
    let cdi = service
        .devices
        .iter()
        .any(|device| host::is_cdi(&device.source))
        || service
            .device_requests
            .iter()
            .any(|r| r.driver.as_deref() == Some("cdi"));
    need(cdi, 44, "devices (of the container device interface)");
    for (network, attachment) in &service.networks {
        let attribute = |field| format!("networks.{network}.{field}");
        need(
            attachment.mac_address.is_some(),
            44,
            &attribute("mac_address"),
        );
        need(
            attachment.gw_priority.is_some(),
            48,
            &attribute("gw_priority"),
        );
        need(
            attachment.interface_name.is_some(),
            49,
            &attribute("interface_name"),
        );
    }
    for mount in &service.mounts {
        let target = &mount.target;
        let recursive = matches!(mount.recursive.as_deref(), Some("writable" | "readonly"));
        need(recursive, 44, &format!("volumes {target}: bind.recursive"));
        let made = mount.create_host_path && mount.recursive.is_some();
        need(
            made,
            42,
            &format!("volumes {target}: bind.create_host_path with recursive"),
        );
        let image = mount.kind == MountKind::Image;
        need(image, 48, &format!("volumes {target}: type image"));
        let subpath = mount.kind == MountKind::Volume && mount.subpath.is_some();
        need(subpath, 45, &format!("volumes {target}: volume.subpath"));
    }
    found.extend(
        service
            .mounts
            .iter()
            .filter_map(|mount| elsewhere(name, mount)),
    );
    found
}

/// Kinds of mounts that no Engine on one Linux host has.
fn elsewhere(service: &str, mount: &Mount) -> Option<Unsupported> {
    let (kind, needs) = match mount.kind {
        MountKind::Npipe => ("npipe", "Windows: use a bind or a volume"),
        MountKind::Cluster => ("cluster", "a Swarm cluster: use a volume"),
        _ => return None,
    };
    Some(Unsupported {
        service: service.to_owned(),
        attribute: format!("volumes {}: type {kind}", mount.target),
        needs: needs.to_owned(),
        has: String::new(),
    })
}
