//! Why a use case did not happen: a stable code and a message for outside.

use thiserror::Error;
use wire::close::{RefusalCode, ResetCode};

use crate::store::StoreError;

/// Why a use case did not happen. The text of a variant is for its asker; what only
/// the operator of the relay may know is in the source and in the log.
#[derive(Debug, Error)]
pub enum Error {
    /// No valid credential.
    #[error(
        "the API token is not valid: check STERNLINE_API_TOKEN, or the file admin.token of the relay"
    )]
    Unauthenticated,
    /// No such environment for this principal.
    #[error("there is no environment `{name}`: list them with `sternline-relay env list`")]
    EnvironmentUnknown {
        /// What was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is an environment `{name}` already: choose another name, or remove it first")]
    EnvironmentExists {
        /// The name.
        name: String,
    },
    /// No agent has enrolled, so there is nothing to do it to.
    #[error("no agent has enrolled for `{name}`: run the agent with the environment's token first")]
    AgentNotEnrolled {
        /// The environment's name.
        name: String,
    },
    /// No such exposure for this principal.
    #[error("there is no exposure `{id}`: list them with `sternline-relay expose --list`")]
    ExposureUnknown {
        /// What was asked for.
        id: String,
    },
    /// The port could not be opened.
    #[error("the relay cannot listen on {listen}: {reason}")]
    ListenFailed {
        /// Where.
        listen: String,
        /// Why, in words.
        reason: String,
    },
    /// A field of the request is not what it must be.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
    /// A bound is reached.
    #[error("the relay takes no more than {limit} {what}")]
    LimitReached {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
    /// The store failed.
    #[error("{}", outside(.0))]
    Store(#[from] StoreError),
}

/// A failing store's words for outside: the database's own stay in the log.
fn outside(error: &StoreError) -> &'static str {
    match error {
        StoreError::Busy { .. } => "the relay's store is locked: try again",
        StoreError::Full { .. } => {
            "the disk of the relay is full: free some space there; nothing was changed"
        }
        StoreError::Corrupt { .. }
        | StoreError::Forbidden { .. }
        | StoreError::TooNew { .. }
        | StoreError::Failed { .. } => "the relay's store failed: the relay's log says more",
    }
}

impl Error {
    /// The stable name: part of the API's contract.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::EnvironmentUnknown { .. } => "environment_unknown",
            Self::EnvironmentExists { .. } => "environment_exists",
            Self::AgentNotEnrolled { .. } => "agent_not_enrolled",
            Self::ExposureUnknown { .. } => "exposure_unknown",
            Self::ListenFailed { .. } => "listen_failed",
            Self::Invalid { .. } => "invalid_request",
            Self::LimitReached { .. } => "limit_reached",
            Self::Store(StoreError::Busy { .. }) => "store_busy",
            Self::Store(StoreError::Full { .. }) => "store_full",
            Self::Store(_) => "store_failed",
        }
    }

    /// How a handshake is refused for it.
    pub const fn refusal(&self) -> RefusalCode {
        match self {
            Self::Unauthenticated => RefusalCode::CredentialInvalid,
            Self::Store(StoreError::Busy { .. }) => RefusalCode::Overloaded,
            _ => RefusalCode::InternalError,
        }
    }

    /// How a stream is reset for it.
    pub const fn reset(&self) -> ResetCode {
        match self {
            Self::EnvironmentUnknown { .. } => ResetCode::EnvironmentUnknown,
            Self::Invalid { .. } => ResetCode::BadRequest,
            Self::LimitReached { .. } => ResetCode::LimitReached,
            _ => ResetCode::InternalError,
        }
    }
}
