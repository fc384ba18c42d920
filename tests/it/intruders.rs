//! Clients that are no clients: garbage, silence, and half a handshake, on every door.
//! Each is dropped under the handshake's deadline and counted; nobody else notices.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tests::{Agent, AgentSetup, Relay, SOON, eventually};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Ten seconds to a finished handshake, and what a busy machine adds.
const DEADLINE: Duration = Duration::from_secs(16);

const UPGRADE: &str = "GET /tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn is_dropped(what: &str, mut stream: impl AsyncRead + AsyncWrite + Unpin, sent: &[u8]) {
    let begun = Instant::now();
    // It may be dropped while we are still sending.
    drop(stream.write_all(sent).await);
    drop(stream.flush().await);
    let mut answer = Vec::new();

    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;

    assert!(
        ended.is_ok(),
        "{what}: still open after {:?}",
        begun.elapsed()
    );
    assert!(
        answer.len() < 4_096,
        "{what}: got {} bytes of answer",
        answer.len()
    );
}

async fn tls(relay: &Relay, https: bool) -> TlsStream<TcpStream> {
    let address = if https { relay.https } else { relay.tunnel };
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(relay.data_dir().join("ca.crt")).expect("a certificate");
    roots.add(ca).expect("a CA");
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address)
        .await
        .expect("the relay listens");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("TLS")
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_tcp_are_dropped_under_the_deadline() {
    let relay = Relay::start().await;
    let agent = Agent::start(AgentSetup::with_token(relay.add("acme").await).over("ws"));
    let before = relay.shows("acme", "online", SOON).await;

    let mut strangers = tokio::task::JoinSet::new();
    for door in [relay.https, relay.tunnel] {
        let openings: [(&str, Vec<u8>); 5] = [
            ("silence", Vec::new()),
            ("garbage", vec![0xA5; 100_000]),
            ("plain HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
            ("half a ClientHello", vec![0x16, 3, 1, 2, 0, 1, 0]),
            (
                "a record of the largest length",
                vec![0x16, 3, 1, 0xFF, 0xFF],
            ),
        ];
        for (what, sent) in openings {
            strangers.spawn(async move {
                let stream = TcpStream::connect(door).await.expect("the relay listens");
                is_dropped(what, stream, &sent).await;
            });
        }
    }
    for https in [true, false] {
        let openings: [(&str, Vec<u8>); 4] = [
            ("TLS and silence", Vec::new()),
            ("TLS and garbage", vec![0xA5; 100_000]),
            (
                "TLS and half a request",
                b"GET /tunnel HTTP/1.1\r\nHos".to_vec(),
            ),
            (
                "an upgrade and garbage",
                [UPGRADE.as_bytes(), &[0xA5; 10_000]].concat(),
            ),
        ];
        for (what, sent) in openings {
            let stream = tls(&relay, https).await;
            strangers.spawn(async move { is_dropped(what, stream, &sent).await });
        }
        let stream = tls(&relay, https).await;
        let sent = UPGRADE.as_bytes().to_vec();
        strangers.spawn(async move { is_dropped("an upgrade and silence", stream, &sent).await });
    }
    strangers.join_all().await;

    let after = relay.environment("acme").await;
    assert_eq!(
        after["session"]["epoch"], before["session"]["epoch"],
        "the agent was disturbed"
    );
    let counted = relay.metric("sternline_relay_refusals_total", &[]).await;
    assert!(
        counted >= 10.0,
        "only {counted} of 20 strangers were counted"
    );
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let relay = Relay::start().await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(
            TcpStream::connect(relay.tunnel)
                .await
                .expect("the relay listens"),
        );
        crowd.push(
            TcpStream::connect(relay.https)
                .await
                .expect("the relay listens"),
        );
    }

    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).over("ws"));

    relay.shows("acme", "online", Duration::from_secs(30)).await;
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_udp_disturbs_nobody() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).over("quic"));
    let before = relay.shows("acme", "online", SOON).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    socket.connect(relay.tunnel).await.expect("loopback");

    for length in [0, 1, 7, 20, 1_199, 1_200, 1_452, 9_000] {
        for first in [0x00, 0x40, 0xC0, 0xC3, 0xFF] {
            let mut datagram = vec![0x5A; length];
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            // QUIC version 1, so that some of it is looked into.
            if length > 5 {
                datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
            }
            for _ in 0..20 {
                drop(socket.send(&datagram).await);
            }
        }
    }

    let other = relay.add("other").await;
    let _second = Agent::start(AgentSetup::with_token(other).over("quic"));
    relay.shows("other", "online", SOON).await;
    let after = relay.environment("acme").await;
    assert_eq!(
        after["session"]["epoch"], before["session"]["epoch"],
        "the agent was disturbed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_credential_is_counted_by_its_reason() {
    let relay = Relay::start().await;
    let mut token: wire::token::EnrolToken =
        relay.add("acme").await.parse().expect("the relay made it");
    token.secret = wire::key::Secret::from_bytes([9; 32]);

    let _agent = Agent::start(AgentSetup::with_token(token.to_text()));

    eventually("the refusal is counted", SOON, async || {
        let text = relay.metrics_text().await;
        text.lines()
            .any(|line| line.contains("token_unknown") && !line.ends_with(" 0"))
            .then_some(())
    })
    .await;
}
