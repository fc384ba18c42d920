//! Use cases in the product's nouns; no HTTP inside.
//!
//! Every use case takes the principal who asks. What is live is seen through
//! [`Presence`], what listens on the relay's host through [`Exposer`], time and
//! chance through [`Sources`]: nothing here opens a socket or reads a clock.

mod converger;
mod environment;
mod error;
mod exposure;
#[cfg(test)]
pub(crate) mod fixture;
mod hello;
mod name;
mod presence;
mod principal;
mod probe;
mod release;
mod source;
mod stack;
#[cfg(test)]
mod tests;
mod variable;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;
use wire::{
    id::{EnvironmentId, RequestId},
    key::PublicKey,
    token::RelayAddress,
};
use zeroize::Zeroizing;

pub use self::{
    converger::{AskError, Converger, LogRequest, Seen, StackEvent},
    environment::{
        EnvironmentStatus, EnvironmentView, IssuedToken, TagFilter, WatchedEnvironments,
    },
    error::Error,
    exposure::ExposureView,
    hello::{Admitted, AgentCredential, AgentHello},
    presence::{Drain, Exposer, Exposure, Presence, SessionView},
    principal::Principal,
    probe::{ProbeCause, ProbeFlow, ProbeReport, ProbeReportError, ProbeSummary},
    release::{BundleFile, FileDiff, Manifest, ReleaseDiff, ReleaseView, ValueDiff, digest_of},
    source::Sources,
    stack::{
        Assigned, DeployOptions, DeployRequest, Deployed, Planned, REMOVED, Source, StackState,
        StackView, Targets, phase_text,
    },
    variable::{NewVariable, RegistryLoginView, Scope, VariableKind, VariableView},
};
use crate::{
    credential::{ApiToken, SecretHash},
    id::{CustomerId, ExposureId},
    limits::TOKEN_MEMORY,
    metrics::EnvironmentCounts,
    seal::Sealer,
    store::{NewApiToken, Store, StoreError},
};
pub(crate) use stack::registry_of;

/// What a relay knows of itself.
#[derive(Debug, Clone)]
pub struct RelayFacts {
    /// Release, such as `0.1.0`.
    pub version: &'static str,
    /// Commit that the program was built from.
    pub commit: &'static str,
    /// Name of this node, for logs and handshakes.
    pub node: String,
    /// The key that agents pin.
    pub identity: PublicKey,
    /// Where agents and operators reach the relay.
    pub address: RelayAddress,
    /// The image in the `docker run` line.
    pub agent_image: String,
    /// How long a token enrols.
    pub token_validity: Duration,
}

/// The relay as an operator sees it.
#[derive(Debug, Clone)]
pub struct RelayView {
    /// What it knows of itself.
    pub facts: RelayFacts,
    /// Sessions open at this moment, operators' included.
    pub sessions: usize,
}

/// The use cases, over the parts that they need.
pub struct Control {
    store: Arc<dyn Store>,
    presence: Arc<dyn Presence>,
    exposer: Arc<dyn Exposer>,
    sources: Arc<dyn Sources>,
    converger: Arc<dyn Converger>,
    sealer: Sealer,
    facts: RelayFacts,
    /// Exposures of this process and how they fare.
    exposures: Mutex<BTreeMap<ExposureId, exposure::Opened>>,
    /// Taken for as long as an exposure is opened or closed: one at a time, so that
    /// the store and the open ports cannot come to differ.
    exposing: tokio::sync::Mutex<()>,
    /// Taken for as long as assignments are compared and written.
    assigning: tokio::sync::Mutex<()>,
    /// Told once an operator has asked for a drain.
    draining: CancellationToken,
    /// Environments removed since the start: their ids never come back.
    removed: Mutex<BTreeSet<EnvironmentId>>,
}

/// The parts below the use cases.
pub struct Parts {
    /// What survives a restart.
    pub store: Arc<dyn Store>,
    /// Who is connected.
    pub presence: Arc<dyn Presence>,
    /// Ports on the relay's host.
    pub exposer: Arc<dyn Exposer>,
    /// Time and chance.
    pub sources: Arc<dyn Sources>,
    /// What agents run of stacks.
    pub converger: Arc<dyn Converger>,
    /// Seals what is secret at rest.
    pub sealer: Sealer,
}

