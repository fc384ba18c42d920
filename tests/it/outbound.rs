//! What the agent promises its host: it dials out and never listens; and what neither
//! program ever says aloud.

use std::fs;

use tests::{Agent, AgentSetup, Relay, SOON, Service, exchange, sockets_of};
use wire::token::EnrolToken;

/// `TCP_LISTEN` in the kernel's tables.
const LISTENING: u8 = 0x0A;
/// `TCP_CLOSE`, which for UDP says: not connected, so anybody may send to it.
const UNCONNECTED: u8 = 0x07;

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_listens_on_nothing() {
    for transport in ["quic", "ws", "ws-443"] {
        let echo = Service::echo().await;
        let relay = Relay::start().await;
        let token = relay.add("acme").await;
        let agent = Agent::start(
            AgentSetup::with_token(token)
                .over(transport)
                .allowing(echo.address),
        );
        relay.shows("acme", "online", SOON).await;
        let (_forward, port) = relay
            .forward("acme", &format!("tcp:{}", echo.address))
            .await;
        exchange(port, b"hello").await.expect("the service answers");

        let sockets = sockets_of(agent.process.pid());

        assert!(
            !sockets.is_empty(),
            "over {transport}: its sockets were not found"
        );
        for (table, state) in sockets {
            let is_open = match table {
                "tcp" | "tcp6" => state == LISTENING,
                _ => state == UNCONNECTED,
            };
            assert!(
                !is_open,
                "over {transport}: a {table} socket takes from anybody"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_listens_where_it_says() {
    let relay = Relay::start().await;

    let listening = sockets_of(relay.process.pid())
        .into_iter()
        .filter(|(table, state)| table.starts_with("tcp") && *state == LISTENING)
        .count();

    assert_eq!(listening, 3, "https, tunnel and metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_in_a_log_or_an_argument() {
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let parsed: EnrolToken = token.parse().expect("the relay made it");
    let mut agent = Agent::start(AgentSetup::with_token(&token));
    relay.shows("acme", "online", SOON).await;
    agent.is_up().await;
    agent.restart().await;
    relay.operator(&["env", "list"]).await.success();
    let identity =
        fs::read_to_string(agent.state_dir().join("identity.json")).expect("it is there");
    let identity: serde_json::Value = serde_json::from_str(&identity).expect("JSON");
    let mut secrets = vec![token, relay.admin_token(), hex(parsed.secret.expose())];
    secrets.extend(long_texts_named(
        &identity,
        &["seed", "secret", "private_key", "key"],
    ));

    for process in [&relay.process, &agent.process] {
        let arguments = fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
        let told = format!("{}{}", process.log(), String::from_utf8_lossy(&arguments));
        for secret in &secrets {
            assert!(secret.len() >= 16, "not a secret: {secret}");
            assert!(
                !told.contains(secret.as_str()),
                "a secret of {} chars is told",
                secret.len()
            );
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Texts of an object's fields with one of these names.
fn long_texts_named(object: &serde_json::Value, names: &[&str]) -> Vec<String> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| names.contains(&name.as_str()))
        .filter_map(|(_, value)| value.as_str().map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_secret_of_the_relay_is_its_users_alone() {
    use std::os::unix::fs::MetadataExt;
    let relay = Relay::start().await;

    for name in [
        "identity.key",
        "ca.key",
        "tls.key",
        "admin.token",
        "relay.db",
        "run.json",
    ] {
        let mode = fs::metadata(relay.data_dir().join(name))
            .expect(name)
            .mode()
            & 0o777;

        assert_eq!(mode, 0o600, "{name} has mode {mode:o}");
    }
}
