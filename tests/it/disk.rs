//! A full disk: a clear error, and nothing half-written.

use std::{fs, time::Duration};

use serde_json::Value;
use tests::{Agent, AgentSetup, Relay, RelaySetup, SOON, tmpfs};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let Some(disk) = tmpfs(4 * 1024) else { return };
    let setup = RelaySetup {
        data_dir: Some(disk.path().join("data")),
        ..RelaySetup::default()
    };
    let relay = Relay::start_with(setup).await;
    relay.add("before").await;
    let filling = disk.fill();

    // The database may still have room in its pages for a few.
    let mut said = None;
    for number in 0..2_000 {
        let added = relay
            .operator(&["env", "add", &format!("full-{number}")])
            .await;
        if !added.status.success() {
            said = Some(added.stderr);
            break;
        }
    }

    let said = said
        .expect("2,000 environments fit on a full disk")
        .to_lowercase();
    assert!(said.contains("full") || said.contains("space"), "{said}");
    assert_eq!(relay.environment("before").await["name"], "before");
    let failures = relay.metric("sternline_relay_store_failures_total", &["full"]);
    assert!(failures.await >= 1.0, "a full disk is not counted");
    fs::remove_file(filling).expect("the test made it");
    relay.add("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_disk_is_full_does_not_enrol_and_loses_no_token() {
    let Some(disk) = tmpfs(256) else { return };
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let filling = disk.fill();
    let state = disk.path().join("state");

    let mut agent = Agent::start(AgentSetup {
        state_dir: Some(state.clone()),
        ..AgentSetup::with_token(&token)
    });

    agent.process.says("space", SOON).await;
    assert!(
        !state.join("identity.json").exists(),
        "an identity that cannot be whole"
    );
    agent.process.kill().await;
    assert_ne!(relay.environment("acme").await["status"], "online");
    fs::remove_file(filling).expect("the test made it");
    let _agent = Agent::start(AgentSetup {
        state_dir: Some(state),
        ..AgentSetup::with_token(&token)
    });
    relay.shows("acme", "online", Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_disk_fills_up_keeps_its_identity_whole() {
    let Some(disk) = tmpfs(256) else { return };
    let relay = Relay::start().await;
    let state = disk.path().join("state");
    let mut agent = Agent::start(AgentSetup {
        state_dir: Some(state.clone()),
        ..AgentSetup::with_token(relay.add("acme").await)
    });
    relay.shows("acme", "online", SOON).await;
    agent.is_up().await;
    let filling = disk.fill();

    agent.restart().await;
    agent.process.says("space", SOON).await;

    let kept = fs::read(state.join("identity.json")).expect("it is there");
    serde_json::from_slice::<Value>(&kept).expect("it is whole");
    agent.process.kill().await;
    fs::remove_file(filling).expect("the test made it");
    agent.restart_ended();
    relay.shows("acme", "online", Duration::from_secs(30)).await;
}
