//! The judge, over tables of what may be seen.

mod rates;
mod reports;
mod scenery;

use std::net::SocketAddr;

use super::judge;
use crate::{
    observe::{
        FaultKind, Flow, HopOutcome, HopTest, HttpAnswer, IdleRung, NameFault, Observations, Pace,
        ParallelTest, PortalTest, SizeRung, Stage, Variation,
    },
    protocol::{Door, Stage as Arrived},
    verdict::{Code, FlowReport, FlowVerdict, Report, Verdict},
};
use scenery::{
    FIREWALL, HERE, RELAY, chain, echo, failed, healthy, icmp, proven, varied, with_all,
    with_failure, without_udp, witness,
};

fn of(report: &Report, flow: Flow) -> &FlowReport {
    report.flows.iter().find(|one| one.flow == flow).unwrap()
}

#[track_caller]
fn blames(seen: Observations, flow: Flow, code: Code) {
    let report = judge(seen);
    let found = of(&report, flow);
    let first = found.causes.first().map(|cause| cause.code);
    assert_eq!(first, Some(code), "{:?}", found.causes);
    let verdict = match code {
        Code::Unknown => FlowVerdict::CannotTell,
        _ => FlowVerdict::Blocked,
    };
    assert_eq!(found.verdict, verdict);
    assert!(found.changes.is_some(), "what is blocked has a change");
}

#[track_caller]
fn warns(seen: Observations, flow: Flow, code: Code) {
    let report = judge(seen);
    let found = of(&report, flow);
    assert_eq!(found.verdict, FlowVerdict::Caveat, "{:?}", found.causes);
    assert!(
        found.causes.iter().any(|cause| cause.code == code),
        "{:?}",
        found.causes
    );
    assert_eq!(report.verdict, Verdict::Degraded);
}

fn refused(flow: Flow) -> Observations {
    with_failure(healthy(), flow, Stage::Tcp, FaultKind::Refused)
}

#[test]
fn a_network_where_all_is_well_is_open_and_nobody_is_named() {
    let report = judge(healthy());

    assert_eq!(report.verdict, Verdict::Open);
    assert!(
        report
            .flows
            .iter()
            .all(|flow| flow.causes.is_empty() && flow.changes.is_none())
    );
}

#[test]
fn a_private_ca_alone_is_no_fault_with_or_without_the_key() {
    let mut seen = healthy();
    seen.target.pin = None;
    for attempt in &mut seen.attempts {
        attempt.proof.as_mut().unwrap().is_pinned = None;
    }

    let report = judge(seen);

    assert_eq!(report.verdict, Verdict::Open);
    assert!(report.notes.iter().any(|note| note.contains("--pin")));
}

#[test]
fn a_host_without_ipv6_is_as_well_as_one_with_it() {
    let mut seen = healthy();
    let mut attempt = failed(Flow::Websocket, Stage::Tcp, FaultKind::NetUnreachable);
    attempt.address = Some("2001:db8::10".parse().unwrap());
    attempt.stages[0].fault.as_mut().unwrap().is_local = true;
    seen.attempts.push(attempt);

    assert_eq!(judge(seen).verdict, Verdict::Open);
}

#[test]
fn names_that_lead_nowhere_are_told_from_resolvers_that_are_silent() {
    for fault in [
        NameFault::NoSuchName,
        NameFault::TimedOut,
        NameFault::Failed("x".into()),
    ] {
        let mut seen = healthy();
        seen.attempts.clear();
        seen.udp.clear();
        seen.addresses.clear();
        seen.look_ups[0].outcome = Err(fault);
        blames(seen, Flow::Https, Code::Dns);
    }
}

#[test]
fn a_name_that_leads_to_this_host_itself_is_a_lie() {
    let mut seen = with_all(Stage::Tcp, FaultKind::Refused);
    seen.addresses = vec!["127.0.0.1".parse().unwrap()];
    blames(seen, Flow::Https, Code::Dns);
}

#[test]
fn a_private_address_where_nothing_answers_is_nobodys_fault_for_sure() {
    let mut seen = with_all(Stage::Tcp, FaultKind::TimedOut);
    let private = "192.168.7.7".parse().unwrap();
    seen.addresses = vec![private];
    for attempt in &mut seen.attempts {
        attempt.address = Some(private);
    }
    blames(seen, Flow::Websocket, Code::Unknown);
}

