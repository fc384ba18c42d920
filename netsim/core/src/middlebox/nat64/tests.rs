//! IPv6 reaches IPv4 under the prefix, and hears what happens there.

use super::{super::fixture::*, *};
use crate::{
    random::Seed,
    term::{At, Term},
};

fn translator() -> Nat64Box {
    let mut nat64 = Nat64::blank();
    nat64.address = At::nowhere(Ipv4Addr::new(198, 51, 100, 64));
    Nat64Box::new(&nat64, Timeouts::NEVER, BY, Seed(1).stream("nat64"))
}

fn inner() -> SocketAddr {
    end("[2001:db8:1::2]:40000")
}

fn embedded() -> SocketAddr {
    end("[64:ff9b::203.0.113.10]:8000")
}

#[test]
fn a_connection_goes_out_as_ipv4_and_its_answer_comes_back_as_ipv6() {
    let mut nat64 = translator();

    let (to, sent) = outbound(&mut nat64, seconds(0), syn(inner(), embedded())).only();
    let outer = sent.flow().expect("it has ports");
    let (_, answer) = inbound(&mut nat64, seconds(0), syn_ack(OUTER, outer.source)).only();

    assert_eq!((to, outer.destination), (Side::Outside, OUTER));
    let back = answer.flow().expect("it has ports");
    assert_eq!((back.source, back.destination), (embedded(), inner()));
    assert_eq!(nat64.touched().of(Cause::Translated), 2);
}

#[test]
fn a_datagram_keeps_its_bytes() {
    let mut nat64 = translator();

    let (_, sent) = outbound(&mut nat64, seconds(0), udp(inner(), embedded(), b"hello")).only();

    assert_eq!(
        (sent.payload(), sent.destination()),
        (&b"hello"[..], OUTER.ip())
    );
}

#[test]
fn what_was_not_asked_for_stays_outside() {
    let mut nat64 = translator();

    let out = inbound(
        &mut nat64,
        seconds(0),
        syn(OUTER, end("198.51.100.64:40000")),
    );

    assert_eq!(out.dropped(), [Cause::Filtered]);
}

#[test]
fn too_big_is_told_in_ipv6_with_room_for_its_longer_header() {
    let mut nat64 = translator();
    let (_, sent) = outbound(&mut nat64, seconds(0), udp(inner(), embedded(), &[0; 1400])).only();
    let router = end("192.0.2.1:0").ip();
    let error = sent
        .error(Trouble::TooBig { mtu: 1280 }, router)
        .expect("about a datagram");

    let (to, error) = inbound(&mut nat64, seconds(0), error).only();

    assert_eq!((to, error.destination()), (Side::Inside, inner().ip()));
    assert_eq!(error.trouble(), Some(Trouble::TooBig { mtu: 1300 }));
    let about = error.about().expect("it quotes the packet");
    assert_eq!((about.source, about.destination), (inner(), embedded()));
}

#[test]
fn ipv6_that_is_not_under_the_prefix_passes_beside_it() {
    let mut nat64 = translator();
    let other = end("[2001:db8:2::9]:8000");

    assert!(outbound(&mut nat64, seconds(0), udp(inner(), other, b"x")).passed());
    assert!(inbound(&mut nat64, seconds(0), udp(other, inner(), b"x")).passed());
    assert_eq!(nat64.touched(), Touched::default());
}
