//! The ways to a relay, and in which order they are tried.

use std::fmt;

use wire::{token::RelayAddress, transport::Transport};

use super::{DialOptions, proxy::Proxy};

/// One way to a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Which of the relay's addresses.
    pub address: RelayAddress,
    /// What carries the session.
    pub transport: Transport,
    /// Who is between; QUIC goes through none.
    pub proxy: Option<Proxy>,
}

/// A way that has led to a session before, and is tried first. Others have a head start
/// less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// What carried the session.
    pub transport: Transport,
    /// Whether it came through a proxy.
    pub is_proxied: bool,
    /// Whether the network lets no large first flight pass; see
    /// [`KeyShares`](crate::tls::KeyShares).
    pub is_classical: bool,
}

impl Way {
    /// Where the relay listens for it.
    pub fn port(&self) -> u16 {
        port(&self.address, self.transport)
    }

    /// The relay as an HTTP authority.
    pub(super) fn authority(&self) -> String {
        let (host, port) = (&self.address.host, self.port());
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        if port == 443 {
            host
        } else {
            format!("{host}:{port}")
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transport.fmt(f)?;
        match &self.proxy {
            Some(proxy) => write!(f, " through the proxy {proxy}"),
            None => Ok(()),
        }
    }
}

/// All ways: those through a proxy before the direct ones, because whoever names a proxy
/// knows the network; each better transport before the next; and before all of them what
/// has led to a session before.
pub(super) fn ways(options: &DialOptions) -> Vec<Way> {
    let transports = options.transports.transports();
    let mut ways = Vec::new();
    for address in &options.addresses {
        let way = |transport: &Transport, proxy: Option<Proxy>| Way {
            address: address.clone(),
            transport: *transport,
            proxy,
        };
        let proxied = transports.iter().filter_map(|transport| {
            let proxy = options.proxy.as_ref();
            let proxy = proxy.filter(|_| *transport != Transport::Quic)?;
            let proxy = proxy.towards(&address.host, port(address, *transport))?;
            Some(way(transport, Some(proxy.clone())))
        });
        ways.extend(proxied);
        ways.extend(transports.iter().map(|transport| way(transport, None)));
    }
    if let Some(preferred) = &options.prefer {
        // Stable: the order among all others stays.
        ways.sort_by_key(|way| {
            (way.transport, way.proxy.is_some()) != (preferred.transport, preferred.is_proxied)
        });
    }
    ways
}

fn port(address: &RelayAddress, transport: Transport) -> u16 {
    match transport {
        Transport::Quic | Transport::Ws => address.tunnel_port,
        Transport::Ws443 => address.https_port,
    }
}
