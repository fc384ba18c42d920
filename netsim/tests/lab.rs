//! The program as a person runs it: scenarios in both worlds, and what it says of them.
#![cfg(target_os = "linux")]

mod program;

use netsim_core::{check::check, model::World, random::Seed, repro::Repro};
use program::{is_missing, program};

/// Runs scenarios in both worlds, and says how many statements of theirs were compared.
fn alike(scenarios: &[&str]) -> usize {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report");
    let mut command = program();
    command.arg("run").args(scenarios);
    command.args(["--world", "both", "--report"]).arg(&report);
    let output = command.output().expect("it runs");

    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{problems}");
    let json = std::fs::read_to_string(report.join("report.json")).expect("a report");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let parity = json["parity"].as_array().expect("what both say");
    assert!(parity.iter().all(|one| one["agrees"] == true), "{said}");
    parity.len()
}

#[test]
fn networks_come_out_alike_in_virtual_time_and_on_the_real_kernel() {
    if is_missing("networks_come_out_alike_in_virtual_time_and_on_the_real_kernel") {
        return;
    }
    let compared = alike(&["open", "udp-blocked", "8000-blocked", "reject-rst"]);

    assert!(compared > 20, "{compared} statements");
}

#[test]
fn what_stands_between_comes_out_alike_in_virtual_time_and_on_the_real_kernel() {
    let name = "what_stands_between_comes_out_alike_in_virtual_time_and_on_the_real_kernel";
    if is_missing(name) {
        return;
    }

    let compared = alike(&["upgrade-stripped", "tls-inspection"]);

    assert!(compared > 10, "{compared} statements");
}

/// An agent online for as long as it takes to see one.
const SHORT: &str = r#"
name = "short"
summary = "Nothing in between."
observed = "these tests"
duration = "8s"
host = [
    { name = "relay", runs = "relay", addresses = "203.0.113.10/24" },
    { name = "agent", runs = "agent", addresses = "203.0.113.20/24" },
]
cable = [{ name = "the-cable", ends = ["agent", "relay"] }]
expect = [{ see = "attempt", within = "8s" }]
"#;

#[test]
fn a_replay_in_the_lab_keeps_what_passed_on_the_cables_and_no_key() {
    if is_missing("a_replay_in_the_lab_keeps_what_passed_on_the_cables_and_no_key") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (repro, packets) = (
        folder.path().join("repro.toml"),
        folder.path().join("pcapng"),
    );
    let drawn = check(SHORT).expect("a sound scenario").drawn(Seed(1));
    let kept = Repro::new(drawn, Seed(1), (World::Lab, "test"));
    std::fs::write(&repro, kept.to_toml()).expect("there is room");

    let mut command = program();
    command
        .arg("replay")
        .arg(&repro)
        .arg("--pcapng")
        .arg(&packets);
    let output = command.output().expect("it runs");

    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problems}");
    let file = std::fs::read(&packets).expect("it was asked for");
    let contains = |words: &[u8]| file.windows(words.len()).any(|part| part == words);
    assert!(contains(b"the-cable"), "an interface a cable");
    assert!(file.len() > 2000, "what a handshake takes: {}", file.len());
    assert!(
        !contains(b"TRAFFIC_SECRET"),
        "release programs write no keys down"
    );
}
