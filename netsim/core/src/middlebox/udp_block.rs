//! No UDP passes, but for the ports that are let through.

use super::{
    Cause, Middlebox, Touched, Verdict,
    refusal::{EdgeAddress, refuse},
};
use crate::{
    model::{Protocol, Side, UdpBlock},
    packet::Packet,
    time::Instant,
};

/// See the module.
#[derive(Debug)]
pub struct UdpBlockBox {
    block: UdpBlock,
    by: EdgeAddress,
    touched: Touched,
}

impl UdpBlockBox {
    /// A block.
    pub fn new(block: UdpBlock, by: EdgeAddress) -> Self {
        Self {
            block,
            by,
            touched: Touched::default(),
        }
    }

    fn is_excepted(&self, port: u16) -> bool {
        self.block.except.iter().any(|ports| ports.contains(port))
    }
}

impl Middlebox for UdpBlockBox {
    fn on_packet(
        &mut self,
        _now: Instant,
        from: Side,
        packet: Packet,
        verdicts: &mut Vec<Verdict>,
    ) {
        let outer_port = packet.flow().and_then(|flow| {
            let end = match from {
                Side::Inside => flow.destination,
                Side::Outside => flow.source,
            };
            (flow.protocol == Protocol::Udp).then_some(end.port())
        });
        match outer_port {
            Some(port) if !self.is_excepted(port) => {
                let refused = (*self.block.ruling, Cause::UdpBlocked);
                refuse(
                    refused,
                    self.by,
                    from,
                    packet,
                    (&mut self.touched, verdicts),
                );
            }
            Some(_) | None => verdicts.push(Verdict::Forward {
                to: from.other(),
                packet,
            }),
        }
    }

    fn touched(&self) -> Touched {
        self.touched.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};
    use crate::model::Ruling;
    use crate::term::{At, Term};

    fn block(ruling: Ruling) -> UdpBlockBox {
        let mut block = UdpBlock::blank();
        block.ruling = At::nowhere(ruling);
        UdpBlockBox::new(block, BY)
    }

    #[test]
    fn udp_is_gone_in_silence_and_counted() {
        let mut block = block(Ruling::Drop);

        let out = outbound(&mut block, seconds(0), udp(INNER, OUTER, b"x"));

        assert_eq!(out.forwarded(), []);
        assert_eq!(block.touched().of(Cause::UdpBlocked), 1);
    }

    #[test]
    fn a_block_that_rejects_tells_the_sender_in_its_own_name() {
        let mut block = block(Ruling::Reject);
        let sent = udp(INNER, OUTER, b"x");

        let out = outbound(&mut block, seconds(0), sent.clone());

        let (to, error) = out.only();
        assert_eq!((to, error.about()), (Side::Inside, sent.flow()));
        assert_eq!(error.source(), BY.ipv4);
    }

    #[test]
    fn dns_and_tcp_pass_both_ways() {
        let mut block = block(Ruling::Drop);
        let dns = end("203.0.113.53:53");

        assert!(outbound(&mut block, seconds(0), udp(INNER, dns, b"x")).passed());
        assert!(inbound(&mut block, seconds(0), udp(dns, INNER, b"x")).passed());
        assert!(outbound(&mut block, seconds(0), syn(INNER, OUTER)).passed());
    }
}
