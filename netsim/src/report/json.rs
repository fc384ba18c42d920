//! The report for programs: versioned JSON, described in `docs/netsim.md`.
//!
//! Within a version, members are added and never change their meaning. Every run is
//! there with its checks; what was observed is there for those runs that the page shows
//! in detail, and bounded, so that the size of a report does not follow its failures.

use std::{collections::BTreeMap, time::Duration};

use netsim_core::{expect::Outcome, time::Instant, trace::Observation};
use serde_json::{Map, Value, json};

use super::{
    About,
    figure::{percentile, rate},
    summary::{self, Group, replay_line},
};
use crate::outcome::{Check, MissedGoal, Parity, Reading, Run, Sample, Skipped, Suite};

/// The version of the format.
pub const VERSION: u32 = 1;

/// What says that a file is such a report.
pub const KIND: &str = "sternline-netsim report";

/// The most observations of one run: a line a second of a quarter of an hour.
pub const OBSERVATIONS_MAX: usize = 1000;

/// The most recoveries that are listed of one run: one of each agent of a large fleet.
pub const RECOVERIES_MAX: usize = 1000;

/// The report, in the order in which it is written: what it is comes first, so that its
/// first bytes tell.
#[derive(Debug, serde::Serialize)]
pub struct Report {
    kind: &'static str,
    version: u32,
    about: Value,
    passed: bool,
    verdict: String,
    summary: Vec<Value>,
    goals_missed: Vec<Value>,
    parity: Vec<Value>,
    repeated: usize,
    differing: Vec<String>,
    skipped: Vec<Value>,
    runs: Vec<Value>,
}

/// The report as a file.
pub fn text(suite: &Suite, about: &About) -> String {
    let text = serde_json::to_string_pretty(&report(suite, about));
    text.expect("texts and numbers are always JSON") + "\n"
}

/// The report.
pub fn report(suite: &Suite, about: &About) -> Report {
    let groups = summary::groups(suite);
    Report {
        kind: KIND,
        version: VERSION,
        about: json!({
            "program": about.program, "command": about.command, "began": about.began,
        }),
        passed: suite.passed(),
        verdict: summary::verdict(suite, &groups),
        summary: groups.iter().map(summary_of).collect(),
        goals_missed: suite.goals_missed.iter().map(goal).collect(),
        parity: suite.parity.iter().map(parity).collect(),
        repeated: suite.repeated,
        differing: suite.differing.clone(),
        skipped: suite.skipped.iter().map(skipped).collect(),
        runs: groups.iter().flat_map(runs_of).collect(),
    }
}

fn goal(goal: &MissedGoal) -> Value {
    json!({
        "scenario": goal.scenario.as_ref().map(|name| name.as_str()),
        "world": goal.world.as_str(),
        "says": goal.says,
    })
}

fn parity(one: &Parity) -> Value {
    json!({
        "scenario": one.scenario.as_str(),
        "says": one.says,
        "sim": outcome(&one.sim),
        "lab": outcome(&one.lab),
        "agrees": one.agrees(),
    })
}

fn skipped(one: &Skipped) -> Value {
    json!({
        "scenario": one.scenario.as_str(),
        "world": one.world.as_str(),
        "why": one.why,
    })
}

fn summary_of(group: &Group<'_>) -> Value {
    json!({
        "scenario": group.scenario.as_str(),
        "world": group.world.as_str(),
        "runs": group.runs.len(),
        "passed": group.passed(),
        "vacuous": group.vacuous(),
        "recovery": distribution(&group.recoveries()),
    })
}

fn runs_of<'a>(group: &'a Group<'a>) -> impl Iterator<Item = Value> + 'a {
    let detailed = group.detailed();
    let is_detailed = move |run: &Run| detailed.iter().any(|one| one.seed == run.seed);
    group
        .runs
        .iter()
        .map(move |run| run_value(run, is_detailed(run)))
}

fn run_value(run: &Run, is_detailed: bool) -> Value {
    let shown = if is_detailed { OBSERVATIONS_MAX } else { 0 };
    let observations = run.observations.iter().take(shown);
    let touched: Map<String, Value> = run
        .touched
        .iter()
        .map(|(cause, packets)| (cause.as_str().to_owned(), json!(packets)))
        .collect();
    let recoveries = run.recoveries().into_iter().take(RECOVERIES_MAX);
    json!({
        "scenario": run.scenario.as_str(),
        "world": run.world.as_str(),
        // As text: a script's number has 53 bits.
        "seed": run.seed.0.to_string(),
        "passed": run.passed(),
        "failures": run.failures(),
        "lasted_seconds": seconds(run.lasted),
        "took_seconds": seconds(run.took),
        "checks": run.checks.iter().map(check).collect::<Vec<_>>(),
        "vacuous": run.vacuous,
        "notes": run.notes,
        "recoveries_seconds": recoveries.map(seconds).collect::<Vec<_>>(),
        "touched": touched,
        "observations": observations.map(observation).collect::<Vec<_>>(),
        "observations_left_out": run.observations.len().saturating_sub(shown),
        "samples": samples(&run.samples),
        "repro": run.repro,
        "replay": replay_line(run),
    })
}

fn check(check: &Check) -> Value {
    let mut value = outcome(&check.outcome);
    value["says"] = json!(check.says);
    value["is_built_in"] = json!(check.is_built_in);
    value
}

