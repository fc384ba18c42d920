//! UDP sockets for QUIC.
//!
//! A dialler's socket is connected to the relay, so that the kernel takes datagrams
//! from nowhere else: nobody can talk to an agent. The price is that the kernel also
//! reports ICMP errors on it, of which quinn's driver would die; they are hints, and
//! QUIC's own timers judge. Only to who is still dialling they say that nobody listens.

use std::{
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
#[cfg(target_os = "linux")]
use rustix::net::sockopt;
use socket2::{Domain, Socket, Type};
use tokio::sync::Notify;

mod segments;

pub(crate) use segments::Turns;

/// Room asked for what arrives while the driver is busy elsewhere. A stream's window (4 MiB) may
/// come at once, and the kernel, which doubles what is asked, counts what a datagram takes
/// in memory and not what it carries. What has no room is lost, and costs a round trip.
const RECV_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Room asked for what is sent: 20 ms at 800 Mbit/s.
const SEND_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// ICMP errors taken in a row before the socket is looked at again later.
const HINTS_IN_A_ROW_MAX: usize = 16;

/// Enlarges a socket's buffers as far as the kernel lets: beyond the bounds of sysctl
/// (`net.core.rmem_max`, often 208 KiB) where this process administers the network.
pub fn enlarge_buffers(socket: &std::net::UdpSocket) {
    #[cfg(target_os = "linux")]
    let (may_receive, may_send) = (
        sockopt::set_socket_recv_buffer_size_force(socket, RECV_BUFFER_BYTES).is_ok(),
        sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER_BYTES).is_ok(),
    );
    #[cfg(not(target_os = "linux"))]
    let (may_receive, may_send) = (false, false);
    let socket = socket2::SockRef::from(socket);
    // Smaller buffers are slower, not wrong.
    if !may_receive {
        let _refused = socket.set_recv_buffer_size(RECV_BUFFER_BYTES);
    }
    if !may_send {
        let _refused = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    }
}

/// A relay's socket. `on_garbage` is told how many datagrams came that are no
/// QUIC: they are dropped without a word, and somebody should know.
///
/// # Errors
///
/// The socket cannot be used without blocking.
pub fn accepting(
    socket: std::net::UdpSocket,
    on_garbage: impl Fn(u64) + Send + Sync + 'static,
) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    enlarge_buffers(&socket);
    let inner = TokioRuntime.wrap_udp_socket(socket)?;
    Ok(Arc::new(Accepting {
        inner,
        on_garbage: Box::new(on_garbage),
    }))
}

struct Accepting {
    inner: Arc<dyn AsyncUdpSocket>,
    on_garbage: Box<dyn Fn(u64) + Send + Sync>,
}

impl fmt::Debug for Accepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepting").finish_non_exhaustive()
    }
}

/// Whether a datagram can be none of QUIC's (RFC 9000 §17): it is empty, or has a
/// long header of a version that was never spoken here. What has a short header
/// belongs to a connection, or is told so by the endpoint.
fn is_garbage(datagram: &[u8]) -> bool {
    const LONG_HEADER: u8 = 0x80;
    match datagram {
        [] => true,
        [first, rest @ ..] if first & LONG_HEADER != 0 => rest
            .first_chunk()
            .is_none_or(|version| u32::from_be_bytes(*version) != 1),
        // The shortest that can be told from a stateless reset (§10.3).
        datagram => datagram.len() < 21,
    }
}

impl AsyncUdpSocket for Accepting {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        segments::note_sent(transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = std::task::ready!(self.inner.poll_recv(cx, bufs, meta))?;
        let garbage = bufs
            .iter()
            .zip(meta.iter())
            .take(received)
            .flat_map(|(buf, meta)| buf[..meta.len].chunks(meta.stride.max(1)))
            .filter(|datagram| is_garbage(datagram))
            .count();
        if garbage > 0 {
            (self.on_garbage)(garbage as u64);
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        segments::granted(self.inner.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// A socket connected to `peer`, on a port that the kernel chooses.
///
/// # Errors
///
/// There is no route to the peer, or no socket to be had.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the operating system's end of the seam"
)]
pub fn connected(peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    // Never bound by itself: connecting chooses the port, so that no stranger's datagram
    // comes in between, and an agent may be denied every `bind`.
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, None)?;
    socket.connect(&peer.into())?;
    let socket = std::net::UdpSocket::from(socket);
    enlarge_buffers(&socket);
    TokioRuntime.wrap_udp_socket(socket)
}

/// A socket whose ICMP errors nobody dies of.
pub(crate) struct Forgiving {
    inner: Arc<dyn AsyncUdpSocket>,
    refusal: Arc<Notify>,
}

impl Forgiving {
    /// Over a dialler's socket; the other half is notified when the network says that
    /// nobody listens at the peer's port.
    pub(crate) fn over(inner: Arc<dyn AsyncUdpSocket>) -> (Arc<dyn AsyncUdpSocket>, Arc<Notify>) {
        let refusal = Arc::new(Notify::new());
        let forgiving = Self {
            inner,
            refusal: Arc::clone(&refusal),
        };
        (Arc::new(forgiving), refusal)
    }

    fn hear(&self, error: &io::Error) {
        tracing::debug!(%error, "the network says");
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.refusal.notify_one();
        }
    }
}

impl fmt::Debug for Forgiving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forgiving").finish_non_exhaustive()
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

impl AsyncUdpSocket for Forgiving {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.inner.try_send(transmit) {
            Err(error) if is_hint(&error) => {
                self.hear(&error);
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
                Poll::Ready(Err(error)) if is_hint(&error) => self.hear(&error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel's own socket is what is tested"
    )]
    fn a_window_s_datagrams_fit_the_receive_buffer_where_the_kernel_lets_it_grow() {
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let max = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        let granted = RECV_BUFFER_BYTES.min(max.trim().parse().unwrap());

        enlarge_buffers(&socket);

        assert!(sockopt::socket_recv_buffer_size(&socket).unwrap() >= granted);
    }

    #[test]
    fn what_is_no_quic_is_told_from_what_may_be() {
        let initial = [&[0xc3, 0, 0, 0, 1][..], &[0; 1195]].concat();

        assert!(!is_garbage(&initial));
        assert!(!is_garbage(&[0x40; 40]));
        assert!(is_garbage(b""));
        assert!(is_garbage(b"GET / HTTP/1.1"));
        assert!(is_garbage(&[0xff; 1200]));
    }
}
