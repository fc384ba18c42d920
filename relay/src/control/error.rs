//! Why a use case did not happen: a stable code and a message for outside.

use thiserror::Error;
use wire::close::{RefusalCode, ResetCode};

use super::AskError;
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
    /// No such stack for this principal.
    #[error("there is no stack `{name}`: see `sternline-relay stack status`")]
    StackUnknown {
        /// What was asked for.
        name: String,
    },
    /// No such release of the stack.
    #[error(
        "there is no release r{release} of `{stack}`: list them with \
         `sternline-relay stack history {stack}`"
    )]
    ReleaseUnknown {
        /// The stack.
        stack: String,
        /// What was asked for.
        release: u64,
    },
    /// The store has a release that this relay does not understand.
    #[error(
        "r{release} of `{stack}` was written by another version of the relay: deploy the files \
         again"
    )]
    ReleaseUnreadable {
        /// The stack.
        stack: String,
        /// Which.
        release: u64,
    },
    /// Nothing was ever well there but what shall run now.
    #[error(
        "`{stack}` has no earlier release at `{environment}` that was found well: name one with \
         --to"
    )]
    NothingToGoBackTo {
        /// The stack.
        stack: String,
        /// The environment.
        environment: String,
    },
    /// The files are not what they must be.
    #[error("`{stack}` cannot be deployed as it is: nothing was changed")]
    Unrenderable {
        /// The stack.
        stack: String,
        /// Each mistake: file, line, attribute, what is wrong, what to do.
        problems: Vec<String>,
    },
    /// No such variable at that level.
    #[error("there is no variable `{name}` there: see `sternline-relay variable list`")]
    VariableUnknown {
        /// What was asked for.
        name: String,
    },
    /// No such login.
    #[error("there is no login for `{host}`: see `sternline-relay registry list`")]
    RegistryLoginUnknown {
        /// What was asked for.
        host: String,
    },
    /// The key of a request was used for another one.
    #[error("the idempotency key was used for another request: take another key")]
    KeyReused,
    /// The agent is not there.
    #[error("`{environment}` is offline: its agent must be connected for this")]
    EnvironmentOffline {
        /// The environment.
        environment: String,
    },
    /// The agent did not do it.
    #[error("`{environment}`: {reason}")]
    AgentRefused {
        /// The environment.
        environment: String,
        /// Why, in words.
        reason: String,
        /// Each rule or mistake, where there are several.
        details: Vec<String>,
    },
    /// What is sealed in the store does not open.
    #[error(
        "{place} cannot be unsealed: put the relay's `seal.key` back as it was, or write the \
         value again"
    )]
    Unsealed {
        /// What.
        place: String,
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
            Self::StackUnknown { .. } => "stack_unknown",
            Self::ReleaseUnknown { .. } => "release_unknown",
            Self::ReleaseUnreadable { .. } => "release_unreadable",
            Self::NothingToGoBackTo { .. } => "nothing_to_go_back_to",
            Self::Unrenderable { .. } => "stack_invalid",
            Self::VariableUnknown { .. } => "variable_unknown",
            Self::RegistryLoginUnknown { .. } => "registry_login_unknown",
            Self::KeyReused => "idempotency_key_reused",
            Self::EnvironmentOffline { .. } => "environment_offline",
            Self::AgentRefused { .. } => "agent_refused",
            Self::Unsealed { .. } => "unsealing_failed",
            Self::Invalid { .. } => "invalid_request",
            Self::LimitReached { .. } => "limit_reached",
            Self::Store(StoreError::Busy { .. }) => "store_busy",
            Self::Store(StoreError::Full { .. }) => "store_full",
            Self::Store(_) => "store_failed",
        }
    }

    /// Why an agent did not do what it was asked for.
    pub(super) fn asked(environment: &str, error: AskError) -> Self {
        let environment = environment.to_owned();
        let (reason, details) = match error {
            AskError::Offline => return Self::EnvironmentOffline { environment },
            AskError::Refused(refused) => (refused.reason, refused.details),
            AskError::NotServed(reason) | AskError::Broken(reason) => (reason, Vec::new()),
        };
        Self::AgentRefused {
            environment,
            reason,
            details,
        }
    }

    /// Each of several mistakes, where there are several.
    pub fn details(&self) -> &[String] {
        match self {
            Self::Unrenderable { problems, .. } => problems,
            Self::AgentRefused { details, .. } => details,
            _ => &[],
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
