//! Packets are read as they were made; whatever comes in, nothing panics; and whatever a
//! NAT changes, the checksums are those of a packet made anew.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn address(is_ipv4: bool) -> BoxedStrategy<IpAddr> {
    if is_ipv4 {
        any::<[u8; 4]>()
            .prop_map(|octets| Ipv4Addr::from(octets).into())
            .boxed()
    } else {
        any::<[u8; 16]>()
            .prop_map(|octets| Ipv6Addr::from(octets).into())
            .boxed()
    }
}

fn end(is_ipv4: bool) -> impl Strategy<Value = SocketAddr> {
    (address(is_ipv4), 1_u16..).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

prop_compose! {
    fn ends(count: usize)(is_ipv4 in any::<bool>())(
        ends in prop::collection::vec(end(is_ipv4), count)
    ) -> Vec<SocketAddr> {
        ends
    }
}

fn segment<'a>(source: SocketAddr, destination: SocketAddr, payload: &'a [u8]) -> Segment<'a> {
    Segment {
        source,
        destination,
        flags: Flags::ACK,
        sequence: 7,
        acknowledges: 9,
        payload,
    }
}

proptest! {
    #[test]
    fn a_datagram_reads_as_it_was_made(
        ends in ends(2),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let packet = Packet::udp(ends[0], ends[1], &payload);

        let flow = Flow { protocol: Protocol::Udp, source: ends[0], destination: ends[1] };
        prop_assert_eq!(packet.flow(), Some(flow));
        prop_assert_eq!(packet.payload(), &payload[..]);
        prop_assert!(packet.is_intact());
    }

    #[test]
    fn a_segment_reads_as_it_was_made(
        ends in ends(2),
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let packet = Packet::tcp(segment(ends[0], ends[1], &payload));

        let flow = packet.flow().expect("it has ports");
        prop_assert_eq!((flow.source, flow.destination), (ends[0], ends[1]));
        prop_assert_eq!(packet.payload(), &payload[..]);
        prop_assert_eq!(packet.flags(), Flags::ACK);
        prop_assert!(packet.is_intact());
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(packet) = Packet::parse(bytes) {
            everything_is_done_to(packet);
        }
    }

    #[test]
    fn nearly_right_bytes_never_panic(
        ends in ends(3),
        kind in 0..4,
        turned in prop::collection::vec((0_usize..120, any::<u8>()), 0..6),
        cut in 0_usize..140,
    ) {
        let mut bytes = made(kind, &ends).into_bytes();
        for (at, byte) in turned {
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
        }
        bytes.truncate(cut);

        if let Ok(packet) = Packet::parse(bytes) {
            everything_is_done_to(packet);
        }
    }

    #[test]
    fn what_a_nat_changes_keeps_right_checksums(ends in ends(4), kind in 0..4) {
        let mut packet = made(kind, &ends);

        packet.set_source(ends[2]);
        packet.set_destination(ends[3]);
        packet.set_about_source(ends[3]);
        packet.set_about_destination(ends[2]);
        packet.take_hop();

        prop_assert!(packet.is_intact(), "{packet:?}");
        let again = Packet::parse(packet.bytes().to_vec());
        prop_assert_eq!(again, Ok(packet));
    }

    #[test]
    fn what_changes_its_family_keeps_right_checksums_and_its_bytes(
        inner in any::<[u8; 16]>(),
        outer in any::<[u8; 4]>(),
        ports in (1_u16.., 1_u16..),
        kind in 0..3,
    ) {
        let ends = |ip: IpAddr| [SocketAddr::new(ip, ports.0), SocketAddr::new(ip, ports.1)];
        let (six, four) = (ends(Ipv6Addr::from(inner).into()), ends(Ipv4Addr::from(outer).into()));
        let packet = made(kind, &six);

        let there = packet.translated(four[0], four[1]).expect("it has ports");
        let back = there.translated(six[0], six[1]).expect("it has ports");

        prop_assert!(there.is_intact() && back.is_intact(), "{there:?}");
        prop_assert_eq!(there.payload(), packet.payload());
        prop_assert_eq!(back.flow(), packet.flow());
    }

    #[test]
    fn what_was_corrupted_stays_so_through_a_nat(ends in ends(3), bit in 0_u64..8) {
        let packet = Packet::udp(ends[0], ends[1], b"payload");
        let at = (packet.len() as u64 - 1) * 8 + bit;
        let mut packet = packet.with_bit_turned(at).expect("its headers are whole");

        packet.set_source(ends[2]);

        prop_assert!(!packet.is_intact());
    }
}

