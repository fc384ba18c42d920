//! A stateful firewall: what belongs to a flow passes, what begins one from inside asks
//! the rules, and nothing begins one from outside.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    Cause, Middlebox, Touched, Verdict,
    flow_table::{Entry, FLOWS_MAX, may_begin},
    refusal::{EdgeAddress, refuse},
};
use crate::{
    model::{Expired, Firewall, Rule, Ruling, Side, Timeouts},
    packet::{Flow, Packet, Transport},
    time::Instant,
};

/// See the module.
#[derive(Debug)]
pub struct FirewallBox {
    rules: Firewall,
    timeouts: Timeouts,
    by: EdgeAddress,
    /// By the flow as its inner end sends it.
    flows: BTreeMap<Flow, Entry>,
    touched: Touched,
}

impl FirewallBox {
    /// A firewall that knows no flow yet.
    pub const fn new(rules: Firewall, timeouts: Timeouts, by: EdgeAddress) -> Self {
        Self {
            rules,
            timeouts,
            by,
            flows: BTreeMap::new(),
            touched: Touched(BTreeMap::new()),
        }
    }

    fn is_known(&mut self, now: Instant, flow: &Flow) -> bool {
        let timeouts = self.timeouts;
        let entry = self.flows.get(flow);
        let is_known = entry.is_some_and(|entry| entry.is_known(now, flow.protocol, &timeouts));
        if !is_known {
            self.flows.remove(flow);
        }
        is_known
    }

    /// What a packet gets that would begin a flow from inside, and why.
    fn judge(&self, packet: &Packet, flow: &Flow) -> (Ruling, Cause) {
        if !may_begin(packet) && !self.rules.loose {
            let ruling = match self.timeouts.expired {
                Expired::Silent => Ruling::Drop,
                Expired::Reset => Ruling::Reset,
            };
            return (ruling, Cause::Expired);
        }
        let rule = self.rules.rules.iter().find(|rule| fits(rule, flow));
        let ruling = rule.map_or(self.rules.otherwise, |rule| rule.ruling);
        (ruling, Cause::Rule)
    }

    fn remember(&mut self, now: Instant, packet: &Packet, flow: Flow) {
        if self.flows.len() >= FLOWS_MAX {
            let timeouts = self.timeouts;
            self.flows
                .retain(|flow, entry| entry.is_known(now, flow.protocol, &timeouts));
        }
        let entry = if may_begin(packet) {
            Entry::new(now)
        } else {
            Entry::in_the_middle(now)
        };
        // A full table refuses new flows, as a full conntrack does: the packet passes,
        // and its answer will not.
        if self.flows.len() < FLOWS_MAX {
            self.flows.insert(flow, entry);
        }
    }

    /// The flow that a packet from this side belongs to, as its inner end sends it.
    fn key(packet: &Packet, from: Side) -> Option<Flow> {
        let is_error = matches!(packet.transport(), Transport::Error { .. });
        let flow = if is_error {
            packet.about()
        } else {
            packet.flow()
        }?;
        // An error travels against the packet that it is about.
        let is_inner = (from == Side::Inside) != is_error;
        if !is_inner {
            Some(flow.reversed())
        } else {
            Some(flow)
        }
    }
}

fn fits(rule: &Rule, flow: &Flow) -> bool {
    let (address, port) = (flow.destination.ip(), flow.destination.port());
    let is_in =
        |nets: &[IpNet], end: IpAddr| nets.is_empty() || nets.iter().any(|net| net.contains(&end));
    is_in(&rule.from, flow.source.ip())
        && is_in(&rule.to, address)
        && rule
            .protocol
            .is_none_or(|protocol| protocol == flow.protocol)
        && (rule.ports.is_empty() || rule.ports.iter().any(|ports| ports.contains(port)))
}

impl Middlebox for FirewallBox {
    fn on_packet(&mut self, now: Instant, from: Side, packet: Packet, verdicts: &mut Vec<Verdict>) {
        let is_error = matches!(packet.transport(), Transport::Error { .. });
        let key = Self::key(&packet, from);
        let refused = match (key, from) {
            (Some(flow), _) if self.is_known(now, &flow) => {
                if let Some(entry) = self.flows.get_mut(&flow).filter(|_| !is_error) {
                    entry.on_packet(now, packet.flags(), from == Side::Outside);
                }
                None
            }
            (Some(_) | None, Side::Outside) => Some((*self.rules.unsolicited, Cause::Unsolicited)),
            (Some(_), Side::Inside) if is_error => Some((Ruling::Drop, Cause::Unsolicited)),
            (Some(flow), Side::Inside) => {
                let judged = self.judge(&packet, &flow);
                if judged.0 == Ruling::Allow {
                    self.remember(now, &packet, flow);
                    None
                } else {
                    Some(judged)
                }
            }
            // What has no ports may leave; nothing of the kind comes back.
            (None, Side::Inside) => None,
        };
        match refused {
            None => verdicts.push(Verdict::Forward {
                to: from.other(),
                packet,
            }),
            Some(refused) => {
                let out = (&mut self.touched, verdicts);
                refuse(refused, self.by, from, packet, out);
            }
        }
    }

    fn forget(&mut self) {
        self.flows.clear();
    }

    fn touched(&self) -> Touched {
        self.touched.clone()
    }
}

#[cfg(test)]
mod tests;
