//! Two hosts on a piece of wire: what Linux would say, they say.

use super::*;
use crate::{random::Seed, term::PortRange};

const NOW: Instant = Instant::START;

fn host(address: &str) -> Stack {
    let address: IpNet = address.parse().expect("an address");
    Stack::new(vec![address], 1500, Seed(1).stream(&address.to_string()))
}

fn pair() -> (Stack, Stack) {
    (host("10.0.0.1/24"), host("10.0.0.2/24"))
}

/// Carries packets to and fro until both are quiet.
fn exchange(a: &mut Stack, b: &mut Stack) {
    loop {
        let (from_a, from_b) = (a.take_sent(), b.take_sent());
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        from_a.into_iter().for_each(|packet| b.receive(NOW, packet));
        from_b.into_iter().for_each(|packet| a.receive(NOW, packet));
    }
}

fn server(port: u16) -> SocketAddr {
    SocketAddr::new("10.0.0.2".parse().expect("an address"), port)
}

fn connected() -> (Stack, TcpId, Stack, TcpId) {
    let (mut a, mut b) = pair();
    b.listen(8000).expect("the port is free");
    let client = a.connect(NOW, server(8000)).expect("there is an address");
    exchange(&mut a, &mut b);
    let (accepted, _) = b.accept(8000).expect("a connection came in");
    (a, client, b, accepted)
}

#[test]
fn bytes_travel_both_ways_and_the_end_after_them() {
    let (mut a, client, mut b, accepted) = connected();
    let mut room = [0; 16];

    assert_eq!(a.write(NOW, client, b"question"), Ok(8));
    a.finish(NOW, client);
    exchange(&mut a, &mut b);
    assert_eq!(b.read(NOW, accepted, &mut room), Ok(8));
    assert_eq!(b.read(NOW, accepted, &mut room), Ok(0), "the end");
    assert_eq!(b.write(NOW, accepted, b"answer"), Ok(6));
    exchange(&mut a, &mut b);

    assert_eq!(a.read(NOW, client, &mut room), Ok(6));
    assert_eq!(&room[..6], b"answer");
    assert_eq!(a.read(NOW, client, &mut room), Err(HostError::WouldBlock));
}

#[test]
fn a_port_on_which_nobody_listens_refuses() {
    let (mut a, mut b) = pair();

    let client = a.connect(NOW, server(8000)).expect("there is an address");
    exchange(&mut a, &mut b);

    assert_eq!(
        a.state(client),
        TcpState::Closed(Some(HostError::ConnectionRefused))
    );
}

#[test]
fn a_peer_that_is_gone_resets() {
    let (mut a, client, mut b, _) = connected();

    b.close_all(NOW);
    exchange(&mut a, &mut b);

    assert_eq!(
        a.state(client),
        TcpState::Closed(Some(HostError::ConnectionReset))
    );
    assert_eq!(
        a.read(NOW, client, &mut [0; 4]),
        Err(HostError::ConnectionReset)
    );
    assert_eq!(b.held(), 0);
}

#[test]
fn a_socket_dropped_with_unread_bytes_resets() {
    let (mut a, client, mut b, accepted) = connected();
    a.write(NOW, client, b"unread").expect("there is room");
    exchange(&mut a, &mut b);

    b.release(NOW, accepted);
    exchange(&mut a, &mut b);

    assert_eq!(
        a.state(client),
        TcpState::Closed(Some(HostError::ConnectionReset))
    );
}

#[test]
fn a_rejected_connection_has_no_route_and_an_open_one_goes_on() {
    let (mut a, client, _, _) = connected();
    let second = a.connect(NOW, server(9)).expect("there is an address");
    let rejected = |stack: &mut Stack, id: TcpId| {
        let flow = stack.tcp[&id].flow;
        let sent = Packet::tcp(crate::packet::Segment {
            source: flow.source,
            destination: flow.destination,
            flags: crate::packet::Flags::SYN,
            sequence: 0,
            acknowledges: 0,
            payload: &[],
        });
        let by = "10.0.0.254".parse().expect("an address");
        let error = sent
            .error(Trouble::Prohibited, by)
            .expect("about a segment");
        stack.receive(NOW, error);
    };

    rejected(&mut a, second);
    rejected(&mut a, client);

    assert_eq!(
        a.state(second),
        TcpState::Closed(Some(HostError::HostUnreachable))
    );
    assert_eq!(a.state(client), TcpState::Open);
}

#[test]
fn a_datagram_to_nobody_is_refused_once() {
    let (mut a, mut b) = pair();
    let socket = a.bind_udp(Some(server(9))).expect("a port is free");

    a.send_udp(socket, server(9), b"x").expect("it fits");
    exchange(&mut a, &mut b);

    assert_eq!(a.receive_udp(socket), Err(HostError::ConnectionRefused));
    assert_eq!(a.receive_udp(socket), Err(HostError::WouldBlock));
}

