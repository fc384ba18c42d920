//! The lab itself: what it makes carries packets as the model has it, and nothing of it is
//! left behind. Each test runs once more in a sandbox, or is skipped by name.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use netsim_core::{
    check::check,
    middlebox::Cause,
    model::{RealResolver, Scenario, Word},
    random::Seed,
    term::At,
    time::Instant,
    trace::Observation,
};

use super::*;

mod deeds;
mod proxies;

const SERVER: &str = "203.0.113.10:8000";

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client behind an edge of the test's choice, the world's router, and a server.
fn scenario(edge: &str, line: &str, events: &str) -> Scenario {
    sound(&text(edge, line, events))
}

fn sound(text: &str) -> Scenario {
    check(text)
        .unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
        .drawn(Seed(1))
}

fn text(edge: &str, line: &str, events: &str) -> String {
    format!(
        r#"
name = "test"
summary = "A client behind an edge."
observed = "these tests"
duration = "1h"
{events}
[[host]]
name = "relay"
runs = "relay"
addresses = ["203.0.113.10/24", "2001:db8:2::10/64"]
names = "relay.example.com"
[[host]]
name = "dns"
runs = "resolver"
addresses = "203.0.113.53/24"
[[host]]
name = "agent"
runs = "agent"
addresses = ["10.1.0.2/24", "2001:db8:1::2/64"]
resolver = "dns"
[[edge]]
name = "office"
{edge}
[[edge]]
name = "internet"
[[cable]]
name = "lan"
ends = ["agent", "office:inside"]
[[cable]]
name = "uplink"
ends = ["office:outside", "internet:inside"]
line = {{ delay = "5ms" {line} }}
[[cable]]
name = "relay-uplink"
ends = ["internet:outside", "relay"]
[[cable]]
name = "dns-uplink"
ends = ["internet:outside", "dns"]
[[expect]]
never = "inbound-flow"
"#
    )
}

const NAT: &str = "nat = { addresses = \"198.51.100.1\" }";

/// Names a file that the process in the sandbox writes: a filter that fits no test is a
/// success as well.
const RAN: &str = "STERNLINE_NETSIM_RAN";

/// Runs a test in a sandbox: its body is for that process.
fn in_sandbox(name: &str, body: impl FnOnce()) {
    if sandbox::is_inside() {
        body();
        let ran = std::env::var_os(RAN).expect("the other process names it");
        fs::write(ran, "").expect("it is the other process's");
        return;
    }
    if let Err(missing) = preflight() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        skip(name, &missing.join("; "));
        return;
    }
    let path = format!("lab::tests::{name}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ran = folder.path().join("ran");
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command.args(["--exact", &path, "--nocapture", "--test-threads=1"]);
    command.env(RAN, &ran);
    sandbox::enclose(&mut command).expect("the preflight had nothing to say");
    let ended = command.status().expect("the preflight had nothing to say");
    assert!(ended.success(), "{name} in its sandbox: {ended}");
    assert!(ran.exists(), "no test has this name: {name}");
}

fn skip(name: &str, why: &str) {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "CI=true, and this machine cannot run {name}: {why}");
    eprintln!("skipped: {name}: {why}");
}

fn bare(scenario: &Scenario) -> Lab {
    let options = Options {
        is_bare: true,
        ..Options::default()
    };
    Lab::start(scenario, Seed(1), options).unwrap_or_else(|error| panic!("{error}"))
}

/// A connection from the agent's host to a listener on the relay's.
fn connected(lab: &Lab) -> std::io::Result<(TcpStream, TcpStream)> {
    let on = |name: &str| lab.host(name).expect("it is real").namespace();
    let listener = on("relay").within(|| TcpListener::bind("[::]:8000"))?;
    let near = on("agent").within(|| {
        let server = SERVER.parse().expect("an address");
        TcpStream::connect_timeout(&server, PATIENCE)
    })?;
    let (far, _) = listener.accept()?;
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    Ok((near, far))
}

