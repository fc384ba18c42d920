//! An agent that is made of parts, as a simulator runs it: in memory, without I/O, and
//! ended by being dropped.

use std::{io, net::SocketAddr, sync::Arc};

use agent::{
    audit::{self, Event, Kept},
    dialling::Dialling,
    gateways::Gateways,
    host::{Host, Vitals},
    node::{self, Node, Parts},
    nudge::Nudges,
    policy::Policy,
    policy_file::PolicyInForce,
    state_dir::StateDir,
    status::{Board, State},
};
use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};
use tunnel::{
    Notifier, World,
    process::ProcessFigures,
    world::{AsyncUdpSocket, BoxIo, Net, SimulatedSocket, TargetEnd, TargetSocket},
};
use wire::{
    handshake::Credential,
    key::{PublicKey, Secret},
    token::{EnrolToken, RelayAddress},
    transport::Transport,
};

use crate::{DEADLINE, eventually, open, relay::Relay};

fn parts(world: World, state: &StateDir, token: Option<EnrolToken>) -> (Parts, Kept) {
    let start = node::begin(&world, state, Ok(token)).unwrap();
    let (audit, kept) = audit::keep(100);
    let parts = Parts {
        world,
        state: state.clone(),
        start,
        dialling: Dialling {
            transport: Some(Transport::Ws),
            ..Dialling::default()
        },
        docker_socket: "/docker.sock".into(),
        policy: PolicyInForce::for_ever(Policy::default()),
        policy_path: "/policy.toml".into(),
        audit,
        gateways: Gateways::Fixed(Vec::new()),
        host: Host {
            hostname: "host".into(),
            os: "os".into(),
            arch: "arch".into(),
            kernel: "kernel".into(),
        },
        vitals: Vitals::Fixed(ProcessFigures::default()),
        sandbox: "none".into(),
        notifier: Notifier::silent(),
        nudges: Nudges::default(),
    };
    (parts, kept)
}

/// Every state that the board tells of, one after another.
fn states(board: &Board) -> watch::Receiver<Vec<State>> {
    let (sender, told) = watch::channel(Vec::new());
    board.on_change(Box::new(move |status| {
        sender.send_if_modified(|told: &mut Vec<State>| {
            let is_new = told.last() != Some(&status.state);
            if is_new {
                told.push(status.state);
            }
            is_new
        });
    }));
    told
}

/// A host without any network, on which the Docker Engine echoes.
#[derive(Debug)]
struct Alone;

#[async_trait]
impl Net for Alone {
    async fn connect_tcp(&self, _: SocketAddr) -> io::Result<BoxIo> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }

    fn connect_udp(&self, _: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }

    async fn connect_target(&self, _: TargetEnd<'_>) -> io::Result<TargetSocket> {
        let (near, far) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(far);
            drop(tokio::io::copy(&mut read, &mut write).await);
            drop(write.shutdown().await);
        });
        Ok(TargetSocket::Simulated(SimulatedSocket::new(Box::new(
            near,
        ))))
    }
}

/// A host with the kernel's network, and that Engine.
#[derive(Debug)]
struct WithEngine(Arc<dyn Net>);

#[async_trait]
impl Net for WithEngine {
    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<BoxIo> {
        self.0.connect_tcp(address).await
    }

    fn connect_udp(&self, peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.0.connect_udp(peer)
    }

    async fn connect_target(&self, target: TargetEnd<'_>) -> io::Result<TargetSocket> {
        Alone.connect_target(target).await
    }
}

#[test]
fn a_node_lives_in_virtual_time_without_io_and_tells_every_state() {
    tunnel::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = World {
        net: Arc::new(Alone),
        ..World::real()
    };
    let token = EnrolToken {
        addresses: vec![RelayAddress {
            host: "192.0.2.1".into(),
            tunnel_port: 8000,
            https_port: 443,
        }],
        relay_identity: PublicKey([3; 32]),
        secret: Secret::from_bytes([7; 32]),
        expires_unix_seconds: i64::MAX,
        environment: "berlin".into(),
    };
    let told = runtime.block_on(async {
        let (parts, _) = parts(world, &StateDir::in_memory(), Some(token));
        let node = Node::new(parts);
        let (mut told, stop) = (states(&node.board()), node.stop());
        let running = tokio::spawn(node.run());
        told.wait_for(|told| told.len() > 100).await.unwrap();
        stop.cancel();
        running.await.unwrap().unwrap();
        told.borrow().clone()
    });

    let (last, before) = told.split_last().unwrap();
    assert_eq!(*last, State::Stopped);
    let before = before.strip_prefix(&[State::Enrolling]).unwrap_or(before);
    for pair in before.chunks_exact(2) {
        assert_eq!(pair, [State::BackingOff, State::Enrolling]);
    }
}

#[tokio::test]
async fn a_node_that_crashes_starts_again_as_the_same_agent_for_the_second_time() {
    let mut relay = Relay::start().await;
    let (state, token) = (StateDir::in_memory(), relay.token(7, "berlin"));
    let (first, _) = parts(World::real(), &state, token.parse().ok());
    let node = Node::new(first);
    let (board, told) = (node.board(), states(&node.board()));
    let running = tokio::spawn(node.run());
    let welcomed = relay.welcomed().await;
    let expected = Some(welcomed.session.id().to_string());
    eventually(|| (board.view().session_id == expected).then_some(())).await;

    running.abort();

    tokio::time::timeout(DEADLINE, welcomed.session.closed())
        .await
        .expect("what the node had opened ends with it");
    let (second, _) = parts(World::real(), &state, None);
    let _running = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(Node::new(second).run()));
    let hello = relay.welcomed().await.hello;
    assert!(
        matches!(
            hello.credential,
            Credential::Known {
                start_counter: 2,
                ..
            }
        ),
        "{:?}",
        hello.credential
    );
    assert_eq!(told.borrow().last(), Some(&State::Online));
}

#[tokio::test]
async fn streams_reach_a_simulated_engine_and_end_each_way_apart() {
    let mut relay = Relay::start().await;
    let world = World {
        net: Arc::new(WithEngine(World::real().net)),
        ..World::real()
    };
    let token = relay.token(7, "berlin");
    let (parts, kept) = parts(world, &StateDir::in_memory(), token.parse().ok());
    let node = Node::new(parts);
    let _running = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(node.run()));
    let session = relay.welcomed().await.session;

    let mut stream = open(&session, "docker", b"").await;
    stream.accepted().await.unwrap();
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();

    assert_eq!(answer, [7; 100_000]);
    let ended = |event: &Event| matches!(event, Event::Ended { outcome, .. } if outcome == "ok");
    eventually(|| {
        kept.newest()
            .last()
            .is_some_and(|line| ended(&line.event))
            .then_some(())
    })
    .await;
    assert_eq!(kept.total(), 2);
}
