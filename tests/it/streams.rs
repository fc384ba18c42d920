//! Streams to TCP services: every byte, both ways, half-closes included, and nothing
//! that the customer's policy does not name.

use std::time::{Duration, Instant};

use tests::{Agent, AgentSetup, Relay, SOON, Service, eventually, exchange};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

/// Bytes in which a loss, a repetition or a swap shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

async fn carries_every_byte_over(transport: &'static str) {
    let echo = Service::echo().await;
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let setup = AgentSetup::with_token(token)
        .over(transport)
        .allowing(echo.address);
    let _agent = Agent::start(setup);
    relay.shows("acme", "online", SOON).await;
    let (_forward, port) = relay
        .forward("acme", &format!("tcp:{}", echo.address))
        .await;
    let sent = pattern(20 * 1024 * 1024);

    let received = exchange(port, &sent).await.expect("the service answers");

    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "bytes were changed on the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn carries_every_byte_over_quic() {
    carries_every_byte_over("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn carries_every_byte_over_websocket() {
    carries_every_byte_over("ws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn carries_every_byte_over_https() {
    carries_every_byte_over("ws-443").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_half_close_reaches_the_service() {
    let service = Service::adds_up().await;
    let relay = Relay::start().await;
    let _agent =
        Agent::start(AgentSetup::with_token(relay.add("acme").await).allowing(service.address));
    relay.shows("acme", "online", SOON).await;
    let (_forward, port) = relay
        .forward("acme", &format!("tcp:{}", service.address))
        .await;
    let sent = pattern(300_000);
    let sum: u64 = sent.iter().map(|byte| u64::from(*byte)).sum();

    let received = exchange(port, &sent).await.expect("the service answers");

    assert_eq!(String::from_utf8_lossy(&received), format!("300000 {sum}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_half_close_reaches_the_operator_who_may_go_on_sending() {
    let (heard, mut hears) = mpsc::channel(1);
    let service = Service::greets(heard).await;
    let relay = Relay::start().await;
    let _agent =
        Agent::start(AgentSetup::with_token(relay.add("acme").await).allowing(service.address));
    relay.shows("acme", "online", SOON).await;
    let (_forward, port) = relay
        .forward("acme", &format!("tcp:{}", service.address))
        .await;
    let mut stream = TcpStream::connect(port).await.expect("forward listens");

    let mut greeting = Vec::new();
    stream
        .read_to_end(&mut greeting)
        .await
        .expect("the service finishes");
    assert_eq!(greeting, b"welcome");
    stream
        .write_all(&pattern(100_000))
        .await
        .expect("the other direction is open");
    stream
        .shutdown()
        .await
        .expect("the other direction is open");

    let count = tokio::time::timeout(SOON, hears.recv())
        .await
        .expect("the service ends");
    assert_eq!(count, Some(100_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_the_policy_does_not_name_is_refused_by_name() {
    let allowed = Service::echo().await;
    let forbidden = Service::echo().await;
    let relay = Relay::start().await;
    let _agent =
        Agent::start(AgentSetup::with_token(relay.add("acme").await).allowing(allowed.address));
    relay.shows("acme", "online", SOON).await;
    let (forward, port) = relay
        .forward("acme", &format!("tcp:{}", forbidden.address))
        .await;

    let received = exchange(port, b"hello").await.unwrap_or_default();

    assert!(received.is_empty(), "the service answered");
    forward.says("policy", SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_is_named_and_ends_the_stream_at_once() {
    let gone = Service::echo().await.address;
    let relay = Relay::start().await;
    let _agent = Agent::start(AgentSetup::with_token(relay.add("acme").await).allowing(gone));
    let before = relay.shows("acme", "online", SOON).await;
    let (forward, port) = relay.forward("acme", &format!("tcp:{gone}")).await;

    let received = tokio::time::timeout(SOON, exchange(port, b"hello")).await;

    assert!(received.expect("it hangs").unwrap_or_default().is_empty());
    forward.says("refused", SOON).await;
    // The stream alone: the session stays, and nobody comes back to it.
    let after = relay.environment("acme").await;
    assert_eq!(after["session"]["epoch"], before["session"]["epoch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_waits_where_the_policy_limits_bytes_and_loses_none() {
    let echo = Service::echo().await;
    let relay = Relay::start().await;
    let policy = format!(
        "[targets]\ndocker = false\ntcp = [\"{}\"]\n[limits]\nbytes_per_second = \"400KiB\"\n",
        echo.address
    );
    let setup = AgentSetup::with_token(relay.add("acme").await);
    let _agent = Agent::start_with_policy(setup, &policy);
    relay.shows("acme", "online", SOON).await;
    let target = format!("tcp:{}", echo.address);
    let (_forward, port) = relay.forward("acme", &target).await;
    let sent = pattern(600 * 1024);
    let began = Instant::now();

    let received = exchange(port, &sent).await.expect("the service answers");

    // A quarter of a second's bytes come at once, and the rest at 400 KiB a second.
    let took = began.elapsed();
    assert!(received == sent, "other bytes came back");
    assert!(took >= Duration::from_millis(1_200), "{took:?}");
    let shown = relay.operator(&["env", "show", "acme"]).await.success();
    assert!(
        shown.contains("limits.bytes_per_second = \"400KiB\""),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_streams_share_one_session() {
    let echo = Service::echo().await;
    let relay = Relay::start().await;
    let _agent =
        Agent::start(AgentSetup::with_token(relay.add("acme").await).allowing(echo.address));
    relay.shows("acme", "online", SOON).await;
    let (_forward, port) = relay
        .forward("acme", &format!("tcp:{}", echo.address))
        .await;

    let mut exchanges = tokio::task::JoinSet::new();
    for number in 0..300_u32 {
        exchanges.spawn(async move {
            let sent = number.to_be_bytes().repeat(1_000);
            exchange(port, &sent).await.expect("the service answers") == sent
        });
    }
    let kept = exchanges.join_all().await;

    assert_eq!(kept.len(), 300);
    assert!(
        kept.into_iter().all(|kept| kept),
        "a stream got another's bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_stream_does_not_wait_behind_a_bulk_one() {
    let echo = Service::echo().await;
    let relay = Relay::start().await;
    let setup = AgentSetup::with_token(relay.add("acme").await)
        .over("ws")
        .allowing(echo.address);
    let _agent = Agent::start(setup);
    relay.shows("acme", "online", SOON).await;
    let (_forward, port) = relay
        .forward("acme", &format!("tcp:{}", echo.address))
        .await;
    // Sends for ever and never reads: everything on its way is full.
    let (_unread, mut bulk) = TcpStream::connect(port)
        .await
        .expect("forward listens")
        .into_split();
    let flood = tokio::spawn(async move { while bulk.write_all(&[1; 65_536]).await.is_ok() {} });

    let answered = tokio::time::timeout(Duration::from_secs(10), exchange(port, b"small")).await;

    assert_eq!(
        answered
            .expect("it waits behind the bulk")
            .expect("it is answered"),
        b"small"
    );
    flood.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exposed_port_is_kept_across_a_restart_of_the_relay() {
    let echo = Service::echo().await;
    let mut relay = Relay::start().await;
    let _agent =
        Agent::start(AgentSetup::with_token(relay.add("acme").await).allowing(echo.address));
    relay.shows("acme", "online", SOON).await;
    let free = Service::echo().await.address;
    let (target, listen) = (format!("tcp:{}", echo.address), free.to_string());
    relay
        .operator(&["expose", "acme", &target, "--listen", &listen])
        .await
        .success();
    assert_eq!(
        exchange(free, b"before").await.expect("it is exposed"),
        b"before"
    );

    relay.restart().await;

    let after = eventually(
        "the port answers again",
        Duration::from_secs(30),
        async || {
            exchange(free, b"after")
                .await
                .ok()
                .filter(|received| !received.is_empty())
        },
    )
    .await;
    assert_eq!(after, b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_to_an_environment_that_is_offline_says_so() {
    let relay = Relay::start().await;
    relay.add("acme").await;
    let (forward, port) = relay.forward("acme", "tcp:127.0.0.1:9").await;

    let received = tokio::time::timeout(SOON, exchange(port, b"hello")).await;

    assert!(received.expect("it hangs").unwrap_or_default().is_empty());
    forward.says("offline", SOON).await;
}
