//! May this agent come in? The store's answer to a hello.
//!
//! A reconnect of a known run reads one row and writes none. A first hello of a new
//! run must show a start counter above the highest seen; one that does not is a
//! second copy of the identity: it is refused, and the identity is held.
//!
//! ```text
//!                     same instance           higher counter          counter not above
//!   not held          admit                   record, admit           hold, refuse
//!   held              admit                   refuse                  refuse
//!   released          record, admit (whoever comes first)
//! ```

use tracing::{error, warn};
use wire::{
    close::RefusalCode,
    id::{AgentId, EnvironmentId, InstanceId},
    key::{PublicKey, Secret},
};

use super::{Control, locked};
use crate::{
    credential::SecretHash,
    store::{AgentRecord, NewAgent, RedeemError, StoreError},
};

/// What an agent shows to come in.
#[derive(Debug, Clone)]
pub enum AgentCredential {
    /// The first time: a one-time token's secret makes the key known.
    Enrol {
        /// The token's secret.
        secret: Secret,
        /// The key that the agent made; the caller has verified its proof.
        public_key: PublicKey,
        /// How often the agent has started.
        start_counter: u64,
    },
    /// Every later time; the caller has verified the proof of the agent's key.
    Known {
        /// Who it says it is.
        agent_id: AgentId,
        /// How often the agent has started.
        start_counter: u64,
    },
}

/// An agent's hello, its proof verified.
#[derive(Debug, Clone)]
pub struct AgentHello {
    /// What it shows.
    pub credential: AgentCredential,
    /// The run of its process.
    pub instance: InstanceId,
}

/// An agent that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who.
    pub agent_id: AgentId,
    /// Where it belongs.
    pub environment_id: EnvironmentId,
    /// The environment's name.
    pub environment: String,
    /// The key that it proved to have.
    pub public_key: PublicKey,
}

/// What becomes of a hello of an enrolled agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// A run that is known: nothing to write.
    Admit,
    /// A later run: write its counter, then admit it.
    Record,
    /// A second copy of the identity.
    Hold,
    /// The identity is held.
    Refuse,
}

fn judge(record: &AgentRecord, start_counter: u64, instance: InstanceId) -> Verdict {
    match (record.instance, record.copied_since) {
        (Some(seen), _) if seen == instance => Verdict::Admit,
        (_, Some(_)) => Verdict::Refuse,
        (None, None) => Verdict::Record,
        (Some(_), None) if start_counter > record.start_counter => Verdict::Record,
        (Some(_), None) => Verdict::Hold,
    }
}

impl Control {
    /// The key that an agent must prove to have.
    ///
    /// # Errors
    ///
    /// An agent that is not known, or a failing store, as the handshake says it.
    pub async fn agent_key(&self, agent_id: AgentId) -> Result<PublicKey, RefusalCode> {
        Ok(self.known(agent_id).await?.public_key)
    }

    /// Lets an agent in whose proof the caller has verified, and writes what must
    /// survive: a redeemed token, a later start, a hold.
    ///
    /// Redeeming a token again with the same key gives the same answer: the first
    /// answer may have been lost.
    ///
    /// # Errors
    ///
    /// Why the agent may not come in, as the handshake says it.
    pub async fn admit_agent(&self, hello: AgentHello) -> Result<Admitted, RefusalCode> {
        let (record, start_counter) = match hello.credential {
            AgentCredential::Enrol {
                secret,
                public_key,
                start_counter,
            } => {
                let agent = NewAgent {
                    agent_id: AgentId::from_bytes(*self.random()),
                    public_key,
                    instance: hello.instance,
                    start_counter,
                };
                (
                    self.redeem(&SecretHash::of_secret(&secret), agent).await?,
                    start_counter,
                )
            }
            AgentCredential::Known {
                agent_id,
                start_counter,
            } => (self.known(agent_id).await?, start_counter),
        };
        self.admit(record, start_counter, hello.instance).await
    }

    /// Whether the environment still exists: asked after a session is registered,
    /// because the environment may have been removed while it was admitted.
    pub fn is_removed(&self, environment: EnvironmentId) -> bool {
        locked(&self.removed).contains(&environment)
    }

