//! How often the probe was right.

use std::collections::BTreeMap;

use super::{
    answer::{Answer, Outcome},
    case::{Case, Kind},
    claim::{Cause, Claim, Verdict},
};

/// The share of cases, in percent, of which every flow's cause must be right.
const RIGHT_PERCENT_MIN: usize = 95;

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// It is true.
    Right,
    /// "Cannot tell" where something could have been told: no use, and nobody accused.
    CannotTell,
    /// It is not true.
    Wrong,
}

/// A case, and what came of it.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The case.
    pub case: Case,
    /// What came of it.
    pub outcome: Outcome,
}

impl Scored {
    /// What was said of a flow.
    ///
    /// # Errors
    ///
    /// Nothing, or something with a cause that there is not.
    fn said(&self, flow: &str) -> Result<Claim, String> {
        let answer = self
            .outcome
            .answer
            .as_ref()
            .ok_or("the probe gave no report")?;
        said(answer, flow)
    }

    /// What each flow's answer is worth, with the truth's cause and what was said; none where
    /// nothing was said.
    pub fn flows(&self) -> Vec<(&'static str, Option<Claim>, Mark)> {
        let truths = self.case.truths().into_iter();
        truths
            .map(|(flow, truth)| {
                let said = self.said(flow).ok();
                let mark = match said {
                    Some(said) if truth.admits(said) => Mark::Right,
                    Some(said) if said.verdict == Verdict::CannotTell => Mark::CannotTell,
                    Some(_) | None => Mark::Wrong,
                };
                (flow, said, mark)
            })
            .collect()
    }

    /// What the whole case is worth: no more than its worst flow.
    pub fn mark(&self) -> Mark {
        let flows = self.flows();
        let worst = flows.iter().map(|(_, _, mark)| *mark).max();
        worst.filter(|_| self.is_sound()).unwrap_or(Mark::Wrong)
    }

    /// Whether the case was run, and has shown something.
    pub fn is_sound(&self) -> bool {
        self.outcome.problems.is_empty() && self.outcome.answer.is_some()
    }

    /// Whether a network that nothing is wrong with was called blocked: as a whole, or a flow
    /// that is open.
    pub fn is_false_alarm(&self) -> bool {
        let Some(answer) = self.outcome.answer.as_ref() else {
            return false;
        };
        let mut truths = self.case.truths().into_iter();
        let is_open_called_blocked = truths.any(|(flow, truth)| {
            let is_open = truth.first().verdict == Verdict::Open;
            let said = said(answer, flow);
            is_open && said.is_ok_and(|said| said.verdict == Verdict::Blocked)
        });
        self.case.kind == Kind::Healthy && (answer.verdict == "blocked" || is_open_called_blocked)
    }
}

fn said(answer: &Answer, flow: &str) -> Result<Claim, String> {
    let mut flows = answer.flows.iter();
    let found = flows.find(|one| one.flow == flow);
    found
        .ok_or_else(|| format!("nothing is said of {flow}"))?
        .claim()
}

/// All together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// Cases that were run, by kind.
    pub cases: BTreeMap<Kind, usize>,
    /// Cases of which everything is right.
    pub right: usize,
    /// Cases of which something could not be told, and nothing is wrong.
    pub cannot_tell: usize,
    /// Cases of which something is wrong, or that have shown nothing.
    pub wrong: usize,
    /// Flows with a fault, and of how many the cause is right.
    pub faulty_flows: (usize, usize),
    /// Healthy networks that were called blocked.
    pub false_alarms: usize,
    /// Cases that were not run here.
    pub skipped: usize,
    /// Flows by true cause (none: nothing is wrong) and by what was said.
    pub matrix: BTreeMap<(Option<Cause>, Said), usize>,
}

/// A column of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// Nothing is wrong.
    Open,
    /// This is the cause.
    Cause(Cause),
    /// It cannot tell.
    CannotTell,
    /// Nothing at all.
    Nothing,
}

impl Score {
    /// Of these.
    pub fn of(all: &[Scored]) -> Self {
        let mut score = Self::default();
        for one in all {
            if one.outcome.skipped.is_some() {
                score.skipped += 1;
                continue;
            }
            score.count(one);
        }
        score
    }

    fn count(&mut self, one: &Scored) {
        *self.cases.entry(one.case.kind).or_default() += 1;
        match one.mark() {
            Mark::Right => self.right += 1,
            Mark::CannotTell => self.cannot_tell += 1,
            Mark::Wrong => self.wrong += 1,
        }
        self.false_alarms += usize::from(one.is_false_alarm());
        let truths = one.case.truths().map(|(_, truth)| truth);
        for (truth, (_, said, mark)) in truths.into_iter().zip(one.flows()) {
            let cause = said.map_or_else(|| truth.first().cause, |said| truth.cause_for(said));
            let column = match said {
                None => Said::Nothing,
                Some(said) if said.verdict == Verdict::CannotTell => Said::CannotTell,
                Some(Claim {
                    cause: Some(cause), ..
                }) => Said::Cause(cause),
                Some(_) => Said::Open,
            };
            *self.matrix.entry((cause, column)).or_default() += 1;
            if cause.is_some() {
                self.faulty_flows.0 += 1;
                self.faulty_flows.1 += usize::from(mark == Mark::Right);
            }
        }
    }

    /// How many cases were run.
    pub fn run(&self) -> usize {
        self.cases.values().sum()
    }

    /// Whether the probe is as good as it must be.
    pub fn is_good_enough(&self) -> bool {
        let is_right_enough = self.right * 100 >= self.run() * RIGHT_PERCENT_MIN;
        self.run() > 0 && is_right_enough && self.false_alarms == 0
    }
}
