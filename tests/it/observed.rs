//! Metrics, health and readiness.

use tests::{Agent, AgentSetup, Relay, SOON, eventually};

/// Families that `text` shows.
fn families(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_bounded_and_name_no_agent() {
    let relay = Relay::start().await;
    let _agent = Agent::start(AgentSetup::with_token(relay.add("acme-of-berlin").await));
    let shown = relay.shows("acme-of-berlin", "online", SOON).await;

    let text = relay.metrics_text().await;

    assert!(
        families(&text).iter().all(|name| !name.is_empty()),
        "{text}"
    );
    let id = shown["agent"]["id"].as_str().expect("an id");
    assert!(
        !text.contains("acme-of-berlin") && !text.contains(id),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted_up_and_down() {
    let relay = Relay::start().await;
    let sessions = async || relay.metric("sternline_relay_sessions", &["quic"]).await;
    let agent = Agent::start(AgentSetup::with_token(relay.add("acme").await).over("quic"));
    relay.shows("acme", "online", SOON).await;
    assert!(sessions().await >= 1.0);

    drop(agent);

    eventually(
        "the session is gone",
        std::time::Duration::from_secs(90),
        async || (sessions().await == 0.0).then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_answer_on_a_listener_of_their_own() {
    let relay = Relay::start().await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");

    for path in ["healthz", "readyz"] {
        let url = format!("http://{}/{path}", relay.metrics);
        let status = client.get(url).send().await.expect("an answer").status();

        assert_eq!(status, 200, "{path}");
    }
    let (status, _) = relay
        .request(reqwest::Method::GET, "../../metrics", None)
        .await
        .expect("one");
    assert_eq!(status, 404, "metrics are on the public listener");
}
