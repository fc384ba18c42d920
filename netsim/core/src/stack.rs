//! A simulated host's network stack: TCP by smoltcp, UDP and ICMP here, and errors as
//! Linux tells them.
//!
//! Sans-IO: packets come in by [`Stack::receive`], go out by [`Stack::take_sent`], and time
//! is an argument. What differs from Linux is known: no selective acknowledgements, one
//! path MTU a host, and no TCP timestamps.

mod device;
mod udp;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    socket::tcp,
    wire::{HardwareAddress, IpCidr, IpListenEndpoint},
};

pub use self::udp::{Datagram, UdpId};
use self::{device::Device, udp::UdpSockets};
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

/// A TCP socket of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpId(u64);

/// How a TCP socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// No answer yet.
    Connecting,
    /// Bytes can be exchanged, in at least one direction.
    Open,
    /// It is over: in order, or for a reason.
    Closed(Option<HostError>),
}

#[derive(Debug)]
struct TcpSocket {
    handle: SocketHandle,
    flow: Flow,
    was_open: bool,
    error: Option<HostError>,
    /// Whether nobody holds it any more: it says its goodbyes and is gone.
    is_released: bool,
}

/// Bytes that a TCP socket holds in each direction: Linux begins with about as much, and
/// the product's windows are its own.
const BUFFER: usize = 256 * 1024;

/// Ports that connecting sockets take (Linux's `ip_local_port_range`).
const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// How many connections may wait to be accepted, a port (Linux's `somaxconn`).
const BACKLOG: usize = 4096;

