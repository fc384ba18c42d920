//! The probe's confusion matrix as a person has it made: some of its cases here, all of them
//! by `sternline-netsim matrix`.
#![cfg(target_os = "linux")]

mod program;

use program::{is_missing, program};

/// A network that nothing is wrong with, and one of each main cause: those that take no long
/// waits.
const QUICK: [&str; 10] = [
    "open",
    "open-ipv6",
    "drop-8000-tcp",
    "reset-8000-tcp",
    "reject-8000-udp",
    "host-reject-8000-tcp",
    "no-route-prohibited",
    "dns-nxdomain",
    "proxy-refuses",
    "tls-interception",
];

#[test]
fn the_probe_names_who_blocks_on_the_real_kernel_and_accuses_no_healthy_network() {
    let name = "the_probe_names_who_blocks_on_the_real_kernel_and_accuses_no_healthy_network";
    if is_missing(name) {
        return;
    }

    let mut command = program();
    command.args(["matrix", "--json"]).args(QUICK);
    let output = command.output().expect("it runs");

    let progress = String::from_utf8_lossy(&output.stderr);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {progress}"));
    assert_eq!(json["right"], QUICK.len(), "{progress}");
    assert_eq!(json["false_alarms"], 0, "{progress}");
    assert!(output.status.success(), "{progress}");
}

#[test]
fn a_case_that_there_is_not_is_refused_and_says_where_the_names_are() {
    let output = program().args(["matrix", "open-sesame"]).output();
    let output = output.expect("it runs");

    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("sternline-netsim matrix --list"), "{said}");
}
