//! Attends to one agent for as long as its session lasts.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use compose::exchange::{Phase, StackReport, Update, WantedImage};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use tunnel::Session;
use wire::id::EnvironmentId;

use super::{
    RELAY, Stacks,
    board::Attendance,
    deliver::{Delivery, Undelivered, deliver},
    images::send_image,
    link::{Caller, Link},
    outcome::Outcomes,
};
use crate::{
    control::{AskError, Control, REMOVED, phase_text},
    limits::{
        DELIVERIES_MAX, STACK_REPORT_BYTES_MAX, STACK_RETRY, STACK_SILENCE_MAX, STACKS_SEEN_MAX,
    },
    store::AssignmentRecord,
};

/// So often in a row an agent may fail to answer before people are told.
const FAILURES_UNSEEN: u32 = 3;

/// After so long without a word on a stack that was to go, it was not there.
const NEVER_THERE: Duration = Duration::from_secs(3);

/// After an image could not be sent, so long it is not tried again.
const IMAGE_PAUSE: Duration = Duration::from_secs(30);

/// How what was begun beside the agent's own words has ended.
enum Done {
    Brought(Delivery, Result<bool, Undelivered>),
    /// It was waited for long enough whether the agent knows of a stack that is to go.
    LookFor(Delivery),
    /// An image that an agent wants for this stack was sent, or cannot be.
    Image(String, WantedImage, Result<(), Undelivered>),
    /// The same image may be wanted again.
    ImagePast(String, WantedImage),
}

type Beside<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send + 'a>>>;

/// What it takes to bring assignments to an agent.
#[derive(Clone, Copy)]
struct Bringing<'a> {
    control: &'a Control,
    caller: Caller<'a>,
    attendance: &'a Attendance<'a>,
    /// The newest assignment of each stack: who brings an earlier one ends.
    newest: &'a Mutex<BTreeMap<String, u64>>,
}

/// What was sent in a session, and what is on its way.
#[derive(Default)]
struct Sent {
    /// The agent has these, or has refused them.
    brought: BTreeMap<String, u64>,
    /// These are on their way.
    flying: BTreeMap<String, u64>,
    /// Images that are on their way, or were a moment ago, with the stack that wants them.
    images: BTreeSet<(String, WantedImage)>,
    /// The agent has said all that it has.
    has_snapshot: bool,
}

impl Stacks {
    /// Attends to an agent: for ever, or until it is dropped with the session.
    pub async fn attend(
        &self,
        control: &Control,
        environment: EnvironmentId,
        session: &Session,
    ) -> std::convert::Infallible {
        let attendance = self.board.attend(environment);
        let [first, longest] = STACK_RETRY;
        let mut pause = first;
        let mut failures = 0;
        loop {
            while !self.board.is_assigned(environment) {
                attendance.wake.notified().await;
            }
            let mut was_live = false;
            let converging = self.converge((control, session), environment, &attendance);
            let Err(error) = converging.await.map_err(|(error, live)| {
                was_live = live;
                error
            });
            failures += 1;
            if was_live {
                (pause, failures) = (first, 0);
            }
            self.note_trouble((environment, failures), &attendance, &error);
            let wait = match &error {
                Undelivered::Asked(AskError::NotServed(_)) => longest,
                _ => pause,
            };
            pause = (pause * 2).min(longest);
            // A new assignment is worth a try.
            tokio::select! {
                () = sleep(wait) => {}
                () = attendance.wake.notified() => {}
            }
        }
    }

    fn note_trouble(
        &self,
        (environment, failures): (EnvironmentId, u32),
        attendance: &Attendance<'_>,
        error: &Undelivered,
    ) {
        let (cause, shown, line) = match error {
            // The session ends, and this with it: no trouble of the agent's.
            Undelivered::Asked(AskError::Offline) => return attendance.trouble(None),
            Undelivered::Asked(AskError::NotServed(line)) => {
                ("not_served", Some(line.clone()), line.clone())
            }
            Undelivered::Asked(AskError::Refused(refused)) => (
                "refused",
                Some(refused.reason.clone()),
                refused.reason.clone(),
            ),
            // Once may pass; again and again a person is to know.
            Undelivered::Asked(AskError::Broken(line)) => {
                let shown = (failures >= FAILURES_UNSEEN).then(|| line.clone());
                ("broken", shown, line.clone())
            }
            Undelivered::Store(error) => ("store", Some(error.to_string()), error.to_string()),
        };
        self.metrics.stack_trouble(cause);
        attendance.trouble(shown);
        warn!(environment_id = %environment, cause, line, "an agent's stacks cannot be reached");
    }

