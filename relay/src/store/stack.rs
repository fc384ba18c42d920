//! What the store keeps of stacks: releases, who shall run them, and what they are made of.
//!
//! What may be secret comes sealed, and the store cannot open it.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;
use wire::id::EnvironmentId;

use super::StoreError;
use crate::id::CustomerId;

/// A file of releases.
#[derive(Clone, PartialEq, Eq)]
pub struct BlobRecord {
    /// Whose it is.
    pub customer: CustomerId,
    /// `sha256:…` of its bytes.
    pub digest: String,
    /// Bytes, before they were sealed.
    pub size: u64,
    /// Its bytes, sealed.
    pub sealed: Vec<u8>,
    /// When it came.
    pub created_at: Timestamp,
}

/// A release as the store has it: never changed, but for pins that are learnt.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseRecord {
    /// Whose it is.
    pub customer: CustomerId,
    /// The stack's name.
    pub stack: String,
    /// Counts up for every stack, from 1. Ignored when written.
    pub number: u64,
    /// `sha256:…` of the manifest: the same content is the same release.
    pub digest: String,
    /// What it is made of, as canonical JSON.
    pub manifest: String,
    /// Who made it.
    pub author: String,
    /// What its author has to say.
    pub note: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What image references turned out to be. Ignored when written.
    pub pins: BTreeMap<String, String>,
}

/// What an environment shall run of a stack, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentRecord {
    /// Where.
    pub environment: EnvironmentId,
    /// The stack's name.
    pub stack: String,
    /// Counts up for every environment and stack.
    pub number: u64,
    /// Which release; `None`: nothing shall run.
    pub release: Option<u64>,
    /// Equal for equal content.
    pub fingerprint: String,
    /// Who assigned it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
    /// For how long the agent may be at it.
    pub deadline_seconds: u32,
    /// What became of it, once that is known.
    pub outcome: Option<OutcomeRecord>,
}

/// What became of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// Such as `committed`.
    pub phase: String,
    /// Why, as JSON, where it is not as it was asked for.
    pub cause: Option<String>,
    /// When the relay heard of it.
    pub at: Timestamp,
}

/// An assignment to be written. It is the environment's and stack's newest from then on, and
/// the content of the former one is forgotten.
#[derive(Clone, PartialEq, Eq)]
pub struct NewAssignment {
    /// Where.
    pub environment: EnvironmentId,
    /// The stack's name.
    pub stack: String,
    /// The number is above this one, and above every earlier one of the store.
    pub above: u64,
    /// Which release; `None`: nothing shall run.
    pub release: Option<u64>,
    /// Equal for equal content.
    pub fingerprint: String,
    /// The content, sealed.
    pub sealed: Vec<u8>,
    /// Who assigns it.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
    /// For how long the agent may be at it.
    pub deadline_seconds: u32,
}

/// Whose value a variable is: of everything, of an environment, or of a stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum VariableScope {
    /// Every stack everywhere.
    Global,
    /// Every stack of this environment.
    Environment(EnvironmentId),
    /// This stack everywhere.
    Stack(String),
}

/// A variable at one level.
#[derive(Clone, PartialEq, Eq)]
pub struct VariableRecord {
    /// Whose it is.
    pub customer: CustomerId,
    /// Where it counts.
    pub scope: VariableScope,
    /// As Compose files name it.
    pub name: String,
    /// `string`, `int` or `bool`.
    pub kind: String,
    /// Its value is shown to nobody.
    pub is_secret: bool,
    /// Without a value nothing is deployed.
    pub is_required: bool,
    /// Its value, sealed; `None`: it is declared, and has none at this level.
    pub sealed: Option<Vec<u8>>,
    /// When it was written.
    pub updated_at: Timestamp,
}

/// How to log in to a registry of images.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryLoginRecord {
    /// Whose it is.
    pub customer: CustomerId,
    /// The registry, as image references name it.
    pub host: String,
    /// The account.
    pub account: String,
    /// Its password or token, sealed.
    pub sealed: Vec<u8>,
    /// When it was written.
    pub updated_at: Timestamp,
}

/// A command that was done, under the key that its asker gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneCommand {
    /// Whose it is.
    pub customer: CustomerId,
    /// The asker's key.
    pub key: String,
    /// What was asked for.
    pub fingerprint: String,
    /// What was answered.
    pub answer: String,
    /// When.
    pub done_at: Timestamp,
}

/// Why a blob or release was not added.
#[derive(Debug, Error)]
pub enum KeepError {
    /// There are as many as may be.
    #[error("the store keeps as much as it may")]
    LimitReached,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why nothing was assigned.
#[derive(Debug, Error)]
pub enum AssignError {
    /// An environment has been removed meanwhile.
    #[error("an environment is unknown")]
    EnvironmentUnknown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The part of the store that is about stacks.
#[async_trait]
pub trait StackStore: fmt::Debug + Send + Sync {
    /// Which of these digests the customer has no blob of, in their order.
    async fn missing_blobs(
        &self,
        customer: &CustomerId,
        digests: &[String],
    ) -> Result<Vec<String>, StoreError>;

