//! The proxy of a scenario as those who use it are told of it.

use netsim_core::model::{Host, ProxyKind, Scenario};
use tunnel::dial::proxy::{NoProxy, Proxy, ProxyUse};

/// How a host is configured to use a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `http://ADDRESS:PORT` or `socks5://ADDRESS:PORT`.
    pub url: String,
    /// `user:password`.
    pub login: Option<String>,
}

impl Setting {
    /// What a host is configured with; `None`: it knows of no proxy.
    pub fn of(scenario: &Scenario, host: &Host) -> Option<Self> {
        let name = host.proxy.as_ref()?;
        let mut proxies = scenario.proxies.iter();
        let proxy = proxies.find(|proxy| *proxy.name == **name)?;
        let scheme = match proxy.speaks {
            ProxyKind::Connect => "http",
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Transparent => return None,
        };
        let address = scenario.host(&proxy.on)?.addresses.first()?.addr();
        let place = std::net::SocketAddr::new(address, proxy.port.first);
        Some(Self {
            url: format!("{scheme}://{place}"),
            login: proxy.login.as_ref().map(|login| login.as_str().to_owned()),
        })
    }

    /// The same, as an agent has it that runs in this process.
    pub fn in_use(&self) -> Option<ProxyUse> {
        let proxy: Proxy = self.url.parse().ok()?;
        let proxy = match &self.login {
            Some(login) => proxy.with_login(login).ok()?,
            None => proxy,
        };
        let except = NoProxy::default();
        Some(ProxyUse { proxy, except })
    }
}
