//! Questions are read, lies are told, and what is late comes late.

use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::{super::fixture::*, *};
use crate::{
    dns::Kind,
    term::{At, Choice, Scalar, Term, Text},
};

fn asked(name: &str, kind: u8) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend(label.bytes());
    }
    message.extend([0, 0, kind, 0, 1]);
    message
}

fn server() -> SocketAddr {
    end("203.0.113.53:53")
}

fn rule(names: &str, trick: DnsTrick) -> DnsRule {
    let mut rule = DnsRule::blank();
    rule.names = vec![Text::from_text(names).expect("a text")];
    rule.trick = trick;
    rule
}

fn lie(names: &str, address: &str) -> DnsRule {
    let mut rule = rule(names, DnsTrick::Lie);
    rule.answer = vec![At::nowhere(address.parse().expect("an address"))];
    rule
}

#[test]
fn a_question_for_a_name_is_answered_with_the_lie() {
    let mut dns = DnsBox::new(vec![lie("relay.example.com", "192.0.2.66")]);

    let out = outbound(
        &mut dns,
        seconds(0),
        udp(INNER, server(), &asked("relay.example.com", 1)),
    );

    let (to, answer) = out.only();
    let flow = answer.flow().expect("it has ports");
    assert_eq!(
        (to, flow.source, flow.destination),
        (Side::Inside, server(), INNER)
    );
    assert_eq!(
        answer.payload()[..2],
        [0xab, 0xcd],
        "the question's own number"
    );
    assert!(answer.payload().ends_with(&[192, 0, 2, 66]));
    assert_eq!(dns.touched().of(Cause::Misled), 1);
}

#[test]
fn the_other_family_is_answered_with_nothing() {
    let mut dns = DnsBox::new(vec![lie("*", "192.0.2.66")]);

    let out = outbound(
        &mut dns,
        seconds(0),
        udp(INNER, server(), &asked("relay.example.com", 28)),
    );

    let (_, answer) = out.only();
    assert_eq!(answer.payload()[6..8], [0, 0], "no record");
    assert_eq!(answer.payload()[3] & 15, 0, "no error");
}

#[test]
fn split_dns_knows_inner_names_and_no_others() {
    let inner = lie("*.corp", "10.0.0.9");
    let mut dns = DnsBox::new(vec![inner, rule("*", DnsTrick::NoSuchName)]);
    let mut code = |name: &str| {
        let question = udp(INNER, server(), &asked(name, 1));
        let (_, answer) = outbound(&mut dns, seconds(0), question).only();
        answer.payload()[3] & 15
    };

    assert_eq!(code("wiki.corp"), 0);
    assert_eq!(code("relay.example.com"), 3);
}

#[test]
fn what_no_rule_names_passes_untouched() {
    let mut dns = DnsBox::new(vec![lie("*.corp", "10.0.0.9")]);

    assert!(
        outbound(
            &mut dns,
            seconds(0),
            udp(INNER, server(), &asked("example.com", 1))
        )
        .passed()
    );
    assert!(outbound(&mut dns, seconds(0), udp(INNER, server(), b"no question")).passed());
    assert!(outbound(&mut dns, seconds(0), syn(INNER, server())).passed());
    assert_eq!(dns.touched(), Touched::default());
}

#[test]
fn a_slow_answer_comes_when_it_is_due() {
    let mut slow = rule("*", DnsTrick::Slow);
    slow.delay = Choice::Fixed(Duration::from_secs(5));
    let mut dns = DnsBox::new(vec![slow]);
    let question = asked("example.com", 1);

    assert!(outbound(&mut dns, seconds(0), udp(INNER, server(), &question)).passed());
    let held = inbound(&mut dns, seconds(1), udp(server(), INNER, &question));

    assert_eq!(held.forwarded(), []);
    assert_eq!(dns.poll_at(), Some(seconds(6)));
    assert_eq!(on_time(&mut dns, seconds(5)).forwarded(), []);
    assert_eq!(on_time(&mut dns, seconds(6)).forwarded().len(), 1);
}

#[test]
fn silence_swallows_the_question() {
    let mut dns = DnsBox::new(vec![rule("*", DnsTrick::Silence)]);

    let out = outbound(
        &mut dns,
        seconds(0),
        udp(INNER, server(), &asked("example.com", 1)),
    );

    assert_eq!(
        (out.forwarded(), out.dropped()),
        (vec![], vec![Cause::Misled])
    );
}

#[test]
fn a_pattern_with_a_star_fits_what_is_below_and_not_itself() {
    assert!(fits("*.corp", "a.corp") && fits("*.corp", "A.CORP") && fits("*", "x"));
    assert!(!fits("*.corp", ".corp") && !fits("*.corp", "corp") && !fits("a", "b"));
}

proptest! {
    #[test]
    fn no_message_makes_the_reader_panic(message in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(question) = question(&message) {
            answer(&message, &question, &[INNER.ip()]);
        }
    }

    #[test]
    fn a_question_reads_as_it_was_asked(name in "[a-z]{1,10}(\\.[a-z]{1,10}){0,5}") {
        let question = question(&asked(&name, 28)).expect("a question");

        prop_assert_eq!((question.name, question.kind), (name, Kind::Ipv6));
    }
}
