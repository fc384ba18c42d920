//! TCP sockets of a simulated host: smoltcp's, and what it does not tell about them.

use std::{net::SocketAddr, task::Waker};

use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::tcp,
    wire::IpListenEndpoint,
};

use super::{HostError, Stack};
use crate::{model::Protocol, packet::Flow, term::PortRange, time::Instant};

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
pub(super) struct TcpSocket {
    pub(super) handle: SocketHandle,
    pub(super) flow: Flow,
    pub(super) was_open: bool,
    pub(super) error: Option<HostError>,
    /// Whether nobody holds it any more: it says its goodbyes and is gone.
    pub(super) is_released: bool,
}

/// Where connections come in: one port, or some in a row.
#[derive(Debug)]
pub(super) struct Listener {
    ports: PortRange,
    /// Sockets that wait for a SYN, or to be accepted.
    waiting: Vec<SocketHandle>,
}

impl Listener {
    /// Whether no connection waits, nor is on its way.
    pub(super) const fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Bytes that a TCP socket holds in each direction: Linux begins with about as much, and
/// the product's windows are its own.
const BUFFER: usize = 256 * 1024;

/// How many connections may wait to be accepted, a listener (Linux's `somaxconn`).
const BACKLOG: usize = 4096;

impl Stack {
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
        self.listen_on(PortRange::one(port))
    }

    /// Listens on ports in a row, as one listener; it is named by the first.
    ///
    /// # Errors
    ///
    /// One of them is taken.
    pub fn listen_on(&mut self, ports: PortRange) -> Result<(), HostError> {
        let mut others = self.listeners.values();
        if others.any(|other| other.ports.overlaps(ports)) {
            return Err(HostError::AddressInUse);
        }
        let waiting = Vec::new();
        self.listeners
            .insert(ports.first, Listener { ports, waiting });
        Ok(())
    }

    /// Listens no more: connections that nobody has accepted are reset.
    pub fn unlisten(&mut self, now: Instant, port: u16) {
        let Some(listener) = self.listeners.remove(&port) else {
            return;
        };
        for handle in &listener.waiting {
            self.sockets.get_mut::<tcp::Socket<'_>>(*handle).abort();
        }
        // The reset is sent first.
        self.poll(now);
        for handle in listener.waiting {
            self.sockets.remove(handle);
        }
    }

    fn listener_of(&mut self, port: u16) -> Option<&mut Listener> {
        let (_, below) = self.listeners.range_mut(..=port).next_back()?;
        below.ports.contains(port).then_some(below)
    }

    /// Every socket of a listener that nobody has accepted.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = SocketHandle> + use<> {
        let listeners = std::mem::take(&mut self.listeners).into_values();
        listeners.flat_map(|listener| listener.waiting)
    }

    /// smoltcp needs a socket for each SYN beforehand: one is made when a SYN comes, so
    /// that a listener costs nothing. With a full backlog the SYN meets none, and is
    /// answered with a reset.
    pub(super) fn make_room_for(&mut self, port: u16) {
        // Nothing can listen on port 0, also where a range begins with it.
        let Some(listener) = self.listener_of(port).filter(|_| port != 0) else {
            return;
        };
        let waiting = std::mem::take(&mut listener.waiting);
        let is_free = |handle: &SocketHandle| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(*handle);
            socket.state() == tcp::State::Listen && socket.listen_endpoint().port == port
        };
        let has_room = waiting.len() < BACKLOG && !waiting.iter().any(is_free);
        let more = has_room.then(|| listening(&mut self.sockets, port));
        if let Some(listener) = self.listener_of(port) {
            listener.waiting = waiting;
            listener.waiting.extend(more);
        }
    }

    /// Ports on which it listens.
    pub fn listens_on(&self) -> impl Iterator<Item = u16> {
        let ports = self.listeners.values().map(|listener| listener.ports);
        ports.flat_map(|ports| ports.first..=ports.last)
    }

    /// The next connection that came in to the listener on a port, and from where.
    pub fn accept(&mut self, port: u16) -> Option<(TcpId, SocketAddr)> {
        let waiting = &mut self.listeners.get_mut(&port)?.waiting;
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

    /// Wakes a task once there may be something to read, or never will be. One task a
    /// direction: the last to ask.
    pub fn wake_reader(&mut self, id: TcpId, waker: &Waker) {
        if let Some(socket) = self.tcp.get(&id) {
            let tcp = self.sockets.get_mut::<tcp::Socket<'_>>(socket.handle);
            tcp.register_recv_waker(waker);
        }
    }

    /// Wakes a task once there may be room to write, the connection is open, or it has
    /// failed. One task a direction: the last to ask.
    pub fn wake_writer(&mut self, id: TcpId, waker: &Waker) {
        if let Some(socket) = self.tcp.get(&id) {
            let tcp = self.sockets.get_mut::<tcp::Socket<'_>>(socket.handle);
            tcp.register_send_waker(waker);
        }
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
    pub(super) fn settle(&mut self) {
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
        for listener in self.listeners.values_mut() {
            listener.waiting.retain(|handle| {
                let state = sockets.get::<tcp::Socket<'_>>(*handle).state();
                if state == tcp::State::Closed {
                    sockets.remove(*handle);
                }
                state != tcp::State::Closed
            });
        }
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
