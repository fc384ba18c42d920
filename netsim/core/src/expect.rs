//! Whether a run was as it should be: expectations judged over its observations.
//!
//! A state (`online`) holds after the observation that begins it, until the one that ends
//! it, or until it begins again with another detail. `always` looks at the period's
//! beginning and after each observation in it; `see` holds where it holds right after
//! what it follows, or is observed in time. What could not be judged is vacuous, and a
//! vacuous expectation is no success.

mod built_in;

use std::{collections::BTreeMap, fmt};

use crate::{
    model::{Expectation, Host, Operator, Pattern, Role, Scenario},
    term::{Choice, Name},
    time::Instant,
    topology::copy_name,
    trace::Observation,
};

pub use self::built_in::built_in;

/// What became of an expectation in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Held,
    /// It did not.
    Failed {
        /// From when on.
        at: Instant,
        /// What was wrong.
        why: String,
    },
    /// It could not be judged.
    Vacuous {
        /// Why.
        why: String,
    },
    /// A goal, for all runs together: whether it was seen in this one.
    Goal {
        /// Whether it was seen.
        is_seen: bool,
    },
    /// It fails, and is known to.
    KnownFailing {
        /// Why it does.
        reason: String,
    },
    /// It is known to fail, and held.
    HeldUnexpectedly,
}

impl Outcome {
    /// Whether the run passes as far as this expectation goes.
    pub const fn passes(&self) -> bool {
        match self {
            Self::Held | Self::Goal { .. } | Self::KnownFailing { .. } => true,
            Self::Failed { .. } | Self::Vacuous { .. } | Self::HeldUnexpectedly => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::Failed { at, why } => write!(f, "failed at {at}: {why}"),
            Self::Vacuous { why } => write!(f, "not judged: {why}"),
            Self::Goal { is_seen: true } => f.write_str("seen"),
            Self::Goal { is_seen: false } => f.write_str("not seen"),
            Self::KnownFailing { reason } => write!(f, "known to fail: {reason}"),
            Self::HeldUnexpectedly => {
                f.write_str("holds, though marked `known-failing`: take the mark away")
            }
        }
    }
}

/// Judges every expectation of a scenario, in its order, over a run that ended at `end`.
pub fn judge(scenario: &Scenario, observations: &[Observation], end: Instant) -> Vec<Outcome> {
    let expectations = scenario.expectations.iter();
    expectations
        .map(|expectation| {
            let subjects = subjects(scenario, expectation);
            let outcome = evaluate(expectation, &subjects, observations, end);
            with_mark(expectation, outcome)
        })
        .collect()
}

/// Goals of a scenario that none of its runs has seen. `runs` are what [`judge`] said.
pub fn goals_missed(scenario: &Scenario, runs: &[Vec<Outcome>]) -> Vec<String> {
    let expectations = scenario.expectations.iter().enumerate();
    expectations
        .filter(|(_, expectation)| expectation.sometimes.is_some())
        .filter(|(number, _)| {
            let seen = Outcome::Goal { is_seen: true };
            !runs.iter().any(|run| run.get(*number) == Some(&seen))
        })
        .map(|(_, expectation)| expectation.to_string())
        .collect()
}

/// A host, and what was observed of it and of the timeline.
#[derive(Debug)]
struct Subject<'a> {
    name: &'a Name,
    observations: Vec<&'a Observation>,
}

impl<'a> Subject<'a> {
    /// Sorts observations by host in one pass: fleets have thousands of hosts.
    fn all(names: &'a [Name], observations: &'a [Observation]) -> Vec<Self> {
        let mut subjects: Vec<Self> = names
            .iter()
            .map(|name| Self {
                name,
                observations: Vec::new(),
            })
            .collect();
        let places: BTreeMap<&Name, usize> = names.iter().zip(0..).collect();
        for observation in observations {
            match &observation.host {
                Some(host) => {
                    if let Some(place) = places.get(host) {
                        subjects[*place].observations.push(observation);
                    }
                }
                None => subjects
                    .iter_mut()
                    .for_each(|subject| subject.observations.push(observation)),
            }
        }
        subjects
    }
}

