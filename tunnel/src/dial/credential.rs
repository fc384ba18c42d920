//! What a dialler shows to the relay.

use wire::{id::AgentId, key::Secret};
use zeroize::Zeroizing;

use crate::crypto::KeyPair;

/// What is shown to the relay.
#[derive(Debug)]
pub enum Credential {
    /// A one-time token, and the key to make known with it.
    Enrol {
        /// From the token.
        secret: Secret,
        /// The agent's own.
        key: KeyPair,
        /// How often the agent has started.
        start_counter: u64,
    },
    /// A known agent.
    Known {
        /// From the welcome that enrolled it.
        agent_id: AgentId,
        /// The agent's own.
        key: KeyPair,
        /// How often the agent has started.
        start_counter: u64,
    },
    /// An operator.
    Operator {
        /// A bearer token of the API.
        api_token: Zeroizing<String>,
    },
}

impl Credential {
    /// What goes into the hello, and the key that signs it.
    pub(super) fn shown(&self) -> (wire::handshake::Credential, Option<KeyPair>) {
        match self {
            Self::Enrol {
                secret,
                key,
                start_counter,
            } => (
                wire::handshake::Credential::Enrol {
                    secret: secret.clone(),
                    public_key: key.public(),
                    start_counter: *start_counter,
                },
                Some(key.clone()),
            ),
            Self::Known {
                agent_id,
                key,
                start_counter,
            } => (
                wire::handshake::Credential::Known {
                    agent_id: *agent_id,
                    start_counter: *start_counter,
                },
                Some(key.clone()),
            ),
            Self::Operator { api_token } => (
                wire::handshake::Credential::Operator {
                    api_token: api_token.clone(),
                },
                None,
            ),
        }
    }
}
