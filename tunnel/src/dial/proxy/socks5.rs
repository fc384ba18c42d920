//! SOCKS5 (RFC 1928), with user and password (RFC 1929). The proxy resolves names.

use std::{fmt, net::IpAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{HOST_BYTES_MAX, ProxyError};
use crate::world::BoxIo;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// A reply that was no yes (RFC 1928, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply(u8);

impl Reply {
    /// Whether the proxy's own rules forbid the connection.
    pub const fn is_forbidden(self) -> bool {
        self.0 == 2
    }

    /// Whether the destination's host is there, and nothing listens on the port.
    pub const fn is_refused(self) -> bool {
        self.0 == 5
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "general failure",
            2 => "not allowed by its rules",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "time to live expired",
            7 => "CONNECT is not supported",
            8 => "this kind of address is not supported",
            code => return write!(f, "code {code}"),
        })
    }
}

/// Asks for a connection to a host and a port; after that, the proxy carries bytes.
pub(super) async fn ask(
    io: &mut BoxIo,
    to: (&str, u16),
    login: Option<(&str, &str)>,
) -> Result<(), ProxyError> {
    let greeting: &[u8] = match login {
        Some(_) => &[VERSION, 2, NO_LOGIN, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_LOGIN],
    };
    say(io, greeting).await?;
    match (hear(io).await?, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, USER_AND_PASSWORD], Some(login)) => log_in(io, login).await?,
        ([VERSION, NONE_ACCEPTABLE], _) => return Err(ProxyError::SocksLogin),
        _ => return Err(ProxyError::NotAProxy("SOCKS5")),
    }
    say(io, &request(to)?).await?;
    let [version, reply, _, kind] = hear(io).await?;
    if version != VERSION {
        return Err(ProxyError::NotAProxy("SOCKS5"));
    }
    if reply != 0 {
        return Err(ProxyError::Socks(Reply(reply)));
    }
    // The proxy's own end, which nobody asks for; at most 255 bytes.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(hear::<1>(io).await?[0]),
        _ => return Err(ProxyError::NotAProxy("SOCKS5")),
    };
    let mut bound = vec![0; length + 2];
    io.read_exact(&mut bound)
        .await
        .map_err(ProxyError::Broken)?;
    Ok(())
}

async fn log_in(io: &mut BoxIo, (user, password): (&str, &str)) -> Result<(), ProxyError> {
    let mut words = Zeroizing::new(vec![LOGIN_VERSION]);
    for part in [user, password] {
        let length = u8::try_from(part.len()).map_err(|_| ProxyError::SocksLogin)?;
        words.push(length);
        words.extend_from_slice(part.as_bytes());
    }
    say(io, &words).await?;
    match hear(io).await? {
        [LOGIN_VERSION, 0] => Ok(()),
        // Some answer with the version of SOCKS, whatever the outcome.
        [VERSION, 0] => Ok(()),
        _ => Err(ProxyError::SocksLogin),
    }
}

fn request((host, port): (&str, u16)) -> Result<Vec<u8>, ProxyError> {
    let mut words = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            words.push(IPV4);
            words.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            words.push(IPV6);
            words.extend(address.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len()).ok();
            let length = length.filter(|length| usize::from(*length) <= HOST_BYTES_MAX);
            // The reply that a proxy would give.
            words.extend([NAME, length.ok_or(ProxyError::Socks(Reply(4)))?]);
            words.extend(host.as_bytes());
        }
    }
    words.extend(port.to_be_bytes());
    Ok(words)
}

async fn say(io: &mut BoxIo, words: &[u8]) -> Result<(), ProxyError> {
    io.write_all(words).await.map_err(ProxyError::Broken)?;
    io.flush().await.map_err(ProxyError::Broken)
}

async fn hear<const N: usize>(io: &mut BoxIo) -> Result<[u8; N], ProxyError> {
    let mut words = [0; N];
    let read = io.read_exact(&mut words).await;
    read.map_err(ProxyError::Broken)?;
    Ok(words)
}
