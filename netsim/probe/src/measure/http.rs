//! Requests and answers of HTTP/1.1, as bytes: what is sent is exactly what is asked for, and
//! what comes back is kept as it came, within bounds.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tunnel::world::BoxIo;

use super::tcp::{bounded, of_io};
use crate::observe::{Fault, FaultKind, HttpAnswer};

/// The longest head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest body of which anything is kept.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Of a body that is no answer of ours.
const SHOWN_BYTES_MAX: usize = 400;

/// A connection with what was read ahead of it.
#[derive(Debug)]
pub(super) struct Http<S = BoxIo> {
    pub(super) io: S,
    pub(super) unread: BytesMut,
}

/// How a program introduces itself.
pub(super) const USER_AGENT: &str = concat!("sternline-probe/", env!("CARGO_PKG_VERSION"));

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    pub(super) fn over(io: S) -> Self {
        Self {
            io,
            unread: BytesMut::new(),
        }
    }

    /// Sends a request with these lines of its head, and reads the answer's head.
    pub(super) async fn ask(&mut self, lines: &[String]) -> Result<HttpAnswer, Fault> {
        self.send(lines, &[]).await?;
        self.head().await
    }

    pub(super) async fn send(&mut self, lines: &[String], body: &[u8]) -> Result<(), Fault> {
        let mut request = lines.join("\r\n").into_bytes();
        request.extend_from_slice(b"\r\n\r\n");
        request.extend_from_slice(body);
        let failed = |error| of_io(&error);
        self.io.write_all(&request).await.map_err(failed)?;
        self.io.flush().await.map_err(failed)
    }

    /// Reads an answer's head.
    pub(super) async fn head(&mut self) -> Result<HttpAnswer, Fault> {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break end;
            }
            if self.unread.len() >= 5 && !self.unread.starts_with(b"HTTP/") {
                let shown = String::from_utf8_lossy(&self.unread);
                let says = format!("the answer is not HTTP: {}", bounded(&shown));
                return Err(Fault::new(FaultKind::Protocol, says));
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                let says = "the answer's head has no end";
                return Err(Fault::new(FaultKind::Protocol, says));
            }
            self.fill().await?;
        };
        let head = self.unread.split_to(end);
        self.unread.advance(4);
        parse(&String::from_utf8_lossy(&head))
    }

    /// Reads one answer with its body.
    pub(super) async fn answer(&mut self) -> Result<(HttpAnswer, Vec<u8>), Fault> {
        let mut answer = self.head().await?;
        let length = answer.header("content-length");
        let length: Option<usize> = length.and_then(|length| length.trim().parse().ok());
        let most = length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
        let has_none = matches!(answer.status, 100..200 | 204 | 304);
        while !has_none && self.unread.len() < most {
            // Without a length, the end of the connection is the end of the body.
            if self.fill().await.is_err() {
                break;
            }
        }
        let body = self.unread.split_to(most.min(self.unread.len())).to_vec();
        let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
        answer.body = shown.chars().filter(|c| !c.is_control()).collect();
        Ok((answer, body))
    }

    /// Reads some more.
    pub(super) async fn fill(&mut self) -> Result<(), Fault> {
        match self.io.read_buf(&mut self.unread).await {
            Ok(0) => Err(Fault::new(
                FaultKind::Ended,
                "the connection ended before the answer",
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(of_io(&error)),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn parse(head: &str) -> Result<HttpAnswer, Fault> {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let Some(status) = status else {
        let says = format!("the answer is not HTTP: {}", bounded(first));
        return Err(Fault::new(FaultKind::Protocol, says));
    };
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (bounded(name.trim()), bounded(value.trim())));
    Ok(HttpAnswer {
        status,
        headers: headers.take(64).collect(),
        body: String::new(),
    })
}

/// The head of an ordinary request.
pub(super) fn get(path: &str, host: &str) -> Vec<String> {
    vec![
        format!("GET {path} HTTP/1.1"),
        format!("Host: {host}"),
        format!("User-Agent: {USER_AGENT}"),
        "Accept: */*".to_owned(),
        "Connection: close".to_owned(),
    ]
}

/// A host and a port as a request names them: without the port where it is the scheme's own.
pub(super) fn authority(host: &str, port: u16) -> String {
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    match port {
        443 => host,
        port => format!("{host}:{port}"),
    }
}
