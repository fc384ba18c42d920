//! The tasks of a running relay, each with an owner that stops it and waits for it.

use std::{net::UdpSocket, sync::Arc};

use tokio::{sync::Notify, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use super::{Relay, sockets::Sockets};
use crate::{
    control::Control,
    farewell::{self, Orphan},
    http::{self, ApiState, Health},
    limits::EXPOSURE_RETRY,
    listener,
    metrics::Metrics,
    tls::ServerTls,
};

/// The tasks of a running relay.
#[derive(Debug)]
pub(super) struct Running {
    /// Listeners: none may end before it is told to.
    pub(super) parts: JoinSet<&'static str>,
    /// Asks for a look at the certificate files.
    pub(super) reload: Arc<Notify>,
    /// Cancelled: nothing new is taken.
    pub(super) accepting: CancellationToken,
    /// Cancelled: everything ends.
    stop: CancellationToken,
    /// Requests that write, and what runs beside the listeners.
    tasks: TaskTracker,
}

impl Running {
    /// Serves every socket.
    pub(super) fn start(
        relay: &Relay,
        tls: &Arc<ServerTls>,
        metrics: &Arc<Metrics>,
        sockets: Sockets,
        health: Health,
    ) -> Self {
        let mut parts = JoinSet::new();
        let (accepting, stop) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, reload) = (TaskTracker::new(), Arc::new(Notify::new()));
        let api = ApiState::new(relay.control.clone(), metrics.clone(), tasks.clone());

        let token = accepting.clone();
        let https = listener::run_https(
            relay.sessions.clone(),
            sockets.https,
            tls.tcp_config(),
            http::router(api),
            token,
        );
        parts.spawn(async move {
            https.await;
            "the HTTPS listener"
        });
        let websocket = listener::run_tunnel_tcp(
            relay.sessions.clone(),
            sockets.tunnel_tcp,
            tls.tcp_config(),
            accepting.clone(),
        );
        parts.spawn(async move {
            websocket.await;
            "the tunnel's TCP listener"
        });
        let sessions = relay.sessions.clone();
        let (udp, quic_tls, token) = (sockets.tunnel_udp, tls.quic_config(), accepting.clone());
        let counted = metrics.clone();
        parts.spawn(async move {
            let socket = tunnel::socket::accepting(udp, move |datagrams| {
                counted.refused_many("not_quic", datagrams);
            });
            let quic =
                async { listener::run_tunnel_quic(sessions, socket?, quic_tls, token).await };
            if let Err(error) = quic.await {
                error!(%error, "QUIC cannot be served");
            }
            "the tunnel's QUIC listener"
        });
        let health = http::serve_health(sockets.metrics, http::health_router(health), stop.clone());
        parts.spawn(async move {
            health.await;
            "the metrics listener"
        });
        tasks.spawn(
            tls.clone()
                .watch(reload.clone(), metrics.clone(), stop.clone()),
        );
        tasks.spawn(relay.registry.clone().keep_windows(accepting.clone()));
        Self {
            parts,
            reload,
            accepting,
            stop,
            tasks,
        }
    }

    /// Tells peers of a relay that was killed.
    pub(super) fn tell(&self, socket: UdpSocket, orphans: Vec<Orphan>) {
        self.tasks.spawn(farewell::tell(socket, orphans));
    }

    /// Opens the stored exposures whose port is not free yet as soon as it is.
    pub(super) fn keep_exposures(&self, control: &Arc<Control>) {
        let (control, stop) = (control.clone(), self.accepting.clone());
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(EXPOSURE_RETRY) => {}
                }
                if control.waiting_exposures() > 0
                    && let Err(error) = control.open_exposures().await
                {
                    warn!(%error, "exposures not tried again");
                }
            }
        });
    }

    /// Waits until every task has ended, those that serve peers first.
    pub(super) async fn finish(mut self, relay: &Relay) {
        relay.exposures.stop_all().await;
        relay.sessions.tasks().close();
        relay.sessions.tasks().wait().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        while self.parts.join_next().await.is_some() {}
    }
}
