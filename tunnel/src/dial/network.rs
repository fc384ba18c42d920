//! Which network a host is in, as far as its own addresses tell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::world::World;

/// Nobody's (RFC 5737, RFC 3849): a packet there would take the default route. None is sent.
pub const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// What counts as one network: a lease or a privacy address changes what is behind.
const PREFIX_IPV4: u8 = 24;
const PREFIX_IPV6: u8 = 64;

/// A name for the network that this host is in now: the prefixes of the addresses that it
/// would call the world from. `None` while it has no way out.
///
/// Two networks of the same private addresses have the same name. Who goes by it must lose
/// no more than a head start.
pub fn network(world: &World) -> Option<String> {
    let own = ANYWHERE.iter().filter_map(|anywhere| {
        let own = own_address(world, *anywhere)?;
        let length = match own {
            IpAddr::V4(_) => PREFIX_IPV4,
            IpAddr::V6(_) => PREFIX_IPV6,
        };
        Some(IpNet::new(own, length).ok()?.trunc().to_string())
    });
    let own: Vec<String> = own.collect();
    (!own.is_empty()).then(|| own.join(" "))
}

/// The address that this host would send from to another, if there is a way. Nothing is sent.
pub fn own_address(world: &World, towards: IpAddr) -> Option<IpAddr> {
    // Connected, a socket has the address that the kernel chooses. The port does not matter.
    let socket = world.net.connect_udp(SocketAddr::new(towards, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
