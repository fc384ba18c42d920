//! Ports on the relay's host that lead to a target at an agent.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};
use tunnel::{OpenRequest, SpliceError, World};
use wire::{close::ResetCode, id::RequestId};

use crate::{
    control::{Exposer, Exposure},
    id::ExposureId,
    limits::{ACCEPT_PAUSE, EXPOSURE_CONNECTIONS_MAX},
    metrics::{Direction, Metrics, Origin},
    registry::Registry,
};

/// Every port that is open.
#[derive(Debug)]
pub struct Exposures {
    world: World,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    open: Mutex<BTreeMap<ExposureId, CancellationToken>>,
    accepting: CancellationToken,
    tasks: TaskTracker,
}

impl Exposures {
    /// No port is open yet.
    pub fn new(world: World, registry: Arc<Registry>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            world,
            registry,
            metrics,
            open: Mutex::default(),
            accepting: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Takes no further connections; those that came in go on.
    pub fn stop_accepting(&self) {
        self.accepting.cancel();
    }

    /// Closes every port, and waits until what came in has ended.
    pub async fn stop_all(&self) {
        self.close_all();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Closes every port, and waits for nobody.
    pub fn close_all(&self) {
        for stop in std::mem::take(&mut *self.open()).into_values() {
            stop.cancel();
        }
    }

    /// Ports that are open.
    pub fn listening(&self) -> usize {
        self.open().len()
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<ExposureId, CancellationToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One port, while it is served.
struct Port {
    exposure: Exposure,
    world: World,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    accepting: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Port {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(EXPOSURE_CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.accepting.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let tcp = match accepted {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    self.metrics.refused("accept_error");
                    warn!(%error, exposure = %self.exposure.id, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                self.metrics.refused("too_many_connections");
                continue;
            };
            let port = Arc::clone(&self);
            let connected = self.metrics.exposure_connected();
            self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = port.stop.cancelled() => {}
                    () = port.lead(tcp) => {}
                }
                drop((permit, connected));
            });
        }
    }

    /// Leads one connection to the target. Where that fails, whoever connected sees
    /// the connection broken, as without a tunnel.
    async fn lead(&self, tcp: TcpStream) {
        // A socket that is dead already fails at the first byte.
        let _tuned = tunnel::world::tune_tcp(&tcp);
        let environment = self.exposure.environment_id;
        let Some(session) = self.registry.session_soon(environment).await else {
            self.metrics.reset(ResetCode::EnvironmentOffline);
            debug!(
                environment = self.exposure.environment,
                "exposed while offline"
            );
            return;
        };
        let target = self.exposure.target.clone();
        let _open = self.metrics.stream_opened(Origin::Exposure, target.kind());
        let request = OpenRequest {
            environment: String::new(),
            target,
            principal: format!("expose:{}", self.exposure.id),
            request_id: RequestId::from_bytes(self.world.random()),
            first_bytes: Bytes::new(),
        };
        let stream = match session.open(request).await {
            Ok(stream) => stream,
            Err(error) => {
                self.metrics.reset(ResetCode::LimitReached);
                debug!(%error, environment = self.exposure.environment, "exposed in vain");
                return;
            }
        };
        let spliced = tunnel::splice(stream, tcp).await;
        self.metrics.bytes(Direction::Sent, spliced.sent);
        self.metrics.bytes(Direction::Received, spliced.received);
        if let Err(SpliceError::Stream(reset)) = spliced.end {
            self.metrics.reset(reset.code);
            debug!(%reset, environment = self.exposure.environment, "exposed in vain");
        }
    }
}

#[async_trait]
impl Exposer for Exposures {
    #[expect(
        clippy::disallowed_methods,
        reason = "an exposure is a port on the relay's own host; a simulated relay opens none"
    )]
    async fn start(&self, exposure: Exposure) -> Result<SocketAddr, String> {
        let listener = TcpListener::bind(exposure.listen).await.map_err(|error| {
            format!(
                "cannot listen on {}: {error}; choose another address",
                exposure.listen
            )
        })?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let stop = CancellationToken::new();
        if let Some(former) = self.open().insert(exposure.id, stop.clone()) {
            former.cancel();
        }
        info!(
            exposure = %exposure.id, environment = exposure.environment, target = %exposure.target,
            %address, "port opened"
        );
        let port = Arc::new(Port {
            exposure,
            world: self.world.clone(),
            registry: Arc::clone(&self.registry),
            metrics: Arc::clone(&self.metrics),
            accepting: self.accepting.clone(),
            stop,
            tasks: self.tasks.clone(),
        });
        self.tasks.spawn(port.serve(listener));
        Ok(address)
    }

    async fn stop(&self, id: ExposureId) {
        let stop = self.open().remove(&id);
        if let Some(stop) = stop {
            stop.cancel();
        }
    }
}
