//! The relay's side of the probe, over real TCP and QUIC.

use std::{fs, net::SocketAddr, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use probe::protocol::{
    ALPN, Door, ECHO_PATH, Echo, REPORT_PATH, Request, SOCKET_PATH, SUBPROTOCOL, Stage,
    WITNESS_PATH, Witness,
};
use quinn::crypto::rustls::QuicClientConfig;
use serde_json::{Value, json};
use tests::{Agent, AgentSetup, Relay, RelaySetup, SOON, eventually};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::ClientRequestBuilder},
};

fn config(relay: &Relay, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(relay.data_dir().join("ca.crt")).expect("a certificate");
    roots.add(ca).expect("a CA");
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn tls(relay: &Relay, door: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(door).await.expect("the relay listens");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config(relay, b"http/1.1")))
        .connect(name, stream)
        .await
        .expect("TLS")
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn socket(relay: &Relay, door: SocketAddr) -> Result<Socket, Error> {
    let uri = format!("wss://localhost:{}{SOCKET_PATH}", door.port());
    let request = ClientRequestBuilder::new(uri.parse().expect("a URI"))
        .with_sub_protocol(SUBPROTOCOL)
        .with_header("x-test", "yes");
    let tls = tls(relay, door).await;
    let (socket, _) = tokio_tungstenite::client_async(request, tls).await?;
    Ok(socket)
}

async fn hear(socket: &mut Socket) -> Vec<u8> {
    match socket.next().await {
        Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
        other => panic!("no message: {other:?}"),
    }
}

