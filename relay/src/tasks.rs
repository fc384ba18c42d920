//! Tasks that serve peers: waited for when a relay drains, and cut off where one crashes.
//!
//! The process of a relay ends with its runtime, and needs to wait alone. Where several
//! relays share a runtime, as in a simulation, one that crashes must take its own tasks with
//! it; that costs a handle and a lock for each, so it is asked for.

use std::sync::{Mutex, PoisonError};

use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// So many handles are kept before it is looked which tasks have ended.
const HANDLES_MIN: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    /// `None`: they cannot be cut off.
    handles: Option<Mutex<Handles>>,
}

#[derive(Debug)]
struct Handles {
    handles: Vec<AbortHandle>,
    /// With so many, those of tasks that have ended are dropped.
    sweep_at: usize,
}

impl Tasks {
    /// None yet. Whether they can be cut off is said beforehand.
    pub fn new(is_severable: bool) -> Self {
        let handles = Handles {
            handles: Vec::new(),
            sweep_at: HANDLES_MIN,
        };
        Self {
            tracker: TaskTracker::new(),
            handles: is_severable.then(|| Mutex::new(handles)),
        }
    }

    /// Runs one more.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let spawned = self.tracker.spawn(task);
        let Some(handles) = &self.handles else { return };
        let mut kept = handles.lock().unwrap_or_else(PoisonError::into_inner);
        kept.handles.push(spawned.abort_handle());
        if kept.handles.len() >= kept.sweep_at {
            kept.handles.retain(|handle| !handle.is_finished());
            // In the mean a task is looked at twice, however many there are.
            kept.sweep_at = (2 * kept.handles.len()).max(HANDLES_MIN);
        }
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Waits until all have ended. Some may still be spawned meanwhile.
    pub async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Cuts off all that have not ended, where that was asked for.
    pub fn sever(&self) {
        let Some(handles) = &self.handles else { return };
        let mut kept = handles.lock().unwrap_or_else(PoisonError::into_inner);
        for handle in kept.handles.drain(..) {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(tasks: &Tasks) -> usize {
        let handles = tasks.handles.as_ref().unwrap();
        handles.lock().unwrap().handles.len()
    }

    #[tokio::test]
    async fn what_would_run_for_ever_ends_when_it_is_cut_off() {
        let tasks = Tasks::new(true);
        tasks.spawn(std::future::pending());
        assert_eq!(tasks.len(), 1);

        tasks.sever();

        tasks.finish().await;
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn handles_of_tasks_that_have_ended_do_not_pile_up() {
        let tasks = Tasks::new(true);
        tasks.spawn(std::future::pending());

        for _ in 0..10 * HANDLES_MIN {
            tasks.spawn(async {});
            tokio::task::yield_now().await;
        }

        assert!(kept(&tasks) <= HANDLES_MIN, "{} are kept", kept(&tasks));
    }
}
