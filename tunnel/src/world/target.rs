//! Sockets towards what an agent serves: a service over TCP, the Docker Engine's socket.
//!
//! An enum and not a trait object, so that a real socket is spliced at its full speed
//! and with the kernel's own word on who is gone. Only a simulated one is boxed.

use std::{net::SocketAddr, path::Path};

use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use super::BoxIo;

/// Where a stream leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetEnd<'a> {
    /// A service.
    Tcp(SocketAddr),
    /// A socket on this host, such as the Docker Engine's.
    Unix(&'a Path),
}

/// A socket that is connected to a [`TargetEnd`].
#[derive(Debug)]
pub enum TargetSocket {
    /// The kernel's TCP.
    Tcp(TcpStream),
    /// The kernel's Unix socket.
    Unix(UnixStream),
    /// A simulator's, of either kind.
    Simulated(SimulatedSocket),
}

impl TargetSocket {
    /// As a byte stream whose kind does not matter any more.
    pub fn into_io(self) -> BoxIo {
        match self {
            Self::Tcp(tcp) => Box::new(tcp),
            Self::Unix(unix) => Box::new(unix),
            Self::Simulated(simulated) => simulated.io,
        }
    }
}

/// A simulator's socket: its bytes, and what a kernel would say beside them.
#[derive(Debug)]
pub struct SimulatedSocket {
    /// The bytes. Shut down for writing, it can still be read.
    pub io: BoxIo,
    /// Cancelled by the simulator once nobody can read any more what is written here.
    pub gone: CancellationToken,
    /// Cancelled by whoever has the socket where its peer is to see an error instead of
    /// an end; the socket is dropped next.
    pub aborted: CancellationToken,
}

impl SimulatedSocket {
    /// One whose peer is told of no abort, and is never known to have gone.
    pub fn new(io: BoxIo) -> Self {
        Self {
            io,
            gone: CancellationToken::new(),
            aborted: CancellationToken::new(),
        }
    }
}
