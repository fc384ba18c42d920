//! From a socket to a connection: TLS, and where the agent asks for it by the path, another
//! TLS inside.
//!
//! An agent asks for that where somebody on the customer's side ends the outer one and is
//! allowed to. Who is between sees the TLS inside, and the session's handshake proves that
//! this one is ended by nobody but the relay.

use std::{io, net::SocketAddr};

use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::debug;
use tunnel::{
    handshake::Connection,
    websocket::{self, Purpose, WebSocket},
    world::BoxIo,
};
use wire::{handshake::EXPORTER_LABEL, limits::HANDSHAKE_TIMEOUT, transport::Transport};

use crate::session::Sessions;

/// Why there is no connection: a word for the metrics, and what happened.
pub type Dropped = (&'static str, io::Error);

/// A WebSocket of the tunnel as what it was asked for. `exporter` is of the TLS around it.
///
/// # Errors
///
/// No TLS or no WebSocket came inside.
pub async fn enter(
    acceptor: &TlsAcceptor,
    (websocket, purpose): (WebSocket, Purpose),
    (exporter, transport): ([u8; 32], Transport),
) -> Result<Connection, Dropped> {
    if purpose == Purpose::Session {
        return Ok(Connection::over_websocket(websocket, exporter, transport));
    }
    let (tls, exporter) = accept_tls(acceptor, websocket.into_io())
        .await
        .map_err(|error| ("tls_error", error))?;
    let accepted = websocket::accept(tls).await;
    let (websocket, purpose) = accepted.map_err(|error| ("not_websocket", error))?;
    if purpose != Purpose::Session {
        // One inside is enough: whoever asks for more only makes work.
        let error = io::Error::other("a carrier inside of a carrier");
        return Err(("not_websocket", error));
    }
    let connection = Connection::over_websocket(websocket, exporter, transport);
    Ok(connection.inside_another_tls())
}

/// TLS as the relay, and what its exporter gives.
///
/// # Errors
///
/// The other end speaks no TLS 1.3, or breaks off.
pub async fn accept_tls(
    acceptor: &TlsAcceptor,
    tcp: BoxIo,
) -> io::Result<(TlsStream<BoxIo>, [u8; 32])> {
    let tls = acceptor.accept(tcp).await?;
    let exporter = tls
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
        .map_err(io::Error::other)?;
    Ok((tls, exporter))
}

/// What a transport comes to in time; otherwise it is dropped, and counted.
pub async fn in_time<T>(
    sessions: &Sessions,
    remote: SocketAddr,
    transport: impl Future<Output = Result<T, Dropped>>,
) -> Option<T> {
    let (reason, error) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, transport).await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(failed)) => failed,
        Err(_) => ("handshake_timeout", io::ErrorKind::TimedOut.into()),
    };
    sessions.metrics().refused(reason);
    debug!(%remote, reason, %error, "connection dropped");
    None
}

/// The same for a connection that the gate has let in: with it, its handshake has ended.
pub async fn under_deadline<T>(
    sessions: &Sessions,
    remote: SocketAddr,
    transport: impl Future<Output = Result<T, Dropped>>,
) -> Option<T> {
    let done = in_time(sessions, remote, transport).await;
    if done.is_none() {
        sessions.gate().finished();
    }
    done
}
