//! Listening sockets, and what to do about one that cannot be had.

#![expect(
    clippy::disallowed_methods,
    reason = "the program's sockets are bound here, and handed to the node as doors"
)]

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until they are accepted: a fleet that comes
/// back at once fills any shorter queue. The kernel's own bound may be lower.
const BACKLOG: u32 = 4_096;

/// Tries to find a port that is free on TCP and on UDP, where the system chooses.
const PAIR_ATTEMPTS: u32 = 32;

/// A socket that cannot be had. Says what a person can do.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {address} ({protocol}) for {purpose}: {}",
    advice(source, address, flag)
)]
pub struct BindError {
    address: SocketAddr,
    protocol: &'static str,
    purpose: &'static str,
    flag: &'static str,
    source: io::Error,
}

/// What a listener is for, and the flag that moves it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    name: &'static str,
    flag: &'static str,
}

/// The API, and the tunnel under a path.
pub(super) const HTTPS: Purpose = Purpose {
    name: "HTTPS",
    flag: "--https",
};
/// Metrics and health.
pub(super) const METRICS: Purpose = Purpose {
    name: "metrics",
    flag: "--metrics",
};
/// The tunnel.
pub(super) const TUNNEL: Purpose = Purpose {
    name: "the tunnel",
    flag: "--tunnel",
};

fn advice(source: &io::Error, address: &SocketAddr, flag: &str) -> String {
    let port = address.port();
    match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is in use; stop what uses it (`ss -tulpn | grep :{port}` names it), \
             or choose another with {flag}"
        ),
        io::ErrorKind::PermissionDenied if port < 1024 => format!(
            "a port below 1024 needs a permission: run as root, or give it with \
             `setcap cap_net_bind_service=+ep` on the program or AmbientCapabilities= in its \
             unit, or choose a higher one with {flag}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this host does not have the address; choose one that it has with {flag}")
        }
        _ => format!("{source}; choose another with {flag}"),
    }
}

/// Listens on TCP.
pub(super) fn tcp(address: SocketAddr, purpose: Purpose) -> Result<TcpListener, BindError> {
    let failed = |source| BindError {
        address,
        protocol: "TCP",
        purpose: purpose.name,
        flag: purpose.flag,
        source,
    };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)
}

/// Listens on the same port of TCP and UDP.
pub(super) fn tcp_and_udp(
    address: SocketAddr,
    purpose: Purpose,
) -> Result<(TcpListener, UdpSocket), BindError> {
    let failed = |source| BindError {
        address,
        protocol: "UDP",
        purpose: purpose.name,
        flag: purpose.flag,
        source,
    };
    let mut attempt = 1;
    loop {
        let listener = tcp(address, purpose)?;
        let bound = listener.local_addr().map_err(failed)?;
        match UdpSocket::bind(bound) {
            Ok(socket) => return Ok((listener, socket)),
            // The system chose a port that is free on TCP alone: let it choose again.
            Err(e)
                if address.port() == 0
                    && e.kind() == io::ErrorKind::AddrInUse
                    && attempt < PAIR_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(e) => return Err(failed(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[tokio::test]
    async fn a_port_that_the_system_chooses_is_the_same_on_tcp_and_udp() {
        let (listener, socket) = tcp_and_udp(any(), TUNNEL).unwrap();

        assert_eq!(listener.local_addr().unwrap(), socket.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_flag_that_moves_it() {
        let first = tcp(any(), HTTPS).unwrap();
        let address = first.local_addr().unwrap();

        let text = tcp(address, HTTPS).unwrap_err().to_string();

        assert!(
            text.contains(&format!("port {} is in use", address.port())),
            "{text}"
        );
        assert!(text.contains("--https") && text.contains("TCP"), "{text}");
    }

    #[tokio::test]
    async fn a_udp_port_in_use_is_told_apart_from_a_tcp_port() {
        // An address of the test's own: on the usual one, somebody may have the same port
        // of TCP.
        let taken = UdpSocket::bind("127.77.0.1:0").unwrap();

        let text = tcp_and_udp(taken.local_addr().unwrap(), TUNNEL)
            .unwrap_err()
            .to_string();

        assert!(
            text.contains("(UDP)") && text.contains("--tunnel"),
            "{text}"
        );
    }

    #[test]
    fn a_port_below_1024_without_permission_says_how_to_get_it() {
        let denied = io::ErrorKind::PermissionDenied.into();

        let text = advice(&denied, &"0.0.0.0:443".parse().unwrap(), "--https");

        assert!(
            text.contains("cap_net_bind_service") && text.contains("--https"),
            "{text}"
        );
    }
}
