//! A Unix socket within the process, and a host that has it at a path.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::DropGuard;
use tunnel::world::{AsyncUdpSocket, BoxIo, Net, SimulatedSocket, TargetEnd, TargetSocket};

use super::Engine;

/// What the kernel keeps for one direction of a Unix socket, by its default.
const BUFFER_BYTES: usize = 208 * 1024;

/// The client's end, and the Engine's.
pub(super) fn pair() -> (SimulatedSocket, EngineEnd) {
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    // An abort is a close, as it is with the kernel's Unix sockets.
    let near = SimulatedSocket::new(Box::new(near));
    let far = EngineEnd {
        io: far,
        _gone: near.gone.clone().drop_guard(),
    };
    (near, far)
}

/// The Engine's end. Dropped, it tells the client that nobody reads any more.
#[derive(Debug)]
pub(super) struct EngineEnd {
    io: DuplexStream,
    _gone: DropGuard,
}

impl AsyncRead for EngineEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for EngineEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A host's network, and an Engine's socket beside it.
#[derive(Debug)]
pub(super) struct WithEngine {
    pub(super) net: Arc<dyn Net>,
    pub(super) engine: Engine,
    pub(super) path: PathBuf,
}

#[async_trait]
impl Net for WithEngine {
    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<BoxIo> {
        self.net.connect_tcp(address).await
    }

    fn connect_udp(&self, peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.net.connect_udp(peer)
    }

    async fn connect_target(&self, target: TargetEnd<'_>) -> io::Result<TargetSocket> {
        match target {
            TargetEnd::Unix(path) if path == self.path => self.engine.connect(),
            TargetEnd::Unix(_) | TargetEnd::Tcp(_) => self.net.connect_target(target).await,
        }
    }
}
