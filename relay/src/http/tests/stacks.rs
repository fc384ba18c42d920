//! Stacks through the router: what is answered, and what never is.

use super::*;
use crate::control::digest_of;

const SECRET: &str = "correct horse battery staple";
const COMPOSE: &str = "services:\n  web:\n    image: web:${TAG:-1}\n    environment:\n      \
     PASSWORD: ${PASSWORD}\n";

impl Api {
    /// Sends the Compose file, and gives the body of its deployment to berlin.
    async fn deployment(&self) -> Value {
        let digest = digest_of(COMPOSE.as_bytes());
        let sent = self
            .ask("PUT", &format!("/api/v1/blobs/{digest}"), COMPOSE)
            .await;
        assert_eq!(sent.status, 204);
        json!({
            "places": { "environments": ["berlin"] },
            "bundle": {
                "compose": ["compose.yml"],
                "files": { "compose.yml": {
                    "digest": digest, "size": COMPOSE.len(), "mode": 0o644,
                }},
            },
            "note": "first",
            "secrets": { "PASSWORD": SECRET },
        })
    }

    async fn deploy(&self) -> Answer {
        let body = self.deployment().await.to_string();
        self.ask("POST", "/api/v1/stacks/shop/deploy", &body).await
    }
}

#[tokio::test]
async fn a_deployment_is_answered_listed_and_planned() {
    let api = Api::new().await;
    api.add("berlin").await;

    let deployed = api.deploy().await;
    let listed = api
        .ask("GET", "/api/v1/deployments?stack=shop", "")
        .await
        .json();
    let releases = api
        .ask("GET", "/api/v1/stacks/shop/releases", "")
        .await
        .json();
    let planned = api
        .ask("POST", "/api/v1/stacks/shop/plan", "{}")
        .await
        .json();

    assert_eq!(deployed.status, 200);
    let assigned = &deployed.json()["assignments"][0];
    assert_eq!(
        (
            &assigned["environment"],
            &assigned["release"],
            &assigned["new"]
        ),
        (&json!("berlin"), &json!(1), &json!(true))
    );
    assert_eq!(listed["deployments"][0]["state"], "pending");
    assert_eq!(releases["releases"][0]["note"], "first");
    assert_eq!(releases["releases"][0]["secrets"], json!(["PASSWORD"]));
    let plan = &planned["plans"][0];
    assert!(
        plan["plan"].is_null() && plan["unavailable"].is_string(),
        "{plan}"
    );
    assert!(
        plan["rendered"]
            .as_str()
            .unwrap()
            .contains("****PASSWORD****"),
        "{plan}"
    );
}

#[tokio::test]
async fn no_answer_of_the_api_has_a_secret_s_value() {
    let api = Api::new().await;
    api.add("berlin").await;
    let login = json!({ "user": "ci", "password": SECRET }).to_string();
    let variable = json!({ "value": SECRET, "secret": true }).to_string();
    let mut seen = String::new();
    for (method, path, body) in [
        ("PUT", "/api/v1/registries/docker.io", login.as_str()),
        ("PUT", "/api/v1/variables/TOKEN", variable.as_str()),
        (
            "PUT",
            "/api/v1/variables/TOKEN",
            &format!("{{\"value\": \"{SECRET}\""),
        ),
        (
            "PUT",
            "/api/v1/variables/TOKEN",
            &format!("{{\"no\": \"{SECRET}\"}}"),
        ),
        (
            "PUT",
            "/api/v1/variables/N",
            &format!("{{\"value\":\"{SECRET}\",\"kind\":\"int\"}}"),
        ),
    ] {
        seen += &String::from_utf8_lossy(&api.ask(method, path, body).await.body);
    }
    seen += &String::from_utf8_lossy(&api.deploy().await.body);
    for path in [
        "deployments",
        "variables",
        "registries",
        "stacks/shop/releases",
        "stacks/shop/releases/1",
        "stacks/shop/diff?from=1&to=1",
    ] {
        let answer = api.ask("GET", &format!("/api/v1/{path}"), "").await;
        assert_eq!(answer.status, 200, "{path}");
        seen += &String::from_utf8_lossy(&answer.body);
    }
    let planned = api.ask("POST", "/api/v1/stacks/shop/plan", "{}").await;
    seen += &String::from_utf8_lossy(&planned.body);

    assert!(
        seen.contains("PASSWORD") && seen.contains("TOKEN"),
        "{seen}"
    );
    assert!(!seen.contains(SECRET), "{seen}");
}

#[tokio::test]
async fn mistakes_in_files_are_told_one_by_one() {
    let api = Api::new().await;
    api.add("berlin").await;
    let text = "services:\n  web:\n    build: .\n  db:\n    imag: y\n";
    let digest = digest_of(text.as_bytes());
    api.ask("PUT", &format!("/api/v1/blobs/{digest}"), text)
        .await;
    let mut body = api.deployment().await;
    body["bundle"]["files"]["compose.yml"] = json!({
        "digest": digest, "size": text.len(), "mode": 0o644,
    });

    let refused = api
        .ask("POST", "/api/v1/stacks/shop/deploy", &body.to_string())
        .await;

    assert_eq!(refused.code(), (422, "stack_invalid".to_owned()));
    let errors = refused.json()["errors"].as_array().unwrap().clone();
    assert!(errors.len() >= 2, "{errors:?}");
    assert!(
        errors[0].as_str().unwrap().starts_with("compose.yml:3"),
        "{errors:?}"
    );
}

#[tokio::test]
async fn a_watch_begins_with_what_there_is_and_ends_with_the_relay() {
    let api = Api::new().await;
    api.add("berlin").await;
    api.deploy().await;
    let events = api.fixture.stacks.events.clone();
    let watching = api.ask("GET", "/api/v1/deployments/watch", "");
    // As soon as somebody watches.
    let ending = async {
        while events.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        events.send(crate::control::StackEvent::Closing).ok();
    };

    let (answer, ()) = tokio::join!(watching, ending);

    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["deployment"]["stack"], "shop");
    assert_eq!(lines[1], json!({ "complete": {} }));
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn an_exposure_of_stacks_is_refused() {
    let api = Api::new().await;
    api.add("berlin").await;
    let body = json!({ "environment": "berlin", "target": "stacks", "listen": "127.0.0.1:1" });

    let refused = api
        .ask("POST", "/api/v1/exposures", &body.to_string())
        .await;

    assert_eq!(refused.code(), (400, "invalid_request".to_owned()));
}
