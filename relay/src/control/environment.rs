//! Use cases on environments and their tokens.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use jiff::Timestamp;
use tracing::info;
use wire::{close::CloseCode, id::EnvironmentId, key::Secret, token::EnrolToken};
use zeroize::Zeroizing;

use super::{
    Control, Error, Principal, SessionView, locked,
    name::{check_name, check_tags},
};
use crate::{
    credential::SecretHash,
    limits::{ENVIRONMENT_SERIES_MAX, ENVIRONMENTS_MAX},
    store::{
        CreateEnvironmentError, EnrolmentToken, EnvironmentRecord, FirstToken, NewEnvironment,
    },
};

/// How an environment fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvironmentStatus {
    /// Its identity was seen twice; a person must look.
    CopiedIdentity,
    /// No agent has enrolled.
    NeverConnected,
    /// An agent has enrolled and has no session.
    Offline,
    /// Its agent's session has lost its connection, and waits for another.
    Reconnecting,
    /// Its agent has a session.
    Online,
}

/// An environment at one moment.
#[derive(Debug, Clone)]
pub struct EnvironmentView {
    /// What is stored of it.
    pub record: EnvironmentRecord,
    /// How it fares.
    pub status: EnvironmentStatus,
    /// Its agent's session.
    pub session: Option<SessionView>,
}

/// Environments as metrics show them.
#[derive(Debug, Clone)]
pub struct WatchedEnvironments {
    /// Those that are shown, by name, each with how long ago it was last heard.
    pub shown: Vec<(EnvironmentView, Option<Duration>)>,
    /// How many are not, because there are too many.
    pub left_out: u64,
}