    /// Follows an agent and brings it what is assigned, until that fails. With the cause comes
    /// whether the agent had been followed.
    async fn converge(
        &self,
        (control, session): (&Control, &Session),
        environment: EnvironmentId,
        attendance: &Attendance<'_>,
    ) -> Result<std::convert::Infallible, (Undelivered, bool)> {
        let mut outcomes = Outcomes::new((control, &self.metrics), environment, attendance);
        let caller = self.caller(session, RELAY);
        let mut sent = Sent::default();
        let newest = Mutex::default();
        let bringing = Bringing {
            control,
            caller,
            attendance,
            newest: &newest,
        };
        let mut beside = Beside::new();
        let mut follow = Box::pin(async {
            let mut link = Link::open(caller).await?;
            link.begin_lines("/v1/follow").await?;
            Ok::<Link, AskError>(link)
        });
        let mut link: Option<Link> = None;
        loop {
            let live = link.is_some();
            let failed = |error: Undelivered| (error, live);
            let records = control.assignments_of(environment).await;
            let records = records.map_err(|error| failed(error.into()))?;
            bringing.begin(records, &mut sent, &mut beside);
            // Until there is something to look at again.
            loop {
                let next = async {
                    match &mut link {
                        Some(link) => Heard::Line(follow_line(link).await),
                        None => Heard::Link(follow.as_mut().await),
                    }
                };
                tokio::select! {
                    biased;
                    () = attendance.wake.notified() => break,
                    Some(done) = beside.next(), if !beside.is_empty() => {
                        let done = note_image(done, &mut sent, &mut beside).map_err(failed)?;
                        let Some(done) = done else {
                            break;
                        };
                        let looks = self.note_done(done, &mut sent, &mut outcomes).await;
                        if let Some(delivery) = looks.map_err(failed)? {
                            beside.push(Box::pin(async move {
                                sleep(NEVER_THERE).await;
                                Done::LookFor(delivery)
                            }));
                        }
                        break;
                    }
                    heard = next => match heard {
                        Heard::Link(opened) => {
                            link = Some(opened.map_err(|error| failed(error.into()))?);
                            attendance.live();
                        }
                        Heard::Line(line) => {
                            let update = line.map_err(|error| failed(error.into()))?;
                            if self.note_update(update, &mut sent, &mut outcomes).await {
                                break;
                            }
                        }
                    },
                }
            }
        }
    }

