//! Metrics, health and readiness.

use tests::{Agent, AgentSetup, Relay, SOON, Service, document, eventually, exchange};

/// Families that `text` shows.
fn families(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_readme_moves_when_what_it_counts_happens() {
    let echo = Service::echo().await;
    let relay = Relay::start().await;
    let token = relay.add("acme").await;
    let mut agent = Agent::start(
        AgentSetup::with_token(&token)
            .over("ws")
            .allowing(echo.address),
    );
    relay.shows("acme", "online", SOON).await;
    agent.is_up().await;
    let (_forward, port) = relay
        .forward("acme", &format!("tcp:{}", echo.address))
        .await;
    exchange(port, &[1; 100_000])
        .await
        .expect("the service answers");
    let (_refused, port) = relay.forward("acme", "tcp:127.0.0.1:1").await;
    drop(exchange(port, b"no").await);
    drop(exchange(relay.tunnel, b"GET / HTTP/1.1\r\n\r\n").await);
    let stranger = relay.request_as("sta_wrong", reqwest::Method::GET, "relay", None);
    assert_eq!(stranger.await.expect("an answer").0, 401);
    agent.restart().await;
    relay.shows("acme", "online", SOON).await;

    let listed: Vec<String> = document("README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `sternline_relay_"))
        .filter_map(|rest| rest.split('`').next())
        .map(|rest| format!("sternline_relay_{rest}"))
        .collect();
    assert!(
        listed.len() >= 8,
        "the README's table was not read: {listed:?}"
    );
    // A panic is a bug, and a certificate is replaced in a test of its own.
    let rest = [
        "sternline_relay_panics_total",
        "sternline_relay_certificate_reloads_total",
    ];
    for name in listed.iter().filter(|name| !rest.contains(&name.as_str())) {
        eventually(&format!("{name} moves"), SOON, async || {
            let text = relay.metrics_text().await;
            let moved = text.lines().any(|line| {
                line.starts_with(name.as_str())
                    && line.rsplit(' ').next().is_some_and(|value| value != "0")
            });
            moved.then_some(())
        })
        .await;
    }
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
