//! Hosts talk through cables and boxes in virtual time: TCP through NATs that forget,
//! firewalls that refuse, cables that are cut; and the same seed is the same run.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::*;
use crate::{
    check::check,
    packet::Flags,
    stack::{HostError, Stack, TcpId, TcpState},
};

const SERVER: &str = "203.0.113.10:8000";

/// A client, an edge of the test's choice, the world's router, and a server.
fn scenario(edge: &str, line: &str, events: &str) -> Scenario {
    let text = format!(
        r#"
name = "test"
summary = "A client behind an edge."
observed = "these tests"
duration = "1h"
{events}
[[host]]
name = "relay"
runs = "relay"
addresses = "203.0.113.10/24"
[[host]]
name = "agent"
runs = "agent"
addresses = "10.1.0.2/24"
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
line = {{ delay = "10ms" {line} }}
[[cable]]
name = "relay-uplink"
ends = ["internet:outside", "relay"]
[[expect]]
never = "inbound-flow"
"#
    );
    check(&text)
        .unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
        .drawn(Seed(1))
}

/// A network with its hosts, jumping from event to event.
struct World {
    network: Network,
    stacks: BTreeMap<NodeId, Stack>,
    now: Instant,
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let network = Network::new(scenario, Seed(seed));
        let topology = network.topology().clone();
        let hosts = (0..topology.nodes.len()).map(NodeId);
        let stacks = hosts
            .filter(|id| matches!(topology.nodes[id.0], Node::Host { .. }))
            .map(|id| {
                let addresses = topology.addresses(id).iter();
                let nets = addresses.map(|(address, _)| (*address).into()).collect();
                let stream = Seed(seed).stream(&format!("host.{}", id.0));
                (id, Stack::new(nets, 1500, stream))
            })
            .collect();
        let now = Instant::START;
        Self {
            network,
            stacks,
            now,
        }
    }

    fn host(&mut self, name: &str) -> (NodeId, &mut Stack) {
        let id = self
            .network
            .topology()
            .copies(self.network.scenario(), &Name::of(name))[0];
        (id, self.stacks.get_mut(&id).expect("it is a host"))
    }

    fn stack(&mut self, name: &str) -> &mut Stack {
        self.host(name).1
    }

    /// Everything that can happen now happens; then the next time at which anything will.
    fn settle(&mut self) -> Option<Instant> {
        loop {
            let mut is_quiet = true;
            for (id, stack) in &mut self.stacks {
                stack.poll(self.now);
                for packet in stack.take_sent() {
                    self.network.send(self.now, *id, packet);
                    is_quiet = false;
                }
            }
            self.network.advance(self.now);
            for (id, packet) in self.network.take_delivered() {
                if let Some(stack) = self.stacks.get_mut(&id) {
                    stack.receive(self.now, packet);
                }
                is_quiet = false;
            }
            if is_quiet {
                let now = self.now;
                let timers = self.stacks.values_mut().map(|stack| stack.poll_at(now));
                let first = timers.flatten().filter(|at| *at > now).min();
                return [first, self.network.poll_at()].into_iter().flatten().min();
            }
        }
    }

    fn run_until(&mut self, end: Instant) {
        while let Some(next) = self.settle().filter(|next| *next <= end) {
            self.now = next;
        }
        self.now = end;
        self.settle();
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.run_until(end);
    }

    fn connect(&mut self) -> TcpId {
        let now = self.now;
        let server = SERVER.parse().expect("an address");
        let id = self
            .stack("agent")
            .connect(now, server)
            .expect("there is an address");
        self.run_for(Duration::from_secs(1));
        id
    }

    fn write(&mut self, id: TcpId, bytes: &[u8]) {
        let now = self.now;
        self.stack("agent")
            .write(now, id, bytes)
            .expect("there is room");
    }
}

/// A world with a connection: the agent's end and the relay's.
fn connected(edge: &str, line: &str, events: &str) -> (World, TcpId, TcpId) {
    let mut world = World::new(scenario(edge, line, events), 1);
    world.stack("relay").listen(8000).expect("the port is free");
    let ours = world.connect();
    assert_eq!(world.stack("agent").state(ours), TcpState::Open);
    let (theirs, _) = world
        .stack("relay")
        .accept(8000)
        .expect("a connection came in");
    (world, ours, theirs)
}

