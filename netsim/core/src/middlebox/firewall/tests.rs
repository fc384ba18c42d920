//! Nothing begins from outside, whatever is sent in whatever order; what is idle for too
//! long is gone.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::{super::fixture::*, *};
use crate::{
    model::Protocol,
    packet::{Flags, Trouble},
    term::{At, PortRange, Term},
};

fn firewall(rules: Firewall) -> FirewallBox {
    let timeouts = Timeouts {
        tcp: Some(Duration::from_secs(350)),
        udp: Some(Duration::from_secs(30)),
        icmp: Some(Duration::from_secs(10)),
        expired: Expired::Silent,
    };
    FirewallBox::new(rules, timeouts, BY)
}

fn established(firewall: &mut FirewallBox) {
    outbound(firewall, seconds(0), syn(INNER, OUTER));
    inbound(firewall, seconds(0), syn_ack(OUTER, INNER));
    outbound(firewall, seconds(0), ack(INNER, OUTER));
}

#[test]
fn an_answer_passes_and_a_question_from_outside_does_not() {
    let mut firewall = firewall(Firewall::blank());

    let early = inbound(&mut firewall, seconds(0), syn(OUTER, INNER));
    outbound(&mut firewall, seconds(1), syn(INNER, OUTER));
    let answer = inbound(&mut firewall, seconds(1), syn_ack(OUTER, INNER));

    assert_eq!(early.dropped(), [Cause::Unsolicited]);
    assert!(answer.passed());
}

#[test]
fn the_first_rule_that_fits_decides() {
    let refuse_8000 = Rule {
        ruling: Ruling::Reject,
        ports: vec![PortRange::one(8000)],
        ..Rule::blank()
    };
    let allow_all = Rule::blank();
    let mut rules = Firewall::blank();
    rules.rules = vec![refuse_8000, allow_all];
    rules.otherwise = Ruling::Drop;
    let mut firewall = firewall(rules);

    let refused = outbound(&mut firewall, seconds(0), syn(INNER, OUTER));
    let allowed = outbound(
        &mut firewall,
        seconds(0),
        syn(INNER, end("203.0.113.10:443")),
    );

    assert_eq!(refused.dropped(), [Cause::Rule]);
    let (to, error) = refused.only();
    assert_eq!(
        (to, error.trouble()),
        (Side::Inside, Some(Trouble::Prohibited))
    );
    assert!(allowed.passed());
}

#[test]
fn a_rule_names_destination_and_protocol() {
    let mut rules = Firewall::blank();
    rules.rules = vec![Rule {
        to: vec!["203.0.113.0/24".parse().expect("a network")],
        protocol: Some(Protocol::Udp),
        ruling: Ruling::Drop,
        ..Rule::blank()
    }];
    let mut firewall = firewall(rules);

    assert!(!outbound(&mut firewall, seconds(0), udp(INNER, OUTER, b"x")).passed());
    assert!(outbound(&mut firewall, seconds(0), syn(INNER, OUTER)).passed());
    assert!(
        outbound(
            &mut firewall,
            seconds(0),
            udp(INNER, end("192.0.2.1:53"), b"x")
        )
        .passed()
    );
}

#[test]
fn refused_tcp_hears_a_reset_where_the_rule_says_so() {
    let mut rules = Firewall::blank();
    rules.otherwise = Ruling::Reset;
    let mut firewall = firewall(rules);

    let tcp = outbound(&mut firewall, seconds(0), syn(INNER, OUTER))
        .only()
        .1;
    let udp = outbound(&mut firewall, seconds(0), udp(INNER, OUTER, b"x"))
        .only()
        .1;

    assert!(tcp.flags().has(Flags::RST));
    assert_eq!((tcp.source(), tcp.destination()), (OUTER.ip(), INNER.ip()));
    assert_eq!(udp.trouble(), Some(Trouble::Prohibited));
}

#[test]
fn an_established_connection_lives_as_long_as_it_is_not_idle() {
    let mut firewall = firewall(Firewall::blank());
    established(&mut firewall);

    assert!(outbound(&mut firewall, seconds(349), ack(INNER, OUTER)).passed());
    assert!(inbound(&mut firewall, seconds(349 + 349), ack(OUTER, INNER)).passed());
    let idle = inbound(&mut firewall, seconds(349 + 349 + 350), ack(OUTER, INNER));

    assert_eq!(idle.dropped(), [Cause::Unsolicited]);
}

#[test]
fn an_expired_connection_does_not_simply_go_on_unless_the_firewall_is_loose() {
    for loose in [false, true] {
        let mut rules = Firewall::blank();
        rules.loose = loose;
        let mut firewall = firewall(rules);
        established(&mut firewall);

        let late = outbound(&mut firewall, seconds(350), ack(INNER, OUTER));

        assert_eq!(late.passed(), loose);
        assert_eq!(firewall.touched().of(Cause::Expired), u64::from(!loose));
    }
}

