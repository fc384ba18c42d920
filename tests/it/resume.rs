//! Streams that outlive their connections, with real programs and a line that is cut.

use tests::{Agent, AgentSetup, Cable, Relay, RelaySetup, SOON, Service};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The first try comes within a second, and the machine is busy.
const WAIT: std::time::Duration = SOON.saturating_mul(3);

const KIB: usize = 1024;

/// A connection to an echo beside the agent, by way of an operator's forward.
struct Echo {
    stream: TcpStream,
    sent: usize,
}

impl Echo {
    fn part(&self, length: usize) -> Vec<u8> {
        let byte = |at: usize| ((at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
        (self.sent..self.sent + length).map(byte).collect()
    }

    /// Sends so much, which need not arrive.
    async fn send(&mut self, length: usize) -> Vec<u8> {
        let part = self.part(length);
        self.stream
            .write_all(&part)
            .await
            .expect("the stream goes on");
        self.sent += length;
        part
    }

    /// Has so much come back.
    async fn expect(&mut self, part: &[u8]) {
        let mut back = vec![0; part.len()];
        let read = self.stream.read_exact(&mut back);
        let read = tokio::time::timeout(WAIT, read).await;
        read.expect("bytes go on").expect("the stream goes on");
        assert!(back == part, "other bytes came back");
    }
}

struct Site {
    relay: Relay,
    cable: Cable,
    _agent: Agent,
    _forward: tests::Process,
    _service: Service,
    echo: Echo,
}

async fn site(transport: &'static str, relay: RelaySetup) -> Site {
    let service = Service::echo().await;
    let relay = Relay::start_with(relay).await;
    let cable = Cable::to(&relay).await;
    let token = relay.add("acme").await;
    let setup = AgentSetup::through(&token, &cable)
        .over(transport)
        .allowing(service.address);
    let agent = Agent::start(setup);
    relay.shows("acme", "online", SOON).await;
    let target = format!("tcp:{}", service.address);
    let (forward, port) = relay.forward("acme", &target).await;
    let stream = TcpStream::connect(port).await.expect("forward listens");
    Site {
        relay,
        cable,
        _agent: agent,
        _forward: forward,
        _service: service,
        echo: Echo { stream, sent: 0 },
    }
}

async fn goes_on_over(transport: &'static str) {
    let mut site = site(transport, RelaySetup::default()).await;
    let before = site.relay.environment("acme").await;
    let part = site.echo.send(64 * KIB).await;
    site.echo.expect(&part).await;

    for _ in 0..3 {
        site.cable.cut();
        let part = site.echo.send(64 * KIB).await;
        site.relay.shows("acme", "reconnecting", WAIT).await;
        site.cable.heal();
        site.echo.expect(&part).await;
    }

    let after = site.relay.environment("acme").await;
    assert_eq!(after["session"]["epoch"], before["session"]["epoch"]);
    let resumed = ["result=\"resumed\""];
    let resumed = site.relay.metric("sternline_relay_resumes_total", &resumed);
    assert!(resumed.await >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_goes_on_after_each_of_three_cuts_over_quic() {
    goes_on_over("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_goes_on_after_each_of_three_cuts_over_websocket() {
    goes_on_over("ws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_goes_on_after_each_of_three_cuts_over_https() {
    goes_on_over("ws-443").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_goes_on_by_websocket_where_quic_is_lost() {
    let mut site = site("auto", RelaySetup::default()).await;
    let part = site.echo.send(64 * KIB).await;
    site.echo.expect(&part).await;

    site.cable.drop_udp();
    let part = site.echo.send(64 * KIB).await;
    site.echo.expect(&part).await;

    let after = site.relay.environment("acme").await;
    assert_eq!(after["session"]["transport"], "ws", "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_where_its_session_is_not_resumed_in_time() {
    let relay = RelaySetup {
        config: Some("[sessions]\nresume_window = \"1s\"\n".to_owned()),
        ..RelaySetup::default()
    };
    let mut site = site("ws", relay).await;
    let part = site.echo.send(KIB).await;
    site.echo.expect(&part).await;

    site.cable.cut();

    let mut rest = Vec::new();
    let ended = site.echo.stream.read_to_end(&mut rest);
    let ended = tokio::time::timeout(WAIT, ended).await;
    drop(ended.expect("the stream hangs"));
    site.relay.shows("acme", "offline", WAIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_once_where_the_relay_has_restarted_and_knows_the_session_no_more() {
    let mut site = site("ws", RelaySetup::default()).await;
    let part = site.echo.send(KIB).await;
    site.echo.expect(&part).await;
    let before = site.relay.environment("acme").await;

    site.relay.restart().await;

    site.relay
        .shows_another_session("acme", &before, WAIT)
        .await;
    let unknown = ["result=\"unknown\""];
    let unknown = site.relay.metric("sternline_relay_resumes_total", &unknown);
    assert!(unknown.await >= 1.0);
    let mut rest = Vec::new();
    let ended = site.echo.stream.read_to_end(&mut rest);
    let ended = tokio::time::timeout(WAIT, ended).await;
    drop(ended.expect("the stream hangs"));
}
