//! RFC 4787 as properties, and exhaustion, hairpin and rebinding as cases.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use proptest::prelude::*;

use super::{super::fixture::*, *};
use crate::{
    model::{Dependence, Protocol},
    packet::{Flags, Flow, Trouble},
    random::Seed,
    term::{At, PortRange, Term},
};

const OUR: &str = "198.51.100.1";

fn nat() -> Nat {
    let mut nat = Nat::blank();
    nat.addresses = vec![At::nowhere(OUR.parse().expect("an address"))];
    nat
}

fn timeouts() -> Timeouts {
    Timeouts {
        tcp: Some(Duration::from_secs(350)),
        udp: Some(Duration::from_secs(30)),
        icmp: Some(Duration::from_secs(10)),
        expired: Expired::Reset,
    }
}

fn built(nat: &Nat) -> NatBox {
    NatBox::new(nat, timeouts(), BY, Seed(1).stream("nat"))
}

/// The outer end that a packet from inside leaves with.
fn outer_end(nat: &mut NatBox, now: Instant, packet: Packet) -> Option<SocketAddr> {
    let out = outbound(nat, now, packet);
    out.passed()
        .then(|| out.only().1.flow().expect("it has ports").source)
}

#[test]
fn a_flow_keeps_its_port_where_that_is_free() {
    let mut nat = built(&nat());

    let first = outer_end(&mut nat, seconds(0), udp(INNER, OUTER, b"x"));
    let same_port = SocketAddr::new("10.1.0.3".parse().expect("an address"), INNER.port());
    let second = outer_end(&mut nat, seconds(0), udp(same_port, OUTER, b"x"));

    assert_eq!(
        first,
        Some(SocketAddr::new(
            OUR.parse().expect("an address"),
            INNER.port()
        ))
    );
    assert!(second.is_some() && second != first, "{second:?}");
}

#[test]
fn mapping_depends_on_what_the_scenario_says() {
    let other_port = end("203.0.113.10:8001");
    let other_address = end("203.0.113.11:8000");
    let cases = [
        (Dependence::Endpoint, [true, true]),
        (Dependence::Address, [true, false]),
        (Dependence::AddressAndPort, [false, false]),
    ];
    for (mapping, expected) in cases {
        let mut config = nat();
        config.mapping = mapping;
        let mut nat = built(&config);
        let mut outer = |to| outer_end(&mut nat, seconds(0), udp(INNER, to, b"x"));

        let first = outer(OUTER);
        let same = [outer(other_port) == first, outer(other_address) == first];

        assert_eq!(same, expected, "{mapping}");
    }
}

#[test]
fn filtering_depends_on_what_the_scenario_says() {
    let other_port = end("203.0.113.10:8001");
    let other_address = end("203.0.113.11:8000");
    let cases = [
        (Dependence::Endpoint, [true, true, true]),
        (Dependence::Address, [true, true, false]),
        (Dependence::AddressAndPort, [true, false, false]),
    ];
    for (filtering, expected) in cases {
        let mut config = nat();
        config.filtering = filtering;
        let mut nat = built(&config);
        let outer = outer_end(&mut nat, seconds(0), udp(INNER, OUTER, b"x")).expect("mapped");

        let passed = [OUTER, other_port, other_address]
            .map(|from| inbound(&mut nat, seconds(1), udp(from, outer, b"y")).passed());

        assert_eq!(passed, expected, "{filtering}");
    }
}

#[test]
fn a_small_pool_is_exhausted_and_frees_ports_when_flows_are_forgotten() {
    let mut config = nat();
    config.ports = PortRange {
        first: 40_000,
        last: 40_002,
    };
    config.exhausted = At::nowhere(Ruling::Reject);
    let mut nat = built(&config);
    let from = |port| SocketAddr::new(INNER.ip(), port);

    let mapped =
        (1..=3).filter_map(|port| outer_end(&mut nat, seconds(0), udp(from(port), OUTER, b"x")));
    assert_eq!(mapped.count(), 3);
    let fourth = outbound(&mut nat, seconds(1), udp(from(4), OUTER, b"x"));
    let later = outer_end(&mut nat, seconds(31), udp(from(4), OUTER, b"x"));

    assert_eq!(fourth.dropped(), [Cause::Exhausted]);
    assert_eq!(fourth.only().1.trouble(), Some(Trouble::Prohibited));
    assert!(later.is_some());
}

#[test]
fn a_host_gets_no_more_ports_than_its_share() {
    let mut config = nat();
    config.ports_per_host = Some(At::nowhere(2));
    let mut nat = built(&config);
    let mut send = |host: &str, port| {
        let from = SocketAddr::new(host.parse::<IpAddr>().expect("an address"), port);
        outer_end(&mut nat, seconds(0), udp(from, OUTER, b"x")).is_some()
    };

    assert!(send("10.1.0.2", 1) && send("10.1.0.2", 2));
    assert!(!send("10.1.0.2", 3));
    assert!(send("10.1.0.3", 3), "another host has its own share");
}

