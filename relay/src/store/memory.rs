//! The store in memory, for a relay whose world is simulated: nothing outlives the process.
//!
//! A database has threads and waits of its own, which virtual time does not know. Here every
//! operation is done when it is first polled. The rules are those of the contract, which runs
//! against this store as against any other; a relay that is started again in the same
//! process over the same store finds what its predecessor wrote.

mod stack;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;
use wire::{
    id::{AgentId, EnvironmentId, InstanceId},
    key::PublicKey,
};

use super::{
    AddExposureError, AgentRecord, ApiTokenRecord, CreateEnvironmentError, EnrolledAgent,
    EnrolmentToken, EnvironmentRecord, ExposureRecord, NewAgent, NewApiToken, NewEnvironment,
    ProbeReportRecord, RedeemError, Store, StoreError,
};
use crate::{
    credential::SecretHash,
    id::{CustomerId, ExposureId},
    metrics::EnvironmentCounts,
};

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

/// The bytes of a hash: they tell nothing that helps to guess a random secret, so that an
/// ordered map may compare them one after the other.
type HashBytes = [u8; 32];

#[derive(Debug, Default)]
struct Tables {
    generation: u64,
    environments: BTreeMap<EnvironmentId, Environment>,
    names: BTreeMap<(CustomerId, String), EnvironmentId>,
    agents: BTreeMap<AgentId, Agent>,
    tokens: BTreeMap<HashBytes, Token>,
    api_tokens: BTreeMap<HashBytes, ApiTokenRecord>,
    exposures: BTreeMap<ExposureId, ExposureRecord>,
    stacks: stack::StackTables,
}

#[derive(Debug)]
struct Environment {
    customer: CustomerId,
    name: String,
    tags: BTreeMap<String, String>,
    created_at: Timestamp,
    agent: Option<AgentId>,
    probe_report: Option<ProbeReportRecord>,
}

#[derive(Debug)]
struct Agent {
    environment: EnvironmentId,
    public_key: PublicKey,
    enrolled_at: Timestamp,
    start_counter: u64,
    instance: Option<InstanceId>,
    copied_since: Option<Timestamp>,
}

#[derive(Debug)]
struct Token {
    environment: EnvironmentId,
    expires_at: Timestamp,
    /// Who used it. A replaced agent's token stays used.
    used_by: Option<AgentId>,
}

impl MemoryStore {
    /// An empty store, of a relay that has never started.
    pub fn new() -> Self {
        Self::default()
    }