#[test]
fn a_host_without_a_route_blames_no_firewall() {
    let mut seen = with_all(Stage::Tcp, FaultKind::NetUnreachable);
    for attempt in &mut seen.attempts {
        attempt.stages[0].fault.as_mut().unwrap().is_local = true;
    }
    blames(seen, Flow::Websocket, Code::NoRoute);
}

#[test]
fn what_this_host_itself_refuses_to_send_is_its_own_firewalls() {
    let permitted = with_failure(healthy(), Flow::Https, Stage::Tcp, FaultKind::NotPermitted);
    blames(permitted, Flow::Https, Code::HostFirewall);

    let mut silent = with_failure(healthy(), Flow::Websocket, Stage::Tcp, FaultKind::TimedOut);
    silent.own.resends_refused = 2;
    blames(silent, Flow::Websocket, Code::HostFirewall);

    let mut looped = refused(Flow::Websocket);
    looped.own.refused_over_loopback = Some((4, 4));
    blames(looped, Flow::Websocket, Code::HostFirewall);

    let mut datagrams = without_udp(healthy());
    datagrams.udp[0].icmp = vec![icmp(3, 13, HERE)];
    blames(datagrams, Flow::Quic, Code::HostFirewall);
}

#[test]
fn silence_on_one_port_is_a_firewall_that_drops() {
    let seen = with_failure(healthy(), Flow::Websocket, Stage::Tcp, FaultKind::TimedOut);
    blames(seen, Flow::Websocket, Code::FirewallDrop);
    blames(without_udp(healthy()), Flow::Quic, Code::FirewallDrop);
}

#[test]
fn silence_everywhere_names_a_firewall_with_low_confidence_alone() {
    let report = judge(with_all(Stage::Tcp, FaultKind::TimedOut));

    assert_eq!(report.verdict, Verdict::Blocked);
    for flow in &report.flows {
        assert_eq!(flow.confidence, crate::verdict::Confidence::Low);
    }
}

#[test]
fn who_refuses_what_the_relay_takes_is_not_the_relay_and_what_it_saw_nothing_of_may_be() {
    let mut seen = refused(Flow::Https);
    seen.witness = Some(witness(&[(Door::TunnelTcp, Arrived::Asked)]));
    blames(seen.clone(), Flow::Https, Code::Unknown);

    let both = [
        (Door::TunnelTcp, Arrived::Asked),
        (Door::Https, Arrived::Asked),
    ];
    seen.witness = Some(witness(&both));
    blames(seen, Flow::Https, Code::FirewallReject);
}

#[test]
fn what_the_relay_saw_arrive_was_dropped_on_the_way_back() {
    let mut seen = with_failure(healthy(), Flow::Websocket, Stage::Tcp, FaultKind::TimedOut);
    seen.witness = Some(witness(&[(Door::TunnelTcp, Arrived::Arrived)]));

    let report = judge(seen);

    let says = &of(&report, Flow::Websocket).causes[0].says;
    assert!(says.contains("on the way back"), "{says}");
}

#[test]
fn an_icmp_error_names_the_device_that_sent_it() {
    let mut seen = without_udp(healthy());
    seen.udp[0].icmp = vec![icmp(3, 13, FIREWALL)];

    let report = judge(seen.clone());

    let cause = &of(&report, Flow::Quic).causes[0];
    assert_eq!(cause.address.as_deref(), Some("10.1.0.1"));
    blames(seen, Flow::Quic, Code::FirewallReject);
    let tcp = with_failure(
        healthy(),
        Flow::Websocket,
        Stage::Tcp,
        FaultKind::HostUnreachable,
    );
    blames(tcp, Flow::Websocket, Code::FirewallReject);
}

