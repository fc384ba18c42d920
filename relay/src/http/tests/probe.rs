//! The page, the program, and reports of runs with a token.

use std::path::Path;

use tunnel::World;

use super::*;
use crate::{
    limits::PROBE_REPORT_BYTES_MAX,
    probe::{Introduction, ProbeParts},
};

/// An API with the probe, whose program is at a path.
async fn api(program: Option<&Path>, is_certificate_own: bool) -> Api {
    let fixture = Fixture::new().await;
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry, "0.1.0", "abc").unwrap());
    let introduction = Introduction {
        relay: "sternline-relay 0".to_owned(),
        identity: "ed25519:x".to_owned(),
    };
    let parts = ProbeParts {
        program: program.map(Path::to_owned),
        is_certificate_own,
    };
    let around = (World::real().clock, metrics.clone());
    let state = ApiState::new(fixture.control.clone(), metrics, TaskTracker::new());
    let state = state.with_probe(Some(Probe::new(parts, introduction, around)));
    Api {
        fixture,
        registry,
        service: TowerToHyperService::new(router(state)),
    }
}

impl Api {
    async fn text(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, "").await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        (answer.status, text)
    }

    async fn report(&self, token: &str, report: &str) -> Answer {
        let request = http::Request::builder()
            .method("POST")
            .uri("/probe/v1/report")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(report.to_owned()))
            .unwrap();
        self.send(request).await
    }
}

#[tokio::test]
async fn the_page_has_the_command_the_key_and_the_checksum_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    std::fs::write(&path, b"a program").unwrap();
    let api = api(Some(&path), false).await;

    let (status, page) = api.text("/probe").await;
    let (_, checksum) = api.text("/probe/sternline-probe.sha256").await;
    let program = api.ask("GET", "/probe/sternline-probe", "").await;

    let sha256 = data_encoding::HEXLOWER.encode(&tunnel::sha256(b"a program"));
    assert_eq!(status, 200);
    assert_eq!(checksum, format!("{sha256}  sternline-probe\n"));
    assert!(page.contains(&sha256), "{page}");
    let url = "https://relay.example/probe/sternline-probe";
    assert!(page.contains(url), "{page}");
    let run = format!(
        "./sternline-probe relay.example --pin {}",
        api.fixture.control.facts().identity
    );
    assert!(page.contains(&run), "{page}");
    assert!(!page.contains("--insecure"), "{page}");
    assert_eq!(&program.body[..], b"a program");
    assert_eq!(program.headers["content-length"], "9");
    assert_eq!(program.headers["etag"], format!("\"{sha256}\"").as_str());

    std::fs::write(&path, b"another program").unwrap();
    let again = api.ask("GET", "/probe/sternline-probe", "").await;
    assert_eq!(&again.body[..], b"another program");
    assert_ne!(again.headers["etag"], program.headers["etag"]);
}

#[tokio::test]
async fn a_page_that_nobody_vouches_for_sends_to_the_vendor_for_the_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    std::fs::write(&path, b"a program").unwrap();

    let (_, page) = api(Some(&path), true).await.text("/probe").await;

    assert!(page.contains("--insecure"), "{page}");
    assert!(page.contains("from your vendor&#39;s mail") || page.contains("vendor's mail"));
}

#[tokio::test]
async fn without_a_program_the_page_says_how_it_comes_there() {
    let dir = tempfile::tempdir().unwrap();
    let api = api(Some(&dir.path().join("missing")), false).await;

    let (status, page) = api.text("/probe").await;
    let program = api.ask("GET", "/probe/sternline-probe", "").await;

    assert_eq!(status, 200);
    assert!(page.contains("STERNLINE_RELAY_PROBE_PROGRAM"), "{page}");
    let folder = dir.path().display().to_string();
    assert!(!page.contains(&folder), "it names no path of the host");
    assert_eq!(program.code(), (404, "probe_program_missing".to_owned()));
}

