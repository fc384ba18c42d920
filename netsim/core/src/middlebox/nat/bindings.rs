//! Which outer end stands for which inner one, and who may answer to it.
//!
//! Invariants: two bindings never have the same outer end and protocol at once; a binding
//! keeps its outer end for as long as it lives; only a packet from inside makes one.

use std::{
    collections::{BTreeMap, btree_map},
    net::{IpAddr, SocketAddr},
};

use super::super::flow_table::{Entry, may_begin};
use crate::{
    model::{Dependence, Protocol, Timeouts},
    packet::{Flags, Flow, Packet},
    random::Stream,
    term::PortRange,
    time::Instant,
};

/// The most outer ends that one inner flow may have talked to and is still remembered
/// with: as many as a browser or a peer-to-peer client opens.
const PEERS_MAX: usize = 1024;

/// Why a packet from inside gets no outer end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// TCP in the middle of a flow that nobody knows.
    Expired,
    /// No port is left.
    Exhausted,
    /// It has no ports.
    Unsupported,
    /// It is about a flow that nobody knows.
    Filtered,
}

/// What a packet from inside was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// The outer end that stands for its source.
    pub(crate) outer: SocketAddr,
    /// Whether it is another one than this flow had before.
    pub(crate) was_rebound: bool,
}

/// The ends that a NAT has to give.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: PortRange,
    pub(crate) keep_port: bool,
    pub(crate) ports_per_host: Option<u32>,
}

/// Upon what a binding depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    protocol: Protocol,
    inner: SocketAddr,
    /// The outer address and port, where the mapping depends on them.
    toward: (Option<IpAddr>, Option<u16>),
}

#[derive(Debug, Clone)]
struct Binding {
    outer: SocketAddr,
    /// Who was talked to; while one of them is known, the binding lives.
    peers: BTreeMap<SocketAddr, Entry>,
}

/// All bindings of one NAT.
#[derive(Debug)]
pub(crate) struct Bindings {
    pool: Pool,
    mapping: Dependence,
    filtering: Dependence,
    timeouts: Timeouts,
    stream: Stream,
    by_key: BTreeMap<Key, Binding>,
    by_outer: BTreeMap<(Protocol, SocketAddr), Key>,
    /// What had which outer end before a rebinding, and may go on in the middle.
    rebound: BTreeMap<Key, SocketAddr>,
}

impl Bindings {
    pub(crate) const fn new(
        pool: Pool,
        (mapping, filtering): (Dependence, Dependence),
        timeouts: Timeouts,
        stream: Stream,
    ) -> Self {
        Self {
            pool,
            mapping,
            filtering,
            timeouts,
            stream,
            by_key: BTreeMap::new(),
            by_outer: BTreeMap::new(),
            rebound: BTreeMap::new(),
        }
    }

    /// Whether an address is one of the NAT's own.
    pub(crate) fn is_outer(&self, address: IpAddr) -> bool {
        self.pool.addresses.contains(&address)
    }

