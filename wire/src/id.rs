//! Identifiers as types, so that no bare integer can be mistaken for another.
//!
//! Random ids are made from bytes that the caller supplies: this crate has no
//! randomness of its own.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;

/// An id in text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not {kind}: expected `{prefix}` and 26 characters of a-z, 2-7")]
pub struct ParseIdError {
    kind: &'static str,
    prefix: &'static str,
    text: String,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Makes the id from 16 random bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Reads the id from a peer's field; `None` unless it has 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The id's 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .and_then(|rest| BASE32_NOPAD.decode(rest.to_ascii_uppercase().as_bytes()).ok())
                    .and_then(|bytes| Self::from_slice(&bytes))
                    .ok_or_else(|| ParseIdError {
                        kind: $kind,
                        prefix: $prefix,
                        text: text.to_owned(),
                    })
            }
        }
    };
}

random_id! {
    /// An agent: one key pair on one host. Made by the relay when the agent enrols.
    AgentId, "agt_", "an agent id"
}
random_id! {
    /// An environment: the relay's record of one agent's host.
    EnvironmentId, "env_", "an environment id"
}
random_id! {
    /// A session: one authenticated presence of an agent or an operator.
    SessionId, "ses_", "a session id"
}
random_id! {
    /// A run of an agent's process; tells two copies of one identity apart.
    InstanceId, "run_", "an instance id"
}
random_id! {
    /// One request of a principal, from the API or the CLI to the agent's log.
    RequestId, "req_", "a request id"
}

/// Which end of a session: decides the parity of stream ids and who heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that opened the connection: an agent or an operator.
    Dialler,
    /// The end that accepted it: the relay.
    Acceptor,
}

impl Side {
    /// The other end.
    pub const fn peer(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// A stream within a session: a sequence number whose lowest bit says who opened
/// it (0 the dialler, 1 the acceptor). Used once; below 2^62.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl StreamId {
    /// The `index`-th stream, from 0, that `opener` opens.
    pub const fn new(opener: Side, index: u64) -> Self {
        let parity = match opener {
            Side::Dialler => 0,
            Side::Acceptor => 1,
        };
        Self((index << 1) | parity)
    }

    /// Reads an id from the wire.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The id as it is on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Who opened the stream.
    pub const fn opener(self) -> Side {
        if self.0 & 1 == 0 {
            Side::Dialler
        } else {
            Side::Acceptor
        }
    }

    /// How many streams the same end opened before it.
    pub const fn index(self) -> u64 {
        self.0 >> 1
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One connection of a session, in the order in which it was attached.
/// Local to one end; never on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Fencing number of an environment's session: the newest wins, everywhere.
///
/// Ordered by the relay's boot generation first, so that a connect writes
/// nothing to the store and a restarted relay is still above its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// How often the relay has started, from its store.
    pub generation: u64,
    /// How many sessions it has admitted since.
    pub counter: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = AgentId::from_bytes([7; 16]);

        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let id = AgentId::from_bytes([7; 16]);

        assert!(id.to_string().parse::<EnvironmentId>().is_err());
    }

    #[test]
    fn a_stream_id_keeps_its_opener_and_index() {
        let id = StreamId::new(Side::Acceptor, 9);

        assert_eq!(
            (id.opener(), id.index(), id.as_u64()),
            (Side::Acceptor, 9, 19)
        );
    }

    #[test]
    fn a_later_generation_is_above_any_counter_of_an_earlier_one() {
        let old = Epoch {
            generation: 1,
            counter: u64::MAX,
        };
        let new = Epoch {
            generation: 2,
            counter: 0,
        };

        assert!(new > old);
    }
}