async fn get(relay: &Relay, door: SocketAddr, path: &str) -> (u16, String) {
    let url = format!("https://localhost:{}{path}", door.port());
    let request = relay.client().get(url).header("x-test", "yes");
    let answer = request.send().await.expect("the relay answers");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("text"))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn off() -> Relay {
    Relay::start_with(RelaySetup {
        config: Some("[probe]\nenabled = false\n".into()),
        ..RelaySetup::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tcp_doors_echo_the_asker_and_the_witness_knows_who_came() {
    let relay = Relay::start().await;
    let mut ports = Vec::new();

    for door in [relay.https, relay.tunnel] {
        let (status, text) = get(&relay, door, ECHO_PATH).await;
        assert_eq!(status, 200, "{text}");
        let echo: Echo = read(&text);
        assert_eq!(echo.from.ip(), door.ip());
        let has_header = |(name, value): &(String, String)| name == "x-test" && value == "yes";
        assert!(echo.headers.iter().any(has_header), "{echo:?}");
        ports.push(echo.from.port());
    }

    drop(TcpStream::connect(relay.tunnel).await.expect("it listens"));
    let (_, text) = get(&relay, relay.https, WITNESS_PATH).await;
    let witness: Witness = read(&text);
    for (port, door) in ports.iter().zip([Door::Https, Door::TunnelTcp]) {
        let seen = witness.arrivals.iter().find(|one| one.from_port == *port);
        let seen = seen.unwrap_or_else(|| panic!("{port} is missing: {witness:?}"));
        assert_eq!((seen.door, seen.stage), (door, Stage::Asked));
    }
    let on_tunnel = |one: &&probe::protocol::Arrival| one.door == Door::TunnelTcp;
    let last = witness.arrivals.iter().rfind(on_tunnel);
    let stage = last.map(|one| one.stage);
    assert!(
        matches!(stage, Some(Stage::Arrived | Stage::BrokenOff)),
        "{witness:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_measures_on_both_tcp_doors_and_ends_who_talks_garbage() {
    let relay = Relay::start().await;

    for door in [relay.https, relay.tunnel] {
        let mut socket = socket(&relay, door).await.expect("a socket");
        let echo: Echo = read(&String::from_utf8_lossy(&hear(&mut socket).await));
        assert_eq!(echo.from.ip(), door.ip());
        assert!(echo.headers.iter().any(|(name, _)| name == "x-test"));
        let back = Request::Back(vec![5; 60_000]).encode();
        for request in [
            Request::Back(vec![5; 60_000]),
            Request::Forget(vec![1; 10]),
            Request::Send(65_536),
            Request::Later(std::time::Duration::from_millis(1)),
        ] {
            let message = Message::Binary(request.encode().into());
            socket.send(message).await.expect("the socket is open");
        }
        assert_eq!(hear(&mut socket).await, back);
        let mut left = [hear(&mut socket).await, hear(&mut socket).await];
        left.sort_by_key(Vec::len);
        assert_eq!(left, [vec![3], vec![0; 65_536]]);

        let garbage = Message::Binary(vec![99].into());
        socket.send(garbage).await.expect("the socket is open");
        let end = socket.next().await;
        assert!(
            matches!(&end, Some(Ok(Message::Close(Some(frame)))) if frame.reason.contains("no request")),
            "{end:?}"
        );
    }
    let answered = relay.metric(
        "sternline_relay_probe_requests_total",
        &["socket", "answered"],
    );
    assert_eq!(answered.await as u64, 2);
    eventually("the places are free again", SOON, async || {
        let open = relay
            .metric("sternline_relay_probe_sockets_open", &[])
            .await;
        (open == 0.0).then_some(())
    })
    .await;
}

async fn quic(relay: &Relay, alpn: &[u8]) -> Result<quinn::Connection, quinn::ConnectionError> {
    let crypto = QuicClientConfig::try_from(config(relay, alpn)).expect("a suite for QUIC");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut endpoint = quinn::Endpoint::client(any).expect("a UDP socket");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let connecting = endpoint.connect(relay.tunnel, "localhost");
    connecting.expect("a name that TLS takes").await
}

async fn say(send: &mut quinn::SendStream, request: &Request) {
    let message = request.encode();
    let length = u32::try_from(message.len()).expect("a message is short");
    send.write_all(&length.to_be_bytes()).await.expect("open");
    send.write_all(&message).await.expect("open");
}

async fn heard(recv: &mut quinn::RecvStream) -> Vec<u8> {
    let mut length = [0; 4];
    recv.read_exact(&mut length).await.expect("a length");
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    recv.read_exact(&mut message).await.expect("a message");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_echoes_beside_the_tunnel_and_an_agent_still_comes_by_it() {
    let relay = Relay::start().await;
    let connection = quic(&relay, ALPN).await.expect("the probe is spoken");
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");

    let back = Request::Back(vec![9; 50_000]);
    say(&mut send, &back).await;
    let echo: Echo = read(&String::from_utf8_lossy(&heard(&mut recv).await));
    assert_eq!(echo.from.ip(), relay.tunnel.ip());
    assert_eq!(heard(&mut recv).await, back.encode());

    let (_, text) = get(&relay, relay.https, WITNESS_PATH).await;
    let witness: Witness = read(&text);
    let seen = |one: &&probe::protocol::Arrival| one.from_port == echo.from.port();
    let seen = witness.arrivals.iter().find(seen).expect("it was seen");
    assert_eq!((seen.door, seen.stage), (Door::TunnelUdp, Stage::Asked));

    send.write_all(&[255; 4]).await.expect("open");
    let why = connection.closed().await;
    assert!(
        matches!(&why, quinn::ConnectionError::ApplicationClosed(close)
            if close.error_code == 1_u32.into()),
        "{why:?}"
    );
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).over("quic"));
    relay.shows("acme", "online", SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_switched_off_is_not_there() {
    let relay = off().await;

    for door in [relay.https, relay.tunnel] {
        for path in [ECHO_PATH, WITNESS_PATH, SOCKET_PATH] {
            assert_eq!(get(&relay, door, path).await.0, 404, "{path}");
        }
        let refused = socket(&relay, door).await.expect_err("there is none");
        assert!(
            matches!(&refused, Error::Http(answer) if answer.status() == 404),
            "{refused}"
        );
    }
    assert_eq!(get(&relay, relay.https, "/probe").await.0, 404);
    let refused = quic(&relay, ALPN).await.expect_err("it is not spoken");
    assert!(
        matches!(refused, quinn::ConnectionError::ConnectionClosed(_)),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_hands_out_the_file_that_its_checksum_is_of() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("program");
    fs::write(&program, vec![7; 3_000_000]).expect("a file in a temporary folder");
    let relay = Relay::start_with(RelaySetup {
        config: Some(format!("[probe]\nprogram = {program:?}\n")),
        ..RelaySetup::default()
    })
    .await;

    let (status, page) = get(&relay, relay.https, "/probe").await;
    let (_, checksum) = get(&relay, relay.https, "/probe/sternline-probe.sha256").await;
    let url = format!(
        "https://localhost:{}/probe/sternline-probe",
        relay.https.port()
    );
    let answer = relay.client().get(url).send().await.expect("it answers");
    let served = answer.bytes().await.expect("all of it");

    assert_eq!(status, 200);
    assert!(served == fs::read(&program).expect("the file is there"));
    fs::write(folder.path().join("sternline-probe"), &served).expect("a file");
    fs::write(folder.path().join("sum"), &checksum).expect("a file");
    let checked = tokio::process::Command::new("sha256sum")
        .args(["-c", "sum"])
        .current_dir(folder.path())
        .output()
        .await
        .expect("sha256sum runs");
    assert!(checked.status.success(), "{checked:?}");
    let sha256 = checksum.split_whitespace().next().expect("a checksum");
    assert!(page.contains(sha256), "{page}");
    let ports = format!(
        "./sternline-probe localhost --https-port {} --tunnel-port {} --pin ed25519:",
        relay.https.port(),
        relay.tunnel.port()
    );
    assert!(page.contains(&ports), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_with_a_token_is_shown_and_the_token_still_enrols() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let report = json!({
        "kind": "sternline-probe report", "version": 1, "verdict": "degraded",
        "flows": [{
            "flow": "quic", "port": 8000, "protocol": "udp", "verdict": "blocked",
            "causes": [{ "code": "firewall-drop", "says": "A firewall drops UDP." }],
        }],
    });
    let url = format!("https://localhost:{}{REPORT_PATH}", relay.https.port());

    let kept = relay.client().post(url).bearer_auth(&token).json(&report);
    let kept = kept.send().await.expect("the relay answers");

    assert_eq!(kept.status(), 204);
    let shown: Value = relay.environment("acme").await;
    assert_eq!(shown["probe"]["verdict"], "degraded");
    let printed = relay.operator(&["env", "show", "acme"]).await.success();
    assert!(
        printed.contains("quic 8000/udp: blocked: A firewall drops UDP."),
        "{printed}"
    );
    let _agent = Agent::start(AgentSetup::with_token(token).over("ws"));
    relay.shows("acme", "online", SOON).await;
}
