//! Sessions over real sockets on loopback, both transports, both ends ours.

#![expect(clippy::disallowed_methods, reason = "real sockets are what is tested")]
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that fails is a test that fails"
)]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
};
use tunnel::{
    Credential, DialOptions, IncomingStream, KeyPair, OpenRequest, Session, Stream,
    TransportChoice, Trust, World, dial,
    handshake::Connection,
    websocket,
    world::{AsyncUdpSocket, BoxIo, Net, TargetEnd, TargetSocket},
};
use wire::{
    close::{CloseCode, RefusalCode, ResetCode},
    handshake::{EXPORTER_LABEL, Refusal, Welcome},
    id::{AgentId, Epoch, InstanceId, RequestId, SessionId},
    key::Secret,
    target::Target,
    token::RelayAddress,
    transport::Transport,
};

const DEADLINE: Duration = Duration::from_secs(20);

fn certificate() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    (vec![made.cert.der().clone()], key)
}

fn server_tls(alpn: &[u8]) -> Arc<rustls::ServerConfig> {
    let (chain, key) = certificate();
    let mut config = rustls::ServerConfig::builder_with_provider(tunnel::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

fn relay_key() -> KeyPair {
    KeyPair::from_seed(&Secret::from_bytes([1; 32]))
}

fn agent_key() -> KeyPair {
    KeyPair::from_seed(&Secret::from_bytes([2; 32]))
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
        // More than any dialler here asks for.
        resume_window: Duration::from_secs(3600),
    }
}

/// Accepts one connection and welcomes it, where its proof holds.
async fn serve(mut connection: Connection) -> Option<Session> {
    let hello = connection
        .challenge(&relay_key(), "node", [7; 32])
        .await
        .unwrap();
    if !hello.is_proven_by(&agent_key().public(), &tunnel::crypto::verify) {
        connection
            .refuse(&Refusal::new(RefusalCode::BadProof))
            .await;
        return None;
    }
    let (session, driver) = connection
        .welcome(&World::real(), &welcome(), Arc::new(()))
        .await
        .unwrap();
    tokio::spawn(driver);
    Some(session)
}

/// A relay that accepts one session; gives its port.
async fn relay(transport: Transport) -> (u16, tokio::task::JoinHandle<Option<Session>>) {
    tunnel::install_crypto_provider();
    let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    if transport == Transport::Quic {
        let socket = std::net::UdpSocket::bind(local).unwrap();
        let port = socket.local_addr().unwrap().port();
        let endpoint = tunnel::quic::server(
            tunnel::socket::accepting(socket, |_| ()).unwrap(),
            server_tls(tunnel::tls::ALPN_QUIC),
            &Secret::from_bytes([6; 32]),
            &World::real(),
        )
        .unwrap();
        let served = tokio::spawn(async move {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let session = serve(Connection::over_accepted_quic(connection).await.unwrap()).await;
            tokio::spawn(async move { endpoint.wait_idle().await });
            session
        });
        return (port, served);
    }
    let listener = TcpListener::bind(local).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(server_tls(tunnel::tls::ALPN_HTTP));
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let tls = acceptor.accept(Box::new(tcp) as BoxIo).await.unwrap();
        let exporter = tls
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
            .unwrap();
        let (websocket, _) = websocket::accept(tls).await.unwrap();
        serve(Connection::over_websocket(
            websocket,
            exporter,
            Transport::Ws,
        ))
        .await
    });
    (port, served)
}

fn options(port: u16, transport: Transport, identity: &KeyPair) -> DialOptions {
    let addresses = vec![RelayAddress {
        host: "127.0.0.1".into(),
        tunnel_port: port,
        https_port: port,
    }];
    let who = ("test".into(), InstanceId::from_bytes([3; 16]));
    DialOptions {
        transports: TransportChoice::Only(transport),
        ..DialOptions::new(addresses, Trust::Identity(identity.public()), who)
    }
}

fn credential(key: KeyPair) -> Credential {
    Credential::Known {
        agent_id: AgentId::from_bytes([4; 16]),
        key,
        start_counter: 1,
    }
}

