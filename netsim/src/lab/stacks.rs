//! Hosts of the lab that are simulated: stacks, their timers, and what answers on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use netsim_core::{
    model::Deed,
    network::{HostDeed, Network},
    packet::Packet,
    random::Seed,
    stack::Stack,
    time::Instant,
    topology::NodeId,
};

use super::fabric::{Service, begins};

/// The MTU of simulated hosts; cables may be narrower.
const MTU: u16 = 1500;

struct Resident {
    stack: Stack,
    service: Option<Box<dyn Service>>,
    timer: Option<Instant>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Stacks(BTreeMap<NodeId, Resident>);

impl Stacks {
    /// A stack for a host, and what answers on it.
    pub(super) fn add(
        &mut self,
        (network, id): (&Network, NodeId),
        seed: Seed,
        service: Option<Box<dyn Service>>,
    ) {
        let name = network.host_name(id).unwrap_or_default();
        let addresses = network.topology().addresses(id).iter();
        let own = addresses.filter(|(_, bound)| bound.is_none());
        let nets = own.map(|(address, _)| IpNet::from(*address)).collect();
        let stream = seed.stream(&format!("host.{name}.stack"));
        let stack = Stack::new(nets, MTU, stream);
        // Polled at once, so that its service can bind.
        let timer = Some(Instant::START);
        self.0.insert(
            id,
            Resident {
                stack,
                service,
                timer,
            },
        );
    }

    /// Hosts whose timers have run out.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<NodeId> {
        let all = self.0.iter();
        all.filter(|(_, one)| one.timer.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect()
    }

    /// When a timer runs out.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        self.0.values().filter_map(|one| one.timer).min()
    }

    /// A packet for a host. Whether there is such a host here.
    pub(super) fn receive(&mut self, now: Instant, host: NodeId, packet: Packet) -> bool {
        let resident = self.0.get_mut(&host);
        resident.is_some_and(|one| {
            one.stack.receive(now, packet);
            true
        })
    }

    /// A host's turn: timers, its service, and what it sends.
    pub(super) fn poll(&mut self, now: Instant, host: NodeId, network: &mut Network) {
        let Some(one) = self.0.get_mut(&host) else {
            return;
        };
        one.stack.poll(now);
        if let Some(service) = &mut one.service {
            service.serve(now, &mut one.stack);
            one.stack.poll(now);
        }
        for packet in one.stack.take_sent() {
            network.send(now, host, packet);
        }
        // A timer of now would run for ever.
        let soon = now + Duration::from_millis(1);
        one.timer = one.stack.poll_at(now).map(|at| at.max(soon));
    }

    /// What an event does to a host. Whether there is such a host here.
    pub(super) fn happen(&mut self, now: Instant, deed: HostDeed, network: &Network) -> bool {
        let Some(one) = self.0.get_mut(&deed.host) else {
            return false;
        };
        let event = &network.scenario().events[deed.event];
        match *event.deed {
            Deed::Crash if begins(&deed) => one.stack.close_all(now),
            Deed::Readdress => {
                let new = event.address.as_deref().copied().filter(|_| begins(&deed));
                let own = network.topology().addresses(deed.host).iter();
                let nets = own.filter(|(_, bound)| bound.is_none()).map(|(own, _)| {
                    let same_family = |new: &IpNet| new.addr().is_ipv4() == own.is_ipv4();
                    new.filter(same_family).unwrap_or_else(|| IpNet::from(*own))
                });
                one.stack.reconfigure(nets.collect(), MTU);
            }
            // Simulated hosts have no VPNs, and what is cut off needs no help.
            Deed::Crash
            | Deed::VpnUp
            | Deed::VpnDown
            | Deed::Cut
            | Deed::Mend
            | Deed::Line
            | Deed::Forget
            | Deed::Rebind
            | Deed::Stop
            | Deed::Start
            | Deed::Suspend
            | Deed::Resume
            | Deed::Skew
            | Deed::Release => {}
        }
        true
    }
}
