//! Mischief with names: questions over UDP that pass are answered with a lie, with an
//! error, not at all, or late.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Cause, Middlebox, Touched, Verdict};
use crate::{
    dns::{Question, Refusal, answer, question, refusal},
    model::{DnsRule, DnsTrick, Protocol, Side},
    packet::Packet,
    time::Instant,
};

/// The port of DNS.
const PORT: u16 = 53;

/// The most answers that are held back at once; what comes beyond is not late.
const HELD_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct DnsBox {
    rules: Vec<DnsRule>,
    /// Packets that come out later, and where.
    held: BTreeMap<(Instant, u64), (Side, Packet)>,
    sequence: u64,
    touched: Touched,
}

impl DnsBox {
    /// Rules, of which the first that fits decides.
    pub fn new(rules: Vec<DnsRule>) -> Self {
        Self {
            rules,
            held: BTreeMap::new(),
            sequence: 0,
            touched: Touched::default(),
        }
    }

    /// The rule for a packet with a question, from inside or, in its answer, from outside.
    fn rule(&self, from: Side, packet: &Packet) -> Option<(DnsRule, Question)> {
        let flow = packet.flow()?;
        let port = match from {
            Side::Inside => flow.destination.port(),
            Side::Outside => flow.source.port(),
        };
        if flow.protocol != Protocol::Udp || port != PORT {
            return None;
        }
        let question = question(packet.payload())?;
        let names = |rule: &&DnsRule| {
            let mut names = rule.names.iter();
            names.any(|name| fits(name.as_str(), &question.name))
        };
        let rule = self.rules.iter().find(names)?.clone();
        Some((rule, question))
    }

    /// What a question is answered with in the server's name; nothing where the true
    /// server is to answer, or nobody.
    fn made_up(rule: &DnsRule, packet: &Packet, question: &Question) -> Option<Packet> {
        let flow = packet.flow()?.reversed();
        let payload = match rule.trick {
            DnsTrick::Lie => {
                let addresses: Vec<IpAddr> = rule.answer.iter().map(|one| **one).collect();
                answer(packet.payload(), question, &addresses)
            }
            DnsTrick::NoSuchName => refusal(packet.payload(), question, Refusal::NoSuchName),
            DnsTrick::ServerFailure => refusal(packet.payload(), question, Refusal::ServerFailure),
            DnsTrick::Refused => refusal(packet.payload(), question, Refusal::Refused),
            DnsTrick::Silence | DnsTrick::Slow => return None,
        };
        Some(Packet::udp(flow.source, flow.destination, &payload))
    }

    fn send(
        &mut self,
        at: Instant,
        now: Instant,
        (to, packet): (Side, Packet),
        verdicts: &mut Vec<Verdict>,
    ) {
        if at <= now || self.held.len() >= HELD_MAX {
            verdicts.push(Verdict::Forward { to, packet });
        } else {
            self.held.insert((at, self.sequence), (to, packet));
            self.sequence += 1;
        }
    }
}

/// `*` is every name, `*.corp` every name below, anything else itself.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            let start = name.len().checked_sub(suffix.len());
            let end = start.and_then(|start| name.get(start..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(suffix)) && name.len() > suffix.len()
        }
        None => pattern.eq_ignore_ascii_case(name),
    }
}

impl Middlebox for DnsBox {
    fn on_packet(&mut self, now: Instant, from: Side, packet: Packet, verdicts: &mut Vec<Verdict>) {
        let to = from.other();
        let Some((rule, question)) = self.rule(from, &packet) else {
            verdicts.push(Verdict::Forward { to, packet });
            return;
        };
        let later = now + rule.delay.get();
        match (rule.trick, from) {
            // The question passes, and the answer is late.
            (DnsTrick::Slow, Side::Inside) => verdicts.push(Verdict::Forward { to, packet }),
            (DnsTrick::Slow, Side::Outside) => {
                self.touched.count(Cause::Misled);
                self.send(later, now, (to, packet), verdicts);
            }
            (_, Side::Outside) => verdicts.push(Verdict::Forward { to, packet }),
            (_, Side::Inside) => {
                self.touched.count(Cause::Misled);
                if let Some(made_up) = Self::made_up(&rule, &packet, &question) {
                    self.send(later, now, (from, made_up), verdicts);
                }
                let why = Cause::Misled;
                verdicts.push(Verdict::Drop { packet, why });
            }
        }
    }

    fn poll_at(&self) -> Option<Instant> {
        self.held.keys().next().map(|(at, _)| *at)
    }

    fn on_time(&mut self, now: Instant, verdicts: &mut Vec<Verdict>) {
        while let Some(entry) = self.held.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let (to, packet) = entry.remove();
            verdicts.push(Verdict::Forward { to, packet });
        }
    }

    fn touched(&self) -> Touched {
        self.touched.clone()
    }
}

#[cfg(test)]
mod tests;