/// See the module.
pub struct Stack {
    interface: Interface,
    device: Device,
    sockets: SocketSet<'static>,
    tcp: BTreeMap<TcpId, TcpSocket>,
    next_tcp: u64,
    /// By port: sockets that wait for a SYN.
    listeners: BTreeMap<u16, Vec<SocketHandle>>,
    udp: UdpSockets,
    addresses: Vec<IpNet>,
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
            udp: UdpSockets::default(),
            addresses,
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
        (self.addresses, self.mtu) = (addresses, mtu);
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
        let is_ours = self
            .addresses
            .iter()
            .any(|own| own.addr() == packet.destination());
        if !is_ours || !packet.is_intact() {
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

    /// Timers run, and what can be sent is sent.
    pub fn poll(&mut self, now: Instant) {
        let now = to_smoltcp(now);
        self.interface
            .poll(now, &mut self.device, &mut self.sockets);
        self.settle();
    }

    /// When a timer runs out.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
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
                        .get_mut::<tcp::Socket<'_>>(socket.handle)
                        .abort();
                }
            }
            Protocol::Icmp => {}
        }
    }

    /// Connects a TCP socket; its state tells when it is open.
    ///
    /// # Errors
    ///
    /// No address of this family, or no port.
    pub fn connect(&mut self, now: Instant, remote: SocketAddr) -> Result<TcpId, HostError> {
        let source = self.source_for(remote.ip())?;
        let local = self.free_port(|stack, port| {
            let local = SocketAddr::new(source, port);
            !stack
                .tcp
                .values()
                .any(|one| one.flow.source == local && one.flow.destination == remote)
        });
        let local = SocketAddr::new(source, local.ok_or(HostError::AddressInUse)?);
        let mut socket = tcp_socket();
        socket
            .connect(self.interface.context(), remote, local)
            .map_err(|_| HostError::NetworkUnreachable)?;
        let handle = self.sockets.add(socket);
        let flow = Flow {
            protocol: Protocol::Tcp,
            source: local,
            destination: remote,
        };
        let id = self.keep(handle, flow, false);
        self.poll(now);
        Ok(id)
    }

    /// Listens on a port of every address.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn listen(&mut self, port: u16) -> Result<(), HostError> {
        if self.listeners.contains_key(&port) {
            return Err(HostError::AddressInUse);
        }
        self.listeners.insert(port, Vec::new());
        Ok(())
    }

    /// smoltcp needs a socket for each SYN beforehand: one is made when a SYN comes, so
    /// that a listener costs nothing. With a full backlog the SYN meets none, and is
    /// answered with a reset.
    fn make_room_for(&mut self, port: u16) {
        let Some(waiting) = self.listeners.get_mut(&port) else {
            return;
        };
        let is_free = |handle: &SocketHandle| {
            self.sockets.get::<tcp::Socket<'_>>(*handle).state() == tcp::State::Listen
        };
        if waiting.len() < BACKLOG && !waiting.iter().any(is_free) {
            waiting.push(listening(&mut self.sockets, port));
        }
    }

    /// Ports on which it listens.
    pub fn listens_on(&self) -> impl Iterator<Item = u16> {
        self.listeners.keys().copied()
    }

    /// The next connection that came in on a port, and from where.
    pub fn accept(&mut self, port: u16) -> Option<(TcpId, SocketAddr)> {
        let waiting = self.listeners.get_mut(&port)?;
        let is_open = |handle: &SocketHandle, sockets: &SocketSet<'_>| {
            let state = sockets.get::<tcp::Socket<'_>>(*handle).state();
            !matches!(
                state,
                tcp::State::Listen | tcp::State::SynReceived | tcp::State::Closed
            )
        };
        let place = waiting
            .iter()
            .position(|handle| is_open(handle, &self.sockets))?;
        let handle = waiting.remove(place);
        let socket = self.sockets.get::<tcp::Socket<'_>>(handle);
        let ends = (socket.local_endpoint()?, socket.remote_endpoint()?);
        let of = |end: smoltcp::wire::IpEndpoint| SocketAddr::new(end.addr.into(), end.port);
        let flow = Flow {
            protocol: Protocol::Tcp,
            source: of(ends.0),
            destination: of(ends.1),
        };
        Some((self.keep(handle, flow, true), flow.destination))
    }

    /// How a socket is.
    pub fn state(&self, id: TcpId) -> TcpState {
        let Some(socket) = self.tcp.get(&id) else {
            return TcpState::Closed(None);
        };
        let state = self.sockets.get::<tcp::Socket<'_>>(socket.handle).state();
        match state {
            tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen => {
                TcpState::Connecting
            }
            tcp::State::Closed | tcp::State::TimeWait if socket.error.is_some() => {
                TcpState::Closed(socket.error)
            }
            tcp::State::Closed | tcp::State::TimeWait => TcpState::Closed(None),
            _ => TcpState::Open,
        }
    }

    /// Both ends of a socket.
    pub fn ends(&self, id: TcpId) -> Option<(SocketAddr, SocketAddr)> {
        let flow = self.tcp.get(&id)?.flow;
        Some((flow.source, flow.destination))
    }

    /// Takes bytes that have come in; none at the end of what the peer sends.
    ///
    /// # Errors
    ///
    /// Nothing has come in yet, or the connection is gone.
    pub fn read(&mut self, now: Instant, id: TcpId, into: &mut [u8]) -> Result<usize, HostError> {
        let socket = self.tcp.get(&id).ok_or(HostError::BrokenPipe)?;
        let (handle, error) = (socket.handle, socket.error);
        let tcp = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        match tcp.recv_slice(into) {
            Ok(0) if error.is_none() => Err(HostError::WouldBlock),
            Ok(taken) if taken > 0 => {
                // The window has grown, and the peer must hear of it.
                self.poll(now);
                Ok(taken)
            }
            Err(tcp::RecvError::Finished) => Ok(0),
            Ok(_) | Err(tcp::RecvError::InvalidState) => error.map_or(Ok(0), Err),
        }
    }

    /// Puts bytes in for sending; tells how many there was room for.
    ///
    /// # Errors
    ///
    /// There is no room now, or nothing can be sent any more.
    pub fn write(&mut self, now: Instant, id: TcpId, bytes: &[u8]) -> Result<usize, HostError> {
        let socket = self.tcp.get(&id).ok_or(HostError::BrokenPipe)?;
        let (handle, error) = (socket.handle, socket.error);
        let tcp = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        match tcp.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => Err(HostError::WouldBlock),
            Ok(taken) => {
                self.poll(now);
                Ok(taken)
            }
            Err(tcp::SendError::InvalidState) => Err(error.unwrap_or(HostError::BrokenPipe)),
        }
    }

    /// Sends no more: what was put in goes out, then the end.
    pub fn finish(&mut self, now: Instant, id: TcpId) {
        if let Some(socket) = self.tcp.get(&id) {
            self.sockets
                .get_mut::<tcp::Socket<'_>>(socket.handle)
                .close();
            self.poll(now);
        }
    }

    /// Nobody holds the socket any more. Bytes that were not read make it a reset, as in
    /// Linux.
    pub fn release(&mut self, now: Instant, id: TcpId) {
        let Some(socket) = self.tcp.get_mut(&id) else {
            return;
        };
        socket.is_released = true;
        let tcp = self.sockets.get_mut::<tcp::Socket<'_>>(socket.handle);
        if tcp.recv_queue() > 0 {
            tcp.abort();
        } else {
            tcp.close();
        }
        self.poll(now);
    }

    /// Everything is gone without a word, as with SIGKILL and the kernel's help: open
    /// connections are reset.
    pub fn close_all(&mut self, now: Instant) {
        for socket in self.tcp.values_mut() {
            socket.is_released = true;
            self.sockets
                .get_mut::<tcp::Socket<'_>>(socket.handle)
                .abort();
        }
        for handle in std::mem::take(&mut self.listeners).into_values().flatten() {
            self.sockets.remove(handle);
        }
        self.udp = UdpSockets::default();
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
        if let Some(peer) = peer {
            self.source_for(peer.ip())?;
        }
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

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// It is too long, nobody has an address for it, or an earlier one met with an error.
    pub fn send_udp(&mut self, id: UdpId, to: SocketAddr, payload: &[u8]) -> Result<(), HostError> {
        self.udp.take_error(id)?;
        let source = self.source_for(to.ip())?;
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

    /// Closes a UDP socket.
    pub fn close_udp(&mut self, id: UdpId) {
        self.udp.close(id);
    }

    fn keep(&mut self, handle: SocketHandle, flow: Flow, was_open: bool) -> TcpId {
        let id = TcpId(self.next_tcp);
        self.next_tcp += 1;
        self.tcp.insert(
            id,
            TcpSocket {
                handle,
                flow,
                was_open,
                error: None,
                is_released: false,
            },
        );
        id
    }

    /// Notes what smoltcp does not tell: which sockets became open, and which were ended
    /// by the peer.
    fn settle(&mut self) {
        let sockets = &mut self.sockets;
        self.tcp.retain(|_, socket| {
            let tcp = sockets.get::<tcp::Socket<'_>>(socket.handle);
            let state = tcp.state();
            let is_closed = state == tcp::State::Closed;
            if tcp.may_send() || tcp.may_recv() {
                socket.was_open = true;
            }
            if is_closed && socket.error.is_none() && !socket.is_released && !tcp.may_recv() {
                // A connection that ends in order is in TIME-WAIT or LAST-ACK before.
                let refused = HostError::ConnectionRefused;
                let reset = HostError::ConnectionReset;
                socket.error = Some(if socket.was_open { reset } else { refused });
            }
            let is_gone = is_closed || state == tcp::State::TimeWait;
            let keep = !(socket.is_released && is_gone);
            if !keep {
                sockets.remove(socket.handle);
            }
            keep
        });
        for waiting in self.listeners.values_mut() {
            waiting.retain(|handle| {
                let state = sockets.get::<tcp::Socket<'_>>(*handle).state();
                if state == tcp::State::Closed {
                    sockets.remove(*handle);
                }
                state != tcp::State::Closed
            });
        }
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

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    // The product sets TCP_NODELAY.
    socket.set_nagle_enabled(false);
    socket
}

fn listening(sockets: &mut SocketSet<'static>, port: u16) -> SocketHandle {
    let mut socket = tcp_socket();
    let end = IpListenEndpoint { addr: None, port };
    socket
        .listen(end)
        .expect("a fresh socket listens on a port that is not 0");
    sockets.add(socket)
}

fn interface(addresses: &[IpNet], device: &mut Device, seed: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, smoltcp::time::Instant::ZERO);
    interface.update_ip_addrs(|own| {
        for address in addresses {
            let cidr = IpCidr::new(address.addr().into(), address.prefix_len());
            own.push(cidr)
                .expect("a host has at most one address of each family");
        }
    });
    let routes = interface.routes_mut();
    for address in addresses {
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