/// Both ends of a session: the dialler's and the acceptor's.
async fn pair(transport: Transport) -> (Session, Session) {
    let (port, served) = relay(transport).await;
    let dialled = dial(
        &World::real(),
        &options(port, transport, &relay_key()),
        &credential(agent_key()),
    )
    .await
    .unwrap();
    (dialled.session, served.await.unwrap().unwrap())
}

fn request(first_bytes: &'static [u8]) -> OpenRequest {
    OpenRequest {
        environment: String::new(),
        target: Target::Docker,
        principal: "test".into(),
        request_id: RequestId::from_bytes([5; 16]),
        first_bytes: Bytes::from_static(first_bytes),
    }
}

async fn accept(session: &Session) -> IncomingStream {
    tokio::time::timeout(DEADLINE, session.accept())
        .await
        .unwrap()
        .unwrap()
}

/// A stream from the acceptor to the dialler, as a relay opens one to an agent.
async fn stream_pair(agent: &Session, relay: &Session) -> (Stream, Stream) {
    let mut opened = relay.open(request(b"")).await.unwrap();
    let accepted = accept(agent).await.accept();
    opened.accepted().await.unwrap();
    (opened, accepted)
}

/// Bytes that differ by their place and by `seed`.
fn pattern(seed: u8) -> Vec<u8> {
    (0..=u8::MAX)
        .cycle()
        .take(65_521)
        .map(|byte| byte.wrapping_mul(seed))
        .collect()
}

/// Depends on every byte and on the order.
fn check_sum<'a>(sum: u64, bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(sum, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    })
}

/// A host on which nobody listens.
#[derive(Debug)]
struct NobodyListens;

#[async_trait::async_trait]
impl Net for NobodyListens {
    async fn connect_tcp(&self, _: SocketAddr) -> io::Result<BoxIo> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn connect_udp(&self, _: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    async fn connect_target(&self, _: TargetEnd<'_>) -> io::Result<TargetSocket> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[tokio::test]
async fn a_dial_that_is_refused_everywhere_waits_for_nothing() {
    tunnel::install_crypto_provider();
    let world = World {
        net: Arc::new(NobodyListens),
        ..World::real()
    };
    for transports in [
        TransportChoice::Only(Transport::Ws),
        TransportChoice::Only(Transport::Quic),
        TransportChoice::Auto,
    ] {
        let options = DialOptions {
            transports,
            ..options(9, Transport::Ws, &relay_key())
        };
        let credential = credential(agent_key());
        let dialling = dial(&world, &options, &credential);

        // The net refuses at once: whatever takes longer is a wait.
        let dialled = tokio::time::timeout(Duration::from_millis(500), dialling).await;

        assert!(matches!(dialled, Ok(Err(_))), "waits over {transports}");
    }
}

macro_rules! on_both_transports {
    ($(async fn $name:ident($transport:ident) $body:block)+) => {
        mod over_quic {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let run = async { let $transport = Transport::Quic; $body };
                    tokio::time::timeout(2 * DEADLINE, run).await.unwrap();
                }
            )+
        }
        mod over_websocket {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let run = async { let $transport = Transport::Ws; $body };
                    tokio::time::timeout(2 * DEADLINE, run).await.unwrap();
                }
            )+
        }
    };
}

