//! UDP sockets of a simulated host.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use super::HostError;
use crate::packet::{Flow, Packet};

/// Bytes that wait to be received, a socket; Linux's `rmem_default`.
const BUFFER: usize = 212_992;

/// A UDP socket of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UdpId(u64);

/// A datagram that has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// From where.
    pub source: SocketAddr,
    /// To which of the host's addresses.
    pub destination: SocketAddr,
    /// Its bytes.
    pub payload: Vec<u8>,
}

#[derive(Debug)]
struct Bound {
    port: u16,
    /// To whom it is connected, and from which address.
    peer: Option<(SocketAddr, IpAddr)>,
    waiting: VecDeque<Datagram>,
    waiting_bytes: usize,
    error: Option<HostError>,
}

#[derive(Debug, Default)]
pub(super) struct UdpTable {
    all: BTreeMap<UdpId, Bound>,
    next: u64,
}

impl UdpTable {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_taken(&self, port: u16) -> bool {
        self.holder(port).is_some()
    }

    /// Whose port this is.
    pub(super) fn holder(&self, port: u16) -> Option<UdpId> {
        let mut all = self.all.iter();
        all.find(|(_, socket)| socket.port == port)
            .map(|(id, _)| *id)
    }

    pub(super) fn bind(
        &mut self,
        port: u16,
        peer: Option<(SocketAddr, IpAddr)>,
    ) -> Result<UdpId, HostError> {
        if self.is_taken(port) {
            return Err(HostError::AddressInUse);
        }
        let id = UdpId(self.next);
        self.next += 1;
        self.all.insert(
            id,
            Bound {
                port,
                peer,
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                error: None,
            },
        );
        Ok(id)
    }

    pub(super) fn port(&self, id: UdpId) -> Option<u16> {
        self.all.get(&id).map(|socket| socket.port)
    }

    /// The address that a connected socket sends from, whatever the host has now.
    pub(super) fn local(&self, id: UdpId) -> Option<IpAddr> {
        let peer = self.all.get(&id)?.peer;
        peer.map(|(_, local)| local)
    }

    pub(super) fn close(&mut self, id: UdpId) {
        self.all.remove(&id);
    }

    /// Takes in a datagram; false where nobody has this port. A full socket loses it.
    pub(super) fn receive(&mut self, packet: &Packet) -> bool {
        let Some(flow) = packet.flow() else {
            return true;
        };
        let is_for = |socket: &&mut Bound| {
            socket.port == flow.destination.port()
                && socket
                    .peer
                    .is_none_or(|peer| peer == (flow.source, flow.destination.ip()))
        };
        let Some(socket) = self.all.values_mut().find(is_for) else {
            return false;
        };
        let payload = packet.payload().to_vec();
        if socket.waiting_bytes + payload.len() <= BUFFER {
            socket.waiting_bytes += payload.len();
            socket.waiting.push_back(Datagram {
                source: flow.source,
                destination: flow.destination,
                payload,
            });
        }
        true
    }

    pub(super) fn take(&mut self, id: UdpId) -> Option<Datagram> {
        let socket = self.all.get_mut(&id)?;
        let datagram = socket.waiting.pop_front()?;
        socket.waiting_bytes -= datagram.payload.len();
        Some(datagram)
    }

    /// A datagram that was sent met with an error: a connected socket hears of it.
    pub(super) fn fail(&mut self, about: &Flow, error: HostError) {
        let is_meant = |socket: &&mut Bound| {
            let ends = (about.destination, about.source.ip());
            socket.port == about.source.port() && socket.peer == Some(ends)
        };
        if let Some(socket) = self.all.values_mut().find(is_meant) {
            socket.error = Some(error);
        }
    }

    /// Whether a datagram or an error waits at any socket.
    pub(super) fn has_something(&self) -> bool {
        let mut all = self.all.values();
        all.any(|socket| !socket.waiting.is_empty() || socket.error.is_some())
    }

    /// The pending error, once.
    pub(super) fn take_error(&mut self, id: UdpId) -> Result<(), HostError> {
        let error = self.all.get_mut(&id).and_then(|socket| socket.error.take());
        error.map_or(Ok(()), Err)
    }
}
