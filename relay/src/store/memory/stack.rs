//! Stacks in memory, by the same rules as in a database.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use wire::id::EnvironmentId;

use super::MemoryStore;
use crate::{
    id::CustomerId,
    store::{
        AssignError, AssignmentRecord, BlobRecord, DoneCommand, KeepError, NewAssignment,
        OutcomeRecord, RegistryLoginRecord, ReleaseRecord, StackStore, StoreError, VariableRecord,
        VariableScope,
    },
};

type ReleaseKey = (CustomerId, String, u64);
type VariableKey = (CustomerId, String, VariableScope);

/// Everything about stacks.
#[derive(Debug, Default)]
pub(super) struct StackTables {
    blobs: BTreeMap<(CustomerId, String), BlobRecord>,
    releases: BTreeMap<ReleaseKey, ReleaseRecord>,
    assignments: BTreeMap<(EnvironmentId, String), Vec<Assigned>>,
    variables: BTreeMap<VariableKey, VariableRecord>,
    logins: BTreeMap<(CustomerId, String), RegistryLoginRecord>,
    commands: BTreeMap<(CustomerId, String), DoneCommand>,
}

#[derive(Debug)]
struct Assigned {
    record: AssignmentRecord,
    sealed: Option<Vec<u8>>,
}

impl StackTables {
    /// An environment is gone, and what hangs on it.
    pub(super) fn forget(&mut self, environment: EnvironmentId) {
        self.assignments.retain(|(id, _), _| *id != environment);
        let scope = VariableScope::Environment(environment);
        self.variables.retain(|(_, _, of), _| *of != scope);
    }

    fn put_variable(&mut self, variable: VariableRecord) {
        let key = (
            variable.customer.clone(),
            variable.name.clone(),
            variable.scope.clone(),
        );
        self.variables.insert(key, variable);
    }

    fn assign(&mut self, new: NewAssignment) -> AssignmentRecord {
        let key = (new.environment, new.stack.clone());
        let history = self.assignments.entry(key).or_default();
        let last = history.last_mut();
        let number = last.as_ref().map_or(0, |last| last.record.number);
        if let Some(last) = last {
            last.sealed = None;
        }
        let record = AssignmentRecord::of(&new, number.max(new.above) + 1);
        history.push(Assigned {
            record: record.clone(),
            sealed: Some(new.sealed),
        });
        record
    }

    fn newest(&self) -> impl Iterator<Item = &AssignmentRecord> {
        let all = self.assignments.values();
        all.filter_map(|history| Some(&history.last()?.record))
    }
}

#[async_trait]
impl StackStore for MemoryStore {
    async fn missing_blobs(
        &self,
        customer: &CustomerId,
        digests: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let tables = self.tables();
        let is_missing = |digest: &&String| {
            let key = (customer.clone(), (*digest).clone());
            !tables.stacks.blobs.contains_key(&key)
        };
        Ok(digests.iter().filter(is_missing).cloned().collect())
    }

    async fn put_blob(&self, blob: BlobRecord, bytes_max: u64) -> Result<(), KeepError> {
        let blobs = &mut self.tables().stacks.blobs;
        let key = (blob.customer.clone(), blob.digest.clone());
        if blobs.contains_key(&key) {
            return Ok(());
        }
        let own = blobs.values().filter(|had| had.customer == blob.customer);
        if own.map(|had| had.size).sum::<u64>() + blob.size > bytes_max {
            return Err(KeepError::LimitReached);
        }
        blobs.insert(key, blob);
        Ok(())
    }

    async fn blob(
        &self,
        customer: &CustomerId,
        digest: &str,
    ) -> Result<Option<BlobRecord>, StoreError> {
        let key = (customer.clone(), digest.to_owned());
        Ok(self.tables().stacks.blobs.get(&key).cloned())
    }

    async fn add_release(
        &self,
        release: ReleaseRecord,
        limit: u64,
    ) -> Result<ReleaseRecord, KeepError> {
        let releases = &mut self.tables().stacks.releases;
        let of =
            |had: &&ReleaseRecord| had.customer == release.customer && had.stack == release.stack;
        let own: Vec<&ReleaseRecord> = releases.values().filter(of).collect();
        if let Some(same) = own.iter().find(|had| had.digest == release.digest) {
            return Ok((*same).clone());
        }
        if own.len() as u64 >= limit {
            return Err(KeepError::LimitReached);
        }
        let number = own.last().map_or(0, |last| last.number) + 1;
        let record = ReleaseRecord {
            number,
            pins: BTreeMap::new(),
            ..release
        };
        let key = (record.customer.clone(), record.stack.clone(), number);
        releases.insert(key, record.clone());
        Ok(record)
    }

