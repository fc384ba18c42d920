//! What must survive a restart, behind one trait.
//!
//! Every method is one short transaction; none waits for an agent or a person.
//! Times, ids and hashes are arguments. Liveness is never here: who is connected
//! is in memory, and a reconnect reads one row and writes none.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;
use wire::{
    id::{AgentId, EnvironmentId, InstanceId},
    key::PublicKey,
    target::Target,
};

use crate::{
    credential::SecretHash,
    id::{CustomerId, ExposureId},
    metrics::EnvironmentCounts,
};

#[cfg(test)]
mod contract;
pub mod memory;
pub mod sqlite;
mod stack;
pub mod timed;

pub use stack::{
    AssignError, AssignmentRecord, BlobRecord, DoneCommand, KeepError, NewAssignment,
    OutcomeRecord, RegistryLoginRecord, ReleaseRecord, StackStore, VariableRecord, VariableScope,
};

/// An environment to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnvironment {
    /// Drawn by the caller.
    pub id: EnvironmentId,
    /// Whose it is.
    pub customer: CustomerId,
    /// Unique for the customer.
    pub name: String,
    /// For selecting many at once.
    pub tags: BTreeMap<String, String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// Its first token, written together with it.
    pub token: FirstToken,
}

/// The first token of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstToken {
    /// Hash of its secret.
    pub hash: SecretHash,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// An environment as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRecord {
    /// Never used again, not even after removal.
    pub id: EnvironmentId,
    /// Whose it is.
    pub customer: CustomerId,
    /// Unique for the customer.
    pub name: String,
    /// For selecting many at once.
    pub tags: BTreeMap<String, String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// The agent that enrolled, if one has.
    pub agent: Option<EnrolledAgent>,
}

/// What an environment's record says of its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolledAgent {
    /// The agent.
    pub agent_id: AgentId,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// Since when it is held because its identity was seen twice.
    pub copied_since: Option<Timestamp>,
}

/// A one-time token to be written.
#[derive(Debug, Clone)]
pub struct EnrolmentToken {
    /// Hash of its secret.
    pub hash: SecretHash,
    /// What it enrols an agent for.
    pub environment: EnvironmentId,
    /// When it was issued.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// An agent that shows a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewAgent {
    /// Drawn by the caller; kept only if the token is redeemed by this call.
    pub agent_id: AgentId,
    /// The key it made on its host.
    pub public_key: PublicKey,
    /// The run of its process.
    pub instance: InstanceId,
    /// How often it has started.
    pub start_counter: u64,
}

/// An agent as the store has it, with the name of its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// The agent.
    pub agent_id: AgentId,
    /// Where it belongs.
    pub environment_id: EnvironmentId,
    /// The environment's name.
    pub environment: String,
    /// The key it must prove to have.
    pub public_key: PublicKey,
    /// The highest start counter seen.
    pub start_counter: u64,
    /// The run that showed it; `None` after a release: the next one is believed.
    pub instance: Option<InstanceId>,
    /// Since when it is held because its identity was seen twice.
    pub copied_since: Option<Timestamp>,
}

/// An API token to be written.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// Hash of its text.
    pub hash: SecretHash,
    /// Whose environments it reaches.
    pub customer: CustomerId,
    /// Names the principal in logs; unique.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Who an API token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenRecord {
    /// Whose environments it reaches.
    pub customer: CustomerId,
    /// Names the principal in logs.
    pub name: String,
}

/// A port on the relay's host that leads to a target at an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposureRecord {
    /// Names it in the API.
    pub id: ExposureId,
    /// Whose agent is reached.
    pub environment_id: EnvironmentId,
    /// The environment's name; ignored when written.
    pub environment: String,
    /// What is reached there.
    pub target: Target,
    /// Where the relay listens.
    pub listen: SocketAddr,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Why the store could not do it. Says what a person can do.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process holds the store's lock for longer than the patience.
    #[error("the store is locked by another process: stop it, or wait until it is done ({detail})")]
    Busy {
        /// The database's own words.
        detail: String,
    },
    /// The disk or the quota is full; nothing was written.
    #[error(
        "the disk of the data directory is full: free some space; nothing was half-written ({detail})"
    )]
    Full {
        /// The database's own words.
        detail: String,
    },
    /// What is in the file is no sound database.
    #[error(
        "the store is damaged: put `relay.db` back from a copy, or move it away to begin anew ({detail})"
    )]
    Corrupt {
        /// The database's own words.
        detail: String,
    },
    /// The file may not be read or written.
    #[error(
        "the store cannot be opened for writing: check owner and mode of the data directory and of `relay.db` ({detail})"
    )]
    Forbidden {
        /// The database's own words.
        detail: String,
    },
    /// A later release has written the store.
    #[error("the store was written by a later release: run that release, or later ({detail})")]
    TooNew {
        /// Which migration is not known.
        detail: String,
    },
    /// Anything else.
    #[error("the store failed: {detail}")]
    Failed {
        /// The database's own words.
        detail: String,
    },
}