#[test]
fn a_refusal_is_the_relays_or_a_firewalls_by_hops_and_times_and_else_nobodys() {
    let to = SocketAddr::new(RELAY, 443);
    let paced = |refused_after, answered| {
        let mut seen = refused(Flow::Https);
        let answered = Some(answered);
        seen.paces = vec![Pace {
            to,
            refused: refused_after,
            answered,
        }];
        seen
    };
    blames(paced(1_000, 20_000), Flow::Https, Code::FirewallReject);
    blames(paced(20_000, 20_000), Flow::Https, Code::Relay);
    blames(paced(15_000, 20_000), Flow::Https, Code::Unknown);
    blames(paced(100, 900), Flow::Https, Code::Unknown);

    let mut hops = refused(Flow::Https);
    let test = |port, hops, outcome| HopTest {
        to: SocketAddr::new(RELAY, port),
        hops,
        outcome,
    };
    hops.hops = vec![
        test(443, 2, HopOutcome::Refused),
        test(8000, 9, HopOutcome::Open),
    ];
    blames(hops, Flow::Https, Code::FirewallReject);
}

#[test]
fn the_tunnels_port_over_udp_shows_that_the_relay_does_not_refuse_it_over_tcp() {
    blames(
        refused(Flow::Websocket),
        Flow::Websocket,
        Code::FirewallReject,
    );
}

#[test]
fn a_host_that_says_itself_that_nobody_listens_is_the_relays() {
    let mut seen = with_all(Stage::Tcp, FaultKind::Refused);
    seen.udp[0].icmp = vec![icmp(3, 3, RELAY)];
    for flow in Flow::ALL {
        blames(seen.clone(), flow, Code::Relay);
    }
}

#[test]
fn a_proxy_that_says_no_is_named_with_its_answer() {
    for kind in [FaultKind::ProxyLogin, FaultKind::ProxyDenied] {
        let mut seen = with_failure(healthy(), Flow::Websocket, Stage::Proxy, kind);
        seen.proxy = Some("http://proxy:3128".into());
        for attempt in seen
            .attempts
            .iter_mut()
            .filter(|one| one.flow != Flow::Quic)
        {
            attempt.is_through_proxy = true;
            attempt.address = None;
        }
        blames(seen, Flow::Websocket, Code::Proxy);
    }
}

#[test]
fn a_proof_of_another_connection_names_the_interceptor_without_any_key() {
    let mut seen = healthy();
    seen.target.pin = None;
    seen.attempts[0].chain = Some(chain("CN=Corp Inspection CA", "another"));
    let proof = seen.attempts[0].proof.as_mut().unwrap();
    (proof.is_proven, proof.is_pinned) = (false, None);

    let report = judge(seen.clone());

    let cause = &of(&report, Flow::Https).causes[0];
    assert_eq!(cause.issuer.as_deref(), Some("CN=Corp Inspection CA"));
    blames(seen, Flow::Https, Code::TlsInterception);
}

#[test]
fn another_certificate_than_the_proven_one_is_an_interceptor_that_cuts_websockets() {
    let mut seen = with_failure(healthy(), Flow::Https, Stage::Websocket, FaultKind::Status);
    for attempt in seen
        .attempts
        .iter_mut()
        .filter(|one| one.flow == Flow::Https)
    {
        attempt.chain = Some(chain("CN=Corp Inspection CA", "another"));
    }
    blames(seen, Flow::Https, Code::TlsInterception);
}

#[test]
fn without_a_proof_and_without_a_key_nobody_is_named() {
    let mut seen = with_failure(healthy(), Flow::Https, Stage::Websocket, FaultKind::Ended);
    seen.target.pin = None;
    seen = without_udp(with_failure(
        seen,
        Flow::Websocket,
        Stage::Tcp,
        FaultKind::TimedOut,
    ));

    let report = judge(seen.clone());

    let says = &of(&report, Flow::Https).causes[0].says;
    assert!(says.contains("cannot be told apart"), "{says}");
    blames(seen, Flow::Https, Code::Unknown);
}

#[test]
fn headers_that_nobody_sent_name_a_transparent_proxy() {
    let mut seen = with_failure(healthy(), Flow::Https, Stage::Websocket, FaultKind::Status);
    let mut asked = proven(Flow::Https);
    asked.proof = None;
    asked.stages.retain(|stage| stage.stage <= Stage::Tls);
    asked.echo = Some(echo(seen.started_ms, &[("Via", "1.1 corp")]));
    asked.stages.push(crate::observe::StageSeen {
        stage: Stage::Http,
        start: 1,
        end: 2,
        fault: None,
    });
    seen.attempts.push(asked);
    blames(seen, Flow::Https, Code::TransparentProxy);
}

