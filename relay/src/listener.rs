//! The doors: accept, take a permit, spawn, shake hands under a deadline.
//!
//! Nobody who is slow, silent or hostile holds up another: a handshake has its own
//! task, [`HANDSHAKE_TIMEOUT`] from the accepted socket to the welcome, and one of a
//! bounded number of permits. Before that, the [`gate`](crate::gate) says whether there is
//! time for one. Where there is none, or no permit, newcomers are turned away at once,
//! before any cryptography, and counted; over TCP they are told when to come back.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ::probe::protocol::{ALPN, Door as Through, Stage};
use axum::Router;
use bytes::Bytes;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use tunnel::{
    handshake::Connection,
    websocket::{self, Accepted, Purpose},
    world::{AsyncUdpSocket, BoxIo, Listen},
};
use wire::{limits::HANDSHAKE_TIMEOUT, transport::Transport};

use crate::{
    admission::{Door as Gateway, Verdict},
    limits::{ACCEPT_PAUSE, HANDSHAKES_MAX, HTTPS_CONNECTIONS_MAX},
    metrics::Doorway,
    probe::{Footprint, Opening},
    probe_path,
    session::{Sessions, Stay, Visit},
    tunnel_path::{self, ForOperators, RemoteAddr, TlsExporter},
    upgrade::{self, accept_tls, under_deadline},
};

/// How long a connection to HTTPS that has asked for nothing yet may take to, once the relay
/// stops.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Serves WebSockets on the tunnel's TCP port until told to stop. Sessions that are
/// open then stay open.
pub async fn run_tunnel_tcp(
    sessions: Arc<Sessions>,
    listener: impl Listen,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) {
    let permits = slots(&sessions, Doorway::TunnelTcp, HANDSHAKES_MAX);
    let acceptor = TlsAcceptor::from(tls);
    while let Some((tcp, remote)) = accept(&sessions, &listener, &stop).await {
        let footprint = sessions.arrived(Through::TunnelTcp, remote);
        let (permit, tcp) = match permit(&sessions, &permits) {
            None => {
                footprint.reached(Stage::SentAway);
                sessions.gate().send_away(tcp, sessions.gate().book());
                continue;
            }
            Some(permit) => match sessions.gate().arrive(Gateway::Tunnel) {
                Verdict::Later(slot) => {
                    footprint.reached(Stage::SentAway);
                    sessions.gate().send_away(tcp, slot);
                    continue;
                }
                _ => (permit, tcp),
            },
        };
        let (guests, acceptor) = (Arc::clone(&sessions), acceptor.clone());
        let (visit, stop) = (visit(&sessions, remote), stop.clone());
        let arrive = async move {
            guests.gate().began(visit.accepted_at);
            let switch = async {
                let (tls, exporter) = secure(&acceptor, tcp, &footprint).await?;
                let beside = |request: &Request<Incoming>| {
                    footprint.reached(Stage::Asked);
                    probe_path::answer_once(&guests, request, remote)
                };
                match websocket::accept_beside(tls, beside).await {
                    Ok(Accepted::Tunnel(websocket, purpose)) => {
                        footprint.reached(Stage::Asked);
                        let within = (exporter, Transport::Ws);
                        let entered = upgrade::enter(&acceptor, (websocket, purpose), within);
                        entered.await.map(Came::Tunnel)
                    }
                    Ok(Accepted::Beside(opening, tls, unread)) => {
                        Ok(Came::Probe(opening, tls, unread))
                    }
                    Err(error) => Err(("not_websocket", error)),
                }
            };
            match under_deadline(&guests, remote, switch).await? {
                Came::Tunnel(connection) => guests.shake_hands(connection, visit, permit).await,
                Came::Probe(opening, tls, unread) => {
                    guests.gate().finished();
                    probe_path::stay(&guests, opening, (tls, unread), (footprint, stop))
                }
            }
        };
        sessions.spawn_visit(Box::pin(arrive));
    }
}

