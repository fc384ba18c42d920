//! The program as a person runs it: scenarios in both worlds, and what it says of them.
#![cfg(target_os = "linux")]

use std::{path::Path, process::Command};

use netsim::lab;

/// Why no lab can be run here; where nothing may be skipped, that is a failure.
fn is_missing(test: &str) -> bool {
    let Err(missing) = lab::preflight() else {
        return false;
    };
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let missing = missing.join("; ");
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "{test}: {missing}");
    eprintln!("skipped: {test}: {missing}");
    true
}

#[test]
fn networks_come_out_alike_in_virtual_time_and_on_the_real_kernel() {
    if is_missing("networks_come_out_alike_in_virtual_time_and_on_the_real_kernel") {
        return;
    }
    let program = env!("CARGO_BIN_EXE_sternline-netsim");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report");

    let mut command = Command::new(program);
    command.args(["run", "open", "udp-blocked", "8000-blocked", "reject-rst"]);
    command.args(["--world", "both", "--report"]).arg(&report);
    // The programs are beside this one, wherever a test runner puts what it was given.
    let beside = Path::new(program).parent().expect("a folder");
    command.env("STERNLINE_PROGRAMS", beside);
    let output = command.output().expect("it runs");

    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{problems}");
    let json = std::fs::read_to_string(report.join("report.json")).expect("a report");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let parity = json["parity"].as_array().expect("what both say");
    assert!(parity.len() > 20, "{} statements", parity.len());
    assert!(parity.iter().all(|one| one["agrees"] == true), "{said}");
}