/// The agents of a scenario, copy by copy.
fn agents(scenario: &Scenario) -> Vec<Name> {
    copies(scenario, |host| host.runs == Role::Agent)
}

fn copies(scenario: &Scenario, is_meant: impl Fn(&Host) -> bool) -> Vec<Name> {
    let hosts = scenario.hosts.iter().filter(|host| is_meant(host));
    hosts
        .flat_map(|host| (0..*host.count).map(|copy| copy_name(&host.name, *host.count, copy)))
        .collect()
}

/// Copies of hosts that an expectation is about.
fn subjects(scenario: &Scenario, expectation: &Expectation) -> Vec<Name> {
    match &expectation.of {
        Some(of) => match scenario.copy(of) {
            Some(_) => vec![(**of).clone()],
            None => copies(scenario, |host| *host.name == **of),
        },
        None => agents(scenario),
    }
}

fn with_mark(expectation: &Expectation, outcome: Outcome) -> Outcome {
    match (&expectation.known_failing, outcome) {
        (Some(reason), Outcome::Failed { .. } | Outcome::Vacuous { .. }) => Outcome::KnownFailing {
            reason: reason.as_str().to_owned(),
        },
        (Some(reason), Outcome::Goal { is_seen: false }) => Outcome::KnownFailing {
            reason: reason.as_str().to_owned(),
        },
        (Some(_), Outcome::Held | Outcome::Goal { is_seen: true }) => Outcome::HeldUnexpectedly,
        (_, outcome) => outcome,
    }
}

/// Judges one expectation of the hosts given: each must fulfil it.
pub fn evaluate(
    expectation: &Expectation,
    subjects: &[Name],
    observations: &[Observation],
    end: Instant,
) -> Outcome {
    let operator = match expectation.operator() {
        Ok(operator) => operator,
        Err(problem) => {
            return Outcome::Vacuous {
                why: problem.to_owned(),
            };
        }
    };
    if subjects.is_empty() {
        return Outcome::Vacuous {
            why: "it is about nobody".to_owned(),
        };
    }
    let bound = |given: Option<Choice<_>>| given.map(|choice| Instant::at(choice.get()));
    let period = Period {
        from: bound(expectation.from.as_deref().cloned()).unwrap_or(Instant::START),
        until: bound(expectation.until.as_deref().cloned())
            .unwrap_or(end)
            .min(end),
    };
    let subjects = Subject::all(subjects, observations);
    let each = subjects.iter();
    let each = each.map(|one| (one.name, of_one(&operator, &one.observations, &period)));
    together(each)
}

/// From when until when observations count.
#[derive(Debug, Clone, Copy)]
struct Period {
    from: Instant,
    until: Instant,
}

impl Period {
    fn contains(&self, at: Instant) -> bool {
        self.from <= at && at <= self.until
    }
}

/// The first failure of a host, else what could not be judged, else success.
fn together<'a>(each: impl Iterator<Item = (&'a Name, Outcome)>) -> Outcome {
    let mut whole = Outcome::Held;
    for (subject, outcome) in each {
        match outcome {
            Outcome::Failed { at, why } => {
                let why = format!("{subject}: {why}");
                return Outcome::Failed { at, why };
            }
            // A goal is reached by whoever reaches it.
            Outcome::Goal { is_seen } => {
                let before = whole == Outcome::Goal { is_seen: true };
                whole = Outcome::Goal {
                    is_seen: is_seen || before,
                };
            }
            Outcome::Vacuous { .. } if whole == Outcome::Held => whole = outcome,
            Outcome::Held
            | Outcome::Vacuous { .. }
            | Outcome::KnownFailing { .. }
            | Outcome::HeldUnexpectedly => {}
        }
    }
    whole
}

