//! Heads of HTTP/1 requests, read as a proxy does: bounded, and without the bodies.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest head; what Squid takes as it comes is four times as much, what clients send
/// a tenth.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    /// `HTTP/1.0` or `HTTP/1.1`.
    version: String,
    headers: Vec<(String, String)>,
}

/// What bytes are, as far as they go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Perhaps a head, and not a whole one yet.
    More,
    /// A head, and how long it is.
    Whole(Head, usize),
    /// No head of HTTP/1, or too long a one.
    NotHttp,
}

/// How a request's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// After so many bytes.
    Length(u64),
    /// By itself: nobody here follows it.
    Unknown,
}

impl Head {
    /// Reads the bytes from the first on.
    pub(super) fn read(bytes: &[u8]) -> Reading {
        let line_end = bytes.windows(2).position(|two| two == b"\r\n");
        let first = &bytes[..line_end.unwrap_or(bytes.len())];
        let start = match (StartLine::read(first), line_end) {
            (Some(start), Some(_)) => start,
            // The line may still become one as long as it begins like one.
            (None, None) if may_become_http(first) && bytes.len() < HEAD_BYTES_MAX => {
                return Reading::More;
            }
            (Some(_), None) if bytes.len() < HEAD_BYTES_MAX => return Reading::More,
            _ => return Reading::NotHttp,
        };
        let searched = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let Some(end) = searched.windows(4).position(|four| four == b"\r\n\r\n") else {
            let may_come = bytes.len() < HEAD_BYTES_MAX;
            return if may_come {
                Reading::More
            } else {
                Reading::NotHttp
            };
        };
        let from = line_end.map_or(0, |at| at + 2).min(end);
        match std::str::from_utf8(&bytes[from..end])
            .ok()
            .and_then(headers)
        {
            Some(headers) => Reading::Whole(start.with(headers), end + 4),
            None => Reading::NotHttp,
        }
    }

    /// The value of a header; the first where there are several.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// How its body ends.
    pub(super) fn body(&self) -> Body {
        if self.header("transfer-encoding").is_some() {
            return Body::Unknown;
        }
        match self.header("content-length").map(str::parse) {
            None => Body::Length(0),
            Some(Ok(length)) => Body::Length(length),
            Some(Err(_)) => Body::Unknown,
        }
    }

    /// As a proxy passes it on that knows nothing of upgrades.
    pub(super) fn without_upgrade(mut self) -> Self {
        self.headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("upgrade"));
        for (name, value) in &mut self.headers {
            if name.eq_ignore_ascii_case("connection") {
                let kept = value.split(',').map(str::trim);
                let kept = kept.filter(|one| !one.eq_ignore_ascii_case("upgrade"));
                *value = kept.collect::<Vec<_>>().join(", ");
            }
        }
        let is_empty =
            |name: &str, value: &str| name.eq_ignore_ascii_case("connection") && value.is_empty();
        self.headers.retain(|(name, value)| !is_empty(name, value));
        self.headers.push(("Via".into(), "1.1 netsim".into()));
        self
    }

    /// As bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        use std::fmt::Write;
        let mut text = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for (name, value) in &self.headers {
            let written = write!(text, "{name}: {value}\r\n");
            debug_assert!(written.is_ok(), "a text takes everything");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

struct StartLine<'a> {
    method: &'a str,
    target: &'a str,
    version: &'a str,
}

impl<'a> StartLine<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_target = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
        let is_version = matches!(version, "HTTP/1.0" | "HTTP/1.1");
        (is_method && is_target && is_version && words.next().is_none()).then_some(Self {
            method,
            target,
            version,
        })
    }

    fn with(self, headers: Vec<(String, String)>) -> Head {
        Head {
            method: self.method.into(),
            target: self.target.into(),
            version: self.version.into(),
            headers,
        }
    }
}

/// Whether the beginning of a line may be that of a request: letters of a method, a space,
/// and then whatever can be seen.
fn may_become_http(line: &[u8]) -> bool {
    /// No method is longer (RFC 4437's UPDATEREDIRECTREF).
    const METHOD_MAX: usize = 17;
    let method = line.iter().take_while(|byte| byte.is_ascii_uppercase());
    let length = method.count();
    let rest = &line[length..];
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let is_seen = rest
        .iter()
        .all(|byte| *byte == b' ' || byte.is_ascii_graphic());
    let starts_target = rest.first().is_none_or(|byte| *byte == b' ');
    length <= METHOD_MAX && is_seen && starts_target && (length > 0 || line.is_empty())
}

fn headers(text: &str) -> Option<Vec<(String, String)>> {
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            let is_value = !value.contains(['\r', '\n']);
            (is_name && is_value).then(|| (name.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// What comes before a head does.
#[derive(Debug)]
pub(super) enum Next {
    /// A head.
    Head(Head),
    /// What is no HTTP/1.
    NotHttp,
    /// The end of what the client sends.
    End,
}

/// Reads the next head. What was read and belongs to none is in `held`.
pub(super) async fn next(
    from: &mut (impl AsyncRead + Unpin),
    held: &mut BytesMut,
) -> io::Result<Next> {
    loop {
        match Head::read(held) {
            Reading::Whole(head, length) => {
                drop(held.split_to(length));
                return Ok(Next::Head(head));
            }
            Reading::NotHttp => return Ok(Next::NotHttp),
            Reading::More => {}
        }
        if from.read_buf(held).await? == 0 {
            return Ok(Next::End);
        }
    }
}

/// What a proxy says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status and its words.
    pub(super) status: &'static str,
    /// A header that belongs to it, with its line's end.
    pub(super) header: &'static str,
    /// For people.
    pub(super) body: &'static str,
    /// Whether the client may ask again on this connection.
    pub(super) stays: bool,
}

impl Answer {
    /// Says it; the connection ends unless it stays.
    pub(super) async fn say(self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let Self {
            status,
            header,
            body,
            stays,
        } = self;
        let connection = if stays { "keep-alive" } else { "close" };
        let text = format!(
            "HTTP/1.1 {status}\r\n{header}Content-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n{body}",
            body.len()
        );
        to.write_all(text.as_bytes()).await?;
        if stays {
            to.flush().await
        } else {
            to.shutdown().await
        }
    }
}
