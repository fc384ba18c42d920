//! Messages of the probe over its two carriers: WebSocket, and a stream of QUIC.

use std::{io, time::Duration};

use ::probe::protocol::MESSAGE_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::limits::PROBE_QUIC_WINDOW_BYTES;

/// Of a message's length over QUIC.
const LENGTH_BYTES: usize = 4;

/// Read at once from a stream.
const READ_BYTES: usize = 16 * 1024;

/// How long the peer may take to acknowledge a last word.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Why a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The asker is done, or gone.
    Done,
    /// What came is no request.
    NotARequest,
    /// The socket has carried, or waited, as much as one may.
    Spent,
    /// The address, or all together, have moved as much as they may for now.
    Limited,
    /// The relay stops.
    Stopping,
}

impl Ended {
    /// For a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotARequest => "that is no request of the probe",
            Self::Spent => "a socket of the probe carries no more",
            Self::Limited => "too much was measured from here: try again in some minutes",
            Self::Stopping => "the relay stops",
        }
    }

    /// The application's error code of QUIC.
    pub const fn code(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::NotARequest => 1,
            Self::Spent => 2,
            Self::Limited => 3,
            Self::Stopping => 4,
        }
    }

    const fn close_code(self) -> CloseCode {
        match self {
            Self::Done => CloseCode::Normal,
            Self::NotARequest => CloseCode::Unsupported,
            Self::Spent => CloseCode::Policy,
            Self::Limited => CloseCode::Again,
            Self::Stopping => CloseCode::Away,
        }
    }
}

/// Something that was heard.
#[derive(Debug)]
pub enum Heard {
    /// A message.
    Message(Bytes),
    /// The carrier's own, of so many bytes.
    Overhead(usize),
    /// What is no message, or too long.
    Malformed,
    /// The asker's end.
    End,
}

/// What carries messages.
pub trait Line: Send {
    /// The next message. Cancel safe.
    fn recv(&mut self) -> impl Future<Output = Heard> + Send;

    /// Sends a message.
    fn send(&mut self, message: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends, and says why.
    fn close(self, why: Ended) -> impl Future<Output = ()> + Send;
}

/// Over WebSocket.
#[derive(Debug)]
pub struct WebSocketLine<S>(WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WebSocketLine<S> {
    /// After the switch; `unread` came with it.
    pub async fn over(io: S, unread: Bytes) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * MESSAGE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let unread = unread.to_vec();
        let role = Role::Server;
        Self(WebSocketStream::from_partially_read(io, unread, role, Some(config)).await)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Line for WebSocketLine<S> {
    async fn recv(&mut self) -> Heard {
        match self.0.next().await {
            Some(Ok(Message::Binary(bytes))) => Heard::Message(bytes),
            Some(Ok(Message::Ping(bytes) | Message::Pong(bytes))) => Heard::Overhead(bytes.len()),
            Some(Ok(Message::Text(_) | Message::Frame(_))) => Heard::Malformed,
            Some(Ok(Message::Close(_))) | None => Heard::End,
            Some(Err(error)) => match error {
                tokio_tungstenite::tungstenite::Error::Capacity(_)
                | tokio_tungstenite::tungstenite::Error::Protocol(_) => Heard::Malformed,
                _ => Heard::End,
            },
        }
    }

    async fn send(&mut self, message: Bytes) -> io::Result<()> {
        self.0
            .send(Message::Binary(message))
            .await
            .map_err(io::Error::other)
    }

    async fn close(mut self, why: Ended) {
        let frame = CloseFrame {
            code: why.close_code(),
            reason: why.as_str().into(),
        };
        let close = async {
            if self.0.close(Some(frame)).await.is_ok() {
                // Until the other end closes too, so that it reads why.
                while let Some(Ok(_)) = self.0.next().await {}
            }
        };
        tokio::time::timeout(LAST_WORD, close).await.ok();
    }
}

/// Over a stream of QUIC: each message after its length.
#[derive(Debug)]
pub struct QuicLine {
    connection: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    unread: BytesMut,
}

impl QuicLine {
    /// Over the first stream that the asker opens.
    ///
    /// # Errors
    ///
    /// The connection ended before there was one.
    pub async fn accept(connection: quinn::Connection) -> io::Result<Self> {
        // A session's would let a stranger have the relay keep 32 MiB.
        connection.set_receive_window(PROBE_QUIC_WINDOW_BYTES.into());
        connection.set_send_window(PROBE_QUIC_WINDOW_BYTES.into());
        let (send, recv) = connection.accept_bi().await?;
        Ok(Self {
            connection,
            send,
            recv,
            unread: BytesMut::new(),
        })
    }

    /// What is there already: a whole message, or what is none.
    fn take(&mut self) -> Option<Heard> {
        let length = self.unread.first_chunk::<LENGTH_BYTES>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Some(Heard::Malformed);
        }
        if self.unread.len() < LENGTH_BYTES + length {
            return None;
        }
        self.unread.advance(LENGTH_BYTES);
        Some(Heard::Message(self.unread.split_to(length).freeze()))
    }
}

impl Line for QuicLine {
    async fn recv(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.take() {
                return heard;
            }
            match self.recv.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.unread.extend_from_slice(&chunk.bytes),
                Ok(None) if self.unread.is_empty() => return Heard::End,
                Ok(None) => return Heard::Malformed,
                Err(_) => return Heard::End,
            }
        }
    }

    async fn send(&mut self, message: Bytes) -> io::Result<()> {
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        let mut pieces = [Bytes::copy_from_slice(&length.to_be_bytes()), message];
        Ok(self.send.write_all_chunks(&mut pieces).await?)
    }

    async fn close(mut self, why: Ended) {
        if self.send.finish().is_ok() && why == Ended::Done {
            // Until the other end has all that was said.
            tokio::time::timeout(LAST_WORD, self.send.stopped())
                .await
                .ok();
        }
        self.connection
            .close(why.code().into(), why.as_str().as_bytes());
    }
}
