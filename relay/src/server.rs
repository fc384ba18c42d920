//! The composition root: puts files, sockets and signals around a [`Node`], runs it, and
//! drains it.
//!
//! ```text
//! Starting ──all ports bound──► Serving ──TERM, INT, `drain`──► Draining ──► stopped
//!                                  └── a listener fails ──┘  (and the exit code says so)
//! ```

mod beside;
mod bind;
mod command;
mod cost;
mod drain;
mod pulse;
mod secret;
mod sockets;

use std::{path::PathBuf, sync::Arc, time::Duration};

use prometheus::Registry as Series;
use serde_json::json;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch};
use tracing::info;
use tunnel::{KeyPair, Notifier, World};
use wire::token::RelayAddress;

use self::{
    beside::Beside,
    drain::{Signals, Told},
    sockets::{Addresses, Sockets},
};
pub use self::{bind::BindError, command::main, secret::SecretError};
pub use crate::node::{COMMIT, VERSION};
use crate::{
    config::Config,
    control::{self, Error},
    data_dir::{DataDir, DataDirError, QUIC_PEERS, RUN, STORE},
    farewell::{Farewells, Orphan},
    http::{Health, Phase},
    log,
    metrics::{Doorway, Metrics},
    node::{Doors, DrainOptions, FAREWELL, Node, NodeParts, Running},
    probe::ProbeParts,
    seal::Sealer,
    store::{StoreError, sqlite::SqliteStore, timed::TimedStore},
    tls::{ServerTls, TlsError, TlsSource},
};

/// File name of the probe's program.
const PROBE_PROGRAM: &str = "sternline-probe";

/// What a stop takes beside drain and farewell: what runs beside the node, and closing the
/// store.
const END: Duration = Duration::from_secs(5);

/// How a relay stopped that was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every stream had finished.
    InOrder,
    /// So many streams were cut: the deadline passed, or somebody was in a hurry.
    StreamsCut(usize),
}

