//! The QUIC transport: quinn, set up for one long session a connection.
//!
//! QUIC's own windows are set above the session's, so that ours decide; its idle
//! timeout is above our heartbeat's deadline, so that ours decides there too.
//! The acceptor opens the control lane, because it speaks first.

use std::{cell::Cell, io, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    socket::{Forgiving, Turns},
    tls::TimeOfDay,
    world::{Entropy, World},
};
use aws_lc_rs::{hkdf, hmac};
use bytes::BytesMut;
use quinn::{
    AsyncUdpSocket, ClientConfig, Connecting, Connection, ConnectionId, ConnectionIdGenerator,
    Endpoint, EndpointConfig, IdleTimeout, Incoming, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig},
};
use wire::{
    close::CloseCode,
    handshake::EXPORTER_LABEL,
    id::Side,
    key::Secret,
    limits::{
        FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT, SESSION_WINDOW_MAX_BYTES, STREAM_WINDOW_MAX_BYTES,
        STREAMS_MAX,
    },
};

mod flight;
mod queue;

/// Above the longest silence that our heartbeat allows (38 s).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest UDP payload tried: an Ethernet frame's over IPv6 (1500 - 40 - 8).
const MTU_MAX: u16 = 1452;

/// What a peer may have sent and nobody read before the session's handshake is
/// done: a few frames. Streams are none of its business until then.
const STRANGER_BYTES_MAX: u64 = 2 * FRAME_BYTES_MAX as u64;

fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

/// Streams that a relay may open from the start to who has dialled it.
const ROOM_OF_DIALLER: u64 = 256;

/// Streams that an operator may open from the start to the relay that it has dialled.
const ROOM_OF_ACCEPTOR: u64 = 16;

/// The same for an agent, which opens none: 16 would take a kilobyte.
const ROOM_FOR_AGENT: u64 = 1;

/// Streams of a busy session may end and begin within a round trip: so many more than
/// are open may be opened, where that many have been before.
const ROOM_OF_THE_PAST_MAX: u64 = 1_024;

/// How many streams the peer may open. quinn keeps an entry for each from the moment it
/// may be opened: for as many as a session may have they would take 1.4 MB, so the room
/// grows with its use.
#[derive(Debug)]
pub(crate) struct Room {
    streams: u64,
    accepted: u64,
}

impl Room {
    /// Gives a peer that has proven who it is the session's first room. Whether it is
    /// an agent is asked of who accepted the connection alone.
    pub(crate) fn give(connection: &Connection, side: Side, is_agent: bool) -> Self {
        let streams = match side {
            Side::Dialler => ROOM_OF_DIALLER,
            Side::Acceptor if is_agent => ROOM_FOR_AGENT,
            Side::Acceptor => ROOM_OF_ACCEPTOR,
        };
        connection.set_max_concurrent_bi_streams(varint(streams));
        connection.set_receive_window(varint(2 * SESSION_WINDOW_MAX_BYTES));
        Self {
            streams,
            accepted: 0,
        }
    }

    /// Counts a stream that the peer has opened as one of `open`, and makes more room
    /// before it runs out.
    pub(crate) fn note_accepted(&mut self, connection: &Connection, open: usize) {
        self.accepted += 1;
        let past = (2 * self.accepted).min(ROOM_OF_THE_PAST_MAX);
        let wanted = (4 * open as u64).max(past).min(2 * STREAMS_MAX as u64);
        if wanted > self.streams {
            self.streams = (2 * self.streams).max(wanted).min(2 * STREAMS_MAX as u64);
            connection.set_max_concurrent_bi_streams(varint(self.streams));
        }
    }
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_MAX);
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(varint(STREAM_WINDOW_MAX_BYTES))
        .receive_window(varint(STRANGER_BYTES_MAX))
        .send_window(SESSION_WINDOW_MAX_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(flight::FlightConfig::default()));
    config
}

/// Why a QUIC endpoint could not be set up.
fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