    async fn releases(
        &self,
        customer: &CustomerId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<ReleaseRecord>, StoreError> {
        let tables = self.tables();
        let all = tables.stacks.releases.values().rev();
        let own = all.filter(|had| had.customer == *customer && had.stack == stack);
        Ok(own.take(limit as usize).cloned().collect())
    }

    async fn stack_release(
        &self,
        customer: &CustomerId,
        stack: &str,
        number: u64,
    ) -> Result<Option<ReleaseRecord>, StoreError> {
        let key = (customer.clone(), stack.to_owned(), number);
        Ok(self.tables().stacks.releases.get(&key).cloned())
    }

    async fn learn_pins(
        &self,
        customer: &CustomerId,
        (stack, number): (&str, u64),
        pins: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let key = (customer.clone(), stack.to_owned(), number);
        if let Some(release) = self.tables().stacks.releases.get_mut(&key) {
            for (image, digest) in pins {
                let pin = release.pins.entry(image.clone());
                pin.or_insert_with(|| digest.clone());
            }
        }
        Ok(())
    }

    async fn assign(
        &self,
        variables: Vec<VariableRecord>,
        assignments: Vec<NewAssignment>,
        done: Option<DoneCommand>,
    ) -> Result<Vec<AssignmentRecord>, AssignError> {
        let tables = &mut *self.tables();
        let is_gone = |new: &NewAssignment| !tables.environments.contains_key(&new.environment);
        if assignments.iter().any(is_gone) {
            return Err(AssignError::EnvironmentUnknown);
        }
        let stacks = &mut tables.stacks;
        for variable in variables {
            stacks.put_variable(variable);
        }
        if let Some(done) = done {
            let key = (done.customer.clone(), done.key.clone());
            stacks.commands.insert(key, done);
        }
        let assigned = assignments.into_iter().map(|new| stacks.assign(new));
        Ok(assigned.collect())
    }

    async fn assignments(
        &self,
        environment: EnvironmentId,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        let tables = self.tables();
        let newest = tables.stacks.newest();
        let own = newest.filter(|record| record.environment == environment);
        Ok(own.cloned().collect())
    }

    async fn customer_assignments(
        &self,
        customer: &CustomerId,
        stack: Option<&str>,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        let tables = self.tables();
        let own = tables.stacks.newest().filter(|record| {
            let environment = tables.environments.get(&record.environment);
            let is_own = environment.is_some_and(|one| one.customer == *customer);
            is_own && stack.is_none_or(|stack| record.stack == stack)
        });
        Ok(own.cloned().collect())
    }

    async fn assignment_history(
        &self,
        environment: EnvironmentId,
        stack: &str,
        limit: u32,
    ) -> Result<Vec<AssignmentRecord>, StoreError> {
        let tables = self.tables();
        let key = (environment, stack.to_owned());
        let history = tables.stacks.assignments.get(&key);
        let newest_first = history.into_iter().flatten().rev();
        let some = newest_first.take(limit as usize);
        Ok(some.map(|assigned| assigned.record.clone()).collect())
    }

    async fn assignment_content(
        &self,
        environment: EnvironmentId,
        stack: &str,
        number: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let tables = self.tables();
        let key = (environment, stack.to_owned());
        let last = tables
            .stacks
            .assignments
            .get(&key)
            .and_then(|all| all.last());
        let wanted = last.filter(|last| last.record.number == number);
        Ok(wanted.and_then(|assigned| assigned.sealed.clone()))
    }

    async fn settle(
        &self,
        environment: EnvironmentId,
        (stack, number): (&str, u64),
        outcome: OutcomeRecord,
    ) -> Result<bool, StoreError> {
        let tables = &mut self.tables().stacks;
        let history = tables.assignments.get_mut(&(environment, stack.to_owned()));
        let mut all = history.into_iter().flatten();
        let Some(assigned) = all.find(|assigned| assigned.record.number == number) else {
            return Ok(false);
        };
        let known = assigned.record.outcome.as_ref();
        if known.is_some_and(|had| had.phase == outcome.phase && had.cause == outcome.cause) {
            return Ok(false);
        }
        assigned.record.outcome = Some(outcome);
        Ok(true)
    }

    async fn assigned_environments(&self) -> Result<Vec<EnvironmentId>, StoreError> {
        let tables = self.tables();
        let mut all: Vec<_> = tables
            .stacks
            .assignments
            .keys()
            .map(|(id, _)| *id)
            .collect();
        all.dedup();
        Ok(all)
    }

    async fn put_variable(&self, variable: VariableRecord) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        if let VariableScope::Environment(id) = &variable.scope
            && !tables.environments.contains_key(id)
        {
            return Ok(false);
        }
        tables.stacks.put_variable(variable);
        Ok(true)
    }

    async fn variables(&self, customer: &CustomerId) -> Result<Vec<VariableRecord>, StoreError> {
        let tables = self.tables();
        let all = tables.stacks.variables.values();
        let own = all.filter(|variable| variable.customer == *customer);
        Ok(own.cloned().collect())
    }

    async fn remove_variable(
        &self,
        customer: &CustomerId,
        scope: &VariableScope,
        name: &str,
    ) -> Result<bool, StoreError> {
        let key = (customer.clone(), name.to_owned(), scope.clone());
        Ok(self.tables().stacks.variables.remove(&key).is_some())
    }

    async fn put_registry_login(&self, login: RegistryLoginRecord) -> Result<(), StoreError> {
        let key = (login.customer.clone(), login.host.clone());
        self.tables().stacks.logins.insert(key, login);
        Ok(())
    }

    async fn registry_logins(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<RegistryLoginRecord>, StoreError> {
        let tables = self.tables();
        let all = tables.stacks.logins.values();
        Ok(all
            .filter(|had| had.customer == *customer)
            .cloned()
            .collect())
    }

    async fn remove_registry_login(
        &self,
        customer: &CustomerId,
        host: &str,
    ) -> Result<bool, StoreError> {
        let key = (customer.clone(), host.to_owned());
        Ok(self.tables().stacks.logins.remove(&key).is_some())
    }

    async fn done_command(
        &self,
        customer: &CustomerId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<DoneCommand>, StoreError> {
        let commands = &mut self.tables().stacks.commands;
        commands.retain(|_, done| done.done_at >= since);
        Ok(commands.get(&(customer.clone(), key.to_owned())).cloned())
    }
}