/// Why an environment was not created.
#[derive(Debug, Error)]
pub enum CreateEnvironmentError {
    /// The customer has one of this name.
    #[error("an environment of this name exists")]
    NameTaken,
    /// The relay has as many as it may.
    #[error("the relay has as many environments as it may")]
    LimitReached,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a token was not redeemed.
#[derive(Debug, Error)]
pub enum RedeemError {
    /// No such token.
    #[error("the token is unknown")]
    Unknown,
    /// Another key has used it.
    #[error("the token has been used")]
    Used,
    /// It came too late.
    #[error("the token has expired")]
    Expired,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a run of the probe with an environment's token found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReportRecord {
    /// When it came.
    pub received_at: Timestamp,
    /// What is kept of it, as JSON.
    pub summary: String,
}

/// Why an exposure was not added.
#[derive(Debug, Error)]
pub enum AddExposureError {
    /// The environment has been removed meanwhile.
    #[error("the environment is unknown")]
    EnvironmentUnknown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What must survive a restart.
///
/// Methods on environments take the customer, so that nobody reaches another's.
#[async_trait]
pub trait Store: StackStore + fmt::Debug + Send + Sync {
    /// Counts one more start of the relay and forgets tokens expired before
    /// `forget_before`; returns the start's number, from 1.
    async fn boot(&self, forget_before: Timestamp) -> Result<u64, StoreError>;

    /// Whether the store answers, for readiness.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Adds an environment with its first token, while there are fewer than `limit`.
    async fn create_environment(
        &self,
        environment: NewEnvironment,
        limit: u64,
    ) -> Result<(), CreateEnvironmentError>;

    /// All environments of a customer by name.
    async fn environments(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<EnvironmentRecord>, StoreError>;

    /// How many environments of all customers there are, by what is known of them.
    async fn count_environments(&self) -> Result<EnvironmentCounts, StoreError>;

    /// Environments of all customers by name, at most `limit`, without their tags.
    async fn first_environments(&self, limit: u32) -> Result<Vec<EnvironmentRecord>, StoreError>;

    /// The customer's environment of this name.
    async fn environment_by_name(
        &self,
        customer: &CustomerId,
        name: &str,
    ) -> Result<Option<EnvironmentRecord>, StoreError>;

    /// The environment of this id, whosever it is.
    async fn environment_by_id(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<EnvironmentRecord>, StoreError>;

    /// Removes an environment with its agent, tokens and exposures; `false` if
    /// there was none.
    async fn remove_environment(&self, id: EnvironmentId) -> Result<bool, StoreError>;

    /// Writes a token and takes back the environment's unused earlier ones;
    /// `false` if the environment is gone.
    async fn create_enrolment_token(&self, token: EnrolmentToken) -> Result<bool, StoreError>;

    /// Uses a token: its environment's agent is from then on the given one.
    ///
    /// The same key may redeem the token again, even past its expiry, and gets the
    /// record of the first time: the welcome of the first time may have been lost.
    async fn redeem_token(
        &self,
        hash: &SecretHash,
        agent: NewAgent,
        now: Timestamp,
    ) -> Result<AgentRecord, RedeemError>;

    /// The agent, if it is enrolled.
    async fn agent(&self, agent_id: AgentId) -> Result<Option<AgentRecord>, StoreError>;

    /// Remembers a start of an agent's process; `false`, and nothing written, if
    /// the agent is held or a counter as high has been seen meanwhile.
    async fn record_start(
        &self,
        agent_id: AgentId,
        start_counter: u64,
        instance: InstanceId,
    ) -> Result<bool, StoreError>;

    /// Holds an agent whose identity was seen twice; the first time counts.
    async fn hold_copied(&self, agent_id: AgentId, now: Timestamp) -> Result<(), StoreError>;

    /// Ends a hold and forgets the start counter, so that the next one to come is
    /// believed; `false` if there is no such agent.
    async fn release(&self, agent_id: AgentId) -> Result<bool, StoreError>;

    /// Writes an API token, in place of an earlier one of its name.
    async fn put_api_token(&self, token: NewApiToken) -> Result<(), StoreError>;

    /// Who an API token speaks for.
    async fn api_token(&self, hash: &SecretHash) -> Result<Option<ApiTokenRecord>, StoreError>;

    /// Adds an exposure.
    async fn add_exposure(&self, exposure: ExposureRecord) -> Result<(), AddExposureError>;

    /// All exposures of all customers, oldest first.
    async fn exposures(&self) -> Result<Vec<ExposureRecord>, StoreError>;

    /// Removes an exposure; `false` if there was none.
    async fn remove_exposure(&self, id: ExposureId) -> Result<bool, StoreError>;

    /// Keeps a report for the environment of an unused token, in place of an earlier one, and
    /// gives the environment's name. The token stays unused.
    async fn keep_probe_report(
        &self,
        hash: &SecretHash,
        report: ProbeReportRecord,
        now: Timestamp,
    ) -> Result<String, RedeemError>;

    /// The newest report of an environment.
    async fn probe_report(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<ProbeReportRecord>, StoreError>;
}
