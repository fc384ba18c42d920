//! A whole node on a paused runtime without I/O, reached through pipes: where anything below
//! it opened a socket or a file, or read another clock, these would fail or take real time.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use rustls_pki_types::PrivateKeyDer;
use tokio::{sync::mpsc, task::JoinHandle};
use tunnel::{
    Credential, DialOptions, Dialled, OpenRequest, Session, TransportChoice, Trust,
    world::{
        AsyncUdpSocket, BoxIo, Clock, Entropy, Listen, Net, RecvMeta, Resolve, TargetEnd,
        TargetSocket, Transmit, UdpPoller,
    },
};
use wire::{
    close::{CloseCode, ResetCode},
    id::{InstanceId, RequestId},
    key::Secret,
    target::Target,
    token::EnrolToken,
    transport::Transport,
};

use super::*;
use crate::{
    control::{self, EnvironmentStatus, Principal},
    id::CustomerId,
    store::memory::MemoryStore,
    tls::DoorTls,
};

mod intercepted;
mod stacks;

const TUNNEL_PORT: u16 = 8000;
const HTTPS_PORT: u16 = 443;

type Arrival = (BoxIo, SocketAddr);

/// Pipes to whatever door stands at a port.
#[derive(Debug, Default)]
struct Pipes {
    doors: Mutex<BTreeMap<u16, mpsc::Sender<Arrival>>>,
}

impl Pipes {
    fn door(&self, port: u16) -> Box<dyn Listen> {
        let (arrive, arrivals) = mpsc::channel(16);
        self.doors.lock().unwrap().insert(port, arrive);
        Box::new(Door(tokio::sync::Mutex::new(arrivals)))
    }
}

#[async_trait]
impl Net for Pipes {
    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<BoxIo> {
        let door = self.doors.lock().unwrap().get(&address.port()).cloned();
        let door = door.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let arrived = door.send((Box::new(far), address)).await;
        arrived.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(near))
    }

    /// A relay reaches no targets itself.
    async fn connect_target(&self, _target: TargetEnd<'_>) -> io::Result<TargetSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect_udp(&self, _peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Swallowing))
    }
}

#[derive(Debug)]
struct Door(tokio::sync::Mutex<mpsc::Receiver<Arrival>>);

#[async_trait]
impl Listen for Door {
    async fn accept(&self) -> io::Result<Arrival> {
        let arrival = self.0.lock().await.recv().await;
        arrival.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

/// A network that lets no UDP through.
#[derive(Debug)]
struct Swallowing;

impl UdpPoller for Swallowing {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Swallowing {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Self)
    }

    fn try_send(&self, _transmit: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _cx: &mut Context<'_>,
        _bufs: &mut [IoSliceMut<'_>],
        _meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, TUNNEL_PORT).into())
    }
}

