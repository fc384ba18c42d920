//! Why anything ends: whose fault it is, and whether trying again can help.
//!
//! Numbers are part of the protocol and are never given a second meaning; an
//! unknown number of a newer peer is kept as [`CloseCode::Unknown`].

use std::{fmt, time::Duration};

/// Whose fault an ending is, seen from the end that reads the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody's: the ending was meant.
    Nobody,
    /// The end that sent the code.
    Sender,
    /// The end that received the code.
    Receiver,
    /// What lies between.
    Network,
}

/// Whether and when the dialler may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// As the backoff says.
    Backoff,
    /// Not before this long; a person may mend it meanwhile.
    After(Duration),
    /// When this long has passed, and neither earlier nor later: others have the times
    /// before and after.
    Slot(Duration),
    /// Never with these credentials: only a person can mend it.
    Never,
}

macro_rules! codes {
    (
        $(#[$doc:meta])* $name:ident
        $( $(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal; )+
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$vdoc])* $variant, )+
            /// A code of a newer peer.
            Unknown(u16),
        }

        impl $name {
            /// Every code that this version knows, for tables and metrics.
            pub const ALL: &[Self] = &[$( Self::$variant, )+];

            /// The number on the wire.
            pub const fn as_u16(self) -> u16 {
                match self {
                    $( Self::$variant => $number, )+
                    Self::Unknown(number) => number,
                }
            }

            /// Reads the number from the wire.
            pub const fn from_u16(number: u16) -> Self {
                match number {
                    $( $number => Self::$variant, )+
                    number => Self::Unknown(number),
                }
            }

            /// The stable name in logs, metrics and the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                    Self::Unknown(_) => "unknown",
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// Why a connection, and with it usually the session, ended.
    CloseCode
    /// The sender has finished and goes in order.
    Shutdown = 0, "shutdown";
    /// A newer session of the same environment has taken over.
    Superseded = 1, "superseded";
    /// The environment was removed or the credential revoked.
    Revoked = 2, "revoked";
    /// The receiver broke the protocol: a malformed, oversized or out-of-order frame.
    ProtocolViolation = 3, "protocol_violation";
    /// The handshake did not finish in time.
    HandshakeTimeout = 4, "handshake_timeout";
    /// Nothing was heard until the heartbeat's deadline.
    HeartbeatTimeout = 5, "heartbeat_timeout";
    /// The sender is full: too many sessions or handshakes.
    Overloaded = 6, "overloaded";
    /// The sender failed in a way that is its own fault; its log says more.
    InternalError = 7, "internal_error";
    /// The transport broke without a word.
    ConnectionLost = 8, "connection_lost";
    /// The handshake was refused; the refusal said why.
    Refused = 9, "refused";
    /// The session moves elsewhere; the goaway said when and where.
    Goaway = 10, "goaway";
    /// The session could not be resumed on a new connection.
    NotResumable = 11, "not_resumable";
}

impl CloseCode {
    /// Whose fault it is.
    pub const fn fault(self) -> Fault {
        match self {
            Self::Shutdown | Self::Goaway | Self::Superseded | Self::Revoked => Fault::Nobody,
            Self::ProtocolViolation | Self::Refused => Fault::Receiver,
            Self::Overloaded | Self::InternalError | Self::Unknown(_) | Self::NotResumable => {
                Fault::Sender
            }
            Self::HandshakeTimeout | Self::HeartbeatTimeout | Self::ConnectionLost => {
                Fault::Network
            }
        }
    }

    /// Whether the dialler may try again.
    pub const fn retry(self) -> Retry {
        match self {
            // Another copy or a newer run of this agent is in place: calling back
            // at once would be a fight.
            Self::Superseded => Retry::After(Duration::from_secs(30)),
            Self::Revoked => Retry::Never,
            Self::Shutdown
            | Self::ProtocolViolation
            | Self::HandshakeTimeout
            | Self::HeartbeatTimeout
            | Self::Overloaded
            | Self::InternalError
            | Self::ConnectionLost
            | Self::Refused
            | Self::Goaway
            | Self::NotResumable
            | Self::Unknown(_) => Retry::Backoff,
        }
    }
}

codes! {
    /// Why one direction of a stream, or a whole stream, was broken.
    ResetCode
    /// The application went away; nobody is interested any more.
    Cancelled = 0, "cancelled";
    /// The policy on the agent's host does not allow the target.
    PolicyDenied = 1, "policy_denied";
    /// The target could not be reached: refused, no route, no such socket.
    TargetUnreachable = 2, "target_unreachable";
    /// The agent's process may not open the target: permission denied.
    TargetForbidden = 3, "target_forbidden";
    /// The target broke the connection.
    TargetReset = 4, "target_reset";
    /// The environment has no session.
    EnvironmentOffline = 5, "environment_offline";
    /// There is no such environment, or the principal may not reach it.
    EnvironmentUnknown = 6, "environment_unknown";
    /// The session ended under the stream.
    SessionEnded = 7, "session_ended";
    /// A limit was reached; the reason names it.
    LimitReached = 8, "limit_reached";
    /// The open was malformed or names a target this version does not know.
    BadRequest = 9, "bad_request";
    /// Nothing answered in time.
    Timeout = 10, "timeout";
    /// The end that sent it failed; its log says more.
    InternalError = 11, "internal_error";
}