#[test]
fn a_connected_udp_socket_hears_its_peer_alone() {
    let (mut a, mut b) = pair();
    let theirs = b.bind_udp_to(53).expect("the port is free");
    let other = b.bind_udp_to(54).expect("the port is free");
    let ours = a.bind_udp(Some(server(53))).expect("a port is free");
    let to = SocketAddr::new(
        "10.0.0.1".parse().expect("an address"),
        a.udp_port(ours).unwrap(),
    );

    b.send_udp(other, to, b"from elsewhere").expect("it fits");
    b.send_udp(theirs, to, b"from the peer").expect("it fits");
    exchange(&mut a, &mut b);

    assert_eq!(
        a.receive_udp(ours).map(|one| one.payload),
        Ok(b"from the peer".to_vec())
    );
    assert_eq!(a.receive_udp(ours), Err(HostError::WouldBlock));
}

#[test]
fn what_does_not_fit_the_mtu_is_refused_and_too_big_lowers_it() {
    let (mut a, _) = pair();
    let socket = a.bind_udp(Some(server(53))).expect("a port is free");
    assert_eq!(
        a.send_udp(socket, server(53), &[0; 1473]),
        Err(HostError::MessageTooLong)
    );
    a.send_udp(socket, server(53), &[0; 1472]).expect("it fits");
    let sent = a.take_sent().remove(0);

    let by = "10.0.0.254".parse().expect("an address");
    a.receive(
        NOW,
        sent.error(Trouble::TooBig { mtu: 1400 }, by)
            .expect("about a datagram"),
    );

    assert_eq!(a.mtu(), 1400);
    assert_eq!(
        a.send_udp(socket, server(53), &[0; 1472]),
        Err(HostError::MessageTooLong)
    );
}

#[test]
fn segments_fit_a_lowered_mtu() {
    let (mut a, client, _, _) = connected();
    let addresses = a.addresses().to_vec();
    a.reconfigure(addresses, 600);

    a.write(NOW, client, &[7; 5000]).expect("there is room");

    let longest = a.take_sent().iter().map(Packet::len).max();
    assert_eq!(longest, Some(600));
}

#[test]
fn a_corrupted_packet_is_thrown_away() {
    let (mut a, mut b) = pair();
    let theirs = b.bind_udp_to(53).expect("the port is free");
    let ours = a.bind_udp(Some(server(53))).expect("a port is free");
    a.send_udp(ours, server(53), b"payload").expect("it fits");
    let packet = a.take_sent().remove(0);
    let last_bit = packet.len() as u64 * 8 - 1;

    b.receive(
        NOW,
        packet
            .with_bit_turned(last_bit)
            .expect("its headers are whole"),
    );

    assert_eq!(b.receive_udp(theirs), Err(HostError::WouldBlock));
}

#[test]
fn a_lost_segment_is_sent_again_after_a_while() {
    let (mut a, client, mut b, accepted) = connected();
    a.write(NOW, client, b"lost").expect("there is room");
    assert_eq!(a.take_sent().len(), 1, "and it gets lost");

    let later = a.poll_at(NOW).expect("a timer runs");
    a.poll(later);
    exchange(&mut a, &mut b);

    assert!(later > NOW);
    assert_eq!(b.read(later, accepted, &mut [0; 8]), Ok(4));
}

#[test]
fn a_family_without_an_address_is_unreachable() {
    let (mut a, _) = pair();
    let remote = "[2001:db8::1]:8000".parse().expect("an address");

    assert_eq!(a.connect(NOW, remote), Err(HostError::NetworkUnreachable));
    assert_eq!(a.bind_udp(Some(remote)), Err(HostError::NetworkUnreachable));
}

#[test]
fn ipv6_works_as_ipv4_does() {
    let (mut a, mut b) = (host("2001:db8::1/64"), host("2001:db8::2/64"));
    b.listen(8000).expect("the port is free");
    let to = "[2001:db8::2]:8000".parse().expect("an address");

    let client = a.connect(NOW, to).expect("there is an address");
    exchange(&mut a, &mut b);

    assert_eq!(a.state(client), TcpState::Open);
    assert!(b.accept(8000).is_some());
}

#[test]
fn a_range_of_ports_is_one_listener_and_costs_nothing_before_a_connection() {
    let (mut a, mut b) = pair();
    let ports = PortRange {
        first: 0,
        last: 8000,
    };
    b.listen_on(ports).expect("the ports are free");
    let taken = b.listen(443);
    let clients = [80, 8000].map(|port| a.connect(NOW, server(port)).expect("an address"));
    exchange(&mut a, &mut b);

    let accepted = [(); 2].map(|()| b.accept(0).expect("a connection came in").0);
    let mut ports = accepted.map(|id| b.ends(id).expect("it is open").0.port());
    ports.sort_unstable();

    assert_eq!(taken, Err(HostError::AddressInUse));
    assert_eq!(ports, [80, 8000]);
    assert!(clients.iter().all(|id| a.state(*id) == TcpState::Open));
    assert_eq!(b.sockets.iter().count(), 2);
}

#[test]
fn a_stack_that_takes_any_address_answers_from_the_one_that_was_meant() {
    let (mut a, mut b) = pair();
    b.take_any_address();
    b.reconfigure(vec!["10.0.0.9/32".parse().expect("an address")], 1400);
    b.listen(8000).expect("the port is free");
    let meant: SocketAddr = "203.0.113.10:8000".parse().expect("an address");

    let client = a.connect(NOW, meant).expect("there is an address");
    exchange(&mut a, &mut b);
    let (accepted, _) = b.accept(8000).expect("a connection came in");

    assert_eq!(a.state(client), TcpState::Open);
    assert_eq!(b.ends(accepted).expect("it is open").0, meant);
}