#[async_trait]
impl Resolve for Pipes {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

/// tokio's clock, in 2030.
#[derive(Debug)]
struct Virtual;

impl Clock for Virtual {
    fn now(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_milliseconds(&self) -> i64 {
        1_893_456_000_000
    }
}

/// Chance that counts.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            chunk.copy_from_slice(&number.to_be_bytes()[..chunk.len()]);
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tunnel::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

fn tls(clock: &Arc<dyn Clock>) -> DoorTls {
    let made = rcgen::generate_simple_self_signed(vec!["relay.example".into()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    DoorTls::from_der(vec![made.cert.der().clone()], key, clock).unwrap()
}

struct Site {
    world: World,
    node: Node,
    running: Running,
    principal: Principal,
}

impl Site {
    async fn new() -> Self {
        let pipes = Arc::new(Pipes::default());
        let world = World {
            net: pipes.clone(),
            resolver: pipes.clone(),
            clock: Arc::new(Virtual),
            entropy: Arc::new(Counting::default()),
        };
        let store = Arc::new(MemoryStore::new());
        let generation = control::boot(&*store, &world).await.unwrap();
        let metrics = Metrics::new(&prometheus::Registry::new(), VERSION, COMMIT).unwrap();
        let node = Node::build(NodeParts {
            world: world.clone(),
            store,
            metrics: Arc::new(metrics),
            identity: KeyPair::from_seed(&Secret::from_bytes([1; 32])),
            sealer: Sealer::new(&Secret::from_bytes([4; 32])).unwrap(),
            generation,
            farewells: Farewells::none(),
            name: "relay-1".to_owned(),
            address: RelayAddress {
                host: "relay.example".to_owned(),
                tunnel_port: TUNNEL_PORT,
                https_port: HTTPS_PORT,
            },
            agent_image: "agent".to_owned(),
            token_validity: Duration::from_secs(60),
            probe: Some(ProbeParts::default()),
            asks_figures: false,
            resume_window: wire::limits::RESUME_WINDOW,
            handshake_rate: HandshakeRate::Fixed(2_000),
            is_severable: true,
        });
        let doors = Doors {
            https: pipes.door(HTTPS_PORT),
            tunnel_tcp: pipes.door(TUNNEL_PORT),
            tunnel_udp: Arc::new(Swallowing),
        };
        let running = node.serve(doors, &tls(&world.clock));
        Self {
            world,
            node,
            running,
            principal: Principal::of_token("admin", CustomerId::default()),
        }
    }

    /// Adds an environment, and has an agent enrol for it.
    async fn enrol(&self, environment: &str, transports: TransportChoice) -> Dialled {
        let added =
            self.node
                .control()
                .add_environment(&self.principal, environment, BTreeMap::new());
        let (_, token) = added.await.unwrap();
        self.join(&token.text, transports).await
    }

    /// Has an agent enrol for an environment that there is.
    async fn enrol_again(&self, environment: &str) -> Dialled {
        let issued = self
            .node
            .control()
            .issue_token(&self.principal, environment);
        self.join(&issued.await.unwrap().text, TransportChoice::Auto)
            .await
    }

    async fn join(&self, token: &str, transports: TransportChoice) -> Dialled {
        let token: EnrolToken = token.parse().unwrap();
        let trust = Trust::Identity(token.relay_identity);
        let who = ("test/0".to_owned(), InstanceId::from_bytes([3; 16]));
        let options = DialOptions {
            transports,
            resume_window: wire::limits::RESUME_WINDOW,
            ..DialOptions::new(token.addresses, trust, who)
        };
        let credential = Credential::Enrol {
            secret: token.secret,
            key: KeyPair::from_seed(&Secret::from_bytes([2; 32])),
            start_counter: 1,
        };
        let dialled = tunnel::dial(&self.world, &options, &credential)
            .await
            .unwrap();
        let mut changes = self.node.registry().changes();
        while self.node.registry().live_agents().is_empty() {
            changes.changed().await.unwrap();
        }
        dialled
    }

    fn request(&self, environment: &str) -> OpenRequest {
        OpenRequest {
            environment: environment.to_owned(),
            target: Target::Docker,
            principal: String::new(),
            request_id: RequestId::from_bytes(self.world.random()),
            first_bytes: Bytes::from_static(b"ping"),
        }
    }
}

const DRAIN: DrainOptions = DrainOptions {
    timeout: Duration::from_secs(20),
    reconnect_window: Duration::from_secs(5),
};

/// An agent that answers one stream with what it reads, and tells for whom it was.
fn answer_one(session: Session) -> JoinHandle<String> {
    tokio::spawn(async move {
        let incoming = session.accept().await.unwrap();
        let principal = incoming.open.principal.clone();
        let mut stream = incoming.accept();
        while let Some(bytes) = stream.read_chunk(1024).await.unwrap() {
            stream.write_chunk(bytes).await.unwrap();
        }
        stream.finish();
        principal
    })
}

#[test]
fn an_agent_enrols_over_either_websocket_where_no_udp_comes_through() {
    run(async {
        for transport in [Transport::Ws, Transport::Ws443] {
            let site = Site::new().await;

            let dialled = site.enrol("berlin", TransportChoice::Only(transport)).await;

            let live = site.node.registry().live_agents();
            let [agent] = &live[..] else {
                panic!("{} agents are live", live.len())
            };
            assert_eq!(agent.session.id(), dialled.session.id());
            assert_eq!(agent.session.transport(), transport);
            assert_eq!(Some(agent.agent), dialled.welcome.agent_id);
            assert_eq!(Some(agent.environment), dialled.welcome.environment_id);
            let seen = site.node.control().environment(&site.principal, "berlin");
            assert_eq!(seen.await.unwrap().status, EnvironmentStatus::Online);
        }
    });
}

#[test]
fn a_stream_opened_at_the_node_reaches_the_agent_in_the_principal_s_name() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let answering = answer_one(dialled.session.clone());

        let sessions = site.node.sessions();
        let opened = sessions.open(&site.principal, site.request("berlin")).await;
        let (mut stream, _open) = opened.unwrap();
        stream.finish();
        let answer = stream.read_chunk(1024).await.unwrap();

        assert_eq!(answer.as_deref(), Some(&b"ping"[..]));
        assert_eq!(stream.read_chunk(1024).await.unwrap(), None);
        assert_eq!(answering.await.unwrap(), "token:admin");
    });
}

#[test]
fn a_stream_to_an_unknown_or_absent_environment_is_refused_by_its_code() {
    run(async {
        let site = Site::new().await;
        let control = site.node.control();
        let added = control.add_environment(&site.principal, "oslo", BTreeMap::new());
        added.await.unwrap();

        let sessions = site.node.sessions();
        let unknown = sessions.open(&site.principal, site.request("berlin")).await;
        let absent = sessions.open(&site.principal, site.request("oslo")).await;

        assert_eq!(unknown.unwrap_err().code, ResetCode::EnvironmentUnknown);
        assert_eq!(absent.unwrap_err().code, ResetCode::EnvironmentOffline);
    });
}

#[test]
fn a_node_that_drains_sends_its_agents_away_and_waits_for_their_streams() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let answering = answer_one(dialled.session.clone());
        let sessions = site.node.sessions();
        let opened = sessions.open(&site.principal, site.request("berlin")).await;
        let (mut stream, _open) = opened.unwrap();

