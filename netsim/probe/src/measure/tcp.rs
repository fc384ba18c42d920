//! Connections over TCP, with what may be changed about them, and failures as they were told.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::observe::{Fault, FaultKind};

/// What is changed about a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changed {
    /// Segments of at most so many bytes, both ways.
    pub(super) mss: Option<u16>,
    /// At most so many hops.
    pub(super) hops: Option<u8>,
}

/// Connects within a time.
pub(super) async fn connect(
    to: SocketAddr,
    changed: Changed,
    within: Duration,
) -> Result<TcpStream, Fault> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| of_io(&error))?;
    change(&socket, to, changed).map_err(|error| of_io(&error))?;
    let connected = tokio::time::timeout(within, socket.connect(to)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(told(&error, to)),
        Err(_) => return Err(timed_out(within)),
    };
    stream.set_nodelay(true).map_err(|error| of_io(&error))?;
    Ok(stream)
}

fn change(socket: &TcpSocket, to: SocketAddr, changed: Changed) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if let Some(mss) = changed.mss {
        socket.set_tcp_mss(mss.into())?;
    }
    match (changed.hops, to) {
        (Some(hops), SocketAddr::V4(_)) => socket.set_ttl_v4(hops.into()),
        (Some(hops), SocketAddr::V6(_)) => socket.set_unicast_hops_v6(hops.into()),
        (None, _) => Ok(()),
    }
}

/// A failure to connect; whether this host said so by itself is asked of its routes.
fn told(error: &io::Error, to: SocketAddr) -> Fault {
    let mut fault = of_io(error);
    let is_here = source_towards(to.ip()).is_err();
    // Of IPv6, an ICMP error of a firewall on the way is told with the errno of a rule here.
    if error.raw_os_error() == Some(libc::EACCES) && to.is_ipv6() && !is_here {
        fault.kind = FaultKind::HostUnreachable;
    }
    fault.is_local = match fault.kind {
        FaultKind::NotPermitted | FaultKind::NoPort => true,
        FaultKind::NetUnreachable | FaultKind::HostUnreachable => is_here,
        _ => false,
    };
    fault
}

/// From which address this host would talk to another; without a packet.
pub(super) fn source_towards(to: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect((to, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Nothing came in time.
pub(super) fn timed_out(within: Duration) -> Fault {
    Fault::new(
        FaultKind::TimedOut,
        format!("nothing came within {} ms", within.as_millis()),
    )
}

/// What the system says.
pub(super) fn of_io(error: &io::Error) -> Fault {
    let kind = match (error.raw_os_error(), error.kind()) {
        (Some(libc::ECONNREFUSED), _) => FaultKind::Refused,
        (Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED), _) => FaultKind::Reset,
        (Some(libc::EHOSTUNREACH | libc::EHOSTDOWN), _) => FaultKind::HostUnreachable,
        (Some(libc::ENETUNREACH | libc::ENETDOWN), _) => FaultKind::NetUnreachable,
        (Some(libc::EPERM | libc::EACCES), _) => FaultKind::NotPermitted,
        (Some(libc::EADDRNOTAVAIL | libc::EAGAIN | libc::EMFILE), _) => FaultKind::NoPort,
        (Some(libc::ETIMEDOUT), _) => FaultKind::TimedOut,
        (_, io::ErrorKind::UnexpectedEof) => FaultKind::Ended,
        (_, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => FaultKind::Reset,
        (_, io::ErrorKind::ConnectionRefused) => FaultKind::Refused,
        (_, io::ErrorKind::TimedOut) => FaultKind::TimedOut,
        _ => FaultKind::Other,
    };
    Fault {
        errno: error.raw_os_error(),
        ..Fault::new(kind, bounded(&error.to_string()))
    }
}

/// What others have written, for a report: on one line and within bounds.
pub(super) fn bounded(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(200).collect()
}