on_both_transports! {
    async fn first_bytes_arrive_with_the_open_and_the_answer_comes_back(transport) {
        let (agent, relay) = pair(transport).await;

        let mut opened = relay.open(request(b"GET /")).await.unwrap();
        let incoming = accept(&agent).await;
        assert_eq!(incoming.open.principal, "test");
        let mut accepted = incoming.accept();
        let mut asked = [0; 5];
        accepted.read_exact(&mut asked).await.unwrap();
        accepted.write_all(b"200").await.unwrap();
        accepted.finish();

        opened.accepted().await.unwrap();
        let mut answer = Vec::new();
        opened.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&asked[..], &answer[..]), (&b"GET /"[..], &b"200"[..]));
    }

    async fn a_refused_open_carries_code_and_reason(transport) {
        let (agent, relay) = pair(transport).await;

        let mut opened = relay.open(request(b"")).await.unwrap();
        accept(&agent).await.reject(ResetCode::PolicyDenied, "not in the policy");

        let refused = opened.accepted().await.unwrap_err();
        assert_eq!(refused.code, ResetCode::PolicyDenied);
        assert_eq!(refused.reason, "not in the policy");
    }

    async fn megabytes_pass_whole_in_both_directions_at_once(transport) {
        const SIZE: usize = 24 * 1024 * 1024;
        let (agent, relay) = pair(transport).await;
        let (opened, accepted) = stream_pair(&agent, &relay).await;

        let push = |stream: Stream, seed: u8| {
            let (mut recv, mut send) = stream.into_split();
            let write = tokio::spawn(async move {
                let chunk = pattern(seed);
                let mut left = SIZE;
                while left > 0 {
                    let length = left.min(chunk.len());
                    send.write_all(&chunk[..length]).await.unwrap();
                    left -= length;
                }
                send.finish();
                // Kept until the peer has read it.
                send
            });
            let read = tokio::spawn(async move {
                let (mut total, mut sum) = (0_usize, 0_u64);
                while let Some(bytes) = recv.read_chunk(1 << 20).await.unwrap() {
                    total += bytes.len();
                    sum = check_sum(sum, bytes.iter());
                }
                (total, sum)
            });
            (write, read)
        };
        let expected = |seed: u8| check_sum(0, pattern(seed).iter().cycle().take(SIZE));
        let (write_a, read_a) = push(opened, 3);
        let (write_b, read_b) = push(accepted, 5);

        assert_eq!(read_a.await.unwrap(), (SIZE, expected(5)));
        assert_eq!(read_b.await.unwrap(), (SIZE, expected(3)));
        let (_, _) = (write_a.await.unwrap(), write_b.await.unwrap());
    }

    async fn a_stalled_stream_does_not_hold_up_another(transport) {
        let (agent, relay) = pair(transport).await;
        let (mut stalled, _unread) = stream_pair(&agent, &relay).await;
        let fill = tokio::spawn(async move {
            let chunk = Bytes::from(vec![0; 64 * 1024]);
            loop {
                if stalled.write_chunk(chunk.clone()).await.is_err() {
                    return;
                }
            }
        });

        let (mut asking, mut answering) = stream_pair(&agent, &relay).await;
        for _ in 0..50 {
            asking.write_all(b"ping").await.unwrap();
            let mut asked = [0; 4];
            answering.read_exact(&mut asked).await.unwrap();
            answering.write_all(&asked).await.unwrap();
            asking.read_exact(&mut asked).await.unwrap();
        }
        fill.abort();
    }

    async fn a_dropped_stream_is_cancelled_at_the_far_end(transport) {
        let (agent, relay) = pair(transport).await;
        let (opened, mut accepted) = stream_pair(&agent, &relay).await;

        drop(opened);

        let broken = accepted.read_chunk(1).await.unwrap_err();
        assert_eq!(broken.code, ResetCode::Cancelled);
    }

    async fn the_close_code_and_its_reason_reach_the_peer(transport) {
        let (agent, relay) = pair(transport).await;
        let (mut opened, _accepted) = stream_pair(&agent, &relay).await;

        relay.close(CloseCode::Revoked, "removed");

        let closed = tokio::time::timeout(DEADLINE, agent.closed()).await.unwrap();
        assert_eq!((closed.code, closed.is_by_peer), (CloseCode::Revoked, true));
        assert_eq!(closed.reason, "removed");
        assert_eq!(opened.read_chunk(1).await.unwrap_err().code, ResetCode::SessionEnded);
    }

    async fn dropping_the_last_handle_closes_the_session_in_order(transport) {
        let (agent, relay) = pair(transport).await;

        drop(agent);

        let closed = tokio::time::timeout(DEADLINE, relay.closed()).await.unwrap();
        assert_eq!((closed.code, closed.is_by_peer), (CloseCode::Shutdown, true));
    }

    async fn a_relay_with_another_identity_is_not_dealt_with(transport) {
        let (port, _served) = relay(transport).await;
        let other = KeyPair::from_seed(&Secret::from_bytes([9; 32]));

        let options = options(port, transport, &other);
        let dialled = dial(&World::real(), &options, &credential(agent_key())).await;
        let failed = dialled.unwrap_err();

        assert_eq!(failed.kind(), "wrong_identity", "{failed}");
    }

    async fn a_key_that_is_not_on_record_is_refused_with_the_reason(transport) {
        let (port, _served) = relay(transport).await;
        let other = KeyPair::from_seed(&Secret::from_bytes([9; 32]));

        let options = options(port, transport, &relay_key());
        let dialled = dial(&World::real(), &options, &credential(other)).await;
        let failed = dialled.unwrap_err();

        assert_eq!(failed.refusal(), Some(RefusalCode::BadProof), "{failed}");
    }

    async fn a_splice_preserves_the_half_close_both_ways(transport) {
        let (agent, relay) = pair(transport).await;
        let (opened, accepted) = stream_pair(&agent, &relay).await;
        let (mut client, client_side) = UnixStream::pair().unwrap();
        let (server_side, mut server) = UnixStream::pair().unwrap();
        let near = tokio::spawn(tunnel::splice(opened, client_side));
        let far = tokio::spawn(tunnel::splice(accepted, server_side));

        client.write_all(b"all of stdin").await.unwrap();
        client.shutdown().await.unwrap();
        let mut request = Vec::new();
        server.read_to_end(&mut request).await.unwrap();
        server.write_all(b"answered after the end").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();

        assert_eq!(request, b"all of stdin");
        assert_eq!(answer, b"answered after the end");
        assert!(near.await.unwrap().end.is_ok());
        assert!(far.await.unwrap().end.is_ok());
    }

    async fn a_client_that_vanishes_ends_what_it_asked_for(transport) {
        let (agent, relay) = pair(transport).await;
        let (opened, accepted) = stream_pair(&agent, &relay).await;
        let (client, client_side) = UnixStream::pair().unwrap();
        let (server_side, mut server) = UnixStream::pair().unwrap();
        tokio::spawn(tunnel::splice(opened, client_side));
        let far = tokio::spawn(tunnel::splice(accepted, server_side));

        drop(client);

        // The server sees the end, and soon that nobody reads any more.
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        far.await.unwrap();
        assert!(server.write_all(b"late").await.is_err());
    }

    async fn an_answer_given_before_the_request_was_all_sent_arrives_whole(transport) {
        let (agent, relay) = pair(transport).await;
        let (opened, accepted) = stream_pair(&agent, &relay).await;
        let (client, client_side) = UnixStream::pair().unwrap();
        let (server_side, mut server) = UnixStream::pair().unwrap();
        tokio::spawn(tunnel::splice(opened, client_side));
        tokio::spawn(tunnel::splice(accepted, server_side));
        let (mut client_read, mut client_write) = client.into_split();
        let upload = tokio::spawn(async move {
            let chunk = vec![0; 64 * 1024];
            while client_write.write_all(&chunk).await.is_ok() {}
        });

        let mut head = [0; 1024];
        server.read_exact(&mut head).await.unwrap();
        server.write_all(b"413 too large").await.unwrap();
        drop(server);

        // As without a tunnel: the answer, and then the error of a server that has
        // closed without having read everything.
        let mut answer = [0; 13];
        client_read.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"413 too large");
        upload.abort();
    }
}

#[tokio::test]
async fn a_session_waits_for_no_longer_than_its_dialler_has_asked_whatever_the_relay_says() {
    for transport in [Transport::Ws, Transport::Quic] {
        let (agent, relay) = pair(transport).await;

        // The connection is gone, and nothing was said of the session.
        relay.abort(CloseCode::ConnectionLost, "");

        let closed = tokio::time::timeout(DEADLINE, agent.closed()).await;
        let closed = closed.expect("the dialler asked for no resumption");
        assert_eq!(closed.code, CloseCode::ConnectionLost, "over {transport}");
    }
}