    /// Keeps a blob, while the customer's have no more than `bytes_max` bytes. One that is
    /// there stays as it is.
    async fn put_blob(&self, blob: BlobRecord, bytes_max: u64) -> Result<(), KeepError>;

    /// The customer's blob of this digest.
    async fn blob(
        &self,
        customer: &CustomerId,
        digest: &str,
    ) -> Result<Option<BlobRecord>, StoreError>;

    /// Adds a release with the stack's next number, while it has fewer than `limit`. Where
    /// there is one of its digest, nothing is written. Gives the one that is there then.
    async fn add_release(
        &self,
        release: ReleaseRecord,
        limit: u64,
    ) -> Result<ReleaseRecord, KeepError>;

    /// The stack's releases, newest first, at most `limit`.
    async fn releases(
        &self,
        customer: &CustomerId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<ReleaseRecord>, StoreError>;

    /// One release.
    async fn stack_release(
        &self,
        customer: &CustomerId,
        stack: &str,
        number: u64,
    ) -> Result<Option<ReleaseRecord>, StoreError>;

    /// Keeps what images of a release turned out to be. What is known already stays.
    async fn learn_pins(
        &self,
        customer: &CustomerId,
        (stack, number): (&str, u64),
        pins: &BTreeMap<String, String>,
    ) -> Result<(), StoreError>;

    /// Writes variables and assignments, and that the command is done: all or nothing.
    /// Gives the assignments in their order, with their numbers.
    async fn assign(
        &self,
        variables: Vec<VariableRecord>,
        assignments: Vec<NewAssignment>,
        done: Option<DoneCommand>,
    ) -> Result<Vec<AssignmentRecord>, AssignError>;

    /// The newest assignment of each stack of an environment, by stack.
    async fn assignments(
        &self,
        environment: EnvironmentId,
    ) -> Result<Vec<AssignmentRecord>, StoreError>;

    /// The newest assignments of all environments of a customer, of one stack or of all, by
    /// environment and stack.
    async fn customer_assignments(
        &self,
        customer: &CustomerId,
        stack: Option<&str>,
    ) -> Result<Vec<AssignmentRecord>, StoreError>;

    /// An environment's assignments of a stack, newest first, at most `limit`.
    async fn assignment_history(
        &self,
        environment: EnvironmentId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<AssignmentRecord>, StoreError>;

    /// The sealed content of an assignment, while it is the newest.
    async fn assignment_content(
        &self,
        environment: EnvironmentId,
        stack: &str,
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps what became of an assignment; `false` where there is none or the same is known.
    async fn settle(
        &self,
        environment: EnvironmentId,
        (stack, number): (&str, u64),
        outcome: OutcomeRecord,
    ) -> Result<bool, StoreError>;

    /// Environments that anything was ever assigned to.
    async fn assigned_environments(&self) -> Result<Vec<EnvironmentId>, StoreError>;

    /// Writes a variable in place of an earlier one; `false` where its environment is gone.
    async fn put_variable(&self, variable: VariableRecord) -> Result<bool, StoreError>;

    /// All of a customer's variables, by name, the more general first.
    async fn variables(&self, customer: &CustomerId) -> Result<Vec<VariableRecord>, StoreError>;

    /// Removes a variable at one level; `false` if there was none.
    async fn remove_variable(
        &self,
        customer: &CustomerId,
        scope: &VariableScope,
        name: &str,
    ) -> Result<bool, StoreError>;

    /// Writes a login in place of an earlier one for its host.
    async fn put_registry_login(&self, login: RegistryLoginRecord) -> Result<(), StoreError>;

    /// A customer's logins, by host.
    async fn registry_logins(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<RegistryLoginRecord>, StoreError>;

    /// Removes a login; `false` if there was none.
    async fn remove_registry_login(
        &self,
        customer: &CustomerId,
        host: &str,
    ) -> Result<bool, StoreError>;

    /// What was done under this key, not before `since`; older ones are forgotten.
    async fn done_command(
        &self,
        customer: &CustomerId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<DoneCommand>, StoreError>;
}

impl AssignmentRecord {
    /// What was written, with the number that it got.
    pub(super) fn of(new: &NewAssignment, number: u64) -> Self {
        Self {
            environment: new.environment,
            stack: new.stack.clone(),
            number,
            release: new.release,
            fingerprint: new.fingerprint.clone(),
            author: new.author.clone(),
            created_at: new.created_at,
            deadline_seconds: new.deadline_seconds,
            outcome: None,
        }
    }
}

impl fmt::Debug for BlobRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({}, {} bytes)", self.digest, self.size)
    }
}

impl fmt::Debug for ReleaseRecord {
    /// The manifest is left out: variables stand in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Release({} r{}, {})",
            self.stack, self.number, self.digest
        )
    }
}

impl fmt::Debug for NewAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewAssignment({} at {})", self.stack, self.environment)
    }
}

impl fmt::Debug for VariableRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variable({} of {:?})", self.name, self.scope)
    }
}

impl fmt::Debug for RegistryLoginRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryLogin({} at {})", self.account, self.host)
    }
}
