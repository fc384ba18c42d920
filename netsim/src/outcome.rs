//! What came of runs: the data that tables, reports and exit codes are made of.

use std::time::Duration;

use netsim_core::{
    expect::Outcome,
    middlebox::Touched,
    model::{Word, World},
    random::Seed,
    term::Name,
    time::Instant,
    trace::Observation,
};

/// One run of one scenario in one world.
#[derive(Debug, Clone)]
pub struct Run {
    /// What was run.
    pub scenario: Name,
    /// Where.
    pub world: World,
    /// With which dice.
    pub seed: Seed,
    /// How long it lasted, by its own clock.
    pub lasted: Duration,
    /// How long that took, by the wall clock.
    pub took: Duration,
    /// Every expectation, those of the scenario first, and what became of it.
    pub checks: Vec<Check>,
    /// What was seen, in order of time.
    pub observations: Vec<Observation>,
    /// What was measured, in order of time.
    pub samples: Vec<Sample>,
    /// How many packets were touched, by what was done to them.
    pub touched: Touched,
    /// Faults that touched no packet, as sentences.
    pub vacuous: Vec<String>,
    /// What a reader should know of it, as sentences: what the lab leaves out, and what went
    /// wrong there beside the scenario. No failure of itself.
    pub notes: Vec<String>,
    /// What replays it: the argument of `replay`, where it failed.
    pub repro: Option<String>,
}

/// An expectation, and what became of it in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it says.
    pub says: String,
    /// Whether it holds for every scenario, and is not written in this one.
    pub is_built_in: bool,
    /// Whether it is known to fail, with some seeds at least.
    pub is_marked: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// Something that was measured of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// At which host's copy.
    pub host: Name,
    /// What.
    pub reading: Reading,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// From a stream's first byte sent to its first byte back.
    RoundTrip(Duration),
    /// Bytes that a stream carried, both directions together, in the time given.
    Carried {
        /// How many.
        bytes: u64,
        /// In how long.
        took: Duration,
    },
}

impl Run {
    /// What was wrong, as sentences; empty where the run passed.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| !check.outcome.passes());
        let failed = failed.map(|check| format!("{}: {}", check.says, check.outcome));
        failed.chain(self.vacuous.iter().cloned()).collect()
    }

    /// Whether nothing was wrong.
    pub fn passed(&self) -> bool {
        self.vacuous.is_empty() && self.checks.iter().all(|check| check.outcome.passes())
    }

    /// How long each agent was away each time, from the end of its session to the next
    /// welcome. One that did not come back has no such time: its expectations say so.
    pub fn recoveries(&self) -> Vec<Duration> {
        let back = |(place, left): (usize, &Observation)| {
            let later = self.observations[place..].iter();
            let mut back = later.filter(|one| one.word == Word::Online && one.host == left.host);
            back.next().map(|back| back.at.since(left.at))
        };
        let all = self.observations.iter().enumerate();
        all.filter(|(_, one)| one.word == Word::Offline)
            .filter_map(back)
            .collect()
    }
}

/// A scenario that was not run somewhere, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub scenario: Name,
    /// Where.
    pub world: World,
    /// Why, with what to do about it.
    pub why: String,
}

/// A goal that no run of a scenario has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedGoal {
    /// Of which scenario; of none where it is a goal of all together.
    pub scenario: Option<Name>,
    /// Where.
    pub world: World,
    /// What it says.
    pub says: String,
}

/// Whether both worlds say the same of an expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parity {
    /// Of which scenario.
    pub scenario: Name,
    /// What it says.
    pub says: String,
    /// What became of it in virtual time.
    pub sim: Outcome,
    /// What became of it on the real kernel.
    pub lab: Outcome,
}

impl Parity {
    /// Whether both passed, or both did not.
    pub const fn agrees(&self) -> bool {
        self.sim.passes() == self.lab.passes()
    }
}

/// All runs that were asked for together.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    /// In the order in which they ended.
    pub runs: Vec<Run>,
    /// What was not run.
    pub skipped: Vec<Skipped>,
    /// Goals that nobody reached.
    pub goals_missed: Vec<MissedGoal>,
    /// Expectations of scenarios that were run in both worlds with the same seed.
    pub parity: Vec<Parity>,
    /// How many runs were run twice, and where the shapes of two differed.
    pub repeated: usize,
    /// Where two runs of one seed differed, as sentences.
    pub differing: Vec<String>,
}

impl Suite {
    /// Whether nothing was wrong. What was skipped is no failure of itself.
    pub fn passed(&self) -> bool {
        self.runs.iter().all(Run::passed)
            && self.goals_missed.is_empty()
            && self.differing.is_empty()
            && self.parity.iter().all(Parity::agrees)
    }
}
