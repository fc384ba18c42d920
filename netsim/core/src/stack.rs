//! A simulated host's network stack: TCP by smoltcp, UDP and ICMP here, and errors as
//! Linux tells them.
//!
//! Sans-IO: packets come in by [`Stack::receive`], go out by [`Stack::take_sent`], and time
//! is an argument. What differs from Linux is known: no selective acknowledgements, one
//! path MTU a host, and no TCP timestamps.

mod device;
mod tcp;
mod udp;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use smoltcp::{
    iface::{Config, Interface, SocketSet},
    wire::{HardwareAddress, IpCidr},
};

use self::{
    device::Device,
    tcp::{Listener, TcpSocket},
    udp::UdpTable,
};
pub use self::{
    tcp::{TcpId, TcpState},
    udp::{Datagram, UdpId},
};
use crate::{
    model::Protocol,
    packet::{Flow, Packet, Transport, Trouble},
    random::Stream,
    time::Instant,
};

/// What an operation on a socket ends with, named as Linux does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// ECONNREFUSED.
    #[error("connection refused")]
    ConnectionRefused,
    /// ECONNRESET.
    #[error("connection reset by peer")]
    ConnectionReset,
    /// EHOSTUNREACH.
    #[error("no route to host")]
    HostUnreachable,
    /// ENETUNREACH: no address of this family.
    #[error("network is unreachable")]
    NetworkUnreachable,
    /// ETIMEDOUT.
    #[error("connection timed out")]
    TimedOut,
    /// EMSGSIZE.
    #[error("message too long")]
    MessageTooLong,
    /// EADDRINUSE.
    #[error("address already in use")]
    AddressInUse,
    /// EPIPE.
    #[error("broken pipe")]
    BrokenPipe,
    /// EAGAIN: nothing now, perhaps later.
    #[error("would block")]
    WouldBlock,
}

/// Ports that connecting sockets take (Linux's `ip_local_port_range`).
const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// See the module.
pub struct Stack {
    interface: Interface,
    device: Device,
    sockets: SocketSet<'static>,
    tcp: BTreeMap<TcpId, TcpSocket>,
    next_tcp: u64,
    /// By their first port.
    listeners: BTreeMap<u16, Listener>,
    udp: UdpTable,
    addresses: Vec<IpNet>,
    takes_any: bool,
    mtu: u16,
    stream: Stream,
    next_port: u16,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("addresses", &self.addresses)
            .field("mtu", &self.mtu)
            .field("tcp", &self.tcp.len())
            .finish_non_exhaustive()
    }
}

fn to_smoltcp(now: Instant) -> smoltcp::time::Instant {
    // Microseconds of 292,000 years fit.
    let micros = i64::try_from(now.since_start().as_micros()).unwrap_or(i64::MAX);
    smoltcp::time::Instant::from_micros(micros)
}

