//! A simulator's socket in a splice.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use super::{Probe, SpliceIo};
use crate::world::{BoxIo, SimulatedSocket};

/// The sending half.
#[derive(Debug)]
pub struct SimulatedWrite {
    half: WriteHalf<BoxIo>,
    gone: CancellationToken,
    aborted: CancellationToken,
}

impl SpliceIo for SimulatedSocket {
    type Read = ReadHalf<BoxIo>;
    type Write = SimulatedWrite;

    fn halves(self) -> (Self::Read, Self::Write) {
        let Self { io, gone, aborted } = self;
        let (read, half) = tokio::io::split(io);
        let write = SimulatedWrite {
            half,
            gone,
            aborted,
        };
        (read, write)
    }
}

impl Probe for SimulatedWrite {
    fn gone(&self) -> impl Future<Output = ()> + Send {
        self.gone.cancelled()
    }

    fn abort(self) {
        self.aborted.cancel();
    }
}

impl AsyncWrite for SimulatedWrite {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.half).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(cx)
    }
}
