//! What the end of an attempt or a session means for the next one.

use std::time::Duration;

use jiff::Timestamp;
use tunnel::{Closed, DialError};
use wire::{
    close::{CloseCode, RefusalCode, Retry},
    limits::HANDSHAKE_TIMEOUT,
};

use crate::status::LastError;

/// A session superseded so soon was so by another transport of the very same attempt,
/// welcomed by the relay after this end had made its choice. Nobody else is there, so
/// there is nobody to give way to.
const DIAL_OVERLAP: Duration = HANDSHAKE_TIMEOUT;

/// How one attempt or session ended.
pub(super) struct Ended {
    /// Whether and when to try again.
    pub(super) retry: Retry,
    /// Whether the relay said no, as opposed to nothing or something broken.
    pub(super) refusal: bool,
    /// Whether the relay does not, or no longer, know this identity.
    pub(super) unknown_here: bool,
    /// For people.
    pub(super) error: LastError,
}

impl Ended {
    /// Of an attempt that led to no session, at this moment.
    pub(super) fn of_dial(error: &DialError, at: Timestamp) -> Self {
        let refusal = error.refusal();
        Self {
            retry: error.retry(),
            refusal: refusal.is_some(),
            unknown_here: refusal == Some(RefusalCode::AgentUnknown),
            error: LastError {
                code: refusal
                    .map_or_else(|| error.kind(), RefusalCode::as_str)
                    .to_owned(),
                message: error.to_string(),
                advice: error.advice(),
                at,
            },
        }
    }

    /// Of a connection whose session waits for another one, at this moment.
    pub(super) fn of_connection(at: Timestamp) -> Self {
        Self {
            retry: Retry::Backoff,
            refusal: false,
            unknown_here: false,
            error: LastError {
                code: CloseCode::ConnectionLost.as_str().to_owned(),
                message: "the connection was lost; the session waits for another one".to_owned(),
                advice: advice(CloseCode::ConnectionLost).to_owned(),
                at,
            },
        }
    }

    /// The same, with the time that the relay has told for the next try, if it has. A
    /// session that broke meanwhile has one too: the relay was leaving.
    pub(super) fn or_in(mut self, slot: Option<Duration>) -> Self {
        if let (Retry::Backoff, Some(slot)) = (self.retry, slot) {
            self.retry = Retry::Slot(slot);
        }
        self
    }

    /// Of a session that lived so long, until this moment.
    pub(super) fn of_session(closed: &Closed, lived: Duration, at: Timestamp) -> Self {
        let Closed {
            code,
            reason,
            is_by_peer,
        } = closed;
        let who = if *is_by_peer {
            "the relay closed the session"
        } else {
            "the session ended"
        };
        let reason = if reason.is_empty() {
            code.as_str()
        } else {
            reason
        };
        Self {
            retry: match code {
                CloseCode::Superseded if lived < DIAL_OVERLAP => Retry::Backoff,
                code => code.retry(),
            },
            refusal: *code == CloseCode::Revoked,
            unknown_here: *code == CloseCode::Revoked,
            error: LastError {
                code: code.as_str().to_owned(),
                message: format!("{who}: {reason}"),
                advice: advice(*code).to_owned(),
                at,
            },
        }
    }
}

/// What the person on this host can do about the end of a session.
const fn advice(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Superseded => {
            "another process with this identity has connected: if the state directory was copied, stop one of the two"
        }
        CloseCode::Revoked => {
            "the vendor has removed this environment: enrol again with a new token, or stop the agent"
        }
        CloseCode::ProtocolViolation => "update the agent or the relay; if it stays, report it",
        CloseCode::HeartbeatTimeout | CloseCode::ConnectionLost => {
            "nothing, unless it happens often: then look for what cuts connections on the way"
        }
        CloseCode::Shutdown
        | CloseCode::HandshakeTimeout
        | CloseCode::Overloaded
        | CloseCode::InternalError
        | CloseCode::Refused
        | CloseCode::Goaway
        | CloseCode::NotResumable
        | CloseCode::Unknown(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: CloseCode, lived: Duration) -> Ended {
        let closed = Closed {
            code,
            reason: String::new(),
            is_by_peer: true,
        };
        Ended::of_session(&closed, lived, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_superseded_session_gives_way_unless_it_was_superseded_by_its_own_attempt() {
        let other = ended(CloseCode::Superseded, Duration::from_secs(60));
        let own = ended(CloseCode::Superseded, Duration::from_millis(300));

        assert!(matches!(other.retry, Retry::After(_)));
        assert_eq!(own.retry, Retry::Backoff);
    }

    #[test]
    fn a_revoked_agent_counts_as_refused_and_unknown() {
        let revoked = ended(CloseCode::Revoked, Duration::from_secs(60));

        assert!(revoked.refusal && revoked.unknown_here);
        assert_eq!(revoked.retry, Retry::Never);
        assert!(revoked.error.advice.contains("enrol again"));
    }

    #[test]
    fn an_end_without_a_reason_is_named_by_its_code() {
        let lost = ended(CloseCode::Shutdown, Duration::from_secs(60));

        assert_eq!(lost.error.message, "the relay closed the session: shutdown");
        assert_eq!((lost.retry, lost.refusal), (Retry::Backoff, false));
    }
}
