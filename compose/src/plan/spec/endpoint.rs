//! How a container is on its networks.

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::{container_name, filled, filled_map};
use crate::{
    model::{NetworkAttachment, Service, Stack},
    plan::REPLICAS_MAX,
};

/// The first version of the API that takes more than one network at once.
const SEVERAL_NETWORKS: (u32, u32) = (1, 44);
/// How drivers are told the name of the interface.
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// Every network of the service by its name in the Engine: by priority, then by key.
pub(super) fn all(
    stack: &Stack,
    name: &str,
    service: &Service,
    container: &str,
) -> Vec<(String, EndpointSettings)> {
    let mut keys: Vec<_> = service.networks.iter().collect();
    keys.sort_by_key(|(key, attachment)| (-attachment.priority, (*key).clone()));
    let mut all: Vec<_> = keys
        .into_iter()
        .map(|(key, attachment)| {
            let network = stack
                .networks
                .get(key)
                .map_or_else(|| key.clone(), |n| n.name.clone());
            let mut settings = settings(attachment, (name, container));
            settings.links = links(stack, service, key);
            (network, settings)
        })
        .collect();
    if let (Some(mac), Some((_, first))) = (&service.mac_address, all.first_mut()) {
        first.mac_address.get_or_insert_with(|| mac.clone());
    }
    all
}

/// What of it goes into the request that makes the container.
pub(super) fn in_body(
    networks: &[(String, EndpointSettings)],
    api: (u32, u32),
) -> Option<NetworkingConfig> {
    let count = if api >= SEVERAL_NETWORKS {
        networks.len()
    } else {
        1
    };
    let endpoints: HashMap<_, _> = networks.iter().take(count).cloned().collect();
    (!endpoints.is_empty()).then_some(NetworkingConfig {
        endpoints_config: Some(endpoints),
    })
}

fn settings(attachment: &NetworkAttachment, names: (&str, &str)) -> EndpointSettings {
    let (service, container) = names;
    let mut aliases = vec![container.to_owned(), service.to_owned()];
    for alias in &attachment.aliases {
        if !aliases.contains(alias) {
            aliases.push(alias.clone());
        }
    }
    let mut options: BTreeMap<_, _> = attachment.driver_opts.clone();
    if let Some(interface) = &attachment.interface_name {
        options.insert(INTERFACE.to_owned(), interface.clone());
    }
    let fixed = EndpointIpamConfig {
        ipv4_address: attachment.ipv4_address.clone(),
        ipv6_address: attachment.ipv6_address.clone(),
        link_local_ips: filled(attachment.link_local_ips.clone()),
    };
    EndpointSettings {
        ipam_config: (fixed != EndpointIpamConfig::default()).then_some(fixed),
        aliases: Some(aliases),
        mac_address: attachment.mac_address.clone(),
        gw_priority: attachment.gw_priority,
        driver_opts: filled_map(&options),
        ..EndpointSettings::default()
    }
}

/// Legacy links: on every network that both are on, each container of the other service by the
/// alias.
fn links(stack: &Stack, service: &Service, network: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for link in &service.links {
        let (other, alias) = link.split_once(':').unwrap_or((link, link));
        let Some(linked) = stack.services.get(other) else {
            continue;
        };
        if linked.networks.contains_key(network) {
            for number in 1..=linked.replicas.min(REPLICAS_MAX) {
                all.push(format!("{}:{alias}", container_name(stack, other, number)));
            }
        }
    }
    filled(all)
}
