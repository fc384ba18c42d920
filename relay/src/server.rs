//! The composition root: builds every part, runs them, and drains.
//!
//! ```text
//! Starting ──all ports bound──► Serving ──TERM, INT──► Draining ──► stopped
//!                                  └── a listener fails ──┘  (and the exit code says so)
//! ```

mod bind;
mod command;
mod drain;
mod pulse;
mod running;
mod secret;
mod sockets;

use std::{path::PathBuf, sync::Arc, time::Duration};

use prometheus::Registry as Series;
use serde_json::json;
use thiserror::Error;
use tokio::sync::watch;
use tracing::info;
use tunnel::{KeyPair, Notifier, World};
use wire::token::RelayAddress;

pub use self::{bind::BindError, command::main, secret::SecretError};
use self::{
    drain::{Signals, Told},
    running::Running,
    sockets::{Addresses, Sockets},
};
use crate::{
    config::Config,
    control::{self, Control, Error, Parts, RelayFacts, Sources},
    data_dir::{DataDir, DataDirError, QUIC_PEERS, RUN, STORE},
    expose::Exposures,
    farewell::{Farewells, Orphan},
    http::{Health, Phase},
    log,
    metrics::{Doorway, Metrics, Reading},
    registry::Registry,
    session::{SessionParts, Sessions},
    store::{StoreError, sqlite::SqliteStore, timed::TimedStore},
    tls::{ServerTls, TlsError},
};

/// The release of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this program was built from.
pub const COMMIT: &str = env!("STERNLINE_COMMIT");

/// What a stop takes beside drain and farewell: closing the store.
const END: Duration = Duration::from_secs(5);

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
pub async fn serve(config: Config) -> Result<(), ServeError> {
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
    let tls = Arc::new(ServerTls::new(
        config.tls.clone(),
        data_dir.clone(),
        now(&world),
    )?);
    let sockets = Sockets::bind(&config)?;
    let (farewells, orphans) = open_farewells(&data_dir)?;
    let socket = share(&sockets.tunnel_udp)?;
    let addresses = sockets.addresses;
    let relay = Relay::build(
        &config,
        &world,
        (foundation, farewells),
        &metrics,
        addresses,
    );
    let (phase, watched) = watch::channel(Phase::Starting);
    let health = Health {
        registry: series,
        metrics: metrics.clone(),
        phase: watched,
        control: relay.control.clone(),
        shows_environments: config.metrics_by_environment,
    };

    let mut running = Running::start(&relay, &tls, &metrics, sockets, health);
    running.tell(socket, orphans);
    relay.control.open_exposures().await?;
    running.keep_exposures(&relay.control);
    write_run_file(&data_dir, addresses, &config.public_name)?;
    phase.send_replace(Phase::Serving);
    notifier.ready();
    info!(
        version = VERSION,
        https = %addresses.https,
        tunnel = %addresses.tunnel,
        metrics = %addresses.metrics,
        public_name = config.public_name,
        "relay serves"
    );

    let told = tokio::select! {
        told = drain::until_told(&mut signals, &mut running.parts, &running.reload) => told,
        never = pulse::keep_telling(&notifier, &relay.registry) => match never {},
    };
    notifier.stopping(config.drain_timeout + drain::FAREWELL + END);
    phase.send_replace(Phase::Draining);
    drain::drain(&config, &mut signals, &relay, running).await;
    relay.store.close().await;
    data_dir.remove(RUN)?;
    match told {
        Told::Signal(_) => Ok(()),
        Told::Ended(part) => Err(ServeError::Ended(part)),
    }
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

fn now(world: &World) -> jiff::Timestamp {
    Sources::now(world)
}

/// What must be there before anything can listen.
struct Foundation {
    identity: KeyPair,
    store: Arc<SqliteStore>,
    timed: Arc<TimedStore<SqliteStore>>,
    generation: u64,
}

impl Foundation {
    async fn build(
        data_dir: &DataDir,
        world: &World,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ServeError> {
        // The identity before the store: a store without an identity is a lost one.
        let identity = secret::identity(data_dir, world)?;
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
            store,
            timed,
            generation,
        })
    }
}

/// The parts that listeners and use cases share.
#[derive(Debug)]
struct Relay {
    control: Arc<Control>,
    exposures: Arc<Exposures>,
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    store: Arc<SqliteStore>,
}

impl Relay {
    fn build(
        config: &Config,
        world: &World,
        (foundation, farewells): (Foundation, Arc<Farewells>),
        metrics: &Arc<Metrics>,
        addresses: Addresses,
    ) -> Self {
        let registry = Registry::new(world.clone(), metrics.clone());
        let exposures = Exposures::new(world.clone(), registry.clone(), metrics.clone());
        let facts = RelayFacts {
            version: VERSION,
            commit: COMMIT,
            node: config.node.clone(),
            identity: foundation.identity.public(),
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
        };
        let parts = Parts {
            store: foundation.timed,
            presence: registry.clone(),
            exposer: exposures.clone(),
            sources: Arc::new(world.clone()),
        };
        let control = Arc::new(Control::new(parts, facts));
        let sessions = Sessions::new(SessionParts {
            world: world.clone(),
            control: control.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
            identity: foundation.identity,
            generation: foundation.generation,
            farewells,
            node: config.node.clone(),
            asks_figures: config.metrics_by_environment,
        });
        let relay = Self {
            control,
            exposures,
            registry,
            sessions,
            store: foundation.store,
        };
        relay.watch(metrics, addresses);
        relay
    }
}

impl Relay {
    /// Has the parts asked at each scrape. The metrics own none of them.
    fn watch(&self, metrics: &Metrics, addresses: Addresses) {
        let registry = Arc::downgrade(&self.registry);
        let exposures = Arc::downgrade(&self.exposures);
        let control = Arc::downgrade(&self.control);
        metrics.at_scrape(move || {
            let mut reading = Reading::default();
            if let Some(registry) = registry.upgrade() {
                registry.fill_reading(&mut reading);
            }
            let listening = exposures.upgrade().map(|open| open.listening());
            let waiting = control.upgrade().map(|control| control.waiting_exposures());
            reading.exposures_listening = listening.unwrap_or_default() as u64;
            reading.exposures_waiting = waiting.unwrap_or_default() as u64;
            reading
        });
        metrics.watch_accept_queue(Doorway::Https, addresses.https);
        metrics.watch_accept_queue(Doorway::TunnelTcp, addresses.tunnel);
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