    /// Consistent between any two statements of its holder: no operation panics half-way.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn environment(&self, id: EnvironmentId) -> Option<EnvironmentRecord> {
        let environment = self.environments.get(&id)?;
        let enrolled = |agent_id| {
            let agent = self.agents.get(&agent_id)?;
            Some(EnrolledAgent {
                agent_id,
                enrolled_at: agent.enrolled_at,
                copied_since: agent.copied_since,
            })
        };
        Some(EnvironmentRecord {
            id,
            customer: environment.customer.clone(),
            name: environment.name.clone(),
            tags: environment.tags.clone(),
            created_at: environment.created_at,
            agent: environment.agent.and_then(enrolled),
        })
    }

    fn agent(&self, agent_id: AgentId) -> Option<AgentRecord> {
        let agent = self.agents.get(&agent_id)?;
        let environment = self.environments.get(&agent.environment)?;
        Some(AgentRecord {
            agent_id,
            environment_id: agent.environment,
            environment: environment.name.clone(),
            public_key: agent.public_key,
            start_counter: agent.start_counter,
            instance: agent.instance,
            copied_since: agent.copied_since,
        })
    }

    fn create(
        &mut self,
        new: NewEnvironment,
        environments_max: u64,
    ) -> Result<(), CreateEnvironmentError> {
        if self.environments.len() as u64 >= environments_max {
            return Err(CreateEnvironmentError::LimitReached);
        }
        let name = (new.customer.clone(), new.name.clone());
        if self.names.contains_key(&name) || self.environments.contains_key(&new.id) {
            return Err(CreateEnvironmentError::NameTaken);
        }
        self.names.insert(name, new.id);
        let token = Token {
            environment: new.id,
            expires_at: new.token.expires_at,
            used_by: None,
        };
        self.tokens.insert(*new.token.hash.as_bytes(), token);
        let environment = Environment {
            customer: new.customer,
            name: new.name,
            tags: new.tags,
            created_at: new.created_at,
            agent: None,
            probe_report: None,
        };
        self.environments.insert(new.id, environment);
        Ok(())
    }

    fn remove(&mut self, id: EnvironmentId) -> bool {
        let Some(environment) = self.environments.remove(&id) else {
            return false;
        };
        self.names.remove(&(environment.customer, environment.name));
        if let Some(agent) = environment.agent {
            self.agents.remove(&agent);
        }
        self.tokens.retain(|_, token| token.environment != id);
        self.exposures
            .retain(|_, exposure| exposure.environment_id != id);
        self.stacks.forget(id);
        true
    }

    fn redeem(
        &mut self,
        hash: &SecretHash,
        new: NewAgent,
        now: Timestamp,
    ) -> Result<AgentRecord, RedeemError> {
        let Some(token) = self.tokens.get_mut(hash.as_bytes()) else {
            return Err(RedeemError::Unknown);
        };
        if let Some(user) = token.used_by {
            // Good once more for the key that used it, and for nobody else.
            let record = self.agent(user);
            return record
                .filter(|record| record.public_key == new.public_key)
                .ok_or(RedeemError::Used);
        }
        if now >= token.expires_at {
            return Err(RedeemError::Expired);
        }
        let id = token.environment;
        let Some(environment) = self.environments.get_mut(&id) else {
            return Err(RedeemError::Unknown);
        };
        token.used_by = Some(new.agent_id);
        if let Some(former) = environment.agent.replace(new.agent_id) {
            self.agents.remove(&former);
        }
        let agent = Agent {
            environment: id,
            public_key: new.public_key,
            enrolled_at: now,
            start_counter: new.start_counter,
            instance: Some(new.instance),
            copied_since: None,
        };
        self.agents.insert(new.agent_id, agent);
        // Written two lines above.
        self.agent(new.agent_id).ok_or(RedeemError::Unknown)
    }

    /// Environments in the order of their names, and of their ids where customers share one.
    fn by_name(&self, wanted: impl Fn(&Environment) -> bool) -> Vec<EnvironmentRecord> {
        let ids: BTreeSet<(&str, EnvironmentId)> = self
            .environments
            .iter()
            .filter(|(_, environment)| wanted(environment))
            .map(|(id, environment)| (environment.name.as_str(), *id))
            .collect();
        ids.into_iter()
            .filter_map(|(_, id)| self.environment(id))
            .collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn boot(&self, forget_before: Timestamp) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        tables
            .tokens
            .retain(|_, token| token.expires_at >= forget_before);
        tables.generation += 1;
        Ok(tables.generation)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn create_environment(
        &self,
        environment: NewEnvironment,
        limit: u64,
    ) -> Result<(), CreateEnvironmentError> {
        self.tables().create(environment, limit)
    }

    async fn environments(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<EnvironmentRecord>, StoreError> {
        Ok(self
            .tables()
            .by_name(|environment| environment.customer == *customer))
    }

    async fn count_environments(&self) -> Result<EnvironmentCounts, StoreError> {
        let tables = self.tables();
        let all = tables.environments.len() as u64;
        let agents = tables.agents.len() as u64;
        let is_held = |agent: &&Agent| agent.copied_since.is_some();
        let held = tables.agents.values().filter(is_held).count() as u64;
        Ok(EnvironmentCounts {
            enrolled: agents - held,
            held,
            never_enrolled: all - agents,
        })
    }

    async fn first_environments(&self, limit: u32) -> Result<Vec<EnvironmentRecord>, StoreError> {
        let mut first = self.tables().by_name(|_| true);
        first.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        for record in &mut first {
            record.tags.clear();
        }
        Ok(first)
    }

    async fn environment_by_name(
        &self,
        customer: &CustomerId,
        name: &str,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        let tables = self.tables();
        let id = tables.names.get(&(customer.clone(), name.to_owned()));
        Ok(id.and_then(|id| tables.environment(*id)))
    }

    async fn environment_by_id(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        Ok(self.tables().environment(id))
    }

    async fn remove_environment(&self, id: EnvironmentId) -> Result<bool, StoreError> {
        Ok(self.tables().remove(id))
    }

    async fn create_enrolment_token(&self, token: EnrolmentToken) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        if !tables.environments.contains_key(&token.environment) {
            return Ok(false);
        }
        let stays =
            |other: &Token| other.environment != token.environment || other.used_by.is_some();
        tables.tokens.retain(|_, other| stays(other));
        let unused = Token {
            environment: token.environment,
            expires_at: token.expires_at,
            used_by: None,
        };
        tables.tokens.insert(*token.hash.as_bytes(), unused);
        Ok(true)
    }

    async fn redeem_token(
        &self,
        hash: &SecretHash,
        agent: NewAgent,
        now: Timestamp,
    ) -> Result<AgentRecord, RedeemError> {
        self.tables().redeem(hash, agent, now)
    }

    async fn agent(&self, agent_id: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        Ok(self.tables().agent(agent_id))
    }

    async fn record_start(
        &self,
        agent_id: AgentId,
        start_counter: u64,
        instance: InstanceId,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(agent) = tables.agents.get_mut(&agent_id) else {
            return Ok(false);
        };
        let is_newer = agent.instance.is_none() || agent.start_counter < start_counter;
        if agent.copied_since.is_some() || !is_newer {
            return Ok(false);
        }
        agent.start_counter = start_counter;
        agent.instance = Some(instance);
        Ok(true)
    }

    async fn hold_copied(&self, agent_id: AgentId, now: Timestamp) -> Result<(), StoreError> {
        if let Some(agent) = self.tables().agents.get_mut(&agent_id) {
            agent.copied_since.get_or_insert(now);
        }
        Ok(())
    }

    async fn release(&self, agent_id: AgentId) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some(agent) = tables.agents.get_mut(&agent_id) else {
            return Ok(false);
        };
        agent.copied_since = None;
        agent.instance = None;
        agent.start_counter = 0;
        Ok(true)
    }

    async fn put_api_token(&self, token: NewApiToken) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables
            .api_tokens
            .retain(|_, present| present.name != token.name);
        let record = ApiTokenRecord {
            customer: token.customer,
            name: token.name,
        };
        // The text is the token: one that is there under another name keeps that name.
        tables
            .api_tokens
            .entry(*token.hash.as_bytes())
            .or_insert(record);
        Ok(())
    }

    async fn api_token(&self, hash: &SecretHash) -> Result<Option<ApiTokenRecord>, StoreError> {
        Ok(self.tables().api_tokens.get(hash.as_bytes()).cloned())
    }

    async fn add_exposure(&self, exposure: ExposureRecord) -> Result<(), AddExposureError> {
        let mut tables = self.tables();
        if !tables.environments.contains_key(&exposure.environment_id) {
            return Err(AddExposureError::EnvironmentUnknown);
        }
        tables.exposures.insert(exposure.id, exposure);
        Ok(())
    }

    async fn exposures(&self) -> Result<Vec<ExposureRecord>, StoreError> {
        let tables = self.tables();
        let named = tables.exposures.values().filter_map(|exposure| {
            let environment = tables.environments.get(&exposure.environment_id)?;
            Some(ExposureRecord {
                environment: environment.name.clone(),
                ..exposure.clone()
            })
        });
        let mut all: Vec<_> = named.collect();
        all.sort_by_key(|exposure| (exposure.created_at, exposure.id));
        Ok(all)
    }

    async fn remove_exposure(&self, id: ExposureId) -> Result<bool, StoreError> {
        Ok(self.tables().exposures.remove(&id).is_some())
    }

    async fn keep_probe_report(
        &self,
        hash: &SecretHash,
        report: ProbeReportRecord,
        now: Timestamp,
    ) -> Result<String, RedeemError> {
        let mut tables = self.tables();
        let token = tables.tokens.get(hash.as_bytes());
        let token = token.ok_or(RedeemError::Unknown)?;
        if token.used_by.is_some() {
            return Err(RedeemError::Used);
        }
        if now >= token.expires_at {
            return Err(RedeemError::Expired);
        }
        let id = token.environment;
        let environment = tables.environments.get_mut(&id);
        let environment = environment.ok_or(RedeemError::Unknown)?;
        environment.probe_report = Some(report);
        Ok(environment.name.clone())
    }

    async fn probe_report(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<ProbeReportRecord>, StoreError> {
        let tables = self.tables();
        let environment = tables.environments.get(&id);
        Ok(environment.and_then(|environment| environment.probe_report.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::Registry;

    use super::*;
    use crate::{
        metrics::Metrics,
        store::{contract, timed::TimedStore},
    };

    #[expect(clippy::unused_async, reason = "the suite awaits what makes a store")]
    async fn store() -> ((), MemoryStore) {
        ((), MemoryStore::new())
    }

    contract::suite!(store);

    /// The same under the stop-watch, which must change no answer.
    mod timed {
        use super::*;

        #[expect(clippy::unused_async, reason = "the suite awaits what makes a store")]
        async fn store() -> ((), TimedStore<MemoryStore>) {
            let metrics = Metrics::new(&Registry::new(), "0", "0").unwrap();
            let store = TimedStore::new(Arc::new(MemoryStore::new()), Arc::new(metrics));
            ((), store)
        }

        contract::suite!(store);
    }
}
