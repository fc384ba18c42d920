//! What the first bytes of a client tell: the protocol, and of a TLS ClientHello the
//! server's name and the application protocols (RFC 8446, RFC 6066, RFC 7301).

use crate::model::Speech;

/// What is known of a client's first bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct First {
    /// The protocol, if it is one that is known.
    pub(super) speech: Option<Speech>,
    /// The server's name.
    pub(super) server_name: Option<String>,
    /// Application protocols that are offered.
    pub(super) alpn: Vec<String>,
    /// How long the ClientHello is.
    pub(super) hello_bytes: u64,
}

/// Whether enough was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// More bytes are needed.
    More,
    /// This is what it is.
    Known(First),
}

const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"PRI ",
];

/// Looks at the beginning of a TCP stream.
pub(super) fn look_at_stream(bytes: &[u8]) -> Look {
    match bytes.first() {
        None => Look::More,
        // A handshake record.
        Some(0x16) => look_at_records(bytes),
        Some(_) => {
            let begins = |method: &&[u8]| bytes.starts_with(method);
            let may_begin = |method: &&[u8]| method.starts_with(bytes);
            if METHODS.iter().any(begins) {
                known(Some(Speech::Http))
            } else if METHODS.iter().any(may_begin) {
                Look::More
            } else {
                known(None)
            }
        }
    }
}

/// Looks at the first datagram of a flow: QUIC has a long header with a version.
pub(super) fn look_at_datagram(bytes: &[u8]) -> Look {
    let version = bytes.get(1..5);
    let is_long = bytes.first().is_some_and(|first| first & 0xc0 == 0xc0);
    let is_quic = is_long && version.is_some_and(|version| version != [0; 4]);
    known(is_quic.then_some(Speech::Quic))
}

const fn known(speech: Option<Speech>) -> Look {
    Look::Known(First {
        speech,
        server_name: None,
        alpn: Vec::new(),
        hello_bytes: 0,
    })
}

/// Takes a handshake message out of its records, which may be many.
fn look_at_records(bytes: &[u8]) -> Look {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((header, after)) = rest.split_at_checked(5) else {
            return Look::More;
        };
        if header[0] != 0x16 || header[1] != 3 {
            return known(None);
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let taken = length.min(after.len());
        message.extend(&after[..taken]);
        if let Some(look) = look_at_message(&message) {
            return look;
        }
        if taken < length {
            return Look::More;
        }
        rest = &after[taken..];
    }
}

/// The handshake message so far; nothing while it is not whole.
fn look_at_message(message: &[u8]) -> Option<Look> {
    let (header, body) = message.split_at_checked(4)?;
    if header[0] != 1 {
        return Some(known(None));
    }
    let length =
        usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    let body = body.get(..length)?;
    let mut first = First {
        speech: Some(Speech::Tls),
        hello_bytes: (header.len() + length) as u64,
        ..First::default()
    };
    // What does not read as a ClientHello is TLS of a kind that tells nothing.
    let mut extensions = extensions(body).unwrap_or(&[]);
    while let Some((kind, content, rest)) = extension(extensions) {
        match kind {
            0 => first.server_name = server_name(content),
            16 => first.alpn = protocols(content).unwrap_or_default(),
            _ => {}
        }
        extensions = rest;
    }
    Some(Look::Known(first))
}

/// Version, random, session id, cipher suites and compression lie before them.
fn extensions(hello: &[u8]) -> Option<&[u8]> {
    let rest = hello.get(34..)?;
    let (_, rest) = counted(rest, 1)?;
    let (_, rest) = counted(rest, 2)?;
    let (_, rest) = counted(rest, 1)?;
    counted(rest, 2).map(|(extensions, _)| extensions)
}

fn extension(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_at_checked(2)?;
    let (content, rest) = counted(rest, 2)?;
    Some((u16::from_be_bytes([kind[0], kind[1]]), content, rest))
}

fn server_name(content: &[u8]) -> Option<String> {
    let (list, _) = counted(content, 2)?;
    let (kind, rest) = list.split_first()?;
    let (name, _) = counted(rest, 2)?;
    (*kind == 0).then(|| String::from_utf8_lossy(name).into_owned())
}

fn protocols(content: &[u8]) -> Option<Vec<String>> {
    let (mut list, _) = counted(content, 2)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        let (name, rest) = counted(list, 1)?;
        found.push(String::from_utf8_lossy(name).into_owned());
        list = rest;
    }
    Some(found)
}

/// Bytes behind their own count of one or two bytes, and what follows.
fn counted(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_at_checked(width)?;
    let count = count
        .iter()
        .fold(0, |count, byte| count << 8 | usize::from(*byte));
    rest.split_at_checked(count)
}
