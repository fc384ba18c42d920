//! Joins a stream and a socket, byte-true, until both directions are done.
//!
//! The directions end apart, as they do in HTTP: a server may answer and close while
//! the request is still being sent, and every byte of the answer counts.
//!
//! | what happens at the socket | what the stream is told |
//! |---|---|
//! | its peer finished | finish |
//! | its peer closed it altogether (seen after the finish) | stop: send no more |
//! | it broke | what was read, then reset; stop |
//!
//! | what happens on the stream | what is done to the socket |
//! |---|---|
//! | finish | shut down for writing |
//! | stop | not read any further |
//! | reset, or the session's end | reset |

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{TcpStream, UnixStream, tcp, unix},
};
use tokio_util::sync::CancellationToken;
use wire::{close::ResetCode, limits::DATA_BYTES_MAX, session::StreamReset};

use crate::session::{RecvStream, SendStream, Stream};

mod read;
mod simulated;

use read::ChunkReader;
pub use simulated::SimulatedWrite;

/// What came of a splice.
#[derive(Debug)]
pub struct Spliced {
    /// Bytes from the socket into the stream.
    pub sent: u64,
    /// Bytes from the stream into the socket.
    pub received: u64,
    /// Whether both directions ended in order.
    pub end: Result<(), SpliceError>,
}

