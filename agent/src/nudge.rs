//! Calls for a try at once: the network is another one, the host has slept, a person asks.
//!
//! What is known of the way to the relay was learnt on the old network. So a pause ends, an
//! attempt that is under way gets a fresh one beside it, and a session is asked whether it is
//! alive. A time that the relay has named is kept all the same, unless a person asks: what
//! happens to one host is no reason to come when others have their turn.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// Something is known to have changed for this host.
    Network,
    /// A person at this host.
    Person,
}

/// Gives and takes calls. Clones are the same; calls that nobody has taken yet are one.
#[derive(Debug, Clone, Default)]
pub struct Nudges(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    called: Notify,
    by_person: AtomicBool,
    towards: Mutex<Option<IpAddr>>,
}

impl Nudges {
    /// Calls.
    pub fn call(&self, nudge: Nudge) {
        if nudge == Nudge::Person {
            self.0.by_person.store(true, Ordering::Relaxed);
        }
        self.0.called.notify_one();
    }

    /// Where the session leads: by it a change of the way there is seen.
    pub fn lead_to(&self, address: IpAddr) {
        let towards = self.0.towards.lock();
        *towards.unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Where the latest session led.
    pub fn towards(&self) -> Option<IpAddr> {
        let towards = self.0.towards.lock();
        *towards.unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call, or one that nobody has taken yet. For one taker.
    ///
    /// Cancel safe: a call that was not taken stays.
    pub async fn next(&self) -> Nudge {
        self.0.called.notified().await;
        if self.0.by_person.swap(false, Ordering::Relaxed) {
            Nudge::Person
        } else {
            Nudge::Network
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_that_nobody_has_taken_are_one_and_a_person_s_is_not_lost_among_them() {
        let nudges = Nudges::default();
        nudges.call(Nudge::Person);
        nudges.call(Nudge::Network);

        assert_eq!(nudges.next().await, Nudge::Person);
        let another = tokio::time::timeout(std::time::Duration::ZERO, nudges.next()).await;
        assert!(another.is_err(), "{another:?}");
    }
}
