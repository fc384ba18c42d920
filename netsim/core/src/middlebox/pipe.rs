//! One direction of a cable: what a line does to packets, in the order in which a real
//! one does it. What is too long is refused, the queue takes in what it has room for,
//! the line sends at its rate, and the way takes its time.
//!
//! Invariants: every packet that goes in comes out, is dropped with a cause, or is still
//! under way; without `reorder` packets come out in the order in which they went in,
//! whatever the jitter; no more bytes come out than the rate allows.

use std::{collections::VecDeque, time::Duration};

use super::{Cause, EdgeAddress, Touched, Verdict};
use crate::{
    model::{Bursts, Jitter, Line, Shape, Side, TooBig},
    packet::{Packet, Trouble},
    random::{Seed, Stream},
    time::Instant,
};

/// A Pareto distribution's longest draw, in spreads: the tail is cut where it would be an
/// outage.
const PARETO_MAX: f64 = 20.0;

/// Random streams of a line, one for each thing that chance decides.
#[derive(Debug)]
struct Dice {
    loss: Stream,
    bursts: Stream,
    jitter: Stream,
    reorder: Stream,
    duplicate: Stream,
    corrupt: Stream,
}

/// See the module.
#[derive(Debug)]
pub struct Pipe {
    line: Line,
    /// Where packets come out.
    to: Side,
    by: EdgeAddress,
    dice: Dice,
    is_in_burst: bool,
    /// When the last packet will have been sent.
    busy_until: Instant,
    /// When the last packet that was not reordered comes out.
    last_out: Instant,
    /// By the time at which it comes out, then in the order of coming in.
    under_way: VecDeque<(Instant, Packet)>,
    touched: Touched,
}

impl Pipe {
    /// A pipe whose packets come out on this side. `purpose` names its random streams.
    pub fn new(line: Line, to: Side, by: EdgeAddress, (seed, purpose): (Seed, &str)) -> Self {
        let stream = |what: &str| seed.stream(&format!("{purpose}.{to}.{what}"));
        Self {
            line,
            to,
            by,
            dice: Dice {
                loss: stream("loss"),
                bursts: stream("bursts"),
                jitter: stream("jitter"),
                reorder: stream("reorder"),
                duplicate: stream("duplicate"),
                corrupt: stream("corrupt"),
            },
            is_in_burst: false,
            busy_until: Instant::START,
            last_out: Instant::START,
            under_way: VecDeque::new(),
            touched: Touched::default(),
        }
    }

    /// Becomes another line. What is under way arrives as it would have.
    pub fn set_line(&mut self, line: Line) {
        self.line = line;
    }

    /// The line as it is now.
    pub const fn line(&self) -> &Line {
        &self.line
    }

    /// A packet goes in.
    pub fn on_packet(&mut self, now: Instant, packet: Packet, verdicts: &mut Vec<Verdict>) {
        if let Some(why) = self.loses(&packet) {
            self.lose(packet, why, verdicts);
            return;
        }
        let Some(sent_at) = self.sent_at(now, packet.len()) else {
            self.drop(packet, Cause::QueueFull, verdicts);
            return;
        };
        let Some(packet) = self.corrupted(packet, verdicts) else {
            return;
        };
        let out_at = self.out_at(sent_at);
        if self.dice.duplicate.happens(self.line.duplicate.get().get()) {
            self.touched.count(Cause::Duplicated);
            self.put(out_at, packet.clone());
        }
        self.put(out_at, packet);
    }