const NAT: &str = "nat = { addresses = \"198.51.100.1\" }";

#[test]
fn a_connection_through_a_nat_carries_bytes_and_comes_from_the_nats_address() {
    let (mut world, ours, theirs) = connected(NAT, "", "");

    world.write(ours, b"hello");
    world.run_for(Duration::from_secs(1));

    let now = world.now;
    let relay = world.stack("relay");
    let (_, peer) = relay.ends(theirs).expect("it is open");
    assert_eq!(peer.ip().to_string(), "198.51.100.1");
    assert_eq!(relay.read(now, theirs, &mut [0; 8]), Ok(5));
    assert_eq!(world.network.vacuous(), Vec::<String>::new());
}

#[test]
fn a_round_trip_takes_as_long_as_the_cables_are() {
    let mut world = World::new(scenario("", "", ""), 1);
    world.stack("relay").listen(8000).expect("the port is free");
    let server = SERVER.parse().expect("an address");
    let id = world
        .stack("agent")
        .connect(Instant::START, server)
        .expect("an address");

    world.run_until(Instant::at(Duration::from_millis(19)));
    let before = world.stack("agent").state(id);
    world.run_until(Instant::at(Duration::from_millis(20)));

    assert_eq!(
        (before, world.stack("agent").state(id)),
        (TcpState::Connecting, TcpState::Open)
    );
}

#[test]
fn a_connection_idle_for_longer_than_the_nat_remembers_hangs_in_silence() {
    let edge = "firewall = {}\nidle = { preset = \"azure-load-balancer\" }\n".to_owned() + NAT;
    let (mut world, ours, theirs) = connected(&edge, "", "");

    world.run_for(Duration::from_secs(239));
    world.write(ours, b"in time");
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    assert_eq!(world.stack("relay").read(now, theirs, &mut [0; 16]), Ok(7));
    world.run_for(Duration::from_secs(241));
    world.write(ours, b"too late");
    world.run_for(Duration::from_secs(60));

    let now = world.now;
    assert_eq!(
        world.stack("agent").state(ours),
        TcpState::Open,
        "it knows of nothing"
    );
    let arrived = world.stack("relay").read(now, theirs, &mut [0; 16]);
    assert_eq!(arrived, Err(HostError::WouldBlock));
    assert!(
        world.network.touched().of(Cause::Expired) >= 3,
        "it tries again and again"
    );
}

#[test]
fn a_connection_idle_for_too_long_is_reset_where_the_nat_says_so() {
    let edge = "idle = { preset = \"aws-nat-gateway\" }\n".to_owned() + NAT;
    let (mut world, ours, _) = connected(&edge, "", "");

    world.run_for(Duration::from_secs(351));
    world.write(ours, b"too late");
    world.run_for(Duration::from_secs(1));

    let state = world.stack("agent").state(ours);
    assert_eq!(state, TcpState::Closed(Some(HostError::ConnectionReset)));
}

#[test]
fn a_refusal_is_told_as_linux_tells_it() {
    let cases = [
        (
            "reset",
            TcpState::Closed(Some(HostError::ConnectionRefused)),
        ),
        ("reject", TcpState::Closed(Some(HostError::HostUnreachable))),
        ("drop", TcpState::Connecting),
    ];
    for (ruling, expected) in cases {
        let edge = format!("firewall = {{ rules = [{{ ports = 8000, do = \"{ruling}\" }}] }}");
        let mut world = World::new(scenario(&edge, "", ""), 1);
        world.stack("relay").listen(8000).expect("the port is free");

        let id = world.connect();

        assert_eq!(world.stack("agent").state(id), expected, "{ruling}");
        assert!(world.network.touched().of(Cause::Rule) >= 1);
    }
}

#[test]
fn a_cut_holds_bytes_up_and_they_arrive_after_it() {
    let cut =
        "at = [{ name = \"flap\", time = \"10s\", do = \"cut\", on = \"uplink\", for = \"5s\" }]";
    let (mut world, ours, theirs) = connected(NAT, "", cut);

    world.run_until(Instant::at(Duration::from_secs(11)));
    world.write(ours, b"held up");
    world.run_until(Instant::at(Duration::from_secs(14)));
    let now = world.now;
    let during = world.stack("relay").read(now, theirs, &mut [0; 16]);
    world.run_until(Instant::at(Duration::from_secs(40)));
    let now = world.now;
    let after = world.stack("relay").read(now, theirs, &mut [0; 16]);

    assert_eq!((during, after), (Err(HostError::WouldBlock), Ok(7)));
    let seen: Vec<String> = world
        .network
        .trace()
        .observations
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(seen, ["10.000000s event:flap", "15.000000s undone:flap"]);
    assert_eq!(world.network.vacuous(), Vec::<String>::new());
}

