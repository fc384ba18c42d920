//! The probe's confusion matrix as a person has it made: some of its cases here, all of them
//! by `sternline-netsim matrix`.
#![cfg(target_os = "linux")]

mod program;

use std::{
    path::Path,
    process::{Command, Output},
};

use netsim::{
    lab::{Lab, Options, feed, sandbox},
    matrix::Case,
};
use netsim_core::random::Seed;
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

/// What a customer's network is to let through, and what not.
const RULES: &str = r#"
[[allow]]
name = "relay"
host = "relay.example.com"
port = 443
[[allow]]
name = "tunnel"
host = "relay.example.com"
port = 8000
[[deny]]
name = "elsewhere"
host = "203.0.113.10"
port = 22
"#;

/// Before the change: the tunnel's port is refused, and so is everything else but the relay.
const BEFORE: &str = "\
table inet site {
 chain out {
  type filter hook forward priority 0; policy accept;
  ip saddr 10.1.0.0/24 ip daddr != 203.0.113.0/24 reject with icmpx admin-prohibited
  tcp dport 8000 reject with tcp reset
 }
}
";

/// After it: the port is open. So is the web, which somebody forgot.
const AFTER: &str = "\
delete table inet site
table inet site {
 chain out {
  type filter hook forward priority 0; policy accept;
  ip saddr 10.1.0.0/24 ip daddr != 203.0.113.0/24 reject with icmpx admin-prohibited
 }
 chain elsewhere {
  type nat hook prerouting priority dstnat; policy accept;
  ip daddr 1.1.1.1 tcp dport 443 dnat ip to 203.0.113.10:443
 }
}
";

#[test]
fn a_change_of_the_firewall_shows_in_verify_and_in_diff() {
    let name = "a_change_of_the_firewall_shows_in_verify_and_in_diff";
    if sandbox::is_inside() {
        return change_the_firewall();
    }
    if is_missing(name) {
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    sandbox::enclose(&mut command).expect("a sandbox can be had");
    let output = command.output().expect("it runs");

    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{problems}");
    assert!(said.contains("1 passed"), "{said}");
}

fn change_the_firewall() {
    let case = "name = \"x\"\nsays = \"s\"\noffice = { kernel = true }";
    let case: Case = toml::from_str(case).expect("a case");
    let scenario = case.scenario().expect("a sound network");
    let options = Options {
        is_without_agents: true,
        ..Options::default()
    };
    let lab = Lab::start(&scenario, Seed(1), options).expect("a lab");
    let office = lab.edge("office").expect("the kernel's");
    let put = |rules: &str| {
        let fed = office.within(|| feed("nft", &["-f", "-"], rules));
        fed.expect("nftables takes it");
    };
    let folder = lab.host("customer").expect("the customer").folder();
    let path = |name: &str| folder.join(name);
    std::fs::write(path("rules.toml"), RULES).expect("there is room");
    let rules = path("rules.toml");

    put(BEFORE);
    let before = probe(&lab, &["relay.example.com", "--quick", "--json"], &[]);
    let refused = probe(&lab, &["verify"], &[&rules]);
    put(AFTER);
    let after = probe(&lab, &["relay.example.com", "--quick", "--json"], &[]);
    let open = probe(&lab, &["verify"], &[&rules]);
    let strict = probe(&lab, &["verify", "--strict"], &[&rules]);
    for (name, report) in [("before.json", &before), ("after.json", &after)] {
        std::fs::write(path(name), &report.stdout).expect("there is room");
    }
    let better = probe(
        &lab,
        &["diff"],
        &[&path("before.json"), &path("after.json")],
    );
    let worse = probe(
        &lab,
        &["diff"],
        &[&path("after.json"), &path("before.json")],
    );

    says(&before, 10, "firewall-reject");
    says(&refused, 20, "FAILS       relay.example.com:8000/tcp");
    says(&refused, 20, "2 of 3 rules hold");
    says(&after, 0, "\"verdict\": \"open\"");
    says(&open, 0, "3 of 3 rules hold");
    says(&strict, 20, "FAILS       1.1.1.1:443/tcp");
    says(
        &strict,
        20,
        "strict: 10 destinations of the Internet must be closed",
    );
    says(&strict, 20, "no agent runs on this host");
    says(&better, 0, "BLOCKED (firewall-reject) → OPEN");
    says(&worse, 20, "OPEN → BLOCKED (firewall-reject)");
}

/// The probe on the customer's host, as a person has it there.
fn probe(lab: &Lab, words: &[&str], files: &[&Path]) -> Output {
    let programs = lab.programs().expect("a lab with programs");
    let mut command = Command::new(programs.relay.with_file_name("sternline-probe"));
    command.args(words).args(files).env("NO_COLOR", "1");
    let customer = lab.host("customer").expect("the customer");
    customer.settle(&mut command).expect("it has a namespace");
    command.output().expect("the workspace is built")
}

#[track_caller]
fn says(output: &Output, code: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}{problems}");
    assert!(said.contains(words), "no {words:?} in: {said}{problems}");
}
