//! The QUIC transport: quinn, set up for one long session a connection.
//!
//! QUIC's own windows are set above the session's, so that ours decide; its idle
//! timeout is above our heartbeat's deadline, so that ours decides there too.
//! The acceptor opens the control lane, because it speaks first.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use crate::crypto::random_bytes;
use aws_lc_rs::hmac;
use bytes::BytesMut;
use quinn::{
    AsyncUdpSocket, ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint,
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use wire::{
    close::CloseCode,
    handshake::EXPORTER_LABEL,
    key::Secret,
    limits::{
        FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT, SESSION_WINDOW_MAX_BYTES, STREAM_WINDOW_MAX_BYTES,
        STREAMS_MAX,
    },
};

mod flight;

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

/// Gives a peer that has proven who it is the session's room.
pub(crate) fn trust(connection: &Connection) {
    connection.set_max_concurrent_bi_streams(varint(2 * STREAMS_MAX as u64));
    connection.set_receive_window(varint(2 * SESSION_WINDOW_MAX_BYTES));
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
/// the connection is gone.
///
/// # Errors
///
/// The TLS configuration has no cipher suite for QUIC, or the socket is unusable.
pub fn server(
    socket: Arc<dyn AsyncUdpSocket>,
    tls: Arc<rustls::ServerConfig>,
    secret: &Secret,
) -> io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(invalid)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
    endpoint.cid_generator(|| Box::new(RandomIds));
    Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, Arc::new(TokioRuntime))
}

/// Connection ids of random bytes. quinn's default keys them to the process and drops
/// those of a former one without a word; here they are answered by a reset.
#[derive(Debug)]
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&random_bytes::<CONNECTION_ID_BYTES>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Enough that two connections never share an id by chance.
const CONNECTION_ID_BYTES: usize = 8;

/// Connects to a relay from a socket of its own, which the kernel keeps to that
/// peer. The endpoint lives as long as the connection.
///
/// # Errors
///
/// The handshake of QUIC failed or nothing answered.
pub async fn connect(
    socket: Arc<dyn AsyncUdpSocket>,
    address: SocketAddr,
    server_name: &str,
    tls: rustls::ClientConfig,
) -> io::Result<Connection> {
    let crypto = QuicClientConfig::try_from(Arc::new(tls)).map_err(invalid)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    let endpoint = Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        None,
        socket,
        Arc::new(TokioRuntime),
    )?;
    let connecting = endpoint
        .connect_with(config, address, server_name)
        .map_err(invalid)?;
    Ok(connecting.await?)
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
