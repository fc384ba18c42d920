//! The real relay on simulated hosts: nodes over one store, as a vendor has them, and their
//! lives from start to stop, through crashes.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use netsim_core::{
    model::{Role, Word},
    term::Name,
    time::Instant,
    topology::NodeId,
};
use prometheus::Registry as Series;
use relay::{
    control::{self, Principal},
    farewell::Farewells,
    gate::HandshakeRate,
    id::CustomerId,
    limits::RECONNECT_WINDOW_MIN,
    metrics::{Metrics, StreamGuard},
    node::{Doors, DrainOptions, Node, NodeParts, Running},
    probe::ProbeParts,
    seal::Sealer,
    store::memory::MemoryStore,
    tls::DoorTls,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{JoinHandle, JoinSet},
};
use tunnel::{KeyPair, OpenRequest, Stream, World, world::BoxIo};
use wire::{
    id::{EnvironmentId, RequestId, SessionId},
    key::Secret,
    target::Target,
    token::{EnrolToken, RelayAddress},
};

use super::{ends::Ends, hosts};
use crate::{capture::Keys, sim::Sim, version, workload::Vendor};

/// The ports of every simulated relay, by which attempts are told apart.
const TUNNEL_PORT: u16 = 8000;
const HTTPS_PORT: u16 = 443;

/// What a relay does on two cores: measured there, which a simulation cannot.
const HANDSHAKES_PER_SECOND: u32 = 2_000;

/// What an operator gives a relay by default.
const DRAIN: DrainOptions = DrainOptions {
    timeout: Duration::from_secs(30),
    reconnect_window: RECONNECT_WINDOW_MIN,
};

/// Enrolments are not what is tested here: a token outlives every run.
const TOKEN_VALIDITY: Duration = Duration::from_secs(365 * 86_400);

/// Every relay of a scenario.
pub(super) struct Relays {
    sim: Sim,
    ends: Arc<Ends>,
    /// Where the secrets of connections are told, if anybody looks into them.
    keys: Option<Arc<Keys>>,
    store: Arc<MemoryStore>,
    identity: Secret,
    address: RelayAddress,
    vendor: Principal,
    hosts: Mutex<BTreeMap<NodeId, RelayHost>>,
    environments: Environments,
    by_host: Mutex<BTreeMap<Name, EnvironmentId>>,
}

/// Hosts of agents by their environments.
type Environments = Arc<Mutex<BTreeMap<EnvironmentId, Name>>>;

fn locked(environments: &Environments) -> MutexGuard<'_, BTreeMap<EnvironmentId, Name>> {
    environments.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One host that a relay runs on.
struct RelayHost {
    world: World,
    running: Option<Process>,
    /// A relay that is still draining.
    ending: Option<JoinHandle<()>>,
}

struct Process {
    running: Running,
    watching: JoinSet<()>,
}

impl Relays {
    /// Relays that serve, and know nobody yet.
    pub(super) async fn set_up(sim: &Sim, ends: &Arc<Ends>, keys: Option<Arc<Keys>>) -> Self {
        let hosts = hosts(sim, Role::Relay);
        let worlds: Vec<(NodeId, World)> = hosts
            .iter()
            .map(|(node, _)| (*node, sim.world(*node)))
            .collect();
        let (_, first) = worlds.first().expect("`check` wants a relay");
        let relays = Self {
            sim: sim.clone(),
            ends: ends.clone(),
            keys,
            store: Arc::new(MemoryStore::new()),
            identity: Secret::from_bytes(first.random()),
            address: address(sim),
            vendor: Principal::of_token("vendor", CustomerId::default()),
            hosts: Mutex::new(BTreeMap::new()),
            environments: Environments::default(),
            by_host: Mutex::default(),
        };
        for (node, world) in worlds {
            let host = RelayHost {
                world,
                running: None,
                ending: None,
            };
            relays.hosts().insert(node, host);
            relays.start(node).await;
        }
        relays
    }

    fn hosts(&self) -> MutexGuard<'_, BTreeMap<NodeId, RelayHost>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an environment for the agent on a host, and gives the token that it enrols
    /// with.
    pub(super) async fn enrol(&self, host: &Name) -> EnrolToken {
        let node = self.any_node().expect("relays serve before agents come");
        let added = node
            .control()
            .add_environment(&self.vendor, host.as_str(), BTreeMap::new())
            .await;
        let (environment, token) = added.expect("a host's name is good for an environment");
        let id = environment.record.id;
        locked(&self.environments).insert(id, host.clone());
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        by_host.insert(host.clone(), id);
        drop(by_host);
        token.text.parse().expect("a relay writes tokens that are")
    }

