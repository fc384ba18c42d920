//! What an operator types and reads: help, errors, JSON, the API and its contract.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Agent, AgentSetup, Process, Relay, RelaySetup, SOON, binary, document};

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_help() {
    let relay: [&[&str]; 10] = [
        &[],
        &["serve"],
        &["env"],
        &["env", "add"],
        &["env", "list"],
        &["env", "show"],
        &["env", "remove"],
        &["docker"],
        &["forward"],
        &["expose"],
    ];
    for command in relay {
        let arguments = [command, &["--help"]].concat();
        let help = Process::run(&binary("sternline-relay"), &arguments, |_| ())
            .await
            .success();
        assert!(help.len() > 100, "{command:?} has no help worth the name");
    }
    for command in [&[] as &[&str], &["run"], &["status"]] {
        let arguments = [command, &["--help"]].concat();
        let help = Process::run(&binary("sternline-agent"), &arguments, |_| ())
            .await
            .success();
        assert!(help.len() > 100, "{command:?} has no help worth the name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_are_added_listed_shown_and_removed() {
    let relay = Relay::start().await;

    let added = relay
        .operator(&["env", "add", "acme", "--tag", "site=berlin"])
        .await
        .success();
    assert!(
        added.contains("stl1_") && added.contains("docker run"),
        "{added}"
    );
    let listed = relay.operator(&["env", "list", "--json"]).await.success();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert!(listed.to_string().contains("never_connected"), "{listed}");
    let shown = relay
        .operator(&["env", "show", "acme", "--json"])
        .await
        .success();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["name"], "acme");
    assert_eq!(shown["tags"]["site"], "berlin");
    relay.operator(&["env", "remove", "acme"]).await.success();

    let said = relay.operator(&["env", "show", "acme"]).await.failure();
    assert!(said.contains("acme"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_or_no_name_is_refused_with_the_reason() {
    let relay = Relay::start().await;
    relay.add("acme").await;

    let taken = relay.operator(&["env", "add", "acme"]).await.failure();
    assert!(taken.contains("acme") && taken.contains("exist"), "{taken}");
    for name in ["", "with space", "-x", "../etc", &"a".repeat(500)] {
        relay.operator(&["env", "add", "--", name]).await.failure();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_work_from_another_machine_with_a_url_a_token_and_a_ca() {
    let relay = Relay::start().await;
    relay.add("acme").await;
    let url = format!("https://localhost:{}", relay.https.port());
    let (token, ca) = (relay.admin_token(), relay.data_dir().join("ca.crt"));

    let listed = Process::run(
        &binary("sternline-relay"),
        &["env", "list", "--json"],
        |command| {
            command
                .env("STERNLINE_RELAY", &url)
                .env("STERNLINE_API_TOKEN", &token);
            command.env("STERNLINE_CA", &ca);
        },
    )
    .await
    .success();

    assert!(listed.contains("acme"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_not_there_is_named() {
    let said = Process::run(&binary("sternline-relay"), &["env", "list"], |command| {
        command.env("STERNLINE_RELAY", "https://127.0.0.1:9");
        command.env("STERNLINE_API_TOKEN", "sta_none");
    })
    .await
    .failure();

    assert!(said.contains("127.0.0.1:9"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_api_are_problems_with_a_code_and_a_request_id() {
    let relay = Relay::start().await;
    let url = format!(
        "https://localhost:{}/api/v1/environments/none",
        relay.https.port()
    );

    let response = relay
        .client()
        .get(url)
        .bearer_auth(relay.admin_token())
        .send()
        .await
        .expect("an answer");

    assert_eq!(response.status(), 404);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = response.json().await.expect("JSON");
    for field in ["type", "title", "code", "detail", "request_id"] {
        assert!(problem[field].is_string(), "no {field} in {problem}");
    }
    assert_eq!(problem["status"], 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_wrong_are_refused_with_a_problem() {
    let relay = Relay::start().await;
    let bodies = [
        json!(null),
        json!({}),
        json!({"name": 7}),
        json!([]),
        json!({"name": "a/b"}),
        json!({"name": "acme", "colour": "red"}),
        json!({"name": "x".repeat(2_000_000)}),
    ];

    for body in bodies {
        let answer = relay
            .request(Method::POST, "environments", Some(body.clone()))
            .await;
        let (status, problem) = answer.expect("an answer");

        let shown: String = body.to_string().chars().take(60).collect();
        assert!((400..500).contains(&status), "{shown}: {status} {problem}");
        assert!(problem["code"].is_string(), "{shown}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_that_is_served_is_the_one_in_the_repository() {
    let relay = Relay::start().await;
    let url = format!(
        "https://localhost:{}/api/v1/openapi.json",
        relay.https.port()
    );

    let served: Value = relay
        .client()
        .get(url)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");

    let kept = document("relay/openapi.json");
    assert_eq!(served, serde_json::from_str::<Value>(&kept).expect("JSON"));
    assert!(
        served["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_of_a_configuration_are_reported_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("relay.toml");
    let text = "colour = \"red\"\n[listen]\nhttps = \"not an address\"\nmetrics = 7\n";
    std::fs::write(&path, text).expect("a file in a temporary folder");
    let path = path.display().to_string();

    let arguments = ["serve", "--config", &path, "--check-config"];
    let said = Process::run(&binary("sternline-relay"), &arguments, |_| ())
        .await
        .failure();

    for mistake in ["colour", "https", "metrics"] {
        assert!(said.contains(mistake), "{mistake} is not in: {said}");
    }
}

/// Fenced blocks of the README that begin with a comment naming the file.
fn examples(file: &str) -> Vec<String> {
    document("README.md")
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|block| block.starts_with(&format!("# {file}")))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn example_configurations_are_taken() {
    let mut relay = examples("relay.toml");
    assert!(!relay.is_empty(), "the README shows no relay.toml");
    relay.push(document("relay/relay.example.toml"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("relay.toml");
    for text in relay {
        // A certificate is looked at as well, and nobody has one there.
        let lines = text
            .lines()
            .filter(|line| !line.contains("/etc/sternline-relay/tls."));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        std::fs::write(&path, text).expect("a file in a temporary folder");
        let path = path.display().to_string();
        let arguments = ["serve", "--config", &path, "--check-config"];
        Process::run(&binary("sternline-relay"), &arguments, |_| ())
            .await
            .success();
    }

    let policies = examples("policy.toml");
    assert!(!policies.is_empty(), "the README shows no policy.toml");
    let relay = Relay::start_with(RelaySetup::default()).await;
    for (number, text) in policies.iter().enumerate() {
        let name = format!("acme-{number}");
        let token = relay.add(&name).await;
        let agent = Agent::start_with_policy(AgentSetup::with_token(token), text);
        relay.shows(&name, "online", SOON).await;
        drop(agent);
    }
}
