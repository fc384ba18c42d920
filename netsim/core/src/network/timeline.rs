//! The timeline of a scenario as moments, and what they change in the network.

use super::{EdgeDeed, Network, diverter::Diverter, faults::Fault};
use crate::{
    middlebox::{Cause, Middlebox},
    model::{Deed, Event, Line, Scenario, Word},
    term::Name,
    time::Instant,
    topology::{LinkId, Node, NodeId},
    trace::Observation,
};

/// A change at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An event happens.
    Begins,
    /// An event is undone.
    Ends,
}

/// When an event happens, or is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// Which, by its place in the scenario.
    pub event: usize,
    /// Which of the two.
    pub change: Change,
}

/// Something that happens to a host, and that the network alone cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostDeed {
    /// When.
    pub at: Instant,
    /// The host's copy.
    pub host: NodeId,
    /// Which event, by its place in the scenario.
    pub event: usize,
    /// Whether it begins or is undone.
    pub change: Change,
}

/// Every moment of a drawn scenario, in order; at one moment, what ends goes first.
pub fn timeline(scenario: &Scenario) -> Vec<Moment> {
    let moments = scenario
        .events
        .iter()
        .enumerate()
        .flat_map(|(number, event)| {
            let begins = Moment {
                at: Instant::at(event.time.get()),
                event: number,
                change: Change::Begins,
            };
            let ends = event.undone_at().map(|at| Moment {
                at: Instant::at(at),
                event: number,
                change: Change::Ends,
            });
            std::iter::once(begins).chain(ends)
        });
    let mut moments: Vec<Moment> = moments.collect();
    moments.sort_by_key(|moment| (moment.at, moment.change == Change::Begins, moment.event));
    moments
}

impl Network {
    /// The next moment of the timeline comes.
    pub(super) fn next_change(&mut self, now: Instant) {
        let Some(moment) = self.moments.get(self.next_moment).copied() else {
            return;
        };
        self.next_moment += 1;
        let event = self.scenario.events[moment.event].clone();
        let word = match moment.change {
            Change::Begins => Word::Event,
            Change::Ends => Word::Undone,
        };
        let detail = event.name.as_ref().map(|name| name.to_string());
        self.observe(Observation {
            at: now,
            host: None,
            word,
            detail: detail.unwrap_or_else(|| format!("event-{}", moment.event)),
        });
        self.change(now, moment, &event);
    }

    fn change(&mut self, now: Instant, moment: Moment, event: &Event) {
        let begins = moment.change == Change::Begins;
        match *event.deed {
            Deed::Cut => self.set_links(&event.on, !begins),
            Deed::Mend => self.set_links(&event.on, true),
            Deed::Line => self.set_line(event, begins),
            Deed::Forget | Deed::Rebind => self.set_edge(now, moment, event),
            Deed::VpnUp | Deed::VpnDown => {
                let is_up = (*event.deed == Deed::VpnUp) == begins;
                let number = self
                    .scenario
                    .vpns
                    .iter()
                    .position(|vpn| *vpn.name == *event.on);
                if let Some(number) = number {
                    self.set_vpn(number, is_up);
                    self.host_deeds(now, moment, &self.scenario.vpns[number].host.clone());
                }
            }
            Deed::Crash
            | Deed::Stop
            | Deed::Start
            | Deed::Suspend
            | Deed::Resume
            | Deed::Skew
            | Deed::Readdress => {
                self.set_awake(event, begins);
                self.host_deeds(now, moment, &event.on);
            }
            Deed::Release => self.set_released(event, begins),
        }
        self.note_fault(moment, event);
    }

    fn host_deeds(&mut self, at: Instant, moment: Moment, name: &Name) {
        for host in self.topology.copies(&self.scenario, name) {
            self.host_deeds.push(HostDeed {
                at,
                host,
                event: moment.event,
                change: moment.change,
            });
        }
    }

    fn links_of(&self, cable: &Name) -> Vec<LinkId> {
        self.topology.copies_of_cable(&self.scenario, cable)
    }

