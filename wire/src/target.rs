//! What a stream reaches at the agent.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::limits::TARGET_BYTES_MAX;

/// What a stream reaches: the Docker Engine's socket, the agent's stacks, or a TCP service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The Docker Engine's Unix socket on the agent's host: `docker`.
    Docker,
    /// The agent's compose engine: `stacks`. HTTP with documents of its own.
    Stacks,
    /// A TCP service that the agent's policy file names: `tcp:HOST:PORT`.
    Tcp {
        /// A DNS name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// Never 0.
        port: u16,
    },
}

impl Target {
    /// The bounded kind for metric labels: `docker`, `stacks` or `tcp`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Stacks => "stacks",
            Self::Tcp { .. } => "tcp",
        }
    }
}

/// A target in text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseTargetError {
    /// Longer than a DNS name and a port can be.
    #[error("the target has {0} characters, more than {TARGET_BYTES_MAX}")]
    TooLong(usize),
    /// None of `docker`, `stacks` and `tcp:…`.
    #[error("`{0}` is not a target: expected `docker`, `stacks` or `tcp:HOST:PORT`")]
    UnknownKind(String),
    /// The host is empty or has characters that no host name or address has.
    #[error("`{0}` is not a host name or an address")]
    BadHost(String),
    /// The port is missing, 0, or above 65535.
    #[error("`{0}` is not a port: expected 1 to 65535")]
    BadPort(String),
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        if text.len() > TARGET_BYTES_MAX {
            return Err(ParseTargetError::TooLong(text.len()));
        }
        if text == "docker" {
            return Ok(Self::Docker);
        }
        if text == "stacks" {
            return Ok(Self::Stacks);
        }
        let rest = text
            .strip_prefix("tcp:")
            .ok_or_else(|| ParseTargetError::UnknownKind(text.to_owned()))?;
        let (host, port) = rest
            .rsplit_once(':')
            .ok_or_else(|| ParseTargetError::BadPort(String::new()))?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| ParseTargetError::BadPort(port.to_owned()))?;
        let host = match host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(ParseTargetError::BadHost(host.to_owned())),
            None => host,
        };
        let is_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let is_name = !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !is_ipv6 && !is_name {
            return Err(ParseTargetError::BadHost(host.to_owned()));
        }
        Ok(Self::Tcp {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker => f.write_str("docker"),
            Self::Stacks => f.write_str("stacks"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_back_from_their_text() {
        for text in [
            "docker",
            "stacks",
            "tcp:db.internal:5432",
            "tcp:127.0.0.1:80",
            "tcp:[::1]:443",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_target_without_a_usable_host_or_port_is_refused() {
        for text in [
            "",
            "tcp:",
            "tcp:host",
            "tcp::80",
            "tcp:host:0",
            "tcp:host:65536",
            "tcp:a b:1",
            "tcp:[host]:80",
            "udp:host:80",
            "tcp:host/path:80",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text} was taken");
        }
    }
}
