//! Cables between namespaces and the fabric: one pair of interfaces each, of which the
//! near end is a port.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use netsim_core::network::Network;

use super::{
    caretaker::Real,
    fabric::Beyond,
    host::{promise_nothing, quiet},
    namespace::Namespace,
    port::Port,
    settings::MTU,
    wireguard,
    world::initial,
};

/// A cable to be laid.
struct Cable {
    beyond: Beyond,
    /// Where its far end is, as `ip` finds it, and what it is called there.
    far: (String, String),
}

impl Cable {
    /// Addresses of the link of the cable with this number: locally administered, the
    /// fabric's and the far one.
    fn addresses(number: usize) -> [[u8; 6]; 2] {
        let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
        [[2, 0, 0, 1, high, low], [2, 0, 0, 0, high, low]]
    }
}

/// How often cables were laid. The kernel takes interfaces of an earlier run away when it finds
/// the time, and until then they have their names.
static LAID: AtomicU32 = AtomicU32::new(0);

/// Lays every cable, and configures what they lead to.
pub(super) fn plug(network: &Network, real: &Real) -> io::Result<Vec<(Beyond, Port)>> {
    let own = Namespace::current()?;
    // Nothing is to answer here but the fabric.
    let mut parameters = quiet();
    for which in ["all", "default"] {
        parameters.push((format!("ipv6/conf/{which}/disable_ipv6"), "1".to_owned()));
    }
    parameters.retain(|(path, _)| std::path::Path::new("/proc/sys/net").join(path).exists());
    own.set(&parameters)?;
    let cables = cables(network, real);
    let run = LAID.fetch_add(1, Ordering::Relaxed);
    let near_name = |number: usize| format!("p{run}-{number}");
    let mut commands = String::new();
    for (number, cable) in cables.iter().enumerate() {
        let [near, far] = Cable::addresses(number).map(written);
        let (namespace, name) = &cable.far;
        let own = near_name(number);
        commands.push_str(&format!(
            "link add {own} address {near} mtu {MTU} type veth \
             peer name {name} address {far} mtu {MTU} netns {namespace}\n\
             link set dev {own} arp off up\n"
        ));
    }
    own.ip(&commands)?;
    let near: Vec<String> = (0..cables.len()).map(near_name).collect();
    promise_nothing(&own, near.iter().map(String::as_str).collect())?;
    let mut ports = Vec::new();
    for (number, cable) in cables.into_iter().enumerate() {
        let [_, far] = Cable::addresses(number);
        let mut port = Port::open(&near[number], far, MTU)?;
        port.counts_to(real.lost());
        ports.push((cable.beyond, port));
    }
    for tunnel in &real.tunnels {
        promise_nothing(tunnel.gateway(), vec![wireguard::LINE])?;
        tunnel.start()?;
    }
    for host in &real.hosts {
        host.plugged()?;
        host.configure(initial(network, host))?;
    }
    for edge in &real.edges {
        let names = edge.links().iter().map(|(_, name)| name.as_str());
        promise_nothing(edge.namespace(), names.collect())?;
        edge.plugged()?;
    }
    Ok(ports)
}

fn cables(network: &Network, real: &Real) -> Vec<Cable> {
    let mut cables = Vec::new();
    for host in &real.hosts {
        for interface in host.interfaces() {
            let addresses = network.topology().addresses(host.node).iter();
            let mut of_link = addresses.filter(|(_, bound)| *bound == Some(interface.link));
            let beyond = match (interface.vpn, of_link.next()) {
                (Some(_), Some((address, _))) => Beyond::Tunnel(host.node, *address),
                (Some(_) | None, _) => Beyond::Host(host.node),
            };
            let mut tunnels = real.tunnels.iter();
            let tunnel =
                tunnels.find(|tunnel| interface.vpn.is_some() && tunnel.host().node == host.node);
            let far = match tunnel {
                Some(tunnel) => (tunnel.gateway().path(), wireguard::LINE.to_owned()),
                None => (host.namespace().path(), interface.name.clone()),
            };
            cables.push(Cable { beyond, far });
        }
    }
    for edge in &real.edges {
        for (link, name) in edge.links() {
            let far = (edge.namespace().path(), name.clone());
            let beyond = Beyond::Edge(edge.node, *link);
            cables.push(Cable { beyond, far });
        }
    }
    cables
}

fn written(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
