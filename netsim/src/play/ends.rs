//! Both ends of every agent's session, as each of them sees it: who is online, and whose
//! session is known to one end alone.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use netsim_core::{model::Word, term::Name, topology::NodeId};

use crate::sim::Sim;

/// See the module.
#[derive(Debug)]
pub(super) struct Ends {
    sim: Sim,
    pairs: Mutex<BTreeMap<Name, Pair>>,
}

#[derive(Debug, Default)]
struct Pair {
    /// The session that the agent has, and its transport.
    agent: Option<(String, String)>,
    /// The sessions that relays have of it, by their hosts.
    relays: BTreeMap<NodeId, String>,
    is_half_open: bool,
}

impl Pair {
    fn differs(&self) -> bool {
        match &self.agent {
            Some((session, _)) => !self.relays.values().eq([session]),
            None => !self.relays.is_empty(),
        }
    }
}

impl Ends {
    /// Nobody has a session yet.
    pub(super) fn new(sim: Sim) -> Self {
        Self {
            sim,
            pairs: Mutex::default(),
        }
    }

    fn pairs(&self) -> MutexGuard<'_, BTreeMap<Name, Pair>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent on a host has this session, with this transport, or none.
    pub(super) fn agent_has(&self, host: &Name, session: Option<(String, String)>) {
        let mut pairs = self.pairs();
        let pair = pairs.entry(host.clone()).or_default();
        if pair.agent == session {
            return;
        }
        let (word, detail) = match &session {
            Some((_, transport)) => (Word::Online, transport.as_str()),
            None => (Word::Offline, ""),
        };
        // A session in the place of another is online without a gap only if it says so.
        if session.is_some() && pair.agent.is_some() {
            self.sim.observe(Some(host), Word::Offline, "");
        }
        self.sim.observe(Some(host), word, detail);
        pair.agent = session;
        self.compare(host, pair);
    }

    /// The relay on a host has this session with the agent on another, or none.
    pub(super) fn relay_has(&self, at: NodeId, host: &Name, session: Option<String>) {
        let mut pairs = self.pairs();
        let pair = pairs.entry(host.clone()).or_default();
        let before = match session.clone() {
            Some(session) => pair.relays.insert(at, session),
            None => pair.relays.remove(&at),
        };
        if before != session {
            self.compare(host, pair);
        }
    }

    /// The relay on a host has no session any more.
    pub(super) fn relay_is_gone(&self, at: NodeId) {
        for (host, pair) in self.pairs().iter_mut() {
            if pair.relays.remove(&at).is_some() {
                self.compare(host, pair);
            }
        }
    }

    fn compare(&self, host: &Name, pair: &mut Pair) {
        let is_half_open = pair.differs();
        if is_half_open != pair.is_half_open {
            pair.is_half_open = is_half_open;
            let word = if is_half_open {
                Word::HalfOpen
            } else {
                Word::Closed
            };
            self.sim.observe(Some(host), word, "");
        }
    }
}