fn outcome(outcome: &Outcome) -> Value {
    let mut value = json!({ "outcome": summary::word(outcome), "passes": outcome.passes() });
    match outcome {
        Outcome::Failed { at, why } => {
            value["at_seconds"] = moment(*at);
            value["why"] = json!(why);
        }
        Outcome::Vacuous { why } | Outcome::KnownFailing { reason: why } => {
            value["why"] = json!(why);
        }
        Outcome::Held | Outcome::Goal { .. } | Outcome::HeldUnexpectedly => {}
    }
    value
}

fn observation(one: &Observation) -> Value {
    json!({
        "at_seconds": moment(one.at),
        "host": one.host.as_ref().map(|name| name.as_str()),
        "what": one.word.as_str(),
        "detail": one.detail,
    })
}

/// What was measured, by host: how many times, and how it was spread.
fn samples(samples: &[Sample]) -> Value {
    let mut hosts: BTreeMap<&str, (Vec<Duration>, Vec<u64>, u64)> = BTreeMap::new();
    for sample in samples {
        let (round_trips, rates, carried) = hosts.entry(sample.host.as_str()).or_default();
        match sample.reading {
            Reading::RoundTrip(span) => round_trips.push(span),
            Reading::Carried { bytes, took } => {
                *carried = carried.saturating_add(bytes);
                rates.extend(rate(bytes, took));
            }
        }
    }
    let value = |(mut round_trips, mut rates, carried): (Vec<Duration>, Vec<u64>, u64)| {
        round_trips.sort_unstable();
        rates.sort_unstable();
        json!({
            "round_trip": distribution(&round_trips),
            "carried_bytes": carried,
            "bits_per_second": {
                "count": rates.len(),
                "p50": percentile(&rates, 50),
                "p99": percentile(&rates, 99),
                "max": rates.last(),
            },
        })
    };
    let hosts = hosts.into_iter();
    hosts
        .map(|(host, measured)| (host.to_owned(), value(measured)))
        .collect::<Map<_, _>>()
        .into()
}

/// How spans in ascending order are spread.
fn distribution(sorted: &[Duration]) -> Value {
    json!({
        "count": sorted.len(),
        "p50_seconds": percentile(sorted, 50).map(seconds),
        "p99_seconds": percentile(sorted, 99).map(seconds),
        "max_seconds": sorted.last().copied().map(seconds),
    })
}

fn moment(at: Instant) -> Value {
    json!(seconds(at.since_start()))
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    fn read(suite: &Suite) -> Value {
        serde_json::from_str(&text(suite, &fixture::about())).expect("it is JSON")
    }

    #[test]
    fn a_script_reads_what_was_run_and_what_came_of_it() {
        let report = read(&fixture::suite());

        assert_eq!(
            (&report["kind"], &report["version"], &report["passed"]),
            (&json!(KIND), &json!(1), &json!(false))
        );
        assert_eq!(report["runs"].as_array().map(Vec::len), Some(10));
        let summary = &report["summary"][2];
        assert_eq!(
            (&summary["scenario"], &summary["runs"], &summary["passed"]),
            (&json!("udp-blocked"), &json!(7), &json!(2))
        );
        assert_eq!(summary["recovery"]["p50_seconds"], json!(7.048));
    }

    #[test]
    fn a_failed_run_has_its_checks_and_the_line_that_replays_it() {
        let report = read(&fixture::suite());

        let failed = &report["runs"][5];
        assert_eq!(failed["seed"], json!("3"));
        assert_eq!(
            failed["checks"][0],
            json!({
                "says": "online within 10s after event:cut",
                "is_built_in": false,
                "outcome": "failed",
                "passes": false,
                "at_seconds": 30.0,
                "why": "agent: online was not observed after 20.000000s",
            })
        );
        assert_eq!(failed["checks"][3]["outcome"], json!("known-failing"));
        assert_eq!(
            failed["replay"],
            json!("sternline-netsim replay report/failures/udp-blocked-sim-3.toml")
        );
        assert_eq!(failed["touched"], json!({ "cut": 412, "udp-blocked": 37 }));
        assert_eq!(failed["samples"]["agent"]["round_trip"]["count"], json!(48));
    }

    #[test]
    fn what_was_observed_is_bounded_and_the_rest_is_counted() {
        let mut suite = fixture::suite();
        suite.runs = vec![fixture::fleet(1_000), fixture::fleet(1)];
        suite.runs[1].seed = netsim_core::random::Seed(2);

        let report = read(&suite);

        let (first, second) = (&report["runs"][0], &report["runs"][1]);
        assert_eq!(first["observations"].as_array().map(Vec::len), Some(1000));
        assert_eq!(first["observations_left_out"], json!(3002));
        assert_eq!(second["observations"], json!([]));
        assert_eq!(second["observations_left_out"], json!(6));
    }

    #[test]
    fn the_same_runs_give_the_same_bytes_whichever_ended_first() {
        let mut other = fixture::suite();
        other.runs.reverse();

        let text_of = |suite| text(suite, &fixture::about());
        assert_eq!(text_of(&other), text_of(&fixture::suite()));
    }

    #[test]
    fn the_first_bytes_say_what_it_is() {
        let text = text(&fixture::suite(), &fixture::about());

        assert!(text.starts_with(&format!("{{\n  \"kind\": \"{KIND}\",\n  \"version\": 1")));
    }
}
