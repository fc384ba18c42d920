//! Stacks with a stop-watch.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use wire::id::EnvironmentId;

use super::{Failure, TimedStore};
use crate::{
    id::CustomerId,
    store::{
        AssignError, AssignmentRecord, BlobRecord, DoneCommand, KeepError, NewAssignment,
        OutcomeRecord, RegistryLoginRecord, ReleaseRecord, StackStore, Store, StoreError,
        VariableRecord, VariableScope,
    },
};

impl Failure for KeepError {
    fn cause(&self) -> Option<&'static str> {
        match self {
            Self::LimitReached => None,
            Self::Store(error) => error.cause(),
        }
    }
}

impl Failure for AssignError {
    fn cause(&self) -> Option<&'static str> {
        match self {
            Self::EnvironmentUnknown => None,
            Self::Store(error) => error.cause(),
        }
    }
}

#[async_trait]
impl<S: Store> StackStore for TimedStore<S> {
    async fn missing_blobs(
        &self,
        customer: &CustomerId,
        digests: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let done = self.store.missing_blobs(customer, digests);
        self.timed("missing_blobs", done).await
    }

    async fn put_blob(&self, blob: BlobRecord, bytes_max: u64) -> Result<(), KeepError> {
        let done = self.store.put_blob(blob, bytes_max);
        self.timed("put_blob", done).await
    }

    async fn blob(
        &self,
        customer: &CustomerId,
        digest: &str,
    ) -> Result<Option<BlobRecord>, StoreError> {
        let done = self.store.blob(customer, digest);
        self.timed("blob", done).await
    }

    async fn add_release(
        &self,
        release: ReleaseRecord,
        limit: u64,
    ) -> Result<ReleaseRecord, KeepError> {
        let done = self.store.add_release(release, limit);
        self.timed("add_release", done).await
    }

    async fn releases(
        &self,
        customer: &CustomerId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<ReleaseRecord>, StoreError> {
        let done = self.store.releases(customer, stack, limit);
        self.timed("releases", done).await
    }

    async fn stack_release(
        &self,
        customer: &CustomerId,
        stack: &str,
        number: u64,
    ) -> Result<Option<ReleaseRecord>, StoreError> {
        let done = self.store.stack_release(customer, stack, number);
        self.timed("stack_release", done).await
    }

    async fn learn_pins(
        &self,
        customer: &CustomerId,
        release: (&str, u64),
        pins: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let done = self.store.learn_pins(customer, release, pins);
        self.timed("learn_pins", done).await
    }

    async fn assign(
        &self,
        variables: Vec<VariableRecord>,
        assignments: Vec<NewAssignment>,
        done: Option<DoneCommand>,
    ) -> Result<Vec<AssignmentRecord>, AssignError> {
        let done = self.store.assign(variables, assignments, done);
        self.timed("assign", done).await
    }

    async fn assignments(
        &self,
        environment: EnvironmentId,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        let done = self.store.assignments(environment);
        self.timed("assignments", done).await
    }

    async fn customer_assignments(
        &self,
        customer: &CustomerId,
        stack: Option<&str>,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        let done = self.store.customer_assignments(customer, stack);
        self.timed("customer_assignments", done).await
    }

    async fn assignment_history(
        &self,
        environment: EnvironmentId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        let done = self.store.assignment_history(environment, stack, limit);
        self.timed("assignment_history", done).await
    }

    async fn assignment_content(
        &self,
        environment: EnvironmentId,
        stack: &str,
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let done = self.store.assignment_content(environment, stack, number);
        self.timed("assignment_content", done).await
    }

    async fn settle(
        &self,
        environment: EnvironmentId,
        assigned: (&str, u64),
        outcome: OutcomeRecord,
    ) -> Result<bool, StoreError> {
        let done = self.store.settle(environment, assigned, outcome);
        self.timed("settle", done).await
    }

    async fn assigned_environments(&self) -> Result<Vec<EnvironmentId>, StoreError> {
        let done = self.store.assigned_environments();
        self.timed("assigned_environments", done).await
    }

    async fn put_variable(&self, variable: VariableRecord) -> Result<bool, StoreError> {
        let done = self.store.put_variable(variable);
        self.timed("put_variable", done).await
    }

    async fn variables(&self, customer: &CustomerId) -> Result<Vec<VariableRecord>, StoreError> {
        let done = self.store.variables(customer);
        self.timed("variables", done).await
    }

    async fn remove_variable(
        &self,
        customer: &CustomerId,
        scope: &VariableScope,
        name: &str,
    ) -> Result<bool, StoreError> {
        let done = self.store.remove_variable(customer, scope, name);
        self.timed("remove_variable", done).await
    }

    async fn put_registry_login(&self, login: RegistryLoginRecord) -> Result<(), StoreError> {
        let done = self.store.put_registry_login(login);
        self.timed("put_registry_login", done).await
    }

    async fn registry_logins(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<RegistryLoginRecord>, StoreError> {
        let done = self.store.registry_logins(customer);
        self.timed("registry_logins", done).await
    }

    async fn remove_registry_login(
        &self,
        customer: &CustomerId,
        host: &str,
    ) -> Result<bool, StoreError> {
        let done = self.store.remove_registry_login(customer, host);
        self.timed("remove_registry_login", done).await
    }

    async fn done_command(
        &self,
        customer: &CustomerId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<DoneCommand>, StoreError> {
        let done = self.store.done_command(customer, key, since);
        self.timed("done_command", done).await
    }
}
