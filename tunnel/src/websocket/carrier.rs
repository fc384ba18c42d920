//! A WebSocket as a stream of bytes: what carries the TLS of a session through somebody
//! who ends the outer one, and lets WebSocket pass.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::session::{Pieces, PutMessage};

use super::{Incoming, ReadError, WebSocket};

/// Most bytes of a message that is sent: a record of the TLS inside, with its head.
const MESSAGE_BYTES: usize = 16 * 1024 + 256;

/// See the module.
pub(super) struct Carrier {
    websocket: WebSocket,
    /// Of one read of the socket, which is bounded; nothing is read before it is gone.
    unread: VecDeque<Bytes>,
    is_over: bool,
    /// Answers to pings are queued. Nothing is read before they have left.
    owes_pongs: bool,
}

impl Carrier {
    pub(super) const fn new(websocket: WebSocket) -> Self {
        Self {
            websocket,
            unread: VecDeque::new(),
            is_over: false,
            owes_pongs: false,
        }
    }

    /// Reads once, until something is to be had or the end is there.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.owes_pongs {
            ready!(self.websocket.poll_flush(cx))?;
            self.owes_pongs = false;
        }
        let (unread, is_over) = (&mut self.unread, &mut self.is_over);
        let mut pings = Vec::new();
        let read = self
            .websocket
            .poll_read(cx, &mut |incoming| match incoming {
                Incoming::Message(bytes) => unread.push_back(bytes),
                Incoming::Ping(payload) => pings.push(payload),
                Incoming::Pong => {}
                Incoming::Close => *is_over = true,
            });
        let is_open = match ready!(read) {
            Ok(is_open) => is_open,
            Err(ReadError::Io(error)) => return Poll::Ready(Err(error)),
            Err(ReadError::Malformed(error)) => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        };
        self.is_over |= !is_open;
        self.owes_pongs = !pings.is_empty();
        for payload in pings {
            self.websocket.queue_pong(&payload)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(front) = this.unread.front_mut() {
                let length = front.len().min(buf.remaining());
                buf.put_slice(&front.split_to(length));
                if front.is_empty() {
                    this.unread.pop_front();
                }
                return Poll::Ready(Ok(()));
            }
            if this.is_over {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_fill(cx))?;
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.websocket.poll_flush(cx))?;
        let length = bytes.len().min(MESSAGE_BYTES);
        let mut pieces = Pieces::default();
        pieces.head().put_slice(&bytes[..length]);
        this.websocket.queue(&pieces)?;
        // What does not leave now, leaves before the next message or with a flush.
        match this.websocket.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(length)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().websocket.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().websocket.records.poll_shutdown(cx)
    }
}
