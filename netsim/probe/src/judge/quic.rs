//! QUIC did not come about: who is it?

use super::{
    finding::Finding,
    scene::{Scene, is_port_unreachable, is_prohibited},
    secured, unreached,
};
use crate::{
    observe::{Attempt, Fault, FaultKind, Flow, Icmp, UdpTest, Variation},
    verdict::{Cause, Code, Confidence},
};

/// The smallest packet that QUIC's handshake needs to pass, of IPv4.
const HANDSHAKE_PACKET_BYTES: u32 = 1_200 + 28;

/// Judges QUIC that did not come about.
pub(super) fn handshake(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let tests: Vec<&UdpTest> = scene.seen.udp.iter().collect();
    let port = scene.seen.target.tunnel_port;
    if fault.kind == FaultKind::Busy {
        let says = "the relay is there, and takes no connection over QUIC now";
        return Finding::blocked(Confidence::High, Cause::new(Code::Relay, says));
    }
    let to_address = |one: &&&UdpTest| attempt.address.is_none_or(|to| one.to.ip() == to);
    let own: Vec<&&UdpTest> = tests.iter().filter(to_address).collect();
    let mut faults = own.iter().filter_map(|one| one.fault.as_ref());
    let told = faults.next().or(Some(fault));
    if told.is_some_and(|fault| fault.kind == FaultKind::NotPermitted) {
        return unreached::host_firewall(Confidence::High, port, "udp");
    }
    if let Some(fault) = told.filter(|fault| fault.is_local)
        && matches!(
            fault.kind,
            FaultKind::NetUnreachable | FaultKind::HostUnreachable
        )
    {
        let says = format!("this host has no route for {port}/udp: {}", fault.says);
        return Finding::blocked(Confidence::High, Cause::new(Code::NoRoute, says));
    }
    if let Some(icmp) = own.iter().flat_map(|one| &one.icmp).next() {
        return by_icmp(scene, attempt, icmp);
    }
    let mtu = [Flow::Https, Flow::Websocket].into_iter();
    let mtu = mtu.filter_map(|flow| scene.mtu(flow)).min();
    if let Some(bytes) = mtu.filter(|bytes| *bytes < HANDSHAKE_PACKET_BYTES) {
        return secured::mtu(bytes);
    }
    if scene.is_busy(attempt.address) {
        return secured::beside_a_busy_door(scene, attempt, fault);
    }
    match own.iter().any(|one| one.answered_after.is_some()) {
        true => beyond_a_bare_answer(scene, attempt, fault),
        false => match attempt.address {
            Some(address) => unreached::silent(scene, Flow::Quic, address, port),
            None => Finding::cannot_tell(format!("QUIC fails: {}", fault.says)),
        },
    }
}

fn by_icmp(scene: Scene<'_>, attempt: &Attempt, icmp: &Icmp) -> Finding {
    let port = scene.seen.target.tunnel_port;
    if is_prohibited(icmp) {
        return unreached::prohibited_by(scene, icmp);
    }
    if is_port_unreachable(icmp) && icmp.offender == attempt.address {
        let says = format!("the relay's host itself says that nothing listens on {port}/udp");
        let mut cause = Cause::new(Code::Relay, says);
        cause.address = icmp.offender.map(|address| address.to_string());
        return Finding::blocked(Confidence::Medium, cause);
    }
    if icmp.is_local {
        let says = format!("this host does not find the next device on the way for {port}/udp");
        return Finding::blocked(Confidence::Medium, Cause::new(Code::NoRoute, says));
    }
    // A router that reaches the address for one port has a route to it: then it is a rule.
    if is_port_unreachable(icmp) || scene.is_answered(attempt.address) {
        return unreached::prohibited_by(scene, icmp);
    }
    let says = match icmp.offender {
        Some(router) => format!("the router {router} says that it does not reach the relay"),
        None => "a router on the way says that it does not reach the relay".to_owned(),
    };
    let mut cause = Cause::new(Code::NoRoute, says);
    cause.address = icmp.offender.map(|address| address.to_string());
    Finding::blocked(Confidence::Medium, cause)
}

/// A bare datagram is answered, and QUIC's handshake is not.
fn beyond_a_bare_answer(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let port = scene.seen.target.tunnel_port;
    let answered = |wanted: fn(Variation) -> bool| {
        let mut varied = scene.varied(attempt.flow, wanted);
        varied.any(Attempt::is_answered)
    };
    let inspected =
        |confidence, says: String| Finding::blocked(confidence, Cause::new(Code::Inspection, says));
    if answered(|one| one == Variation::NeutralName) {
        return inspected(
            Confidence::High,
            format!("something on the way drops QUIC on {port}/udp by its server name"),
        );
    }
    if answered(|one| one == Variation::NeutralAlpn) {
        return inspected(
            Confidence::High,
            format!("something on the way drops QUIC on {port}/udp by its application protocol"),
        );
    }
    match fault.kind {
        FaultKind::TimedOut | FaultKind::Refused => inspected(
            Confidence::Medium,
            format!(
                "something on the way drops QUIC's first packets on {port}/udp: other datagrams \
                 of their size reach the relay, and its answers come back"
            ),
        ),
        _ => Finding::cannot_tell(format!("QUIC fails after it was answered: {}", fault.says)),
    }
}
