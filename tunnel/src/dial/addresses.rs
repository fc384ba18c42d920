//! Where a relay was found the last time: a resolver that fails, or says nothing, keeps nobody
//! from a relay that is still there. Who answers at an old address proves who it is, as anywhere.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::world::World;

/// How long a resolver is waited for, where there is an answer of a former time. Above what one
/// takes that has to ask others first.
const PATIENCE: Duration = Duration::from_secs(2);

/// The addresses of hosts, each from when a dial to it led to a session.
#[derive(Debug, Default)]
pub struct KnownAddresses(Mutex<HashMap<String, Vec<IpAddr>>>);

impl KnownAddresses {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<IpAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session came about with this host, which has these addresses. Called for hosts that a
    /// person has configured alone, so there are few.
    pub(super) fn note(&self, host: &str, addresses: Vec<IpAddr>) {
        self.known().insert(host.to_owned(), addresses);
    }

    /// What the resolver says; or what it said when a session came about, where it says nothing.
    ///
    /// # Errors
    ///
    /// The resolver's, where nothing is known.
    pub(super) async fn resolve(&self, world: &World, host: &str) -> io::Result<Vec<IpAddr>> {
        let resolving = world.resolver.resolve(host);
        let Some(known) = self.known().get(host).cloned() else {
            return resolving.await;
        };
        match tokio::time::timeout(PATIENCE, resolving).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(_) | Err(_)) | Err(_) => {
                tracing::debug!(host, "no answer of a resolver: its last one is used");
                Ok(known)
            }
        }
    }
}
