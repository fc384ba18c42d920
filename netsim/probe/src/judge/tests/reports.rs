//! What is made of a judgement: several of them, its forms, and one that may leave the company.

use super::{
    judge, of,
    scenery::{FIREWALL, healthy, icmp, udp, with_all, with_failure, without_udp},
};
use crate::{
    observe::{FaultKind, Flow, Stage},
    verdict::{Report, Verdict},
};

#[test]
fn of_several_addresses_an_agent_needs_one_and_a_person_hears_of_all() {
    let open = judge(healthy());
    let silent = judge(without_udp(with_all(Stage::Tcp, FaultKind::TimedOut)));
    let any = |reports: &[Report]| Verdict::of_any(reports);

    assert_eq!(any(&[open.clone(), open.clone()]), Verdict::Open);
    assert_eq!(any(&[silent.clone(), open.clone()]), Verdict::Degraded);
    assert_eq!(any(&[silent.clone(), silent.clone()]), Verdict::Blocked);

    let reports = [silent, open];
    let text = crate::render::text::text(&reports);
    assert!(text.contains("comes online by relay.example"), "{text}");
    assert!(text.contains("BLOCKED") && text.contains("OPEN"), "{text}");
    let xml = crate::render::junit::junit(&reports);
    assert_eq!(xml.matches("<testsuite ").count(), 2);
    let page = crate::render::html::page(&reports);
    assert_eq!(page.matches("<h1>").count(), 2);
}

#[test]
fn a_report_reads_back_from_its_json_and_every_form_shows_no_markup_of_others() {
    let mut seen = with_failure(healthy(), Flow::Https, Stage::Tcp, FaultKind::TimedOut);
    seen.target.host = "<script>alert(1)</script>".into();
    seen.udp = vec![udp()];
    let report = judge(seen);

    let json = serde_json::to_string(&report).unwrap();

    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    let reports = [report];
    assert!(!crate::render::html::page(&reports).contains("<script"));
    assert!(!crate::render::junit::junit(&reports).contains("<script"));
}

#[test]
fn a_redacted_report_has_the_relays_address_and_none_of_the_networks() {
    let mut seen = without_udp(healthy());
    seen.udp[0].icmp = vec![icmp(3, 13, FIREWALL)];
    let report = judge(seen);

    let redacted = crate::render::redact::redacted(&report).unwrap();

    let json = serde_json::to_string(&redacted).unwrap();
    assert!(!json.contains("10.1.0."), "{json}");
    assert!(json.contains("203.0.113.10") && json.contains("[address 1]"));
    // What was seen stays, and says the same of addresses that are nobody's.
    let (now, was) = (&redacted.observations, &report.observations);
    assert_eq!(now.attempts.len(), was.attempts.len());
    let offender = now.udp[0].icmp[0].offender.unwrap();
    assert_ne!(Some(offender), now.udp[0].from.map(|from| from.ip()));
    assert_eq!(judge(now.clone()).verdict, report.verdict);
    let again = judge(now.clone());
    assert_eq!(
        of(&again, Flow::Quic).causes[0].code,
        of(&report, Flow::Quic).causes[0].code
    );
}