    /// When the next packet comes out.
    pub fn poll_at(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, _)| *at)
    }

    /// Packets whose time has come come out.
    pub fn on_time(&mut self, now: Instant, verdicts: &mut Vec<Verdict>) {
        let to = self.to;
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let next = self.under_way.pop_front();
            verdicts.extend(next.map(|(_, packet)| Verdict::Forward { to, packet }));
        }
    }

    /// The cable is cut: what is under way is lost.
    pub fn cut(&mut self, verdicts: &mut Vec<Verdict>) {
        for (_, packet) in std::mem::take(&mut self.under_way) {
            self.drop(packet, Cause::Cut, verdicts);
        }
        self.busy_until = Instant::START;
        self.last_out = Instant::START;
    }

    /// How many packets are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// What it has done so far.
    pub const fn touched(&self) -> &Touched {
        &self.touched
    }

    /// Counts a packet that ends here.
    pub(super) fn drop(&mut self, packet: Packet, why: Cause, verdicts: &mut Vec<Verdict>) {
        self.touched.count(why);
        verdicts.push(Verdict::Drop { packet, why });
    }

    /// As [`Self::drop`]; the sender of what is too long may hear of it.
    fn lose(&mut self, packet: Packet, why: Cause, verdicts: &mut Vec<Verdict>) {
        if why == Cause::TooBig && self.line.too_big == TooBig::Icmp {
            let mtu = u16::try_from(self.line.mtu.get()).unwrap_or(u16::MAX);
            let by = self.by.toward(packet.source());
            if let Some(error) = packet.error(Trouble::TooBig { mtu }, by) {
                verdicts.push(Verdict::Forward {
                    to: self.to.other(),
                    packet: error,
                });
            }
        }
        self.drop(packet, why, verdicts);
    }

    /// Whether and why a packet does not get through. All dice are thrown for each
    /// packet, so that one fault does not shift another's.
    fn loses(&mut self, packet: &Packet) -> Option<Cause> {
        let is_lost = self.dice.loss.happens(self.line.loss.get().get());
        let is_in_burst = self
            .line
            .bursts
            .clone()
            .is_some_and(|bursts| self.bursts(&bursts));
        let mtu = usize::try_from(self.line.mtu.get()).unwrap_or(usize::MAX);
        match (packet.len() > mtu, is_lost, is_in_burst) {
            (true, _, _) => Some(Cause::TooBig),
            (false, true, _) => Some(Cause::Loss),
            (false, false, true) => Some(Cause::Burst),
            (false, false, false) => None,
        }
    }

    /// A step of Gilbert and Elliott's chain, and whether the packet is lost in the state
    /// that it leads to.
    fn bursts(&mut self, bursts: &Bursts) -> bool {
        let change = if self.is_in_burst {
            &bursts.leave
        } else {
            &bursts.enter
        };
        if self.dice.bursts.happens(change.get().get()) {
            self.is_in_burst = !self.is_in_burst;
        }
        let loss = if self.is_in_burst {
            &bursts.bad
        } else {
            &bursts.good
        };
        self.dice.bursts.happens(loss.get().get())
    }

    /// When a packet has been sent, behind those that wait; nothing where the queue has
    /// no room for it.
    fn sent_at(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let Some(rate) = &self.line.rate else {
            return Some(now);
        };
        let rate = rate.get().bits_per_second.max(1);
        let waiting = self.busy_until.since(now);
        let waiting_bytes = waiting.as_nanos() * u128::from(rate) / 8_000_000_000;
        let room = u128::from(self.line.queue.get().bytes);
        // What is being sent is not in the queue; with nothing waiting, everything fits.
        if !waiting.is_zero() && waiting_bytes + length as u128 > room {
            return None;
        }
        if !waiting.is_zero() {
            self.touched.count(Cause::Queued);
        }
        let nanos = (length as u128 * 8_000_000_000).div_ceil(u128::from(rate));
        let sending = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.busy_until = self.busy_until.max(now) + sending;
        Some(self.busy_until)
    }

    fn corrupted(&mut self, packet: Packet, verdicts: &mut Vec<Verdict>) -> Option<Packet> {
        let is_corrupt = self.dice.corrupt.happens(self.line.corrupt.get().get());
        let bit = self.dice.corrupt.bits();
        if !is_corrupt {
            return Some(packet);
        }
        self.touched.count(Cause::Corrupted);
        let turned = packet.clone().with_bit_turned(bit);
        if turned.is_none() {
            let why = Cause::Corrupted;
            verdicts.push(Verdict::Drop { packet, why });
        }
        turned
    }

    /// When a packet that has been sent comes out.
    fn out_at(&mut self, sent_at: Instant) -> Instant {
        let jitter = self.line.jitter.clone().map(|jitter| self.jitter(&jitter));
        let mut out_at = sent_at + self.line.delay.get() + jitter.unwrap_or_default();
        let reorder = self.line.reorder.clone();
        let share = reorder
            .as_ref()
            .map_or(0.0, |reorder| reorder.share.get().get());
        if self.dice.reorder.happens(share) {
            self.touched.count(Cause::Reordered);
            let by = reorder.map_or(Duration::ZERO, |reorder| reorder.by.get());
            return out_at.max(self.last_out) + by;
        }
        // A line is first in, first out: jitter holds up what comes behind as well.
        out_at = out_at.max(self.last_out);
        self.last_out = out_at;
        out_at
    }

    fn jitter(&mut self, jitter: &Jitter) -> Duration {
        let stream = &mut self.dice.jitter;
        let spread = jitter.spread.get();
        match jitter.shape {
            Shape::Uniform => stream.span(spread),
            Shape::Normal => spread.mul_f64(stream.normal().abs()),
            // Lomax: Pareto of exponent 3, from nothing on, has mean scale / 2.
            Shape::Pareto => {
                let far = (1.0 - stream.unit()).powf(-1.0 / 3.0) - 1.0;
                spread.mul_f64(far.min(PARETO_MAX))
            }
        }
    }

    fn put(&mut self, at: Instant, packet: Packet) {
        // Only what is reordered comes out before what went in earlier, or is passed by it.
        let earlier = self.under_way.iter().rev().take_while(|(one, _)| *one > at);
        let place = self.under_way.len() - earlier.count();
        self.under_way.insert(place, (at, packet));
    }
}

#[cfg(test)]
mod tests;
