//! Runs put together: by scenario and world, by what failed, in one line.

use std::{collections::BTreeMap, time::Duration};

use netsim_core::{expect::Outcome, model::World, term::Name};

use super::{
    escape,
    figure::{count, counted},
};
use crate::outcome::{Run, Skipped, Suite};

/// How many failed runs of a scenario in a world are shown in detail: those after them
/// mostly fail in the same way, and each has its replay line.
pub const FAILED_IN_DETAIL_MAX: usize = 3;

/// All runs of one scenario in one world.
#[derive(Debug)]
pub struct Group<'a> {
    /// Of which scenario.
    pub scenario: &'a Name,
    /// In which world.
    pub world: World,
    /// In order of their seeds, so that the order of ending is not seen.
    pub runs: Vec<&'a Run>,
    /// Why it was not run, where it was not.
    pub skipped: Vec<&'a Skipped>,
}

impl<'a> Group<'a> {
    /// How many runs passed.
    pub fn passed(&self) -> usize {
        self.runs.iter().filter(|run| run.passed()).count()
    }

    /// Whether a run failed.
    pub fn has_failed(&self) -> bool {
        self.passed() < self.runs.len()
    }

    /// How many faults touched nothing, over all runs.
    pub fn vacuous(&self) -> usize {
        self.runs.iter().map(|run| run.vacuous.len()).sum()
    }

    /// How long agents were away, in ascending order.
    pub fn recoveries(&self) -> Vec<Duration> {
        let mut all: Vec<_> = self.runs.iter().flat_map(|run| run.recoveries()).collect();
        all.sort_unstable();
        all
    }

    /// Which runs are shown in detail: the first that failed, and the first that passed,
    /// to compare them with.
    pub fn detailed(&self) -> Vec<&'a Run> {
        let failed = self.runs.iter().filter(|run| !run.passed());
        let passed = self.runs.iter().filter(|run| run.passed());
        let shown = failed.take(FAILED_IN_DETAIL_MAX).chain(passed.take(1));
        shown.copied().collect()
    }
}

/// Every scenario and world that was run or skipped, by name.
pub fn groups(suite: &Suite) -> Vec<Group<'_>> {
    let mut found: BTreeMap<(&Name, World), Group<'_>> = BTreeMap::new();
    let empty = |scenario, world| Group {
        scenario,
        world,
        runs: Vec::new(),
        skipped: Vec::new(),
    };
    for run in &suite.runs {
        let group = found.entry((&run.scenario, run.world));
        let group = group.or_insert_with(|| empty(&run.scenario, run.world));
        group.runs.push(run);
    }
    for skipped in &suite.skipped {
        let group = found.entry((&skipped.scenario, skipped.world));
        let group = group.or_insert_with(|| empty(&skipped.scenario, skipped.world));
        group.skipped.push(skipped);
    }
    let mut groups: Vec<_> = found.into_values().collect();
    for group in &mut groups {
        group.runs.sort_by_key(|run| run.seed);
    }
    groups
}

/// One thing that is wrong, and all runs of a scenario in a world in which it is.
#[derive(Debug)]
pub struct Failure<'a> {
    /// Of which scenario.
    pub scenario: &'a Name,
    /// In which world.
    pub world: World,
    /// What should have been: an expectation, or a fault that touched nothing.
    pub says: &'a str,
    /// What became of it in the first run; nothing more is known of a vacuous fault.
    pub became: Option<&'a Outcome>,
    /// In which runs, in order of their seeds.
    pub runs: Vec<&'a Run>,
}

/// What failed, in order of scenarios, worlds and first seeds.
pub fn failures<'a>(groups: &[Group<'a>]) -> Vec<Failure<'a>> {
    let mut failures: Vec<Failure<'a>> = Vec::new();
    for group in groups {
        let mut of_group: Vec<Failure<'a>> = Vec::new();
        for run in &group.runs {
            for (says, became) in wrong(run) {
                let known = of_group.iter_mut().find(|known| known.says == says);
                if let Some(known) = known {
                    known.runs.push(run);
                } else {
                    of_group.push(Failure {
                        scenario: group.scenario,
                        world: group.world,
                        says,
                        became,
                        runs: vec![run],
                    });
                }
            }
        }
        failures.append(&mut of_group);
    }
    failures
}

/// Everything that was wrong with a run.
fn wrong(run: &Run) -> impl Iterator<Item = (&str, Option<&Outcome>)> {
    let failed = run.checks.iter().filter(|check| !check.outcome.passes());
    let failed = failed.map(|check| (check.says.as_str(), Some(&check.outcome)));
    failed.chain(run.vacuous.iter().map(|says| (says.as_str(), None)))
}

/// An expectation that fails, and is known to.
#[derive(Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// Of which scenario.
    pub scenario: &'a Name,
    /// In which world.
    pub world: World,
    /// What it says.
    pub says: &'a str,
    /// Why it fails.
    pub reason: &'a str,
    /// In how many runs it did.
    pub runs: usize,
}

