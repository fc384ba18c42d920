//! Addresses that a wide rule does not cover: they lead to the host itself, or to what a
//! cloud tells a machine about its keys, and nobody who writes `10.0.0.0/8` or a name means
//! those.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What an address is, beside an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `0.0.0.0` and `::`: Linux connects to the host itself.
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `169.254.0.0/16` and `fe80::/10`.
    LinkLocal,
    /// Where clouds answer questions about the machine, its keys among them.
    Metadata,
    /// This host, as its containers see it.
    DockerGateway,
    /// No address of one host.
    Multicast,
}

/// Metadata services: AWS, Azure, Google, Oracle and others; AWS for containers (twice);
/// Alibaba; Azure's host; Oracle's former one.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// The same over IPv6: AWS, AWS for containers, Google.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// The gateway of `docker0` unless the Engine was told otherwise: known even where the
/// agent cannot see the host's interfaces.
pub const DOCKER_GATEWAY_DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1));

/// What is special about an address, if anything. `gateways` are this host's addresses
/// towards its containers.
pub fn special(address: IpAddr, gateways: &[IpAddr]) -> Option<Special> {
    let address = address.to_canonical();
    if address == DOCKER_GATEWAY_DEFAULT || gateways.contains(&address) {
        return Some(Special::DockerGateway);
    }
    match address {
        IpAddr::V4(address) => special_v4(address),
        // A translator at the edge of the network takes the inner address out.
        IpAddr::V6(address) => special_v6(address).or_else(|| special_v4(inner(address)?)),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    if METADATA_V4.contains(&address) {
        Some(Special::Metadata)
    } else if address.is_unspecified() {
        Some(Special::Unspecified)
    } else if address.is_loopback() {
        Some(Special::Loopback)
    } else if address.is_link_local() {
        Some(Special::LinkLocal)
    } else if address.is_multicast() || address.is_broadcast() {
        Some(Special::Multicast)
    } else {
        None
    }
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    if METADATA_V6.contains(&address) {
        Some(Special::Metadata)
    } else if address.is_unspecified() {
        Some(Special::Unspecified)
    } else if address.is_loopback() {
        Some(Special::Loopback)
    } else if address.is_unicast_link_local() {
        Some(Special::LinkLocal)
    } else if address.is_multicast() {
        Some(Special::Multicast)
    } else {
        None
    }
}

/// The IPv4 address inside of one of NAT64 (RFC 6052, `64:ff9b::/96`) or 6to4 (RFC 3056).
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match (address.segments(), address.octets()) {
        ([0x64, 0xff9b, 0, 0, 0, 0, ..], [.., a, b, c, d]) => Some(Ipv4Addr::new(a, b, c, d)),
        ([0x2002, ..], [_, _, a, b, c, d, ..]) => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    }
}

impl Special {
    /// Whether a rule for this network names the address, instead of covering it among
    /// others. A network that is special as a whole names what lies in it; what is one
    /// address is named by that address alone.
    pub fn is_named_by(self, network: IpNet, address: IpAddr) -> bool {
        let lies_in = |range: IpNet| range.contains(&network) && network.contains(&address);
        match self {
            Self::Loopback => lies_in(v4([127, 0, 0, 0], 8)) || lies_in(one(address)),
            Self::LinkLocal => {
                let v6 = IpNet::V6(Ipv6Net::new_assert(
                    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
                    10,
                ));
                lies_in(v4([169, 254, 0, 0], 16)) || lies_in(v6) || lies_in(one(address))
            }
            Self::Unspecified | Self::Metadata | Self::DockerGateway => lies_in(one(address)),
            Self::Multicast => false,
        }
    }
}

fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(octets.into(), prefix))
}

fn one(address: IpAddr) -> IpNet {
    address.into()
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "the host itself (unspecified address)",
            Self::Loopback => "the host itself (loopback)",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata service",
            Self::DockerGateway => "the host itself (gateway of a Docker bridge)",
            Self::Multicast => "a multicast address",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<Special> {
        special(address.parse().unwrap(), &["172.20.0.1".parse().unwrap()])
    }

    #[test]
    fn what_leads_to_the_host_or_to_a_clouds_secrets_is_special() {
        for (address, expected) in [
            ("0.0.0.0", Special::Unspecified),
            ("::", Special::Unspecified),
            ("127.8.9.1", Special::Loopback),
            ("::1", Special::Loopback),
            ("::ffff:127.0.0.1", Special::Loopback),
            ("169.254.3.4", Special::LinkLocal),
            ("fe80::1", Special::LinkLocal),
            ("169.254.169.254", Special::Metadata),
            ("fd00:ec2::254", Special::Metadata),
            ("64:ff9b::169.254.169.254", Special::Metadata),
            ("2002:7f00:1::", Special::Loopback),
            ("172.17.0.1", Special::DockerGateway),
            ("172.20.0.1", Special::DockerGateway),
            ("224.0.0.1", Special::Multicast),
            ("ff02::1", Special::Multicast),
        ] {
            assert_eq!(of(address), Some(expected), "{address}");
        }
        for address in [
            "10.0.0.1",
            "172.17.0.2",
            "2001:db8::1",
            "fd00::1",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(of(address), None, "{address}");
        }
    }

    #[test]
    fn a_special_address_is_named_by_what_is_no_wider_than_its_kind() {
        let names = |network: &str, address: &str| {
            let address = address.parse().unwrap();
            let special = special(address, &[]).unwrap();
            special.is_named_by(network.parse().unwrap(), address)
        };

        assert!(names("127.0.0.0/8", "127.0.0.1") && names("127.0.0.1/32", "127.0.0.1"));
        assert!(!names("0.0.0.0/0", "127.0.0.1") && !names("126.0.0.0/7", "127.0.0.1"));
        assert!(names("169.254.0.0/16", "169.254.1.1"));
        assert!(!names("169.254.0.0/16", "169.254.169.254"));
        assert!(names("169.254.169.254/32", "169.254.169.254"));
        assert!(names("fe80::/10", "fe80::1") && !names("::/0", "::1"));
        assert!(names("::1/128", "::1"));
        assert!(!names("172.17.0.0/16", "172.17.0.1") && names("172.17.0.1/32", "172.17.0.1"));
        assert!(!names("224.0.0.1/32", "224.0.0.1"));
    }
}
