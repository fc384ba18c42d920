//! Sessions of the real tunnel, TLS and QUIC included, through the shipped networks in
//! virtual time.

use bytes::Bytes;
use netsim_core::{check::check, model::Word};
use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tunnel::{
    Credential, DialError, DialOptions, DialTally, Dialled, KeyPair, OpenRequest, Preference,
    Session, TransportChoice, Trust, World,
    dial::proxy::ProxyUse,
    dial_counting,
    handshake::{Connection, Turn},
    websocket,
    world::Listen,
};
use wire::{
    handshake::{EXPORTER_LABEL, Welcome},
    id::{AgentId, Epoch, InstanceId, RequestId, SessionId},
    key::Secret,
    target::Target,
    token::RelayAddress,
    transport::Transport,
};

use super::*;
use crate::shipped::SHIPPED;

mod dialling;
mod mtu;
mod proxies;

fn server_tls(alpn: &[u8]) -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["relay.example.com".into()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(tunnel::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

fn relay_key() -> KeyPair {
    KeyPair::from_seed(&Secret::from_bytes([1; 32]))
}

fn welcome() -> Welcome {
    Welcome {
        session_id: SessionId::from_bytes([1; 16]),
        epoch: Epoch {
            generation: 1,
            counter: 1,
        },
        agent_id: Some(AgentId::from_bytes([4; 16])),
        environment_id: None,
        environment: "berlin".into(),
        reconnect_window: Duration::ZERO,
        heartbeat_idle: Duration::ZERO,
        bulk_lanes_max: 0,
        resume_window: Duration::ZERO,
    }
}

type Sessions = mpsc::Sender<Session>;

/// Welcomes everybody.
async fn serve(mut connection: Connection, world: World, sessions: Sessions) {
    if connection
        .challenge(&relay_key(), "node", [7; 32])
        .await
        .is_err()
    {
        return;
    }
    let welcomed = connection.welcome(&world, &welcome(), Arc::new(())).await;
    if let Ok((session, driver)) = welcomed {
        tokio::spawn(driver);
        sessions.send(session).await.ok();
    }
}

/// A relay's three doors on a host.
fn open_doors(sim: &Sim, host: NodeId, sessions: &Sessions) {
    for (port, transport) in [(8000, Transport::Ws), (443, Transport::Ws443)] {
        let listener = sim.listen(host, port).unwrap();
        let (world, sessions) = (sim.world(host), sessions.clone());
        let acceptor = tokio_rustls::TlsAcceptor::from(server_tls(tunnel::tls::ALPN_HTTP));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (world, sessions, acceptor) =
                    (world.clone(), sessions.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let exporter = tls.get_ref().1;
                    let exporter =
                        exporter.export_keying_material([0; 32], EXPORTER_LABEL, Some(b""));
                    let Ok((websocket, _)) = websocket::accept(tls).await else {
                        return;
                    };
                    let connection =
                        Connection::over_websocket(websocket, exporter.unwrap(), transport);
                    serve(connection, world, sessions).await;
                });
            }
        });
    }
    let socket = sim.bind_udp(host, 8000).unwrap();
    let tls = server_tls(tunnel::tls::ALPN_QUIC);
    let endpoint =
        tunnel::quic::server(socket, tls, &Secret::from_bytes([6; 32]), &sim.world(host)).unwrap();
    let (world, sessions) = (sim.world(host), sessions.clone());
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let (world, sessions) = (world.clone(), sessions.clone());
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else {
                    return;
                };
                if let Ok(connection) = Connection::over_accepted_quic(connection).await {
                    serve(connection, world, sessions).await;
                }
            });
        }
    });
}

/// An agent's host, and what the relay welcomes.
struct Site {
    sim: Sim,
    agent: World,
    proxy: Option<ProxyUse>,
    prefer: Option<Preference>,
    tally: DialTally,
    welcomed: mpsc::Receiver<Session>,
}

impl Site {
    fn new(sim: Sim) -> Self {
        tunnel::install_crypto_provider();
        let (sessions, welcomed) = mpsc::channel(64);
        for relay in sim.hosts("relay") {
            open_doors(&sim, relay, &sessions);
        }
        let agent = sim.world(sim.hosts("agent")[0]);
        Self {
            sim,
            agent,
            proxy: None,
            prefer: None,
            tally: DialTally::default(),
            welcomed,
        }
    }

