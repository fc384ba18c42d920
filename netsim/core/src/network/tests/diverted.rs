//! What an edge diverts comes to its own node, under the address that was meant, and
//! what the proxies there dial passes the edge's boxes.

use super::*;
use crate::term::PortRange;

const PORTAL: &str = r#"
[[proxy]]
name = "portal"
on = "office"
speaks = "transparent"
port = "80-8000"
captive = true
"#;

const NAT: &str = r#"nat = { addresses = "198.51.100.1" }"#;

/// A world whose edge diverts, with the stack of the edge listening.
fn world(edge: &str, events: &str) -> (World, NodeId) {
    let mut world = World::new(scenario(edge, "", &format!("{PORTAL}{events}")), 1);
    let nodes = 0..world.network.topology().nodes.len();
    let mut nodes = nodes.map(NodeId);
    let office = nodes.find(|id| world.network.diverts(*id)).expect("one");
    let ports = PortRange {
        first: 80,
        last: 8000,
    };
    let stack = world.stacks.get_mut(&office).expect("it has a stack");
    stack.listen_on(ports).expect("the ports are free");
    world.stack("relay").listen(8000).expect("the port is free");
    (world, office)
}

#[test]
fn a_diverted_connection_is_open_at_the_proxy_under_the_address_that_was_meant() {
    let (mut world, office) = world(NAT, "");

    let client = world.connect();
    let now = world.now;
    let stack = world.stacks.get_mut(&office).expect("a stack");
    let (accepted, from) = stack.accept(80).expect("a connection came in");
    let meant = stack.ends(accepted).expect("it is open").0;
    stack.write(now, accepted, b"log in").expect("room");
    world.run_for(Duration::from_secs(1));

    assert_eq!(meant.to_string(), SERVER);
    assert_eq!(from.ip().to_string(), "10.1.0.2");
    assert_eq!(world.stack("relay").accept(8000), None);
    let (now, mut room) = (world.now, [0; 16]);
    assert_eq!(world.stack("agent").read(now, client, &mut room), Ok(6));
    assert_eq!(
        world.network.vacuous(),
        ["translated on the edge office touched no packet"]
    );
    assert!(world.network.touched().of(Cause::Diverted) > 0);
}

#[test]
fn what_the_proxy_dials_passes_the_boxes_of_its_edge() {
    for (edge, seen) in [(NAT, "198.51.100.1"), ("firewall = {}", "198.19.0.1")] {
        let (mut world, office) = world(edge, "");

        let (now, server) = (world.now, SERVER.parse().expect("an address"));
        let stack = world.stacks.get_mut(&office).expect("a stack");
        let dialled = stack.connect(now, server).expect("an address");
        world.run_for(Duration::from_secs(1));

        let (_, from) = world.stack("relay").accept(8000).expect("it came in");
        assert_eq!(from.ip().to_string(), seen);
        assert_eq!(world.stacks[&office].state(dialled), TcpState::Open);
    }
}

#[test]
fn a_released_portal_keeps_what_it_holds_and_lets_through_what_begins() {
    let release = "[[at]]\ntime = \"10s\"\ndo = \"release\"\non = \"portal\"\nfor = \"20s\"\n";
    let (mut world, office) = world(NAT, release);
    let held = world.connect();

    world.run_for(Duration::from_secs(10));
    world.connect();
    let passed = world.stack("relay").accept(8000);
    world.write(held, b"still here");
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    let stack = world.stacks.get_mut(&office).expect("a stack");
    let (accepted, _) = stack.accept(80).expect("the first");
    let heard = stack.read(now, accepted, &mut [0; 16]);
    world.run_for(Duration::from_secs(20));
    world.connect();
    let again = world.stacks.get_mut(&office).expect("a stack").accept(80);

    assert!(passed.is_some(), "released");
    assert_eq!(heard, Ok(10));
    assert!(again.is_some(), "captive again");
}

#[test]
fn a_proxy_that_nothing_came_to_is_vacuous() {
    let (mut world, _) = world("", "");

    world.run_for(Duration::from_secs(1));

    let vacuous = world.network.vacuous();
    assert_eq!(vacuous, ["no connection came to the proxy portal"]);
}