#[test]
fn a_page_that_leads_elsewhere_is_a_captive_portal() {
    let mut seen = with_failure(healthy(), Flow::Https, Stage::Tls, FaultKind::NotTls);
    seen.portal = Some(PortalTest {
        is_nowhere_80_open: true,
        is_nowhere_443_open: true,
        answer: Some(HttpAnswer {
            status: 302,
            headers: vec![("Location".into(), "http://portal.corp/login".into())],
            body: String::new(),
        }),
        at_relay: None,
    });
    blames(seen, Flow::Https, Code::CaptivePortal);
}

#[test]
fn plain_http_in_the_place_of_tls_is_a_portal_where_it_leads_elsewhere_and_else_a_proxy() {
    for (answer, code) in [
        ("not TLS: HTTP/1.1 302 Found", Code::CaptivePortal),
        ("not TLS: HTTP/1.1 400 Bad Request", Code::TransparentProxy),
        ("not TLS: SSH-2.0-OpenSSH", Code::Unknown),
    ] {
        let mut seen = with_failure(healthy(), Flow::Https, Stage::Tls, FaultKind::NotTls);
        for attempt in seen
            .attempts
            .iter_mut()
            .filter(|one| one.flow == Flow::Https)
        {
            let last = attempt.stages.last_mut().unwrap();
            last.fault.as_mut().unwrap().says = answer.into();
        }
        seen.portal = Some(PortalTest::default());
        blames(seen, Flow::Https, code);
    }
}

#[test]
fn a_vendor_who_leads_plain_http_elsewhere_is_no_captive_portal() {
    let mut seen = with_failure(healthy(), Flow::Https, Stage::Tls, FaultKind::Reset);
    seen.portal = Some(PortalTest {
        at_relay: Some(HttpAnswer {
            status: 301,
            headers: vec![("Location".into(), "https://www.vendor.example/".into())],
            body: String::new(),
        }),
        ..PortalTest::default()
    });
    blames(seen, Flow::Https, Code::Unknown);
}

#[test]
fn one_thing_changed_names_what_is_looked_at() {
    for variation in [
        Variation::NeutralName,
        Variation::SmallHello,
        Variation::NeutralAlpn,
    ] {
        for kind in [FaultKind::TimedOut, FaultKind::Reset] {
            let mut seen = with_failure(healthy(), Flow::Websocket, Stage::Tls, kind);
            seen.attempts.push(varied(Flow::Websocket, variation));
            blames(seen, Flow::Websocket, Code::Inspection);
        }
    }
    let quic = with_failure(healthy(), Flow::Quic, Stage::Quic, FaultKind::TimedOut);
    blames(quic, Flow::Quic, Code::Inspection);
}

#[test]
fn segments_that_get_through_where_larger_ones_vanish_name_the_mtu() {
    let mut seen = with_all(Stage::Tls, FaultKind::TimedOut);
    for flow in [Flow::Https, Flow::Websocket] {
        seen.attempts.push(varied(flow, Variation::Mss(900)));
        seen.attempts.push(varied(flow, Variation::SmallHello));
    }
    let report = judge(seen.clone());

    assert_eq!(of(&report, Flow::Https).causes[0].bytes, Some(940));
    for flow in Flow::ALL {
        blames(seen.clone(), flow, Code::Mtu);
    }
}

#[test]
fn a_relay_that_has_no_time_says_so() {
    let seen = with_failure(healthy(), Flow::Websocket, Stage::Tls, FaultKind::Busy);
    blames(seen.clone(), Flow::Websocket, Code::Relay);

    // What it closes beside that is its own doing, and what gets in by luck no evidence.
    let mut both = with_failure(seen, Flow::Https, Stage::Tls, FaultKind::Reset);
    both.attempts
        .push(varied(Flow::Https, Variation::NeutralName));
    blames(both, Flow::Https, Code::Relay);
}

#[test]
fn tls_that_hangs_and_differs_in_nothing_is_nobodys() {
    let seen = with_failure(healthy(), Flow::Websocket, Stage::Tls, FaultKind::TimedOut);
    blames(seen, Flow::Websocket, Code::Unknown);
}