    async fn dial(&self, transports: TransportChoice) -> Result<Dialled, DialError> {
        self.dial_beside(transports, &Turn::after(Duration::ZERO))
            .await
    }

    /// A dial that goes on beside others, which share the turn.
    async fn dial_beside(
        &self,
        transports: TransportChoice,
        turn: &Turn,
    ) -> Result<Dialled, DialError> {
        let addresses = vec![RelayAddress {
            host: "relay.example.com".into(),
            tunnel_port: 8000,
            https_port: 443,
        }];
        let trust = Trust::Identity(relay_key().public());
        let who = ("test".into(), InstanceId::from_bytes(self.agent.random()));
        let options = DialOptions {
            transports,
            proxy: self.proxy.clone(),
            prefer: self.prefer.clone(),
            ..DialOptions::new(addresses, trust, who)
        };
        let credential = Credential::Known {
            agent_id: AgentId::from_bytes([4; 16]),
            key: KeyPair::from_seed(&Secret::from_bytes([2; 32])),
            start_counter: 1,
        };
        let shared = (&self.tally, turn);
        dial_counting(&self.agent, &options, &credential, shared).await
    }

    /// Both ends of a session, by the transport that the network lets through.
    async fn connect(&mut self, transports: TransportChoice) -> (Dialled, Session) {
        let dialled = self.dial(transports).await.unwrap();
        let relay = self.welcomed.recv().await.unwrap();
        (dialled, relay)
    }
}

/// A question over a stream of its own, and its answer.
async fn ask(relay: &Session, agent: &Session, question: &[u8]) -> Vec<u8> {
    let request = OpenRequest {
        environment: String::new(),
        target: Target::Docker,
        principal: "test".into(),
        request_id: RequestId::from_bytes([5; 16]),
        first_bytes: Bytes::new(),
    };
    let mut asking = relay.open(request).await.unwrap();
    let mut answering = agent.accept().await.unwrap().accept();
    asking.accepted().await.unwrap();
    let answer = async {
        let mut asked = Vec::new();
        answering.read_to_end(&mut asked).await.unwrap();
        answering.write_all(&asked).await.unwrap();
        answering.finish();
    };
    // A window holds less than some questions.
    let ask = async {
        asking.write_all(question).await.unwrap();
        asking.finish();
        let mut answer = Vec::new();
        asking.read_to_end(&mut answer).await.unwrap();
        answer
    };
    tokio::join!(ask, answer).0
}

fn scenario(name: &str) -> Scenario {
    let (_, text) = SHIPPED
        .iter()
        .find(|(shipped, _)| *shipped == name)
        .unwrap();
    check(text).unwrap().drawn(Seed(1))
}

const AUTO: TransportChoice = TransportChoice::Auto;

#[test]
#[should_panic(expected = "IO is disabled")]
fn a_real_socket_in_a_simulated_world_panics() {
    run(scenario("open"), Seed(1), |_| async {
        drop(tokio::net::TcpListener::bind("127.0.0.1:0").await);
    });
}

#[test]
fn the_better_transport_wins_where_everything_is_open() {
    run(scenario("open"), Seed(1), |sim| async move {
        let mut site = Site::new(sim);

        let (agent, relay) = site.connect(AUTO).await;
        let answer = ask(&relay, &agent.session, b"hello").await;

        assert_eq!(
            (agent.transport(), &answer[..]),
            (Transport::Quic, &b"hello"[..])
        );
        assert!(site.sim.now() < Instant::at(Duration::from_secs(2)));
    });
}

#[test]
fn what_the_network_refuses_is_gone_round_in_time() {
    let cases = [
        ("udp-blocked", Transport::Ws, 3),
        ("8000-blocked", Transport::Ws443, 4),
        ("reject-rst", Transport::Ws443, 1),
        ("reject-icmp", Transport::Ws443, 1),
    ];
    for (name, transport, seconds) in cases {
        run(scenario(name), Seed(1), |sim| async move {
            let mut site = Site::new(sim);

            let (agent, relay) = site.connect(AUTO).await;

            let now = site.sim.now();
            assert_eq!(agent.transport(), transport, "{name}");
            assert!(
                now <= Instant::at(Duration::from_secs(seconds)),
                "{name}: {now}"
            );
            assert_eq!(
                ask(&relay, &agent.session, &[7; 100_000]).await.len(),
                100_000
            );
            assert_eq!(
                site.sim.with_network(|network| network.vacuous()),
                Vec::<String>::new(),
                "{name}"
            );
        });
    }
}

