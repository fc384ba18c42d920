//! The seams to the world: sockets, names, clock and entropy as traits; and in
//! [`target`], the sockets towards what an agent serves.
//!
//! [`World::real`] is the operating system. A simulator brings its own, and the
//! same relay and agent run in it. Pauses and deadlines go through `tokio::time`,
//! which a simulator pauses and advances.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
/// A UDP socket, and what it is made of: for a world that brings its own.
pub use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
};

pub mod target;

pub use target::{SimulatedSocket, TargetEnd, TargetSocket};

/// A byte stream of whatever kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

/// A byte stream whose kind does not matter.
pub type BoxIo = Box<dyn Io>;

/// Sockets.
#[async_trait]
pub trait Net: Send + Sync + fmt::Debug {
    /// Connects a TCP socket, tuned for a tunnel: no delay, and little unsent data
    /// in the kernel, so that a heartbeat never waits behind megabytes.
    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<BoxIo>;

    /// A UDP socket connected to `peer`, so that the kernel takes datagrams from
    /// nowhere else.
    fn connect_udp(&self, peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;

    /// Connects to what a stream leads to, tuned for a service: no delay, because
    /// requests and answers are small, and throughput does not suffer.
    async fn connect_target(&self, target: TargetEnd<'_>) -> io::Result<TargetSocket>;
}

/// Where TCP connections come in.
#[async_trait]
pub trait Listen: Send + Sync + fmt::Debug {
    /// The next connection, tuned for a tunnel, and where it comes from. Cancel
    /// safe: a dropped future has taken none.
    async fn accept(&self) -> io::Result<(BoxIo, SocketAddr)>;
}

#[async_trait]
impl Listen for TcpListener {
    async fn accept(&self) -> io::Result<(BoxIo, SocketAddr)> {
        let (stream, remote) = Self::accept(self).await?;
        // A socket that is dead already fails at its first byte.
        let _tuned = tune_tcp(&stream);
        Ok((Box::new(stream), remote))
    }
}

#[async_trait]
impl<L: Listen + ?Sized> Listen for Box<L> {
    async fn accept(&self) -> io::Result<(BoxIo, SocketAddr)> {
        (**self).accept().await
    }
}

/// Names to addresses.
#[async_trait]
pub trait Resolve: Send + Sync + fmt::Debug {
    /// All addresses of `host`, which may be an address already. In the order in
    /// which they are to be tried.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// What time it is.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The monotonic clock that all deadlines are of.
    fn now(&self) -> Instant;

    /// The wall clock, in milliseconds since 1970; for people.
    fn unix_milliseconds(&self) -> i64;

    /// The wall clock, in seconds since 1970; for expiry of tokens.
    fn unix_seconds(&self) -> i64 {
        self.unix_milliseconds().div_euclid(1_000)
    }
}

/// Randomness.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);
}

/// All seams together; cheap to clone.
#[derive(Debug, Clone)]
pub struct World {
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Names.
    pub resolver: Arc<dyn Resolve>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl World {
    /// The operating system's.
    pub fn real() -> Self {
        Self {
            net: Arc::new(OsNet),
            resolver: Arc::new(OsResolver),
            clock: Arc::new(OsClock),
            entropy: Arc::new(OsEntropy),
        }
    }

    /// `N` random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// A random number in `[0, 1)`, with the 53 bits that an `f64` has.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    pub fn random_unit(&self) -> f64 {
        let bits = u64::from_be_bytes(self.random()) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

/// Sends at most this much ahead of what the peer has taken (`TCP_NOTSENT_LOWAT`).
/// More in the kernel would not be faster, and every heartbeat would wait behind it.
const NOT_SENT_BYTES: u32 = 128 * 1024;

/// Tunes a TCP socket for a tunnel; used for accepted sockets too.
///
/// # Errors
///
/// The socket is dead already.
pub fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
        // Unacknowledged data for this long means a dead path, whatever the
        // kernel's retransmissions still hope for.
        socket.set_tcp_user_timeout(Some(std::time::Duration::from_secs(15)))?;
    }
    Ok(())
}

#[derive(Debug)]
struct OsNet;

#[async_trait]
impl Net for OsNet {
    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<BoxIo> {
        let stream = TcpStream::connect(address).await?;
        tune_tcp(&stream)?;
        Ok(Box::new(stream))
    }

    fn connect_udp(&self, peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        crate::socket::connected(peer)
    }

    async fn connect_target(&self, target: TargetEnd<'_>) -> io::Result<TargetSocket> {
        match target {
            TargetEnd::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // A socket that is dead already fails at its first byte.
                drop(stream.set_nodelay(true));
                Ok(TargetSocket::Tcp(stream))
            }
            TargetEnd::Unix(path) => UnixStream::connect(path).await.map(TargetSocket::Unix),
        }
    }
}

#[derive(Debug)]
struct OsResolver;

#[async_trait]
impl Resolve for OsResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let mut addresses: Vec<_> = tokio::net::lookup_host((host, 0))
            .await?
            .map(|address| address.ip())
            .collect();
        addresses.dedup();
        Ok(addresses)
    }
}

#[derive(Debug)]
struct OsClock;

impl Clock for OsClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_milliseconds(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

#[derive(Debug)]
struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let random = crate::crypto::random_bytes::<32>();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