    /// Something beside has ended. Gives what is to be looked for in a moment.
    async fn note_done(
        &self,
        done: Done,
        sent: &mut Sent,
        outcomes: &mut Outcomes<'_>,
    ) -> Result<Option<Delivery>, Undelivered> {
        let (delivery, brought) = match done {
            Done::Brought(delivery, brought) => (delivery, brought),
            Done::Image(..) | Done::ImagePast(..) => return Ok(None),
            Done::LookFor(delivery) => {
                if outcomes.attendance.report(&delivery.stack).is_none() {
                    outcomes.removed(&delivery.stack, delivery.number).await;
                }
                return Ok(None);
            }
        };
        sent.flying.remove(&delivery.stack);
        match brought {
            Ok(is_whole) => {
                if is_whole {
                    sent.brought.insert(delivery.stack.clone(), delivery.number);
                }
                Ok(delivery.is_absence.then_some(delivery))
            }
            Err(Undelivered::Asked(AskError::Refused(refused))) => {
                self.metrics.stack_trouble("refused");
                debug!(
                    stack = delivery.stack,
                    reason = refused.reason,
                    "assignment refused"
                );
                sent.brought.insert(delivery.stack.clone(), delivery.number);
                outcomes
                    .refused(&delivery.stack, delivery.number, refused)
                    .await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The agent has said something. `true`: it may have to be sent something.
    async fn note_update(
        &self,
        update: Update,
        sent: &mut Sent,
        outcomes: &mut Outcomes<'_>,
    ) -> bool {
        let attendance = outcomes.attendance;
        attendance.heard();
        match update {
            Update::Alive => false,
            Update::Progress(progress) => {
                attendance.progress(progress);
                false
            }
            Update::Stack(report) => {
                let report = Arc::new(bounded(*report));
                attendance.put(report.clone());
                outcomes.report(&report).await;
                !report.wanted_images.is_empty()
            }
            Update::Gone { stack } => {
                attendance.remove(&stack);
                self.note_gone(&stack, outcomes).await;
                false
            }
            Update::Snapshot { stacks } => {
                let reports: Vec<_> = stacks
                    .into_iter()
                    .map(|one| Arc::new(bounded(one)))
                    .collect();
                let gone = attendance.replace(reports.clone());
                for report in reports {
                    outcomes.report(&report).await;
                }
                for stack in gone {
                    self.note_gone(&stack, outcomes).await;
                }
                sent.has_snapshot = true;
                true
            }
        }
    }

    /// A stack is no more: was it to go?
    async fn note_gone(&self, stack: &str, outcomes: &mut Outcomes<'_>) {
        let records = outcomes.control.assignments_of(outcomes.environment).await;
        let is_its = |record: &&AssignmentRecord| record.stack == stack && record.release.is_none();
        if let Ok(records) = records
            && let Some(record) = records.iter().find(is_its)
        {
            outcomes.removed(stack, record.number).await;
        }
    }
}

impl<'a> Bringing<'a> {
    fn newest(&self) -> MutexGuard<'a, BTreeMap<String, u64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to bring what is to be sent.
    fn begin(self, records: Vec<AssignmentRecord>, sent: &mut Sent, beside: &mut Beside<'a>) {
        for record in records.into_iter().take(STACKS_SEEN_MAX) {
            self.newest().insert(record.stack.clone(), record.number);
            let report = self.attendance.report(&record.stack);
            if beside.len() < DELIVERIES_MAX && sent.wants(&record, report.as_deref()) {
                sent.flying.insert(record.stack.clone(), record.number);
                beside.push(Box::pin(self.bring(record)));
                continue;
            }
            let wanted = report.iter().flat_map(|report| &report.wanted_images);
            for wanted in wanted {
                let key = (record.stack.clone(), wanted.clone());
                if beside.len() < DELIVERIES_MAX && sent.images.insert(key) {
                    beside.push(Box::pin(self.image(record.clone(), wanted.clone())));
                }
            }
        }
    }

    async fn image(self, record: AssignmentRecord, wanted: WantedImage) -> Done {
        let sent = send_image((self.control, self.caller), &record, &wanted).await;
        Done::Image(record.stack, wanted, sent)
    }

    async fn bring(self, record: AssignmentRecord) -> Done {
        let delivery = Delivery::of(&record);
        let taken = || {
            let deadline = delivery.deadline;
            self.attendance
                .under_way(&record.stack, record.number, deadline);
        };
        let is_newest = || {
            let newest = self.newest().get(&record.stack).copied();
            newest.is_none_or(|number| number <= record.number)
        };
        let brought = deliver((self.control, self.caller), &record, taken, is_newest).await;
        Done::Brought(delivery, brought)
    }
}

/// Takes what is about an image, and leaves the rest.
fn note_image(
    done: Done,
    sent: &mut Sent,
    beside: &mut Beside<'_>,
) -> Result<Option<Done>, Undelivered> {
    match done {
        Done::Image(stack, wanted, outcome) => {
            outcome?;
            // Where it could not be sent, not at once again.
            beside.push(Box::pin(async move {
                sleep(IMAGE_PAUSE).await;
                Done::ImagePast(stack, wanted)
            }));
            Ok(None)
        }
        Done::ImagePast(stack, wanted) => {
            sent.images.remove(&(stack, wanted));
            Ok(None)
        }
        done => Ok(Some(done)),
    }
}

/// What came of waiting for the agent.
enum Heard {
    Link(Result<Link, AskError>),
    Line(Result<Update, AskError>),
}

async fn follow_line(link: &mut Link) -> Result<Update, AskError> {
    let silent = || AskError::Broken("the agent has said nothing of its stacks".to_owned());
    let ended = || AskError::Broken("the agent tells nothing more of its stacks".to_owned());
    let line = timeout(STACK_SILENCE_MAX, link.next_line()).await;
    line.map_err(|_| silent())??.ok_or_else(ended)
}

/// A report that is not kept whole where it is larger than any honest one.
fn bounded(mut report: StackReport) -> StackReport {
    let size = serde_json::to_vec(&report).map_or(usize::MAX, |bytes| bytes.len());
    if size > STACK_REPORT_BYTES_MAX {
        report.services.clear();
        report.drift.clear();
        report.digests.clear();
        report.networks.clear();
        report.volumes.clear();
        report.wanted_images.clear();
    }
    report
}

impl Sent {
    /// Whether an assignment is to be sent.
    fn wants(&self, record: &AssignmentRecord, report: Option<&StackReport>) -> bool {
        let has = |numbers: &BTreeMap<String, u64>| {
            numbers
                .get(&record.stack)
                .is_some_and(|number| *number >= record.number)
        };
        if has(&self.brought) || self.flying.contains_key(&record.stack) {
            return false;
        }
        if let Some(report) = report {
            let has_it = report.assignment >= record.number;
            let lacks_files =
                report.assignment == record.number && report.phase == Phase::Receiving;
            if has_it && !lacks_files {
                return false;
            }
        }
        match record
            .outcome
            .as_ref()
            .map(|outcome| outcome.phase.as_str())
        {
            None => true,
            // There is nothing to be had from asking again.
            Some(phase) if phase == REMOVED || phase == phase_text(Phase::Refused) => false,
            // The agent has told of it once, and may have lost its disk since.
            Some(_) => self.has_snapshot,
        }
    }
}
