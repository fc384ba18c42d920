//! What is disliked is ended at its first flight, however it is cut into segments.

use proptest::prelude::*;

use super::{super::fixture::*, *};
use crate::{
    model::{Ruling, Speech},
    packet::Segment,
    term::{At, Choice, Scalar, Size, Term, Text},
};

fn counted(width: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - width..], content].concat()
}

fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
    let name = [&[0][..], &counted(2, name.as_bytes())].concat();
    let protocols: Vec<u8> = alpn
        .iter()
        .flat_map(|one| counted(1, one.as_bytes()))
        .collect();
    let extensions = [
        [&[0, 0][..], &counted(2, &counted(2, &name))].concat(),
        [&[0, 16][..], &counted(2, &counted(2, &protocols))].concat(),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &counted(1, &[]),
        &counted(2, &[0x13, 1]),
        &counted(1, &[0]),
        &counted(2, &extensions),
    ]
    .concat();
    let message = [&[1][..], &counted(3, &body)].concat();
    [&[0x16, 3, 1][..], &counted(2, &message)].concat()
}

fn dpi() -> Dpi {
    let mut dpi = Dpi::blank();
    dpi.server_names = vec![Text::from_text("*.example.com").expect("a text")];
    dpi.alpn = vec![Text::from_text("sternline/1").expect("a text")];
    dpi.ruling = At::nowhere(Ruling::Reset);
    dpi
}

/// What the box says to each piece of a client's stream, after its SYN.
fn pieces(dpi: &mut DpiBox, pieces: &[&[u8]]) -> Vec<Out> {
    outbound(
        dpi,
        seconds(0),
        Packet::tcp(Segment {
            sequence: 999,
            ..first()
        }),
    );
    let mut sequence = 1000;
    let mut outs = Vec::new();
    for payload in pieces {
        let segment = Segment {
            sequence,
            flags: Flags::ACK,
            payload,
            ..first()
        };
        outs.push(outbound(dpi, seconds(0), Packet::tcp(segment)));
        sequence += u32::try_from(payload.len()).expect("a short piece");
    }
    outs
}

const fn first<'a>() -> Segment<'a> {
    Segment {
        source: INNER,
        destination: OUTER,
        flags: Flags::SYN,
        sequence: 0,
        acknowledges: 1,
        payload: &[],
    }
}

#[test]
fn a_server_name_that_is_disliked_is_reset_and_nothing_passes_after() {
    let mut dpi = DpiBox::new(dpi(), BY);

    let outs = pieces(&mut dpi, &[&hello("relay.example.com", &[]), b"more"]);

    assert!(outs[0].only().1.flags().has(Flags::RST));
    assert_eq!(outs[1].dropped(), [Cause::Inspected]);
    assert_eq!(dpi.touched().of(Cause::Inspected), 2);
}

#[test]
fn an_application_protocol_that_is_disliked_is_reset() {
    let mut dpi = DpiBox::new(dpi(), BY);

    let outs = pieces(&mut dpi, &[&hello("other.test", &["h2", "sternline/1"])]);

    assert_eq!(outs[0].dropped(), [Cause::Inspected]);
}

#[test]
fn other_names_and_protocols_pass() {
    let mut dpi = DpiBox::new(dpi(), BY);

    let outs = pieces(&mut dpi, &[&hello("example.org", &["h2"]), b"more"]);

    assert!(outs.iter().all(Out::passed));
    assert_eq!(dpi.touched(), Touched::default());
}

#[test]
fn only_tls_means_that_neither_http_nor_anything_unknown_passes() {
    let mut only = Dpi::blank();
    only.only = vec![Speech::Tls];
    let ends = |first: &[u8]| {
        let mut dpi = DpiBox::new(only.clone(), BY);
        pieces(&mut dpi, &[first])[0].dropped()
    };

    assert_eq!(ends(&hello("a.test", &[])), []);
    assert_eq!(ends(b"GET / HTTP/1.1\r\n"), [Cause::Inspected]);
    assert_eq!(ends(b"SSH-2.0-OpenSSH"), [Cause::Inspected]);
}

#[test]
fn quic_is_known_by_its_long_header() {
    let mut only = Dpi::blank();
    only.only = vec![Speech::Tls];
    let mut refuses = DpiBox::new(only.clone(), BY);
    only.only.push(Speech::Quic);
    let mut allows = DpiBox::new(only, BY);
    let initial = udp(INNER, OUTER, &[0xc3, 0, 0, 0, 1, 8]);

    assert_eq!(
        outbound(&mut refuses, seconds(0), initial.clone()).dropped(),
        [Cause::Inspected]
    );
    assert!(outbound(&mut allows, seconds(0), initial).passed());
}

#[test]
fn a_new_connection_over_the_same_ends_is_looked_at_anew() {
    let mut dpi = DpiBox::new(dpi(), BY);
    pieces(&mut dpi, &[&hello("relay.example.com", &[])]);

    let outs = pieces(&mut dpi, &[&hello("example.org", &[])]);

    assert!(outs[0].passed());
}

proptest! {
    #[test]
    fn a_name_is_seen_wherever_its_hello_is_cut(cuts in prop::collection::vec(1_usize..90, 0..4)) {
        let whole = hello("relay.example.com", &["h2"]);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < whole.len()).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|two| &whole[two[0]..two[1]]).collect();
        let mut dpi = DpiBox::new(dpi(), BY);

        let outs = pieces(&mut dpi, &parts);

        let (last, before) = outs.split_last().expect("at least one part");
        prop_assert!(before.iter().all(Out::passed));
        prop_assert_eq!(last.dropped(), [Cause::Inspected]);
    }

    #[test]
    fn no_flight_makes_it_panic(mut flight in prop::collection::vec(any::<u8>(), 0..200)) {
        look_at_stream(&flight);
        look_at_datagram(&flight);
        if let Some(first) = flight.first_mut() {
            *first = 0x16;
        }
        look_at_stream(&flight);
    }
}

#[test]
fn a_hello_that_is_longer_than_it_can_take_is_swallowed_with_all_that_follows() {
    let mut dpi = Dpi::blank();
    dpi.hello_max = Some(Choice::Fixed(Size { bytes: 400 }));
    dpi.ruling = At::nowhere(Ruling::Drop);
    let long = "x".repeat(255);
    let (small, large) = (
        hello("a.example", &[]),
        hello("a.example", &[long.as_str(); 2]),
    );
    let cut = large.split_at(300);

    let small = pieces(&mut DpiBox::new(dpi.clone(), BY), &[&small, b"more"]);
    let large = pieces(&mut DpiBox::new(dpi, BY), &[cut.0, cut.1, b"more"]);

    assert!(small.iter().all(Out::passed));
    assert!(large[0].passed());
    assert_eq!(large[1].dropped(), [Cause::Inspected]);
    assert_eq!(large[2].dropped(), [Cause::Inspected]);
}
