//! UDP sockets for QUIC.
//!
//! A dialler's socket is connected to the relay, so that the kernel takes datagrams
//! from nowhere else: nobody can talk to an agent. The price is that the kernel also
//! reports ICMP errors on it, of which quinn's driver would die; they are hints, and
//! QUIC's own timers judge.

use std::{
    fmt, io,
    io::IoSliceMut,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// Asked of the kernel for either direction: 20 ms at 800 Mbit/s. The kernel may
/// give less.
const BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// ICMP errors taken in a row before the socket is looked at again later.
const HINTS_IN_A_ROW_MAX: usize = 16;

/// Enlarges a socket's buffers as far as the kernel lets.
pub fn enlarge_buffers(socket: &std::net::UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    // Smaller buffers are slower, not wrong.
    let _refused = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _refused = socket.set_send_buffer_size(BUFFER_BYTES);
}

/// A socket connected to `peer`, on a port that the kernel chooses.
///
/// # Errors
///
/// There is no route to the peer, or no socket to be had.
pub fn connected(peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let local: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(local)?;
    socket.connect(peer)?;
    enlarge_buffers(&socket);
    let inner = TokioRuntime.wrap_udp_socket(socket)?;
    Ok(Arc::new(Connected { inner }))
}

struct Connected {
    inner: Arc<dyn AsyncUdpSocket>,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

/// Whether the error is word of the network about an earlier datagram.
fn is_hint(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    )
}

impl AsyncUdpSocket for Connected {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.inner.try_send(transmit) {
            Err(error) if is_hint(&error) => {
                tracing::debug!(%error, "datagram not sent");
                Ok(())
            }
            result => result,
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..HINTS_IN_A_ROW_MAX {
            match self.inner.poll_recv(cx, bufs, meta) {
                Poll::Ready(Err(error)) if is_hint(&error) => {
                    tracing::debug!(%error, "the network says");
                }
                result => return result,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