/// Why a relay does not start or run. Says what a person can do.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A part stopped by itself.
    #[error("{0} ended by itself: the log above says why")]
    Ended(&'static str),
    /// A series is declared twice, which only a bug can cause.
    #[error("cannot declare the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A secret's file cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system refuses what every program may do.
    #[error("cannot {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be used.
    #[error("{source} (`{}`)", path.display())]
    Store {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A stored exposure cannot be read.
    #[error("cannot open the exposures: {0}")]
    Exposures(#[from] Error),
    /// There is no usable certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Runs a relay until it is told to stop.
///
/// # Errors
///
/// Where it cannot start, or a listener ends by itself.
pub async fn serve(config: Config) -> Result<Stopped, ServeError> {
    let world = World::real();
    let data_dir = Arc::new(DataDir::open(&config.data_dir)?);
    let mut signals = Signals::new()?;
    let notifier = Notifier::from_environment().map_err(|source| ServeError::System {
        what: "reach the service manager at NOTIFY_SOCKET",
        source,
    })?;
    let series = Series::new();
    let metrics = Arc::new(Metrics::new(&series, VERSION, COMMIT)?);
    log::watch_panics(metrics.clone());
    let foundation = Foundation::build(&data_dir, &world, &metrics).await?;
    let store = foundation.store.clone();
    let tls = ServerTls::new(config.tls.clone(), data_dir.clone(), world.clock.clone())?;
    let tls = Arc::new(tls);
    let sockets = Sockets::bind(&config)?;
    let (farewells, orphans) = open_farewells(&data_dir)?;
    let socket = share(&sockets.tunnel_udp)?;
    let addresses = sockets.addresses;
    let parts = foundation.into_parts(
        &config,
        (world.clone(), metrics.clone()),
        farewells,
        addresses,
    );
    let node = Node::build(parts);
    let (phase, watched) = watch::channel(Phase::Starting);
    let health = Health {
        registry: series,
        metrics: metrics.clone(),
        phase: watched,
        control: node.control().clone(),
        shows_environments: config.metrics_by_environment,
    };

    let (doors, listener) = open(sockets, &metrics)?;
    let mut running = node.serve(doors, tls.doors());
    let mut beside = Beside::start(listener, health, &tls, &metrics);
    beside.tell(socket, orphans, world);
    node.control().open_exposures().await?;
    write_run_file(&data_dir, addresses, &config.public_name)?;
    phase.send_replace(Phase::Serving);
    notifier.ready();
    announce(&addresses, &config.public_name);

    let told = until_told(
        &mut signals,
        &notifier,
        &mut running,
        &mut beside,
        &data_dir,
    )
    .await;
    notifier.stopping(config.drain_timeout + FAREWELL + END);
    phase.send_replace(Phase::Draining);
    let options = DrainOptions {
        timeout: config.drain_timeout,
        reconnect_window: config.reconnect_window,
    };
    let streams_cut = running.drain(options, async || signals.stop().await).await;
    beside.finish().await;
    store.close().await;
    data_dir.remove(RUN)?;
    stopped(told, streams_cut)
}

fn announce(addresses: &Addresses, public_name: &str) {
    info!(
        version = VERSION,
        https = %addresses.https,
        tunnel = %addresses.tunnel,
        metrics = %addresses.metrics,
        public_name,
        "relay serves"
    );
}

/// What a relay has to say at its end.
fn stopped(told: Told, streams_cut: usize) -> Result<Stopped, ServeError> {
    match (told, streams_cut) {
        (Told::Ended(part), _) => Err(ServeError::Ended(part)),
        (Told::Signal(_) | Told::Operator, 0) => Ok(Stopped::InOrder),
        (Told::Signal(_) | Told::Operator, cut) => Ok(Stopped::StreamsCut(cut)),
    }
}

/// Tells the service manager that the relay is alive, until something ends the service.
async fn until_told(
    signals: &mut Signals,
    notifier: &Notifier,
    running: &mut Running,
    beside: &mut Beside,
    data_dir: &Arc<DataDir>,
) -> Told {
    let (registry, reload) = (running.node().registry().clone(), beside.reload.clone());
    let (node, control) = (running.node().clone(), running.node().control().clone());
    let ended = async {
        tokio::select! {
            part = running.ended() => part,
            part = beside.ended() => part,
        }
    };
    tokio::select! {
        told = drain::until_told(signals, ended, &reload) => told,
        () = control.drain_asked() => Told::Operator,
        never = cost::keep(&node, data_dir) => match never {},
        never = pulse::keep_telling(notifier, &registry) => match never {},
    }
}

/// The bound sockets as doors of a node, and the listener beside them.
fn open(sockets: Sockets, metrics: &Arc<Metrics>) -> Result<(Doors, TcpListener), ServeError> {
    metrics.watch_accept_queue(Doorway::Https, sockets.addresses.https);
    metrics.watch_accept_queue(Doorway::TunnelTcp, sockets.addresses.tunnel);
    let counted = metrics.clone();
    let tunnel_udp = tunnel::socket::accepting(sockets.tunnel_udp, move |datagrams| {
        counted.refused_many("not_quic", datagrams);
    });
    let doors = Doors {
        https: Box::new(sockets.https),
        tunnel_tcp: Box::new(sockets.tunnel_tcp),
        tunnel_udp: tunnel_udp.map_err(|source| ServeError::System {
            what: "serve the tunnel's UDP socket",
            source,
        })?,
    };
    Ok((doors, sockets.metrics))
}

/// The tunnel's UDP socket once more, for farewells.
fn share(socket: &std::net::UdpSocket) -> Result<std::net::UdpSocket, ServeError> {
    socket.try_clone().map_err(|source| ServeError::System {
        what: "share the tunnel's socket",
        source,
    })
}

/// Opens the file of QUIC's peers, and takes out whom a killed relay has left.
fn open_farewells(data_dir: &DataDir) -> Result<(Arc<Farewells>, Vec<Orphan>), ServeError> {
    Farewells::open(&data_dir.file(QUIC_PEERS)).map_err(|source| ServeError::System {
        what: "open the file of QUIC's peers in the data directory",
        source,
    })
}

/// What must be there before anything can listen.
struct Foundation {
    identity: KeyPair,
    sealer: Sealer,
    store: Arc<SqliteStore>,
    timed: Arc<TimedStore<SqliteStore>>,
    generation: u64,
    handshake_cost: Option<Duration>,
}

impl Foundation {
    async fn build(
        data_dir: &DataDir,
        world: &World,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ServeError> {
        // The identity before the store: a store without an identity is a lost one.
        let identity = secret::identity(data_dir, world)?;
        let sealer = secret::sealer(data_dir, world)?;
        let path = data_dir.file(STORE);
        let failed = |source| ServeError::Store {
            path: path.clone(),
            source,
        };
        let store = Arc::new(SqliteStore::open(&path).await.map_err(failed)?);
        let timed = Arc::new(TimedStore::new(store.clone(), metrics.clone()));
        let generation = control::boot(&*timed, world).await.map_err(failed)?;
        let token = secret::admin_token(data_dir, world)?;
        control::install_admin_token(&*timed, world, &token)
            .await
            .map_err(failed)?;
        Ok(Self {
            identity,
            sealer,
            store,
            timed,
            generation,
            handshake_cost: cost::load(data_dir),
        })
    }

    fn into_parts(
        self,
        config: &Config,
        (world, metrics): (World, Arc<Metrics>),
        farewells: Arc<Farewells>,
        addresses: Addresses,
    ) -> NodeParts {
        NodeParts {
            world,
            store: self.timed,
            metrics,
            identity: self.identity,
            sealer: self.sealer,
            generation: self.generation,
            farewells,
            name: config.node.clone(),
            address: RelayAddress {
                host: config.public_name.clone(),
                tunnel_port: config
                    .public_tunnel_port
                    .unwrap_or_else(|| addresses.tunnel.port()),
                https_port: config
                    .public_https_port
                    .unwrap_or_else(|| addresses.https.port()),
            },
            agent_image: config.agent_image.clone(),
            token_validity: config.token_validity,
            probe: config.probe.then(|| probe_parts(config)),
            asks_figures: config.metrics_by_environment,
            handshake_rate: cost::begin(config.handshake_rate, self.handshake_cost),
            // The process takes everything with it.
            resume_window: config.resume_window,
            is_severable: false,
        }
    }
}

/// What the probe is served with: its program is looked for beside the relay's own.
fn probe_parts(config: &Config) -> ProbeParts {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name(PROBE_PROGRAM));
    ProbeParts {
        program: config.probe_program.clone().or_else(beside),
        is_certificate_own: matches!(config.tls, TlsSource::Own { .. }),
    }
}

/// Tells operator's commands on this host where the relay is.
fn write_run_file(
    data_dir: &DataDir,
    addresses: Addresses,
    public_name: &str,
) -> Result<(), DataDirError> {
    let run = json!({
        "pid": std::process::id(),
        "https_addr": addresses.https,
        "tunnel_addr": addresses.tunnel,
        "metrics_addr": addresses.metrics,
        "public_name": public_name,
    });
    data_dir.write(RUN, format!("{run:#}\n").as_bytes())
}
