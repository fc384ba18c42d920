//! No engine, or none that may be reached: the environment says so, and so does the CLI.

use std::{fs, os::unix::fs::PermissionsExt, os::unix::net::UnixListener};

use tests::{Agent, AgentSetup, Relay, SOON, eventually};

/// Waits until the environment reports this state of its engine.
async fn reports(relay: &Relay, state: &str) {
    eventually(&format!("docker is {state}"), SOON, async || {
        let shown = relay.environment("acme").await;
        (shown["session"]["docker"]["state"] == state).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_socket_is_reported() {
    let relay = Relay::start().await;
    let nowhere = relay.scratch("nowhere.sock");
    let setup = AgentSetup::with_token(relay.add("acme").await).with_docker(&nowhere);

    let _agent = Agent::start(setup);

    reports(&relay, "missing").await;
    let said = relay.docker("acme", &["version"]).await;
    assert!(!said.status.success(), "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_the_policy_does_not_allow_is_reported_and_refused() {
    let relay = Relay::start().await;
    let _agent = Agent::start(AgentSetup::with_token(relay.add("acme").await));

    reports(&relay, "not_allowed").await;
    let said = relay.docker("acme", &["version"]).await;
    assert!(!said.status.success(), "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_on_which_nobody_answers_is_reported() {
    let relay = Relay::start().await;
    let path = relay.scratch("silent.sock");
    let _silent = UnixListener::bind(&path).expect("a socket in a temporary folder");
    let setup = AgentSetup::with_token(relay.add("acme").await).with_docker(&path);

    let _agent = Agent::start(setup);

    reports(&relay, "not_responding").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_may_not_be_opened_is_reported() {
    if rustix::process::geteuid().is_root() {
        // Root may open everything, so the agent runs as nobody.
        a_socket_of_root_is_closed_to_nobody().await;
        return;
    }
    let relay = Relay::start().await;
    let path = relay.scratch("closed.sock");
    let _closed = UnixListener::bind(&path).expect("a socket in a temporary folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("it is ours");
    let setup = AgentSetup::with_token(relay.add("acme").await).with_docker(&path);

    let _agent = Agent::start(setup);

    reports(&relay, "permission_denied").await;
}

async fn a_socket_of_root_is_closed_to_nobody() {
    const NOBODY: u32 = 65_534;
    let relay = Relay::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = folder.path().join("closed.sock");
    let _closed = UnixListener::bind(&path).expect("a socket in a temporary folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let setup = AgentSetup::with_token(relay.add("acme").await).with_docker(&path);

    let _agent = Agent::start_as(setup, NOBODY);

    reports(&relay, "permission_denied").await;
}