/// A relay's endpoint on a UDP socket.
///
/// `secret` stays the same across restarts. It keys the stateless resets (RFC 9000
/// §10.3), so that a restarted relay can tell a peer of its predecessor at once that
/// the connection is gone. Everything else that is drawn, and what time it is, comes from
/// the world.
///
/// # Errors
///
/// The TLS configuration has no cipher suite for QUIC, or the socket is unusable.
pub fn server(
    socket: Arc<dyn AsyncUdpSocket>,
    tls: Arc<rustls::ServerConfig>,
    secret: &Secret,
    world: &World,
) -> io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(invalid)?;
    // Keys tokens that prove an address: they are good for the life of the endpoint.
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
    let token_key = salt.extract(&world.random::<64>());
    let mut config = ServerConfig::new(Arc::new(crypto), Arc::new(token_key));
    config.transport_config(Arc::new(transport()));
    config.time_source(Arc::new(TimeOfDay::of(&world.clock)));
    let endpoint = endpoint_config(reset_key(secret), world);
    Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, Arc::new(Turns))
}

/// What is drawn for an endpoint comes from the world, so that a simulated one draws the
/// same in every run.
fn endpoint_config(reset_key: hmac::Key, world: &World) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    let entropy = Arc::clone(&world.entropy);
    config
        .rng_seed(Some(world.random()))
        .cid_generator(move || Box::new(RandomIds(Arc::clone(&entropy))));
    config
}

/// Connection ids of random bytes. quinn's default keys them to the process and drops
/// those of a former one without a word; here they are answered by a reset.
#[derive(Debug)]
struct RandomIds(Arc<dyn Entropy>);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        self.0.fill(&mut id);
        LAST_ID.set(id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

thread_local! {
    /// The id that this thread made last. quinn does not tell which ids a connection
    /// has; the one that is made while it is accepted is the one that its peer uses.
    static LAST_ID: Cell<[u8; CONNECTION_ID_BYTES]> = const { Cell::new([0; CONNECTION_ID_BYTES]) };
}

/// What tells a dialler that its connection is gone, whoever sends it: a stateless reset
/// (RFC 9000 §10.3), for when the process that accepted the connection was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Farewell([u8; FAREWELL_BYTES]);

const FAREWELL_BYTES: usize = 16;

/// Room of a farewell's datagram before its token. It looks like any short packet.
const DISGUISE_BYTES: usize = 24;

impl std::fmt::Debug for Farewell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Farewell")
    }
}

impl Farewell {
    /// One that was kept.
    pub const fn from_bytes(bytes: [u8; FAREWELL_BYTES]) -> Self {
        Self(bytes)
    }

    /// To be kept where nobody else can read it: it ends the connection.
    pub const fn expose(&self) -> &[u8; FAREWELL_BYTES] {
        &self.0
    }

    /// The datagram to send, from the address that the dialler knows.
    pub fn datagram(&self, entropy: &dyn Entropy) -> [u8; DISGUISE_BYTES + FAREWELL_BYTES] {
        let mut datagram = [0; DISGUISE_BYTES + FAREWELL_BYTES];
        let (disguise, token) = datagram.split_at_mut(DISGUISE_BYTES);
        entropy.fill(disguise);
        // A short header with the fixed bit.
        disguise[0] = disguise[0] & 0x3f | 0x40;
        token.copy_from_slice(&self.0);
        datagram
    }
}

/// Takes a connection in, with what tells its dialler that it is gone. `secret` is that
/// of the endpoint.
///
/// # Errors
///
/// The connection is gone already.
pub fn accept(incoming: Incoming, secret: &Secret) -> io::Result<(Connecting, Farewell)> {
    let connecting = incoming.accept()?;
    let signature = hmac::sign(&reset_key(secret), &LAST_ID.get());
    let mut farewell = [0; FAREWELL_BYTES];
    farewell.copy_from_slice(&signature.as_ref()[..FAREWELL_BYTES]);
    Ok((connecting, Farewell(farewell)))
}

