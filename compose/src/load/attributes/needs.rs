//! What a stack needs of an Engine that older ones do not have.

use crate::model::{MountKind, Service, Stack};

/// An attribute that is used, and the version of the API that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Such as `services.web.healthcheck.start_interval`.
    pub path: String,
    /// Such as (1, 44).
    pub api: (u32, u32),
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor) = self.api;
        write!(
            f,
            "{} needs a Docker Engine with API {major}.{minor}",
            self.path
        )
    }
}

/// Everything in a stack that an Engine of API 1.41, the oldest supported, may not have.
#[must_use]
pub fn needs(stack: &Stack) -> Vec<Need> {
    let mut found = Vec::new();
    for (key, network) in &stack.networks {
        if network.enable_ipv4 == Some(false) {
            add(&mut found, &format!("networks.{key}"), "enable_ipv4", 48);
        }
    }
    for (name, service) in &stack.services {
        of_service(&format!("services.{name}"), service, &mut found);
    }
    found
}

fn add(found: &mut Vec<Need>, at: &str, attribute: &str, minor: u32) {
    found.push(Need {
        path: format!("{at}.{attribute}"),
        api: (1, minor),
    });
}

fn of_service(at: &str, service: &Service, found: &mut Vec<Need>) {
    if !service.annotations.is_empty() {
        add(found, at, "annotations", 43);
    }
    let check = service.healthcheck.as_ref();
    if check.is_some_and(|check| check.start_interval.is_some()) {
        add(found, at, "healthcheck.start_interval", 44);
    }
    for (key, network) in &service.networks {
        let at = format!("{at}.networks.{key}");
        if network.mac_address.is_some() {
            add(found, &at, "mac_address", 44);
        }
        if network.gw_priority.is_some() {
            add(found, &at, "gw_priority", 48);
        }
        if network.interface_name.is_some() {
            add(found, &at, "interface_name", 49);
        }
    }
    for (index, mount) in service.mounts.iter().enumerate() {
        let at = format!("{at}.volumes[{index}]");
        if mount.kind == MountKind::Image {
            add(found, &at, "image", 48);
        } else if mount.subpath.is_some() {
            add(found, &at, "volume.subpath", 45);
        }
        let recursive = mount.recursive.as_deref();
        if recursive.is_some_and(|recursive| recursive != "enabled") {
            add(found, &at, "bind.recursive", 44);
        }
    }
    for (index, device) in service.devices.iter().enumerate() {
        if is_cdi(&device.source) {
            add(found, at, &format!("devices[{index}]"), 44);
        }
    }
}

/// `vendor.com/class=name`, and no path.
fn is_cdi(source: &str) -> bool {
    !source.starts_with('/') && source.contains('/') && source.contains('=')
}
