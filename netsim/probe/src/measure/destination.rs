//! One destination of a customer's rule: whether it answers.

use std::{fmt, net::SocketAddr, time::Duration};

use tunnel::{World, dial::proxy::ProxyUse, tls::RootCertStore};

use super::{
    Run,
    tcp::{self, Changed},
    udp,
};
use crate::observe::{Fault, FaultKind};

const WITHIN: Duration = Duration::from_millis(3_500);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A datagram, and no connection.
    pub is_udp: bool,
    /// Through the proxy.
    pub is_through_proxy: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// A connection, or an answer to a datagram.
    Answered,
    /// A refusal, by the destination or by somebody in its place.
    Refused(String),
    /// An ICMP error, this host, or the proxy says no.
    Rejected(String),
    /// Nothing.
    Nothing,
    /// It could not be asked.
    NotAsked(String),
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("it answers"),
            Self::Refused(says) => write!(f, "refused ({says})"),
            Self::Rejected(says) => write!(f, "rejected ({says})"),
            Self::Nothing => f.write_str("nothing comes back"),
            Self::NotAsked(says) => write!(f, "not asked: {says}"),
        }
    }
}

/// Asks; twice where nothing came.
pub async fn destination(
    asked: &Asked,
    (proxy, roots): (Option<&ProxyUse>, &std::sync::Arc<RootCertStore>),
) -> Came {
    let first = once(asked, proxy, roots).await;
    match first {
        Came::Nothing => once(asked, proxy, roots).await,
        came => came,
    }
}

async fn once(
    asked: &Asked,
    proxy: Option<&ProxyUse>,
    roots: &std::sync::Arc<RootCertStore>,
) -> Came {
    let world = World::real();
    if asked.is_through_proxy {
        let Some(proxy) = proxy else {
            let says = "no proxy is configured: give --proxy, or set HTTPS_PROXY";
            return Came::NotAsked(says.to_owned());
        };
        return through(asked, (&proxy.proxy, &world), roots).await;
    }
    let resolved = tokio::time::timeout(WITHIN, world.resolver.resolve(&asked.host)).await;
    let addresses = match resolved {
        Ok(Ok(addresses)) if !addresses.is_empty() => addresses,
        Ok(Err(error)) => return Came::NotAsked(tcp::bounded(&error.to_string())),
        _ => return Came::NotAsked("its name has no address here".to_owned()),
    };
    let mut came = Came::Nothing;
    for address in addresses.into_iter().take(2) {
        let to = SocketAddr::new(address, asked.port);
        came = match asked.is_udp {
            true => datagram(to).await,
            false => match tcp::connect(to, Changed::default(), WITHIN).await {
                Ok(_) => Came::Answered,
                Err(fault) => of_fault(&fault),
            },
        };
        if came == Came::Answered {
            break;
        }
    }
    came
}

async fn datagram(to: SocketAddr) -> Came {
    let test = udp::ask(&Run::bare(), to).await;
    match (test.answered_after, test.icmp.first(), &test.fault) {
        (Some(_), _, _) => Came::Answered,
        (None, Some(icmp), _) => {
            let by = icmp
                .offender
                .map_or_else(String::new, |by| format!(" from {by}"));
            Came::Rejected(format!("ICMP type {} code {}{by}", icmp.kind, icmp.code))
        }
        (None, None, Some(fault)) => of_fault(fault),
        (None, None, None) => Came::Nothing,
    }
}

fn of_fault(fault: &Fault) -> Came {
    match fault.kind {
        FaultKind::TimedOut => Came::Nothing,
        FaultKind::Refused => Came::Refused(fault.says.clone()),
        _ => Came::Rejected(fault.says.clone()),
    }
}

async fn through(
    asked: &Asked,
    (proxy, world): (&tunnel::dial::proxy::Proxy, &World),
    roots: &std::sync::Arc<RootCertStore>,
) -> Came {
    let leading = async {
        let remotes = proxy
            .remotes(world)
            .await
            .map_err(|error| error.to_string())?;
        let remote = remotes
            .into_iter()
            .next()
            .ok_or("the proxy has no address")?;
        let stream = tcp::connect(remote, Changed::default(), WITHIN).await;
        let stream = stream.map_err(|fault| format!("the proxy is not reached: {}", fault.says))?;
        let to = (asked.host.as_str(), asked.port);
        let led = proxy.lead((Box::new(stream), world), to, roots).await;
        led.map(|_| ())
            .map_err(|error| format!("the proxy: {error}"))
    };
    match tokio::time::timeout(WITHIN * 2, leading).await {
        Ok(Ok(())) => Came::Answered,
        Ok(Err(says)) => Came::Rejected(tcp::bounded(&says)),
        Err(_) => Came::Nothing,
    }
}