#[test]
fn a_session_outlives_an_hour_of_silence_through_every_idle_timeout() {
    for name in [
        "idle-350-silent",
        "idle-240-silent",
        "idle-rst",
        "udp-30s-nat",
    ] {
        let (_, trace) = run(scenario(name), Seed(1), |sim| async move {
            let mut site = Site::new(sim);
            let (agent, relay) = site.connect(AUTO).await;

            let hour = tokio::time::timeout(Duration::from_secs(3600), relay.closed()).await;

            assert!(hour.is_err(), "{name}: the session ended: {hour:?}");
            assert_eq!(
                ask(&relay, &agent.session, b"still there").await,
                b"still there"
            );
        });
        let unasked = trace
            .observations
            .iter()
            .filter(|one| one.word == Word::InboundFlow);
        assert_eq!(unasked.count(), 0, "{name}");
    }
}

#[test]
fn a_rebinding_does_not_end_a_session_over_quic() {
    run(scenario("nat-rebind"), Seed(1), |sim| async move {
        let mut site = Site::new(sim);
        let (agent, relay) = site.connect(TransportChoice::Only(Transport::Quic)).await;

        let ended = tokio::time::timeout(Duration::from_secs(170), relay.closed()).await;

        assert!(ended.is_err(), "{ended:?}");
        assert_eq!(ask(&relay, &agent.session, b"moved").await, b"moved");
        assert_eq!(
            site.sim.with_network(|network| network.vacuous()),
            Vec::<String>::new()
        );
    });
}

#[test]
fn a_host_with_ipv6_alone_reaches_a_relay_with_ipv4_alone() {
    run(scenario("ipv6-only-nat64"), Seed(1), |sim| async move {
        let mut site = Site::new(sim);

        let (agent, relay) = site.connect(AUTO).await;

        assert!(agent.remote.is_ipv6());
        assert_eq!(
            ask(&relay, &agent.session, b"six to four").await,
            b"six to four"
        );
    });
}

#[test]
fn a_black_hole_lets_bulk_through() {
    run(scenario("pmtu-blackhole-1280"), Seed(1), |sim| async move {
        let mut site = Site::new(sim);

        let (agent, relay) = site.connect(TransportChoice::Only(Transport::Quic)).await;

        let bulk = vec![3; 1 << 20];
        assert_eq!(ask(&relay, &agent.session, &bulk).await, bulk);
    });
}

#[test]
fn a_name_that_leads_elsewhere_is_nobody_who_is_welcome() {
    run(scenario("dns-hijack"), Seed(1), |sim| async move {
        let site = Site::new(sim);

        let dialled = site.dial(AUTO).await;

        assert!(dialled.is_err());
        assert_eq!(
            site.sim.with_network(|network| network.vacuous()).len(),
            0,
            "{:?}",
            site.sim.with_network(|network| network.vacuous())
        );
    });
}

#[test]
fn a_vpn_takes_new_connections_and_leaves_old_sockets_behind() {
    let scenario = scenario("vpn-connect-flap");
    let up = scenario.events[0].time.get();
    let (_, trace) = run(scenario, Seed(1), |sim| async move {
        let mut site = Site::new(sim);
        let (_agent, old) = site.connect(AUTO).await;

        let before = tokio::time::timeout(up, old.closed()).await;
        assert!(before.is_err(), "nothing has happened yet: {before:?}");
        let (agent, relay) = site.connect(AUTO).await;
        let answer = ask(&relay, &agent.session, b"through the tunnel").await;
        let ended = tokio::time::timeout(Duration::from_secs(60), old.closed()).await;

        assert_eq!(answer, b"through the tunnel");
        assert!(ended.is_ok(), "nothing of it can pass any more");
    });
    let tunnelled = trace
        .sightings
        .iter()
        .any(|one| one.cable.as_str() == "tunnel");
    assert!(tunnelled);
}

#[test]
fn one_seed_is_one_shape_with_tls_and_quic_and_all() {
    let shape = || {
        let played = run(scenario("open"), Seed(1), |sim| async move {
            let mut site = Site::new(sim);
            let (agent, relay) = site.connect(AUTO).await;
            ask(&relay, &agent.session, &[7; 200_000]).await;
            tokio::time::timeout(Duration::from_secs(120), relay.closed())
                .await
                .ok();
        });
        played.1
    };

    assert_eq!(shape().difference(&shape()), None);
}
