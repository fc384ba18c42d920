//! A cable: two pipes, and whether it is plugged in. Its first end is its inside.

use super::{Cause, EdgeAddress, Middlebox, Pipe, Touched, Verdict, earlier};
use crate::{
    model::{Cable, Line, Side},
    packet::Packet,
    random::Seed,
    time::Instant,
};

/// See the module.
#[derive(Debug)]
pub struct CableBox {
    is_up: bool,
    /// From the first end to the second.
    there: Pipe,
    back: Pipe,
}

impl CableBox {
    /// A cable as the scenario has it. `purpose` names its random streams.
    pub fn new(cable: &Cable, by: EdgeAddress, (seed, purpose): (Seed, &str)) -> Self {
        let back = cable.back.as_ref().unwrap_or(&cable.line).clone();
        let dice = (seed, purpose);
        Self {
            is_up: cable.up,
            there: Pipe::new(cable.line.clone(), Side::Outside, by, dice),
            back: Pipe::new(back, Side::Inside, by, dice),
        }
    }

    /// Carries nothing from now on; what is under way is lost.
    pub fn cut(&mut self, verdicts: &mut Vec<Verdict>) {
        self.is_up = false;
        self.there.cut(verdicts);
        self.back.cut(verdicts);
    }

    /// Carries again.
    pub const fn mend(&mut self) {
        self.is_up = true;
    }

    /// Whether it carries.
    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Becomes another line in both directions.
    pub fn set_line(&mut self, line: &Line) {
        self.there.set_line(line.clone());
        self.back.set_line(line.clone());
    }
}

impl Middlebox for CableBox {
    fn on_packet(&mut self, now: Instant, from: Side, packet: Packet, verdicts: &mut Vec<Verdict>) {
        let pipe = match from {
            Side::Inside => &mut self.there,
            Side::Outside => &mut self.back,
        };
        if self.is_up {
            pipe.on_packet(now, packet, verdicts);
        } else {
            pipe.drop(packet, Cause::Cut, verdicts);
        }
    }

    fn poll_at(&self) -> Option<Instant> {
        earlier(self.there.poll_at(), self.back.poll_at())
    }

    fn on_time(&mut self, now: Instant, verdicts: &mut Vec<Verdict>) {
        self.there.on_time(now, verdicts);
        self.back.on_time(now, verdicts);
    }

    fn touched(&self) -> Touched {
        let mut touched = self.there.touched().clone();
        touched.add(self.back.touched());
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};
    use crate::term::{At, Name, Term};

    fn cable(back: Option<Line>) -> CableBox {
        let mut cable = Cable::blank();
        cable.name = At::nowhere(Name::of("uplink"));
        cable.back = back;
        CableBox::new(&cable, BY, (Seed(1), "cable.uplink"))
    }

    #[test]
    fn what_is_under_way_is_lost_with_the_cable() {
        let mut cable = cable(None);
        outbound(&mut cable, seconds(0), udp(INNER, OUTER, b"x"));

        let mut verdicts = Vec::new();
        cable.cut(&mut verdicts);
        let out = outbound(&mut cable, seconds(1), udp(INNER, OUTER, b"y"));

        assert_eq!(out.dropped(), [Cause::Cut]);
        assert_eq!(cable.touched().of(Cause::Cut), 2);
        assert_eq!(cable.poll_at(), None);
    }

    #[test]
    fn a_mended_cable_carries_again() {
        let mut cable = cable(None);
        cable.cut(&mut Vec::new());

        cable.mend();
        outbound(&mut cable, seconds(1), udp(INNER, OUTER, b"x"));

        assert_eq!(on_time(&mut cable, seconds(1)).forwarded().len(), 1);
    }

    #[test]
    fn the_way_back_may_be_another_line() {
        let mut narrow = Line::IDEAL;
        narrow.mtu = At::nowhere(576.into());
        let mut cable = cable(Some(narrow));
        let long = |from, to| udp(from, to, &[0; 1000]);

        let there = outbound(&mut cable, seconds(0), long(INNER, OUTER));
        let back = inbound(&mut cable, seconds(0), long(OUTER, INNER));

        assert_eq!(there.dropped(), []);
        assert_eq!(back.dropped(), [Cause::TooBig]);
    }
}
