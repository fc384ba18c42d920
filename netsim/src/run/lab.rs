//! Runs in the lab: one after the other, since each has the machine's clock and cores.

use netsim_core::{
    model::{Scenario, World},
    repro::Repro,
};

use super::{Request, RunError};
use crate::{
    outcome::{Run, Skipped, Suite},
    play::Played,
};

#[cfg(target_os = "linux")]
mod linux {
    use netsim_core::trace::Trace;

    use super::*;
    use crate::{
        lab,
        run::{repro, skipped},
        trial::{self, Pace},
    };

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
    ) -> Result<(), RunError> {
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
                let mut run = trial::run(&drawn, seed, pace)?;
                let failures = run.failures();
                let kept = (!failures.is_empty())
                    .then(|| repro(as_in_both(request, drawn), seed, World::Lab, &failures));
                run.repro = on_done(&run, kept.as_ref());
                suite.runs.push(run);
            }
        }
        Ok(())
    }

    /// Runs a failure of the lab once more: its times are scaled already.
    pub(crate) fn replay(repro: &Repro) -> Result<Played, RunError> {
        let run = trial::run(&repro.scenario, repro.seed(), Pace::FULL)?;
        Ok(Played {
            run,
            trace: Trace::default(),
            pcapng: None,
        })
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::{as_in_both, replay, run};

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
    ) -> Result<(), RunError> {
        Err(RunError::NoLab)
    }

    pub(crate) fn replay(_repro: &Repro) -> Result<Played, RunError> {
        Err(RunError::NoLab)
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{as_in_both, replay, run};
