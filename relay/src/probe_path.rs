//! The probe at the relay's doors: beside the API on 443, beside the tunnel on 8000.

use std::{net::SocketAddr, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tunnel::world::BoxIo;
use wire::limits::HANDSHAKE_TIMEOUT;

use crate::{
    probe::{self, Footprint, Opening, QuicLine, WebSocketLine},
    session::{Sessions, Stay},
};

/// Answers a request of the probe on 443; `None`: it is none, or the probe is not served.
/// Where it asks for a socket, the connection is served as one after the answer.
pub fn answer(
    sessions: &Arc<Sessions>,
    request: &mut Request<Incoming>,
    (from, footprint, stop): (SocketAddr, Footprint, CancellationToken),
) -> Option<Response<Body>> {
    let probe = Arc::clone(sessions.probe()?);
    let answer = probe.answer(request, from)?;
    if let Some(opening) = answer.opening {
        let upgrade = hyper::upgrade::on(request);
        sessions.tasks().spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let io = TokioIo::new(upgraded);
                    let line = WebSocketLine::over(io, Bytes::new()).await;
                    probe::serve(probe, line, opening, (footprint, stop)).await;
                }
                Err(error) => debug!(%from, %error, "no socket of the probe came about"),
            }
        });
    }
    Some(answer.response.map(Body::from))
}

/// The same on the tunnel's port, where a connection has one request alone: the answer, and
/// the socket that the connection becomes.
pub fn answer_once<B>(
    sessions: &Sessions,
    request: &Request<B>,
    from: SocketAddr,
) -> Option<(Response<Bytes>, Option<Opening>)> {
    let mut answer = sessions.probe()?.answer(request, from)?;
    if answer.opening.is_none() {
        let headers = answer.response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Some((answer.response, answer.opening))
}

/// What is done with a connection on the tunnel's port after its request was answered.
pub fn stay(
    sessions: &Sessions,
    opening: Option<Opening>,
    (mut tls, unread): (Box<TlsStream<BoxIo>>, Bytes),
    until: (Footprint, CancellationToken),
) -> Option<Stay> {
    let probe = Arc::clone(sessions.probe()?);
    Some(Box::pin(async move {
        let Some(opening) = opening else {
            // The answer is sent; whoever does not take its end is not waited for.
            tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.shutdown())
                .await
                .ok();
            return;
        };
        let line = WebSocketLine::over(tls, unread).await;
        probe::serve(probe, line, opening, until).await;
    }))
}

/// What is done with a connection over QUIC that speaks the probe's protocol.
pub fn stay_quic(
    sessions: &Sessions,
    connection: quinn::Connection,
    until: (Footprint, CancellationToken),
) -> Option<Stay> {
    let probe = Arc::clone(sessions.probe()?);
    let from = connection.remote_address();
    let Some(opening) = probe.enter_quic(from) else {
        let why = probe::Ended::Limited;
        connection.close(why.code().into(), why.as_str().as_bytes());
        return None;
    };
    Some(Box::pin(async move {
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, QuicLine::accept(connection));
        if let Ok(Ok(line)) = accepted.await {
            probe::serve(probe, line, opening, until).await;
        }
    }))
}
