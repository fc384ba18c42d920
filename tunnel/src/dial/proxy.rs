//! A proxy on the way to the relay: which one, for whom it is used, and how a connection
//! through it comes about.
//!
//! The name of the relay is resolved at the proxy, because a network that lets nothing out
//! but a proxy often knows no names of the outside either. What a proxy answers is read
//! within bounds, and its login is shown nowhere: not by `Debug`, not by `Display`.

use std::{fmt, io, net::SocketAddr, str::FromStr, sync::Arc};

use rustls::{RootCertStore, pki_types::ServerName};
use thiserror::Error;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::{
    tls,
    world::{BoxIo, World},
};

mod connect;
mod environment;
mod no_proxy;
mod socks5;
#[cfg(test)]
mod tests;

pub use connect::Answer;
pub use environment::BadVariable;
pub use no_proxy::NoProxy;
pub use socks5::Reply;

/// The longest user and the longest password: SOCKS5 has a byte for their length (RFC 1929).
const LOGIN_PART_BYTES_MAX: usize = 255;

/// The longest name of a host (RFC 1035); SOCKS5 has a byte for its length.
const HOST_BYTES_MAX: usize = 255;

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT.
    Connect,
    /// HTTP CONNECT, inside a TLS to the proxy.
    ConnectOverTls,
    /// SOCKS5.
    Socks5,
}

impl ProxyKind {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Connect => "http",
            Self::ConnectOverTls => "https",
            Self::Socks5 => "socks5",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Connect => 80,
            Self::ConnectOverTls => 443,
            Self::Socks5 => 1080,
        }
    }
}

/// A proxy. Neither `Debug` nor `Display` shows its login.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: ProxyKind,
    /// An IPv6 address without brackets.
    host: String,
    port: u16,
    login: Option<Login>,
}

#[derive(Clone, PartialEq, Eq)]
struct Login {
    user: String,
    password: Zeroizing<String>,
}

/// A text that names no proxy. What was written is not part of it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseProxyError {
    /// Another scheme.
    #[error("it must begin with http://, https:// or socks5://")]
    Scheme,
    /// More than a host and a port.
    #[error("it must end after HOST:PORT: a proxy has no path")]
    Path,
    /// No host, or one that cannot be.
    #[error("it must name a host, as in http://proxy.example.com:3128")]
    Host,
    /// No port of TCP.
    #[error("its port must be a number from 1 to 65535")]
    Port,
    /// A login that no proxy takes.
    #[error(
        "its login must be USER:PASSWORD of at most 255 bytes each, with %XX for what a URL cannot hold"
    )]
    Login,
}

/// A proxy, and for whom it is not to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUse {
    /// The proxy.
    pub proxy: Proxy,
    /// Who is reached directly.
    pub except: NoProxy,
}

impl ProxyUse {
    /// The proxy to this host and port; `None`: it is to be reached directly.
    pub fn towards(&self, host: &str, port: u16) -> Option<&Proxy> {
        (!self.except.covers(host, port)).then_some(&self.proxy)
    }
}

/// Why no connection through a proxy came about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The proxy's name could not be resolved.
    #[error("its name was not resolved: {0}")]
    Resolve(io::Error),
    /// The proxy was not reached.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// No TLS to the proxy, or its certificate is not trusted.
    #[error("no TLS: {0}")]
    Tls(io::Error),
    /// The connection broke before the proxy had answered.
    #[error("it broke off: {0}")]
    Broken(io::Error),
    /// What answers is no such proxy.
    #[error("what answers is no {0} proxy")]
    NotAProxy(&'static str),
    /// The answer to CONNECT was another one than yes.
    #[error("it answered {0}")]
    Http(Answer),
    /// SOCKS5: the login was not taken, or one is missing.
    #[error("it wants a login, and took none of ours")]
    SocksLogin,
    /// SOCKS5: not connected.
    #[error("it answered: {0}")]
    Socks(Reply),
}

impl FromStr for Proxy {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, ParseProxyError> {
        let text = text.trim();
        let (kind, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (kind_of(scheme)?, rest),
            // As curl has it, and as many administrators write it.
            None => (ProxyKind::Connect, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // A password may hold an `@` that should have been written as `%40`.
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, rest),
        };
        if authority.contains(['/', '?', '#']) {
            return Err(ParseProxyError::Path);
        }
        let (host, port) = host_and_port(authority)?;
        Ok(Self {
            kind,
            host,
            port: port.unwrap_or_else(|| kind.default_port()),
            login: login.map(Login::of_url).transpose()?,
        })
    }
}

fn kind_of(scheme: &str) -> Result<ProxyKind, ParseProxyError> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok(ProxyKind::Connect),
        "https" => Ok(ProxyKind::ConnectOverTls),
        // The same here: names are always resolved at the proxy.
        "socks5" | "socks5h" => Ok(ProxyKind::Socks5),
        _ => Err(ParseProxyError::Scheme),
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), ParseProxyError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(ParseProxyError::Host)?;
            let parsed = address.parse::<std::net::Ipv6Addr>();
            parsed.map_err(|_| ParseProxyError::Host)?;
            match rest.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if rest.is_empty() => (address, None),
                None => return Err(ParseProxyError::Port),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_host = host.bytes().all(is_name) || authority.starts_with('[');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !is_host {
        return Err(ParseProxyError::Host);
    }
    let port = port.map(|port| port.parse().ok().filter(|port| *port != 0));
    match port {
        Some(None) => Err(ParseProxyError::Port),
        Some(Some(port)) => Ok((host.to_owned(), Some(port))),
        None => Ok((host.to_owned(), None)),
    }
}

