//! The smallest scenario that still fails: fewer events by delta debugging (Zeller and
//! Hildebrandt 2002), then simpler values, until nothing can be taken away any more.
//!
//! Pure: whether a candidate fails is asked of the caller, who runs it. Every candidate
//! passes `check`, so that what comes out can be kept as a regression.

use std::time::Duration;

use crate::{
    check::check,
    model::{Event, Line, Scenario},
    term::{At, Choice, Size},
};

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// Fails still.
    pub scenario: Scenario,
    /// How many candidates were run.
    pub runs: usize,
    /// Whether nothing could be taken away any more; else the runs were used up.
    pub is_minimal: bool,
}

/// Shrinks a drawn scenario that fails. `runs_max` bounds how many candidates are run.
pub fn shrink(
    scenario: &Scenario,
    runs_max: usize,
    fails: impl FnMut(&Scenario) -> bool,
) -> Shrunk {
    let mut search = Search {
        best: scenario.clone(),
        runs: 0,
        runs_max,
        fails,
    };
    loop {
        let before = search.best.clone();
        search.fewer_events();
        search.simpler_values();
        let is_exhausted = search.runs >= runs_max;
        if search.best == before || is_exhausted {
            return Shrunk {
                scenario: search.best,
                runs: search.runs,
                is_minimal: !is_exhausted,
            };
        }
    }
}

struct Search<F> {
    best: Scenario,
    runs: usize,
    runs_max: usize,
    fails: F,
}

impl<F: FnMut(&Scenario) -> bool> Search<F> {
    /// Takes a candidate over if it is another one, makes sense, and fails.
    fn try_one(&mut self, candidate: Scenario) -> bool {
        if self.runs >= self.runs_max || candidate == self.best {
            return false;
        }
        if check(&candidate.to_toml()).is_err() {
            return false;
        }
        self.runs += 1;
        let fails = (self.fails)(&candidate);
        if fails {
            self.best = candidate;
        }
        fails
    }

    /// ddmin: parts are left out, first halves, then ever smaller ones.
    fn fewer_events(&mut self) {
        let mut parts = 2;
        while !self.best.events.is_empty() && parts <= self.best.events.len() * 2 {
            let count = self.best.events.len();
            let size = count.div_ceil(parts).max(1);
            let reduced = (0..count).step_by(size).any(|start| {
                let mut candidate = self.best.clone();
                candidate.events.drain(start..(start + size).min(count));
                self.try_one(candidate)
            });
            if reduced {
                parts = parts.saturating_sub(1).max(2);
            } else if size == 1 {
                return;
            } else {
                parts *= 2;
            }
        }
    }

    /// Each value is made as simple as it can be, one after the other.
    fn simpler_values(&mut self) {
        for simplify in STEPS {
            // What worked may work again: a pause is halved until it is too short.
            let mut place = 0;
            while let Some(candidate) = simplify(&self.best, place) {
                if !self.try_one(candidate) {
                    place += 1;
                }
                if self.runs >= self.runs_max {
                    return;
                }
            }
        }
    }
}

/// A simpler scenario by one change at the place given; none where there is no such
/// place. A change that changes nothing is passed over by the search.
type Step = fn(&Scenario, usize) -> Option<Scenario>;

const STEPS: [Step; 8] = [
    fewer_copies,
    fewer_expectations,
    less_work,
    plainer_lines,
    shorter_delays,
    shorter_pauses,
    rounder_times,
    right_clocks,
];

fn fewer_copies(scenario: &Scenario, place: usize) -> Option<Scenario> {
    let mut simpler = scenario.clone();
    let host = simpler.hosts.get_mut(place)?;
    host.count = At::nowhere((*host.count / 2).max(1));
    Some(simpler)
}

fn fewer_expectations(scenario: &Scenario, place: usize) -> Option<Scenario> {
    let mut simpler = scenario.clone();
    if place >= simpler.expectations.len() {
        return None;
    }
    simpler.expectations.remove(place);
    Some(simpler)
}

fn less_work(scenario: &Scenario, place: usize) -> Option<Scenario> {
    let mut simpler = scenario.clone();
    let work = &mut simpler.workload;
    match place {
        0 => work.deployments = Choice::Fixed(work.deployments.get() / 2),
        1 => work.streams = Choice::Fixed(work.streams.get() / 2),
        2 => {
            let bytes = (work.bytes.get().bytes / 2).max(1);
            work.bytes = Choice::Fixed(Size { bytes });
        }
        _ => return None,
    }
    Some(simpler)
}

/// What a line does to packets is taken away, one thing after the other.
fn plainer_lines(scenario: &Scenario, place: usize) -> Option<Scenario> {
    type Plain = fn(&mut Line);
    const PLAIN: [Plain; 7] = [
        |line| *line = Line::IDEAL,
        |line| line.jitter = None,
        |line| line.bursts = None,
        |line| line.reorder = None,
        |line| line.loss = Line::IDEAL.loss,
        |line| (line.duplicate, line.corrupt) = (Line::IDEAL.duplicate, Line::IDEAL.corrupt),
        |line| line.rate = None,
    ];
    let mut simpler = scenario.clone();
    let cable = simpler.cables.get_mut(place / PLAIN.len())?;
    let plain = PLAIN[place % PLAIN.len()];
    plain(&mut cable.line);
    if let Some(back) = &mut cable.back {
        plain(back);
    }
    Some(simpler)
}

fn shorter_delays(scenario: &Scenario, place: usize) -> Option<Scenario> {
    let mut simpler = scenario.clone();
    let line = &mut simpler.cables.get_mut(place)?.line;
    line.delay = Choice::Fixed(halved(line.delay.get(), Duration::from_millis(1)));
    Some(simpler)
}

fn shorter_pauses(scenario: &Scenario, place: usize) -> Option<Scenario> {
    let mut simpler = scenario.clone();
    let event = simpler.events.get_mut(place)?;
    if let Some(lasts) = &event.lasts {
        let shorter = halved(lasts.get(), Duration::from_millis(100));
        event.lasts = Some(At::nowhere(Choice::Fixed(shorter)));
    }
    Some(simpler)
}

/// Half, in whole units: from some length on, shorter is not simpler.
fn halved(span: Duration, unit: Duration) -> Duration {
    let units = span.as_nanos() / unit.as_nanos() / 2;
    unit * u32::try_from(units).unwrap_or(u32::MAX)
}

fn rounder_times(scenario: &Scenario, place: usize) -> Option<Scenario> {
    let mut simpler = scenario.clone();
    let event: &mut Event = simpler.events.get_mut(place)?;
    let rounded = Duration::from_secs(event.time.get().as_secs());
    event.time = At::nowhere(Choice::Fixed(rounded));
    Some(simpler)
}

fn right_clocks(scenario: &Scenario, place: usize) -> Option<Scenario> {
    let mut simpler = scenario.clone();
    let host = simpler.hosts.get_mut(place)?;
    host.skew = Choice::Fixed(crate::term::Offset::default());
    Some(simpler)
}

#[cfg(test)]
mod tests;
