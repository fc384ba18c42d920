//! Stacks in SQLite: which connection each statement takes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::SqliteConnection;
use wire::id::EnvironmentId;

use super::{SqliteStore, stack, variable};
use crate::{
    id::CustomerId,
    store::{
        AssignError, AssignmentRecord, BlobRecord, DoneCommand, KeepError, NewAssignment,
        OutcomeRecord, RegistryLoginRecord, ReleaseRecord, StackStore, StoreError, VariableRecord,
        VariableScope,
    },
};

#[async_trait]
impl StackStore for SqliteStore {
    async fn missing_blobs(
        &self,
        customer: &CustomerId,
        digests: &[String],
    ) -> Result<Vec<String>, StoreError> {
        stack::missing_blobs(&mut *self.read().await?, customer, digests).await
    }

    async fn put_blob(&self, blob: BlobRecord, bytes_max: u64) -> Result<(), KeepError> {
        let mut write = self.begin().await?;
        let outcome = stack::put_blob(&mut write.connection, &blob, bytes_max).await;
        write.end(outcome).await
    }

    async fn blob(
        &self,
        customer: &CustomerId,
        digest: &str,
    ) -> Result<Option<BlobRecord>, StoreError> {
        stack::blob(&mut *self.read().await?, customer, digest).await
    }

    async fn add_release(
        &self,
        release: ReleaseRecord,
        limit: u64,
    ) -> Result<ReleaseRecord, KeepError> {
        let mut write = self.begin().await?;
        let outcome = stack::add_release(&mut write.connection, &release, limit).await;
        write.end(outcome).await
    }

    async fn releases(
        &self,
        customer: &CustomerId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<ReleaseRecord>, StoreError> {
        stack::releases(&mut *self.read().await?, customer, stack, limit).await
    }

    async fn stack_release(
        &self,
        customer: &CustomerId,
        stack: &str,
        number: u64,
    ) -> Result<Option<ReleaseRecord>, StoreError> {
        stack::release(&mut *self.read().await?, customer, stack, number).await
    }

    async fn learn_pins(
        &self,
        customer: &CustomerId,
        release: (&str, u64),
        pins: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        let outcome = stack::learn_pins(&mut write.connection, customer, release, pins).await;
        write.end(outcome).await
    }

    async fn assign(
        &self,
        variables: Vec<VariableRecord>,
        assignments: Vec<NewAssignment>,
        done: Option<DoneCommand>,
    ) -> Result<Vec<AssignmentRecord>, AssignError> {
        let mut write = self.begin().await?;
        let outcome = assign(&mut write.connection, &variables, &assignments, done).await;
        write.end(outcome).await
    }

    async fn assignments(
        &self,
        environment: EnvironmentId,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        stack::assignments(&mut *self.read().await?, environment).await
    }

    async fn customer_assignments(
        &self,
        customer: &CustomerId,
        stack: Option<&str>,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        stack::customer_assignments(&mut *self.read().await?, customer, stack).await
    }

    async fn assignment_history(
        &self,
        environment: EnvironmentId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        stack::assignment_history(&mut *self.read().await?, environment, stack, limit).await
    }

    async fn assignment_content(
        &self,
        environment: EnvironmentId,
        stack: &str,
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        stack::assignment_content(&mut *self.read().await?, environment, stack, number).await
    }

    async fn settle(
        &self,
        environment: EnvironmentId,
        assigned: (&str, u64),
        outcome: OutcomeRecord,
    ) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = stack::settle(&mut write.connection, environment, assigned, &outcome).await;
        write.end(outcome).await
    }

    async fn assigned_environments(&self) -> Result<Vec<EnvironmentId>, StoreError> {
        stack::assigned_environments(&mut *self.read().await?).await
    }

    async fn put_variable(&self, variable: VariableRecord) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = variable::put(&mut write.connection, &variable).await;
        write.end(outcome).await
    }

    async fn variables(&self, customer: &CustomerId) -> Result<Vec<VariableRecord>, StoreError> {
        variable::list(&mut *self.read().await?, customer).await
    }

    async fn remove_variable(
        &self,
        customer: &CustomerId,
        scope: &VariableScope,
        name: &str,
    ) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = variable::remove(&mut write.connection, customer, scope, name).await;
        write.end(outcome).await
    }

    async fn put_registry_login(&self, login: RegistryLoginRecord) -> Result<(), StoreError> {
        let mut write = self.begin().await?;
        let outcome = variable::put_login(&mut write.connection, &login).await;
        write.end(outcome).await
    }

    async fn registry_logins(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<RegistryLoginRecord>, StoreError> {
        variable::logins(&mut *self.read().await?, customer).await
    }

    async fn remove_registry_login(
        &self,
        customer: &CustomerId,
        host: &str,
    ) -> Result<bool, StoreError> {
        let mut write = self.begin().await?;
        let outcome = variable::remove_login(&mut write.connection, customer, host).await;
        write.end(outcome).await
    }

    async fn done_command(
        &self,
        customer: &CustomerId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<DoneCommand>, StoreError> {
        let mut write = self.begin().await?;
        let outcome = stack::done_command(&mut write.connection, customer, key, since).await;
        write.end(outcome).await
    }
}

/// All of a command's writes.
async fn assign(
    connection: &mut SqliteConnection,
    variables: &[VariableRecord],
    assignments: &[NewAssignment],
    done: Option<DoneCommand>,
) -> Result<Vec<AssignmentRecord>, AssignError> {
    for variable in variables {
        if !variable::put(connection, variable).await? {
            return Err(AssignError::EnvironmentUnknown);
        }
    }
    if let Some(done) = &done {
        stack::note_done(connection, done).await?;
    }
    let mut assigned = Vec::with_capacity(assignments.len());
    for new in assignments {
        assigned.push(stack::assign(connection, new).await?);
    }
    Ok(assigned)
}
