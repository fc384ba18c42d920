//! What an agent remembers of a stack, over its own end: which release it was told to run,
//! which one was last found well, and how far it is.
//!
//! There is no list of steps that were done. A plan is made from what shall be and what is,
//! so after any interruption it is made again, and what is left to do is what it says. The
//! record only decides *which* release that is. See [`Record::goal`].

use std::collections::BTreeMap;

use compose::{
    exchange::{Assignment, Cause, Desired, Phase, SecretText},
    model::{Shipped, Stack},
};
use serde::{Deserialize, Serialize};

use super::fault::cause;

/// A release as it is run on this host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Names it for people.
    pub release: String,
    /// What it is.
    pub stack: Stack,
    /// Values of secret variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretText>,
    /// What each image reference stands for: the digest of its manifest, where it came from
    /// a registry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// What each image reference stands for in this Engine: an id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
}

impl Version {
    /// Digests of the files that ship with it.
    pub fn blobs(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for shipped in self.stack.files.values() {
            collect(shipped, &mut found);
        }
        found.sort();
        found.dedup();
        found
    }

    /// Every image reference in it, once.
    pub fn references(&self) -> std::collections::BTreeSet<String> {
        let services = self.stack.services.values();
        services.map(|service| service.image.clone()).collect()
    }
}

