//! Heads of HTTP/1.1 messages, read strictly: what two readers could understand in two
//! ways is refused, so that what is judged is what the Engine does.
//!
//! RFC 9112, without what it lets a server tolerate: no bare LF or CR, no folded lines, no
//! space before a colon, one length at most.

use thiserror::Error;

/// A head larger than this is refused. The largest one of Docker's tools carries the
/// credentials of all registries to a build: some kilobytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of one head.
const FIELDS_MAX: usize = 100;
/// HTTP/2 without an upgrade begins so.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The head does not end.
    #[error("the head of the message has more than {HEAD_BYTES_MAX} bytes")]
    TooLarge,
    /// HTTP/2 from the first byte.
    #[error("HTTP/2 without an upgrade cannot be judged")]
    Http2,
    /// Anything else.
    #[error("{0}")]
    Other(&'static str),
}

/// How long a message's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks that say their own sizes.
    Chunked,
    /// Until the connection ends; answers only.
    UntilClose,
}

/// A request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// In upper case, as it stands there.
    pub method: String,
    /// The target as it stands there: path and query.
    pub target: String,
    /// The body.
    pub framing: Framing,
    /// Whether the connection is to become something else.
    pub upgrades: bool,
    /// Whether the client waits for a word before it sends the body.
    pub expects_continue: bool,
    /// Whether the body is a form, whose fields Go mixes with those of the query.
    pub is_form: bool,
}

/// An answer without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The body, for a request that was not `HEAD`.
    pub framing: Framing,
}

/// Where the head ends, if it does: behind the empty line. `from` is where a former
/// search may begin again.
pub fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(3);
    let found = bytes
        .get(from..)?
        .windows(4)
        .position(|four| four == b"\r\n\r\n");
    found.map(|at| from + at + 4)
}

/// Whether the bytes can still become a head: says early what no head begins with, so
/// that nobody waits for the end of something that has none.
///
/// # Errors
///
/// See [`Malformed`].
pub fn check_beginning(bytes: &[u8]) -> Result<(), Malformed> {
    let common = bytes.len().min(HTTP2_PREFACE.len());
    // `PRI` alone could still be a method; with the space it is the preface or nonsense.
    if common > 4 && bytes[..common] == HTTP2_PREFACE[..common] {
        return Err(Malformed::Http2);
    }
    match bytes.first() {
        Some(first) if !first.is_ascii_uppercase() => {
            Err(Malformed::Other("the message does not begin with a method"))
        }
        _ if bytes.len() > HEAD_BYTES_MAX => Err(Malformed::TooLarge),
        _ => Ok(()),
    }
}

/// Reads the head of a request, its empty line included.
///
/// # Errors
///
/// See [`Malformed`].
pub fn request(bytes: &[u8]) -> Result<Request, Malformed> {
    let mut lines = Lines::of(bytes)?;
    let line = lines
        .next()
        .ok_or(Malformed::Other("there is no request line"))?;
    let mut parts = line.split(' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next())
    else {
        return Err(Malformed::Other("the request line has not three parts"));
    };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(Malformed::Other("the method is not in capital letters"));
    }
    if version != "HTTP/1.1" {
        return Err(Malformed::Other("only HTTP/1.1 is judged"));
    }
    let fields = Fields::read(lines)?;
    Ok(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        framing: fields.framing()?.unwrap_or(Framing::Length(0)),
        upgrades: fields.upgrades,
        expects_continue: fields.expects_continue,
        is_form: fields.is_form,
    })
}

/// Reads the head of an answer, its empty line included.
///
/// # Errors
///
/// See [`Malformed`].
pub fn answer(bytes: &[u8]) -> Result<Answer, Malformed> {
    let mut lines = Lines::of(bytes)?;
    let line = lines
        .next()
        .ok_or(Malformed::Other("there is no status line"))?;
    let rest = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))
        .ok_or(Malformed::Other("the answer is not HTTP/1"))?;
    let digits = rest.split(' ').next().unwrap_or_default();
    let status = match digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse().unwrap_or_default(),
        false => return Err(Malformed::Other("the answer has no status")),
    };
    let fields = Fields::read(lines)?;
    let framing = match status {
        100..=199 | 204 | 304 => Framing::Length(0),
        _ => fields.framing()?.unwrap_or(Framing::UntilClose),
    };
    Ok(Answer { status, framing })
}

/// Lines of a head, each ended by CR and LF together.
struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Malformed::Other("the head of the message is not text"))?;
        let body = text
            .strip_suffix("\r\n\r\n")
            .ok_or(Malformed::Other("the head of the message has no end"))?;
        Ok(Self(body))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = self.0.split_once("\r\n").unwrap_or((self.0, ""));
        self.0 = rest;
        Some(line)
    }
}

