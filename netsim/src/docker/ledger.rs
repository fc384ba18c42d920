//! What an Engine was told to do, and how often: the book in which a deployment that is done
//! twice would show.
//!
//! A deployment is a container that is created under a name. The name is what makes it safe to
//! ask again, as in the real Engine: a second request is answered with a conflict. Who asks
//! numbers each of its requests, so that one that was sent once and arrived twice is seen.

use std::collections::{BTreeMap, BTreeSet};

/// What came of a request to create a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// It is there now.
    New,
    /// One of this name is there already.
    Known,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    containers: BTreeSet<String>,
    /// How often each request has arrived, by the number that who asks gave it.
    requests: BTreeMap<String, u32>,
}

impl Ledger {
    /// A request to create a container arrives.
    pub(super) fn create(&mut self, name: &str, request: &str) -> Created {
        *self.requests.entry(request.to_owned()).or_insert(0) += 1;
        if self.containers.insert(name.to_owned()) {
            Created::New
        } else {
            Created::Known
        }
    }

    /// Containers that are there.
    pub(super) fn containers(&self) -> usize {
        self.containers.len()
    }

    /// Requests that were sent once and have arrived several times.
    pub(super) fn repeated(&self) -> Vec<String> {
        let several = self.requests.iter().filter(|(_, count)| **count > 1);
        several.map(|(request, _)| request.clone()).collect()
    }
}