fn exchange(near: &mut TcpStream, far: &mut TcpStream) -> std::io::Result<()> {
    let mut room = [0; 5];
    near.write_all(b"hello")?;
    far.read_exact(&mut room)?;
    far.write_all(b"world")?;
    near.read_exact(&mut room)
}

#[test]
fn tcp_udp_and_echoes_pass_a_nat_of_the_model_between_two_namespaces() {
    in_sandbox(
        "tcp_udp_and_echoes_pass_a_nat_of_the_model_between_two_namespaces",
        || {
            let lab = bare(&scenario(NAT, "", ""));

            let (mut near, mut far) = connected(&lab).unwrap();
            exchange(&mut near, &mut far).unwrap();
            let agent = lab.host("agent").unwrap().namespace();
            let relay = lab.host("relay").unwrap().namespace();
            let server = relay.within(|| UdpSocket::bind("0.0.0.0:9000")).unwrap();
            let client = agent.within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send_to(b"x", "203.0.113.10:9000").unwrap();
            let (_, from) = server.recv_from(&mut [0; 8]).unwrap();

            assert_eq!(
                far.peer_addr().unwrap().ip().to_canonical().to_string(),
                "198.51.100.1"
            );
            assert_eq!(from.ip().to_string(), "198.51.100.1");
            if let Some(ping) = tool("ping") {
                let mut command = Command::new(ping);
                command
                    .args(["-c1", "-W5", "203.0.113.10"])
                    .stdout(Stdio::null());
                lab.host("agent").unwrap().settle(&mut command).unwrap();
                assert!(command.status().unwrap().success());
            }
            assert!(lab.touched().of(Cause::Translated) > 0);
            assert_eq!(lab.vacuous(), Vec::<String>::new());
            assert_eq!(lab.troubles(), Vec::<String>::new());
        },
    );
}

#[test]
fn ipv6_passes_and_no_neighbour_is_asked_for() {
    in_sandbox("ipv6_passes_and_no_neighbour_is_asked_for", || {
        let lab = bare(&scenario("", "", ""));
        let on = |name: &str| lab.host(name).unwrap().namespace();

        let server = on("relay").within(|| UdpSocket::bind("[::]:9000")).unwrap();
        let client = on("agent").within(|| UdpSocket::bind("[::]:0")).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"x", "[2001:db8:2::10]:9000").unwrap();
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();

        assert_eq!(from.ip().to_string(), "2001:db8:1::2");
        let strays = lab.touched().of(Cause::Unroutable);
        assert_eq!(strays, 0, "nothing is sent that nobody has asked for");
    });
}

#[test]
fn a_name_is_asked_for_at_the_scenarios_resolver() {
    in_sandbox("a_name_is_asked_for_at_the_scenarios_resolver", || {
        let lab = bare(&scenario(NAT, "", ""));

        let mut command = Command::new("getent");
        command.args(["-s", "dns", "ahostsv4", "relay.example.com"]);
        lab.host("agent").unwrap().settle(&mut command).unwrap();
        let output = command.output().unwrap();

        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(found.contains("203.0.113.10"), "{found}");
    });
}

