//! What the converger asks: the relay's own use cases, without a principal.

use std::collections::{BTreeMap, BTreeSet};

use compose::exchange::{Assignment, Cause, Desired, RegistryLogin, SecretText};
use wire::id::EnvironmentId;
use zeroize::Zeroizing;

use super::{Content, Control, Error, assign::place_of};
use crate::{
    id::CustomerId,
    store::{AssignmentRecord, OutcomeRecord},
};

/// Images without a registry in their name come from here.
const DEFAULT_REGISTRY: &str = "docker.io";

impl Control {
    /// Environments that anything was ever assigned to.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn assigned_environments(&self) -> Result<Vec<EnvironmentId>, Error> {
        Ok(self.store.assigned_environments().await?)
    }

    /// The newest assignment of each stack of an environment.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn assignments_of(
        &self,
        environment: EnvironmentId,
    ) -> Result<Vec<AssignmentRecord>, Error> {
        Ok(self.store.assignments(environment).await?)
    }

    /// An assignment as its agent gets it; `None` where a later one has taken its place.
    ///
    /// # Errors
    ///
    /// Content that cannot be unsealed; a failing store.
    pub async fn assignment_for_agent(
        &self,
        record: &AssignmentRecord,
    ) -> Result<Option<Assignment>, Error> {
        let sealed = self
            .store
            .assignment_content(record.environment, &record.stack, record.number)
            .await?;
        let environment = self.store.environment_by_id(record.environment).await?;
        let (Some(sealed), Some(environment)) = (sealed, environment) else {
            return Ok(None);
        };
        let place = place_of(&record.stack, &record.fingerprint);
        let text = self.unseal(&place, &sealed)?;
        let content: Content = serde_json::from_slice(&text).map_err(|_| Error::Unsealed {
            place: place.clone(),
        })?;
        let named = (record.stack.as_str(), record.number);
        let mut assignment = content.into_assignment(named, record.deadline_seconds);
        assignment.author.clone_from(&record.author);
        self.add_logins(&environment.customer, &mut assignment)
            .await?;
        Ok(Some(assignment))
    }

    /// A file that an environment's release ships.
    ///
    /// # Errors
    ///
    /// Bytes that cannot be unsealed; a failing store.
    pub async fn blob_for_agent(
        &self,
        environment: EnvironmentId,
        digest: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self.store.environment_by_id(environment).await? {
            Some(record) => self.open_blob(&record.customer, digest).await,
            None => Ok(None),
        }
    }

    /// Keeps what became of an assignment; `false` where that is known.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn settle_assignment(
        &self,
        environment: EnvironmentId,
        (stack, number): (&str, u64),
        (phase, cause): (&str, Option<&Cause>),
    ) -> Result<bool, Error> {
        let cause = cause.and_then(|cause| serde_json::to_string(cause).ok());
        let outcome = OutcomeRecord {
            phase: phase.to_owned(),
            cause,
            at: self.now(),
        };
        let settled = self
            .store
            .settle(environment, (stack, number), outcome)
            .await?;
        Ok(settled)
    }

    /// Keeps what a release's images turned out to be, where that was not known.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn learn_pins(
        &self,
        environment: EnvironmentId,
        (stack, release): (&str, u64),
        digests: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let Some(record) = self.store.environment_by_id(environment).await? else {
            return Ok(());
        };
        let customer = &record.customer;
        Ok(self
            .store
            .learn_pins(customer, (stack, release), digests)
            .await?)
    }

    /// Adds logins at the registries that an assignment's images come from.
    pub(super) async fn add_logins(
        &self,
        customer: &CustomerId,
        assignment: &mut Assignment,
    ) -> Result<(), Error> {
        let Desired::Run { stack, .. } = &assignment.desired else {
            return Ok(());
        };
        let images = stack
            .services
            .values()
            .map(|service| service.image.as_str());
        let hosts: BTreeSet<&str> = images.map(registry_of).collect();
        let logins = self.store.registry_logins(customer).await?;
        let mut needed = BTreeMap::new();
        for login in logins
            .iter()
            .filter(|login| hosts.contains(login.host.as_str()))
        {
            let password = self.registry_password(login)?;
            let one = RegistryLogin {
                user: login.account.clone(),
                password: SecretText(password.as_str().to_owned()),
            };
            needed.insert(login.host.clone(), one);
        }
        assignment.registries = needed;
        Ok(())
    }
}

/// The registry that an image reference names.
pub(crate) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DEFAULT_REGISTRY,
    }
}
