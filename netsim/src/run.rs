//! `run`: scenarios times worlds times seeds, on as many threads as there are processors.

mod lab;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use netsim_core::{
    expect::Outcome,
    model::{Scenario, World},
    random::Seed,
    repro::Repro,
    term::Name,
};

use crate::{
    goals,
    outcome::{MissedGoal, Parity, Run, Skipped, Suite},
    play::{self, Keeps, Played},
    version,
};

/// Of so many seeds, one is run twice, and must have the same shape both times.
const REPEATED_EVERY: u64 = 100;

/// How many seeds one command runs: what was seen of every run is kept until its report.
const SEEDS_MAX: u64 = 10_000;

/// How many runs go on at the same time, whatever was asked for: more than machines have cores.
const JOBS_MAX: usize = 256;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Request {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// Where.
    pub worlds: Vec<World>,
    /// With which seeds.
    pub seeds: Seeds,
    /// How many runs at the same time, in virtual time; the lab has its own pace.
    pub jobs: NonZeroUsize,
    /// Whether these are all that are shipped, so that the goals of the suite apply.
    pub is_whole_suite: bool,
    /// Whether the lab takes as long as the scenarios say, and not minutes.
    pub is_full_length: bool,
}

/// Seeds from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    first: u64,
    last: u64,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { first: 1, last: 1 }
    }
}

impl std::str::FromStr for Seeds {
    type Err = String;

    /// `N` is the first N seeds, `A..B` those from A to B.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("`{text}` is no number of seeds, and no seed"))
        };
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (1, number(text)?),
        };
        if last.saturating_sub(first) >= SEEDS_MAX {
            return Err(format!(
                "`{text}` are more than {SEEDS_MAX} seeds: run them in several parts"
            ));
        }
        if first == 0 || last < first {
            return Err(format!(
                "`{text}` has no seed: seeds count from 1, and the last is not below the first"
            ));
        }
        Ok(Self { first, last })
    }
}

impl Seeds {
    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Seed> {
        (self.first..=self.last).map(Seed)
    }

    /// Those for a scenario: of large fleets, two are as much work as eighty of one agent.
    fn of(self, scenario: &Scenario) -> Self {
        let agents: u32 = scenario.hosts.iter().map(|host| *host.count).sum();
        let most = if agents >= LARGE {
            SEEDS_OF_LARGE
        } else {
            u64::MAX
        };
        let last = self.last.min(self.first.saturating_add(most - 1));
        Self { last, ..self }
    }
}

/// From so many hosts on, a scenario is large.
const LARGE: u32 = 500;

/// How many seeds a large one has at the most.
const SEEDS_OF_LARGE: u64 = 2;

/// One run to be made.
struct Job {
    scenario: usize,
    seed: Seed,
}

/// What a run has given.
#[derive(Debug)]
pub struct Done {
    /// The run.
    pub run: Run,
    /// What replays it, where it failed.
    pub repro: Option<Repro>,
    /// Where a second run of the same seed had another shape; none where it was not run
    /// twice.
    pub repeated: Option<Option<String>>,
}

/// How many runs there will be.
pub fn count(request: &Request) -> usize {
    let each = request.scenarios.iter().map(|scenario| {
        let worlds = request.worlds.iter().filter(|world| {
            let is_refused = **world == World::Lab && lab::refuses(request, scenario);
            scenario.worlds.contains(world) && !is_refused
        });
        worlds.count() * request.seeds.of(scenario).iter().count()
    });
    each.sum()
}