#[test]
fn silent_connections_that_end_are_a_caveat_and_longer_ones_that_hold_clear_it() {
    let rung = |idle_ms, fault: Option<FaultKind>| IdleRung {
        flow: Flow::Websocket,
        idle_ms,
        is_relay_first: true,
        fault: fault.map(|kind| crate::observe::Fault::new(kind, "x")),
    };
    let mut seen = healthy();
    seen.idle = vec![rung(2_000, None), rung(4_000, Some(FaultKind::TimedOut))];
    warns(seen.clone(), Flow::Websocket, Code::IdleTimer);

    seen.idle.push(rung(8_000, None));
    assert_eq!(judge(seen).verdict, Verdict::Open);
}

#[test]
fn what_works_and_will_bite_is_a_caveat() {
    let mut slow = healthy();
    slow.look_ups[0].end = 3_000_000;
    warns(slow, Flow::Websocket, Code::Dns);

    let mut clock = healthy();
    clock.attempts[0].echo = Some(echo(clock.started_ms + 172_800_000, &[]));
    warns(clock, Flow::Https, Code::Clock);

    let mut broken = healthy();
    let mut by_six = failed(Flow::Websocket, Stage::Tcp, FaultKind::TimedOut);
    by_six.address = Some("2001:db8::10".parse().unwrap());
    broken.attempts.push(by_six);
    warns(broken, Flow::Websocket, Code::Ipv6);

    let mut few = healthy();
    few.parallel = Some(ParallelTest {
        to: SocketAddr::new(RELAY, 8000),
        wanted: 64,
        opened: 11,
        opened_first: 11,
        fault: None,
    });
    warns(few.clone(), Flow::Websocket, Code::PortExhaustion);
    // Failures that are strewn are losses.
    few.parallel.as_mut().unwrap().opened_first = 2;
    assert_eq!(judge(few).verdict, Verdict::Open);

    let mut large = healthy();
    let size = |bytes, fault| SizeRung {
        flow: Flow::Quic,
        bytes,
        is_down: true,
        fault,
    };
    let lost = crate::observe::Fault::new(FaultKind::TimedOut, "x");
    large.sizes = vec![size(1_000, None), size(1_400, Some(lost))];
    warns(large, Flow::Quic, Code::Mtu);
}

#[test]
fn what_comes_and_goes_is_told_and_nobody_is_named() {
    let mut seen = healthy();
    let mut lost = failed(Flow::Websocket, Stage::Tcp, FaultKind::TimedOut);
    lost.round = 2;
    seen.attempts.push(lost);
    warns(seen, Flow::Websocket, Code::Unknown);
}

#[test]
fn an_interceptor_that_the_agent_is_told_of_is_a_caveat_with_a_name() {
    let mut seen = healthy();
    let mut chain = chain("CN=Corp Inspection CA", "another");
    chain.may_intercept = true;
    seen.attempts[0].chain = Some(chain);
    seen.attempts[0].proof.as_mut().unwrap().is_proven = false;

    warns(seen.clone(), Flow::Https, Code::TlsInterception);
    let cause = judge(seen.clone()).flows[0].causes[0].clone();
    assert_eq!(cause.issuer.as_deref(), Some("CN=Corp Inspection CA"));

    // Whoever has another key than the relay's is no interceptor that may.
    seen.attempts[0].proof.as_mut().unwrap().is_pinned = Some(false);
    blames(seen, Flow::Https, Code::TlsInterception);
}

#[test]
fn two_faults_have_two_names() {
    let mut seen = without_udp(healthy());
    seen.attempts[0].chain = Some(chain("CN=Corp Inspection CA", "another"));
    seen.attempts[0].proof.as_mut().unwrap().is_proven = false;

    blames(seen.clone(), Flow::Https, Code::TlsInterception);
    blames(seen.clone(), Flow::Quic, Code::FirewallDrop);
    assert_eq!(judge(seen).verdict, Verdict::Degraded);
}

#[test]
fn quic_alone_blocked_is_degraded_and_quic_alone_open_is_so_too() {
    assert_eq!(judge(without_udp(healthy())).verdict, Verdict::Degraded);

    let only = with_failure(healthy(), Flow::Https, Stage::Tcp, FaultKind::TimedOut);
    let only = with_failure(only, Flow::Websocket, Stage::Tcp, FaultKind::TimedOut);
    assert_eq!(judge(only).verdict, Verdict::Degraded);
}
