//! Why a relay was not reached: what happened, whether to try again, what to do.

use std::{fmt, io};

use tokio::time::Instant;
use wire::{
    close::{RefusalCode, Retry},
    handshake::{HandshakeError, Refusal},
    transport::Transport,
};

use super::{
    proxy::{Proxy, ProxyError},
    way::Way,
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
    /// The proxy on the way was not reached, or did not connect.
    Proxy(ProxyError),
    /// No TLS came about, or the certificate was not trusted.
    Tls(io::Error),
    /// TLS is intercepted, and not by whom the customer allows it.
    Interceptor(io::Error),
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

impl From<ProxyError> for Cause {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}

/// Whether somebody was found who ends TLS in between.
pub(super) const fn intercepted(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Handshake(ConnectionError::Handshake(HandshakeError::Intercepted))
    )
}

/// Why a relay was not reached.
#[derive(Debug)]
pub struct DialError {
    way: Option<Way>,
    cause: Cause,
    /// Who issued the certificate that was shown.
    issuer: Option<String>,
}

impl DialError {
    pub(super) const fn new(way: Way, cause: Cause, issuer: Option<String>) -> Self {
        Self {
            way: Some(way),
            cause,
            issuer,
        }
    }

    pub(super) const fn nowhere() -> Self {
        Self {
            way: None,
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
            Cause::Proxy(ProxyError::Resolve(_) | ProxyError::Connect(_)) => 3,
            Cause::Proxy(_) | Cause::WebSocket(_) => 4,
            Cause::Tls(_) | Cause::Interceptor(_) => 5,
            Cause::Handshake(_) => 6,
            Cause::Busy { .. } => 7,
            Cause::Refused(_) => 8,
        }
    }

    /// What happened.
    pub const fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Which way led nowhere.
    pub const fn way(&self) -> Option<&Way> {
        self.way.as_ref()
    }

    /// Which transport failed.
    pub fn transport(&self) -> Option<Transport> {
        self.way.as_ref().map(|way| way.transport)
    }

    /// Whether the host is there and nothing listens on the port, over TCP.
    fn is_nobody_listening(&self) -> bool {
        let is_refused = matches!(
            &self.cause,
            Cause::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused
        );
        is_refused && self.transport() != Some(Transport::Quic)
    }

    /// Whether somebody has answered, and said that nothing is to be had there now: the host,
    /// that nobody listens on its TCP port, or the proxy, that it does not connect.
    pub(super) fn is_answer(&self) -> bool {
        matches!(&self.cause, Cause::Proxy(_)) || self.is_nobody_listening()
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

    /// Whether it is a failure at the address that this way leads to.
    pub(super) fn is_of(&self, way: &Way) -> bool {
        let own = self.way.as_ref();
        own.is_some_and(|own| own.address == way.address)
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
            Cause::Proxy(ProxyError::SocksLogin) => "proxy_login",
            Cause::Proxy(ProxyError::Http(answer)) if answer.status == 407 => "proxy_login",
            Cause::Proxy(ProxyError::Http(_) | ProxyError::Socks(_)) => "proxy_refused",
            Cause::Proxy(_) => "proxy",
            Cause::Tls(_) => "tls",
            Cause::WebSocket(_) => "websocket",
            Cause::Busy { .. } => "busy",
            Cause::Handshake(ConnectionError::Handshake(HandshakeError::Intercepted))
            | Cause::Interceptor(_) => "intercepted",
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
        let Some(way) = &self.way else {
            return "give the agent a token that names a relay".into();
        };
        let (host, port) = (way.address.host.as_str(), way.port());
        let protocol = if way.transport == Transport::Quic {
            "UDP"
        } else {
            "TCP"
        };
        match &self.cause {
            Cause::Nowhere => "give the agent a token that names a relay".into(),
            Cause::Resolve(_) => format!("check that this host's DNS knows {host}"),
            Cause::Proxy(error) => match &way.proxy {
                Some(proxy) => proxy_advice(proxy, error, (host, port)),
                None => String::new(),
            },
            Cause::TimedOut if way.proxy.is_some() => format!(
                "ask the administrator of the proxy whether it may connect to {host}:{port}"
            ),
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
            Cause::Interceptor(_) => {
                let by = self.issuer.as_deref().unwrap_or("unknown");
                format!(
                    "exempt {host} from TLS interception, or have the agent's `interception_ca` hold the CA of its issuer, which is `{by}`"
                )
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
        if let Some(way) = &self.way {
            write!(f, "relay {} over {way}: ", way.address.host)?;
        }
        match &self.cause {
            Cause::Nowhere => f.write_str("no relay address is known"),
            Cause::Resolve(error) => write!(f, "name not resolved: {error}"),
            Cause::Connect(error) => write!(f, "no connection: {error}"),
            Cause::Proxy(error) => write!(f, "the proxy: {error}"),
            Cause::Tls(error) => write!(f, "no TLS: {error}"),
            Cause::Interceptor(error) => write!(
                f,
                "TLS is intercepted, and not by whom it is allowed to: {error}"
            ),
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
            Cause::Resolve(error)
            | Cause::Connect(error)
            | Cause::Tls(error)
            | Cause::Interceptor(error) => Some(error),
            Cause::Proxy(error) => Some(error),
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

/// What to do about a proxy that was not reached, or did not connect to a host and a port.
fn proxy_advice(proxy: &Proxy, error: &ProxyError, (host, port): (&str, u16)) -> String {
    let wants_login = match error {
        ProxyError::SocksLogin => true,
        ProxyError::Http(answer) => answer.status == 407,
        _ => false,
    };
    match error {
        ProxyError::Http(answer) if let Some(schemes) = answer.foreign_schemes() => format!(
            "{proxy} wants a login of the kind {schemes}, and only Basic is spoken here: ask its \
             administrator for Basic, or for an exemption of {host}:{port}"
        ),
        _ if wants_login && proxy.has_login() => format!(
            "check user and password for {proxy}: in `proxy`, in the file that \
             `proxy_login_file` names, or in HTTPS_PROXY"
        ),
        _ if wants_login => format!(
            "give user and password for {proxy}: USER:PASSWORD in a file that \
             `proxy_login_file` names"
        ),
        ProxyError::Socks(reply) if !reply.is_forbidden() => {
            format!("check that {proxy} can reach {host}:{port}")
        }
        ProxyError::Http(answer) if answer.status >= 500 => {
            format!("check that {proxy} knows the name {host} and can reach its port {port}")
        }
        ProxyError::Http(_) | ProxyError::Socks(_) => {
            format!("ask the administrator of {proxy} to allow CONNECT to {host}:{port}")
        }
        ProxyError::Tls(_) => format!(
            "give the CA that vouches for {proxy} with `ca`, or check that it is spoken to over TLS"
        ),
        ProxyError::NotAProxy(_) => format!("check kind, host and port of {proxy}"),
        _ => format!("check that {proxy} is the proxy, and that this host reaches it"),
    }
}
