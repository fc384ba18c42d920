//! What runs beside the node in a relay's process, with an owner that ends it last.

use std::{net::UdpSocket, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    farewell::{self, Orphan},
    http::{self, Health},
    metrics::Metrics,
    tls::ServerTls,
};

/// How long its end may take: it waits for nobody but a scrape that is half done.
pub(super) const LAST: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Beside {
    /// The listener for metrics and health: it may not end before it is told to.
    health: JoinSet<()>,
    /// Asks for a look at the certificate files.
    pub(super) reload: Arc<Notify>,
    /// Cancelled: everything ends.
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Beside {
    /// Serves metrics and health, and looks after the certificate.
    pub(super) fn start(
        listener: TcpListener,
        health: Health,
        tls: &Arc<ServerTls>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (mut serving, mut tasks) = (JoinSet::new(), JoinSet::new());
        let router = http::health_router(health);
        serving.spawn(http::serve_health(listener, router, stop.clone()));
        let tls = tls.clone();
        tasks.spawn(tls.watch(reload.clone(), metrics.clone(), stop.clone()));
        Self {
            health: serving,
            reload,
            stop,
            tasks,
        }
    }

    /// Tells peers of a relay that was killed.
    pub(super) fn tell(&mut self, socket: UdpSocket, orphans: Vec<Orphan>) {
        self.tasks.spawn(farewell::tell(socket, orphans));
    }

    /// Waits until the listener ends by itself, which it should not; gives its name.
    ///
    /// Cancel safe.
    pub(super) async fn ended(&mut self) -> &'static str {
        match self.health.join_next().await {
            Some(_) => "the metrics listener",
            None => std::future::pending().await,
        }
    }

    /// Ends everything, what does not end in time too.
    pub(super) async fn finish(mut self) {
        self.stop.cancel();
        let all = async {
            while self.health.join_next().await.is_some() {}
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(LAST, all).await.is_err() {
            warn!("a scrape or a look at the certificate was cut off");
        }
    }
}