    /// A packet from inside: the outer end for its source.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        packet: &Packet,
        flow: &Flow,
    ) -> Result<Sent, Refused> {
        let key = self.key(flow);
        self.drop_stale(now, &key);
        let before = self.rebound.get(&key).copied();
        let may_begin = may_begin(packet) || before.is_some();
        if !self.by_key.contains_key(&key) {
            if !may_begin {
                return Err(Refused::Expired);
            }
            let outer = self.free_end(now, flow, before)?;
            self.by_outer.insert((flow.protocol, outer), key);
            let peers = BTreeMap::new();
            self.by_key.insert(key, Binding { outer, peers });
            self.rebound.remove(&key);
        }
        let timeouts = self.timeouts;
        let binding = self
            .by_key
            .get_mut(&key)
            .expect("it was there, or was made");
        if binding.peers.len() >= PEERS_MAX {
            binding
                .peers
                .retain(|_, entry| entry.is_known(now, flow.protocol, &timeouts));
        }
        let outer = binding.outer;
        let was_rebound = before.is_some_and(|before| before != outer);
        match binding.peers.entry(flow.destination) {
            btree_map::Entry::Occupied(mut peer)
                if peer.get().is_known(now, flow.protocol, &timeouts) =>
            {
                peer.get_mut().on_packet(now, packet.flags(), false);
            }
            // A binding for all peers does not make TCP with one of them known.
            _ if !may_begin => return Err(Refused::Expired),
            entry => {
                let known = if was_rebound {
                    Entry::in_the_middle(now)
                } else {
                    Entry::new(now)
                };
                entry.insert_entry(known);
            }
        }
        Ok(Sent { outer, was_rebound })
    }

    /// The outer end of a flow from inside that is known.
    pub(crate) fn known(&mut self, now: Instant, flow: &Flow) -> Option<SocketAddr> {
        let key = self.key(flow);
        self.drop_stale(now, &key);
        let binding = self.by_key.get(&key)?;
        self.is_peer(now, binding, flow.protocol, flow.destination)
            .then_some(binding.outer)
    }

    /// A packet from outside: the inner end that it is for.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        flags: Flags,
        flow: &Flow,
    ) -> Option<SocketAddr> {
        let key = *self.by_outer.get(&(flow.protocol, flow.destination))?;
        self.drop_stale(now, &key);
        let binding = self.by_key.get(&key)?;
        let passes = match self.filtering {
            Dependence::Endpoint => true,
            Dependence::Address => binding.peers.iter().any(|(peer, entry)| {
                peer.ip() == flow.source.ip() && entry.is_known(now, flow.protocol, &self.timeouts)
            }),
            Dependence::AddressAndPort => self.is_peer(now, binding, flow.protocol, flow.source),
        };
        if !passes {
            return None;
        }
        let binding = self.by_key.get_mut(&key)?;
        // Whoever the filter lets in may be answered.
        let has_room = binding.peers.len() < PEERS_MAX;
        match binding.peers.entry(flow.source) {
            btree_map::Entry::Occupied(mut peer) => peer.get_mut().on_packet(now, flags, true),
            btree_map::Entry::Vacant(peer) if has_room => {
                peer.insert(Entry::new(now));
            }
            btree_map::Entry::Vacant(_) => {}
        }
        Some(key.inner)
    }

    /// The inner end of the flow that an error from outside is about.
    pub(crate) fn inner_of_error(&mut self, now: Instant, about: &Flow) -> Option<SocketAddr> {
        let key = *self.by_outer.get(&(about.protocol, about.source))?;
        self.drop_stale(now, &key);
        let binding = self.by_key.get(&key)?;
        self.is_peer(now, binding, about.protocol, about.destination)
            .then_some(key.inner)
    }

    pub(crate) fn forget(&mut self) {
        self.by_key.clear();
        self.by_outer.clear();
        self.rebound.clear();
    }

    pub(crate) fn rebind(&mut self) {
        let bindings = std::mem::take(&mut self.by_key);
        self.by_outer.clear();
        self.rebound = bindings
            .into_iter()
            .map(|(key, binding)| (key, binding.outer))
            .collect();
    }

    fn is_peer(
        &self,
        now: Instant,
        binding: &Binding,
        protocol: Protocol,
        peer: SocketAddr,
    ) -> bool {
        let entry = binding.peers.get(&peer);
        entry.is_some_and(|entry| entry.is_known(now, protocol, &self.timeouts))
    }

    fn key(&self, flow: &Flow) -> Key {
        let (address, port) = (flow.destination.ip(), flow.destination.port());
        Key {
            protocol: flow.protocol,
            inner: flow.source,
            toward: match self.mapping {
                Dependence::Endpoint => (None, None),
                Dependence::Address => (Some(address), None),
                Dependence::AddressAndPort => (Some(address), Some(port)),
            },
        }
    }

    /// Forgets a binding of which no peer is known any more.
    fn drop_stale(&mut self, now: Instant, key: &Key) {
        let timeouts = &self.timeouts;
        let is_stale = self.by_key.get(key).is_some_and(|binding| {
            !binding
                .peers
                .values()
                .any(|entry| entry.is_known(now, key.protocol, timeouts))
        });
        if is_stale && let Some(binding) = self.by_key.remove(key) {
            self.by_outer.remove(&(key.protocol, binding.outer));
        }
    }

    /// An outer end that nobody has.
    fn free_end(
        &mut self,
        now: Instant,
        flow: &Flow,
        not: Option<SocketAddr>,
    ) -> Result<SocketAddr, Refused> {
        if self.is_full(flow) {
            // Only a full pool is worth the walk over all bindings.
            for key in self.by_key.keys().copied().collect::<Vec<_>>() {
                self.drop_stale(now, &key);
            }
        }
        if self.has_its_share(flow) {
            return Err(Refused::Exhausted);
        }
        let inner = flow.source;
        let wanted = self.pool.keep_port && self.pool.ports.contains(inner.port());
        for address in self.addresses_for(inner.ip()) {
            let kept = SocketAddr::new(address, inner.port());
            if wanted && not.is_none() && self.take(now, flow.protocol, kept) {
                return Ok(kept);
            }
            let count = self.pool.ports.count();
            let start = u32::try_from(self.stream.below(count.into())).unwrap_or(0);
            for step in 0..count {
                let offset = u16::try_from((start + step) % count).unwrap_or(0);
                let end = SocketAddr::new(address, self.pool.ports.first + offset);
                if Some(end) != not && self.take(now, flow.protocol, end) {
                    return Ok(end);
                }
            }
        }
        Err(Refused::Exhausted)
    }

    /// The pool's addresses, beginning with the one that is this host's (RFC 4787 asks
    /// that a host keeps one address).
    fn addresses_for(&self, inner: IpAddr) -> Vec<IpAddr> {
        let number = match inner {
            IpAddr::V4(inner) => usize::try_from(inner.to_bits()).unwrap_or(0),
            IpAddr::V6(inner) => usize::from(inner.segments()[7]),
        };
        let mut addresses = self.pool.addresses.clone();
        let count = addresses.len().max(1);
        addresses.rotate_left(number % count);
        addresses
    }

    /// Whether an outer end is free, or becomes so because its binding is stale.
    fn take(&mut self, now: Instant, protocol: Protocol, end: SocketAddr) -> bool {
        let Some(key) = self.by_outer.get(&(protocol, end)).copied() else {
            return true;
        };
        self.drop_stale(now, &key);
        !self.by_outer.contains_key(&(protocol, end))
    }

    fn is_full(&self, flow: &Flow) -> bool {
        let room =
            self.pool.addresses.len() * usize::try_from(self.pool.ports.count()).unwrap_or(0);
        self.by_outer.len() >= room || self.has_its_share(flow)
    }

    fn has_its_share(&self, flow: &Flow) -> bool {
        let Some(share) = self.pool.ports_per_host else {
            return false;
        };
        let inner = flow.source.ip();
        let first = Key {
            protocol: flow.protocol,
            inner: SocketAddr::new(inner, 0),
            toward: (None, None),
        };
        let own = self
            .by_key
            .range(first..)
            .take_while(|(key, _)| key.protocol == flow.protocol && key.inner.ip() == inner);
        own.count() >= usize::try_from(share).unwrap_or(usize::MAX)
    }
}
