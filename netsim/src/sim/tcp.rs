//! TCP of a simulated host behind tokio's traits.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use netsim_core::{
    stack::{HostError, Stack, TcpId, TcpState},
    time::Instant,
    topology::NodeId,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tunnel::world::{BoxIo, Listen};

use super::{Awaited, Sim};

/// A connection.
#[derive(Debug)]
pub(super) struct SimTcp {
    sim: Sim,
    host: NodeId,
    id: TcpId,
}

impl SimTcp {
    /// Connects, and waits until that is done or has failed.
    pub(super) async fn connect(sim: &Sim, host: NodeId, to: SocketAddr) -> io::Result<Self> {
        let id = sim.with_stack(host, |stack, now| stack.connect(now, to))?;
        // Owns the socket from now on: a dropped future gives it back.
        let tcp = Self {
            sim: sim.clone(),
            host,
            id,
        };
        poll_fn(|cx| tcp.poll(cx, Stack::wake_writer, |stack, _| is_open(stack, id))).await?;
        Ok(tcp)
    }

    /// A connection that came in.
    pub(super) fn accepted(sim: &Sim, host: NodeId, id: TcpId) -> Self {
        let sim = sim.clone();
        Self { sim, host, id }
    }

    /// Waits for this socket alone: a relay's host has thousands, and a packet for one
    /// must not wake the tasks of all.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        wake: impl FnOnce(&mut Stack, TcpId, &Waker),
        act: impl FnOnce(&mut Stack, Instant) -> Result<T, HostError>,
    ) -> Poll<io::Result<T>> {
        let wait = |stack: &mut Stack, cx: &Context<'_>| wake(stack, self.id, cx.waker());
        self.sim.poll_socket(self.host, cx, wait, act)
    }
}

fn is_open(stack: &Stack, id: TcpId) -> Result<(), HostError> {
    match stack.state(id) {
        TcpState::Connecting => Err(HostError::WouldBlock),
        TcpState::Open => Ok(()),
        TcpState::Closed(error) => Err(error.unwrap_or(HostError::ConnectionReset)),
    }
}

impl AsyncRead for SimTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let id = self.id;
        let room = buffer.initialize_unfilled();
        let read = self.poll(cx, Stack::wake_reader, |stack, now| {
            stack.read(now, id, room)
        });
        read.map_ok(|taken| buffer.advance(taken))
    }
}

impl AsyncWrite for SimTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let id = self.id;
        self.poll(cx, Stack::wake_writer, |stack, now| {
            stack.write(now, id, bytes)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As with a kernel's socket: what was written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        self.poll(cx, Stack::wake_writer, |stack, now| {
            stack.finish(now, id);
            Ok(())
        })
    }
}

impl Drop for SimTcp {
    fn drop(&mut self) {
        let id = self.id;
        let released = self.sim.with_stack(self.host, |stack, now| {
            stack.release(now, id);
            Ok(())
        });
        debug_assert!(released.is_ok(), "a release never fails");
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct SimListener {
    sim: Sim,
    host: NodeId,
    port: u16,
}

impl SimListener {
    pub(super) const fn new(sim: Sim, host: NodeId, port: u16) -> Self {
        Self { sim, host, port }
    }
}

#[async_trait]
impl Listen for SimListener {
    async fn accept(&self) -> io::Result<(BoxIo, SocketAddr)> {
        let accept = |stack: &mut Stack| stack.accept(self.port).ok_or(HostError::WouldBlock);
        let what = (self.host, Awaited::Connection);
        let (id, remote) = poll_fn(|cx| self.sim.poll_stack(what, cx, accept)).await?;
        let tcp = SimTcp::accepted(&self.sim, self.host, id);
        Ok((Box::new(tcp), remote))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let port = self.port;
        let closed = self.sim.with_stack(self.host, |stack, now| {
            stack.unlisten(now, port);
            Ok(())
        });
        debug_assert!(closed.is_ok(), "a close never fails");
    }
}