/// Whether both ends have agreed on this protocol.
pub fn speaks(connection: &Connection, alpn: &[u8]) -> bool {
    let agreed = connection
        .handshake_data()
        .and_then(|about| about.downcast::<HandshakeData>().ok())
        .and_then(|about| about.protocol);
    agreed.is_some_and(|protocol| protocol == alpn)
}

fn reset_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose())
}

/// Enough that two connections never share an id by chance.
const CONNECTION_ID_BYTES: usize = 8;

/// Of the id by which a dialler calls an acceptor that it does not know: at least 8 (RFC 9000
/// §7.2), and as many as an id may have.
const FIRST_ID_BYTES: usize = 20;

/// Connects to a relay from a socket of its own, which the kernel keeps to that
/// peer. The endpoint lives as long as the connection.
///
/// # Errors
///
/// The handshake of QUIC failed, or nobody listens there, or nothing answered.
pub async fn connect(
    socket: Arc<dyn AsyncUdpSocket>,
    address: SocketAddr,
    server_name: &str,
    tls: rustls::ClientConfig,
    world: &World,
) -> io::Result<Connection> {
    let (socket, refusal) = Forgiving::over(socket);
    let crypto = QuicClientConfig::try_from(Arc::new(tls)).map_err(invalid)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let entropy = Arc::clone(&world.entropy);
    let first_id = move || {
        let mut id = [0; FIRST_ID_BYTES];
        entropy.fill(&mut id);
        ConnectionId::new(&id)
    };
    config
        .transport_config(Arc::new(transport()))
        .initial_dst_cid_provider(Arc::new(first_id));
    let reset_key = reset_key(&Secret::from_bytes(world.random()));
    let endpoint = Endpoint::new_with_abstract_socket(
        endpoint_config(reset_key, world),
        None,
        socket,
        Arc::new(TokioRuntime),
    )?;
    let connecting = endpoint
        .connect_with(config, address, server_name)
        .map_err(invalid)?;
    // A relay that restarts is tried again soon: this attempt need not outlast it.
    tokio::select! {
        biased;
        connection = connecting => Ok(connection?),
        () = refusal.notified() => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// A QUIC connection with its control lane.
#[derive(Debug)]
pub(crate) struct QuicLink {
    pub(crate) connection: Connection,
    pub(crate) send: quinn::SendStream,
    pub(crate) recv: quinn::RecvStream,
    /// Read from the control lane and not yet decoded.
    pub(crate) unread: BytesMut,
}

/// The dialler's end of the control lane.
///
/// # Errors
///
/// The connection broke before the acceptor opened it.
pub(crate) async fn dialled(connection: Connection) -> io::Result<QuicLink> {
    let (send, recv) = connection.accept_bi().await?;
    Ok(link(connection, send, recv))
}

/// The acceptor's end of the control lane.
///
/// # Errors
///
/// The connection broke.
pub(crate) async fn accepted(connection: Connection) -> io::Result<QuicLink> {
    let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, connection.open_bi());
    let (send, recv) = opened.await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(link(connection, send, recv))
}

fn link(connection: Connection, send: quinn::SendStream, recv: quinn::RecvStream) -> QuicLink {
    // Control goes before all lanes. It fails only where the connection is gone.
    let _prioritised = send.set_priority(i32::MAX);
    QuicLink {
        connection,
        send,
        recv,
        unread: BytesMut::new(),
    }
}

/// What the TLS exporter of the connection gives.
///
/// # Errors
///
/// The connection is gone.
pub(crate) fn exporter(connection: &Connection) -> io::Result<[u8; 32]> {
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
        .map_err(|_| io::Error::other("the connection has no TLS exporter"))?;
    Ok(exporter)
}

/// Our close code as QUIC's application error code.
pub(crate) fn error_code(code: CloseCode) -> VarInt {
    VarInt::from_u32(code.as_u16().into())
}

/// QUIC's application error code as our close code.
pub(crate) fn close_code(code: VarInt) -> CloseCode {
    u16::try_from(code.into_inner()).map_or(CloseCode::Unknown(u16::MAX), CloseCode::from_u16)
}

#[cfg(test)]
mod tests;