/// What of a head's fields matters here.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    is_chunked: bool,
    upgrades: bool,
    expects_continue: bool,
    is_form: bool,
}

impl Fields {
    fn read(lines: Lines<'_>) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for (count, line) in lines.enumerate() {
            if count >= FIELDS_MAX {
                return Err(Malformed::Other(
                    "the head of the message has too many fields",
                ));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or(Malformed::Other("a line of the head has no colon"))?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(Malformed::Other("a field of the head has no proper name"));
            }
            if value
                .bytes()
                .any(|byte| byte != b'\t' && byte.is_ascii_control())
            {
                return Err(Malformed::Other(
                    "a field of the head has a control character",
                ));
            }
            fields.take(&name.to_ascii_lowercase(), value.trim_matches([' ', '\t']))?;
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        match name {
            "content-length" => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let length = value.parse().ok().filter(|_| digits && value.len() <= 18);
                if self.length.is_some() || length.is_none() {
                    return Err(Malformed::Other("there is not one proper Content-Length"));
                }
                self.length = length;
            }
            "transfer-encoding" => {
                if self.is_chunked || !value.eq_ignore_ascii_case("chunked") {
                    return Err(Malformed::Other(
                        "the only Transfer-Encoding is `chunked`, once",
                    ));
                }
                self.is_chunked = true;
            }
            "upgrade" => self.upgrades = true,
            "expect" => {
                if !value.eq_ignore_ascii_case("100-continue") {
                    return Err(Malformed::Other("the only Expect is `100-continue`"));
                }
                self.expects_continue = true;
            }
            "content-type" => {
                let value = value.to_ascii_lowercase();
                self.is_form |= value.contains("x-www-form-urlencoded");
                self.is_form |= value.contains("multipart/form-data");
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self) -> Result<Option<Framing>, Malformed> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Malformed::Other(
                "there is both a Content-Length and a Transfer-Encoding",
            )),
            (Some(length), false) => Ok(Some(Framing::Length(length))),
            (None, true) => Ok(Some(Framing::Chunked)),
            (None, false) => Ok(None),
        }
    }
}

/// RFC 9110, 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, Malformed> {
        request(text.as_bytes())
    }

    #[test]
    fn a_request_of_dockers_own_tools_is_read() {
        let text = "POST /v1.41/containers/create?name=x HTTP/1.1\r\nHost: docker\r\n\
            User-Agent: Docker-Client/20.10.24 (linux)\r\nContent-Length: 1569\r\n\
            Content-Type: application/json\r\n\r\n";

        let request = read(text).unwrap();

        assert_eq!(request.method, "POST");
        assert_eq!(request.target, "/v1.41/containers/create?name=x");
        assert_eq!(request.framing, Framing::Length(1_569));
        assert!(!request.upgrades && !request.expects_continue && !request.is_form);
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: 0x1",
            "Content-Length:",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding : chunked",
            "A: b\r\n folded",
            "A: b\nContent-Length: 5",
            "A: b\rContent-Length: 5",
            "A: b\0",
            "no colon",
            ": no name",
            "Expect: 200-ok",
        ] {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert!(read(&text).is_err(), "{fields:?} was taken");
        }
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.0",
            "GET / HTTP/2",
            "GET /",
            "get / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET\t/ HTTP/1.1",
            "",
        ] {
            assert!(
                read(&format!("{line}\r\n\r\n")).is_err(),
                "{line:?} was taken"
            );
        }
    }

    #[test]
    fn what_is_no_request_is_seen_at_its_beginning() {
        assert_eq!(
            check_beginning(b"PRI * HTTP/2.0\r\n"),
            Err(Malformed::Http2)
        );
        assert!(check_beginning(b"\r\nGET").is_err());
        assert!(check_beginning(b"\x16\x03\x01").is_err());
        assert!(check_beginning(b"GET /").is_ok() && check_beginning(b"").is_ok());
        assert_eq!(
            check_beginning(&[b'A'; HEAD_BYTES_MAX + 1]),
            Err(Malformed::TooLarge)
        );
    }

    #[test]
    fn an_answers_body_is_as_long_as_its_head_says() {
        let framing = |text: &str| answer(text.as_bytes()).unwrap().framing;

        assert_eq!(
            framing("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            Framing::Length(3)
        );
        assert_eq!(
            framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Framing::Chunked
        );
        assert_eq!(framing("HTTP/1.0 200 OK\r\n\r\n"), Framing::UntilClose);
        assert_eq!(
            framing("HTTP/1.1 204 No Content\r\n\r\n"),
            Framing::Length(0)
        );
        assert_eq!(
            framing("HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n"),
            Framing::Length(0)
        );
    }
}
