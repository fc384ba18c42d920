//! The handshake's messages as checked types.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use zeroize::Zeroizing;

use super::HandshakeError;
use crate::{
    close::{RefusalCode, Retry},
    frame::Frame,
    id::{AgentId, EnvironmentId, Epoch, InstanceId, SessionId},
    key::{PublicKey, Secret},
    message::{self, hello},
    version::ProtocolVersion,
};

/// Longest `software` and texts alike in the handshake.
const TEXT_BYTES_MAX: usize = 256;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The run of the dialler's process.
    pub instance: InstanceId,
    /// Program and version.
    pub software: String,
    /// What the dialler shows.
    pub credential: Credential,
    /// How long the dialler is silent at most when idle.
    pub heartbeat_idle: Duration,
    /// The session of the same run that this connection is to be a bulk lane of, where the
    /// session's welcome allows them.
    pub bulk_lane_of: Option<SessionId>,
    /// The session of the same run that shall go on over this connection, if the acceptor
    /// still has it.
    pub resume_of: Option<SessionId>,
    /// How long the session may be without a connection; zero: it ends with its connection.
    pub resume_window: Duration,
}

/// What the dialler shows.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A one-time token, and the key to make known with it.
    Enrol {
        /// From the token.
        secret: Secret,
        /// The agent's own.
        public_key: PublicKey,
        /// How often the agent has started.
        start_counter: u64,
    },
    /// A known agent; its key is on record.
    Known {
        /// Who it says it is.
        agent_id: AgentId,
        /// How often the agent has started.
        start_counter: u64,
    },
    /// A person or a script of the vendor's.
    Operator {
        /// A bearer token of the API.
        api_token: Zeroizing<String>,
    },
}

impl Hello {
    pub(super) fn to_bytes(&self, version: ProtocolVersion) -> Vec<u8> {
        let credential = match &self.credential {
            Credential::Enrol {
                secret,
                public_key,
                start_counter,
            } => hello::Credential::Enrol(message::Enrol {
                token_secret: secret.expose().to_vec(),
                public_key: public_key.0.to_vec(),
                start_counter: *start_counter,
            }),
            Credential::Known {
                agent_id,
                start_counter,
            } => hello::Credential::Known(message::Known {
                agent_id: agent_id.as_bytes().to_vec(),
                start_counter: *start_counter,
            }),
            Credential::Operator { api_token } => hello::Credential::Operator(message::Operator {
                api_token: api_token.to_string(),
            }),
        };
        message::Hello {
            version: version.as_u32(),
            instance_id: self.instance.as_bytes().to_vec(),
            software: self.software.clone(),
            credential: Some(credential),
            heartbeat_idle_ms: duration_to_ms(self.heartbeat_idle),
            bulk_lane_of: self
                .bulk_lane_of
                .map(|session| session.as_bytes().to_vec())
                .unwrap_or_default(),
            resume_of: self
                .resume_of
                .map(|session| session.as_bytes().to_vec())
                .unwrap_or_default(),
            resume_window_ms: duration_to_ms(self.resume_window),
        }
        .encode_to_vec()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let malformed = || HandshakeError::Malformed("hello");
        let hello = message::Hello::decode(bytes).map_err(|_| malformed())?;
        if ProtocolVersion::from_u32(hello.version).is_none() {
            return Err(HandshakeError::VersionUnsupported {
                offered: vec![hello.version],
            });
        }
        if hello.software.len() > TEXT_BYTES_MAX {
            return Err(malformed());
        }
        let credential = match hello.credential.ok_or_else(malformed)? {
            hello::Credential::Enrol(enrol) => Credential::Enrol {
                secret: Secret::from_slice(&enrol.token_secret).ok_or_else(malformed)?,
                public_key: PublicKey::from_slice(&enrol.public_key).ok_or_else(malformed)?,
                start_counter: enrol.start_counter,
            },
            hello::Credential::Known(known) => Credential::Known {
                agent_id: AgentId::from_slice(&known.agent_id).ok_or_else(malformed)?,
                start_counter: known.start_counter,
            },
            hello::Credential::Operator(operator) => {
                if operator.api_token.len() > TEXT_BYTES_MAX {
                    return Err(malformed());
                }
                Credential::Operator {
                    api_token: Zeroizing::new(operator.api_token),
                }
            }
        };
        Ok(Self {
            instance: InstanceId::from_slice(&hello.instance_id).ok_or_else(malformed)?,
            software: hello.software,
            credential,
            heartbeat_idle: Duration::from_millis(hello.heartbeat_idle_ms.into()),
            bulk_lane_of: session_named(&hello.bulk_lane_of)?,
            resume_of: session_named(&hello.resume_of)?,
            resume_window: Duration::from_millis(hello.resume_window_ms.into()),
        })
    }
}

/// A session that a hello names, or none.
fn session_named(bytes: &[u8]) -> Result<Option<SessionId>, HandshakeError> {
    match bytes {
        [] => Ok(None),
        id => match SessionId::from_slice(id) {
            Some(id) => Ok(Some(id)),
            None => Err(HandshakeError::Malformed("hello")),
        },
    }
}