#[test]
fn a_rule_of_the_model_refuses_a_real_connection() {
    in_sandbox("a_rule_of_the_model_refuses_a_real_connection", || {
        let rule = "firewall = { rules = [{ ports = 8000, do = \"reset\" }] }";
        let lab = bare(&scenario(rule, "", ""));

        let refused = connected(&lab).unwrap_err();

        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_delay_is_as_long_as_the_cable_has_it() {
    in_sandbox("a_delay_is_as_long_as_the_cable_has_it", || {
        let lab = bare(&scenario("", ", jitter = { spread = \"1ms\" }", ""));
        let (mut near, mut far) = connected(&lab).unwrap();

        let times = (0..20).map(|_| {
            let begun = std::time::Instant::now();
            exchange(&mut near, &mut far).unwrap();
            begun.elapsed()
        });

        let least = times.min().unwrap();
        assert!(least >= Duration::from_millis(10), "{least:?}");
        assert!(least < Duration::from_millis(60), "{least:?}");
    });
}

#[test]
fn another_address_is_another_address_on_the_host() {
    in_sandbox("another_address_is_another_address_on_the_host", || {
        let event = "at = [{ name = \"moved\", time = \"500ms\", do = \"readdress\", \
                     on = \"agent\", address = \"10.1.0.77/24\" }]";
        let lab = bare(&scenario("", "", event));
        let agent = lab.host("agent").unwrap().namespace();

        let begun = std::time::Instant::now();
        let is_there = || {
            let bound = agent.within(|| UdpSocket::bind("10.1.0.77:0"));
            bound.is_ok()
        };
        while !is_there() && begun.elapsed() < PATIENCE {
            lab.wait_until(lab.now() + Duration::from_millis(20));
        }

        assert!(is_there());
        assert!(agent.within(|| UdpSocket::bind("10.1.0.2:0")).is_err());
    });
}

#[test]
fn a_vpn_that_comes_up_is_the_way_out_until_it_goes_down() {
    in_sandbox(
        "a_vpn_that_comes_up_is_the_way_out_until_it_goes_down",
        || {
            let all = crate::shipped::all();
            let flap = all
                .iter()
                .find(|one| one.name.as_str() == "vpn-connect-flap");
            let options = Options {
                is_bare: true,
                scale: 10,
                ..Options::default()
            };
            let scenario = flap.expect("it is shipped").drawn(Seed(1));
            let lab = Lab::start(&scenario, Seed(1), options).unwrap();
            let on = |name: &str| lab.host(name).unwrap().namespace();
            let server = on("relay").within(|| UdpSocket::bind("0.0.0.0:9000"));
            let server = server.unwrap();
            server
                .set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            // A new socket each time: one from before keeps the address that it has.
            let is_seen_as = |wanted: &str| {
                let client = on("agent").within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
                client.send_to(b"x", "203.0.113.10:9000").is_ok()
                    && matches!(server.recv_from(&mut [0; 8]),
                        Ok((_, from)) if from.ip().to_string() == wanted)
            };
            let becomes = |wanted: &str| {
                let end = lab.now() + PATIENCE;
                std::iter::from_fn(|| (lab.now() < end).then(|| is_seen_as(wanted)))
                    .any(|is_so| is_so)
            };

            assert!(becomes("198.51.100.1"), "by its own cable at first");
            assert!(
                becomes("198.51.100.77"),
                "by the gateway while the tunnel is up"
            );
            assert!(becomes("198.51.100.1"), "by its own cable again");
            assert_eq!(lab.troubles(), Vec::<String>::new());
        },
    );
}

#[test]
fn what_listens_on_a_host_is_listed_and_what_is_connected_is_not() {
    in_sandbox(
        "what_listens_on_a_host_is_listed_and_what_is_connected_is_not",
        || {
            let lab = bare(&scenario("", "", ""));
            let host = lab.host("agent").unwrap();
            let listener = host
                .namespace()
                .within(|| TcpListener::bind("10.1.0.2:22"))
                .unwrap();

            let open = host.open_sockets().unwrap();
            drop(listener);

            let open: Vec<String> = open.iter().map(ToString::to_string).collect();
            assert_eq!(open, ["tcp 10.1.0.2:22"]);
            assert_eq!(host.open_sockets().unwrap(), []);
        },
    );
}

#[test]
fn a_kernels_edge_translates_refuses_and_counts() {
    in_sandbox("a_kernels_edge_translates_refuses_and_counts", || {
        let edge = "kernel = true\nfirewall = { rules = [{ ports = 8001, do = \"reset\" }] }\n\
                    nat = { addresses = \"198.51.100.1\" }";
        let lab = bare(&scenario(edge, "", ""));

        let (mut near, mut far) = connected(&lab).unwrap();
        exchange(&mut near, &mut far).unwrap();
        let agent = lab.host("agent").unwrap().namespace();
        let refused = agent.within(|| TcpStream::connect("203.0.113.10:8001"));

        assert_eq!(
            far.peer_addr().unwrap().ip().to_canonical().to_string(),
            "198.51.100.1"
        );
        assert_eq!(
            refused.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        assert!(lab.touched().of(Cause::Rule) > 0);
        assert_eq!(lab.vacuous(), Vec::<String>::new());
    });
}

#[test]
fn a_kernels_edge_forgets_an_idle_flow_and_says_nothing() {
    in_sandbox(
        "a_kernels_edge_forgets_an_idle_flow_and_says_nothing",
        || {
            let edge = "kernel = true\nfirewall = {}\nnat = { addresses = \"198.51.100.1\" }\n\
                    idle = { tcp = \"1s\" }";
            let lab = bare(&scenario(edge, "", ""));
            let (mut near, mut far) = connected(&lab).unwrap();
            exchange(&mut near, &mut far).unwrap();
            far.set_read_timeout(Some(Duration::from_secs(1))).unwrap();

            lab.wait_until(lab.now() + Duration::from_secs(4));
            near.write_all(b"late!").unwrap();

            assert!(far.read(&mut [0; 8]).is_err(), "an expired flow went on");
            assert!(lab.touched().of(Cause::Expired) > 0);
        },
    );
}

#[test]
fn a_kernels_edge_gives_flows_other_ports_when_it_is_rebound() {
    in_sandbox(
        "a_kernels_edge_gives_flows_other_ports_when_it_is_rebound",
        || {
            let edge = "kernel = true\nfirewall = {}\nnat = { addresses = \"198.51.100.1\" }";
            let event =
                "at = [{ name = \"rebind\", time = \"2s\", do = \"rebind\", on = \"office\" }]";
            let lab = bare(&scenario(edge, "", event));
            let on = |name: &str| lab.host(name).unwrap().namespace();
            let server = on("relay")
                .within(|| UdpSocket::bind("0.0.0.0:9000"))
                .unwrap();
            let client = on("agent").within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let port = || {
                client.send_to(b"x", "203.0.113.10:9000").unwrap();
                server.recv_from(&mut [0; 8]).unwrap().1.port()
            };

            let before = port();
            let end = lab.now() + PATIENCE;
            assert!(lab.wait_for(end, |one| one.word == Word::Event));
            while lab.touched().of(Cause::Rebound) == 0 && lab.now() < end {
                lab.wait_until(lab.now() + Duration::from_millis(20));
            }

            assert_ne!(port(), before);
            assert_eq!(lab.vacuous(), Vec::<String>::new());
        },
    );
}

#[test]
fn an_agent_comes_online_through_a_nat_and_comes_back_after_a_crash() {
    in_sandbox(
        "an_agent_comes_online_through_a_nat_and_comes_back_after_a_crash",
        || {
            if let Err(error) = programs::Programs::find() {
                return skip("an agent in the lab", &error.to_string());
            }
            let event = "at = [{ name = \"crash\", time = \"4s\", do = \"crash\", on = \"agent\", \
                     for = \"1s\" }]";
            let edge = format!("firewall = {{}}\n{NAT}");
            let mut scenario = scenario(&edge, "", event);
            for host in &mut scenario.hosts {
                // The NAT has no IPv6, and how long an agent tries it first is not asked here.
                host.addresses.retain(|net| net.addr().is_ipv4());
            }
            let lab = Lab::start(&scenario, Seed(1), Options::default());
            let lab = lab.unwrap_or_else(|error| panic!("{error}"));

            let is_online = |one: &Observation| one.word == Word::Online;
            let came = lab.wait_for(Instant::at(Duration::from_secs(4)), is_online);
            let ended = lab.wait_for(Instant::at(PATIENCE), |one| one.word == Word::Undone);
            let mut count = 0;
            let is_second = |one: &Observation| {
                count += usize::from(is_online(one));
                count == 2
            };
            let came_back = lab.wait_for(lab.now() + PATIENCE, is_second);

            let seen: Vec<String> = lab.observations().iter().map(ToString::to_string).collect();
            assert!(
                came && ended && came_back,
                "{seen:#?}\n{:#?}",
                lab.troubles()
            );
            assert!(
                !seen.iter().any(|one| one.contains("listening")),
                "{seen:#?}"
            );
            assert!(
                !seen.iter().any(|one| one.contains("inbound-flow")),
                "{seen:#?}"
            );
            assert!(
                seen.iter().any(|one| one.contains("online:quic")),
                "{seen:#?}"
            );
        },
    );
}

#[test]
fn a_fast_line_and_a_nat_carry_what_a_fast_line_carries() {
    in_sandbox(
        "a_fast_line_and_a_nat_carry_what_a_fast_line_carries",
        || {
            let lab = bare(&scenario(NAT, "", ""));
            let (mut near, mut far) = connected(&lab).unwrap();
            let lasts = Duration::from_secs(2);

            let begun = std::time::Instant::now();
            let sending = std::thread::spawn(move || {
                let bytes = vec![7; 1 << 16];
                while begun.elapsed() < lasts && near.write_all(&bytes).is_ok() {}
            });
            let mut room = vec![0; 1 << 16];
            let mut got = 0_u64;
            loop {
                match far.read(&mut room).unwrap() {
                    0 => break,
                    length => got += length as u64,
                }
            }
            let took = begun.elapsed();
            sending.join().unwrap();

            let megabits = got * 8 / 1_000 / u64::try_from(took.as_millis()).unwrap();
            println!(
                "{megabits} Mbit/s, late by {:?} at most",
                lab.fabric().latest()
            );
            assert!(megabits > 50, "{megabits} Mbit/s");
            assert_eq!(lab.troubles(), Vec::<String>::new());
        },
    );
}

/// Held by a process of [`nothing_outlives_a_parent_that_is_killed`].
const HELD: &str = "STERNLINE_NETSIM_HELD";

#[test]
fn nothing_outlives_a_parent_that_is_killed() {
    if sandbox::is_inside() {
        let lab = bare(&scenario(NAT, "", ""));
        let host = lab.host("agent").unwrap();
        let mut command = Command::new("sleep");
        let mut child = host
            .spawn(command.arg("3600"), &host.folder().join("log"))
            .unwrap();
        // On the way out through the parent's pipe.
        println!("held");
        lab.wait_until(lab.now() + Duration::from_secs(600));
        child.kill().unwrap();
        child.wait().unwrap();
        return;
    }
    let arguments = [
        "--exact",
        "lab::tests::nothing_outlives_a_parent_that_is_killed",
    ];
    let arguments = [&arguments[..], &["--nocapture", "--test-threads=1"]].concat();
    if std::env::var_os(HELD).is_some() {
        sandbox::run(arguments).unwrap();
        return;
    }
    if let Err(missing) = preflight() {
        return skip("kill -9", &format!("{missing:?}"));
    }
    let mark = format!("{}", std::process::id());
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env(HELD, &mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stdout = parent.stdout.take().unwrap();
    while !said.contains("held") {
        let mut room = [0; 256];
        let length = stdout.read(&mut room).unwrap();
        assert_ne!(length, 0, "it ended: {said}");
        said.push_str(&String::from_utf8_lossy(&room[..length]));
    }
    let before = marked(&mark);

    parent.kill().unwrap();
    parent.wait().unwrap();
    // Every process holds the other end: it is closed with the last of them.
    stdout.read_to_string(&mut said).unwrap();

    assert!(
        before >= 4,
        "parent, keeper, sandbox and sleep were seen: {before}"
    );
    let begun = std::time::Instant::now();
    while marked(&mark) > 0 && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!(marked(&mark), 0, "processes are left, and their namespaces");
}

/// Processes that have the mark in their environment.
fn marked(mark: &str) -> usize {
    let wanted = format!("{HELD}={mark}");
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let mut lines = environment.split(|byte| *byte == 0);
        lines.any(|line| line == wanted.as_bytes())
    })
    .count()
}
