//! A path that is narrower than it admits: longer packets are gone, and so is every
//! message that would tell their sender.

use super::{Cause, Middlebox, Touched, Verdict};
use crate::{
    model::{BlackHole, Side},
    packet::{Packet, Transport},
    time::Instant,
};

/// See the module.
#[derive(Debug)]
pub struct BlackHoleBox {
    mtu: usize,
    touched: Touched,
}

impl BlackHoleBox {
    /// A black hole.
    pub fn new(hole: &BlackHole) -> Self {
        Self {
            mtu: usize::try_from(hole.mtu.get()).unwrap_or(usize::MAX),
            touched: Touched::default(),
        }
    }
}

impl Middlebox for BlackHoleBox {
    fn on_packet(
        &mut self,
        _now: Instant,
        from: Side,
        packet: Packet,
        verdicts: &mut Vec<Verdict>,
    ) {
        let tells = matches!(
            packet.transport(),
            Transport::Error {
                is_too_big: true,
                ..
            }
        );
        if packet.len() > self.mtu || tells {
            self.touched.count(Cause::Swallowed);
            let why = Cause::Swallowed;
            verdicts.push(Verdict::Drop { packet, why });
        } else {
            verdicts.push(Verdict::Forward {
                to: from.other(),
                packet,
            });
        }
    }

    fn touched(&self) -> Touched {
        self.touched.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};
    use crate::{
        packet::Trouble,
        term::{At, Choice},
    };

    fn hole() -> BlackHoleBox {
        BlackHoleBox::new(&BlackHole {
            mtu: At::nowhere(Choice::Fixed(1280)),
        })
    }

    #[test]
    fn what_fits_passes_and_what_does_not_is_gone_in_silence() {
        let mut hole = hole();

        let fits = outbound(&mut hole, seconds(0), udp(INNER, OUTER, &[0; 1280 - 28]));
        let too_long = outbound(&mut hole, seconds(0), udp(INNER, OUTER, &[0; 1280 - 27]));

        assert!(fits.passed());
        assert_eq!(too_long.forwarded(), []);
        assert_eq!(hole.touched().of(Cause::Swallowed), 1);
    }

    #[test]
    fn nobody_is_told_that_a_packet_was_too_big() {
        let mut hole = hole();
        let sent = udp(INNER, OUTER, &[0; 1400]);
        let told = sent.error(Trouble::TooBig { mtu: 1280 }, OUTER.ip());

        let out = inbound(&mut hole, seconds(0), told.expect("about a datagram"));

        assert_eq!(out.forwarded(), []);
    }

    #[test]
    fn other_errors_pass() {
        let mut hole = hole();
        let error = udp(INNER, OUTER, b"x").error(Trouble::PortUnreachable, OUTER.ip());

        assert!(inbound(&mut hole, seconds(0), error.expect("about a datagram")).passed());
    }
}
