//! A stream, as the application holds it: two directions that end apart.
//!
//! Reading and writing are cancel safe: a dropped future has taken nothing and
//! written nothing.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::{
    close::ResetCode,
    id::StreamId,
    limits::OPEN_TIMEOUT,
    session::{Read, StreamReset},
};

use super::state::Shared;

/// What keeps the stream alive in the machine; shared by its two halves.
#[derive(Debug)]
struct Hold {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        self.shared.with(|state| {
            state.remove_stream(self.id);
            state.machine.forget(now, self.id);
        });
    }
}

/// Both directions of a stream. Dropped before [`finish`](Self::finish), the sending
/// direction is reset as cancelled.
#[derive(Debug)]
pub struct Stream {
    recv: RecvStream,
    send: SendStream,
}

/// The receiving direction.
#[derive(Debug)]
pub struct RecvStream {
    hold: Arc<Hold>,
}

/// The sending direction.
#[derive(Debug)]
pub struct SendStream {
    hold: Arc<Hold>,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        let hold = Arc::new(Hold { shared, id });
        Self {
            recv: RecvStream {
                hold: Arc::clone(&hold),
            },
            send: SendStream { hold },
        }
    }

    /// The stream's id within its session.
    pub fn id(&self) -> StreamId {
        self.send.hold.id
    }

    /// Waits until the far end has reached the target, at most [`OPEN_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// It could not, may not, or did not answer in time.
    pub async fn accepted(&mut self) -> Result<(), StreamReset> {
        let Hold { shared, id } = &*self.send.hold;
        let answer = poll_fn(|cx| {
            shared.with(|state| {
                if state
                    .streams
                    .get(id)
                    .is_some_and(|stream| stream.is_accepted)
                {
                    return Poll::Ready(Ok(()));
                }
                if let Some(reset) = state.machine.broken(*id) {
                    return Poll::Ready(Err(reset));
                }
                if let Some(stream) = state.streams.get_mut(id) {
                    stream.opener = Some(cx.waker().clone());
                }
                Poll::Pending
            })
        });
        tokio::time::timeout(OPEN_TIMEOUT, answer)
            .await
            .unwrap_or_else(|_| {
                Err(StreamReset::new(
                    ResetCode::Timeout,
                    "the far end did not answer in time",
                ))
            })
    }

    /// Reads without waiting; empty where nothing has arrived.
    pub(super) fn read_now(&mut self, max: usize) -> Bytes {
        let Hold { shared, id } = &*self.recv.hold;
        let now = shared.clock.now();
        shared.with(|state| state.machine.read_arrived(now, *id, max))
    }

    pub(super) fn tell_accepted(&mut self) {
        let Hold { shared, id } = &*self.send.hold;
        shared.with(|state| state.machine.accept(*id));
    }

    /// See [`RecvStream::read_chunk`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamReset> {
        self.recv.read_chunk(max).await
    }

    /// See [`SendStream::write_chunk`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), StreamReset> {
        self.send.write_chunk(bytes).await
    }

    /// See [`SendStream::finish`].
    pub fn finish(&mut self) {
        self.send.finish();
    }

    /// Breaks both directions off.
    pub fn reset(&mut self, code: ResetCode, reason: &str) {
        let Hold { shared, id } = &*self.send.hold;
        let now = shared.clock.now();
        let reset = StreamReset::new(code, reason);
        shared.with(|state| state.machine.reset(now, *id, &reset));
    }

    /// The two directions, to be used by two tasks.
    pub fn into_split(self) -> (RecvStream, SendStream) {
        (self.recv, self.send)
    }
}

