//! Images: what is pulled before anything is changed.

use std::collections::BTreeSet;

use super::Build;
use crate::{
    model::PullPolicy,
    plan::{
        Obstacle, Operation,
        decide::{Fleet, image_of},
    },
};

impl<'a> Build<'a> {
    pub(super) fn images(&mut self, fleet: &Fleet<'a>) {
        let mut pulled = BTreeSet::new();
        for (name, slots) in &fleet.slots {
            let Some(service) = self.view.stack.services.get(*name) else {
                continue;
            };
            if slots.is_empty() {
                continue;
            }
            let is_new = slots.iter().any(super::decide::Slot::is_new);
            let there = image_of(self.view, service);
            let why = match (&service.pull_policy, there) {
                (PullPolicy::Never, None) if is_new => {
                    self.obstacle(Obstacle::NoImage {
                        service: (*name).to_owned(),
                        image: service.image.clone(),
                    });
                    continue;
                }
                (PullPolicy::Never, _) => continue,
                (_, None) if is_new => "it is not on this host",
                (_, None) => continue,
                _ if self.view.options.pulled => continue,
                (PullPolicy::Always, Some(_)) => {
                    let pinned = self
                        .view
                        .options
                        .context
                        .digests
                        .contains_key(&service.image);
                    if pinned {
                        continue;
                    } else {
                        "its pull policy is `always`"
                    }
                }
                (PullPolicy::Older { seconds }, Some(image)) => {
                    let now = self.view.options.now_seconds;
                    let age = now.zip(image.since_seconds).map(|(now, since)| now - since);
                    let limit = i64::try_from(*seconds).unwrap_or(i64::MAX);
                    match age.is_some_and(|age| age > limit) {
                        true => "it is older than its pull policy allows",
                        false => continue,
                    }
                }
                (PullPolicy::Missing, Some(_)) => continue,
            };
            if pulled.insert(&service.image) {
                let operation = Operation::Pull {
                    image: service.image.clone(),
                    service: (*name).to_owned(),
                };
                self.graph.add(operation, why, &[]);
            }
        }
    }
}