    fn nodes(&self) -> Vec<Node> {
        let hosts = self.hosts();
        let running = hosts.values().filter_map(|host| host.running.as_ref());
        running
            .map(|process| process.running.node().clone())
            .collect()
    }

    fn any_node(&self) -> Option<Node> {
        self.nodes().into_iter().next()
    }

    fn node_of(&self, host: &Name) -> Option<Node> {
        let environment = *self
            .by_host
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(host)?;
        let has_it = |node: &Node| node.registry().session(environment).is_some();
        self.nodes().into_iter().find(has_it)
    }

    /// Starts the relay of a host; nothing where it runs already.
    pub(super) async fn start(&self, node: NodeId) {
        let (world, ending) = {
            let mut hosts = self.hosts();
            let Some(host) = hosts.get_mut(&node).filter(|host| host.running.is_none()) else {
                return;
            };
            (host.world.clone(), host.ending.take())
        };
        if let Some(ending) = ending {
            // Its ports are free only then, as with a service that is restarted.
            ending.await.ok();
        }
        let generation = control::boot(&*self.store, &world).await;
        let generation = generation.expect("memory counts");
        let relay = Node::build(self.parts(world.clone(), generation));
        let listen = |port| self.sim.listen(node, port).expect("the ports are free");
        let udp = self.sim.bind_udp(node, TUNNEL_PORT);
        let doors = Doors {
            https: Box::new(listen(HTTPS_PORT)),
            tunnel_tcp: Box::new(listen(TUNNEL_PORT)),
            tunnel_udp: udp.expect("the port is free"),
        };
        let running = relay.serve(doors, &self.tls(&world));
        let mut watching = JoinSet::new();
        watching.spawn(watch(
            node,
            relay,
            self.ends.clone(),
            self.environments.clone(),
        ));
        let process = Process { running, watching };
        if let Some(host) = self.hosts().get_mut(&node) {
            host.running = Some(process);
        }
    }

    fn parts(&self, world: World, generation: u64) -> NodeParts {
        // Nobody scrapes them; a relay counts all the same.
        let metrics = Metrics::new(&Series::new(), version::VERSION, version::COMMIT);
        NodeParts {
            world,
            store: self.store.clone(),
            metrics: Arc::new(metrics.expect("a fresh registry has no series yet")),
            identity: KeyPair::from_seed(&self.identity),
            sealer: Sealer::new(&self.identity).expect("a key of 32 bytes"),
            generation,
            farewells: Farewells::none(),
            name: "relay".to_owned(),
            address: self.address.clone(),
            agent_image: "sternline-agent".to_owned(),
            token_validity: TOKEN_VALIDITY,
            probe: Some(ProbeParts::default()),
            asks_figures: false,
            resume_window: wire::limits::RESUME_WINDOW,
            handshake_rate: HandshakeRate::Fixed(HANDSHAKES_PER_SECOND),
            is_severable: true,
        }
    }

    /// Keys are made once a process: agents pin the relay's identity, and no certificate.
    fn tls(&self, world: &World) -> DoorTls {
        static MADE: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
        let (certificate, key) = MADE.get_or_init(|| {
            let made = rcgen::generate_simple_self_signed(vec!["relay.example.com".to_owned()]);
            let made = made.expect("a name of a certificate");
            (made.cert.der().clone(), made.signing_key.serialize_der())
        });
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
        let mut tls = DoorTls::from_der(vec![certificate.clone()], key, &world.clock)
            .expect("the key is the certificate's");
        if let Some(keys) = &self.keys {
            Arc::make_mut(&mut tls.tcp).key_log = keys.clone();
            Arc::make_mut(&mut tls.quic).key_log = keys.clone();
        }
        tls
    }

    /// The host is gone: what ran on it, runs no more, and says nothing.
    pub(super) fn crash(&self, node: NodeId) {
        if let Some(host) = self.hosts().get_mut(&node) {
            host.running = None;
            if let Some(ending) = host.ending.take() {
                ending.abort();
            }
        }
        self.ends.relay_is_gone(node);
    }

