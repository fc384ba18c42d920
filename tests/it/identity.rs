//! Copies, revocation, and who may do what.

use std::{fs, path::Path, time::Duration, time::Instant};

use reqwest::Method;
use tests::{Agent, AgentSetup, Relay, SOON, eventually};

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder in a temporary folder");
    for entry in fs::read_dir(from).expect("a state directory").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// The relay still shows the session of the killed process for a while, and the log
/// still has its lines; the status knows which process it is of.
async fn is_up_again(agent: &Agent) {
    eventually("the agent is up again", SOON, async || {
        let health = agent.status(&["--healthcheck"]).await;
        health.status.success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_identity_is_detected_shown_and_never_a_fight() {
    let relay = Relay::start().await;
    let mut original = Agent::start(AgentSetup::with_token(relay.add("acme").await));
    relay.shows("acme", "online", SOON).await;
    original.is_up().await;
    let clone = tempfile::tempdir().expect("a temporary folder");
    let state = clone.path().join("state");
    copy_folder(original.state_dir(), &state);
    // The original has started more often than the copy knows of.
    original.restart().await;
    is_up_again(&original).await;
    let online = relay.shows("acme", "online", SOON).await;

    let copy = Agent::start(AgentSetup {
        state_dir: Some(state),
        ..AgentSetup::default()
    });

    let held = relay.shows("acme", "copied_identity", SOON).await;
    assert_eq!(held["agent"]["id"], online["agent"]["id"]);
    eventually("the copy says why", SOON, async || {
        copy.process.log().contains("copied").then_some(())
    })
    .await;
    let held = relay.metric("sternline_relay_environments", &["held"]);
    assert!(held.await >= 1.0, "an operator is not alerted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_identity_is_released_by_the_operator() {
    let relay = Relay::start().await;
    let mut original = Agent::start(AgentSetup::with_token(relay.add("acme").await));
    relay.shows("acme", "online", SOON).await;
    original.is_up().await;
    let clone = tempfile::tempdir().expect("a temporary folder");
    let state = clone.path().join("state");
    copy_folder(original.state_dir(), &state);
    original.restart().await;
    is_up_again(&original).await;
    relay.shows("acme", "online", SOON).await;
    let copy = Agent::start(AgentSetup {
        state_dir: Some(state),
        ..AgentSetup::default()
    });
    relay.shows("acme", "copied_identity", SOON).await;
    drop(copy);

    let released = relay
        .request(Method::POST, "environments/acme/release", None)
        .await;
    assert_eq!(released.expect("the API answers").0, 200);
    original.restart().await;

    relay.shows("acme", "online", Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_cuts_a_live_session_within_a_second() {
    for transport in ["quic", "ws"] {
        let relay = Relay::start().await;
        let token = relay.add("acme").await;
        let agent = Agent::start(AgentSetup::with_token(token).over(transport));
        relay.shows("acme", "online", SOON).await;

        let removed = Instant::now();
        relay.operator(&["env", "remove", "acme"]).await.success();

        eventually(
            "the agent hears of it",
            Duration::from_secs(1),
            async || agent.process.log().contains("revoked").then_some(()),
        )
        .await;
        assert!(
            removed.elapsed() < Duration::from_secs(2),
            "over {transport}"
        );
        eventually("the health check says so", SOON, async || {
            let health = agent.status(&["--healthcheck"]).await;
            (!health.status.success()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_agent_is_not_let_in_again() {
    let relay = Relay::start().await;
    let mut agent = Agent::start(AgentSetup::with_token(relay.add("acme").await));
    relay.shows("acme", "online", SOON).await;
    agent.is_up().await;
    relay.operator(&["env", "remove", "acme"]).await.success();
    relay.add("acme").await;

    agent.restart().await;

    agent.process.says("agent_unknown", SOON).await;
    assert_eq!(relay.environment("acme").await["status"], "never_connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_nobody_without_a_valid_token() {
    let relay = Relay::start().await;

    for token in ["", "sta_wrong", "stl1_wrong"] {
        for path in ["relay", "environments", "exposures", "environments/acme"] {
            let (status, body) = relay
                .request_as(token, Method::GET, path, None)
                .await
                .expect("the API answers");

            assert_eq!(status, 401, "{path}: {body}");
            assert!(body["code"].is_string(), "{path}: {body}");
        }
    }
}