/// Why a splice did not end in order.
#[derive(Debug, Error)]
pub enum SpliceError {
    /// The far end of the stream broke it off.
    #[error(transparent)]
    Stream(#[from] StreamReset),
    /// The socket broke.
    #[error("the local connection broke: {0}")]
    Socket(#[from] io::Error),
    /// Whoever was at the socket closed it altogether.
    #[error("the local connection was closed")]
    Gone,
}

/// A socket whose two directions close apart.
pub trait SpliceIo: Send {
    /// Its receiving half.
    type Read: tokio::io::AsyncRead + Unpin + Send;
    /// Its sending half.
    type Write: tokio::io::AsyncWrite + Unpin + Send + Probe;

    /// The two halves, for use by two tasks.
    fn halves(self) -> (Self::Read, Self::Write);
}

/// Says when the peer of a socket is gone altogether, as opposed to having finished.
pub trait Probe {
    /// Resolves once nobody can read any more what is written here.
    fn gone(&self) -> impl Future<Output = ()> + Send;

    /// Closes the socket so that its peer sees an error, not an end.
    fn abort(self);
}

impl SpliceIo for TcpStream {
    type Read = tcp::OwnedReadHalf;
    type Write = tcp::OwnedWriteHalf;

    fn halves(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

impl Probe for tcp::OwnedWriteHalf {
    async fn gone(&self) {
        // Both directions closed, or reset. A peer that has closed its socket and one
        // that has finished look the same over TCP until something is written.
        wait_closed(|| self.ready(Interest::WRITABLE.add(Interest::ERROR))).await;
    }

    fn abort(self) {
        let socket = socket2::SockRef::from(self.as_ref());
        // Where it fails, the peer sees an end instead of a reset.
        let _refused = socket.set_linger(Some(Duration::ZERO));
    }
}

impl SpliceIo for UnixStream {
    type Read = unix::OwnedReadHalf;
    type Write = unix::OwnedWriteHalf;

    fn halves(self) -> (Self::Read, Self::Write) {
        self.into_split()
    }
}

impl Probe for unix::OwnedWriteHalf {
    async fn gone(&self) {
        wait_closed(|| self.ready(Interest::WRITABLE.add(Interest::ERROR))).await;
    }

    fn abort(self) {}
}

/// Waits until readiness says that writing is closed. Being writable says nothing
/// more, so a look from time to time must do: the kernel reports a hang-up as a
/// level, and tokio's readiness as an edge.
async fn wait_closed<F>(mut ready: impl FnMut() -> F)
where
    F: Future<Output = io::Result<tokio::io::Ready>>,
{
    loop {
        match ready().await {
            Ok(ready) if !ready.is_write_closed() => {}
            Ok(_) | Err(_) => return,
        }
        tokio::time::sleep(GONE_POLL).await;
    }
}

/// How soon a vanished client is noticed.
const GONE_POLL: Duration = Duration::from_millis(100);

/// Copies both ways until both are done. See the module.
pub async fn splice<IO: SpliceIo>(stream: Stream, io: IO) -> Spliced {
    let (mut recv, mut send) = stream.into_split();
    let (mut read, mut write) = io.halves();
    let (mut sent, mut received) = (0, 0);
    let (finished, broken) = (CancellationToken::new(), CancellationToken::new());
    let outbound = async {
        let result = outbound(&mut read, &mut send, &mut sent, &broken).await;
        finished.cancel();
        result
    };
    let inbound = async {
        let result = inbound(&mut recv, &mut write, &mut received, &finished).await;
        if matches!(result, Err(SpliceError::Stream(_))) {
            broken.cancel();
        }
        result
    };
    let (outbound, inbound) = tokio::join!(outbound, inbound);
    if broken.is_cancelled() {
        write.abort();
    }
    Spliced {
        sent,
        received,
        end: inbound.and(outbound),
    }
}

/// Socket to stream.
async fn outbound(
    read: &mut (impl tokio::io::AsyncRead + Unpin),
    send: &mut SendStream,
    sent: &mut u64,
    broken: &CancellationToken,
) -> Result<(), SpliceError> {
    let mut reader = ChunkReader::default();
    let mut cancelled = pin!(broken.cancelled());
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(read) = reader.poll_read(cx, Pin::new(read)) {
                return Poll::Ready(Next::Read(read));
            }
            if let Poll::Ready(reset) = send.poll_stopped(cx) {
                return Poll::Ready(Next::Stopped(reset));
            }
            cancelled.as_mut().poll(cx).map(|()| Next::Broken)
        });
        match next.await {
            Next::Read(Ok(bytes)) if bytes.is_empty() => {
                send.finish();
                return Ok(());
            }
            Next::Read(Ok(bytes)) => {
                *sent += bytes.len() as u64;
                send.write_chunk(bytes).await?;
            }
            Next::Read(Err(error)) => {
                send.break_off(ResetCode::TargetReset, &error.to_string());
                return Err(error.into());
            }
            Next::Stopped(reset) => return Err(reset.into()),
            Next::Broken => return Ok(()),
        }
    }
}

/// What the next turn from a socket to a stream brings.
enum Next {
    Read(io::Result<Bytes>),
    /// Whoever reads the stream wants no more.
    Stopped(StreamReset),
    /// The other direction broke.
    Broken,
}

/// What is copied to a socket before other tasks have their turn: some 100 µs.
const TURN_BYTES: u64 = 256 * 1024;

/// Stream to socket. Once the socket's peer has finished, its vanishing is watched.
async fn inbound<W>(
    recv: &mut RecvStream,
    write: &mut W,
    received: &mut u64,
    finished: &CancellationToken,
) -> Result<(), SpliceError>
where
    W: tokio::io::AsyncWrite + Unpin + Probe,
{
    let mut turn_ends = TURN_BYTES;
    loop {
        if *received >= turn_ends {
            turn_ends = *received + TURN_BYTES;
            tokio::task::yield_now().await;
        }
        let chunk = tokio::select! {
            biased;
            chunk = recv.read_chunk(DATA_BYTES_MAX) => chunk?,
            () = gone_after(finished, write.gone()) => {
                recv.stop(ResetCode::Cancelled, "");
                return Err(SpliceError::Gone);
            }
        };
        let Some(bytes) = chunk else {
            // Fails where the peer is gone, which is then no loss to it.
            let _shut_down = write.shutdown().await;
            return Ok(());
        };
        *received += bytes.len() as u64;
        if let Err(error) = write.write_all(&bytes).await {
            recv.stop(ResetCode::TargetReset, &error.to_string());
            return Err(error.into());
        }
    }
}

/// A socket whose peer has not finished may hold bytes that were not read: only
/// after them does it matter that the peer is gone.
async fn gone_after(finished: &CancellationToken, gone: impl Future<Output = ()>) {
    finished.cancelled().await;
    gone.await;
}

/// Joins two streams, as a relay does: bytes are handed over without a copy, and
/// each direction's end is handed on as it is.
///
/// `on_bytes` is told of every chunk: how long it is, and whether it goes from `a`
/// to `b`.
///
/// # Errors
///
/// A direction was broken off, by whichever end.
pub async fn join(
    a: Stream,
    b: Stream,
    on_bytes: impl Fn(u64, bool) + Sync,
) -> Result<(), StreamReset> {
    let (mut a_recv, mut a_send) = a.into_split();
    let (mut b_recv, mut b_send) = b.into_split();
    let forth = pump(&mut a_recv, &mut b_send, |bytes| on_bytes(bytes, true));
    let back = pump(&mut b_recv, &mut a_send, |bytes| on_bytes(bytes, false));
    let (forth, back) = tokio::join!(forth, back);
    forth.and(back)
}

async fn pump(
    recv: &mut RecvStream,
    send: &mut SendStream,
    on_bytes: impl Fn(u64),
) -> Result<(), StreamReset> {
    loop {
        let chunk = match poll_fn(|cx| poll_chunk(cx, recv, send)).await {
            Chunk::Bytes(bytes) => bytes,
            Chunk::Finished => {
                send.finish();
                return Ok(());
            }
            Chunk::Reset(reset) => {
                send.break_off(reset.code, &reset.reason);
                return Err(reset);
            }
            Chunk::Stopped(reset) => {
                recv.stop(reset.code, &reset.reason);
                return Err(reset);
            }
        };
        on_bytes(chunk.len() as u64);
        if let Err(reset) = send.write_chunk(chunk).await {
            recv.stop(reset.code, &reset.reason);
            return Err(reset);
        }
    }
}

/// What the next turn of a pump brings.
enum Chunk {
    Bytes(Bytes),
    Finished,
    /// Whoever sends has broken off.
    Reset(StreamReset),
    /// Whoever receives wants no more.
    Stopped(StreamReset),
}

fn poll_chunk(cx: &mut Context<'_>, recv: &mut RecvStream, send: &mut SendStream) -> Poll<Chunk> {
    if let Poll::Ready(read) = recv.poll_read_chunk(cx, DATA_BYTES_MAX) {
        return Poll::Ready(match read {
            Ok(Some(bytes)) => Chunk::Bytes(bytes),
            Ok(None) => Chunk::Finished,
            Err(reset) => Chunk::Reset(reset),
        });
    }
    send.poll_stopped(cx).map(Chunk::Stopped)
}