#[test]
fn hosts_reach_each_other_by_their_outer_ends_only_over_a_hairpin() {
    for hairpin in [false, true] {
        let mut config = nat();
        config.hairpin = hairpin;
        config.filtering = Dependence::Endpoint;
        let mut nat = built(&config);
        let neighbour = end("10.1.0.3:5000");
        let outer = outer_end(&mut nat, seconds(0), udp(neighbour, OUTER, b"x")).expect("mapped");

        let out = outbound(&mut nat, seconds(0), udp(INNER, outer, b"hello"));

        if hairpin {
            let (to, packet) = out.only();
            assert_eq!((to, packet.destination()), (Side::Inside, neighbour.ip()));
            assert_eq!(
                packet.source().to_string(),
                OUR,
                "from outside, as it must look"
            );
        } else {
            assert_eq!(out.dropped(), [Cause::Filtered]);
        }
    }
}

#[test]
fn a_rebound_flow_goes_on_from_another_port() {
    let mut nat = built(&nat());
    outbound(&mut nat, seconds(0), syn(INNER, OUTER));
    let before = outer_end(&mut nat, seconds(0), ack(INNER, OUTER)).expect("mapped");

    nat.rebind();
    let old = inbound(&mut nat, seconds(1), ack(OUTER, before));
    let after = outer_end(&mut nat, seconds(1), ack(INNER, OUTER)).expect("in the middle");
    let again = outer_end(&mut nat, seconds(2), ack(INNER, OUTER));

    assert_eq!(old.dropped(), [Cause::Filtered]);
    assert_ne!(after, before);
    assert_eq!(again, Some(after), "from now on it stays");
    assert_eq!(nat.touched().of(Cause::Rebound), 1);
}

#[test]
fn a_forgotten_connection_hears_a_reset_and_a_new_one_is_mapped() {
    let mut nat = built(&nat());
    outbound(&mut nat, seconds(0), syn(INNER, OUTER));

    nat.forget();
    let middle = outbound(&mut nat, seconds(1), ack(INNER, OUTER));
    let new = outer_end(&mut nat, seconds(1), syn(INNER, OUTER));

    assert_eq!(middle.dropped(), [Cause::Expired]);
    assert!(middle.only().1.flags().has(Flags::RST));
    assert!(new.is_some());
}

#[test]
fn an_error_from_outside_comes_to_who_sent_the_packet() {
    let mut nat = built(&nat());
    let (_, sent) = outbound(&mut nat, seconds(0), udp(INNER, OUTER, b"x")).only();
    let error = sent
        .error(Trouble::PortUnreachable, OUTER.ip())
        .expect("about a datagram");

    let (to, error) = inbound(&mut nat, seconds(0), error).only();

    let flow = Flow {
        protocol: Protocol::Udp,
        source: INNER,
        destination: OUTER,
    };
    assert_eq!((to, error.destination()), (Side::Inside, INNER.ip()));
    assert_eq!(error.about(), Some(flow), "about the packet as it was sent");
}

#[test]
fn an_error_from_inside_leaves_in_the_nats_name() {
    let mut nat = built(&nat());
    let (_, sent) = outbound(&mut nat, seconds(0), udp(INNER, OUTER, b"x")).only();
    let outer = sent.flow().expect("it has ports").source;
    let (_, answer) = inbound(&mut nat, seconds(0), udp(OUTER, outer, b"y")).only();
    let error = answer
        .error(Trouble::PortUnreachable, INNER.ip())
        .expect("about a datagram");

    let (to, error) = outbound(&mut nat, seconds(0), error).only();

    assert_eq!((to, error.source()), (Side::Outside, outer.ip()));
    assert_eq!(error.about().map(|flow| flow.destination), Some(outer));
}

#[test]
fn echoes_are_told_apart_by_their_identifiers() {
    let mut nat = built(&nat());
    let hosts = ["10.1.0.2", "10.1.0.3"].map(|host| host.parse::<IpAddr>().expect("an address"));

    for host in hosts {
        let (_, request) = outbound(&mut nat, seconds(0), Packet::echo(host, OUTER.ip(), 7)).only();
        let reply = request.echo_reply().expect("it asks");
        let (_, reply) = inbound(&mut nat, seconds(0), reply).only();

        let flow = reply.flow().expect("it has an identifier");
        assert_eq!(flow.destination, SocketAddr::new(host, 7));
    }
}

