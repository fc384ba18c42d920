//! A one-time token becomes an environment that is online, or a reason.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use serde_json::Value;
use tests::{Agent, AgentSetup, Relay, RelaySetup, SOON, eventually};
use wire::token::EnrolToken;

async fn enrols_over(transport: &'static str) {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    assert_eq!(relay.environment("acme").await["status"], "never_connected");

    let agent = Agent::start(AgentSetup::with_token(token).over(transport));

    let shown = relay.shows("acme", "online", SOON).await;
    assert_eq!(shown["session"]["transport"], transport, "{shown}");
    let shown = eventually("a round trip is shown", SOON, async || {
        let shown = relay.environment("acme").await;
        shown["session"]["rtt_ms"].is_number().then_some(shown)
    })
    .await;
    let rtt = shown["session"]["rtt_ms"].as_f64().expect("a number");
    assert!(
        (0.0..1_000.0).contains(&rtt),
        "a round trip of {rtt} ms on loopback"
    );
    eventually("the agent's own status says so", SOON, async || {
        let status = agent.status(&["--json"]).await.success();
        let status: Value = serde_json::from_str(&status).expect("JSON");
        (status["transport"] == transport && status["state"] == "online").then_some(())
    })
    .await;
    agent.status(&["--healthcheck"]).await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn enrols_over_quic() {
    enrols_over("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrols_over_websocket() {
    enrols_over("ws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrols_over_https() {
    enrols_over("ws-443").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrols_with_the_default_transport_and_prefers_quic() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;

    let _agent = Agent::start(AgentSetup::with_token(token));

    let shown = relay.shows("acme", "online", SOON).await;
    assert_eq!(shown["session"]["transport"], "quic", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_on_disk_is_nobody_elses_to_read() {
    let relay = Relay::start().await;
    let agent = Agent::start(AgentSetup::with_token(relay.add("acme").await));
    relay.shows("acme", "online", SOON).await;

    let identity = fs::metadata(agent.state_dir().join("identity.json")).expect("it is there");
    let folder = fs::metadata(agent.state_dir()).expect("it is there");

    assert_eq!(identity.mode() & 0o777, 0o600);
    assert_eq!(folder.mode() & 0o077, 0);
}

/// The agent must end up saying `reason` to the customer, and never come online.
async fn is_refused(token: &str, reason: &str) {
    let agent = Agent::start(AgentSetup::with_token(token));

    eventually(&format!("the agent says {reason}"), SOON, async || {
        agent
            .process
            .log()
            .to_lowercase()
            .contains(reason)
            .then_some(())
    })
    .await;
    assert!(
        !agent.process.log().contains(token),
        "the token is in the log"
    );
    agent.status(&["--healthcheck"]).await.failure();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_with_the_reason() {
    let relay = Relay::start().await;
    let mut token: EnrolToken = relay.add("acme").await.parse().expect("the relay made it");
    token.secret = wire::key::Secret::from_bytes([7; 32]);

    is_refused(&token.to_text(), "token").await;

    assert_eq!(relay.environment("acme").await["status"], "never_connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_token_is_refused_with_the_reason() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let _first = Agent::start(AgentSetup::with_token(&token));
    let before = relay.shows("acme", "online", SOON).await;

    is_refused(&token, "used").await;

    let after = relay.environment("acme").await;
    assert_eq!(
        after["session"]["epoch"], before["session"]["epoch"],
        "the first was disturbed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused_with_the_reason() {
    let relay = Relay::start_with(RelaySetup {
        config: Some("[enrolment]\ntoken_validity = \"1m\"\n".into()),
        ..RelaySetup::default()
    })
    .await;
    let token = relay.add("acme").await;
    let expires = token
        .parse::<EnrolToken>()
        .expect("a token")
        .expires_unix_seconds;
    eventually("the token expires", SOON * 5, async || {
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .expect("after 1970")
            .as_secs();
        (now.cast_signed() > expires).then_some(())
    })
    .await;

    is_refused(&token, "expired").await;

    assert_eq!(relay.environment("acme").await["status"], "never_connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cut_short_is_refused_before_anything_is_sent() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;

    let mut agent = Agent::start(AgentSetup::with_token(&token[..token.len() - 9]));

    let status = agent.process.ended(SOON).await;
    assert!(!status.success());
    assert!(
        agent.process.log().contains("cut short"),
        "{}",
        agent.process.log()
    );
    assert_eq!(relay.environment("acme").await["status"], "never_connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sends_nothing_to_a_relay_of_another_identity() {
    let relay = Relay::start().await;
    let other = Relay::start().await;
    let mut token: EnrolToken = relay.add("acme").await.parse().expect("the relay made it");
    let foreign: EnrolToken = other.add("acme").await.parse().expect("the relay made it");
    token.addresses = foreign.addresses;

    let agent = Agent::start(AgentSetup::with_token(token.to_text()));

    eventually("the agent names the identity", SOON, async || {
        agent.process.log().contains("identity").then_some(())
    })
    .await;
    assert_eq!(other.environment("acme").await["status"], "never_connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_token_moves_the_environment_to_another_host() {
    let relay = Relay::start().await;
    let first = Agent::start(AgentSetup::with_token(relay.add("acme").await));
    let before = relay.shows("acme", "online", SOON).await;
    drop(first);
    let (status, made) = relay
        .request(reqwest::Method::POST, "environments/acme/tokens", None)
        .await
        .expect("the API answers");
    assert_eq!(status / 100, 2, "{made}");

    let _second = Agent::start(AgentSetup::with_token(
        made["token"].as_str().expect("a token"),
    ));

    let after = relay
        .shows_another_session("acme", &before, Duration::from_secs(30))
        .await;
    assert_ne!(after["agent"]["id"], before["agent"]["id"]);
}
