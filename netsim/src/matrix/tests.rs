//! Cases make sense, and answers are worth what they are worth.

use std::collections::BTreeSet;

use super::*;

fn cases() -> Vec<Case> {
    all().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_case_is_a_network_that_makes_sense_and_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for case in cases() {
        if let Err(mistakes) = case.scenario() {
            panic!("{mistakes}");
        }
        assert!(names.insert(case.name.clone()), "{} twice", case.name);
    }
}

#[test]
fn healthy_cases_expect_nothing_and_every_other_case_has_a_fault_and_expects_something() {
    for case in cases() {
        assert!(case.is_consistent(), "{}", case.name);
    }
}

#[test]
fn there_are_as_many_cases_as_the_probe_must_be_proven_by() {
    let cases = cases();
    let of = |kind: Kind| cases.iter().filter(|case| case.kind == kind).count();

    assert!(of(Kind::Fault) >= 40, "{} faults", of(Kind::Fault));
    assert!(of(Kind::Healthy) >= 10, "{} healthy", of(Kind::Healthy));
    assert!(of(Kind::Mixed) >= 6, "{} mixed", of(Kind::Mixed));
}

fn report(verdict: &str, exit: i32, flows: &[(&str, &str, &[&str])]) -> Answer {
    let flows: Vec<String> = flows
        .iter()
        .map(|(flow, verdict, causes)| {
            let causes = causes.iter();
            let causes: Vec<String> = causes
                .map(|code| format!("{{\"code\":\"{code}\",\"says\":\"s\",\"seconds\":4}}"))
                .collect();
            let causes = causes.join(",");
            format!("{{\"flow\":\"{flow}\",\"verdict\":\"{verdict}\",\"causes\":[{causes}]}}")
        })
        .collect();
    let text = format!(
        "{{\"kind\":\"sternline-probe report\",\"version\":1,\"verdict\":\"{verdict}\",\
         \"target\":{{}},\"flows\":[{}]}}",
        flows.join(",")
    );
    Answer::read(&text, Some(exit)).unwrap_or_else(|error| panic!("{error}"))
}

fn scored(case: &str, answer: Answer) -> Scored {
    let case = toml::from_str(&format!("name = \"x\"\nsays = \"s\"\n{case}"));
    Scored {
        case: case.unwrap_or_else(|error| panic!("{error}")),
        outcome: Outcome {
            answer: Some(answer),
            ..Outcome::default()
        },
    }
}

#[test]
fn another_cause_than_the_true_one_is_wrong_and_cannot_tell_is_not() {
    let case = "quic = \"blocked: firewall-drop\"";
    let of = |verdict: &str, causes: &[&str]| {
        let flows = [
            ("https", "open", &[][..]),
            ("websocket", "open", &[][..]),
            ("quic", verdict, causes),
        ];
        scored(case, report("degraded", 10, &flows)).mark()
    };

    assert_eq!(of("blocked", &["firewall-drop"]), Mark::Right);
    assert_eq!(of("cannot-tell", &["unknown"]), Mark::CannotTell);
    assert_eq!(of("blocked", &["firewall-reject"]), Mark::Wrong);
    assert_eq!(of("open", &[]), Mark::Wrong);
    assert_eq!(of("open", &["firewall-drop"]), Mark::Wrong);
}

#[test]
fn what_cannot_be_known_is_right_when_the_probe_says_that_it_cannot_tell() {
    let flows = [
        ("https", "cannot-tell", &["unknown"][..]),
        ("websocket", "open", &[][..]),
        ("quic", "open", &[][..]),
    ];
    let case = "https = \"blocked: tls-interception | cannot-tell\"";
    let one = scored(case, report("cannot-tell", 30, &flows));

    assert_eq!(one.mark(), Mark::Right);
    let score = Score::of(&[one]);
    assert_eq!((score.right, score.cannot_tell, score.wrong), (1, 0, 0));
    let row = "tls-interception".parse().ok();
    assert_eq!(score.matrix.get(&(row, Said::CannotTell)), Some(&1));
}

#[test]
fn a_healthy_network_that_is_called_blocked_is_a_false_alarm_and_never_good_enough() {
    let flows = [
        ("https", "open", &[][..]),
        ("websocket", "blocked", &["firewall-drop"][..]),
        ("quic", "open", &[][..]),
    ];
    let bad = scored("kind = \"healthy\"", report("degraded", 10, &flows));
    let fine = [
        ("https", "open", &[][..]),
        ("websocket", "open", &[][..]),
        ("quic", "open", &[][..]),
    ];
    let good = scored("kind = \"healthy\"", report("open", 0, &fine));
    let mut all = vec![good; 99];
    assert!(Score::of(&all).is_good_enough());

    all.push(bad);

    assert_eq!(Score::of(&all).false_alarms, 1);
    assert!(!Score::of(&all).is_good_enough());
}

#[test]
fn a_case_whose_fault_touched_nothing_is_not_right() {
    let fine = [
        ("https", "open", &[][..]),
        ("websocket", "open", &[][..]),
        ("quic", "open", &[][..]),
    ];
    let mut one = scored("kind = \"healthy\"", report("open", 0, &fine));
    one.outcome
        .problems
        .push("loss touched no packet".to_owned());

    assert_eq!(one.mark(), Mark::Wrong);
    assert!(
        table::line(&one).starts_with("void"),
        "{}",
        table::line(&one)
    );
}

#[test]
fn an_exit_code_that_does_not_fit_the_verdict_is_no_answer() {
    let text = "{\"kind\":\"sternline-probe report\",\"version\":1,\"verdict\":\"open\",\
                \"flows\":[]}";

    assert!(Answer::read(text, Some(0)).is_ok());
    assert!(Answer::read(text, Some(20)).is_err());
    assert!(Answer::read(text, None).is_err());
    assert!(Answer::read("no report", Some(0)).is_err());
}

#[test]
fn a_truth_with_an_unknown_cause_or_without_one_is_refused() {
    let truth = |text: &str| Truth::try_from(text.to_owned());

    assert!(truth("blocked: dns | cannot-tell").is_ok());
    assert!(truth("blocked: gremlins").is_err());
    assert!(truth("blocked").is_err());
    assert!(truth("open: dns").is_err());
    assert!(truth("fine").is_err());
}
