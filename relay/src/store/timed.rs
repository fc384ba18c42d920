//! The store with a stop-watch: how long each operation took, and why it failed.

mod stack;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;
use wire::id::{AgentId, EnvironmentId, InstanceId};

use super::{
    AddExposureError, AgentRecord, ApiTokenRecord, CreateEnvironmentError, EnrolmentToken,
    EnvironmentRecord, ExposureRecord, NewAgent, NewApiToken, NewEnvironment, ProbeReportRecord,
    RedeemError, Store, StoreError,
};
use crate::{
    credential::SecretHash,
    id::{CustomerId, ExposureId},
    metrics::{EnvironmentCounts, Metrics},
};

/// A store that tells the metrics of what it does.
#[derive(Debug)]
pub struct TimedStore<S> {
    store: Arc<S>,
    metrics: Arc<Metrics>,
}

impl<S: Store> TimedStore<S> {
    /// Puts the stop-watch around a store.
    pub const fn new(store: Arc<S>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    async fn timed<T, E: Failure>(
        &self,
        operation: &'static str,
        done: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let outcome = done.await;
        self.note(operation, started.elapsed(), outcome.as_ref().err());
        outcome
    }

    fn note(&self, operation: &'static str, took: Duration, error: Option<&impl Failure>) {
        self.metrics.store_operation(operation, took);
        if let Some(cause) = error.and_then(Failure::cause) {
            self.metrics.store_failed(cause);
        }
    }
}

/// Tells a failing store from an answer that somebody does not like.
trait Failure {
    /// Why the store failed; `None` where it did not.
    fn cause(&self) -> Option<&'static str>;
}

impl Failure for StoreError {
    fn cause(&self) -> Option<&'static str> {
        Some(match self {
            Self::Busy { .. } => "busy",
            Self::Full { .. } => "full",
            Self::Corrupt { .. } => "corrupt",
            Self::Forbidden { .. } => "forbidden",
            Self::TooNew { .. } => "too_new",
            Self::Failed { .. } => "failed",
        })
    }
}

impl Failure for CreateEnvironmentError {
    fn cause(&self) -> Option<&'static str> {
        match self {
            Self::NameTaken | Self::LimitReached => None,
            Self::Store(error) => error.cause(),
        }
    }
}

impl Failure for RedeemError {
    fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Used | Self::Expired => None,
            Self::Store(error) => error.cause(),
        }
    }
}

impl Failure for AddExposureError {
    fn cause(&self) -> Option<&'static str> {
        match self {
            Self::EnvironmentUnknown => None,
            Self::Store(error) => error.cause(),
        }
    }
}

#[async_trait]
impl<S: Store> Store for TimedStore<S> {
    async fn boot(&self, forget_before: Timestamp) -> Result<u64, StoreError> {
        let done = self.store.boot(forget_before);
        self.timed("boot", done).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let done = self.store.ping();
        self.timed("ping", done).await
    }

    async fn create_environment(
        &self,
        environment: NewEnvironment,
        limit: u64,
    ) -> Result<(), CreateEnvironmentError> {
        let done = self.store.create_environment(environment, limit);
        self.timed("create_environment", done).await
    }

    async fn environments(
        &self,
        customer: &CustomerId,
    ) -> Result<Vec<EnvironmentRecord>, StoreError> {
        let done = self.store.environments(customer);
        self.timed("environments", done).await
    }

    async fn count_environments(&self) -> Result<EnvironmentCounts, StoreError> {
        let done = self.store.count_environments();
        self.timed("count_environments", done).await
    }

    async fn first_environments(&self, limit: u32) -> Result<Vec<EnvironmentRecord>, StoreError> {
        let done = self.store.first_environments(limit);
        self.timed("first_environments", done).await
    }

    async fn environment_by_name(
        &self,
        customer: &CustomerId,
        name: &str,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        let done = self.store.environment_by_name(customer, name);
        self.timed("environment_by_name", done).await
    }

    async fn environment_by_id(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        let done = self.store.environment_by_id(id);
        self.timed("environment_by_id", done).await
    }

    async fn remove_environment(&self, id: EnvironmentId) -> Result<bool, StoreError> {
        let done = self.store.remove_environment(id);
        self.timed("remove_environment", done).await
    }

    async fn create_enrolment_token(&self, token: EnrolmentToken) -> Result<bool, StoreError> {
        let done = self.store.create_enrolment_token(token);
        self.timed("create_enrolment_token", done).await
    }

    async fn redeem_token(
        &self,
        hash: &SecretHash,
        agent: NewAgent,
        now: Timestamp,
    ) -> Result<AgentRecord, RedeemError> {
        let done = self.store.redeem_token(hash, agent, now);
        self.timed("redeem_token", done).await
    }

    async fn agent(&self, agent_id: AgentId) -> Result<Option<AgentRecord>, StoreError> {
        let done = self.store.agent(agent_id);
        self.timed("agent", done).await
    }

    async fn record_start(
        &self,
        agent_id: AgentId,
        start_counter: u64,
        instance: InstanceId,
    ) -> Result<bool, StoreError> {
        let done = self.store.record_start(agent_id, start_counter, instance);
        self.timed("record_start", done).await
    }

    async fn hold_copied(&self, agent_id: AgentId, now: Timestamp) -> Result<(), StoreError> {
        let done = self.store.hold_copied(agent_id, now);
        self.timed("hold_copied", done).await
    }

    async fn release(&self, agent_id: AgentId) -> Result<bool, StoreError> {
        let done = self.store.release(agent_id);
        self.timed("release", done).await
    }

    async fn put_api_token(&self, token: NewApiToken) -> Result<(), StoreError> {
        let done = self.store.put_api_token(token);
        self.timed("put_api_token", done).await
    }

    async fn api_token(&self, hash: &SecretHash) -> Result<Option<ApiTokenRecord>, StoreError> {
        let done = self.store.api_token(hash);
        self.timed("api_token", done).await
    }

    async fn add_exposure(&self, exposure: ExposureRecord) -> Result<(), AddExposureError> {
        let done = self.store.add_exposure(exposure);
        self.timed("add_exposure", done).await
    }

    async fn exposures(&self) -> Result<Vec<ExposureRecord>, StoreError> {
        let done = self.store.exposures();
        self.timed("exposures", done).await
    }

    async fn remove_exposure(&self, id: ExposureId) -> Result<bool, StoreError> {
        let done = self.store.remove_exposure(id);
        self.timed("remove_exposure", done).await
    }

    async fn keep_probe_report(
        &self,
        hash: &SecretHash,
        report: ProbeReportRecord,
        now: Timestamp,
    ) -> Result<String, RedeemError> {
        let done = self.store.keep_probe_report(hash, report, now);
        self.timed("keep_probe_report", done).await
    }

    async fn probe_report(
        &self,
        id: EnvironmentId,
    ) -> Result<Option<ProbeReportRecord>, StoreError> {
        let done = self.store.probe_report(id);
        self.timed("probe_report", done).await
    }
}
