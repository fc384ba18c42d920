//! Planned ends of a relay: by command, with streams open, and with operators who wait.

use tests::{Agent, AgentSetup, Relay, RelaySetup, SOON, Service, exchange};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_by_command_ends_a_relay_whose_streams_have_finished_with_0() {
    let mut relay = Relay::start().await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token));
    relay.shows("acme", "online", SOON).await;

    relay.operator(&["drain"]).await.success();

    assert_eq!(relay.process.ended(SOON * 2).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_cuts_a_stream_at_its_deadline_says_so_with_3() {
    let echo = Service::echo().await;
    let mut relay = Relay::start_with(RelaySetup {
        config: Some("[drain]\ntimeout = \"1s\"\n".to_owned()),
        ..RelaySetup::default()
    })
    .await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).allowing(echo.address));
    relay.shows("acme", "online", SOON).await;
    let target = format!("tcp:{}", echo.address);
    let (_forward, port) = relay.forward("acme", &target).await;
    let mut stream = TcpStream::connect(port).await.expect("forward listens");
    let mut back = [0; 1];
    stream.write_all(b"x").await.expect("the stream is open");
    stream.read_exact(&mut back).await.expect("it is an echo");

    relay.operator(&["drain"]).await.success();

    assert_eq!(relay.process.ended(SOON * 2).await.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_while_an_environment_is_on_its_way_back_waits_and_is_served() {
    let echo = Service::echo().await;
    let mut relay = Relay::start().await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).allowing(echo.address));
    relay.shows("acme", "online", SOON).await;
    let free = Service::echo().await.address;
    let (target, listen) = (format!("tcp:{}", echo.address), free.to_string());
    let expose = ["expose", "acme", &target, "--listen", &listen];
    relay.operator(&expose).await.success();

    relay.restart().await;

    let answered = exchange(free, b"at once").await;
    assert_eq!(answered.expect("the relay has it wait"), b"at once");
}