/// A token just issued: the only time that its text is seen.
pub struct IssuedToken {
    /// The string to paste.
    pub text: Zeroizing<String>,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// The command that runs an agent with it.
    pub agent_command: Zeroizing<String>,
    /// The same in a container.
    pub docker_run_command: Zeroizing<String>,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Selects environments by one tag: `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    key: String,
    value: String,
}

impl TagFilter {
    /// Whether these tags have it.
    pub(super) fn selects(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(&self.key) == Some(&self.value)
    }
}

impl FromStr for TagFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (key, value) = text.split_once('=').ok_or_else(|| Error::Invalid {
            field: "tag",
            reason: format!("`{}` is not KEY=VALUE", text.escape_debug()),
        })?;
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl Control {
    /// Adds an environment and issues its first token.
    ///
    /// # Errors
    ///
    /// A name or tag that may not be, a name that is taken, a full or failing store.
    pub async fn add_environment(
        &self,
        principal: &Principal,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<(EnvironmentView, IssuedToken), Error> {
        check_name("name", name)?;
        check_tags(&tags)?;
        let draft = self.draft_token();
        let environment = NewEnvironment {
            id: EnvironmentId::from_bytes(*self.random()),
            customer: principal.customer().clone(),
            name: name.to_owned(),
            tags,
            created_at: draft.created_at,
            token: FirstToken {
                hash: draft.hash(),
                expires_at: draft.expires_at,
            },
        };
        let record = EnvironmentRecord {
            id: environment.id,
            customer: environment.customer.clone(),
            name: environment.name.clone(),
            tags: environment.tags.clone(),
            created_at: environment.created_at,
            agent: None,
        };
        let created = self
            .store
            .create_environment(environment, ENVIRONMENTS_MAX)
            .await;
        created.map_err(|e| match e {
            CreateEnvironmentError::NameTaken => Error::EnvironmentExists {
                name: name.to_owned(),
            },
            CreateEnvironmentError::LimitReached => Error::LimitReached {
                what: "environments",
                limit: ENVIRONMENTS_MAX,
            },
            CreateEnvironmentError::Store(e) => Error::Store(e),
        })?;
        info!(
            %principal,
            environment = name,
            environment_id = %record.id,
            expires_at = %draft.expires_at,
            "environment added, enrolment token issued"
        );
        Ok((self.view(record), self.write_out(draft, name)))
    }

    /// The principal's environments by name; with a filter, those that have the tag.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn environments(
        &self,
        principal: &Principal,
        filter: Option<&TagFilter>,
    ) -> Result<Vec<EnvironmentView>, Error> {
        let records = self.store.environments(principal.customer()).await?;
        let selected =
            |record: &EnvironmentRecord| filter.is_none_or(|filter| filter.selects(&record.tags));
        Ok(records
            .into_iter()
            .filter(selected)
            .map(|record| self.view(record))
            .collect())
    }

    /// Environments of all customers, as many as metrics show.
    ///
    /// # Errors
    ///
    /// A failing store.
    pub async fn watched_environments(&self) -> Result<WatchedEnvironments, Error> {
        let counts = self.store.count_environments().await?;
        let records = self
            .store
            .first_environments(ENVIRONMENT_SERIES_MAX)
            .await?;
        let all = counts.enrolled + counts.held + counts.never_enrolled;
        let left_out = all.saturating_sub(records.len() as u64);
        let watched = |record: EnvironmentRecord| {
            let id = record.id;
            let view = self.view(record);
            let heard = view.session.as_ref().map(|session| session.last_heard_ago);
            (view, heard.or_else(|| self.presence.last_heard_ago(id)))
        };
        Ok(WatchedEnvironments {
            shown: records.into_iter().map(watched).collect(),
            left_out,
        })
    }

    /// One environment.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn environment(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<EnvironmentView, Error> {
        Ok(self.view(self.record(principal, name).await?))
    }

    /// The id of the principal's environment of this name.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn resolve_environment(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<EnvironmentId, Error> {
        Ok(self.record(principal, name).await?.id)
    }

    /// Removes an environment: its agent is cut off at once and cannot return.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn remove_environment(&self, principal: &Principal, name: &str) -> Result<(), Error> {
        let id = self.resolve_environment(principal, name).await?;
        if !self.store.remove_environment(id).await? {
            return Err(Error::EnvironmentUnknown {
                name: name.to_owned(),
            });
        }
        // Marked before it is closed: a session that is being admitted meanwhile is
        // either registered already, and closed here, or sees the mark.
        locked(&self.removed).insert(id);
        self.presence
            .close(id, CloseCode::Revoked, "the environment was removed");
        self.stop_exposures_of(id).await;
        self.converger.forget(id);
        info!(%principal, environment = name, environment_id = %id, "environment removed");
        Ok(())
    }

    /// Issues a further token: whoever enrols with it replaces the agent. Unused
    /// earlier tokens of the environment are taken back.
    ///
    /// # Errors
    ///
    /// No such environment; a failing store.
    pub async fn issue_token(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<IssuedToken, Error> {
        let record = self.record(principal, name).await?;
        let draft = self.draft_token();
        let token = EnrolmentToken {
            hash: draft.hash(),
            environment: record.id,
            created_at: draft.created_at,
            expires_at: draft.expires_at,
        };
        if !self.store.create_enrolment_token(token).await? {
            return Err(Error::EnvironmentUnknown {
                name: name.to_owned(),
            });
        }
        info!(
            %principal,
            environment = name,
            expires_at = %draft.expires_at,
            "enrolment token issued"
        );
        Ok(self.write_out(draft, name))
    }

    /// Ends the hold of an environment whose identity was copied: the next agent
    /// with its key is believed.
    ///
    /// # Errors
    ///
    /// No such environment; no agent; a failing store.
    pub async fn release_environment(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<EnvironmentView, Error> {
        let record = self.record(principal, name).await?;
        let Some(agent) = record.agent else {
            return Err(Error::AgentNotEnrolled {
                name: name.to_owned(),
            });
        };
        if !self.store.release(agent.agent_id).await? {
            return Err(Error::AgentNotEnrolled {
                name: name.to_owned(),
            });
        }
        info!(%principal, environment = name, agent_id = %agent.agent_id, "agent released");
        self.environment(principal, name).await
    }

    async fn record(&self, principal: &Principal, name: &str) -> Result<EnvironmentRecord, Error> {
        self.store
            .environment_by_name(principal.customer(), name)
            .await?
            .ok_or_else(|| Error::EnvironmentUnknown {
                name: name.to_owned(),
            })
    }

    fn view(&self, record: EnvironmentRecord) -> EnvironmentView {
        let session = self.presence.view(record.id);
        let status = match (&record.agent, &session) {
            (Some(agent), _) if agent.copied_since.is_some() => EnvironmentStatus::CopiedIdentity,
            (_, Some(session)) if !session.is_connected => EnvironmentStatus::Reconnecting,
            (_, Some(_)) => EnvironmentStatus::Online,
            (Some(_), None) => EnvironmentStatus::Offline,
            (None, None) => EnvironmentStatus::NeverConnected,
        };
        EnvironmentView {
            record,
            status,
            session,
        }
    }

    fn draft_token(&self) -> Draft {
        let created_at = self.now();
        let expires_at = created_at.checked_add(self.facts.token_validity);
        Draft {
            secret: Secret::from_bytes(*self.random()),
            created_at,
            expires_at: expires_at.unwrap_or(Timestamp::MAX),
        }
    }

    /// The one showing of a token that is stored.
    fn write_out(&self, draft: Draft, environment: &str) -> IssuedToken {
        let token = EnrolToken {
            addresses: vec![self.facts.address.clone()],
            relay_identity: self.facts.identity,
            secret: draft.secret,
            expires_unix_seconds: draft.expires_at.as_second(),
            environment: environment.to_owned(),
        };
        let text = Zeroizing::new(token.to_text());
        let agent_command = Zeroizing::new(format!("sternline-agent run --token {}", *text));
        let docker_run_command = Zeroizing::new(format!(
            "docker run -d --name sternline-agent --restart unless-stopped --network host \
             --read-only --cap-drop ALL --group-add \"$(stat -c %g /var/run/docker.sock)\" \
             -v /var/run/docker.sock:/var/run/docker.sock \
             -v sternline-agent:/var/lib/sternline-agent -e STERNLINE_TOKEN={} {}",
            *text, self.facts.agent_image
        ));
        IssuedToken {
            text,
            expires_at: draft.expires_at,
            agent_command,
            docker_run_command,
        }
    }
}

/// A token before it is stored.
struct Draft {
    secret: Secret,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl Draft {
    fn hash(&self) -> SecretHash {
        SecretHash::of_secret(&self.secret)
    }
}
