//! The harness as its user runs it. What it measures is nobody's business here: only
//! that every test comes to a figure, and that what is lacking is named.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const TESTS: [&str; 11] = [
    "down-1",
    "down-16",
    "up-1",
    "up-16",
    "connect",
    "connect-16",
    "http-64",
    "ping",
    "ping-pinned",
    "ping-beside",
    "stalled",
];

fn bench(arguments: &[&str], results: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sternline-bench"))
        .args(arguments)
        .arg("--results")
        .arg(results)
        .output()
        .expect("cargo built it")
}

/// Compares in short windows, and returns all that was seen. Not so short that a busy machine
/// gives a whole one to others.
fn compare(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("run.json").display().to_string();
    let mut all = vec!["compare", "--rounds", "1", "--window", "300"];
    all.extend(["--warm-up", "20", "--json", &json]);
    all.extend(arguments);
    let output = bench(&all, folder.path());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = fs::read(&json).expect("--json was given");
    serde_json::from_slice(&text).expect("JSON")
}

/// Tests with at least one figure of this peer.
fn measured<'a>(run: &'a Value, peer: &str) -> Vec<&'a str> {
    let samples = run["samples"].as_array().expect("a list of samples");
    let mut tests: Vec<&str> = samples
        .iter()
        .filter(|sample| sample["peer"] == peer && sample["metric"] != "foreign_ratio")
        .filter_map(|sample| sample["test"].as_str())
        .collect();
    tests.dedup();
    tests
}

#[test]
fn every_test_comes_to_a_figure_without_a_tunnel() {
    let run = compare(&["--only", "direct"]);

    assert_eq!(run["miscarried"], serde_json::json!([]));
    let measured = measured(&run, "direct");
    for test in TESTS {
        assert!(measured.contains(&test), "{test}: {measured:?}");
    }
}

#[test]
fn ours_is_measured_over_both_transports() {
    let bench = Path::new(env!("CARGO_BIN_EXE_sternline-bench"));
    let folder = bench.parent().expect("a program is in a folder");
    if !folder.join("sternline-relay").is_file() || !folder.join("sternline-agent").is_file() {
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!is_ci, "CI=true: run `cargo build --release --workspace`");
        eprintln!("skipped: relay and agent are not built (cargo build --release --workspace)");
        return;
    }

    let run = compare(&["--only", "sternline", "--tests", "down-1,up-1,http-64,ping"]);

    assert_eq!(run["miscarried"], serde_json::json!([]));
    for peer in ["sternline-ws", "sternline-quic"] {
        let measured = measured(&run, peer);
        for test in ["down-1", "up-1", "http-64", "ping", "memory"] {
            assert!(measured.contains(&test), "{peer}: {test}: {measured:?}");
        }
    }
}

#[test]
fn what_nobody_asked_for_need_not_be_there() {
    let run = compare(&["--only", "direct", "--tests", "ping", "--ours", "nowhere"]);

    assert_eq!(measured(&run, "direct"), ["ping"]);
}

#[test]
fn programs_that_are_not_there_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ours = format!("after={}", folder.path().display());

    let output = bench(
        &["compare", "--only", "after", "--ours", &ours],
        folder.path(),
    );

    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("sternline-relay is missing") && said.contains("cargo build --release"),
        "{said}"
    );
}
