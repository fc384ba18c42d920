//! When the stacks of hosts want to be polled: of a thousand, the next one is known without
//! looking at the others.

use std::collections::{BTreeMap, BTreeSet};

use netsim_core::{time::Instant, topology::NodeId};

/// See the module. Invariant: both parts have the same timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_host: BTreeMap<NodeId, Instant>,
    by_time: BTreeSet<(Instant, NodeId)>,
}

impl Timers {
    /// A host's timer, or none from now on.
    pub(super) fn set(&mut self, host: NodeId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_host.insert(host, at),
            None => self.by_host.remove(&host),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, host));
        }
        self.by_time.extend(at.map(|at| (at, host)));
    }

    /// When the first one runs out.
    pub(super) fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Hosts whose timers have run out.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = NodeId> {
        let due = self.by_time.iter().take_while(move |(at, _)| *at <= now);
        due.map(|(_, host)| *host)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_timer_that_is_set_anew_runs_out_at_its_new_time_alone() {
        let mut timers = Timers::default();
        timers.set(NodeId(1), Some(at(5)));
        timers.set(NodeId(2), Some(at(3)));
        timers.set(NodeId(1), Some(at(1)));

        assert_eq!(timers.first(), Some(at(1)));
        assert_eq!(timers.due(at(2)).collect::<Vec<_>>(), [NodeId(1)]);
        timers.set(NodeId(1), None);
        assert_eq!(timers.first(), Some(at(3)));
        assert_eq!(timers.due(at(5)).collect::<Vec<_>>(), [NodeId(2)]);
    }
}
