//! The report for machines that know tests: JUnit's XML, in the dialect that CI systems
//! agree on.
//!
//! A test suite is a scenario in a world, a test case is a seed. What is wrong with all
//! runs together (goals, parity, repeats) is a suite of its own each, so that a build
//! fails for it as it does for a run.

use std::{fmt::Write as _, time::Duration};

use netsim_core::expect::Outcome;

use super::{
    escape::markup,
    summary::{self, Group, replay_line},
};
use crate::outcome::{Run, Suite};

/// The report.
pub fn report(suite: &Suite) -> String {
    let groups = summary::groups(suite);
    let mut suites: Vec<TestSuite> = groups.iter().map(of_group).collect();
    suites.extend(
        [goals(suite), parity(suite), repeats(suite)]
            .into_iter()
            .flatten(),
    );
    let mut document = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all = || suites.iter().flat_map(|suite| &suite.cases);
    write_line(
        &mut document,
        format_args!("<testsuites name=\"sternline-netsim\" {}>", counts(all)),
    );
    for suite in &suites {
        suite.write(&mut document);
    }
    document.push_str("</testsuites>\n");
    document
}

struct TestSuite {
    name: String,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    took: Duration,
    ending: Ending,
    /// What is to be said though it passed.
    output: String,
}

enum Ending {
    Passed,
    Failed { message: String, text: String },
    Skipped { why: String },
}

fn write_line(document: &mut String, line: std::fmt::Arguments<'_>) {
    document
        .write_fmt(format_args!("{line}\n"))
        .expect("a String takes everything");
}

/// The attributes that count cases.
fn counts<'a, I: Iterator<Item = &'a Case>>(cases: impl Fn() -> I) -> String {
    let failed = |case: &&Case| matches!(case.ending, Ending::Failed { .. });
    let skipped = |case: &&Case| matches!(case.ending, Ending::Skipped { .. });
    let took: Duration = cases().map(|case| case.took).sum();
    format!(
        "tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3}\"",
        cases().count(),
        cases().filter(failed).count(),
        cases().filter(skipped).count(),
        took.as_secs_f64(),
    )
}

impl TestSuite {
    fn write(&self, document: &mut String) {
        let name = markup(&self.name);
        let counts = counts(|| self.cases.iter());
        write_line(
            document,
            format_args!("  <testsuite name=\"{name}\" {counts}>"),
        );
        for case in &self.cases {
            case.write(document, &name);
        }
        write_line(document, format_args!("  </testsuite>"));
    }
}

impl Case {
    fn write(&self, document: &mut String, class: &str) {
        write_line(
            document,
            format_args!(
                "    <testcase classname=\"{class}\" name=\"{}\" time=\"{:.3}\">",
                markup(&self.name),
                self.took.as_secs_f64(),
            ),
        );
        match &self.ending {
            Ending::Passed => {}
            Ending::Failed { message, text } => write_line(
                document,
                format_args!(
                    "      <failure type=\"expectation\" message=\"{}\">{}</failure>",
                    markup(message),
                    markup(text)
                ),
            ),
            Ending::Skipped { why } => write_line(
                document,
                format_args!("      <skipped message=\"{}\"/>", markup(why)),
            ),
        }
        if !self.output.is_empty() {
            write_line(
                document,
                format_args!("      <system-out>{}</system-out>", markup(&self.output)),
            );
        }
        write_line(document, format_args!("    </testcase>"));
    }
}

fn of_group(group: &Group<'_>) -> TestSuite {
    let runs = group.runs.iter().map(|run| of_run(run));
    let skipped = group.skipped.iter().map(|skipped| Case {
        name: "all seeds".to_owned(),
        took: Duration::ZERO,
        ending: Ending::Skipped {
            why: skipped.why.clone(),
        },
        output: String::new(),
    });
    TestSuite {
        name: format!("{}.{}", group.scenario, group.world),
        cases: runs.chain(skipped).collect(),
    }
}

fn of_run(run: &Run) -> Case {
    let mut failures = run.failures();
    let ending = match failures.first().cloned() {
        None => Ending::Passed,
        Some(message) => {
            failures.extend(replay_line(run));
            Ending::Failed {
                message,
                text: failures.join("\n"),
            }
        }
    };
    let known = run.checks.iter();
    let known = known.filter(|check| matches!(check.outcome, Outcome::KnownFailing { .. }));
    let known: Vec<_> = known
        .map(|check| format!("{}: {}", check.says, check.outcome))
        .collect();
    Case {
        name: format!("seed {}", run.seed.0),
        took: run.took,
        ending,
        output: known.join("\n"),
    }
}