fn of_one(operator: &Operator<'_>, own: &[&Observation], period: &Period) -> Outcome {
    match operator {
        Operator::Always(pattern) => always(pattern, own, period),
        Operator::Never(pattern) => match first_seen(pattern, own, period) {
            None => Outcome::Held,
            Some(at) => {
                let seen = own.iter().find(|one| one.at == at && one.fits(pattern));
                let detail = seen.map_or("", |one| one.detail.as_str());
                let known = pattern.detail.is_some() || detail.is_empty();
                Outcome::Failed {
                    at,
                    why: match known {
                        true => format!("{pattern} was observed"),
                        false => format!("{pattern} was observed: {detail}"),
                    },
                }
            }
        },
        Operator::Sometimes(pattern) => Outcome::Goal {
            is_seen: first_seen(pattern, own, period).is_some(),
        },
        Operator::Within { see, within, after } => {
            let deadline = |at: Instant| at + *within;
            let Some(after) = after else {
                let start = (period.from, 0);
                return in_time(see, own, start, (deadline(period.from), period.until));
            };
            let triggers = own.iter().enumerate();
            let mut triggers = triggers
                .filter(|(_, one)| one.fits(after) && period.contains(one.at))
                .map(|(number, one)| (one.at, number + 1))
                .peekable();
            if triggers.peek().is_none() {
                return Outcome::Vacuous {
                    why: format!("{after} was never observed"),
                };
            }
            let each = triggers
                .map(|(at, next)| in_time(see, own, (at, next), (deadline(at), period.until)));
            each.reduce(worse).unwrap_or(Outcome::Held)
        }
    }
}

const fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Failed { .. } => 2,
        Outcome::Vacuous { .. } => 1,
        Outcome::Held
        | Outcome::Goal { .. }
        | Outcome::KnownFailing { .. }
        | Outcome::HeldUnexpectedly => 0,
    }
}

/// The worse of two; the earlier of two alike.
fn worse(one: Outcome, other: Outcome) -> Outcome {
    if rank(&other) > rank(&one) {
        other
    } else {
        one
    }
}

/// Whether a state holds after the observations given.
fn holds(pattern: &Pattern, own: &[&Observation]) -> bool {
    let Some(end) = pattern.word.ended_by() else {
        return false;
    };
    let changes = |one: &&&Observation| one.word == pattern.word || one.word == end;
    let last = own.iter().rev().find(changes);
    last.is_some_and(|one| one.fits(pattern))
}

/// How many observations lie before or at a moment.
fn until(own: &[&Observation], at: Instant) -> usize {
    own.partition_point(|one| one.at <= at)
}

fn always(pattern: &Pattern, own: &[&Observation], period: &Period) -> Outcome {
    let begin = until(own, period.from);
    if !holds(pattern, &own[..begin]) {
        return Outcome::Failed {
            at: period.from,
            why: format!("{pattern} does not hold"),
        };
    }
    let end = until(own, period.until);
    let broken = (begin..end).find(|number| !holds(pattern, &own[..=*number]));
    match broken {
        None => Outcome::Held,
        Some(number) => Outcome::Failed {
            at: own[number].at,
            why: format!("{pattern} does not hold after {}", own[number]),
        },
    }
}

/// When a pattern is first observed in a period, or holds at its beginning.
fn first_seen(pattern: &Pattern, own: &[&Observation], period: &Period) -> Option<Instant> {
    let begin = until(own, period.from);
    if holds(pattern, &own[..begin]) {
        return Some(period.from);
    }
    let seen = |one: &&&Observation| one.fits(pattern) && period.contains(one.at);
    own.iter().find(seen).map(|one| one.at)
}

/// Whether a pattern holds after `next` observations, or is observed after them until the
/// deadline.
fn in_time(
    pattern: &Pattern,
    own: &[&Observation],
    (at, next): (Instant, usize),
    (deadline, end): (Instant, Instant),
) -> Outcome {
    let in_time = |one: &&Observation| one.fits(pattern) && one.at <= deadline && one.at <= end;
    if holds(pattern, &own[..next]) || own[next..].iter().any(in_time) {
        Outcome::Held
    } else if deadline > end {
        Outcome::Vacuous {
            why: format!("the run ends before {pattern} is due at {deadline}"),
        }
    } else {
        Outcome::Failed {
            at: deadline,
            why: format!("{pattern} was not observed after {at}"),
        }
    }
}

#[cfg(test)]
mod tests;