    fn set_links(&mut self, cable: &Name, is_up: bool) {
        for link in self.links_of(cable) {
            if is_up {
                self.links[link.0].mend();
            } else {
                // What was under way is counted by the cable.
                self.links[link.0].cut(&mut Vec::new());
            }
            self.schedule(super::Component::Link(link));
        }
    }

    fn set_line(&mut self, event: &Event, begins: bool) {
        for link in self.links_of(&event.on) {
            let own = &self.scenario.cables[self.topology.links[link.0].cable].line;
            let line: &Line = event.line.as_ref().filter(|_| begins).unwrap_or(own);
            self.links[link.0].set_line(line);
        }
    }

    fn set_edge(&mut self, now: Instant, moment: Moment, event: &Event) {
        let nodes = self.topology.nodes.iter().enumerate();
        let is_meant = |node: &Node| match node {
            Node::Edge { edge } => *self.scenario.edges[*edge].name == *event.on,
            Node::Host { .. } => false,
        };
        let found = nodes
            .filter(|(_, node)| is_meant(node))
            .map(|(id, _)| NodeId(id))
            .next();
        let Some(id) = found else {
            return;
        };
        if let Some(edge) = self.edges[id.0].as_mut() {
            if edge.is_external {
                self.edge_deeds.push(EdgeDeed {
                    at: now,
                    edge: id,
                    event: moment.event,
                });
            }
            if *event.deed == Deed::Rebind {
                edge.chain.rebind();
            } else {
                edge.chain.forget();
                edge.diverter.iter_mut().for_each(Diverter::forget);
            }
        }
    }

    fn set_awake(&mut self, event: &Event, begins: bool) {
        let is_awake = match (*event.deed, begins) {
            (Deed::Crash | Deed::Suspend, begins) => !begins,
            (Deed::Start | Deed::Resume, true) => true,
            // One that is asked to end can still say so.
            _ => return,
        };
        for id in self.topology.copies(&self.scenario, &event.on) {
            if let Some(host) = &mut self.hosts[id.0] {
                host.is_awake = is_awake;
            }
        }
    }

    /// A captive portal lets through, or does not any more. What runs there asks by
    /// [`Network::is_captive`].
    fn set_released(&mut self, event: &Event, is_released: bool) {
        let mut proxies = self.scenario.proxies.iter();
        let Some(proxy) = proxies.position(|proxy| *proxy.name == *event.on) else {
            return;
        };
        if is_released {
            self.released.insert(proxy);
        } else {
            self.released.remove(&proxy);
        }
        let edges = self.edges.iter_mut().flatten();
        for diverter in edges.filter_map(|edge| edge.diverter.as_mut()) {
            diverter.release(proxy, is_released);
        }
    }

    /// A VPN comes up or goes down: its cable carries or does not, and its host uses it.
    pub(super) fn set_vpn(&mut self, number: usize, is_up: bool) {
        let vpn = self.scenario.vpns[number].clone();
        for link in self.links_of(&vpn.cable) {
            for end in self.topology.links[link.0].ends {
                let Some(host) = &mut self.hosts[end.node.0] else {
                    continue;
                };
                host.vpns.retain(|up| *up != link);
                if is_up {
                    host.vpns.push(link);
                }
            }
        }
        self.set_links(&vpn.cable, is_up);
    }

    /// Remembers what an event must touch to have happened at all.
    fn note_fault(&mut self, moment: Moment, event: &Event) {
        let cause = match *event.deed {
            Deed::Cut => Cause::Cut,
            Deed::Rebind => Cause::Rebound,
            Deed::Suspend | Deed::Crash => Cause::HostDown,
            Deed::Mend
            | Deed::Line
            | Deed::Forget
            | Deed::Stop
            | Deed::Start
            | Deed::Resume
            | Deed::Skew
            | Deed::Readdress
            | Deed::VpnUp
            | Deed::VpnDown
            | Deed::Release => return,
        };
        if moment.change == Change::Begins {
            let before = self.touched().of(cause);
            let name = event.name.as_ref().map_or("", |name| name.as_str());
            let what = format!("{} of {} at {} {name}", *event.deed, *event.on, moment.at);
            self.faults.push(Fault::new(what, cause, before));
        }
    }
}