    async fn redeem(&self, hash: &SecretHash, agent: NewAgent) -> Result<AgentRecord, RefusalCode> {
        self.store
            .redeem_token(hash, agent, self.now())
            .await
            .map_err(|e| match e {
                RedeemError::Unknown => RefusalCode::TokenUnknown,
                RedeemError::Used => RefusalCode::TokenUsed,
                RedeemError::Expired => RefusalCode::TokenExpired,
                RedeemError::Store(e) => refuse_for_store(&e),
            })
    }

    async fn known(&self, agent_id: AgentId) -> Result<AgentRecord, RefusalCode> {
        let record = self
            .store
            .agent(agent_id)
            .await
            .map_err(|e| refuse_for_store(&e))?;
        record.ok_or(RefusalCode::AgentUnknown)
    }

    async fn admit(
        &self,
        mut record: AgentRecord,
        start_counter: u64,
        instance: InstanceId,
    ) -> Result<Admitted, RefusalCode> {
        let agent_id = record.agent_id;
        if judge(&record, start_counter, instance) == Verdict::Record {
            let recorded = self
                .store
                .record_start(agent_id, start_counter, instance)
                .await;
            if recorded.map_err(|e| refuse_for_store(&e))? {
                return Ok(admitted(record));
            }
            // Another run was quicker: what it left decides.
            record = self.known(agent_id).await?;
        }
        match judge(&record, start_counter, instance) {
            Verdict::Admit => Ok(admitted(record)),
            // Twice outrun within one handshake: the agent comes again by itself.
            Verdict::Record => Err(RefusalCode::Overloaded),
            Verdict::Refuse => Err(RefusalCode::CopiedIdentity),
            Verdict::Hold => {
                let held = self.store.hold_copied(agent_id, self.now()).await;
                held.map_err(|e| refuse_for_store(&e))?;
                warn!(
                    %agent_id,
                    environment = record.environment,
                    start_counter,
                    start_counter_seen = record.start_counter,
                    "identity was copied: stop one of the two hosts, then `sternline-relay env release`"
                );
                Err(RefusalCode::CopiedIdentity)
            }
        }
    }
}

fn admitted(record: AgentRecord) -> Admitted {
    Admitted {
        agent_id: record.agent_id,
        environment_id: record.environment_id,
        environment: record.environment,
        public_key: record.public_key,
    }
}

fn refuse_for_store(error: &StoreError) -> RefusalCode {
    error!(%error, "agent refused because the store failed");
    match error {
        StoreError::Busy { .. } => RefusalCode::Overloaded,
        _ => RefusalCode::InternalError,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const SEEN: InstanceId = InstanceId::from_bytes([1; 16]);
    const OTHER: InstanceId = InstanceId::from_bytes([2; 16]);

    fn record(instance: Option<InstanceId>, copied_since: Option<Timestamp>) -> AgentRecord {
        AgentRecord {
            agent_id: AgentId::from_bytes([3; 16]),
            environment_id: EnvironmentId::from_bytes([4; 16]),
            environment: "berlin".to_owned(),
            public_key: PublicKey([5; 32]),
            start_counter: 7,
            instance,
            copied_since,
        }
    }

    #[test]
    fn a_run_that_is_known_is_admitted_whatever_its_counter_and_even_while_held() {
        let held = Some(Timestamp::UNIX_EPOCH);

        assert_eq!(judge(&record(Some(SEEN), None), 7, SEEN), Verdict::Admit);
        assert_eq!(judge(&record(Some(SEEN), None), 1, SEEN), Verdict::Admit);
        assert_eq!(judge(&record(Some(SEEN), held), 7, SEEN), Verdict::Admit);
    }

    #[test]
    fn another_run_needs_a_higher_counter() {
        assert_eq!(judge(&record(Some(SEEN), None), 8, OTHER), Verdict::Record);
        assert_eq!(judge(&record(Some(SEEN), None), 7, OTHER), Verdict::Hold);
        assert_eq!(judge(&record(Some(SEEN), None), 6, OTHER), Verdict::Hold);
    }

    #[test]
    fn a_held_identity_takes_no_other_run_however_high_its_counter() {
        let held = record(Some(SEEN), Some(Timestamp::UNIX_EPOCH));

        assert_eq!(judge(&held, 100, OTHER), Verdict::Refuse);
    }

    #[test]
    fn after_a_release_whoever_comes_first_is_believed() {
        assert_eq!(judge(&record(None, None), 1, OTHER), Verdict::Record);
    }
}
