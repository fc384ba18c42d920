//! Where a command shall listen on the operator's machine.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

/// A Unix socket, or a TCP address and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `unix:///PATH`.
    Unix(PathBuf),
    /// `tcp://IP:PORT` or `IP:PORT`; port 0 lets the system choose.
    Tcp(SocketAddr),
}

/// An address in text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseListenError {
    /// A Unix socket needs an absolute path, as `DOCKER_HOST` does.
    #[error("`{0}` has no absolute path: expected unix:///PATH")]
    RelativePath(String),
    /// Not an IP address and a port.
    #[error("`{0}` is no address: expected 127.0.0.1:PORT, [::1]:PORT or unix:///PATH")]
    NotAnAddress(String),
}

impl ListenAddress {
    /// Whether other machines could connect to it.
    pub const fn is_reachable_from_outside(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp(address) => !address.ip().is_loopback(),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ParseListenError;

    fn from_str(text: &str) -> Result<Self, ParseListenError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(PathBuf::from(path))),
                false => Err(ParseListenError::RelativePath(text.to_owned())),
            };
        }
        let address = text.strip_prefix("tcp://").unwrap_or(text);
        let named = address
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok());
        match named {
            Some(port) => Ok(Self::Tcp((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into())),
            None => address
                .parse()
                .map(Self::Tcp)
                .map_err(|_| ParseListenError::NotAnAddress(text.to_owned())),
        }
    }
}

impl fmt::Display for ListenAddress {
    /// As `DOCKER_HOST` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_from_their_text() {
        for text in [
            "unix:///run/berlin.sock",
            "tcp://127.0.0.1:2375",
            "tcp://[::1]:0",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn short_forms_of_a_tcp_address_are_taken() {
        for text in ["127.0.0.1:80", "localhost:80", "tcp://localhost:80"] {
            assert_eq!(
                text.parse::<ListenAddress>().unwrap().to_string(),
                "tcp://127.0.0.1:80"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "80",
            "unix://run/x",
            "unix://",
            "/run/x",
            "host:80",
            "tcp://1.2.3.4",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn only_loopback_and_unix_sockets_stay_on_the_machine() {
        let outside = |text: &str| {
            text.parse::<ListenAddress>()
                .unwrap()
                .is_reachable_from_outside()
        };

        assert!(!outside("unix:///run/x") && !outside("127.0.0.9:80") && !outside("[::1]:80"));
        assert!(outside("0.0.0.0:80") && outside("[::]:80") && outside("192.0.2.1:80"));
    }
}