impl Login {
    /// `user:password` as a URL has it.
    fn of_url(text: &str) -> Result<Self, ParseProxyError> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let decoded = |text| percent_decoded(text).ok_or(ParseProxyError::Login);
        Self::new(decoded(user)?.to_string(), decoded(password)?)
    }

    fn new(user: String, password: Zeroizing<String>) -> Result<Self, ParseProxyError> {
        let fits = |part: &str| {
            part.len() <= LOGIN_PART_BYTES_MAX && !part.contains(|char: char| char.is_control())
        };
        // Basic has no other mark between the two (RFC 7617).
        if user.is_empty() || user.contains(':') || !fits(&user) || !fits(&password) {
            return Err(ParseProxyError::Login);
        }
        Ok(Self { user, password })
    }
}

/// `None`: what stands behind a `%` is no byte, or the whole is no text.
fn percent_decoded(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    let text = std::str::from_utf8(&bytes).ok()?;
    Some(Zeroizing::new(text.to_owned()))
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind, host, port, ..
        } = self;
        let scheme = kind.scheme();
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Proxy {
    /// How it is spoken to.
    pub const fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// Whether its certificate is judged.
    pub fn is_over_tls(&self) -> bool {
        self.kind == ProxyKind::ConnectOverTls
    }

    /// Whether it is shown a login.
    pub const fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// The same with this login, `USER:PASSWORD` as it is, without `%XX`.
    ///
    /// # Errors
    ///
    /// No proxy takes such a login.
    pub fn with_login(self, login: &str) -> Result<Self, ParseProxyError> {
        let (user, password) = login.split_once(':').ok_or(ParseProxyError::Login)?;
        let login = Login::new(user.to_owned(), Zeroizing::new(password.to_owned()))?;
        Ok(Self {
            login: Some(login),
            ..self
        })
    }

    /// Where it is, with its login: for a library that takes a URL, and never to be shown.
    pub fn url_with_login(&self) -> Zeroizing<String> {
        let url = match self.kind {
            // With an `h`, names are resolved at the proxy for other libraries, too.
            ProxyKind::Socks5 => self.to_string().replacen("socks5:", "socks5h:", 1),
            ProxyKind::Connect | ProxyKind::ConnectOverTls => self.to_string(),
        };
        let Some(Login { user, password }) = &self.login else {
            return Zeroizing::new(url);
        };
        let mut login = Zeroizing::new(percent_encoded(user));
        login.push(':');
        login.push_str(&Zeroizing::new(percent_encoded(password)));
        Zeroizing::new(url.replacen("://", &format!("://{}@", *login), 1))
    }

    /// Where its addresses listen, in the order in which they are to be tried.
    ///
    /// # Errors
    ///
    /// Its name has no address.
    pub async fn remotes(&self, world: &World) -> Result<Vec<SocketAddr>, ProxyError> {
        let resolved = world.resolver.resolve(&self.host).await;
        let addresses = resolved.map_err(ProxyError::Resolve)?;
        if addresses.is_empty() {
            return Err(ProxyError::Resolve(io::ErrorKind::NotFound.into()));
        }
        let with_port = |address| SocketAddr::new(address, self.port);
        Ok(addresses.into_iter().map(with_port).collect())
    }

    /// A connection through it to a host and a port, over one to it. `roots` vouch for one
    /// that is spoken to over TLS.
    ///
    /// # Errors
    ///
    /// See [`ProxyError`]: all but `Resolve` and `Connect`.
    pub async fn lead(
        &self,
        (mut io, world): (BoxIo, &World),
        to: (&str, u16),
        roots: &Arc<RootCertStore>,
    ) -> Result<BoxIo, ProxyError> {
        let login = self.login.as_ref();
        let login = login.map(|login| (login.user.as_str(), login.password.as_str()));
        if self.kind == ProxyKind::ConnectOverTls {
            let name = ServerName::try_from(self.host.clone())
                .map_err(|error| ProxyError::Tls(io::Error::other(error)))?;
            let config = tls::certificate_client(tls::ALPN_HTTP, roots, &world.clock);
            let connector = TlsConnector::from(Arc::new(config));
            let tls = connector.connect(name, io).await.map_err(ProxyError::Tls)?;
            io = Box::new(tls);
        }
        match self.kind {
            ProxyKind::Connect | ProxyKind::ConnectOverTls => {
                connect::ask(&mut io, to, login).await?;
            }
            ProxyKind::Socks5 => socks5::ask(&mut io, to, login).await?,
        }
        Ok(io)
    }
}

fn percent_encoded(text: &str) -> String {
    use fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _written = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
