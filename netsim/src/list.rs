//! `list`: the shipped scenarios, what each models, and who observed it.

use std::fmt::Write as _;

use netsim_core::model::{Scenario, World};
use serde_json::{Value, json};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// For a person; colour is taken out where the reader is no terminal.
pub fn text(scenarios: &[Scenario]) -> String {
    let mut text = String::new();
    for scenario in scenarios {
        let worlds = worlds(scenario).join(", ");
        let name = &*scenario.name;
        let summary = scenario.summary.as_str();
        writeln!(
            text,
            "{BOLD}{name}{PLAIN}  {DIM}{worlds}{PLAIN}\n    {summary}"
        )
        .expect("a String takes everything");
        for observed in &scenario.observed {
            writeln!(text, "    {DIM}Observed: {}{PLAIN}", observed.as_str())
                .expect("a String takes everything");
        }
    }
    text
}

/// For a script: an array in the order of the list.
pub fn json(scenarios: &[Scenario]) -> Value {
    scenarios.iter().map(one).collect()
}

fn one(scenario: &Scenario) -> Value {
    let observed: Vec<&str> = scenario.observed.iter().map(|text| text.as_str()).collect();
    let expectations: Vec<Value> = scenario
        .expectations
        .iter()
        .map(|expectation| {
            json!({
                "says": expectation.to_string(),
                "known_failing": expectation.known_failing.as_ref().map(|text| text.as_str()),
            })
        })
        .collect();
    json!({
        "name": scenario.name.as_str(),
        "summary": scenario.summary.as_str(),
        "observed": observed,
        "worlds": worlds(scenario),
        "duration_seconds": scenario.duration.get().as_secs(),
        "expectations": expectations,
    })
}

fn worlds(scenario: &Scenario) -> Vec<&'static str> {
    scenario
        .worlds
        .iter()
        .map(|world| World::as_str(*world))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    #[test]
    fn a_person_reads_what_each_models_and_who_observed_it() {
        let text = anstream::adapter::strip_str(&text(&shipped::all())).to_string();

        assert!(
            text.starts_with("open  sim, lab\n    A home or office"),
            "{text}"
        );
        assert!(
            text.contains("    Observed: Hätönen et al., IMC 2010"),
            "{text}"
        );
    }

    #[test]
    fn a_script_reads_the_same() {
        let listed = json(&shipped::all());

        let first = &listed[0];
        assert_eq!(
            (&first["name"], &first["duration_seconds"]),
            (&json!("open"), &json!(60))
        );
        assert!(
            first["observed"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        );
        assert_eq!(
            listed.as_array().map(Vec::len),
            Some(shipped::SHIPPED.len())
        );
    }
}