impl ResetCode {
    /// What a person can do about it; empty where there is nothing to do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::PolicyDenied => "the customer's policy file must name the target",
            Self::TargetUnreachable => "check that the service listens on the agent's host",
            Self::TargetForbidden => {
                "give the agent's user access to the target (for Docker: the `docker` group)"
            }
            Self::EnvironmentOffline => {
                "look at `sternline-relay env show` and at `sternline-agent status` on the host"
            }
            Self::EnvironmentUnknown => "list the environments with `sternline-relay env list`",
            Self::LimitReached => "close streams that are not needed, and try again",
            Self::Cancelled
            | Self::TargetReset
            | Self::SessionEnded
            | Self::BadRequest
            | Self::Timeout
            | Self::InternalError
            | Self::Unknown(_) => "",
        }
    }
}

codes! {
    /// Why a handshake was refused.
    RefusalCode
    /// The token is not one of this relay's, or was cut short.
    TokenUnknown = 1, "token_unknown";
    /// The token has been used; each enrols one agent.
    TokenUsed = 2, "token_used";
    /// The token is past its expiry.
    TokenExpired = 3, "token_expired";
    /// The agent is not known here, or was removed.
    AgentUnknown = 4, "agent_unknown";
    /// The proof of the key does not fit this connection.
    BadProof = 5, "bad_proof";
    /// Another run of the same identity is or was in place: the identity was copied.
    CopiedIdentity = 6, "copied_identity";
    /// No protocol version is spoken by both ends.
    VersionUnsupported = 7, "version_unsupported";
    /// The relay takes no further session now.
    Overloaded = 8, "overloaded";
    /// The hello is malformed.
    BadHello = 9, "bad_hello";
    /// The API token is not valid.
    CredentialInvalid = 10, "credential_invalid";
    /// The relay failed; its log says more.
    InternalError = 11, "internal_error";
    /// The relay is draining and takes no new session.
    Draining = 12, "draining";
    /// The session that a bulk lane is for is not live here.
    SessionUnknown = 13, "session_unknown";
}

impl RefusalCode {
    /// Whether the dialler may try again.
    pub const fn retry(self) -> Retry {
        match self {
            Self::TokenUnknown | Self::TokenUsed | Self::TokenExpired => Retry::Never,
            // A person can mend these at the relay alone, so the agent asks again,
            // rarely, and nobody has to touch the customer's host.
            Self::AgentUnknown | Self::CopiedIdentity | Self::VersionUnsupported => {
                Retry::After(Duration::from_secs(300))
            }
            Self::CredentialInvalid => Retry::Never,
            Self::BadProof | Self::BadHello => Retry::After(Duration::from_secs(60)),
            Self::Overloaded
            | Self::InternalError
            | Self::Draining
            | Self::SessionUnknown
            | Self::Unknown(_) => Retry::Backoff,
        }
    }

    /// What to do about it, for the person at the dialler's end.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::TokenUnknown => "paste the whole token again, or ask the vendor for a new one",
            Self::TokenUsed => {
                "a token enrols one agent; ask the vendor for a new one, or keep the old state directory"
            }
            Self::TokenExpired => "ask the vendor for a new token",
            Self::AgentUnknown => {
                "the vendor has removed this environment; enrol again with a new token"
            }
            Self::BadProof => {
                "somebody may stand between, or the identity file was damaged; enrol again if it stays"
            }
            Self::CopiedIdentity => {
                "the state directory was copied to a second host; stop one of the two, then let the vendor run `sternline-relay env release`"
            }
            Self::VersionUnsupported => "update the agent or the relay",
            Self::CredentialInvalid => "check STERNLINE_API_TOKEN",
            Self::BadHello => "update the agent or the relay; if it stays, report it",
            Self::Overloaded | Self::Draining | Self::SessionUnknown => {
                "nothing: it is tried again by itself"
            }
            Self::InternalError => "the vendor's relay log says more",
            Self::Unknown(_) => "update this program to learn what the code means",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_number() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_u16(code.as_u16()), *code);
        }
        for code in ResetCode::ALL {
            assert_eq!(ResetCode::from_u16(code.as_u16()), *code);
        }
        for code in RefusalCode::ALL {
            assert_eq!(RefusalCode::from_u16(code.as_u16()), *code);
        }
    }

    #[test]
    fn a_code_of_a_newer_peer_keeps_its_number() {
        assert_eq!(CloseCode::from_u16(999).as_u16(), 999);
    }
}
