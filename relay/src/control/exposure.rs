//! Use cases on exposures: ports on the relay's host, kept across restarts.

use std::net::SocketAddr;

use tracing::{info, warn};
use wire::{id::EnvironmentId, target::Target};

use super::{Control, Error, Exposure, Principal, locked};
use crate::{
    id::ExposureId,
    limits::EXPOSURES_MAX,
    store::{AddExposureError, ExposureRecord},
};

/// How an exposure of this process fares: the address it has, or why it has none.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    environment_id: EnvironmentId,
    outcome: Result<SocketAddr, String>,
}

/// An exposure at one moment.
#[derive(Debug, Clone)]
pub struct ExposureView {
    /// What is stored of it.
    pub record: ExposureRecord,
    /// The address that is bound, or why none is.
    pub outcome: Result<SocketAddr, String>,
}

impl Control {
    /// The principal's exposures, oldest first.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn exposures(&self, principal: &Principal) -> Result<Vec<ExposureView>, Error> {
        let mut own = self.own_environments(principal).await?;
        own.sort_unstable();
        let records = self.store.exposures().await?.into_iter();
        Ok(records
            .filter(|record| own.binary_search(&record.environment_id).is_ok())
            .map(|record| self.exposure_view(record))
            .collect())
    }

    /// Opens a port on the relay's host that leads to a target at an agent.
    ///
    /// # Errors
    ///
    /// No such environment; a port that cannot be opened; a failing store.
    pub async fn add_exposure(
        &self,
        principal: &Principal,
        environment: &str,
        target: Target,
        listen: SocketAddr,
    ) -> Result<ExposureView, Error> {
        if target == Target::Stacks {
            return Err(Error::Invalid {
                field: "target",
                reason: "`stacks` is the relay's own way to the agent: use \
                         `sternline-relay stack`"
                    .to_owned(),
            });
        }
        let environment_id = self.resolve_environment(principal, environment).await?;
        if locked(&self.exposures).len() >= EXPOSURES_MAX {
            return Err(Error::LimitReached {
                what: "exposures",
                limit: EXPOSURES_MAX as u64,
            });
        }
        let record = ExposureRecord {
            id: ExposureId::from_bytes(*self.random()),
            environment_id,
            environment: environment.to_owned(),
            target,
            listen,
            created_at: self.now(),
        };
        let _turn = self.exposing.lock().await;
        // The port first: what cannot listen is not kept.
        let outcome = self.exposer.start(exposure(&record)).await;
        let bound = outcome.map_err(|reason| Error::ListenFailed {
            listen: listen.to_string(),
            reason,
        })?;
        if let Err(e) = self.store.add_exposure(record.clone()).await {
            self.exposer.stop(record.id).await;
            return Err(match e {
                AddExposureError::EnvironmentUnknown => Error::EnvironmentUnknown {
                    name: environment.to_owned(),
                },
                AddExposureError::Store(e) => Error::Store(e),
            });
        }
        self.note(&record, Ok(bound));
        info!(%principal, environment, target = %record.target, listen = %bound, "exposure added");
        Ok(ExposureView {
            record,
            outcome: Ok(bound),
        })
    }

    /// Closes an exposure and the connections through it.
    ///
    /// # Errors
    ///
    /// No such exposure of this principal; a failing store.
    pub async fn remove_exposure(
        &self,
        principal: &Principal,
        id: ExposureId,
    ) -> Result<(), Error> {
        let _turn = self.exposing.lock().await;
        let unknown = || Error::ExposureUnknown { id: id.to_string() };
        let all = self.exposures(principal).await?;
        let view = all
            .into_iter()
            .find(|view| view.record.id == id)
            .ok_or_else(unknown)?;
        if !self.store.remove_exposure(id).await? {
            return Err(unknown());
        }
        self.forget(id).await;
        info!(
            %principal,
            environment = view.record.environment,
            listen = %view.record.listen,
            "exposure removed"
        );
        Ok(())
    }

    /// Opens every stored exposure that is not open: at the start, and again while
    /// one of them could not be opened.
    ///
    /// # Errors
    ///
    /// A failing store. A port that cannot be opened is no error: it shows in the
    /// exposure's status.
    pub async fn open_exposures(&self) -> Result<(), Error> {
        let _turn = self.exposing.lock().await;
        for record in self.store.exposures().await? {
            let before = locked(&self.exposures).get(&record.id).cloned();
            if before.as_ref().is_some_and(|opened| opened.outcome.is_ok()) {
                continue;
            }
            let outcome = self.exposer.start(exposure(&record)).await;
            let is_first = before.is_none();
            match &outcome {
                Ok(bound) => info!(
                    environment = record.environment, target = %record.target, listen = %bound,
                    "exposure opened"
                ),
                Err(reason) if is_first => warn!(
                    environment = record.environment, listen = %record.listen, reason,
                    "exposure cannot listen: tried again until it can"
                ),
                Err(_) => {}
            }
            self.note(&record, outcome);
        }
        Ok(())
    }

    /// How many exposures wait for their port.
    pub fn waiting_exposures(&self) -> usize {
        locked(&self.exposures)
            .values()
            .filter(|opened| opened.outcome.is_err())
            .count()
    }

    pub(super) async fn stop_exposures_of(&self, environment: EnvironmentId) {
        let _turn = self.exposing.lock().await;
        let ids: Vec<_> = locked(&self.exposures)
            .iter()
            .filter(|(_, opened)| opened.environment_id == environment)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.forget(id).await;
        }
    }

    async fn forget(&self, id: ExposureId) {
        locked(&self.exposures).remove(&id);
        self.exposer.stop(id).await;
    }

    fn note(&self, record: &ExposureRecord, outcome: Result<SocketAddr, String>) {
        let opened = Opened {
            environment_id: record.environment_id,
            outcome,
        };
        locked(&self.exposures).insert(record.id, opened);
    }

    fn exposure_view(&self, record: ExposureRecord) -> ExposureView {
        let opened = locked(&self.exposures).get(&record.id).cloned();
        let outcome =
            opened.map_or_else(|| Err("not opened yet".to_owned()), |opened| opened.outcome);
        ExposureView { record, outcome }
    }

    async fn own_environments(&self, principal: &Principal) -> Result<Vec<EnvironmentId>, Error> {
        let records = self.store.environments(principal.customer()).await?;
        Ok(records.into_iter().map(|record| record.id).collect())
    }
}

fn exposure(record: &ExposureRecord) -> Exposure {
    Exposure {
        id: record.id,
        environment_id: record.environment_id,
        environment: record.environment.clone(),
        target: record.target.clone(),
        listen: record.listen,
    }
}