    /// Asks the relay of a host to end; it drains on its own.
    pub(super) fn stop(&self, node: NodeId) {
        let mut hosts = self.hosts();
        let Some(host) = hosts.get_mut(&node) else {
            return;
        };
        if let Some(process) = host.running.take() {
            let (sim, ends) = (self.sim.clone(), self.ends.clone());
            host.ending = Some(tokio::spawn(async move {
                let watching = process.watching;
                process
                    .running
                    .drain(DRAIN, std::future::pending::<()>)
                    .await;
                drop(watching);
                // What QUIC still has to say to the lost would hold it; the process is gone.
                sim.free_udp_port(node, TUNNEL_PORT);
                ends.relay_is_gone(node);
            }));
        }
    }

    /// Ends every relay, and waits until they have.
    pub(super) async fn stop_all(&self) {
        let nodes: Vec<NodeId> = self.hosts().keys().copied().collect();
        for node in &nodes {
            self.stop(*node);
        }
        for node in &nodes {
            let ending = self
                .hosts()
                .get_mut(node)
                .and_then(|host| host.ending.take());
            if let Some(ending) = ending {
                ending.await.ok();
            }
        }
    }
}

/// A stream that counts as open at its relay for as long as it is kept.
struct Opened {
    stream: Stream,
    _open: StreamGuard,
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl Vendor for Relays {
    /// At whichever relay has the agent's session.
    async fn open(&self, host: &Name, id: RequestId) -> io::Result<BoxIo> {
        let node = self.node_of(host).or_else(|| self.any_node());
        let node = node.ok_or(io::ErrorKind::NotConnected)?;
        let request = OpenRequest {
            environment: host.to_string(),
            target: Target::Docker,
            principal: String::new(),
            request_id: id,
            first_bytes: Bytes::new(),
        };
        let opened = node.sessions().open(&self.vendor, request).await;
        let (stream, open) = opened.map_err(io::Error::other)?;
        Ok(Box::new(Opened {
            stream,
            _open: open,
        }))
    }

    fn observe(&self, host: &Name, word: Word, detail: &str) {
        self.sim.observe(Some(host), word, detail);
    }

    fn came_online_since(&self, host: &Name, since: Instant) -> bool {
        self.sim
            .with_network(|network| network.has_seen_since(host, Word::Online, since))
    }

    fn tells_breaks(&self) -> bool {
        true
    }

    fn now(&self) -> Instant {
        self.sim.now()
    }
}

/// Tells of every session that comes to a relay, or goes.
async fn watch(at: NodeId, relay: Node, ends: Arc<Ends>, environments: Environments) {
    let mut changes = relay.registry().changes();
    let mut known = BTreeMap::new();
    loop {
        let live = relay.registry().live_agents().into_iter();
        // One that waits for its agent is in nobody's use.
        let connected = live.filter(|agent| agent.session.is_connected());
        let live: BTreeMap<EnvironmentId, SessionId> = connected
            .map(|agent| (agent.environment, agent.session.id()))
            .collect();
        tell_changes(&known, &live, |environment, session| {
            if let Some(host) = locked(&environments).get(&environment) {
                ends.relay_has(at, host, session.map(|session| session.to_string()));
            }
        });
        known = live;
        if changes.changed().await.is_err() {
            return;
        }
        // What comes and goes at one moment is looked at once: of a fleet, that is much.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Tells of whoever has gone, has come, or has another session. Of a fleet, few at a time.
fn tell_changes(
    before: &BTreeMap<EnvironmentId, SessionId>,
    now: &BTreeMap<EnvironmentId, SessionId>,
    mut tell: impl FnMut(EnvironmentId, Option<SessionId>),
) {
    for gone in before.keys().filter(|one| !now.contains_key(one)) {
        tell(*gone, None);
    }
    for (environment, session) in now {
        if before.get(environment) != Some(session) {
            tell(*environment, Some(*session));
        }
    }
}

/// Where agents are told to find the relay: by its name, where it has one.
fn address(sim: &Sim) -> RelayAddress {
    let host = sim.with_network(|network| {
        let mut hosts = network.scenario().hosts.iter();
        let relay = hosts.find(|host| host.runs == Role::Relay);
        let relay = relay.expect("`check` wants a relay");
        let name = relay.names.first().map(|name| name.as_str().to_owned());
        name.or_else(|| Some(relay.addresses.first()?.addr().to_string()))
            .unwrap_or_default()
    });
    RelayAddress {
        host,
        tunnel_port: TUNNEL_PORT,
        https_port: HTTPS_PORT,
    }
}