impl Stack {
    /// A host with these addresses. `stream` chooses ports and first sequence numbers.
    pub fn new(addresses: Vec<IpNet>, mtu: u16, mut stream: Stream) -> Self {
        let mut device = Device::new(mtu);
        let interface = interface(&addresses, &mut device, stream.bits());
        let span = u64::from(PORTS.end() - PORTS.start());
        let offset = u16::try_from(stream.below(span)).unwrap_or(0);
        Self {
            interface,
            device,
            sockets: SocketSet::new(Vec::new()),
            tcp: BTreeMap::new(),
            next_tcp: 0,
            listeners: BTreeMap::new(),
            udp: UdpTable::default(),
            addresses,
            takes_any: false,
            mtu,
            next_port: PORTS.start() + offset,
            stream,
        }
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// The longest packet that it sends.
    pub const fn mtu(&self) -> u16 {
        self.mtu
    }

    /// It has other addresses, or another MTU, from now on. Sockets stay, bound to what
    /// they were bound to.
    pub fn reconfigure(&mut self, addresses: Vec<IpNet>, mtu: u16) {
        self.device.mtu = mtu;
        self.interface = interface(&addresses, &mut self.device, self.stream.bits());
        self.interface.set_any_ip(self.takes_any);
        (self.addresses, self.mtu) = (addresses, mtu);
    }

    /// Takes TCP for any address as if that were its own, and answers from there: what an
    /// edge diverts to a proxy. [`Self::ends`] tells for whom a connection was meant.
    pub fn take_any_address(&mut self) {
        self.takes_any = true;
        self.interface.set_any_ip(true);
    }

    /// The address that it would send from.
    pub fn source_for(&self, destination: IpAddr) -> Result<IpAddr, HostError> {
        let mut addresses = self.addresses.iter().map(IpNet::addr);
        addresses
            .find(|own| own.is_ipv4() == destination.is_ipv4())
            .ok_or(HostError::NetworkUnreachable)
    }

    /// A packet arrives.
    pub fn receive(&mut self, now: Instant, packet: Packet) {
        let mut own = self.addresses.iter().map(IpNet::addr);
        let is_ours = own.any(|own| own == packet.destination());
        let may_be_any = matches!(
            packet.transport(),
            Transport::Tcp { .. } | Transport::Error { .. }
        );
        if !(is_ours || self.takes_any && may_be_any) || !packet.is_intact() {
            return;
        }
        match packet.transport() {
            Transport::Tcp { flags, .. } => {
                if let Some(flow) = packet.flow().filter(|_| flags.opens()) {
                    self.make_room_for(flow.destination.port());
                }
                self.device.received.push_back(packet.into_bytes());
            }
            Transport::Udp { .. } => {
                if !self.udp.receive(&packet) {
                    let error = packet.error(Trouble::PortUnreachable, packet.destination());
                    self.device.sent.extend(error);
                }
            }
            Transport::Echo { .. } => self.device.sent.extend(packet.echo_reply()),
            Transport::Error { about, .. } => {
                if let (Some(about), Some(trouble)) = (about, packet.trouble()) {
                    self.hear(&about, trouble);
                }
            }
            Transport::Other => {}
        }
        self.poll(now);
    }

    /// Whether there is no TCP here, which alone has timers and something to send by itself.
    fn is_without_tcp(&self) -> bool {
        let mut listeners = self.listeners.values();
        self.tcp.is_empty() && self.device.received.is_empty() && listeners.all(Listener::is_idle)
    }

    /// Whether something waits for whoever receives datagrams.
    pub fn has_datagrams(&self) -> bool {
        self.udp.has_something()
    }

    /// Whether connections have come in that nobody has accepted, or are about to.
    pub fn has_newcomers(&self) -> bool {
        !self.listeners.values().all(Listener::is_idle)
    }

    /// Timers run, and what can be sent is sent.
    pub fn poll(&mut self, now: Instant) {
        if self.is_without_tcp() {
            return;
        }
        let now = to_smoltcp(now);
        self.interface
            .poll(now, &mut self.device, &mut self.sockets);
        self.settle();
    }

    /// When a timer runs out.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        if self.is_without_tcp() {
            return None;
        }
        let at = self.interface.poll_at(to_smoltcp(now), &self.sockets)?;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        Some(Instant::at(Duration::from_micros(micros)).max(now))
    }

    /// What it has sent since the last call.
    pub fn take_sent(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.device.sent)
    }

    /// An ICMP error about a packet that was sent from here.
    fn hear(&mut self, about: &Flow, trouble: Trouble) {
        if let Trouble::TooBig { mtu } = trouble {
            // Below this nothing works, and who says so is lying (RFC 1122, RFC 8200).
            let least = if about.source.is_ipv4() { 576 } else { 1280 };
            if mtu < self.mtu {
                let addresses = self.addresses.clone();
                self.reconfigure(addresses, mtu.max(least));
            }
            return;
        }
        let error = match trouble {
            Trouble::PortUnreachable => HostError::ConnectionRefused,
            Trouble::Prohibited
            | Trouble::HostUnreachable
            | Trouble::TooManyHops
            | Trouble::TooBig { .. } => HostError::HostUnreachable,
        };
        match about.protocol {
            Protocol::Udp => self.udp.fail(about, error),
            // Linux ends a connection that is being opened, and only remembers the error
            // of one that is open.
            Protocol::Tcp => {
                let mut all = self.tcp.values_mut();
                if let Some(socket) = all.find(|one| one.flow == *about && !one.was_open) {
                    socket.error = Some(error);
                    self.sockets
                        .get_mut::<smoltcp::socket::tcp::Socket<'_>>(socket.handle)
                        .abort();
                }
            }
            Protocol::Icmp => {}
        }
    }

    /// Everything is gone without a word, as with SIGKILL and the kernel's help: open
    /// connections are reset.
    pub fn close_all(&mut self, now: Instant) {
        for socket in self.tcp.values_mut() {
            socket.is_released = true;
            self.sockets
                .get_mut::<smoltcp::socket::tcp::Socket<'_>>(socket.handle)
                .abort();
        }
        for handle in self.take_waiting() {
            self.sockets.remove(handle);
        }
        self.udp = UdpTable::default();
        self.poll(now);
    }

    /// How many sockets somebody holds.
    pub fn held(&self) -> usize {
        let tcp = self.tcp.values().filter(|socket| !socket.is_released);
        tcp.count() + self.udp.len()
    }

    /// A UDP socket on a port of its own, connected to a peer where one is given.
    ///
    /// # Errors
    ///
    /// No address of the peer's family, or no port.
    pub fn bind_udp(&mut self, peer: Option<SocketAddr>) -> Result<UdpId, HostError> {
        let peer = match peer {
            Some(peer) => Some((peer, self.source_for(peer.ip())?)),
            None => None,
        };
        let port = self.free_port(|stack, port| !stack.udp.is_taken(port));
        self.udp.bind(port.ok_or(HostError::AddressInUse)?, peer)
    }

    /// A UDP socket on a port.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn bind_udp_to(&mut self, port: u16) -> Result<UdpId, HostError> {
        self.udp.bind(port, None)
    }

    /// The port of a UDP socket.
    pub fn udp_port(&self, id: UdpId) -> Option<u16> {
        self.udp.port(id)
    }

    /// The address that a UDP socket has: that of its connection, else any.
    pub fn udp_address(&self, id: UdpId) -> IpAddr {
        let has_ipv6 = self.addresses.iter().any(|own| own.addr().is_ipv6());
        let any: IpAddr = if has_ipv6 {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        };
        self.udp.local(id).unwrap_or(any)
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// It is too long, nobody has an address for it, or an earlier one met with an error.
    pub fn send_udp(&mut self, id: UdpId, to: SocketAddr, payload: &[u8]) -> Result<(), HostError> {
        self.udp.take_error(id)?;
        let source = match self.udp.local(id) {
            Some(local) => local,
            None => self.source_for(to.ip())?,
        };
        let port = self.udp.port(id).ok_or(HostError::BrokenPipe)?;
        let header = if to.is_ipv4() { 28 } else { 48 };
        if payload.len() + header > usize::from(self.mtu) {
            return Err(HostError::MessageTooLong);
        }
        let from = SocketAddr::new(source, port);
        self.device.sent.push(Packet::udp(from, to, payload));
        Ok(())
    }

    /// The next datagram that has come in.
    ///
    /// # Errors
    ///
    /// None has, or one that was sent met with an error.
    pub fn receive_udp(&mut self, id: UdpId) -> Result<Datagram, HostError> {
        self.udp.take_error(id)?;
        self.udp.take(id).ok_or(HostError::WouldBlock)
    }

    /// Closes whatever socket holds a port: the process whose it was has ended.
    pub fn free_udp_port(&mut self, port: u16) {
        if let Some(id) = self.udp.holder(port) {
            self.udp.close(id);
        }
    }

    /// Closes a UDP socket.
    pub fn close_udp(&mut self, id: UdpId) {
        self.udp.close(id);
    }

    fn free_port(&mut self, is_free: impl Fn(&Self, u16) -> bool) -> Option<u16> {
        for _ in PORTS {
            let port = self.next_port;
            self.next_port = if port == *PORTS.end() {
                *PORTS.start()
            } else {
                port + 1
            };
            if is_free(self, port) {
                return Some(port);
            }
        }
        None
    }
}

fn interface(addresses: &[IpNet], device: &mut Device, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, smoltcp::time::Instant::ZERO);
    interface.update_ip_addrs(|own| {
        for address in addresses {
            let cidr = IpCidr::new(address.addr().into(), address.prefix_len());
            own.push(cidr)
                .expect("a host has at most two addresses of each family");
        }
    });
    let routes = interface.routes_mut();
    // The first of a family is the one to send from.
    for address in addresses.iter().rev() {
        // On a line of IP packets the gateway is whoever is at the other end.
        let added = match address.addr() {
            IpAddr::V4(own) => routes.add_default_ipv4_route(own),
            IpAddr::V6(own) => routes.add_default_ipv6_route(own),
        };
        added.expect("there is room for one route of each family");
    }
    interface
}

#[cfg(test)]
mod tests;