#[tokio::test]
async fn where_the_probe_is_off_there_is_nothing() {
    let api = Api::new().await;

    for (method, path) in [
        ("GET", "/probe"),
        ("GET", "/probe/sternline-probe"),
        ("GET", "/probe/sternline-probe.sha256"),
        ("GET", "/probe/v1/echo"),
        ("POST", "/probe/v1/report"),
    ] {
        let answer = api.ask(method, path, "").await;
        assert_eq!(answer.code(), (404, "not_found".to_owned()), "{path}");
    }
}

const REPORT: &str = r#"{
    "kind": "sternline-probe report", "version": 1, "verdict": "degraded",
    "target": {"host": "relay.example"},
    "flows": [
        {"flow": "https", "port": 443, "protocol": "tcp", "verdict": "open", "required": true},
        {"flow": "quic", "port": 8000, "protocol": "udp", "verdict": "blocked", "causes": [
            {"code": "firewall-drop", "says": "A firewall drops it.", "address": "10.0.0.1"}
        ]}
    ]
}"#;

#[tokio::test]
async fn a_report_is_shown_on_its_environment_and_leaves_the_token_unused() {
    let api = api(None, false).await;
    let (_, token) = api.fixture.add("berlin").await;
    let before = api.ask("GET", "/api/v1/environments/berlin", "").await;
    assert!(before.json().get("probe").is_none());

    let kept = api.report(&token.to_text(), REPORT).await;
    let shown = api.ask("GET", "/api/v1/environments/berlin", "").await;

    assert_eq!(kept.status, 204);
    let probe = &shown.json()["probe"];
    assert_eq!(probe["verdict"], "degraded");
    assert_eq!(probe["flows"][0]["causes"], json!([]));
    let cause = json!({ "code": "firewall-drop", "says": "A firewall drops it." });
    assert_eq!(probe["flows"][1]["causes"], json!([cause]));
    let hello = crate::control::fixture::hello(token.secret.clone(), 1);
    api.fixture.control.admit_agent(hello).await.unwrap();
    let again = api.report(&token.to_text(), REPORT).await;
    assert_eq!(again.code(), (401, "token_used".to_owned()));
}

#[tokio::test]
async fn a_report_is_refused_without_a_token_too_large_or_when_it_is_none() {
    let api = api(None, false).await;
    let (_, token) = api.fixture.add("berlin").await;
    let text = token.to_text();
    let wrong_verdict = REPORT.replace("degraded", "<b>fine</b>");
    let large = " ".repeat(PROBE_REPORT_BYTES_MAX) + REPORT;

    for (token, report, status, code) in [
        ("nonsense", REPORT, 401, "token_unknown"),
        (api.fixture.api_token.as_str(), REPORT, 401, "token_unknown"),
        (&text, "{}", 400, "invalid_request"),
        (&text, &wrong_verdict, 400, "invalid_request"),
        (&text, &large, 413, "body_too_large"),
    ] {
        let answer = api.report(token, report).await;
        assert_eq!(answer.code(), (status, code.to_owned()));
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!told.contains(&text), "{told}");
    }
}

#[tokio::test]
async fn a_report_of_many_long_sentences_is_kept_as_a_summary() {
    let api = api(None, false).await;
    let (_, token) = api.fixture.add("berlin").await;
    let cause = json!({ "code": "c".repeat(500), "says": "\u{1}".repeat(1_000) });
    let flow = json!({ "flow": "x", "verdict": "blocked", "causes": vec![cause; 9] });
    let report = json!({
        "kind": "sternline-probe report", "version": 1, "verdict": "blocked",
        "flows": vec![flow; 4],
    });

    let kept = api.report(&token.to_text(), &report.to_string()).await;
    let shown = api.ask("GET", "/api/v1/environments/berlin", "").await;

    assert_eq!(kept.status, 204);
    let size = shown.json()["probe"].to_string().len();
    assert!(size < 2 * crate::limits::PROBE_SUMMARY_BYTES_MAX, "{size}");
    assert_eq!(shown.json()["probe"]["flows"].as_array().unwrap().len(), 4);
}