fn goals(suite: &Suite) -> Option<TestSuite> {
    let cases = suite.goals_missed.iter().map(|goal| {
        let of = goal.scenario.as_ref();
        let of = of.map_or("all scenarios", |name| name.as_str());
        let name = format!("{of} {}: {}", goal.world, goal.says);
        failed(name, "no run has reached this goal".to_owned())
    });
    named("goals", cases.collect())
}

fn parity(suite: &Suite) -> Option<TestSuite> {
    let cases = suite.parity.iter().map(|one| {
        let name = format!("{}: {}", one.scenario, one.says);
        if one.agrees() {
            passed(name)
        } else {
            failed(name, format!("sim: {}\nlab: {}", one.sim, one.lab))
        }
    });
    named("parity", cases.collect())
}

fn repeats(suite: &Suite) -> Option<TestSuite> {
    let differing = suite.differing.iter();
    let mut cases: Vec<_> = differing
        .map(|sentence| failed(sentence.clone(), sentence.clone()))
        .collect();
    if cases.is_empty() && suite.repeated > 0 {
        cases.push(passed(format!("{} runs were run twice", suite.repeated)));
    }
    named("repeats", cases)
}

fn named(name: &str, cases: Vec<Case>) -> Option<TestSuite> {
    let name = name.to_owned();
    (!cases.is_empty()).then_some(TestSuite { name, cases })
}

const fn passed(name: String) -> Case {
    Case {
        name,
        took: Duration::ZERO,
        ending: Ending::Passed,
        output: String::new(),
    }
}

fn failed(name: String, text: String) -> Case {
    let message = text.lines().next().unwrap_or_default().to_owned();
    Case {
        ending: Ending::Failed { message, text },
        ..passed(name)
    }
}

#[cfg(test)]
mod tests {
    use netsim_core::{expect::Outcome, model::World};
    use proptest::prelude::*;
    use roxmltree::{Document, Node};

    use super::{super::fixture, *};

    fn tagged<'a>(document: &'a Document<'_>, tag: &'a str) -> Vec<Node<'a, 'a>> {
        let all = document.descendants();
        all.filter(|node| node.has_tag_name(tag)).collect()
    }

    #[test]
    fn a_suite_is_a_scenario_in_a_world_and_a_case_is_a_seed() {
        let report = report(&fixture::suite());
        let document = Document::parse(&report).expect("it is well-formed");

        let suites = tagged(&document, "testsuite");
        let names: Vec<_> = suites.iter().map(|one| one.attribute("name")).collect();
        assert_eq!(
            names,
            [
                "open.sim",
                "open.lab",
                "udp-blocked.sim",
                "vpn-flap.lab",
                "goals",
                "parity",
                "repeats"
            ]
            .map(Some)
        );
        assert_eq!(suites[2].attribute("tests"), Some("7"));
        assert_eq!(suites[2].attribute("failures"), Some("5"));
        let root = document.root_element();
        assert_eq!(root.attribute("tests"), Some("15"));
        assert_eq!(root.attribute("failures"), Some("8"));
        assert_eq!(root.attribute("skipped"), Some("1"));
        assert_eq!(tagged(&document, "failure").len(), 8);
    }

    #[test]
    fn a_failure_has_the_line_that_replays_it() {
        let report = report(&fixture::suite());
        let document = Document::parse(&report).expect("it is well-formed");

        let failure = tagged(&document, "failure")[0];
        let message = failure.attribute("message").unwrap_or_default();
        assert!(
            message.starts_with("online within 10s after event:cut: failed at 30"),
            "{message}"
        );
        assert!(
            failure
                .text()
                .unwrap_or_default()
                .ends_with("\nsternline-netsim replay report/failures/udp-blocked-sim-3.toml"),
            "{failure:?}"
        );
        let output = tagged(&document, "system-out")[0]
            .text()
            .unwrap_or_default();
        assert!(output.contains("known to fail"), "{output}");
    }

    proptest! {
        #[test]
        fn any_sentence_is_a_failure_that_parses(why in any::<String>()) {
            let mut run = fixture::run("open", World::Sim, 1);
            run.checks[0].outcome = Outcome::Vacuous { why };
            let suite = Suite { runs: vec![run], ..Suite::default() };

            let report = report(&suite);

            let document = Document::parse(&report).expect("it is well-formed");
            prop_assert_eq!(tagged(&document, "failure").len(), 1);
        }
    }
}
