//! Proxies, as customers' networks have them: HTTP CONNECT, SOCKS5, and transparent ones
//! that take in what an edge diverts to them.
//!
//! They run over the seams of [`World`] alone, so that the same code is a proxy on a
//! simulated host and in the lab. Whoever builds a world gives a [`Proxy`] a [`Door`] and
//! polls [`Proxy::serve`]; dropping that ends every connection. Bounds: heads, the time
//! that they take, connections at once, and what is held of either direction.

mod authority;
mod connect;
mod http;
mod portal;
mod setting;
mod socks5;
mod through;

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use netsim_core::model::{self, ProxyKind};
use tokio::task::JoinSet;
use tunnel::{
    World,
    world::{BoxIo, Listen},
};

use self::authority::Authority;
#[cfg(target_os = "linux")]
pub(crate) use self::authority::pem as authority_pem;
pub use self::setting::Setting;

/// The most connections that a proxy has at once; others wait to be accepted. Thrice the
/// largest fleet that is run through one.
const CONNECTIONS_MAX: usize = 4096;

/// How long a client may take to say what it wants.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a destination may take to answer, all its addresses together: below a minute,
/// after which clients have given up.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that an edge has diverted.
#[derive(Debug)]
pub struct Diverted {
    /// Its bytes.
    pub io: BoxIo,
    /// Where it was meant to go.
    pub to: SocketAddr,
}

/// Where diverted connections come in.
#[async_trait]
pub trait TakeIn: Send + Sync + fmt::Debug {
    /// The next one. Cancel safe: a dropped future has taken none.
    async fn accept(&self) -> io::Result<Diverted>;
}

/// Where a proxy's connections come from.
#[derive(Debug)]
pub enum Door {
    /// Clients that speak to it.
    Spoken(Box<dyn Listen>),
    /// An edge.
    Diverted(Box<dyn TakeIn>),
}

impl Door {
    /// The next connection, and where it was meant to go where the proxy is not told.
    async fn accept(&self) -> io::Result<(BoxIo, Option<SocketAddr>)> {
        match self {
            Self::Spoken(listener) => Ok((listener.accept().await?.0, None)),
            Self::Diverted(edge) => {
                let Diverted { io, to } = edge.accept().await?;
                Ok((io, Some(to)))
            }
        }
    }
}

/// A proxy of a scenario.
pub struct Proxy {
    config: model::Proxy,
    world: World,
    is_captive: Box<dyn Fn() -> bool + Send + Sync>,
    /// Signs for every name, where TLS is intercepted.
    interceptor: Option<Authority>,
    /// Signs for the page to log in.
    portal: Option<Authority>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why a destination was not reached.
#[derive(Debug)]
enum DialFailure {
    /// The proxy does not connect to this port.
    NotAllowed,
    /// There is no such name.
    NoName,
    /// Nothing answered in time.
    NoAnswer,
    /// What the network said.
    Network(io::Error),
}

impl Proxy {
    /// A proxy that dials through `world`. `is_captive` is asked at each connection.
    pub fn new(
        config: &model::Proxy,
        world: World,
        is_captive: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        let interceptor = config.intercepts_as.as_ref();
        Arc::new(Self {
            interceptor: interceptor.map(|name| Authority::new(name.as_str(), &world.clock)),
            portal: config
                .captive
                .then(|| Authority::new(portal::NAME, &world.clock)),
            config: config.clone(),
            world,
            is_captive: Box::new(is_captive),
        })
    }

    /// The certificate (DER) of the CA that it signs with, where it intercepts TLS.
    pub fn authority(&self) -> Option<Vec<u8>> {
        self.interceptor.as_ref().map(Authority::certificate)
    }

    /// The same in PEM.
    #[cfg(target_os = "linux")]
    pub(crate) fn authority_pem(&self) -> Option<String> {
        self.interceptor.as_ref().map(Authority::pem)
    }

    /// Serves whoever comes in, until the door is broken or this is dropped.
    pub async fn serve(self: Arc<Self>, door: Door) {
        let mut connections = JoinSet::new();
        loop {
            // In a fixed order, so that a run is the same one again.
            tokio::select! {
                biased;
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = door.accept(), if connections.len() < CONNECTIONS_MAX => {
                    let Ok((client, meant)) = accepted else {
                        return;
                    };
                    connections.spawn(Arc::clone(&self).handle(client, meant));
                }
            }
        }
    }

    async fn handle(self: Arc<Self>, client: BoxIo, meant: Option<SocketAddr>) {
        let served: std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send>> =
            match (self.config.speaks, meant) {
                (ProxyKind::Connect, _) => Box::pin(connect::serve(&self, client)),
                (ProxyKind::Socks5, _) => Box::pin(socks5::serve(&self, client)),
                (ProxyKind::Transparent, Some(to)) => Box::pin(self.take_in(client, to)),
                (ProxyKind::Transparent, None) => return,
            };
        // However a connection ends, its sockets are closed with it.
        let _ended = match &self.config.cut_after {
            Some(after) => tokio::time::timeout(after.get(), served).await.ok(),
            None => Some(served.await),
        };
    }

    /// A connection that was meant for somebody else.
    async fn take_in(&self, client: BoxIo, to: SocketAddr) -> io::Result<()> {
        if (self.is_captive)() {
            return portal::hold(self, client).await;
        }
        let name = to.ip().to_string();
        match self.dial(&name, to.port()).await {
            Ok(upstream) => through::pass(self, client, upstream, &name).await,
            // Whoever was taken in believes to be connected, and is hung up on.
            Err(_) => Ok(()),
        }
    }

    /// Connects to a destination.
    async fn dial(&self, host: &str, port: u16) -> Result<BoxIo, DialFailure> {
        let mut allowed = self.config.allows.iter();
        if !allowed.any(|ports| ports.contains(port)) {
            return Err(DialFailure::NotAllowed);
        }
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, self.dial_any(host, port)).await;
        dialled.unwrap_or(Err(DialFailure::NoAnswer))
    }

    async fn dial_any(&self, host: &str, port: u16) -> Result<BoxIo, DialFailure> {
        let resolved = self.world.resolver.resolve(host).await;
        let addresses = resolved.map_err(|_| DialFailure::NoName)?;
        let mut failure = DialFailure::NoName;
        for address in addresses {
            let to = SocketAddr::new(address, port);
            match self.world.net.connect_tcp(to).await {
                Ok(upstream) => return Ok(upstream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    failure = DialFailure::NoAnswer;
                }
                Err(error) => failure = DialFailure::Network(error),
            }
        }
        Err(failure)
    }
}

/// Bytes that were read already, before those that follow.
fn with_first(first: impl AsRef<[u8]> + Unpin + Send + 'static, rest: BoxIo) -> BoxIo {
    use tokio::io::AsyncReadExt;
    let (reading, writing) = tokio::io::split(rest);
    let reading = io::Cursor::new(first).chain(reading);
    Box::new(tokio::io::join(reading, writing))
}

#[cfg(test)]
mod tests;
