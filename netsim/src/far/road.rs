//! A road from one host to a service on the other: connections of which both ends are in hand.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::SockRef;

use crate::lab::Host;

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection's first byte: through relay and agent, it makes the stream.
const FIRST: u8 = b'f';

/// See the module.
#[derive(Debug)]
pub(super) struct Road<'a> {
    from: &'a Host,
    entrance: SocketAddr,
    exit: TcpListener,
}

impl<'a> Road<'a> {
    /// A road whose entrance is seen from one host, and whose service listens on the other.
    pub(super) fn new(
        (from, entrance): (&'a Host, &str),
        (to, port): (&Host, u16),
    ) -> io::Result<Self> {
        let entrance: SocketAddr = entrance.parse().map_err(io::Error::other)?;
        let exit = to
            .namespace()
            .within(|| TcpListener::bind(("0.0.0.0", port)))?;
        // Accepting waits no longer than this.
        SockRef::from(&exit).set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            from,
            entrance,
            exit,
        })
    }

    /// A new connection. One at a time: the next that is accepted is its other end.
    pub(super) fn connect(&self) -> io::Result<Pair> {
        let entrance = self.entrance;
        let mut near = self
            .from
            .namespace()
            .within(move || TcpStream::connect_timeout(&entrance, PATIENCE))?;
        near.set_nodelay(true)?;
        near.set_read_timeout(Some(PATIENCE))?;
        near.write_all(&[FIRST])?;
        let (mut far, _) = self.exit.accept()?;
        far.set_nodelay(true)?;
        far.set_read_timeout(Some(PATIENCE))?;
        let mut first = [0];
        far.read_exact(&mut first)?;
        if first == [FIRST] {
            Ok(Pair { near, far })
        } else {
            Err(io::Error::other("the first byte is another one's"))
        }
    }
}

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct Pair {
    /// That on the relay's host.
    pub(super) near: TcpStream,
    /// That on the agent's.
    pub(super) far: TcpStream,
}

impl Pair {
    /// Ends it, also for threads that are reading or writing.
    pub(super) fn end(&self) {
        for end in [&self.near, &self.far] {
            // One that has ended by itself is what is wanted.
            end.shutdown(Shutdown::Both).ok();
        }
    }
}
