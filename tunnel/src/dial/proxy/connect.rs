//! HTTP CONNECT (RFC 9110, section 9.3.6), with Basic (RFC 7617).

use std::{fmt, io};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::ProxyError;
use crate::world::BoxIo;

/// Most of an answer's head: what squid and its like say is within a kilobyte.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How each answer begins.
const BEGINNING: &[u8] = b"HTTP/1.";

/// Most of a status' words that are shown to a person.
const REASON_CHARS_MAX: usize = 80;

/// Most names of schemes that are shown to a person.
const SCHEMES_MAX: usize = 4;

/// A proxy's answer that was no yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status: 100 to 999.
    pub status: u16,
    /// Its words, printable and bounded.
    reason: String,
    /// The kinds of login that are wanted, where the status is 407.
    schemes: Vec<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.is_empty() {
            true => write!(f, "{}", self.status),
            false => write!(f, "{} {}", self.status, self.reason),
        }
    }
}

impl Answer {
    /// The kinds of login that it wants, printable.
    pub fn schemes(&self) -> &[String] {
        &self.schemes
    }

    /// The kinds of login that it wants, where none of them is Basic; else nothing.
    pub fn foreign_schemes(&self) -> Option<String> {
        let is_basic = |scheme: &String| scheme.eq_ignore_ascii_case("basic");
        let is_foreign = !self.schemes.is_empty() && !self.schemes.iter().any(is_basic);
        is_foreign.then(|| self.schemes.join(", "))
    }
}

/// Asks for a connection to a host and a port; after that, the proxy carries bytes.
pub(super) async fn ask(
    io: &mut BoxIo,
    to: (&str, u16),
    login: Option<(&str, &str)>,
) -> Result<(), ProxyError> {
    let request = request(to, login);
    io.write_all(request.as_bytes())
        .await
        .map_err(ProxyError::Broken)?;
    io.flush().await.map_err(ProxyError::Broken)?;
    let answer = parse(&read_head(io).await?)?;
    match answer.status {
        200..300 => Ok(()),
        _ => Err(ProxyError::Http(answer)),
    }
}

fn request((host, port): (&str, u16), login: Option<(&str, &str)>) -> Zeroizing<String> {
    let authority = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let mut request = Zeroizing::new(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: sternline/{}\r\n",
        env!("CARGO_PKG_VERSION")
    ));
    if let Some((user, password)) = login {
        // At once: a proxy that asks for it first costs a round trip, or a connection.
        let shown = Zeroizing::new(format!("{user}:{password}"));
        let shown = Zeroizing::new(BASE64.encode(shown.as_bytes()));
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&shown);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

/// Everything up to the empty line, and not a byte more: what follows is the relay's.
async fn read_head(io: &mut BoxIo) -> Result<Vec<u8>, ProxyError> {
    let mut head = Vec::with_capacity(256);
    // Byte by byte, because nothing can be put back; it is once a dial.
    while !head.ends_with(b"\r\n\r\n") {
        let byte = io.read_u8().await.map_err(|error| match head.as_slice() {
            [] => ProxyError::Broken(error),
            _ => ProxyError::Broken(io::Error::new(
                error.kind(),
                "the connection ended in the middle of the answer",
            )),
        })?;
        head.push(byte);
        let begun = head.len().min(BEGINNING.len());
        if head[..begun] != BEGINNING[..begun] || head.len() >= HEAD_BYTES_MAX {
            return Err(ProxyError::NotAProxy("HTTP"));
        }
    }
    Ok(head)
}

fn parse(head: &[u8]) -> Result<Answer, ProxyError> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
    let status = words.next().filter(|status| status.len() == 3);
    let status = status.and_then(|status| status.parse().ok());
    let status = status.filter(|status| *status >= 100);
    let status = status.ok_or(ProxyError::NotAProxy("HTTP"))?;
    let reason = words.next().unwrap_or_default();
    let schemes = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authenticate"))
        .filter_map(|(_, value)| value.split_whitespace().next())
        .map(|scheme| printable(scheme.trim_end_matches(',')))
        .take(SCHEMES_MAX);
    Ok(Answer {
        status,
        reason: printable(reason),
        schemes: schemes.collect(),
    })
}

/// What a stranger has written, for a terminal.
fn printable(text: &str) -> String {
    let is_shown = |char: &char| !char.is_control();
    let shown = text.trim().chars().filter(is_shown);
    shown.take(REASON_CHARS_MAX).collect()
}
