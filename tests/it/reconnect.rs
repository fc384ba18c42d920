//! Lost connections and killed processes: the session comes back by itself.

use std::time::Duration;

use serde_json::Value;
use tests::{Agent, AgentSetup, Cable, Relay, SOON, Service, exchange};

/// The first try comes after 0.2 to 1 s, a second one may be needed; the machine is busy.
const BACK: Duration = Duration::from_secs(30);

/// A silent line is noticed by the heartbeat's deadline, at most 25 s and a grace.
const NOTICED: Duration = Duration::from_secs(90);

/// A relay and an agent with a line between them that the test holds.
async fn connected(transport: &'static str) -> (Relay, Cable, Agent, Value) {
    let relay = Relay::start().await;
    let cable = Cable::to(&relay).await;
    let token = relay.add("acme").await;
    let agent = Agent::start(AgentSetup::through(&token, &cable).over(transport));
    let shown = relay.shows("acme", "online", SOON).await;
    (relay, cable, agent, shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_gets_its_agents_back() {
    for transport in ["quic", "ws", "ws-443"] {
        let mut relay = Relay::start().await;
        let token = relay.add("acme").await;
        let _agent = Agent::start(AgentSetup::with_token(token).over(transport));
        let before = relay.shows("acme", "online", SOON).await;

        relay.restart().await;

        let after = relay.shows_another_session("acme", &before, BACK).await;
        assert_eq!(after["status"], "online", "over {transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_comes_back_as_the_same_one_without_its_token() {
    let relay = Relay::start().await;
    let mut agent = Agent::start(AgentSetup::with_token(relay.add("acme").await));
    let before = relay.shows("acme", "online", SOON).await;
    agent.is_up().await;

    agent.restart().await;

    let after = relay.shows_another_session("acme", &before, BACK).await;
    assert_eq!(after["agent"]["id"], before["agent"]["id"]);
    assert_eq!(after["status"], "online");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_enrols_comes_back() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let state = tempfile::tempdir().expect("a temporary folder");

    // Killed a little later each time: before, within and after the enrolment.
    for steps in 0..12 {
        let mut agent = Agent::start(AgentSetup {
            state_dir: Some(state.path().join("state")),
            ..AgentSetup::with_token(&token)
        });
        for _ in 0..steps {
            relay.environment("acme").await;
        }
        agent.process.kill().await;
    }
    let _agent = Agent::start(AgentSetup {
        state_dir: Some(state.path().join("state")),
        ..AgentSetup::with_token(&token)
    });

    relay.shows("acme", "online", BACK).await;
}

async fn comes_back_after_a_cut_over(transport: &'static str) {
    let (relay, cable, _agent, before) = connected(transport).await;

    cable.cut();
    if transport != "quic" {
        // A broken TCP connection is noticed at once.
        relay.shows("acme", "reconnecting", SOON).await;
    }
    cable.heal();

    let after = relay.shows("acme", "online", BACK).await;
    assert_eq!(after["session"]["epoch"], before["session"]["epoch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn comes_back_after_a_cut_over_quic() {
    comes_back_after_a_cut_over("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn comes_back_after_a_cut_over_websocket() {
    comes_back_after_a_cut_over("ws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn comes_back_after_a_cut_over_https() {
    comes_back_after_a_cut_over("ws-443").await;
}

async fn notices_a_silent_line_over(transport: &'static str) {
    let (relay, cable, agent, before) = connected(transport).await;

    cable.stall();
    relay.shows("acme", "reconnecting", NOTICED).await;
    cable.forget();
    cable.heal();

    let after = relay.shows("acme", "online", NOTICED).await;
    assert_eq!(after["session"]["epoch"], before["session"]["epoch"]);
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_a_silent_line_over_quic() {
    notices_a_silent_line_over("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_a_silent_line_over_websocket() {
    notices_a_silent_line_over("ws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn falls_back_to_websocket_where_udp_is_lost() {
    let relay = Relay::start().await;
    let cable = Cable::to(&relay).await;
    cable.drop_udp();
    let token = relay.add("acme").await;

    let _agent = Agent::start(AgentSetup::through(&token, &cable));

    let shown = relay.shows("acme", "online", SOON).await;
    assert_eq!(shown["session"]["transport"], "ws", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_lost_session_end_and_do_not_hang() {
    let echo = Service::echo().await;
    let mut relay = Relay::start().await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).allowing(echo.address));
    let before = relay.shows("acme", "online", SOON).await;
    let free = Service::echo().await.address;
    let (target, listen) = (format!("tcp:{}", echo.address), free.to_string());
    relay
        .operator(&["expose", "acme", &target, "--listen", &listen])
        .await
        .success();
    let mut stream = tokio::net::TcpStream::connect(free)
        .await
        .expect("it is exposed");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"x")
        .await
        .expect("it is exposed");

    relay.process.kill().await;

    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
    drop(
        tokio::time::timeout(SOON, ended)
            .await
            .expect("the stream hangs"),
    );
    relay.start_again().await;
    relay.shows_another_session("acme", &before, BACK).await;
    assert_eq!(
        exchange(free, b"again").await.expect("it is exposed again"),
        b"again"
    );
}
