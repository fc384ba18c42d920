//! What the vendor is told of stacks: the newest report of each, and whatever changes, as it
//! changes. Nobody polls: a change is sent to whoever follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use compose::exchange::{Progress, StackReport, Update, WantedImage};
use tokio::sync::broadcast;

/// Changes that a follower may be behind before it gets everything anew.
const BEHIND_MAX: usize = 256;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Board {
    reports: Arc<Mutex<BTreeMap<String, StackReport>>>,
    wanted: Arc<Mutex<BTreeMap<String, BTreeSet<WantedImage>>>>,
    changes: broadcast::Sender<Update>,
}

/// An image that the relay is asked for. Dropped, it is so no longer.
#[derive(Debug)]
pub struct Want {
    board: Board,
    stack: String,
    image: WantedImage,
}

impl Drop for Want {
    fn drop(&mut self) {
        self.board.change_wanted(&self.stack, |wanted| {
            wanted.remove(&self.image);
        });
    }
}

/// One who follows.
#[derive(Debug)]
pub struct Follower {
    board: Board,
    changes: broadcast::Receiver<Update>,
    /// Everything is to be told first.
    anew: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            reports: Arc::default(),
            wanted: Arc::default(),
            changes: broadcast::Sender::new(BEHIND_MAX),
        }
    }
}

impl Board {
    fn reports(&self) -> MutexGuard<'_, BTreeMap<String, StackReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a stack, where it is not as it was last told.
    pub fn tell(&self, mut report: StackReport) {
        report.wanted_images = self.wanted(&report.stack);
        let mut reports = self.reports();
        if reports.get(&report.stack) == Some(&report) {
            return;
        }
        reports.insert(report.stack.clone(), report.clone());
        // Sent under the lock, so that a follower hears changes in the order of the reports.
        // Nobody may follow.
        drop(self.changes.send(Update::Stack(Box::new(report))));
    }

    fn wanted(&self, stack: &str) -> Vec<WantedImage> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = wanted.get(stack).into_iter().flatten();
        of_it.cloned().collect()
    }

    /// Asks the relay for an image, for as long as the value lives.
    pub fn want(&self, stack: &str, image: WantedImage) -> Want {
        self.change_wanted(stack, |wanted| {
            wanted.insert(image.clone());
        });
        Want {
            board: self.clone(),
            stack: stack.to_owned(),
            image,
        }
    }

    fn change_wanted(&self, stack: &str, change: impl FnOnce(&mut BTreeSet<WantedImage>)) {
        {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let of_it = wanted.entry(stack.to_owned()).or_default();
            change(of_it);
            if of_it.is_empty() {
                wanted.remove(stack);
            }
        }
        if let Some(report) = self.report(stack) {
            self.tell(report);
        }
    }

    /// Tells that a stack is no more.
    pub fn forget(&self, stack: &str) {
        let mut reports = self.reports();
        if reports.remove(stack).is_some() {
            let stack = stack.to_owned();
            drop(self.changes.send(Update::Gone { stack }));
        }
    }

    /// Tells how far something is. Not kept.
    pub fn progress(&self, progress: Progress) {
        drop(self.changes.send(Update::Progress(progress)));
    }

    /// The last report of a stack.
    pub fn report(&self, stack: &str) -> Option<StackReport> {
        self.reports().get(stack).cloned()
    }

    /// Names of all stacks.
    pub fn names(&self) -> Vec<String> {
        self.reports().keys().cloned().collect()
    }

    /// Is anybody following?
    pub fn is_followed(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    /// Hears of everything, and then of what changes.
    pub fn follow(&self) -> Follower {
        Follower {
            board: self.clone(),
            changes: self.changes.subscribe(),
            anew: true,
        }
    }
}

impl Follower {
    /// What is to be told next. Cancel safe.
    pub async fn next(&mut self) -> Option<Update> {
        if !self.anew {
            match self.changes.recv().await {
                Ok(update) => return Some(update),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
            }
        }
        self.anew = false;
        // Changes from before the snapshot are in it already.
        let reports = self.board.reports();
        self.changes = self.changes.resubscribe();
        let stacks = reports.values().cloned().collect();
        Some(Update::Snapshot { stacks })
    }
}

#[cfg(test)]
mod tests {
    use compose::exchange::Phase;

    use super::*;

    fn report(stack: &str, phase: Phase) -> StackReport {
        StackReport {
            stack: stack.to_owned(),
            assignment: 1,
            release: None,
            committed: None,
            phase,
            since_ms: 0,
            deadline_ms: None,
            cause: None,
            services: BTreeMap::new(),
            networks: Vec::new(),
            volumes: Vec::new(),
            drift: Vec::new(),
            digests: BTreeMap::new(),
            operations: 0,
            wanted_images: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_follower_hears_everything_first_and_then_only_what_changes() {
        let board = Board::default();
        board.tell(report("shop", Phase::Applying));
        let mut follower = board.follow();

        let first = follower.next().await.unwrap();
        board.tell(report("shop", Phase::Applying));
        board.tell(report("shop", Phase::Committed));

        let Update::Snapshot { stacks } = first else {
            panic!("{first:?}");
        };
        assert_eq!(stacks.len(), 1);
        let Some(Update::Stack(changed)) = follower.next().await else {
            panic!("no change");
        };
        assert_eq!(changed.phase, Phase::Committed);
    }

    #[tokio::test]
    async fn a_follower_that_is_too_far_behind_gets_everything_anew() {
        let board = Board::default();
        let mut follower = board.follow();
        follower.next().await.unwrap();
        for number in 0..=BEHIND_MAX {
            board.tell(report(&format!("s{number}"), Phase::Committed));
        }

        let Some(Update::Snapshot { stacks }) = follower.next().await else {
            panic!("no snapshot");
        };

        assert_eq!(stacks.len(), BEHIND_MAX + 1);
    }
}
