//! A relay whose every door has been used: what the series are to show has happened.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::json;
use tests::{Agent, AgentSetup, Process, Relay, RelaySetup, SOON, Service, exchange};
use tokio::net::TcpStream;

/// See the module.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) relay: Relay,
    pub(crate) agent: Agent,
    /// Open and silent, so that heartbeats come every two seconds.
    _silent: TcpStream,
    _forwards: Vec<Process>,
    _service: Service,
    /// An operator's port to the service.
    pub(crate) port: SocketAddr,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let service = Service::echo().await;
        let config = "[metrics]\nenvironments = true\n".to_owned();
        let relay = Relay::start_with(RelaySetup {
            config: Some(config),
            ..RelaySetup::default()
        })
        .await;
        let token = relay.add("acme").await;
        relay.add("nobody").await;
        let folder = relay.scratch("no-docker.sock");
        let setup = AgentSetup::with_token(&token).over("quic");
        let mut agent = Agent::start(setup.allowing(service.address).with_docker(&folder));
        relay.shows("acme", "online", SOON).await;
        agent.is_up().await;
        agent.restart().await;
        relay.shows("acme", "online", SOON).await;
        let mut thief = Agent::start(AgentSetup::with_token(&token).over("ws"));
        thief.process.ended(SOON).await;

        let target = format!("tcp:{}", service.address);
        let (forward, port) = relay.forward("acme", &target).await;
        let sent = exchange(port, &[1; 100_000]).await;
        sent.expect("the service answers");
        let (refused, closed) = relay.forward("acme", "tcp:127.0.0.1:1").await;
        drop(exchange(closed, b"no").await);
        let silent = expose(&relay, &target).await;
        drop(exchange(relay.tunnel, b"GET / HTTP/1.1\r\n\r\n").await);
        let stranger = relay.request_as("sta_wrong", Method::GET, "relay", None);
        assert_eq!(stranger.await.expect("an answer").0, 401);
        Self {
            relay,
            agent,
            _silent: silent,
            _forwards: vec![forward, refused],
            _service: service,
            port,
        }
    }
}

/// Exposes the target, and connects to it.
async fn expose(relay: &Relay, target: &str) -> TcpStream {
    let body = json!({ "environment": "acme", "target": target, "listen": "127.0.0.1:0" });
    let answer = relay.request(Method::POST, "exposures", Some(body)).await;
    let (status, exposure) = answer.expect("an answer");
    assert_eq!(status, 201, "{exposure}");
    let listen: SocketAddr = exposure["listen"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    TcpStream::connect(listen).await.expect("it listens")
}