#[test]
fn a_cut_that_nobody_noticed_is_vacuous() {
    let cut =
        "at = [{ name = \"flap\", time = \"10s\", do = \"cut\", on = \"uplink\", for = \"5s\" }]";
    let (mut world, _, _) = connected("", "", cut);

    world.run_for(Duration::from_secs(60));

    assert_eq!(
        world.network.vacuous(),
        ["cut of uplink at 10.000000s flap touched no packet"]
    );
}

#[test]
fn a_megabyte_comes_through_loss_jitter_and_a_slow_line_unchanged() {
    let line = ", loss = 0.02, rate = \"20Mbit\", queue = \"100KiB\", duplicate = 0.01, \
                corrupt = 0.01, jitter = { spread = \"2ms\" }";
    let (mut world, ours, theirs) = connected(NAT, line, "");
    let sent: Vec<u8> = (0..1_000_000_u32)
        .map(|number| number.to_le_bytes()[1])
        .collect();
    let (mut put, mut got) = (0, Vec::new());
    let mut room = vec![0; 65_536];

    while got.len() < sent.len() && world.now < Instant::at(Duration::from_secs(600)) {
        let now = world.now;
        put += world
            .stack("agent")
            .write(now, ours, &sent[put..])
            .unwrap_or(0);
        world.run_for(Duration::from_millis(20));
        let now = world.now;
        while let Ok(taken) = world.stack("relay").read(now, theirs, &mut room) {
            got.extend_from_slice(&room[..taken]);
        }
    }

    assert_eq!(got.len(), sent.len(), "after {}", world.now);
    assert!(got == sent, "the bytes differ");
    assert_eq!(world.network.vacuous(), Vec::<String>::new());
}

#[test]
fn a_path_that_tells_its_mtu_is_learned_and_a_black_hole_is_not() {
    let cases = [
        (", mtu = 1280", true),
        (", mtu = 1280, too-big = \"silence\"", false),
    ];
    for (line, arrives) in cases {
        let (mut world, ours, theirs) = connected("", line, "");

        world.write(ours, &[7; 4000]);
        world.run_for(Duration::from_secs(30));

        let now = world.now;
        let mut room = [0; 8000];
        assert_eq!(
            world.stack("relay").read(now, theirs, &mut room).is_ok(),
            arrives,
            "{line}"
        );
        assert_eq!(
            world.stack("agent").mtu(),
            if arrives { 1280 } else { 1500 }
        );
    }
}

#[test]
fn what_a_stranger_sends_to_an_agent_is_observed_where_nothing_keeps_it_out() {
    for (edge, is_seen) in [("", true), ("firewall = {}", false)] {
        let mut world = World::new(scenario(edge, "", ""), 1);
        let now = world.now;
        let agent: SocketAddr = "10.1.0.2:22".parse().expect("an address");
        world
            .stack("relay")
            .connect(now, agent)
            .expect("there is an address");

        world.run_for(Duration::from_secs(1));

        let observed = &world.network.trace().observations;
        let seen = observed.iter().any(|one| one.word == Word::InboundFlow);
        assert_eq!(seen, is_seen, "{observed:?}");
    }
}

#[test]
fn a_rebinding_ends_tcp_and_the_relay_sees_another_port() {
    let rebind = "at = [{ name = \"rebind\", time = \"10s\", do = \"rebind\", on = \"office\" }]";
    let (mut world, ours, theirs) = connected(NAT, "", rebind);
    let before = world.stack("relay").ends(theirs).map(|(_, peer)| peer);

    world.run_until(Instant::at(Duration::from_secs(11)));
    world.write(ours, b"from another port");
    world.run_for(Duration::from_secs(1));

    let state = world.stack("agent").state(ours);
    assert_eq!(state, TcpState::Closed(Some(HostError::ConnectionReset)));
    let mut sightings = world.network.trace().sightings.iter();
    let last = sightings.rfind(|one| one.cable.as_str() == "relay-uplink");
    let last = last.expect("packets came to the relay");
    assert!(last.flags.has(Flags::RST) && Some(last.destination.1) != before.map(|end| end.port()));
}

