//! The ways to carry a session.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

use crate::limits::{
    HEARTBEAT_BUSY_QUIC, HEARTBEAT_BUSY_WEBSOCKET, HEARTBEAT_IDLE_QUIC, HEARTBEAT_IDLE_WEBSOCKET,
};

/// A way to carry a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// QUIC on UDP 8000.
    Quic,
    /// WebSocket over TLS on TCP 8000.
    Ws,
    /// WebSocket over TLS under a path on 443.
    Ws443,
}

/// A transport in text that is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a transport: expected `quic`, `ws` or `ws-443`")]
pub struct ParseTransportError(String);

impl Transport {
    /// Every transport, the preferred first.
    pub const ALL: [Self; 3] = [Self::Quic, Self::Ws, Self::Ws443];

    /// The name in the CLI, the API, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Ws => "ws",
            Self::Ws443 => "ws-443",
        }
    }

    /// How long an idle dialler is silent at most.
    pub const fn heartbeat_idle(self) -> Duration {
        match self {
            Self::Quic => HEARTBEAT_IDLE_QUIC,
            Self::Ws | Self::Ws443 => HEARTBEAT_IDLE_WEBSOCKET,
        }
    }

    /// How long either end waits without hearing anything, while streams are
    /// open, before it asks.
    pub const fn heartbeat_busy(self) -> Duration {
        match self {
            Self::Quic => HEARTBEAT_BUSY_QUIC,
            Self::Ws | Self::Ws443 => HEARTBEAT_BUSY_WEBSOCKET,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, ParseTransportError> {
        Self::ALL
            .into_iter()
            .find(|transport| transport.as_str() == text)
            .ok_or_else(|| ParseTransportError(text.to_owned()))
    }
}