fn collect(shipped: &Shipped, found: &mut Vec<(String, u64)>) {
    match shipped {
        Shipped::File { digest, size, .. } => found.push((digest.clone(), *size)),
        Shipped::Folder { entries } => entries.values().for_each(|entry| collect(entry, found)),
        Shipped::Text { .. } | Shipped::Secret { .. } => {}
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The stack's name.
    pub stack: String,
    /// The highest assignment that was taken.
    pub assignment: u64,
    /// What it is for; `None`: nothing shall run.
    pub target: Option<Version>,
    /// Its volumes go as well, where nothing shall run.
    #[serde(default)]
    pub remove_volumes: bool,
    /// What was last found well.
    pub committed: Option<Version>,
    /// How far it is.
    pub phase: Phase,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// When what is going on is given up.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// How long a deployment, or going back, may take.
    pub deadline_seconds: u32,
    /// Why it is not as it was asked for.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// Containers of the project were there before the first release, and none of ours: what
    /// was there is not taken away where that release fails.
    #[serde(default)]
    pub adopted: bool,
    /// It could not go back, because the Engine was away: it does so once that is back.
    #[serde(default)]
    pub owes_revert: bool,
    /// Remove what other tools have left of the project.
    #[serde(default)]
    pub remove_foreign_orphans: bool,
    /// Replace every container, once.
    #[serde(default)]
    pub force_recreate: bool,
    /// How many operations the last deployment took.
    #[serde(default)]
    pub operations: u32,
    /// Containers of another tool that were found to be as they shall be: id to what they were
    /// compared with. See [`Plan::adopts`](compose::plan::Plan::adopts).
    #[serde(default)]
    pub adopts: BTreeMap<String, String>,
    /// Images that came through the session: digest of a manifest to id in this Engine, which
    /// knows no digest of what it has not pulled.
    #[serde(default)]
    pub loaded: BTreeMap<String, String>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// Nothing, until something is asked for or happens.
    Rest,
    /// Wait for files that ship with the release.
    Receive,
    /// Fetch the images of the target.
    Pull,
    /// Make it so.
    Apply,
    /// Watch it for a while.
    Verify,
    /// Make it what was last found well, or nothing where there was nothing.
    Revert,
    /// Take everything away.
    Remove,
}

impl Record {
    /// A record of an assignment that is the first of its stack.
    pub fn new(assignment: Assignment, now_ms: u64) -> Self {
        let mut record = Self {
            stack: assignment.stack.clone(),
            assignment: 0,
            target: None,
            remove_volumes: false,
            committed: None,
            phase: Phase::Receiving,
            since_ms: now_ms,
            deadline_ms: None,
            deadline_seconds: assignment.deadline_seconds,
            cause: None,
            adopted: false,
            owes_revert: false,
            remove_foreign_orphans: false,
            force_recreate: false,
            operations: 0,
            adopts: BTreeMap::new(),
            loaded: BTreeMap::new(),
        };
        record.assign(assignment, now_ms);
        record
    }

    /// Takes an assignment with a higher number: whatever is going on gives way to it.
    pub fn assign(&mut self, assignment: Assignment, now_ms: u64) {
        self.assignment = assignment.number;
        self.deadline_seconds = assignment.deadline_seconds.max(1);
        self.remove_foreign_orphans = assignment.remove_foreign_orphans;
        self.force_recreate = assignment.force_recreate;
        self.owes_revert = false;
        self.operations = 0;
        let phase = match assignment.desired {
            Desired::Run { release, stack } => {
                self.target = Some(Version {
                    release,
                    stack: *stack,
                    secrets: assignment.secrets,
                    digests: assignment.pins,
                    images: BTreeMap::new(),
                });
                Phase::Receiving
            }
            Desired::Absent { volumes } => {
                self.target = None;
                self.remove_volumes = volumes;
                Phase::Removing
            }
        };
        self.enter(phase, now_ms);
        self.begin_deadline(now_ms);
        self.cause = None;
    }

    /// Goes to a phase.
    pub fn enter(&mut self, phase: Phase, now_ms: u64) {
        self.phase = phase;
        self.since_ms = now_ms;
        if phase.is_settled() {
            self.deadline_ms = None;
        }
    }

    fn begin_deadline(&mut self, now_ms: u64) {
        self.deadline_ms = Some(now_ms + u64::from(self.deadline_seconds) * 1_000);
    }

    /// After a start: a clock that was put back must not make a deadline endless.
    pub fn resume(&mut self, now_ms: u64) {
        if let Some(deadline) = &mut self.deadline_ms {
            *deadline = (*deadline).min(now_ms + u64::from(self.deadline_seconds) * 1_000);
        }
    }

    /// What is to be done.
    pub const fn goal(&self) -> Goal {
        match self.phase {
            Phase::Receiving => Goal::Receive,
            Phase::Pulling => Goal::Pull,
            Phase::Applying => Goal::Apply,
            Phase::Verifying => Goal::Verify,
            Phase::Reverting => Goal::Revert,
            Phase::Removing => Goal::Remove,
            Phase::Committed
            | Phase::Reverted
            | Phase::Failed
            | Phase::Refused
            | Phase::Foreign => Goal::Rest,
        }
    }

    /// What was done is well: it is what is gone back to from now on.
    pub fn commit(&mut self, now_ms: u64) {
        self.committed.clone_from(&self.target);
        self.force_recreate = false;
        self.adopted = false;
        self.cause = None;
        self.enter(Phase::Committed, now_ms);
    }

    /// What was begun has failed. Before anything was touched, nothing has to be taken back;
    /// afterwards it is, with a deadline of its own.
    pub fn fail(&mut self, why: Cause, now_ms: u64) {
        let touched = matches!(self.phase, Phase::Applying | Phase::Verifying);
        let was = self.phase;
        if was == Phase::Reverting {
            let first = self
                .cause
                .take()
                .unwrap_or_else(|| cause("engine", "it failed"));
            let line = format!("{}; going back failed as well: {}", first.line, why.line);
            self.cause = Some(Cause { line, ..first });
            self.owes_revert = why.code == "engine";
            return self.enter(Phase::Failed, now_ms);
        }
        self.cause = Some(why);
        let may_revert = self.committed.is_some() || !self.adopted;
        match touched && may_revert {
            true => {
                self.enter(Phase::Reverting, now_ms);
                self.begin_deadline(now_ms);
            }
            // The last committed release has not been touched, and runs on.
            false if !touched && self.committed.is_some() && was != Phase::Removing => {
                self.enter(Phase::Reverted, now_ms);
            }
            false => self.enter(Phase::Failed, now_ms),
        }
    }

    /// It is refused: nothing was touched.
    pub fn refuse(&mut self, why: Cause, now_ms: u64) {
        self.cause = Some(why);
        self.enter(Phase::Refused, now_ms);
    }

    /// It is what it was before.
    pub fn reverted(&mut self, now_ms: u64) {
        self.owes_revert = false;
        let phase = match self.committed {
            Some(_) => Phase::Reverted,
            None => Phase::Failed,
        };
        self.enter(phase, now_ms);
    }

    /// The Engine is back, and something is owed from when it was away.
    pub fn engine_is_back(&mut self, now_ms: u64) {
        if std::mem::take(&mut self.owes_revert) && self.phase == Phase::Failed {
            self.enter(Phase::Reverting, now_ms);
            self.begin_deadline(now_ms);
        }
    }

    /// What runs, or shall run in the end, as far as it is settled: what drift is measured
    /// against.
    pub const fn standing(&self) -> Option<&Version> {
        match self.phase {
            Phase::Committed | Phase::Reverted => self.committed.as_ref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assignment(number: u64, release: &str) -> Assignment {
        let stack = Stack {
            name: "shop".to_owned(),
            services: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        Assignment {
            number,
            stack: "shop".to_owned(),
            author: String::new(),
            desired: Desired::Run {
                release: release.to_owned(),
                stack: Box::new(stack),
            },
            secrets: BTreeMap::new(),
            registries: BTreeMap::new(),
            pins: BTreeMap::new(),
            deadline_seconds: 60,
            remove_foreign_orphans: false,
            force_recreate: false,
        }
    }

    fn committed() -> Record {
        let mut record = Record::new(assignment(1, "r1"), 0);
        record.enter(Phase::Verifying, 1);
        record.commit(2);
        record
    }

    fn release(version: Option<&Version>) -> Option<&str> {
        version.map(|version| version.release.as_str())
    }

    #[test]
    fn a_release_that_fails_after_it_was_begun_goes_back_to_the_committed_one() {
        let mut record = committed();
        record.assign(assignment(2, "r2"), 10);
        record.enter(Phase::Verifying, 20);

        record.fail(cause("unhealthy", "web: no"), 30);

        assert_eq!(record.goal(), Goal::Revert);
        assert_eq!(record.deadline_ms, Some(60_030));
        record.reverted(40);
        assert_eq!(record.phase, Phase::Reverted);
        assert_eq!(release(record.standing()), Some("r1"));
    }

    #[test]
    fn a_release_whose_image_cannot_be_pulled_leaves_the_committed_one_as_it_is() {
        let mut record = committed();
        record.assign(assignment(2, "r2"), 10);
        record.enter(Phase::Pulling, 20);

        record.fail(cause("pull_failed", "no such image"), 30);

        assert_eq!(record.phase, Phase::Reverted);
        assert_eq!(record.goal(), Goal::Rest);
    }

    #[test]
    fn a_first_release_over_a_stack_of_another_tool_is_not_taken_away_when_it_fails() {
        let mut record = Record::new(assignment(1, "r1"), 0);
        record.adopted = true;
        record.enter(Phase::Applying, 1);

        record.fail(cause("engine", "no"), 2);

        assert_eq!(record.phase, Phase::Failed);
    }

    #[test]
    fn a_return_that_the_engine_prevented_is_made_up_for_when_it_is_back() {
        let mut record = committed();
        record.assign(assignment(2, "r2"), 10);
        record.enter(Phase::Applying, 20);
        record.fail(cause("unhealthy", "web: no"), 30);

        record.fail(cause("engine", "it does not answer"), 40);
        assert_eq!(record.phase, Phase::Failed);
        record.engine_is_back(50);

        assert_eq!(record.goal(), Goal::Revert);
    }

    #[test]
    fn a_clock_that_was_put_back_makes_no_deadline_endless() {
        let mut record = Record::new(assignment(1, "r1"), 1_000_000);

        record.resume(5_000);

        assert_eq!(record.deadline_ms, Some(65_000));
    }

    proptest! {
        /// Whatever happens, in whatever order: what is gone back to is a release that was
        /// found well, and the record says the same after it was written and read.
        #[test]
        fn what_is_gone_back_to_was_once_committed(
            events in prop::collection::vec(0_u8..8, 0..40),
        ) {
            let mut record = Record::new(assignment(1, "r1"), 0);
            let (mut number, mut well) = (1, None::<String>);
            for (now, event) in (1_u64..).zip(events) {
                match event {
                    0 => {
                        number += 1;
                        record.assign(assignment(number, &format!("r{number}")), now);
                    }
                    1 if record.phase == Phase::Receiving => record.enter(Phase::Pulling, now),
                    2 if record.phase == Phase::Pulling => record.enter(Phase::Applying, now),
                    3 if record.phase == Phase::Applying => record.enter(Phase::Verifying, now),
                    4 if record.phase == Phase::Verifying => {
                        record.commit(now);
                        well = Some(format!("r{number}"));
                    }
                    5 if record.goal() != Goal::Rest => record.fail(cause("engine", "x"), now),
                    6 if record.phase == Phase::Reverting => record.reverted(now),
                    7 => record.engine_is_back(now),
                    _ => {}
                }
                prop_assert_eq!(release(record.committed.as_ref()), well.as_deref());
                if record.goal() != Goal::Rest {
                    prop_assert!(record.deadline_ms.is_some(), "{:?} for ever", record.phase);
                }
                let text = serde_json::to_string(&record).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), &record);
            }
        }
    }
}
