//! Sockets towards what an agent serves: a service over TCP, the Docker Engine's socket.
//!
//! An enum and not a trait object, so that a real socket is spliced at its full speed
//! and with the kernel's own word on who is gone. Only a simulated one is boxed.

use std::{fmt, net::SocketAddr, path::Path};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

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
            Self::Simulated(SimulatedSocket { read, write }) => {
                Box::new(tokio::io::join(read, write))
            }
        }
    }
}

/// Both halves of a simulator's socket.
pub struct SimulatedSocket {
    /// What arrives.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// What is sent; shut down, it ends this direction alone.
    pub write: Box<dyn SimulatedWrite>,
}

impl fmt::Debug for SimulatedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedSocket")
    }
}

/// The sending half of a simulator's socket.
#[async_trait]
pub trait SimulatedWrite: AsyncWrite + Send + Sync + Unpin {
    /// Resolves once nobody can read any more what is written here.
    async fn gone(&self);

    /// From now on the peer sees an error where it would have seen the end, if that is
    /// the way of this kind of socket. The socket is dropped next.
    fn abort(&mut self);
}
