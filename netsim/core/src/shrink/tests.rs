//! What is shrunk fails still, and nothing more can be taken from simple cases.

use proptest::prelude::*;

use super::*;
use crate::{model::Deed, random::Seed};

/// A scenario with `count` cuts, a second after each other, and a line full of faults.
fn long(count: u32) -> Scenario {
    let text = format!(
        r#"
name = "long"
summary = "Many cuts, of which one or two matter."
observed = "these tests"
duration = "1h"
workload = {{ streams = 100, bytes = "64KiB", deployments = 8 }}
host = [
    {{ name = "relay", runs = "relay", addresses = "203.0.113.10/24" }},
    {{ name = "agent", runs = "agent", addresses = "203.0.113.20/24", count = 16, skew = "3h" }},
]
edge = [{{ name = "internet" }}]
expect = [{{ never = "stream-reset" }}, {{ never = "inbound-flow" }}]

[[cable]]
name = "first"
ends = ["agent", "internet:inside"]
line = {{ delay = "80ms", loss = 0.1, rate = "1Mbit", jitter = {{ spread = "5ms" }} }}

[[cable]]
name = "second"
ends = ["internet:outside", "relay"]

[[at]]
time = "1500ms..2500ms"
do = "cut"
on = "first"
for = "900ms"
times = {count}
every = "4s"
"#
    );
    check(&text).expect("a sound scenario").drawn(Seed(1))
}

fn times(scenario: &Scenario) -> Vec<u64> {
    let events = scenario.events.iter();
    events.map(|event| event.time.get().as_secs()).collect()
}

#[test]
fn of_many_events_the_one_that_matters_is_left() {
    let scenario = long(40);
    let culprit = scenario.events[23].time.get();

    let shrunk = shrink(&scenario, 10_000, |candidate| {
        candidate
            .events
            .iter()
            .any(|event| event.time.get().as_secs() == culprit.as_secs())
    });

    assert!(shrunk.is_minimal);
    assert_eq!(times(&shrunk.scenario), [culprit.as_secs()]);
    assert!(shrunk.runs < 200, "{} runs", shrunk.runs);
}

#[test]
fn values_are_as_simple_as_the_failure_lets_them_be() {
    let scenario = long(3);

    let shrunk = shrink(&scenario, 10_000, |candidate| {
        let cut = candidate.events.first();
        let lasts = cut
            .and_then(Event::undone_at)
            .zip(cut.map(|cut| cut.time.get()));
        lasts.is_some_and(|(end, begin)| end - begin >= Duration::from_millis(300))
            && *candidate.hosts[1].count >= 3
    });

    let simple = &shrunk.scenario;
    assert_eq!(simple.events.len(), 1);
    assert_eq!(
        simple.events[0]
            .lasts
            .as_ref()
            .map(|lasts| lasts.get().as_millis()),
        Some(400)
    );
    assert_eq!(*simple.hosts[1].count, 4);
    assert_eq!(simple.cables[0].line, Line::IDEAL);
    assert_eq!(
        (
            simple.workload.streams.get(),
            simple.workload.deployments.get()
        ),
        (0, 0)
    );
    assert_eq!(simple.expectations.len(), 1, "one expectation must stay");
    assert_eq!(simple.hosts[1].skew.get().nanos, 0);
}

#[test]
fn a_search_without_end_stops_at_its_bound() {
    let shrunk = shrink(&long(40), 7, |_| true);

    assert_eq!((shrunk.runs, shrunk.is_minimal), (7, false));
}

#[test]
fn an_expectation_keeps_the_event_that_it_names() {
    let mut scenario = long(2);
    scenario.events.pop();
    scenario.events[0].name = Some(At::nowhere(crate::term::Name::of("cut")));
    let see = "see = \"online\"\nwithin = \"5s\"\nafter = \"undone:cut\"\n";
    let text = scenario.to_toml();
    let text = text.replacen(
        "[[expect]]\nnever = \"stream-reset\"\n",
        &format!("[[expect]]\n{see}"),
        1,
    );
    let scenario = check(&text).expect("a sound scenario");

    let shrunk = shrink(&scenario, 10_000, |candidate| {
        candidate.expectations.iter().any(|one| one.see.is_some())
    });

    assert_eq!(shrunk.scenario.events.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_shrunk_fails_still_and_needs_every_event(
        needed in prop::collection::btree_set(0_usize..20, 1..4),
    ) {
        let scenario = long(20);
        let needed: Vec<Duration> =
            needed.into_iter().map(|at| scenario.events[at].time.get()).collect();
        let fails = |candidate: &Scenario| {
            needed.iter().all(|time| candidate.events.iter().any(|event| {
                *event.deed == Deed::Cut && event.time.get().as_secs() == time.as_secs()
            }))
        };

        let shrunk = shrink(&scenario, 10_000, fails);

        prop_assert!(fails(&shrunk.scenario));
        prop_assert!(check(&shrunk.scenario.to_toml()).is_ok());
        prop_assert_eq!(shrunk.scenario.events.len(), needed.len());
    }
}
