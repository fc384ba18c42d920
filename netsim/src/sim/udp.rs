//! UDP of a simulated host as quinn's abstract socket.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use netsim_core::{
    stack::{Datagram, HostError, UdpId},
    topology::NodeId,
};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::{Awaited, Sim};

/// Puts a datagram where quinn wants it; what does not fit is cut off.
fn put(datagram: &Datagram, buffer: &mut [u8]) -> RecvMeta {
    let length = datagram.payload.len().min(buffer.len());
    buffer[..length].copy_from_slice(&datagram.payload[..length]);
    RecvMeta {
        addr: datagram.source,
        len: length,
        stride: length,
        ecn: None,
        dst_ip: Some(datagram.destination.ip()),
    }
}

/// A UDP socket.
#[derive(Debug)]
pub(super) struct SimUdp {
    sim: Sim,
    host: NodeId,
    id: UdpId,
}

impl SimUdp {
    pub(super) const fn new(sim: Sim, host: NodeId, id: UdpId) -> Self {
        Self { sim, host, id }
    }
}

impl AsyncUdpSocket for SimUdp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.sim.with_stack(self.host, |stack, _| {
            match stack.send_udp(self.id, transmit.destination, transmit.contents) {
                // A probe that is too long for the host's own link is lost, as quinn's
                // real socket has it.
                Err(HostError::MessageTooLong) => Ok(()),
                sent => sent,
            }
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (id, what) = (self.id, (self.host, Awaited::Datagram));
        self.sim.poll_stack(what, cx, |stack| {
            let mut taken = 0;
            for (buffer, meta) in buffers.iter_mut().zip(meta.iter_mut()) {
                let datagram = match stack.receive_udp(id) {
                    Ok(datagram) => datagram,
                    // What is wrong is told when there is nothing else.
                    Err(error) if taken == 0 => return Err(error),
                    Err(_) => break,
                };
                *meta = put(&datagram, buffer);
                taken += 1;
            }
            Ok(taken)
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sim.with_stack(self.host, |stack, _| {
            let port = stack.udp_port(self.id).ok_or(HostError::BrokenPipe)?;
            Ok(SocketAddr::new(stack.udp_address(self.id), port))
        })
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for SimUdp {
    fn drop(&mut self) {
        let id = self.id;
        let closed = self.sim.with_stack(self.host, |stack, _| {
            stack.close_udp(id);
            Ok(())
        });
        debug_assert!(closed.is_ok(), "a close never fails");
    }
}

/// The simulated card has no queue that could be full: what is too much is lost on the
/// cable.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
