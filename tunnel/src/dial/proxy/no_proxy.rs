//! Who is reached without the proxy, as `NO_PROXY` has it.
//!
//! There is no standard; this is what curl and Go agree on, and where they differ what
//! leaves more to be reached directly (a leading dot stands for the domain itself, too).

use std::net::IpAddr;

use ipnet::IpNet;

/// Entries between commas or spaces: `*`, a domain with all below it, an address, a
/// network, each with `:PORT` where it is meant for one port alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    whom: Whom,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Everybody,
    /// This host and this machine under any other name that says so.
    Loopback,
    Domain(String),
    Network(IpNet),
}

impl NoProxy {
    /// Reads a list. An entry that means nothing covers nobody, as with everybody else who
    /// reads this variable.
    pub fn parse(text: &str) -> Self {
        let entries = text.split([',', ' ', '\t', '\n']);
        Self(entries.filter_map(Entry::parse).collect())
    }

    /// The same, and this host: a proxy that was named for the world has no business there.
    #[must_use]
    pub(super) fn and_loopback(mut self) -> Self {
        self.0.push(Entry {
            whom: Whom::Loopback,
            port: None,
        });
        self
    }

    /// Whether a host is reached directly. A name is not resolved for that.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse().ok();
        let mut entries = self.0.iter();
        entries.any(|entry| entry.covers(&host, address, port))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            let whom = Whom::Everybody;
            return Some(Self { whom, port: None });
        }
        // A colon without brackets belongs to an address of IPv6, or stands before a port.
        if let Some(network) = network(text) {
            let whom = Whom::Network(network);
            return Some(Self { whom, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let unbracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Some(network) = network(unbracketed.unwrap_or(host)) {
            let whom = Whom::Network(network);
            return Some(Self { whom, port });
        }
        let domain = host.strip_prefix('*').unwrap_or(host);
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        (!domain.is_empty()).then_some(Self {
            whom: Whom::Domain(domain),
            port,
        })
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match &self.whom {
            Whom::Everybody => true,
            Whom::Loopback => {
                host == "localhost"
                    || host.ends_with(".localhost")
                    || address.is_some_and(|address| address.is_loopback())
            }
            Whom::Domain(domain) => match host.strip_suffix(domain.as_str()) {
                Some(rest) => rest.is_empty() || rest.ends_with('.'),
                None => false,
            },
            Whom::Network(network) => address.is_some_and(|address| network.contains(&address)),
        }
    }
}

fn network(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().ok().map(IpNet::from);
    address.or_else(|| text.parse().ok())
}