#[test]
fn a_closed_connection_is_forgotten_sooner() {
    let mut firewall = firewall(Firewall::blank());
    established(&mut firewall);

    outbound(
        &mut firewall,
        seconds(1),
        tcp(INNER, OUTER, Flags::FIN.and(Flags::ACK), &[]),
    );

    assert!(inbound(&mut firewall, seconds(2), ack(OUTER, INNER)).passed());
    assert!(!inbound(&mut firewall, seconds(200), ack(OUTER, INNER)).passed());
}

#[test]
fn an_error_about_a_known_flow_passes_and_about_another_does_not() {
    let mut firewall = firewall(Firewall::blank());
    let sent = udp(INNER, OUTER, b"x");
    outbound(&mut firewall, seconds(0), sent.clone());
    let router = end("192.0.2.1:0").ip();
    let about = |packet: &Packet| {
        packet
            .error(Trouble::HostUnreachable, router)
            .expect("about it")
    };

    let known = inbound(&mut firewall, seconds(0), about(&sent));
    let unknown = inbound(
        &mut firewall,
        seconds(0),
        about(&udp(INNER, end("192.0.2.9:9"), b"x")),
    );

    assert!(known.passed());
    assert_eq!(unknown.dropped(), [Cause::Unsolicited]);
}

#[test]
fn a_firewall_that_was_restarted_knows_nobody() {
    let mut firewall = firewall(Firewall::blank());
    established(&mut firewall);

    firewall.forget();

    assert!(!inbound(&mut firewall, seconds(1), ack(OUTER, INNER)).passed());
}

#[test]
fn unsolicited_packets_hear_what_the_scenario_says() {
    let mut rules = Firewall::blank();
    rules.unsolicited = At::nowhere(Ruling::Reset);
    let mut firewall = firewall(rules);

    let (to, answer) = inbound(&mut firewall, seconds(0), syn(OUTER, INNER)).only();

    assert_eq!(to, Side::Outside);
    assert!(answer.flags().has(Flags::RST));
}

/// A packet between one of few inner ends and one of few outer ones, of any kind.
fn packet() -> impl Strategy<Value = (bool, Packet)> {
    (any::<bool>(), 0..3_u8, 0..3_u8, 0..5, any::<u8>()).prop_map(
        |(is_outbound, inner, outer, kind, flags)| {
            let inner = SocketAddr::from(([10, 1, 0, 2], 4000 + u16::from(inner)));
            let outer = SocketAddr::from(([203, 0, 113, 10], 8000 + u16::from(outer)));
            let (from, to) = if is_outbound {
                (inner, outer)
            } else {
                (outer, inner)
            };
            let packet = match kind {
                0 => udp(from, to, b"x"),
                1 => Packet::echo(from.ip(), to.ip(), from.port()),
                2 => udp(to, from, b"x")
                    .error(Trouble::PortUnreachable, from.ip())
                    .expect("error"),
                _ => tcp(from, to, Flags(flags & 0x17), &[]),
            };
            (is_outbound, packet)
        },
    )
}

proptest! {
    #[test]
    fn nothing_passes_from_outside_that_answers_nothing_from_inside(
        packets in prop::collection::vec((packet(), 0_u64..200), 1..60),
    ) {
        let mut firewall = firewall(Firewall::blank());
        let mut now = seconds(0);
        // The simplest model: which flows were ever let out, without any forgetting.
        let mut asked = std::collections::BTreeSet::new();
        for ((is_outbound, packet), pause) in packets {
            now = now + Duration::from_secs(pause);
            if is_outbound {
                let flow = packet.flow();
                if outbound(&mut firewall, now, packet).passed() {
                    asked.extend(flow);
                }
            } else {
                let answers = packet.about().or_else(|| packet.flow().map(Flow::reversed));
                let passed = inbound(&mut firewall, now, packet).passed();
                prop_assert!(!passed || answers.is_some_and(|flow| asked.contains(&flow)));
            }
        }
    }

    #[test]
    fn every_packet_passes_or_is_dropped_with_a_cause(
        packets in prop::collection::vec((packet(), 0_u64..200), 1..60),
    ) {
        let mut firewall = firewall(Firewall::blank());
        let mut now = seconds(0);
        for ((is_outbound, packet), pause) in packets {
            now = now + Duration::from_secs(pause);
            let put = if is_outbound { outbound } else { inbound };
            let out = put(&mut firewall, now, packet);
            prop_assert_eq!(out.forwarded().len() + out.dropped().len(), 1);
        }
    }
}
