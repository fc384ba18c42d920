//! What an edge diverts to the proxies that stand on it: TCP that begins inside, leads
//! outside, and goes to one of their ports.
//!
//! The proxies' host is the edge's own node. It takes in what is diverted under whatever
//! address that was sent to, and answers from there; its own connections leave through
//! the boxes of the edge, as those of a host inside would. Like a redirection by conntrack,
//! a connection is diverted for good or not at all: its first packet decides.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
};

use crate::{
    middlebox::{Cause, Touched},
    model::{Proxy, ProxyKind, Scenario},
    packet::{Flow, Packet},
    topology::proxy_addresses,
};

/// The most connections that are remembered as diverted; the oldest goes first. As many
/// as one address has ports.
const FLOWS_MAX: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Diverter {
    own: [IpAddr; 2],
    /// Proxies by their place in the scenario, and whether they take in what begins.
    proxies: Vec<(usize, Proxy, bool)>,
    flows: BTreeSet<Flow>,
    /// The same, in the order in which they began.
    order: VecDeque<Flow>,
    touched: Touched,
}

/// What becomes of a packet that leads outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Diversion {
    /// It goes on.
    None,
    /// It is for the proxies.
    Known,
    /// It is the first of a connection to this proxy, by its place in the scenario.
    Begins(usize),
}

impl Diverter {
    /// The diverter of the edge at this place in the scenario; none where no proxy stands.
    pub(super) fn of(scenario: &Scenario, edge: usize) -> Option<Self> {
        let name = &scenario.edges[edge].name;
        let proxies = scenario.proxies.iter().enumerate();
        let here = proxies
            .filter(|(_, proxy)| proxy.speaks == ProxyKind::Transparent && *proxy.on == **name);
        let here: Vec<_> = here
            .map(|(number, proxy)| (number, proxy.clone(), true))
            .collect();
        (!here.is_empty()).then(|| Self {
            own: proxy_addresses(edge),
            proxies: here,
            flows: BTreeSet::new(),
            order: VecDeque::new(),
            touched: Touched::default(),
        })
    }

    /// Whether an address is one that the proxies dial from.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// A captive portal lets through, or does not any more. Where that was all it did,
    /// what begins from now on is not diverted.
    pub(super) fn release(&mut self, proxy: usize, is_released: bool) {
        for (number, config, takes) in &mut self.proxies {
            if *number == proxy {
                *takes = !is_released || config.does_more_than_hold();
            }
        }
    }

    /// Forgets what is diverted, as a box that was restarted.
    pub(super) fn forget(&mut self) {
        self.flows.clear();
        self.order.clear();
    }

    /// How many packets were diverted.
    pub(super) const fn touched(&self) -> &Touched {
        &self.touched
    }

    /// A packet that leads from inside to outside.
    pub(super) fn judge(&mut self, packet: &Packet) -> Diversion {
        let is_tcp = packet.sequence().is_some();
        let diversion = match packet.flow().filter(|_| is_tcp) {
            Some(flow) if packet.flags().opens() => self.begin(flow),
            Some(flow) if self.flows.contains(&flow) => Diversion::Known,
            Some(_) => Diversion::None,
            // A complaint about what a proxy has sent.
            None => match packet.about() {
                Some(about) if self.flows.contains(&about.reversed()) => Diversion::Known,
                _ => Diversion::None,
            },
        };
        if diversion != Diversion::None {
            self.touched.count(Cause::Diverted);
        }
        diversion
    }

    fn begin(&mut self, flow: Flow) -> Diversion {
        let port = flow.destination.port();
        let mut takers = self.proxies.iter().filter(|(_, _, takes)| *takes);
        let taker = takers.find(|(_, proxy, _)| proxy.port.contains(port));
        let Some(number) = taker.map(|(number, _, _)| *number) else {
            // The same ends as a connection of before.
            if self.flows.remove(&flow) {
                self.order.retain(|known| *known != flow);
            }
            return Diversion::None;
        };
        if self.flows.insert(flow) {
            self.order.push_back(flow);
        }
        if self.order.len() > FLOWS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.flows.remove(&oldest);
        }
        Diversion::Begins(number)
    }
}
