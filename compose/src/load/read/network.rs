//! Networks: those of the stack, and how a service is on them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{interpolate::Findings, spot::Spot};
use crate::model::{IpamPool, Network, NetworkAttachment, Service, ServiceScope};

/// The network that a service is on where it names none.
const DEFAULT: &str = "default";

/// `networks` of a service; `default` where neither they nor a mode are given.
pub(super) fn attachments(
    spot: &Spot<'_>,
    out: &mut Findings,
) -> BTreeMap<String, NetworkAttachment> {
    let mut attached = BTreeMap::new();
    let has_mode = spot.get("network_mode").is_some();
    if let Some(networks) = spot.get("networks") {
        if networks.is_list() {
            for item in networks.items() {
                if let Some(name) = item.open_text(out) {
                    attached.insert(name, NetworkAttachment::default());
                }
            }
        } else if networks.need_map(out) {
            for (name, network) in networks.entries() {
                attached.insert(name.to_owned(), attachment(&network, out));
            }
        }
        if has_mode && !attached.is_empty() {
            let message = "cannot stand beside network_mode";
            out.refuse(networks.problem(message, "Take one of them out"));
        }
    }
    if attached.is_empty() && !has_mode {
        attached.insert(DEFAULT.to_owned(), NetworkAttachment::default());
    }
    attached
}

fn attachment(spot: &Spot<'_>, out: &mut Findings) -> NetworkAttachment {
    if !spot.need_map(out) {
        return NetworkAttachment::default();
    }
    let mut text = |key: &str| {
        let child = spot.get(key)?;
        child.text(out)
    };
    let (ipv4_address, ipv6_address) = (text("ipv4_address"), text("ipv6_address"));
    let (mac_address, interface_name) = (text("mac_address"), text("interface_name"));
    for (key, address, is_right) in [
        ("ipv4_address", &ipv4_address, is_v4 as fn(&str) -> bool),
        ("ipv6_address", &ipv6_address, is_v6),
    ] {
        if let (Some(address), Some(spot)) = (address, spot.get(key))
            && !is_right(address)
        {
            out.refuse(spot.problem(format!("{address:?} is no such address"), ""));
        }
    }
    let priority = spot
        .get("priority")
        .and_then(|spot| spot.int(i64::MIN, i64::MAX, out));
    let aliases = spot.get("aliases").map(|spot| spot.texts(out));
    let link_local_ips = spot.get("link_local_ips").map(|spot| spot.texts(out));
    NetworkAttachment {
        aliases: aliases.unwrap_or_default(),
        ipv4_address,
        ipv6_address,
        link_local_ips: link_local_ips.unwrap_or_default(),
        mac_address,
        priority: priority.unwrap_or_default(),
        gw_priority: spot
            .get("gw_priority")
            .and_then(|s| s.int(i64::MIN, i64::MAX, out)),
        interface_name,
        driver_opts: spot
            .get("driver_opts")
            .map(|s| s.filled_pairs(out))
            .unwrap_or_default(),
    }
}

fn is_v4(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok()
}

fn is_v6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Somebody else's namespace, or a mode. `modes` empty: any.
pub(super) fn scope(spot: &Spot<'_>, modes: &[&str], out: &mut Findings) -> Option<ServiceScope> {
    let text = spot.open_text(out)?;
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    let read = if let Some(name) = text.strip_prefix("service:") {
        named(name).map(ServiceScope::Service)
    } else if let Some(name) = text.strip_prefix("container:") {
        named(name).map(ServiceScope::Container)
    } else if modes.is_empty() || modes.contains(&text.as_str()) {
        named(&text).map(ServiceScope::Mode)
    } else {
        None
    };
    if read.is_none() {
        let message = format!("{text:?} is not known here");
        let help = format!("Write service:NAME, container:NAME or {}", modes.join(", "));
        out.refuse(spot.problem(message, help));
    }
    read
}

/// The networks that a service is on.
pub(super) fn networks(
    top: &Spot<'_>,
    services: &BTreeMap<String, Service>,
    project: &str,
    out: &mut Findings,
) -> BTreeMap<String, Network> {
    let used: BTreeSet<&String> = services.values().flat_map(|s| s.networks.keys()).collect();
    let mut networks = BTreeMap::new();
    if let Some(all) = top.get("networks") {
        all.need_map(out);
        for (key, spot) in all.entries() {
            let read = network(key, &spot, project, out);
            if used.contains(&key.to_owned()) {
                networks.insert(key.to_owned(), read);
            }
        }
    }
    for key in used {
        if networks.contains_key(key) {
            continue;
        }
        if key == DEFAULT {
            let name = format!("{project}_{DEFAULT}");
            networks.insert(
                DEFAULT.to_owned(),
                Network {
                    name,
                    ..Network::default()
                },
            );
            continue;
        }
        let user = services
            .iter()
            .find(|(_, service)| service.networks.contains_key(key));
        let user = user.map_or("", |(name, _)| name);
        refuse_undefined(top, user, "networks", key, out);
    }
    networks
}