/// What fails and is known to, in order of scenarios and worlds.
pub fn known_failing<'a>(groups: &[Group<'a>]) -> Vec<Known<'a>> {
    let mut found: Vec<Known<'a>> = Vec::new();
    let runs = groups.iter().flat_map(|group| &group.runs);
    for (run, check) in runs.flat_map(|run| run.checks.iter().map(move |check| (run, check))) {
        let Outcome::KnownFailing { reason } = &check.outcome else {
            continue;
        };
        let known = found.iter_mut().find(|known| {
            (known.scenario, known.world) == (&run.scenario, run.world) && known.says == check.says
        });
        if let Some(known) = known {
            known.runs += 1;
        } else {
            found.push(Known {
                scenario: &run.scenario,
                world: run.world,
                says: &check.says,
                reason,
                runs: 1,
            });
        }
    }
    found
}

/// The line that replays a failed run.
pub fn replay_line(run: &Run) -> Option<String> {
    let repro = run.repro.as_ref()?;
    Some(format!("sternline-netsim replay {}", escape::shell(repro)))
}

/// An outcome as one word, the same in every format.
pub const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Held => "held",
        Outcome::Failed { .. } => "failed",
        Outcome::Vacuous { .. } => "vacuous",
        Outcome::Goal { is_seen: true } => "goal-seen",
        Outcome::Goal { is_seen: false } => "goal-not-seen",
        Outcome::KnownFailing { .. } => "known-failing",
        Outcome::HeldUnexpectedly => "held-unexpectedly",
    }
}

/// What came of everything, in one line without its first word.
pub fn verdict(suite: &Suite, groups: &[Group<'_>]) -> String {
    verdict_parts(suite, groups).join(", ")
}

/// What came of the runs, and then whatever else there is to be known.
pub fn verdict_parts(suite: &Suite, groups: &[Group<'_>]) -> Vec<String> {
    let failed = suite.runs.iter().filter(|run| !run.passed()).count();
    let scenarios: std::collections::BTreeSet<_> =
        suite.runs.iter().map(|run| &run.scenario).collect();
    let runs = counted(suite.runs.len(), "run", "runs");
    let of = counted(scenarios.len(), "scenario", "scenarios");
    let mut parts = vec![match (suite.runs.len(), failed) {
        (0, _) => "nothing was run".to_owned(),
        (_, 0) => format!("{runs} of {of}"),
        (_, failed) => format!("{} of {runs} of {of} failed", count(failed)),
    }];
    let disagree = suite.parity.iter().filter(|one| !one.agrees()).count();
    let further = [
        (suite.goals_missed.len(), "goal missed", "goals missed"),
        (
            disagree,
            "disagreement of the worlds",
            "disagreements of the worlds",
        ),
        (
            suite.differing.len(),
            "repeated run differs",
            "repeated runs differ",
        ),
        (
            known_failing(groups).len(),
            "expectation known to fail",
            "expectations known to fail",
        ),
        (suite.skipped.len(), "skipped", "skipped"),
    ];
    let further = further.into_iter().filter(|(number, ..)| *number > 0);
    parts.extend(further.map(|(number, one, many)| counted(number, one, many)));
    parts
}

#[cfg(test)]
mod tests {
    use super::{super::fixture, *};

    #[test]
    fn groups_are_in_order_of_names_and_runs_in_order_of_seeds() {
        let suite = fixture::suite();

        let groups = groups(&suite);

        let names: Vec<_> = groups
            .iter()
            .map(|group| format!("{}/{}", group.scenario, group.world))
            .collect();
        assert_eq!(
            names,
            ["open/sim", "open/lab", "udp-blocked/sim", "vpn-flap/lab"]
        );
        assert!(groups[2].runs.is_sorted_by_key(|run| run.seed));
        assert_eq!((groups[2].passed(), groups[2].runs.len()), (2, 7));
        assert!(groups[3].runs.is_empty() && groups[3].skipped.len() == 1);
    }

    #[test]
    fn runs_that_fail_alike_are_told_once() {
        let suite = fixture::suite();

        let failures = failures(&groups(&suite));

        assert_eq!(failures[0].says, "online within 10s after event:cut");
        assert_eq!(failures[0].runs.len(), 5);
        assert_eq!(failures[1].says, "cut of uplink touched no packet");
        assert!(failures[1].became.is_none());
    }

    #[test]
    fn only_some_failed_runs_are_shown_in_detail_and_one_that_passed() {
        let suite = fixture::suite();

        let detailed = groups(&suite)[2].detailed();

        let passed: Vec<_> = detailed.iter().map(|run| run.passed()).collect();
        assert_eq!(passed, [false, false, false, true]);
    }

    #[test]
    fn the_verdict_counts_everything_that_is_wrong() {
        let suite = fixture::suite();

        assert_eq!(
            verdict(&suite, &groups(&suite)),
            "5 of 10 runs of 2 scenarios failed, 1 goal missed, 1 disagreement of the worlds, \
             1 repeated run differs, 1 expectation known to fail, 1 skipped"
        );
        assert_eq!(verdict(&Suite::default(), &[]), "nothing was run");
    }
}