impl Control {
    /// Puts the use cases over their parts.
    pub fn new(parts: Parts, facts: RelayFacts) -> Self {
        Self {
            store: parts.store,
            presence: parts.presence,
            exposer: parts.exposer,
            sources: parts.sources,
            converger: parts.converger,
            sealer: parts.sealer,
            facts,
            exposures: Mutex::default(),
            exposing: tokio::sync::Mutex::default(),
            assigning: tokio::sync::Mutex::default(),
            draining: CancellationToken::new(),
            removed: Mutex::default(),
        }
    }

    /// Who an API token speaks for.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] for any token but a valid one.
    pub async fn authenticate(&self, api_token: &str) -> Result<Principal, Error> {
        let hash = SecretHash::of_api_token(api_token).ok_or(Error::Unauthenticated)?;
        let record = self
            .store
            .api_token(&hash)
            .await?
            .ok_or(Error::Unauthenticated)?;
        Ok(Principal::of_token(&record.name, record.customer))
    }

    /// The relay as an operator sees it.
    pub fn relay(&self, _principal: &Principal) -> RelayView {
        RelayView {
            facts: self.facts.clone(),
            sessions: self.presence.open_sessions(),
        }
    }

    /// What the relay tells to whoever asks.
    pub const fn facts(&self) -> &RelayFacts {
        &self.facts
    }

    /// Has the relay drain and end. Asked again, it drains no faster.
    pub fn drain(&self, principal: &Principal) {
        info!(%principal, "drain asked for");
        self.draining.cancel();
    }

    /// Waits until somebody asks for a drain.
    ///
    /// Cancel safe.
    pub async fn drain_asked(&self) {
        self.draining.cancelled().await;
    }

    /// Whether the relay can serve requests.
    ///
    /// # Errors
    ///
    /// Where the store does not answer.
    pub async fn check_ready(&self) -> Result<(), Error> {
        Ok(self.store.ping().await?)
    }

    /// How many environments there are, by what is known of them.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn count_environments(&self) -> Result<EnvironmentCounts, Error> {
        Ok(self.store.count_environments().await?)
    }

    /// Draws the id of a request that brought none.
    pub fn draw_request_id(&self) -> RequestId {
        RequestId::from_bytes(*self.random())
    }

    /// Seals a text for its place in the store.
    fn seal(&self, place: &str, text: &[u8]) -> Result<Vec<u8>, Error> {
        let sealed = self.sealer.seal(place, *self.random(), text);
        sealed.map_err(|_| Error::LimitReached {
            what: "bytes in one sealed text",
            limit: u64::from(u32::MAX),
        })
    }

    /// Opens what was sealed for this place.
    fn unseal(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let opened = self.sealer.open(place, sealed);
        opened.map_err(|error| Error::Unsealed { place: error.place })
    }

    /// A name of a text that gives nothing of it away.
    fn fingerprint(&self, text: &[u8]) -> String {
        self.sealer.fingerprint(text)
    }

    fn now(&self) -> Timestamp {
        self.sources.now()
    }

    fn random<const N: usize>(&self) -> Zeroizing<[u8; N]> {
        let mut bytes = Zeroizing::new([0; N]);
        self.sources.fill(bytes.as_mut());
        bytes
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Counts the start of a relay; returns its boot generation.
///
/// # Errors
///
/// Where the store cannot be written.
pub async fn boot(store: &dyn Store, sources: &dyn Sources) -> Result<u64, StoreError> {
    let now = sources.now();
    let generation = store
        .boot(now.checked_sub(TOKEN_MEMORY).unwrap_or(Timestamp::MIN))
        .await?;
    info!(generation, "store opened");
    Ok(generation)
}

/// Makes the token valid as the first administrator's.
///
/// # Errors
///
/// Where the store cannot be written.
pub async fn install_admin_token(
    store: &dyn Store,
    sources: &dyn Sources,
    token: &ApiToken,
) -> Result<(), StoreError> {
    let token = NewApiToken {
        hash: token.hash(),
        customer: CustomerId::default(),
        name: "admin".to_owned(),
        created_at: sources.now(),
    };
    store.put_api_token(token).await
}

/// Locks a table that is consistent between any two statements of its holder.
fn locked<T>(table: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
