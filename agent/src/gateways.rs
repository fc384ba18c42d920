//! This host's addresses towards its containers: what listens on all interfaces of the
//! host is reached there, past every firewall in front of it.
//!
//! Read from `/proc/net` whenever a stream needs it, because networks come and go with
//! projects; some ten kilobytes.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// Where the addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gateways {
    /// What the kernel says at the moment.
    OfKernel,
    /// Always the same: of a simulated host.
    Fixed(Vec<IpAddr>),
}

impl Gateways {
    /// The addresses.
    pub fn look(&self) -> Vec<IpAddr> {
        match self {
            Self::OfKernel => of_kernel(),
            Self::Fixed(addresses) => addresses.clone(),
        }
    }
}

fn of_kernel() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (routes, tree) = (read("/proc/net/route"), read("/proc/net/fib_trie"));
    // From inside a container with a network of its own, the host is the way out.
    let in_container = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists());
    let v4 = gateways_v4(&routes, &tree, in_container);
    let v6 = gateways_v6(&read("/proc/net/if_inet6"));
    v4.map(IpAddr::V4).chain(v6.map(IpAddr::V6)).collect()
}

/// `docker0`, `docker_gwbridge`, `br-1a2b3c4d5e6f` of networks that were made, and Podman's.
fn is_bridge(interface: &str) -> bool {
    ["docker", "br-", "podman", "cni-podman"]
        .iter()
        .any(|prefix| interface.starts_with(prefix))
}

/// Local addresses within networks behind bridges; `routes` is `/proc/net/route`, `tree`
/// is `/proc/net/fib_trie`.
fn gateways_v4(
    routes: &str,
    tree: &str,
    in_container: bool,
) -> impl Iterator<Item = Ipv4Addr> + use<> {
    let mut found = Vec::new();
    let local = local_addresses(tree);
    for line in routes.lines().skip(1) {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, destination, gateway, _, _, _, _, mask, ..] = columns[..] else {
            continue;
        };
        let (Some(network), Some(gateway), Some(mask)) = (
            little_endian(destination),
            little_endian(gateway),
            little_endian(mask),
        ) else {
            continue;
        };
        if is_bridge(interface) {
            let lies_in = |address: &&Ipv4Addr| u32::from(**address) & mask == network;
            found.extend(local.iter().filter(lies_in).copied());
        }
        if in_container && mask == 0 && gateway != 0 {
            found.push(gateway.into());
        }
    }
    found.into_iter()
}

/// A number of `/proc/net/route`: an address as this machine has it in memory.
fn little_endian(text: &str) -> Option<u32> {
    let number = u32::from_str_radix(text, 16).ok()?;
    Some(u32::from_be_bytes(number.to_ne_bytes()))
}

/// Addresses of this host: each stands on the line before `/32 host LOCAL`.
fn local_addresses(tree: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in tree.lines() {
        match line.trim_start().strip_prefix("|-- ") {
            Some(address) => last = address.trim().parse().ok(),
            None if line.contains("/32 host LOCAL") => found.extend(last),
            None => {}
        }
    }
    found
}

/// Addresses of bridges; the text is `/proc/net/if_inet6`.
fn gateways_v6(interfaces: &str) -> impl Iterator<Item = Ipv6Addr> + use<> {
    let found: Vec<_> = interfaces
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let [address, _, _, _, _, interface] = columns[..] else {
                return None;
            };
            let number = u128::from_str_radix(address, 16).ok()?;
            is_bridge(interface).then(|| Ipv6Addr::from(number))
        })
        .collect();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        br-0123456789ab\t000014AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
    const TREE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 172.20.0.0\n        /16 link UNICAST\n     \
        |-- 172.20.0.1\n        /32 host LOCAL\n     |-- 192.0.2.7\n        /32 host LOCAL\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_bridges_own_address_is_a_gateway_and_the_hosts_others_are_not() {
        let found: Vec<_> = gateways_v4(ROUTES, TREE, false).collect();

        assert_eq!(found, [Ipv4Addr::new(172, 20, 0, 1)]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn in_a_container_the_way_out_is_the_host() {
        let found: Vec<_> = gateways_v4(ROUTES, TREE, true).collect();

        assert!(found.contains(&Ipv4Addr::new(192, 0, 2, 1)), "{found:?}");
    }

    #[test]
    fn a_bridges_addresses_over_ipv6_are_gateways() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fe800000000000000042acfffe110001 03 40 20 80  docker0\n";

        let found: Vec<_> = gateways_v6(text).collect();

        assert_eq!(found, ["fe80::42:acff:fe11:1".parse::<Ipv6Addr>().unwrap()]);
    }
}
