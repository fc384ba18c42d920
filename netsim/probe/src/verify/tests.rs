//! Rules and what was seen of them.

use super::*;

fn rule(protocol: Protocol) -> Rule {
    Rule {
        name: None,
        host: "relay.example".into(),
        port: 8000,
        protocol,
        via: Via::Direct,
    }
}

#[test]
fn a_file_reads_with_what_it_leaves_out() {
    let text = "[[allow]]\nhost = \"relay.example\"\nport = 443\n\n[[deny]]\nname = \"names\"\n\
                host = \"9.9.9.9\"\nport = 53\nprotocol = \"udp\"\n";

    let rules = Rules::parse(text).unwrap();

    assert_eq!(rules.allow[0].protocol, Protocol::Tcp);
    assert_eq!(rules.allow[0].via, Via::Direct);
    assert_eq!(rules.deny[0].destination(), "9.9.9.9:53/udp");
}

#[test]
fn a_file_without_rules_is_refused_and_a_mistyped_key_too() {
    assert_eq!(Rules::parse(""), Err(BadRules::Empty));
    let mistyped = Rules::parse("[[allow]]\nhost = \"a\"\nports = 443\n");
    assert!(matches!(mistyped, Err(BadRules::Form(_))));
}

#[test]
fn udp_through_a_proxy_is_refused() {
    let text = "[[allow]]\nhost = \"a\"\nport = 1\nprotocol = \"udp\"\nvia = \"proxy\"\n";

    assert_eq!(
        Rules::parse(text),
        Err(BadRules::UdpThroughProxy("a".into()))
    );
}

#[test]
fn what_must_be_open_and_is_silent_fails_over_tcp_and_is_unknown_over_udp() {
    let over = |protocol| judge(&rule(protocol), Demand::Allow, &Came::Nothing).0;

    assert_eq!(over(Protocol::Tcp), Outcome::Otherwise);
    assert_eq!(over(Protocol::Udp), Outcome::CannotTell);
}

#[test]
fn what_must_be_closed_holds_unless_something_answers() {
    let seen = |came| judge(&rule(Protocol::Udp), Demand::Deny, &came).0;

    assert_eq!(seen(Came::Nothing), Outcome::AsDemanded);
    assert_eq!(seen(Came::Rejected("ICMP".into())), Outcome::AsDemanded);
    assert_eq!(seen(Came::Answered), Outcome::Otherwise);
}

#[test]
fn one_rule_that_fails_fails_the_run_and_one_unknown_leaves_it_unknown() {
    let tested = |outcome| Tested {
        rule: rule(Protocol::Tcp),
        demand: Demand::Allow,
        is_sample: false,
        outcome,
        says: String::new(),
    };
    let code = |outcomes: &[Outcome]| {
        Verified {
            kind: String::new(),
            version: 1,
            rules: outcomes.iter().copied().map(tested).collect(),
            listening: None,
        }
        .exit_code()
    };

    assert_eq!(code(&[Outcome::AsDemanded]), 0);
    assert_eq!(code(&[Outcome::AsDemanded, Outcome::CannotTell]), 30);
    assert_eq!(code(&[Outcome::CannotTell, Outcome::Otherwise]), 20);
}

#[test]
fn the_strict_sample_leaves_out_what_the_rules_open() {
    let open = "[[allow]]\nhost = \"1.1.1.1\"\nport = 443\n";
    let rules = Rules::parse(open).unwrap();

    let sampled: Vec<String> = sample(&rules).iter().map(Rule::destination).collect();

    assert!(!sampled.contains(&"1.1.1.1:443/tcp".to_owned()));
    assert!(sampled.contains(&"8.8.8.8:443/tcp".to_owned()));
}