#[test]
fn one_seed_is_one_run_and_another_seed_is_another() {
    let run = |seed| {
        let line = ", loss = 0.05, jitter = { shape = \"normal\", spread = \"3ms\" }";
        let mut world = World::new(scenario(NAT, line, ""), seed);
        world.stack("relay").listen(8000).expect("the port is free");
        let id = world.connect();
        let now = world.now;
        let _sent = world.stack("agent").write(now, id, &[1; 50_000]);
        world.run_for(Duration::from_secs(30));
        world.network.trace().clone()
    };

    assert_eq!(run(1).difference(&run(1)), None);
    assert!(run(1).difference(&run(2)).is_some());
}

#[test]
fn an_idle_hour_costs_next_to_nothing() {
    let (mut world, _, _) = connected(NAT, "", "");
    let packets = world.network.trace().sightings.len();

    world.run_for(Duration::from_secs(3600));

    assert_eq!(
        world.network.trace().sightings.len(),
        packets,
        "nothing was sent"
    );
}

/// The office's edge is somebody else's here.
fn with_external_office(edge: &str, events: &str) -> (World, NodeId) {
    let mut world = World::new(scenario(edge, "", events), 1);
    let nodes = world.network.topology().nodes.iter();
    let office = nodes
        .enumerate()
        .find(|(_, node)| **node == Node::Edge { edge: 0 })
        .map(|(id, _)| NodeId(id))
        .expect("there is an office");
    let network = std::mem::replace(
        &mut world.network,
        Network::new(scenario("", "", ""), Seed(1)),
    );
    world.network = network.with_external(&[office]);
    (world, office)
}

#[test]
fn an_external_edge_is_handed_packets_and_hands_them_back() {
    let (mut world, office) = with_external_office("firewall = {}", "");
    let server = SERVER.parse().expect("an address");
    world
        .stack("agent")
        .connect(Instant::START, server)
        .expect("an address");

    world.run_for(Duration::from_millis(100));
    let handed = world.network.take_at_edges();
    let links = world.network.topology().links_at(office).to_vec();
    let now = world.now;
    for (node, _, packet) in handed.clone() {
        world.network.send_from_edge(now, (node, links[1]), packet);
    }
    world.run_for(Duration::from_millis(100));

    let (node, link, packet) = &handed[0];
    assert_eq!((handed.len(), *node, *link), (1, office, links[0]));
    assert!(packet.flags().opens());
    // Nobody listens: the answer is on its way back, to the edge's other side.
    let back = world.network.take_at_edges();
    assert_eq!(back.iter().map(|one| one.1).collect::<Vec<_>>(), [links[1]]);
}

#[test]
fn boxes_further_inside_stay_with_the_network() {
    let (mut world, _) = with_external_office("udp-block = {}", "");
    let server = "203.0.113.10:9000".parse().expect("an address");
    let agent = world.stack("agent");
    let id = agent.bind_udp(Some(server)).expect("a port");
    agent.send_udp(id, server, b"x").expect("it fits");

    world.run_for(Duration::from_millis(100));

    assert_eq!(world.network.take_at_edges(), []);
    assert_eq!(world.network.touched().of(Cause::UdpBlocked), 1);
}

#[test]
fn an_external_edge_is_told_what_happens_to_it_and_counts_for_itself() {
    let rebind = "at = [{ name = \"rebind\", time = \"1s\", do = \"rebind\", on = \"office\" }]";
    let (mut world, office) = with_external_office(NAT, rebind);

    world.run_for(Duration::from_secs(2));
    let deeds = world.network.take_edge_deeds();
    let before = world.network.vacuous();
    world.network.set_touched_at_edge(office, Cause::Rebound, 3);
    world
        .network
        .set_touched_at_edge(office, Cause::Translated, 5);

    assert_eq!(
        deeds.iter().map(|deed| deed.edge).collect::<Vec<_>>(),
        [office]
    );
    assert_eq!(before.len(), 2, "{before:?}");
    assert_eq!(world.network.vacuous(), Vec::<String>::new());
}
