//! What the probe and a relay say to each other.
//!
//! A relay answers it without asking who comes, on 443 and on 8000, beside the production
//! protocol. Nothing here can amplify, reflect or scan: an answer goes only to who has proven
//! its address by TCP or QUIC, no answer names a third address, and an asker learns of arrivals
//! from its own address alone.
//!
//! | Where | What |
//! |---|---|
//! | `GET /probe/v1/echo` over TLS, 443/tcp and 8000/tcp | [`Echo`] as JSON |
//! | `GET /probe/v1/witness` over TLS, 443/tcp and 8000/tcp | [`Witness`] as JSON |
//! | WebSocket [`SOCKET_PATH`], subprotocol [`SUBPROTOCOL`] | one [`Request`] a binary message |
//! | QUIC with ALPN [`ALPN`] on 8000/udp | each message after its length, a u32, big endian |
//!
//! Over QUIC the messages are those of the client's first bidirectional stream.
//!
//! Over the socket and over QUIC the relay speaks first: an [`Echo`] as JSON, whose list of
//! headers is empty over QUIC.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Of the whole of it; told in every [`Echo`].
pub const VERSION: u32 = 1;
/// Path of [`Echo`].
pub const ECHO_PATH: &str = "/probe/v1/echo";
/// Path of [`Witness`].
pub const WITNESS_PATH: &str = "/probe/v1/witness";
/// Path of the WebSocket.
pub const SOCKET_PATH: &str = "/probe/v1/socket";
/// Path of a report that a run with a token leaves at the relay, by POST.
pub const REPORT_PATH: &str = "/probe/v1/report";
/// Subprotocol of the WebSocket.
pub const SUBPROTOCOL: &str = "sternline-probe.v1";
/// ALPN of QUIC.
pub const ALPN: &[u8] = b"sternline-probe/1";

/// The largest message, either way.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// What one socket carries in all, each way.
pub const SOCKET_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The longest time that an answer may be asked to wait: the longest rung of the idle ladder,
/// and some.
pub const LATER_MAX: Duration = Duration::from_secs(620);
/// The longest silence over QUIC: a relay forgets a connection that says nothing for a minute, as
/// it has to for those whose dialler has gone in the middle of the handshake. An agent says
/// something every 15 s.
pub const QUIC_SILENCE_MAX: Duration = Duration::from_secs(45);
/// How long a socket is open at most.
pub const SOCKET_TIME_MAX: Duration = Duration::from_secs(660);
/// Sockets that one address may have at once.
pub const SOCKETS_OF_ADDRESS_MAX: usize = 64;
/// Sockets at once, of all.
pub const SOCKETS_MAX: usize = 1024;
/// Of an [`Echo`]'s headers, names and values together.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// How long a relay remembers who arrived.
pub const WITNESS_FOR: Duration = Duration::from_secs(120);
/// Arrivals of one address that it remembers.
pub const ARRIVALS_MAX: usize = 128;

/// What a relay sees of who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// [`VERSION`].
    pub version: u32,
    /// Program and version of the relay.
    pub relay: String,
    /// Its identity key, as text.
    pub identity: String,
    /// Its wall clock, in milliseconds since 1970.
    pub time_ms: i64,
    /// Where the asker comes from, as the relay sees it.
    pub from: SocketAddr,
    /// The request's headers, in order, as they arrived; cut at [`HEADER_BYTES_MAX`].
    pub headers: Vec<(String, String)>,
}

/// What has arrived from the asker's address within [`WITNESS_FOR`], the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The asker, as the relay sees it.
    pub from: Option<SocketAddr>,
    /// At most [`ARRIVALS_MAX`].
    pub arrivals: Vec<Arrival>,
}

/// Something that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// By which door.
    pub door: Door,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
    /// From which port of the asker's address.
    pub from_port: u16,
    /// How far it came.
    pub stage: Stage,
}

/// A door of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// 443/tcp.
    Https,
    /// 8000/tcp.
    TunnelTcp,
    /// 8000/udp.
    TunnelUdp,
}

/// How far an arrival came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A TCP connection was accepted, or a first QUIC packet came.
    Arrived,
    /// The relay had no time for it, or no room, and sent it away.
    SentAway,
    /// TLS or QUIC failed: the asker, or somebody between, broke it off.
    BrokenOff,
    /// TLS or QUIC is done.
    Secured,
    /// A request, or a frame of the session, came over it.
    Asked,
}

/// What may be asked over a socket or a stream of QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// These bytes, back: `01 · bytes`. The answer is the whole message.
    Back(Vec<u8>),
    /// So many bytes: `02 · u32`, big endian, at most [`MESSAGE_BYTES_MAX`]. The answer is zeros.
    Send(u32),
    /// One byte, `03`, after so many milliseconds: `03 · u32`, at most [`LATER_MAX`].
    Later(Duration),
    /// Nothing: `04 · bytes`. What is sent to measure the way up; every [`Request::Send`] of 1
    /// after it is its acknowledgement.
    Forget(Vec<u8>),
}

/// Bytes that are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the bytes are no request of the probe")]
pub struct NotARequest;

impl Request {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Back(bytes) => (1, bytes.clone()),
            Self::Send(size) => (2, size.to_be_bytes().to_vec()),
            Self::Later(time) => {
                let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
                (3, milliseconds.to_be_bytes().to_vec())
            }
            Self::Forget(bytes) => (4, bytes.clone()),
        };
        let mut message = vec![kind];
        message.extend_from_slice(&body);
        message
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// The message is none, or asks for more than is given.
    pub fn decode(message: &[u8]) -> Result<Self, NotARequest> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(NotARequest);
        }
        let (kind, body) = message.split_first().ok_or(NotARequest)?;
        let number = || {
            let bytes = body.try_into().map_err(|_| NotARequest)?;
            Ok(u32::from_be_bytes(bytes))
        };
        match kind {
            1 => Ok(Self::Back(body.to_vec())),
            2 => {
                let size = number()?;
                let is_too_much = size == 0 || size as usize > MESSAGE_BYTES_MAX;
                (!is_too_much)
                    .then_some(Self::Send(size))
                    .ok_or(NotARequest)
            }
            3 => {
                let time = Duration::from_millis(number()?.into());
                (time <= LATER_MAX)
                    .then_some(Self::Later(time))
                    .ok_or(NotARequest)
            }
            4 => Ok(Self::Forget(body.to_vec())),
            _ => Err(NotARequest),
        }
    }
}