impl RecvStream {
    /// The next bytes, at most `max` of them and without a copy; `None` once the
    /// peer has finished.
    ///
    /// # Errors
    ///
    /// The peer broke the stream off, or the session is over.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamReset> {
        poll_fn(|cx| self.poll_read_chunk(cx, max)).await
    }

    /// What [`Self::read_chunk`] awaits.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Bytes>, StreamReset>> {
        let Hold { shared, id } = &*self.hold;
        let now = shared.clock.now();
        shared.with(|state| match state.machine.read(now, *id, max) {
            Ok(Read::Bytes(bytes)) => Poll::Ready(Ok(Some(bytes))),
            Ok(Read::Finished) => Poll::Ready(Ok(None)),
            Ok(Read::Pending) => {
                if let Some(stream) = state.streams.get_mut(id) {
                    stream.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Err(reset) => Poll::Ready(Err(reset)),
        })
    }

    /// Reads no further, and asks the peer to send no more.
    pub fn stop(&mut self, code: ResetCode, reason: &str) {
        let Hold { shared, id } = &*self.hold;
        let now = shared.clock.now();
        let reset = StreamReset::new(code, reason);
        shared.with(|state| state.machine.stop_receiving(now, *id, reset));
    }
}

impl SendStream {
    /// Writes all of `bytes` without a copy; waits while the peer gives no credit.
    ///
    /// # Errors
    ///
    /// The peer reads no further, or the session is over.
    pub async fn write_chunk(&mut self, mut bytes: Bytes) -> Result<(), StreamReset> {
        poll_fn(|cx| {
            while !bytes.is_empty() {
                std::task::ready!(self.poll_write_chunk(cx, &mut bytes))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Takes bytes off the front of `bytes`, at least one of them.
    ///
    /// # Errors
    ///
    /// As for [`Self::write_chunk`].
    pub fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<usize, StreamReset>> {
        let Hold { shared, id } = &*self.hold;
        shared.with(|state| match state.machine.write(*id, bytes) {
            Ok(0) if !bytes.is_empty() => {
                if let Some(stream) = state.streams.get_mut(id) {
                    stream.writer = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Ok(written) => Poll::Ready(Ok(written)),
            Err(reset) => Poll::Ready(Err(reset)),
        })
    }

    /// Ends the direction after what was written.
    pub fn finish(&mut self) {
        let Hold { shared, id } = &*self.hold;
        shared.with(|state| state.machine.finish(*id));
    }

    /// Breaks the direction off.
    pub fn reset(&mut self, code: ResetCode, reason: &str) {
        let Hold { shared, id } = &*self.hold;
        let reset = StreamReset::new(code, reason);
        shared.with(|state| state.machine.reset_sending(*id, reset));
    }

    /// Breaks the direction off after what was written: the peer reads all of it,
    /// and then the reset.
    pub fn break_off(&mut self, code: ResetCode, reason: &str) {
        let Hold { shared, id } = &*self.hold;
        let reset = StreamReset::new(code, reason);
        shared.with(|state| state.machine.break_off(*id, reset));
    }

    /// Resolves when the peer reads no further, or the session is over.
    pub async fn stopped(&mut self) -> StreamReset {
        poll_fn(|cx| self.poll_stopped(cx)).await
    }

    /// What [`Self::stopped`] awaits.
    pub fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<StreamReset> {
        let Hold { shared, id } = &*self.hold;
        shared.with(|state| {
            if let Some(reset) = state.machine.stopped(*id) {
                return Poll::Ready(reset);
            }
            if let Some(stream) = state.streams.get_mut(id) {
                stream.writer = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = std::task::ready!(self.poll_read_chunk(cx, buf.remaining()));
        if let Some(bytes) = bytes.map_err(to_io)? {
            buf.put_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // No more is copied than one turn can take.
        let taken = buf.len().min(wire::limits::DATA_BYTES_MAX);
        let mut bytes = Bytes::copy_from_slice(&buf[..taken]);
        self.poll_write_chunk(cx, &mut bytes).map_err(to_io)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver sends what is written without being asked.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

/// A reset as an error of I/O, for code that knows streams as bytes alone.
fn to_io(reset: StreamReset) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, reset)
}
