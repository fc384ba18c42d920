//! The enrolment token: one string that a person pastes on the customer's host.
//!
//! `stl1_` and base64url of a [`message::Token`] followed by its CRC-32, so that a
//! token cut short by a copy is told apart from a wrong one before anything is sent.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use prost::Message;
use thiserror::Error;

use crate::{
    key::{PublicKey, Secret},
    message,
};

/// Begins every token; the digit is the version of the format.
pub const TOKEN_PREFIX: &str = "stl1_";

/// Longest token in text: far above 16 addresses with the longest names.
pub const TOKEN_CHARS_MAX: usize = 8 * 1024;

/// Where a relay is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelayAddress {
    /// DNS name or address, an IPv6 one without brackets.
    pub host: String,
    /// WebSocket on TCP and QUIC on UDP.
    pub tunnel_port: u16,
    /// HTTPS, with the tunnel under a path.
    pub https_port: u16,
}

/// The port of a relay's tunnel unless told otherwise.
pub const TUNNEL_PORT_DEFAULT: u16 = 8000;

/// The port of a relay's HTTPS unless told otherwise.
pub const HTTPS_PORT_DEFAULT: u16 = 443;

/// An enrolment token, read and checked. Its secret is never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolToken {
    /// At least one, best first.
    pub addresses: Vec<RelayAddress>,
    /// The key that the relay must prove at every session.
    pub relay_identity: PublicKey,
    /// The one-time secret.
    pub secret: Secret,
    /// Seconds since 1970 after which the relay refuses it.
    pub expires_unix_seconds: i64,
    /// Name of the environment, for people.
    pub environment: String,
}

/// A token that cannot be read. Never holds any part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseTokenError {
    /// It does not begin as tokens do.
    #[error("this is not an enrolment token: it does not begin with `{TOKEN_PREFIX}`")]
    NotAToken,
    /// Its check sum does not fit: a character was lost or changed.
    #[error("the token was cut short or changed on its way: paste it again, whole")]
    Damaged,
    /// Its content is not what this version knows.
    #[error("the token's content is not understood: update the agent")]
    Unsupported,
}

impl EnrolToken {
    fn from_message(token: message::Token) -> Option<Self> {
        let addresses = token
            .addresses
            .into_iter()
            .map(address_from_message)
            .collect::<Option<Vec<_>>>()?;
        if addresses.is_empty() {
            return None;
        }
        Some(Self {
            addresses,
            relay_identity: PublicKey::from_slice(&token.relay_identity)?,
            secret: Secret::from_slice(&token.secret)?,
            expires_unix_seconds: token.expires_unix_seconds,
            environment: token.environment,
        })
    }

    /// The string to paste. Not `Display`, so that no log prints it by accident.
    pub fn to_text(&self) -> String {
        let token = message::Token {
            addresses: self.addresses.iter().map(address_to_message).collect(),
            relay_identity: self.relay_identity.0.to_vec(),
            secret: self.secret.expose().to_vec(),
            expires_unix_seconds: self.expires_unix_seconds,
            environment: self.environment.clone(),
        };
        let mut bytes = token.encode_to_vec();
        bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
        format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

fn address_from_message(address: message::Address) -> Option<RelayAddress> {
    let port = |value: u32, default: u16| match value {
        0 => Some(default),
        value => u16::try_from(value).ok(),
    };
    if address.host.is_empty() || address.host.len() > 253 {
        return None;
    }
    Some(RelayAddress {
        tunnel_port: port(address.tunnel_port, TUNNEL_PORT_DEFAULT)?,
        https_port: port(address.https_port, HTTPS_PORT_DEFAULT)?,
        host: address.host,
    })
}

fn address_to_message(address: &RelayAddress) -> message::Address {
    message::Address {
        host: address.host.clone(),
        tunnel_port: address.tunnel_port.into(),
        https_port: address.https_port.into(),
    }
}

impl FromStr for EnrolToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let rest = text
            .trim()
            .strip_prefix(TOKEN_PREFIX)
            .ok_or(ParseTokenError::NotAToken)?;
        if rest.len() > TOKEN_CHARS_MAX {
            return Err(ParseTokenError::Damaged);
        }
        let bytes = BASE64URL_NOPAD
            .decode(rest.as_bytes())
            .map_err(|_| ParseTokenError::Damaged)?;
        let (body, sum) = bytes
            .split_last_chunk::<4>()
            .ok_or(ParseTokenError::Damaged)?;
        if crc32(body).to_be_bytes() != *sum {
            return Err(ParseTokenError::Damaged);
        }
        let token = message::Token::decode(body).map_err(|_| ParseTokenError::Unsupported)?;
        Self::from_message(token).ok_or(ParseTokenError::Unsupported)
    }
}

impl fmt::Debug for EnrolToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolToken")
            .field("addresses", &self.addresses)
            .field("relay_identity", &self.relay_identity)
            .field("secret", &self.secret)
            .field("expires_unix_seconds", &self.expires_unix_seconds)
            .field("environment", &self.environment)
            .finish()
    }
}

/// CRC-32 as in ISO 3309 and zlib (reflected, polynomial 0xEDB88320). Guards
/// against accidents only; bit by bit, as a token is short.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = (crc & 1).wrapping_neg();
            crc = (crc >> 1) ^ (0xEDB8_8320 & mask);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> EnrolToken {
        EnrolToken {
            addresses: vec![RelayAddress {
                host: "relay.example".into(),
                tunnel_port: 8000,
                https_port: 443,
            }],
            relay_identity: PublicKey([3; 32]),
            secret: Secret::from_bytes([5; 32]),
            expires_unix_seconds: 1_800_000_000,
            environment: "berlin".into(),
        }
    }

    #[test]
    fn the_check_sum_is_the_one_zlib_computes() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_token_reads_back_from_its_text_with_blanks_around_it() {
        let text = format!("  {}\n", token().to_text());

        assert_eq!(text.parse(), Ok(token()));
    }

    #[test]
    fn a_token_cut_short_anywhere_is_refused_before_it_is_sent() {
        let text = token().to_text();

        for length in TOKEN_PREFIX.len()..text.len() {
            let cut = text[..length].parse::<EnrolToken>();

            assert_eq!(cut, Err(ParseTokenError::Damaged), "cut to {length}");
        }
    }

    #[test]
    fn a_token_never_prints_its_secret() {
        let printed = format!("{:?}", token());

        assert!(printed.contains("****") && !printed.contains("5, 5"));
    }
}