/// A service names something that the top level does not have.
pub(super) fn refuse_undefined(
    top: &Spot<'_>,
    service: &str,
    section: &str,
    key: &str,
    out: &mut Findings,
) {
    let services = top.get("services");
    let spot = services.as_ref().and_then(|services| services.get(service));
    let named = spot.as_ref().and_then(|spot| spot.get(section));
    let at = named.or(spot).unwrap_or(*top);
    let message = format!("{key} is not under {section}: at the top level");
    out.refuse(at.problem(
        message,
        format!("Write {section}: there, and {key}: below it"),
    ));
}

fn network(key: &str, spot: &Spot<'_>, project: &str, out: &mut Findings) -> Network {
    spot.need_map(out);
    let (name, external) = identity(key, spot, project, out);
    let mut text = |spot: &Spot<'_>, key: &str| {
        let child = spot.get(key)?;
        child.text(out)
    };
    let driver = text(spot, "driver");
    let ipam = spot.get("ipam");
    let ipam_driver = ipam.as_ref().and_then(|ipam| text(ipam, "driver"));
    let mut network = Network {
        name,
        external,
        driver,
        ipam_driver,
        driver_opts: spot
            .get("driver_opts")
            .map(|s| s.filled_pairs(out))
            .unwrap_or_default(),
        internal: flag(spot, "internal", out).unwrap_or_default(),
        attachable: flag(spot, "attachable", out).unwrap_or_default(),
        enable_ipv4: flag(spot, "enable_ipv4", out),
        enable_ipv6: flag(spot, "enable_ipv6", out),
        labels: spot
            .get("labels")
            .map(|s| s.filled_pairs(out))
            .unwrap_or_default(),
        ..Network::default()
    };
    if let Some(ipam) = &ipam {
        ipam.need_map(out);
        network.ipam_options = ipam
            .get("options")
            .map(|s| s.filled_pairs(out))
            .unwrap_or_default();
        if let Some(config) = ipam.get("config") {
            config.need_list(out);
            network.ipam_config = config.items().map(|item| pool(&item, out)).collect();
        }
    }
    network
}

fn pool(spot: &Spot<'_>, out: &mut Findings) -> IpamPool {
    spot.need_map(out);
    let mut text = |key: &str| {
        let child = spot.get(key)?;
        child.open_text(out)
    };
    let (subnet, ip_range, gateway) = (text("subnet"), text("ip_range"), text("gateway"));
    for cidr in [&subnet, &ip_range].into_iter().flatten() {
        let is_cidr = cidr.split_once('/').is_some_and(|(address, bits)| {
            let most = match address.parse::<std::net::IpAddr>() {
                Ok(std::net::IpAddr::V4(_)) => 32,
                Ok(std::net::IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            bits.parse::<u8>().is_ok_and(|bits| bits <= most)
        });
        if !is_cidr {
            let help = "Write it as 10.0.0.0/24";
            out.refuse(spot.problem(format!("{cidr:?} is no subnet"), help));
        }
    }
    IpamPool {
        subnet,
        ip_range,
        gateway,
        aux_addresses: spot
            .get("aux_addresses")
            .map(|s| s.filled_pairs(out))
            .unwrap_or_default(),
    }
}

pub(super) fn flag(spot: &Spot<'_>, key: &str, out: &mut Findings) -> Option<bool> {
    let child = spot.get(key)?;
    child.bool(out)
}

/// The name that the Engine shall know, and whether the thing is somebody else's.
pub(super) fn identity(
    key: &str,
    spot: &Spot<'_>,
    project: &str,
    out: &mut Findings,
) -> (String, bool) {
    let mut name = spot.get("name").and_then(|spot| spot.open_text(out));
    let mut external = false;
    if let Some(spot) = spot.get("external") {
        if spot.is_map() {
            external = true;
            let inner = spot.get("name").and_then(|spot| spot.open_text(out));
            let message = "external with a name inside is the old form";
            out.warn(spot.problem(message, "Write external: true, and name: beside it"));
            if name.is_some() && inner.is_some() && name != inner {
                let message = "has another name than the network or volume itself";
                out.refuse(spot.problem(message, "Take one of them out"));
            }
            name = inner.or(name);
        } else {
            external = spot.bool(out).unwrap_or_default();
        }
    }
    if external {
        let known = ["name", "external"];
        let entries = spot.entries().filter(|(key, entry)| {
            !known.contains(key) && !key.starts_with("x-") && !entry.node.is_null()
        });
        for (key, entry) in entries {
            let message = format!("{key} cannot stand beside external: true");
            out.refuse(entry.problem(message, "It is not ours to change: take it out"));
        }
    }
    let name = name.unwrap_or_else(|| match external {
        true => key.to_owned(),
        false => format!("{project}_{key}"),
    });
    (name, external)
}