/// The session begins, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The session's id, for the logs of both ends. The one that the hello would resume, where
    /// that session goes on.
    pub session_id: SessionId,
    /// Fences this session against older ones of the same environment.
    pub epoch: Epoch,
    /// `None` for operators.
    pub agent_id: Option<AgentId>,
    /// `None` for operators.
    pub environment_id: Option<EnvironmentId>,
    /// The environment's name; empty for operators.
    pub environment: String,
    /// Over how long agents shall spread their next connection attempts.
    pub reconnect_window: Duration,
    /// How long the acceptor lets an idle dialler be silent at most.
    pub heartbeat_idle: Duration,
    /// How many bulk lanes the dialler may add to the session.
    pub bulk_lanes_max: usize,
    /// How long either end lets the session be without a connection; zero: it ends with its
    /// connection.
    pub resume_window: Duration,
}

impl Welcome {
    /// The frame that says so.
    pub fn to_frame(&self) -> Frame {
        let id = |id: &[u8; 16]| id.to_vec();
        let welcome = message::Welcome {
            session_id: id(self.session_id.as_bytes()),
            epoch_generation: self.epoch.generation,
            epoch_counter: self.epoch.counter,
            agent_id: self
                .agent_id
                .map(|agent| id(agent.as_bytes()))
                .unwrap_or_default(),
            environment_id: self
                .environment_id
                .map(|environment| id(environment.as_bytes()))
                .unwrap_or_default(),
            environment: self.environment.clone(),
            reconnect_window_ms: duration_to_ms(self.reconnect_window),
            heartbeat_idle_ms: duration_to_ms(self.heartbeat_idle),
            bulk_lanes_max: u32::try_from(self.bulk_lanes_max).unwrap_or(u32::MAX),
            resume_window_ms: duration_to_ms(self.resume_window),
        };
        Frame::Welcome(welcome.encode_to_vec().into())
    }

    pub(super) fn from_bytes(bytes: &Bytes) -> Result<Self, HandshakeError> {
        let malformed = || HandshakeError::Malformed("welcome");
        let welcome = message::Welcome::decode(&bytes[..]).map_err(|_| malformed())?;
        if welcome.environment.len() > TEXT_BYTES_MAX {
            return Err(malformed());
        }
        Ok(Self {
            session_id: SessionId::from_slice(&welcome.session_id).ok_or_else(malformed)?,
            epoch: Epoch {
                generation: welcome.epoch_generation,
                counter: welcome.epoch_counter,
            },
            agent_id: AgentId::from_slice(&welcome.agent_id),
            environment_id: EnvironmentId::from_slice(&welcome.environment_id),
            environment: welcome.environment,
            reconnect_window: Duration::from_millis(welcome.reconnect_window_ms.into()),
            heartbeat_idle: Duration::from_millis(welcome.heartbeat_idle_ms.into()),
            bulk_lanes_max: usize::try_from(welcome.bulk_lanes_max).unwrap_or(usize::MAX),
            resume_window: Duration::from_millis(welcome.resume_window_ms.into()),
        })
    }
}

/// The session does not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for programs.
    pub code: RefusalCode,
    /// Why, for people.
    pub reason: String,
    /// Not before; `None`: as the code says.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal in the code's own words.
    pub fn new(code: RefusalCode) -> Self {
        Self {
            code,
            reason: String::new(),
            retry_after: None,
        }
    }

    /// Whether and when the dialler may try again.
    pub fn retry(&self) -> Retry {
        match (self.code.retry(), self.retry_after) {
            (Retry::Never, _) => Retry::Never,
            // Others were told the times before and after.
            (Retry::Backoff, Some(slot)) => Retry::Slot(slot),
            (_, Some(pause)) => Retry::After(pause),
            (retry, None) => retry,
        }
    }

    /// The frame that says so.
    pub fn to_frame(&self) -> Frame {
        let refusal = message::Refusal {
            code: self.code.as_u16().into(),
            reason: self.reason.clone(),
            retry_after_ms: self.retry_after.map(duration_to_ms).unwrap_or_default(),
        };
        Frame::Refusal(refusal.encode_to_vec().into())
    }

    pub(super) fn from_bytes(bytes: &Bytes) -> Result<Self, HandshakeError> {
        let malformed = || HandshakeError::Malformed("refusal");
        let refusal = message::Refusal::decode(&bytes[..]).map_err(|_| malformed())?;
        let code = u16::try_from(refusal.code).map_err(|_| malformed())?;
        if refusal.reason.len() > crate::limits::REASON_BYTES_MAX {
            return Err(malformed());
        }
        let retry_after_ms = u64::from(refusal.retry_after_ms);
        Ok(Self {
            code: RefusalCode::from_u16(code),
            reason: refusal.reason,
            retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms)),
        })
    }
}

/// Saturates: a duration beyond 49 days is nothing a peer has to know exactly.
fn duration_to_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
