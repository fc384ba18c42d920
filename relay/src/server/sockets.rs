//! Every listening socket, all bound before any is served.

use std::net::{SocketAddr, UdpSocket};

use tokio::net::TcpListener;

use super::{ServeError, bind};
use crate::config::Config;

/// Where a relay listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) https: SocketAddr,
    pub(super) tunnel: SocketAddr,
    pub(super) metrics: SocketAddr,
}

/// Every listening socket.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) https: TcpListener,
    pub(super) tunnel_tcp: TcpListener,
    pub(super) tunnel_udp: UdpSocket,
    pub(super) metrics: TcpListener,
    pub(super) addresses: Addresses,
}

impl Sockets {
    /// Binds them all, or none.
    pub(super) fn bind(config: &Config) -> Result<Self, ServeError> {
        let https = bind::tcp(config.https, bind::HTTPS)?;
        let (tunnel_tcp, tunnel_udp) = bind::tcp_and_udp(config.tunnel, bind::TUNNEL)?;
        let metrics = bind::tcp(config.metrics, bind::METRICS)?;
        let addresses = Addresses {
            https: address(&https)?,
            tunnel: address(&tunnel_tcp)?,
            metrics: address(&metrics)?,
        };
        Ok(Self {
            https,
            tunnel_tcp,
            tunnel_udp,
            metrics,
            addresses,
        })
    }
}

fn address(listener: &TcpListener) -> Result<SocketAddr, ServeError> {
    let system = |source| ServeError::System {
        what: "read a socket's address",
        source,
    };
    listener.local_addr().map_err(system)
}