        let draining = tokio::spawn(site.running.drain(DRAIN, std::future::pending::<()>));
        let goaway = dialled.session.goaway_received().await;
        let is_waiting = !draining.is_finished();
        stream.finish();
        answering.await.unwrap();
        while stream.read_chunk(1024).await.unwrap().is_some() {}
        drop(stream);
        let closed = dialled.session.closed().await;
        draining.await.unwrap();

        assert!(is_waiting, "it did not wait for the stream");
        assert_eq!(goaway.window_ms, 5_000, "all of it: it is alone");
        assert_eq!(closed.code, CloseCode::Shutdown);
        assert!(site.node.registry().live_agents().is_empty());
        assert!(site.node.sessions().tasks().is_empty());
    });
}

#[test]
fn a_node_that_is_dropped_takes_its_sessions_with_it_and_says_no_word() {
    run(async {
        let site = Site::new().await;
        let dialled = site.enrol("berlin", TransportChoice::Auto).await;
        let held = site.node.registry().live_agents();

        drop(site.running);
        site.node.sessions().tasks().finish().await;
        let closed = dialled.session.closed().await;
        let far = held[0].session.closed().await;

        assert!(site.node.registry().live_agents().is_empty());
        assert_ne!(closed.code, CloseCode::Shutdown, "{}", closed.reason);
        assert_eq!(far.code, CloseCode::ConnectionLost);
    });
}
