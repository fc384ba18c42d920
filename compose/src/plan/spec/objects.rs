//! Networks and volumes as they are asked for.

use std::collections::{BTreeMap, HashMap};

use bollard_stubs::models::{Ipam, IpamConfig, NetworkCreateRequest, VolumeCreateRequest};

use super::{Context, Unsupported, filled, filled_map};
use crate::{
    model::{Network, Stack, Volume},
    plan::{hash, labels},
};

/// The first version of the API with networks without IPv4.
const WITHOUT_IPV4: (u32, u32) = (1, 48);

/// The request that makes a network of the stack.
///
/// # Errors
///
/// The Engine is too old for it, or the stack has no such network.
pub fn network(
    stack: &Stack,
    key: &str,
    context: &Context,
) -> Result<NetworkCreateRequest, Unsupported> {
    let refused = |attribute: String, needs: &str| Unsupported {
        service: format!("(network {key})"),
        attribute,
        needs: needs.to_owned(),
        has: format!("{}.{}", context.api.0, context.api.1),
    };
    let network = stack.networks.get(key).ok_or_else(|| {
        refused(
            "networks".to_owned(),
            "a network of this name in the release",
        )
    })?;
    if network.enable_ipv4.is_some() && context.api < WITHOUT_IPV4 {
        return Err(refused(format!("networks.{key}.enable_ipv4"), "1.48"));
    }
    let mut request = bare_network(network);
    let own = (labels::NETWORK, key);
    request.labels = Some(object_labels(
        stack,
        own,
        &network.labels,
        network_hash(network),
    ));
    Ok(request)
}

/// The network without the labels that we add.
fn bare_network(network: &Network) -> NetworkCreateRequest {
    let pools = network.ipam_config.iter().map(|pool| IpamConfig {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.clone(),
        auxiliary_addresses: filled_map(&pool.aux_addresses),
    });
    let ipam = Ipam {
        driver: network.ipam_driver.clone(),
        options: filled_map(&network.ipam_options),
        config: filled(pools.collect()),
    };
    NetworkCreateRequest {
        name: network.name.clone(),
        driver: network.driver.clone(),
        options: filled_map(&network.driver_opts),
        internal: network.internal.then_some(true),
        attachable: network.attachable.then_some(true),
        enable_ipv4: network.enable_ipv4,
        enable_ipv6: network.enable_ipv6,
        ipam: (ipam != Ipam::default()).then_some(ipam),
        ..NetworkCreateRequest::default()
    }
}

/// What the network is made from.
pub(crate) fn network_hash(network: &Network) -> String {
    hash::of(network)
}

/// What the volume is made from.
pub(crate) fn volume_hash(volume: &Volume) -> String {
    hash::of(volume)
}

/// The request that makes a volume of the stack.
///
/// # Errors
///
/// The stack has no such volume.
pub fn volume(stack: &Stack, key: &str) -> Result<VolumeCreateRequest, Unsupported> {
    let volume = stack.volumes.get(key).ok_or_else(|| Unsupported {
        service: format!("(volume {key})"),
        attribute: "volumes".to_owned(),
        needs: "a volume of this name in the release".to_owned(),
        has: String::new(),
    })?;
    let own = (labels::VOLUME, key);
    Ok(VolumeCreateRequest {
        name: Some(volume.name.clone()),
        driver: volume.driver.clone(),
        driver_opts: filled_map(&volume.driver_opts),
        labels: Some(object_labels(
            stack,
            own,
            &volume.labels,
            volume_hash(volume),
        )),
        cluster_volume_spec: None,
    })
}

fn object_labels(
    stack: &Stack,
    (own, key): (&str, &str),
    authors: &BTreeMap<String, String>,
    hash: String,
) -> HashMap<String, String> {
    let mut all: HashMap<_, _> = authors.clone().into_iter().collect();
    for (label, value) in [
        (labels::PROJECT, stack.name.clone()),
        (own, key.to_owned()),
        (labels::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        (labels::CONFIG_HASH, hash.clone()),
        (labels::HASH, hash),
        (labels::STACK, stack.name.clone()),
    ] {
        all.insert(label.to_owned(), value);
    }
    all
}
