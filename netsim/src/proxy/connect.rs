//! HTTP CONNECT (RFC 9110, section 9.3.6), with Basic (RFC 7617).

use std::io;

use bytes::BytesMut;
use data_encoding::BASE64;
use tokio::io::AsyncWriteExt;
use tunnel::world::BoxIo;

use super::{
    DialFailure, HEAD_TIMEOUT, Proxy,
    http::{self, Answer, Head, Next},
    portal, through, with_first,
};

/// How often a client may ask on one connection: once without a login, once with, and as
/// often again for a person who mistypes.
const REQUESTS_MAX: usize = 8;

/// The longest name of a host (RFC 1035).
const HOST_BYTES_MAX: usize = 255;

const LOG_IN: Answer = Answer {
    status: "407 Proxy Authentication Required",
    header: "Proxy-Authenticate: Basic realm=\"netsim\", charset=\"UTF-8\"\r\n",
    body: "This proxy wants a login.\n",
    stays: true,
};

const CONNECT_ALONE: Answer = Answer {
    status: "405 Method Not Allowed",
    header: "Allow: CONNECT\r\n",
    body: "This proxy connects, and does nothing else: use CONNECT.\n",
    stays: false,
};

const MALFORMED: Answer = failure("400 Bad Request", "This is no request of HTTP/1.\n");
const NO_AUTHORITY: Answer = failure("400 Bad Request", "CONNECT wants HOST:PORT.\n");
const TOO_SLOW: Answer = failure("408 Request Timeout", "The request did not come in time.\n");
const NOT_ALLOWED: Answer = failure(
    "403 Forbidden",
    "This proxy does not connect to this port.\n",
);
const NO_NAME: Answer = failure("502 Bad Gateway", "There is no such name.\n");
const NOT_REACHED: Answer = failure("502 Bad Gateway", "The destination was not reached.\n");
const NO_ANSWER: Answer = failure("504 Gateway Timeout", "The destination did not answer.\n");

const fn failure(status: &'static str, body: &'static str) -> Answer {
    Answer {
        status,
        header: "",
        body,
        stays: false,
    }
}

/// Serves one client.
pub(super) async fn serve(proxy: &Proxy, mut client: BoxIo) -> io::Result<()> {
    let mut held = BytesMut::new();
    for _ in 0..REQUESTS_MAX {
        let next = http::next(&mut client, &mut held);
        let head = match tokio::time::timeout(HEAD_TIMEOUT, next).await {
            Ok(next) => match next? {
                Next::Head(head) => head,
                Next::NotHttp => return MALFORMED.say(&mut client).await,
                Next::End => return Ok(()),
            },
            Err(_) => return TOO_SLOW.say(&mut client).await,
        };
        let login = proxy.config.login.as_ref().map(|login| login.as_str());
        match asked(&head, login) {
            Ok((host, port)) => return connect(proxy, (client, held), (&host, port)).await,
            Err(answer) => {
                answer.say(&mut client).await?;
                if !answer.stays {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Where a request wants to go.
pub(super) fn asked(head: &Head, login: Option<&str>) -> Result<(String, u16), Answer> {
    if !login.is_none_or(|login| is_logged_in(head, login)) {
        return Err(LOG_IN);
    }
    if head.method != "CONNECT" {
        return Err(CONNECT_ALONE);
    }
    authority(&head.target).ok_or(NO_AUTHORITY)
}

fn is_logged_in(head: &Head, login: &str) -> bool {
    let shown = head.header("proxy-authorization");
    shown
        .and_then(|shown| shown.split_once(' '))
        .is_some_and(|(scheme, value)| {
            scheme.eq_ignore_ascii_case("basic") && value.trim() == BASE64.encode(login.as_bytes())
        })
}

/// `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
pub(super) fn authority(target: &str) -> Option<(String, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(address) => {
            let address = address.strip_suffix(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            address
        }
        None => host,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_host = host.bytes().all(is_name) || host.parse::<std::net::Ipv6Addr>().is_ok();
    let fits = !host.is_empty() && host.len() <= HOST_BYTES_MAX && is_host;
    // Without brackets a colon is the port's alone.
    let is_bare = target.starts_with('[') || !host.contains(':');
    (fits && is_bare).then(|| (host.to_owned(), port))
}

async fn connect(
    proxy: &Proxy,
    (mut client, held): (BoxIo, BytesMut),
    (host, port): (&str, u16),
) -> io::Result<()> {
    let is_captive = (proxy.is_captive)();
    let upstream = if is_captive {
        None
    } else {
        let failure = match proxy.dial(host, port).await {
            Ok(upstream) => Ok(upstream),
            Err(DialFailure::NotAllowed) => Err(NOT_ALLOWED),
            Err(DialFailure::NoName) => Err(NO_NAME),
            Err(DialFailure::NoAnswer) => Err(NO_ANSWER),
            Err(DialFailure::Network(_)) => Err(NOT_REACHED),
        };
        match failure {
            Ok(upstream) => Some(upstream),
            Err(answer) => return answer.say(&mut client).await,
        }
    };
    // No length: what follows is the tunnel.
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    let client = with_first(held, client);
    match upstream {
        Some(upstream) => through::pass(proxy, client, upstream, host).await,
        None => portal::hold(proxy, client).await,
    }
}