/// Serves QUIC on the tunnel's UDP port until told to stop, and then for as long as
/// sessions are open.
///
/// # Errors
///
/// The socket or the TLS configuration is of no use for QUIC.
pub async fn run_tunnel_quic(
    sessions: Arc<Sessions>,
    socket: Arc<dyn AsyncUdpSocket>,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) -> io::Result<()> {
    let permits = slots(&sessions, Doorway::TunnelUdp, HANDSHAKES_MAX);
    let secret = sessions.quic_secret();
    let endpoint = tunnel::quic::server(socket, tls, &secret, sessions.world())?;
    loop {
        let incoming = tokio::select! {
            // Told to stop, it takes nobody, however many come.
            biased;
            () = stop.cancelled() => None,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let footprint = sessions.arrived(Through::TunnelUdp, incoming.remote_address());
        let Some(permit) = permit(&sessions, &permits) else {
            footprint.reached(Stage::SentAway);
            incoming.refuse();
            continue;
        };
        let is_loaded = permits.available_permits() < HANDSHAKES_MAX / 2;
        let Some(incoming) = proven(incoming, is_loaded) else {
            continue;
        };
        if sessions.gate().arrive(Gateway::TunnelQuic) == Verdict::Refuse {
            footprint.reached(Stage::SentAway);
            incoming.refuse();
            continue;
        }
        let (guests, secret) = (Arc::clone(&sessions), secret.clone());
        let (remote, stop) = (incoming.remote_address(), stop.clone());
        let visit = visit(&sessions, remote);
        let arrive = async move {
            guests.gate().began(visit.accepted_at);
            let connect = async {
                let failed = |error| ("quic_error", error);
                let (connecting, farewell) =
                    tunnel::quic::accept(incoming, &secret).map_err(failed)?;
                let connection = connecting.await.map_err(|error| {
                    footprint.reached(Stage::BrokenOff);
                    failed(error.into())
                })?;
                footprint.reached(Stage::Secured);
                if guests.probe().is_some() && tunnel::quic::speaks(&connection, ALPN) {
                    return Ok(Err(connection));
                }
                let connection = Connection::over_accepted_quic(connection).await;
                Ok(Ok((connection.map_err(failed)?, farewell)))
            };
            let (connection, farewell) = match under_deadline(&guests, remote, connect).await? {
                Ok(accepted) => accepted,
                Err(connection) => {
                    guests.gate().finished();
                    return probe_path::stay_quic(&guests, connection, (footprint, stop));
                }
            };
            let place = guests.farewells().keep(remote, farewell);
            let stay = guests.shake_hands(connection, visit, permit).await?;
            footprint.reached(Stage::Asked);
            let stay: Stay = Box::pin(async move {
                let _place = place;
                stay.await;
            });
            Some(stay)
        };
        sessions.spawn_visit(Box::pin(arrive));
    }
    endpoint.set_server_config(None);
    endpoint.wait_idle().await;
    Ok(())
}

/// Under load an address must prove that it can be reached before it costs any cryptography:
/// `None`, it was asked to.
fn proven(incoming: quinn::Incoming, is_loaded: bool) -> Option<quinn::Incoming> {
    if !is_loaded || incoming.remote_address_validated() || !incoming.may_retry() {
        return Some(incoming);
    }
    if let Err(error) = incoming.retry() {
        debug!(%error, "not asked to try again");
    }
    None
}

/// Serves HTTPS until told to stop: the tunnel under its path, and everything else
/// by `router`.
pub async fn run_https(
    sessions: Arc<Sessions>,
    listener: impl Listen,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    stop: CancellationToken,
) {
    let permits = slots(&sessions, Doorway::Https, HTTPS_CONNECTIONS_MAX);
    let acceptor = TlsAcceptor::from(tls);
    while let Some((tcp, remote)) = accept(&sessions, &listener, &stop).await {
        let footprint = sessions.arrived(Through::Https, remote);
        let Some(permit) = permit(&sessions, &permits) else {
            footprint.reached(Stage::SentAway);
            continue;
        };
        let verdict = sessions.gate().arrive(Gateway::Https);
        if verdict == Verdict::Refuse {
            footprint.reached(Stage::SentAway);
            // Without a word: what stands between reads HTTP, if anything.
            continue;
        }
        let (guests, acceptor) = (Arc::clone(&sessions), acceptor.clone());
        let (router, stop) = (router.clone(), stop.clone());
        let came = visit(&sessions, remote).accepted_at;
        sessions.tasks().spawn(async move {
            guests.gate().began(came);
            let switch = secure(&acceptor, tcp, &footprint);
            // Boxed: the connection may last, and what its handshake needs shall not.
            let switched = Box::pin(under_deadline(&guests, remote, switch)).await;
            if switched.is_some() {
                guests.gate().finished();
            }
            if let Some((tls, exporter)) = switched {
                let door = Door {
                    sessions: guests,
                    router,
                    remote: RemoteAddr(remote),
                    exporter: TlsExporter(exporter),
                    for_operators: ForOperators(verdict == Verdict::AdmitOperator),
                    acceptor,
                    footprint,
                };
                door.serve(tls, &stop).await;
            }
            drop(permit);
        });
    }
}

/// One HTTPS connection.
struct Door {
    sessions: Arc<Sessions>,
    router: Router,
    remote: RemoteAddr,
    exporter: TlsExporter,
    for_operators: ForOperators,
    /// For a TLS inside of this one.
    acceptor: TlsAcceptor,
    footprint: Footprint,
}

/// What came to the tunnel's TCP port.
enum Came {
    Tunnel(Connection),
    /// What has been answered, or switched to a socket, with the connection.
    Probe(Option<Opening>, Box<TlsStream<BoxIo>>, Bytes),
}

/// TLS as the relay, and what became of it for the probe's witness.
async fn secure(
    acceptor: &TlsAcceptor,
    tcp: BoxIo,
    footprint: &Footprint,
) -> Result<(TlsStream<BoxIo>, [u8; 32]), upgrade::Dropped> {
    let secured = accept_tls(acceptor, tcp).await;
    footprint.reached(match secured {
        Ok(_) => Stage::Secured,
        Err(_) => Stage::BrokenOff,
    });
    secured.map_err(|error| ("tls_error", error))
}

impl Door {
    async fn serve(self, tls: TlsStream<BoxIo>, stop: &CancellationToken) {
        let Self {
            sessions,
            router,
            remote,
            exporter,
            for_operators,
            acceptor,
            footprint,
        } = self;
        let (counted, ends) = (Arc::clone(&sessions), stop.clone());
        let router = TowerToHyperService::new(router);
        let asked = Arc::new(Notify::new());
        let first = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asked.notify_one();
            let (sessions, router) = (Arc::clone(&sessions), router.clone());
            let (acceptor, stop) = (acceptor.clone(), ends.clone());
            let footprint = footprint.clone();
            footprint.reached(Stage::Asked);
            async move {
                let beside = (remote.0, footprint, stop);
                if let Some(answer) = probe_path::answer(&sessions, &mut request, beside) {
                    return Ok(answer);
                }
                if Purpose::of_path(request.uri().path()).is_some() {
                    let from = (remote, exporter, for_operators);
                    return Ok(tunnel_path::answer(&sessions, request, from, acceptor));
                }
                request.extensions_mut().insert(remote);
                request.extensions_mut().insert(exporter);
                hyper::service::Service::call(&router, request).await
            }
        });
        let mut http = http1::Builder::new();
        // A request's head must be there in time, the first as any later one.
        http.timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE_TIMEOUT);
        let connection = http
            .serve_connection(TokioIo::new(tls), service)
            .with_upgrades();
        tokio::pin!(connection);
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                // The request of who came just before is still under way, and is not to be lost.
                let asked = tokio::time::timeout(FIRST_REQUEST, first.notified());
                tokio::select! {
                    biased;
                    result = connection.as_mut() => result,
                    _ = asked => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = result {
            let reason = if error.is_timeout() {
                "http_timeout"
            } else {
                "http_error"
            };
            counted.metrics().refused(reason);
            debug!(remote = %remote.0, %error, "connection dropped");
        }
    }
}

/// The next connection; `None` once told to stop.
async fn accept(
    sessions: &Sessions,
    listener: &impl Listen,
    stop: &CancellationToken,
) -> Option<(BoxIo, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            // Told to stop, it takes nobody, however many come.
            biased;
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                // Out of files or memory: it passes, and a busy loop would not help.
                sessions.metrics().refused("accept_error");
                warn!(%error, "a connection was not accepted; if it stays, raise the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A door's permits, shown in the metrics for as long as the door is open.
fn slots(sessions: &Sessions, door: Doorway, max: usize) -> Arc<Semaphore> {
    let permits = Arc::new(Semaphore::new(max));
    sessions.metrics().watch_slots(door, &permits, max);
    permits
}

fn permit(sessions: &Sessions, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let permit = Arc::clone(permits).try_acquire_owned().ok();
    if permit.is_none() {
        sessions.metrics().refused("too_many_connections");
    }
    permit
}

/// Somebody who has just come by one of the tunnel's own ports.
fn visit(sessions: &Sessions, remote: SocketAddr) -> Visit {
    Visit {
        remote,
        accepted_at: sessions.world().clock.now(),
        is_for_operators: false,
    }
}
