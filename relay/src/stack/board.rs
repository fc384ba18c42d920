//! What is known of every environment's stacks: in memory alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use compose::exchange::{Progress, StackReport};
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};
use wire::id::EnvironmentId;

use crate::{
    control::{Seen, StackEvent, phase_text},
    limits::{STACK_EVENTS_MAX, STACKS_SEEN_MAX},
    metrics::{STACK_PHASES, StackSums},
};

/// Beyond its deadline an agent may still take back what it began.
const GRACE: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug)]
pub(super) struct Board {
    places: Mutex<Places>,
    events: broadcast::Sender<StackEvent>,
}

#[derive(Debug, Default)]
struct Places {
    by_environment: BTreeMap<EnvironmentId, Place>,
    /// The store did not say who has assignments: everybody is asked.
    is_unknown: bool,
    attendances: u64,
}

/// What is known of one environment.
#[derive(Debug, Default)]
struct Place {
    wake: Arc<Notify>,
    /// Something was assigned at some time.
    is_assigned: bool,
    /// Who attends to its agent, if anybody does.
    attended_by: Option<u64>,
    is_live: bool,
    heard_at: Option<Instant>,
    trouble: Option<String>,
    reports: BTreeMap<String, Arc<StackReport>>,
    /// Assignments that the agent has and is not done with.
    under_way: BTreeMap<String, UnderWay>,
}

/// An assignment that an agent is at.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    number: u64,
    since: Instant,
    until: Instant,
}

/// Attends to an agent until it is dropped.
#[derive(Debug)]
pub(super) struct Attendance<'a> {
    board: &'a Board,
    environment: EnvironmentId,
    id: u64,
    /// Told when there is something to do.
    pub(super) wake: Arc<Notify>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            places: Mutex::default(),
            events: broadcast::Sender::new(STACK_EVENTS_MAX),
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: StackEvent) {
        // Nobody may be watching.
        self.events.send(event).ok();
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<StackEvent> {
        self.events.subscribe()
    }

    /// Tells who watches that nothing more comes.
    pub(super) fn close(&self) {
        self.tell(StackEvent::Closing);
    }

    pub(super) fn begin(&self, assigned: &[EnvironmentId]) {
        let mut places = self.places();
        for environment in assigned {
            let place = places.by_environment.entry(*environment).or_default();
            place.is_assigned = true;
            place.wake.notify_one();
        }
    }

    pub(super) fn begin_unknown(&self) {
        let mut places = self.places();
        places.is_unknown = true;
        for place in places.by_environment.values() {
            place.wake.notify_one();
        }
    }

    pub(super) fn assigned(&self, environment: EnvironmentId) {
        let mut places = self.places();
        let place = places.by_environment.entry(environment).or_default();
        place.is_assigned = true;
        place.wake.notify_one();
        drop(places);
        self.tell(StackEvent::Environment(environment));
    }

    pub(super) fn forget(&self, environment: EnvironmentId) {
        self.places().by_environment.remove(&environment);
        self.tell(StackEvent::Environment(environment));
    }

    /// Whether there is anything to ask this environment's agent for.
    pub(super) fn is_assigned(&self, environment: EnvironmentId) -> bool {
        let places = self.places();
        let place = places.by_environment.get(&environment);
        places.is_unknown || place.is_some_and(|place| place.is_assigned)
    }

    /// Attends to an agent from now on; whoever did before does no longer.
    pub(super) fn attend(&self, environment: EnvironmentId) -> Attendance<'_> {
        let mut places = self.places();
        places.attendances += 1;
        let id = places.attendances;
        let place = places.by_environment.entry(environment).or_default();
        place.attended_by = Some(id);
        // Each has its own: a wake must not go to who is about to leave.
        place.wake = Arc::default();
        Attendance {
            board: self,
            environment,
            id,
            wake: place.wake.clone(),
        }
    }

    pub(super) fn seen(&self, environment: EnvironmentId, stack: &str) -> Seen {
        let places = self.places();
        let Some(place) = places.by_environment.get(&environment) else {
            return Seen::default();
        };
        Seen {
            is_live: place.is_live,
            heard_ago: place.heard_at.map(|at| at.elapsed()),
            trouble: place.trouble.clone(),
            report: place.reports.get(stack).cloned(),
        }
    }

    pub(super) fn sums(&self) -> StackSums {
        let mut sums = StackSums::default();
        let now = Instant::now();
        let places = self.places();
        for place in places.by_environment.values() {
            for report in place.reports.values() {
                let phase = phase_text(report.phase);
                let at = STACK_PHASES.iter().position(|name| *name == phase);
                if let Some(count) = at.and_then(|at| sums.phases.get_mut(at)) {
                    *count += 1;
                }
                sums.drifted += u64::from(!report.drift.is_empty());
            }
            let late = place.under_way.values().filter(|one| one.until < now);
            sums.overdue += late.count() as u64;
        }
        sums
    }
}

