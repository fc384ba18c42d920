//! What is left over: containers of services that have too many, containers of services that are
//! no more, networks that nobody wants.

use super::{Build, Node};
use crate::plan::{decide::Fleet, observed::Seen};

impl<'a> Build<'a> {
    pub(super) fn leftovers(&mut self, fleet: &Fleet<'a>) {
        for seen in &fleet.excess {
            let end = self.ends.get(seen.service());
            let after = end.map(|end| end.last.clone()).unwrap_or_default();
            self.leave(*seen, "its service is scaled down", &after);
        }
        let all: Vec<_> = self
            .ends
            .values()
            .flat_map(|end| end.last.clone())
            .collect();
        for seen in &fleet.orphans {
            self.leave(*seen, "its service is not in the stack", &all);
        }
        for seen in &fleet.foreign {
            self.notes.push(format!(
                "container {} of service {} is not in the stack: it stays, for another tool made \
                 it",
                seen.name(),
                seen.service()
            ));
        }
        self.unused_networks(fleet);
    }

    fn leave(&mut self, seen: Seen<'a>, why: &str, after: &[Node]) {
        let after = if self.early.contains_key(seen.id()) {
            &[]
        } else {
            after
        };
        let stop = self.stop(seen, why, after);
        let after = stop.as_slice();
        self.remove(seen, why, after);
    }
}
