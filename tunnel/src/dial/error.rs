//! Why a relay was not reached: what happened, whether to try again, what to do.

use std::{fmt, io};

use tokio::time::Instant;
use wire::{
    close::{RefusalCode, Retry},
    handshake::{HandshakeError, Refusal},
    token::RelayAddress,
    transport::Transport,
};

use crate::{busy::Busy, handshake::ConnectionError, websocket::WebSocketError};

/// Why one route to a relay failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// No address was configured.
    Nowhere,
    /// The name could not be resolved.
    Resolve(io::Error),
    /// No connection came about: refused, no route, reset.
    Connect(io::Error),
    /// No TLS came about, or the certificate was not trusted.
    Tls(io::Error),
    /// No WebSocket came about.
    WebSocket(WebSocketError),
    /// The relay has no time for a handshake, and has said when it will.
    Busy {
        /// The time that it named.
        come_back_at: Instant,
    },
    /// The session's handshake did not hold.
    Handshake(ConnectionError),
    /// The relay has answered, and refused.
    Refused(Refusal),
    /// Nothing was answered in time.
    TimedOut,
    /// The session that was to be resumed has ended at this end meanwhile.
    SessionOver,
}

impl Cause {
    /// TLS did not come about, unless what came in its place says why.
    pub(super) fn of_tls(error: io::Error) -> Self {
        match Busy::of(&error) {
            Some(busy) => Self::Busy {
                come_back_at: Instant::now() + busy.come_back_in,
            },
            None => Self::Tls(error),
        }
    }
}

impl From<ConnectionError> for Cause {
    fn from(error: ConnectionError) -> Self {
        Self::Handshake(error)
    }
}

impl From<WebSocketError> for Cause {
    fn from(error: WebSocketError) -> Self {
        Self::WebSocket(error)
    }
}

/// Why a relay was not reached.
#[derive(Debug)]
pub struct DialError {
    address: Option<RelayAddress>,
    transport: Option<Transport>,
    cause: Cause,
    /// Who issued the certificate that was shown.
    issuer: Option<String>,
}

impl DialError {
    pub(super) fn new(
        address: RelayAddress,
        transport: Transport,
        cause: Cause,
        issuer: Option<String>,
    ) -> Self {
        Self {
            address: Some(address),
            transport: Some(transport),
            cause,
            issuer,
        }
    }

    pub(super) const fn nowhere() -> Self {
        Self {
            address: None,
            transport: None,
            cause: Cause::Nowhere,
            issuer: None,
        }
    }

    /// Of two failures the one that got further, because it says more.
    pub(super) fn more_telling(earlier: Option<Self>, later: Self) -> Self {
        match earlier {
            Some(earlier) if earlier.depth() >= later.depth() => earlier,
            _ => later,
        }
    }

    const fn depth(&self) -> u8 {
        match &self.cause {
            Cause::Nowhere => 0,
            Cause::TimedOut | Cause::SessionOver => 1,
            Cause::Resolve(_) => 2,
            Cause::Connect(_) => 3,
            Cause::WebSocket(_) => 4,
            Cause::Tls(_) => 5,
            Cause::Handshake(_) => 6,
            Cause::Busy { .. } => 7,
            Cause::Refused(_) => 8,
        }
    }

    /// What happened.
    pub const fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Which transport failed.
    pub const fn transport(&self) -> Option<Transport> {
        self.transport
    }

    /// Whether the host is there and nothing listens on the port, over TCP.
    pub(super) fn is_nobody_listening(&self) -> bool {
        let is_refused = matches!(
            &self.cause,
            Cause::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused
        );
        is_refused && self.transport != Some(Transport::Quic)
    }