/// What one step of a random run does.
#[derive(Debug, Clone)]
enum Step {
    Out {
        host: u8,
        port: u16,
        to: u8,
        to_port: u16,
        tcp: bool,
        opens: bool,
    },
    In {
        from: u8,
        from_port: u16,
        port: u16,
        tcp: bool,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (2..5_u8, 1..5_u16, 0..3_u8, 0..3_u16, any::<bool>(), any::<bool>()).prop_map(
            |(host, port, to, to_port, tcp, opens)| {
                Step::Out { host, port, to, to_port, tcp, opens }
            }
        ),
        4 => (0..3_u8, 0..3_u16, 0..9_u16, any::<bool>()).prop_map(
            |(from, from_port, port, tcp)| Step::In { from, from_port, port, tcp }
        ),
        1 => (1..60_u64).prop_map(Step::Wait),
    ]
}

/// An inner end, whom it talked to, and when.
type Talk = (SocketAddr, SocketAddr, Instant);

fn dependence() -> impl Strategy<Value = Dependence> {
    prop::sample::select(Dependence::ALL)
}

fn outer_of(index: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 10 + index], 8000 + port))
}

proptest! {
    #[test]
    fn no_outer_port_is_shared_and_nothing_comes_in_that_was_not_asked_for(
        steps in prop::collection::vec(step(), 1..80),
        (mapping, filtering) in (dependence(), dependence()),
    ) {
        let mut config = nat();
        config.ports = PortRange { first: 1, last: 8 };
        (config.mapping, config.filtering) = (mapping, filtering);
        let mut nat = built(&config);
        let mut now = seconds(0);
        // Every inner end that an outer one has ever stood for, and whom it talked to.
        let mut stood_for: BTreeMap<(bool, SocketAddr), Vec<Talk>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wait(pause) => now = now + Duration::from_secs(pause),
                Step::Out { host, port, to, to_port, tcp: is_tcp, opens } => {
                    let inner = SocketAddr::from(([10, 1, 0, host], port));
                    let to = outer_of(to, to_port);
                    let packet = match (is_tcp, opens) {
                        (true, true) => syn(inner, to),
                        (true, false) => ack(inner, to),
                        (false, _) => udp(inner, to, b"x"),
                    };
                    if let Some(outer) = outer_end(&mut nat, now, packet) {
                        let all = stood_for.entry((is_tcp, outer)).or_default();
                        // Whoever had this outer end before must have been idle for long.
                        let idle = Duration::from_secs(if is_tcp { 120 } else { 30 });
                        prop_assert!(all.iter().all(|(other, _, seen)| {
                            *other == inner || now.since(*seen) >= idle
                        }), "{all:?}");
                        all.push((inner, to, now));
                    }
                }
                Step::In { from, from_port, port, tcp: is_tcp } => {
                    let from = outer_of(from, from_port);
                    let outer = SocketAddr::new(OUR.parse().expect("an address"), port);
                    let packet = if is_tcp { ack(from, outer) } else { udp(from, outer, b"x") };
                    let out = inbound(&mut nat, now, packet);
                    if out.passed() {
                        let to = out.only().1.flow().expect("it has ports").destination;
                        let known = stood_for.get(&(is_tcp, outer)).into_iter().flatten();
                        let asked = known.filter(|(inner, _, _)| *inner == to).any(|(_, peer, _)| {
                            match filtering {
                                Dependence::Endpoint => true,
                                Dependence::Address => peer.ip() == from.ip(),
                                Dependence::AddressAndPort => *peer == from,
                            }
                        });
                        prop_assert!(asked, "{from} came in to {to}");
                        // What came in keeps the binding alive.
                        let all = stood_for.entry((is_tcp, outer)).or_default();
                        all.push((to, from, now));
                    }
                }
            }
        }
    }

    #[test]
    fn a_mapping_stays_while_it_is_used(pauses in prop::collection::vec(0_u64..30, 1..30)) {
        let mut nat = built(&nat());
        let mut now = seconds(0);
        let first = outer_end(&mut nat, now, udp(INNER, OUTER, b"x"));
        for pause in pauses {
            now = now + Duration::from_secs(pause);
            prop_assert_eq!(outer_end(&mut nat, now, udp(INNER, OUTER, b"x")), first);
        }
    }

    #[test]
    fn what_goes_out_and_comes_back_is_as_if_no_nat_were_there(
        payload in prop::collection::vec(any::<u8>(), 0..50),
        port in 1_u16..,
    ) {
        let mut nat = built(&nat());
        let inner = SocketAddr::new(INNER.ip(), port);
        let (_, sent) = outbound(&mut nat, seconds(0), udp(inner, OUTER, b"x")).only();
        let outer = sent.flow().expect("it has ports").source;

        let (_, back) = inbound(&mut nat, seconds(0), udp(OUTER, outer, &payload)).only();

        let without = udp(OUTER, inner, &payload);
        prop_assert_eq!(&back.bytes()[12..], &without.bytes()[12..]);
    }
}
