//! Runs in the lab: one after the other, since each has the machine's clock and cores.

use netsim_core::{
    model::{Scenario, World},
    repro::Repro,
};

use super::{Request, RunError};
use crate::{
    outcome::{Run, Skipped, Suite},
    play::{Keeps, Played},
};

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Duration;

    use netsim_core::{expect::Outcome, middlebox::Touched, random::Seed, time::Instant};

    use super::*;
    use crate::{
        lab::{self, LabError, programs::Programs, sandbox},
        outcome::Check,
        run::{repro, skipped},
        trial::{self, Pace},
    };

    /// Whether there can be a lab, before anything is run. Who asks for everything has what
    /// lacks a program skipped.
    pub(crate) fn be_ready(request: &Request) -> Result<(), RunError> {
        if !request.is_whole_suite {
            let missing = request.scenarios.iter().flat_map(lab::missing_tools);
            let missing: Vec<_> = missing.collect();
            if !missing.is_empty() {
                return Err(LabError::Missing(missing).into());
            }
        }
        lab::preflight().map_err(LabError::Missing)?;
        if !sandbox::is_inside() {
            return Err(LabError::NotInSandbox.into());
        }
        Programs::find().map_err(LabError::NoPrograms)?;
        Ok(())
    }

    /// Whether a scenario is left to virtual time.
    pub(crate) fn refuses(request: &Request, scenario: &Scenario) -> bool {
        let first = request.seeds.of(scenario).iter().next();
        let drawn = first.map(|seed| scenario.drawn(seed));
        drawn.is_some_and(|drawn| trial::refusal(&drawn, pace(request)).is_some())
    }

    /// A run that did not come about: the kernel, a tool or a program did not do as it was
    /// told.
    fn broken(scenario: &Scenario, seed: Seed, error: &LabError) -> Run {
        Run {
            scenario: (*scenario.name).clone(),
            world: World::Lab,
            seed,
            lasted: Duration::ZERO,
            took: Duration::ZERO,
            checks: vec![Check {
                says: "the lab sets the scenario up".to_owned(),
                is_built_in: true,
                is_marked: false,
                outcome: Outcome::Failed {
                    at: Instant::START,
                    why: error.to_string(),
                },
            }],
            observations: Vec::new(),
            samples: Vec::new(),
            touched: Touched::default(),
            vacuous: Vec::new(),
            notes: Vec::new(),
            repro: None,
        }
    }

    const fn pace(request: &Request) -> Pace {
        if request.is_full_length {
            Pace::FULL
        } else {
            Pace::QUICK
        }
    }

    /// A scenario that is run in both worlds is the same in both.
    pub(crate) fn as_in_both(request: &Request, drawn: Scenario) -> Scenario {
        if request.worlds.contains(&World::Lab) {
            lab::scale::scaled(&drawn, trial::scale_of(&drawn, pace(request)))
        } else {
            drawn
        }
    }

    /// Adds every run in the lab to a suite.
    pub(crate) fn run(
        request: &Request,
        suite: &mut Suite,
        on_done: &mut impl FnMut(&Run, Option<&Repro>) -> Option<String>,
    ) {
        let pace = pace(request);
        suite.skipped.extend(skipped(request, World::Lab));
        let here = |scenario: &&Scenario| scenario.worlds.contains(&World::Lab);
        for scenario in request.scenarios.iter().filter(here) {
            for seed in request.seeds.of(scenario).iter() {
                let drawn = scenario.drawn(seed);
                if let Some(why) = trial::refusal(&drawn, pace) {
                    suite.skipped.push(Skipped {
                        scenario: (*scenario.name).clone(),
                        world: World::Lab,
                        why,
                    });
                    break;
                }
                let mut run = trial::run(&drawn, seed, pace)
                    .unwrap_or_else(|error| broken(&drawn, seed, &error));
                let failures = run.failures();
                let kept = (!failures.is_empty())
                    .then(|| repro(as_in_both(request, drawn), seed, World::Lab, &failures));
                run.repro = on_done(&run, kept.as_ref());
                suite.runs.push(run);
            }
        }
    }

    /// Runs a failure of the lab once more: its times are scaled already.
    pub(crate) fn replay(repro: &Repro, keeps: Keeps) -> Result<Played, RunError> {
        let seed = repro.seed();
        Ok(trial::play(&repro.scenario, seed, Pace::FULL, keeps)?)
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::{as_in_both, be_ready, refuses, replay, run};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::*;

    pub(crate) const fn as_in_both(_request: &Request, drawn: Scenario) -> Scenario {
        drawn
    }

    pub(crate) fn run(
        _request: &Request,
        _suite: &mut Suite,
        _on_done: &mut impl FnMut(&Run, Option<&Repro>) -> Option<String>,
    ) {
    }

    pub(crate) const fn be_ready(_request: &Request) -> Result<(), RunError> {
        Err(RunError::NoLab)
    }

    pub(crate) const fn refuses(_request: &Request, _scenario: &Scenario) -> bool {
        true
    }

    pub(crate) fn replay(_repro: &Repro, _keeps: Keeps) -> Result<Played, RunError> {
        Err(RunError::NoLab)
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{as_in_both, be_ready, refuses, replay, run};