    /// Whether nobody listens, or who does closed without a word of TLS, as a relay that
    /// restarts or has no time: it may pass by itself, and soon.
    pub fn may_pass(&self) -> bool {
        let is_cut = matches!(&self.cause, Cause::Tls(error) if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ));
        is_cut || self.is_nobody_listening() || self.is_busy()
    }

    /// Whether the relay has answered that it has no time.
    pub(super) const fn is_busy(&self) -> bool {
        matches!(&self.cause, Cause::Busy { .. })
    }

    /// Whether it is a failure at this address.
    pub(super) fn is_of(&self, address: &RelayAddress) -> bool {
        self.address.as_ref() == Some(address)
    }

    /// The relay's refusal, where it was one.
    pub const fn refusal(&self) -> Option<RefusalCode> {
        match &self.cause {
            Cause::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether and when to try again.
    pub fn retry(&self) -> Retry {
        match &self.cause {
            Cause::Refused(refusal) => refusal.retry(),
            Cause::Busy { come_back_at } => {
                Retry::Slot(come_back_at.saturating_duration_since(Instant::now()))
            }
            _ => Retry::Backoff,
        }
    }

    /// A bounded word for metrics and scripts.
    pub const fn kind(&self) -> &'static str {
        match &self.cause {
            Cause::Nowhere => "no_address",
            Cause::Resolve(_) => "resolve",
            Cause::Connect(_) => "connect",
            Cause::Tls(_) => "tls",
            Cause::WebSocket(_) => "websocket",
            Cause::Busy { .. } => "busy",
            Cause::Handshake(ConnectionError::Handshake(HandshakeError::Intercepted)) => {
                "intercepted"
            }
            Cause::Handshake(ConnectionError::Handshake(HandshakeError::WrongIdentity {
                ..
            })) => "wrong_identity",
            Cause::Handshake(_) => "handshake",
            Cause::Refused(_) => "refused",
            Cause::TimedOut => "timed_out",
            Cause::SessionOver => "session_over",
        }
    }

    /// What a person should do about it; empty where nothing is known to help.
    pub fn advice(&self) -> String {
        let (host, port) = match (&self.address, self.transport) {
            (Some(address), Some(Transport::Ws443)) => (address.host.as_str(), address.https_port),
            (Some(address), _) => (address.host.as_str(), address.tunnel_port),
            (None, _) => ("the relay", 0),
        };
        let protocol = if self.transport == Some(Transport::Quic) {
            "UDP"
        } else {
            "TCP"
        };
        match &self.cause {
            Cause::Nowhere => "give the agent a token that names a relay".into(),
            Cause::Resolve(_) => format!("check that this host's DNS knows {host}"),
            Cause::Connect(_) | Cause::TimedOut => {
                format!("allow outbound {protocol} to {host} port {port} in the firewall")
            }
            Cause::Tls(_) => format!(
                "check that {host} port {port} is the relay itself, and give its CA if it has its own"
            ),
            Cause::WebSocket(_) => format!(
                "a proxy or another service may answer on {host} port {port}; it must let WebSocket pass"
            ),
            Cause::Handshake(ConnectionError::Handshake(HandshakeError::Intercepted)) => {
                let by = self.issuer.as_deref().unwrap_or("unknown");
                format!("exempt {host} from TLS interception (the certificate's issuer is `{by}`)")
            }
            Cause::Handshake(ConnectionError::Handshake(HandshakeError::WrongIdentity {
                ..
            })) => "this is another relay than the token's; ask the vendor for a new token".into(),
            Cause::Handshake(ConnectionError::Handshake(HandshakeError::VersionUnsupported {
                ..
            })) => "update the agent or the relay".into(),
            Cause::Busy { .. } => RefusalCode::Overloaded.advice().into(),
            Cause::Handshake(_) | Cause::SessionOver => String::new(),
            Cause::Refused(refusal) => refusal.code.advice().into(),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(address), Some(transport)) = (&self.address, self.transport) {
            write!(f, "relay {} over {transport}: ", address.host)?;
        }
        match &self.cause {
            Cause::Nowhere => f.write_str("no relay address is known"),
            Cause::Resolve(error) => write!(f, "name not resolved: {error}"),
            Cause::Connect(error) => write!(f, "no connection: {error}"),
            Cause::Tls(error) => write!(f, "no TLS: {error}"),
            Cause::WebSocket(error) => error.fmt(f),
            Cause::Busy { .. } => f.write_str("it takes nobody now, and has said when it will"),
            Cause::Handshake(error) => error.fmt(f),
            Cause::Refused(refusal) if refusal.reason.is_empty() => {
                write!(f, "refused: {}", refusal.code)
            }
            Cause::Refused(refusal) => write!(f, "refused: {}: {}", refusal.code, refusal.reason),
            Cause::SessionOver => f.write_str("the session to be resumed has ended meanwhile"),
            Cause::TimedOut => write!(
                f,
                "nothing answered within {} s",
                wire::limits::HANDSHAKE_TIMEOUT.as_secs()
            ),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Resolve(error) | Cause::Connect(error) | Cause::Tls(error) => Some(error),
            Cause::WebSocket(error) => Some(error),
            Cause::Handshake(error) => Some(error),
            Cause::Nowhere
            | Cause::Busy { .. }
            | Cause::Refused(_)
            | Cause::TimedOut
            | Cause::SessionOver => None,
        }
    }
}