fn made(kind: i32, ends: &[SocketAddr]) -> Packet {
    match kind {
        0 => Packet::udp(ends[0], ends[1], b"some payload"),
        1 => Packet::tcp(segment(ends[0], ends[1], b"some payload")),
        2 => Packet::echo(ends[0].ip(), ends[1].ip(), ends[0].port()),
        _ => Packet::udp(ends[0], ends[1], b"some payload")
            .error(Trouble::PortUnreachable, ends[1].ip())
            .expect("a datagram can be complained about"),
    }
}

fn everything_is_done_to(mut packet: Packet) {
    let other = match packet.source() {
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 9),
    };
    let _seen = (
        packet.flow(),
        packet.about(),
        packet.payload().len(),
        format!("{packet:?}"),
    );
    let _answers = (
        packet.reset(),
        packet.echo_reply(),
        packet.error(Trouble::Prohibited, other.ip()),
    );
    packet.set_source(other);
    packet.set_destination(other);
    packet.set_about_source(other);
    packet.take_hop();
    let _turned = packet.with_bit_turned(77);
}

fn v4(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

#[test]
fn an_error_names_the_flow_that_it_is_about() {
    let sent = Packet::tcp(segment(v4("10.1.0.2:4000"), v4("203.0.113.10:8000"), &[]));

    let error = sent.error(Trouble::Prohibited, "10.1.0.1".parse().expect("an address"));

    let error = error.expect("a segment can be complained about");
    assert_eq!(error.about(), sent.flow());
    assert_eq!(error.destination(), sent.source());
    assert_eq!(error.bytes()[error.inner_at..][..2], [3, 13]);
}

#[test]
fn nobody_complains_about_a_complaint() {
    let sent = Packet::udp(v4("10.1.0.2:4000"), v4("203.0.113.10:8000"), b"x");
    let by = v4("10.1.0.1:0").ip();
    let error = sent.error(Trouble::Prohibited, by).expect("of a datagram");

    assert_eq!(error.error(Trouble::Prohibited, by), None);
}

#[test]
fn too_big_says_what_fits_in_both_families() {
    let by_family = [
        ("10.1.0.2:1", "10.1.0.1:2"),
        ("[2001:db8::2]:1", "[2001:db8::1]:2"),
    ];

    for (from, to) in by_family {
        let sent = Packet::udp(v4(from), v4(to), &[0; 1400]);
        let error = sent
            .error(Trouble::TooBig { mtu: 1280 }, v4(to).ip())
            .expect("of a datagram");

        assert_eq!(error.word(6), 1280);
        assert!(matches!(
            error.transport(),
            Transport::Error {
                is_too_big: true,
                ..
            }
        ));
        assert!(error.len() <= 1280);
    }
}

#[test]
fn a_reset_to_a_syn_acknowledges_it() {
    let syn = Segment {
        flags: Flags::SYN,
        ..segment(v4("10.1.0.2:4000"), v4("203.0.113.10:8000"), &[])
    };

    let reset = Packet::tcp(syn).reset().expect("a SYN is answered");

    assert!(reset.flags().has(Flags::RST) && reset.flags().has(Flags::ACK));
    let header = TcpPacket::new_checked(&reset.bytes()[reset.inner_at..]).expect("a segment");
    assert_eq!(header.ack_number().0, 8);
    assert_eq!(reset.reset(), None, "a reset is not answered");
}

#[test]
fn an_echo_is_answered_with_its_identifier() {
    let request = Packet::echo(v4("10.1.0.2:0").ip(), v4("10.1.0.1:0").ip(), 77);

    let reply = request.echo_reply().expect("it asks");

    assert_eq!(reply.flow().map(Flow::reversed), request.flow());
}

#[test]
fn a_packet_without_hops_left_is_not_passed_on() {
    let mut packet = Packet::udp(v4("10.1.0.2:4000"), v4("203.0.113.10:8000"), b"x");

    let hops = std::iter::from_fn(|| packet.take_hop().then_some(())).count();

    assert_eq!(hops, 63);
}

#[test]
fn a_fragment_has_no_ports() {
    let mut bytes = Packet::udp(v4("10.1.0.2:4000"), v4("203.0.113.10:8000"), b"x").into_bytes();
    bytes[6] |= 0x20;

    let packet = Packet::parse(bytes).expect("it has a right header");

    assert_eq!(
        (packet.transport(), packet.flow()),
        (Transport::Other, None)
    );
}