impl Attendance<'_> {
    /// Changes the place, unless somebody else attends by now.
    fn note(&self, event: impl FnOnce() -> StackEvent, change: impl FnOnce(&mut Place)) {
        let mut places = self.board.places();
        let Some(place) = places.by_environment.get_mut(&self.environment) else {
            return;
        };
        if place.attended_by != Some(self.id) {
            return;
        }
        change(place);
        drop(places);
        self.board.tell(event());
    }

    fn whole(&self) -> StackEvent {
        StackEvent::Environment(self.environment)
    }

    /// The agent tells of changes from now on.
    pub(super) fn live(&self) {
        self.note(
            || self.whole(),
            |place| {
                place.is_live = true;
                place.trouble = None;
                place.heard_at = Some(Instant::now());
            },
        );
    }

    /// The agent cannot be had to do anything.
    pub(super) fn trouble(&self, reason: Option<String>) {
        self.note(
            || self.whole(),
            |place| {
                place.is_live = false;
                place.trouble = reason;
            },
        );
    }

    /// The agent said something.
    pub(super) fn heard(&self) {
        let mut places = self.board.places();
        if let Some(place) = places.by_environment.get_mut(&self.environment) {
            place.heard_at = Some(Instant::now());
        }
    }

    /// What the agent has, and nothing else. Gives what is no more.
    pub(super) fn replace(&self, reports: Vec<Arc<StackReport>>) -> Vec<String> {
        let mut gone = Vec::new();
        self.note(
            || self.whole(),
            |place| {
                let former = std::mem::take(&mut place.reports);
                let some = reports.into_iter().take(STACKS_SEEN_MAX);
                place.reports = some.map(|report| (report.stack.clone(), report)).collect();
                let is_gone = |stack: &String| !place.reports.contains_key(stack);
                gone = former.into_keys().filter(is_gone).collect();
            },
        );
        gone
    }

    /// One stack has changed.
    pub(super) fn put(&self, report: Arc<StackReport>) {
        let stack = report.stack.clone();
        self.note(
            || StackEvent::Stack(self.environment, stack),
            |place| {
                let is_known = place.reports.contains_key(&report.stack);
                if is_known || place.reports.len() < STACKS_SEEN_MAX {
                    place.reports.insert(report.stack.clone(), report);
                }
            },
        );
    }

    /// One stack is no more.
    pub(super) fn remove(&self, stack: &str) {
        self.note(
            || StackEvent::Stack(self.environment, stack.to_owned()),
            |place| {
                place.reports.remove(stack);
            },
        );
    }

    /// Numbers of what is going on.
    pub(super) fn progress(&self, progress: Progress) {
        let event = StackEvent::Progress(self.environment, Arc::new(progress));
        self.board.tell(event);
    }

    /// What is known of a stack.
    pub(super) fn report(&self, stack: &str) -> Option<Arc<StackReport>> {
        let places = self.board.places();
        let place = places.by_environment.get(&self.environment)?;
        place.reports.get(stack).cloned()
    }

    /// The agent has an assignment.
    pub(super) fn under_way(&self, stack: &str, number: u64, deadline: Duration) {
        let since = Instant::now();
        let one = UnderWay {
            number,
            since,
            until: since + deadline + GRACE,
        };
        self.note(
            || StackEvent::Stack(self.environment, stack.to_owned()),
            |place| {
                let known = place.under_way.get(stack);
                if known.is_none_or(|known| known.number < number) {
                    place.under_way.insert(stack.to_owned(), one);
                }
            },
        );
    }

    /// The agent is done with an assignment: how long it took, where that is known.
    pub(super) fn settled(&self, stack: &str, number: u64) -> Option<Duration> {
        let mut places = self.board.places();
        let place = places.by_environment.get_mut(&self.environment)?;
        let known = place.under_way.get(stack).copied()?;
        if known.number > number {
            return None;
        }
        place.under_way.remove(stack);
        (known.number == number).then(|| known.since.elapsed())
    }

    /// Something else than a report has changed what is known of a stack.
    pub(super) fn changed(&self, stack: &str) {
        let event = StackEvent::Stack(self.environment, stack.to_owned());
        self.board.tell(event);
    }
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let mut places = self.board.places();
        let Some(place) = places.by_environment.get_mut(&self.environment) else {
            return;
        };
        if place.attended_by != Some(self.id) {
            return;
        }
        place.attended_by = None;
        place.is_live = false;
        let was_heard = place.heard_at.is_some() || place.trouble.is_some();
        place.trouble = None;
        if !place.is_assigned {
            places.by_environment.remove(&self.environment);
        }
        drop(places);
        if was_heard {
            self.board.tell(StackEvent::Environment(self.environment));
        }
    }
}
