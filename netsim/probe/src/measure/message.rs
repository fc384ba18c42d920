//! Messages over a WebSocket, as far as a probe needs them: binary ones, whole.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{http::Http, tcp::of_io};
use crate::{
    observe::{Fault, FaultKind},
    protocol::MESSAGE_BYTES_MAX,
};

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A WebSocket's end at the client.
#[derive(Debug)]
pub(super) struct Frames<S> {
    http: Http<S>,
}

/// What came.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A binary message.
    Message(Bytes),
    /// A ping, a pong, a text.
    Other,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub(super) const fn over(http: Http<S>) -> Self {
        Self { http }
    }

    /// Sends one binary message. The mask is zero, as production's.
    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), Fault> {
        let mut frame = head(BINARY, message.len());
        frame.extend_from_slice(message);
        let failed = |error| of_io(&error);
        self.http.io.write_all(&frame).await.map_err(failed)?;
        self.http.io.flush().await.map_err(failed)
    }

    /// Says goodbye.
    pub(super) async fn close(&mut self) {
        // Who has gone already needs no goodbye.
        let _sent = self.http.io.write_all(&head(CLOSE, 0)).await;
        let _ended = self.http.io.shutdown().await;
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> Result<Incoming, Fault> {
        let (first, length) = loop {
            if let Some((first, length, head)) = parse(&self.http.unread)? {
                self.http.unread.advance(head);
                break (first, length);
            }
            self.http.fill().await?;
        };
        while self.http.unread.len() < length {
            self.http.fill().await?;
        }
        let body = self.http.unread.split_to(length).freeze();
        match first & 0x0f {
            BINARY if first & FINAL != 0 => Ok(Incoming::Message(body)),
            CLOSE => Err(Fault::new(
                FaultKind::Ended,
                "the other end closed the WebSocket",
            )),
            _ => Ok(Incoming::Other),
        }
    }

    /// The next message.
    pub(super) async fn message(&mut self) -> Result<Bytes, Fault> {
        loop {
            if let Incoming::Message(message) = self.next().await? {
                return Ok(message);
            }
        }
    }
}

fn head(opcode: u8, length: usize) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&[FINAL | opcode]);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => frame.extend_from_slice(&[MASKED | short]),
        (_, Ok(middle)) => {
            frame.extend_from_slice(&[MASKED | 126]);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.extend_from_slice(&[MASKED | 127]);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame
}

/// The first byte, the body's length and the head's; `None`: more is needed.
fn parse(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, Fault> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let (length, head) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let is_masked = second & MASKED != 0;
    if length > 2 * MESSAGE_BYTES_MAX || is_masked {
        let says = "what answers does not speak WebSocket as a server does";
        return Err(Fault::new(FaultKind::Protocol, says));
    }
    Ok(Some((*first, length, head)))
}