/// Runs everything in virtual time.
fn simulate(
    request: &Request,
    on_done: &mut impl FnMut(&Run, Option<&Repro>) -> Option<String>,
) -> Suite {
    let jobs = jobs(request);
    let threads = request.jobs.get().min(JOBS_MAX).min(jobs.len());
    let jobs = Mutex::new(jobs.into_iter());
    let (done, results) = mpsc::sync_channel(threads);
    let mut suite = Suite {
        skipped: skipped(request, World::Sim),
        ..Suite::default()
    };
    if !request.worlds.contains(&World::Sim) {
        return suite;
    }
    thread::scope(|scope| {
        for _ in 0..threads {
            let (jobs, done) = (&jobs, done.clone());
            scope.spawn(move || {
                let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some(job) = next() {
                    let scenario = &request.scenarios[job.scenario];
                    // Where nobody hears the result, nobody wants another.
                    if done.send(one(request, scenario, job.seed)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for Done {
            mut run,
            repro,
            repeated,
        } in results
        {
            run.repro = on_done(&run, repro.as_ref());
            if let Some(difference) = repeated {
                suite.repeated += 1;
                let name = format!("{} with seed {}", run.scenario, run.seed.0);
                suite
                    .differing
                    .extend(difference.map(|text| format!("{name}: {text}")));
            }
            suite.runs.push(run);
        }
    });
    suite
        .runs
        .sort_by_key(|run| (place(request, &run.scenario), run.seed));
    suite
}

/// Runs everything that was asked for. `on_done` hears of each run as it ends, and may keep
/// what replays it: it gives the argument of `replay`.
///
/// # Errors
///
/// A world is not to be had; nothing was run. What fails in it later is a run that failed.
pub fn run(
    request: &Request,
    mut on_done: impl FnMut(&Run, Option<&Repro>) -> Option<String>,
) -> Result<Suite, RunError> {
    let has_lab = request.worlds.contains(&World::Lab);
    if has_lab {
        lab::be_ready(request)?;
    }
    let mut suite = simulate(request, &mut on_done);
    if has_lab {
        lab::run(request, &mut suite, &mut on_done);
    }
    conclude(request, &mut suite);
    Ok(suite)
}

/// Runs a failure once more, where it was seen.
///
/// # Errors
///
/// That world is not to be had.
pub fn replay(repro: &Repro, keeps: Keeps) -> Result<Played, RunError> {
    match repro.world {
        World::Sim => Ok(play::play(&repro.scenario, repro.seed(), keeps)),
        World::Lab => lab::replay(repro, keeps),
    }
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no lab here.
    #[error("the lab needs Linux: run with --world sim")]
    NoLab,
    /// The lab cannot be had.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Lab(#[from] crate::lab::LabError),
}

/// What all runs together say beyond each of them.
fn conclude(request: &Request, suite: &mut Suite) {
    // Goals are of scenarios as they are written, and not of ones made shorter.
    let is_scaled = request.worlds.contains(&World::Lab) && !request.is_full_length;
    for world in &request.worlds {
        if !is_scaled {
            suite.goals_missed.extend(missed(request, suite, *world));
        }
        for scenario in &request.scenarios {
            let of_it = |run: &&mut Run| run.scenario == *scenario.name && run.world == *world;
            settle_marks(suite.runs.iter_mut().filter(of_it).collect());
        }
    }
    suite.parity = parity(&suite.runs);
}

/// What is known to fail may hold with some seeds. That it has started to hold is said once it
/// does with all of several.
fn settle_marks(mut runs: Vec<&mut Run>) {
    if runs.len() < MENDED_RUNS {
        return;
    }
    let checks = runs.first().map_or(0, |run| run.checks.len());
    for number in 0..checks {
        let is_mended = |run: &&mut Run| {
            let check = run.checks.get(number);
            check.is_some_and(|check| check.is_marked && check.outcome == Outcome::Held)
        };
        if !runs.iter().all(is_mended) {
            continue;
        }
        for run in &mut runs {
            run.checks[number].outcome = Outcome::HeldUnexpectedly;
        }
    }
}

/// In so many runs what is known to fail must hold before its mark is in the way.
const MENDED_RUNS: usize = 8;

fn place(request: &Request, name: &Name) -> usize {
    let mut all = request.scenarios.iter();
    all.position(|scenario| *scenario.name == *name)
        .unwrap_or(usize::MAX)
}

fn jobs(request: &Request) -> Vec<Job> {
    let scenarios = request.scenarios.iter().enumerate();
    let here = scenarios.filter(|(_, scenario)| scenario.worlds.contains(&World::Sim));
    let mut jobs: Vec<Job> = here
        .flat_map(|(number, scenario)| {
            let seeds = request.seeds.of(scenario).iter();
            seeds.map(move |seed| Job {
                scenario: number,
                seed,
            })
        })
        .collect();
    // The longest first, so that the last thread to end has a short one.
    jobs.sort_by_key(|job| std::cmp::Reverse(weight(&request.scenarios[job.scenario])));
    jobs
}

/// How long a run may take, by what it simulates: only the order matters.
fn weight(scenario: &Scenario) -> u64 {
    let hosts: u64 = scenario
        .hosts
        .iter()
        .map(|host| u64::from(*host.count))
        .sum();
    hosts.saturating_mul(scenario.duration.get().as_secs())
}

fn skipped(request: &Request, world: World) -> Vec<Skipped> {
    if !request.worlds.contains(&world) {
        return Vec::new();
    }
    let not_here = |scenario: &&Scenario| !scenario.worlds.contains(&world);
    let skipped = request.scenarios.iter().filter(not_here);
    skipped
        .map(|scenario| Skipped {
            scenario: (*scenario.name).clone(),
            world,
            why: scenario.because.as_ref().map_or_else(
                || "its file says that it does not run there".to_owned(),
                |because| because.as_str().to_owned(),
            ),
        })
        .collect()
}

/// One seed of a scenario: drawn, played, and some played twice.
fn one(request: &Request, scenario: &Scenario, seed: Seed) -> Done {
    let drawn = lab::as_in_both(request, scenario.drawn(seed));
    let is_repeated = seed.0 % REPEATED_EVERY == 1 && weight(scenario) < REPEATED_WEIGHT_MAX;
    let keeps = if is_repeated {
        Keeps::Shapes
    } else {
        Keeps::Nothing
    };
    let Played { run, trace, .. } = play::play(&drawn, seed, keeps);
    let repeated = is_repeated.then(|| trace.difference(&play::play(&drawn, seed, keeps).trace));
    let failures = run.failures();
    let repro = (!failures.is_empty()).then(|| repro(drawn, seed, World::Sim, &failures));
    Done {
        run,
        repro,
        repeated,
    }
}

/// What is heavier is not run twice: its packets alone would fill the memory.
const REPEATED_WEIGHT_MAX: u64 = 100_000;

/// A failure to be kept.
pub fn repro(drawn: Scenario, seed: Seed, world: World, failures: &[String]) -> Repro {
    let mut repro = Repro::new(drawn, seed, (world, version::COMMIT));
    for failure in failures {
        repro.add_failure(failure);
    }
    repro
}

fn missed(request: &Request, suite: &Suite, world: World) -> Vec<MissedGoal> {
    let mut missed = Vec::new();
    for scenario in &request.scenarios {
        let of_it = |run: &&Run| run.scenario == *scenario.name && run.world == world;
        let runs: Vec<&Run> = suite.runs.iter().filter(of_it).collect();
        let Some(first) = runs.first() else { continue };
        for (number, check) in first.checks.iter().enumerate() {
            // One that is known to fail is a goal for later.
            let is_goal = matches!(check.outcome, Outcome::Goal { .. });
            let is_seen = runs.iter().any(|run| {
                let check = run.checks.get(number);
                check.is_some_and(|check| check.outcome == Outcome::Goal { is_seen: true })
            });
            if is_goal && !is_seen {
                missed.push(MissedGoal {
                    scenario: Some((*scenario.name).clone()),
                    world,
                    says: check.says.clone(),
                });
            }
        }
    }
    if request.is_whole_suite {
        let runs = suite.runs.iter().filter(|run| run.world == world);
        let runs: Vec<&Run> = runs.collect();
        missed.extend(goals::missed(&runs, world));
    }
    missed
}

/// What both worlds say of one seed of one scenario.
fn parity(runs: &[Run]) -> Vec<Parity> {
    let of = |world: World| {
        let runs = runs.iter().filter(move |run| run.world == world);
        runs.map(|run| ((&run.scenario, run.seed), run))
            .collect::<BTreeMap<_, _>>()
    };
    let (sim, lab) = (of(World::Sim), of(World::Lab));
    let both = lab
        .iter()
        .filter_map(|(key, lab)| Some((sim.get(key)?, lab)));
    both.flat_map(|(sim, lab)| {
        sim.checks
            .iter()
            .zip(&lab.checks)
            // A run that did not come about says something else, and has failed for it.
            .filter(|(one, other)| one.says == other.says)
            .map(|(one, other)| Parity {
                scenario: sim.scenario.clone(),
                says: one.says.clone(),
                sim: one.outcome.clone(),
                lab: other.outcome.clone(),
            })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use netsim_core::middlebox::Touched;

    use super::*;
    use crate::outcome::Check;

    #[test]
    fn seeds_are_a_number_of_them_or_a_span() {
        let seeds = |text: &str| -> Vec<u64> {
            let seeds: Seeds = text.parse().expect("seeds");
            seeds.iter().map(|seed| seed.0).collect()
        };

        assert_eq!(seeds("3"), [1, 2, 3]);
        assert_eq!(seeds("7..9"), [7, 8, 9]);
        assert_eq!(seeds("7..7"), [7]);
        for wrong in [
            "0",
            "x",
            "5..4",
            "0..3",
            "1..",
            "",
            "18446744073709551615",
            "1..99999999",
        ] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }

    /// A run with one check that is known to fail, and what became of it.
    fn run_with(seed: u64, outcome: Outcome) -> Run {
        Run {
            scenario: Name::of("marked"),
            world: World::Sim,
            seed: Seed(seed),
            lasted: std::time::Duration::ZERO,
            took: std::time::Duration::ZERO,
            checks: vec![Check {
                says: "always online".to_owned(),
                is_built_in: false,
                is_marked: true,
                outcome,
            }],
            observations: Vec::new(),
            samples: Vec::new(),
            touched: Touched::default(),
            vacuous: Vec::new(),
            notes: Vec::new(),
            repro: None,
        }
    }

    fn settled(mut runs: Vec<Run>) -> bool {
        settle_marks(runs.iter_mut().collect());
        runs.iter().all(Run::passed)
    }

    #[test]
    fn a_mark_is_in_the_way_once_all_of_several_runs_hold() {
        let held = |count: u64| -> Vec<Run> {
            (1..=count)
                .map(|seed| run_with(seed, Outcome::Held))
                .collect()
        };
        let reason = "not yet".to_owned();
        let mut mixed = held(8);
        mixed.push(run_with(9, Outcome::KnownFailing { reason }));

        assert!(settled(held(7)), "too few to tell");
        assert!(settled(mixed), "one still fails");
        assert!(!settled(held(8)), "nothing fails any more");
    }
}
