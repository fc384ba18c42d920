//! The tunnel under a path on 443, beside the API: for networks that let nothing
//! else out.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use hyper::{Request, body::Incoming};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tunnel::websocket;
use wire::transport::Transport;

use crate::{
    session::{Sessions, Visit},
    upgrade::{self, in_time},
};

/// The TLS exporter of the connection that a request came on; in its extensions.
#[derive(Debug, Clone, Copy)]
pub struct TlsExporter(pub [u8; 32]);

/// Where a request comes from; in its extensions.
#[derive(Debug, Clone, Copy)]
pub struct RemoteAddr(pub SocketAddr);

/// Whether all that was left for a connection is what is kept for operators.
#[derive(Debug, Clone, Copy)]
pub struct ForOperators(pub bool);

/// Answers a request for the tunnel's path; where it asks for the tunnel, the
/// connection becomes a session after the answer.
pub fn answer(
    sessions: &Arc<Sessions>,
    mut request: Request<Incoming>,
    (RemoteAddr(remote), TlsExporter(exporter), ForOperators(is_for_operators)): (
        RemoteAddr,
        TlsExporter,
        ForOperators,
    ),
    acceptor: TlsAcceptor,
) -> Response<Body> {
    let (response, purpose) = match websocket::upgrade_response(&request) {
        Ok(response) => response,
        Err(status) => {
            sessions.metrics().refused("not_websocket");
            return refusal(status, "this path serves the tunnel alone\n");
        }
    };
    let Some(permit) = sessions.path_permit() else {
        sessions.metrics().refused("too_many_connections");
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the relay is busy: try again\n",
        );
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let guests = Arc::clone(sessions);
    let arrive = async move {
        let visit = Visit {
            remote,
            accepted_at: Instant::now().into_std(),
            is_for_operators,
        };
        let enter = async {
            let upgraded = upgrade.await.map_err(io::Error::other);
            let websocket = upgraded.and_then(websocket::upgraded);
            let websocket = websocket.map_err(|error| ("http_error", error))?;
            let within = (exporter, Transport::Ws443);
            upgrade::enter(&acceptor, (websocket, purpose), within).await
        };
        let connection = in_time(&guests, remote, enter).await?;
        guests.shake_hands(connection, visit, permit).await
    };
    sessions.spawn_visit(Box::pin(arrive));
    response.map(|()| Body::empty())
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}
