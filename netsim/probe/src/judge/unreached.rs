//! Nothing of the relay answered: who is it?

use std::net::IpAddr;

use super::{
    finding::Finding,
    scene::{Refuser, Scene, is_port_unreachable, is_prohibited},
};
use crate::{
    observe::{Attempt, Fault, FaultKind, Flow, Icmp, Micros, Stage},
    verdict::{Cause, Code, Confidence},
};

/// After so long "no route to host" is a neighbour that does not answer.
const NEIGHBOUR_WAIT: Micros = 2_000_000;

/// Judges a connection over TCP that did not come about.
pub(super) fn tcp(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let Some(address) = attempt.address else {
        return Finding::cannot_tell(format!("no connection: {}", fault.says));
    };
    let port = scene.seen.target.port(attempt.flow);
    match fault.kind {
        FaultKind::NotPermitted => host_firewall(Confidence::High, port, "tcp"),
        FaultKind::NoPort => Finding::blocked(
            Confidence::High,
            Cause::new(
                Code::PortExhaustion,
                "this host has no free port for one more connection",
            ),
        ),
        FaultKind::NetUnreachable => net_unreachable(scene, address, fault.is_local),
        FaultKind::HostUnreachable => host_unreachable(scene, attempt, address),
        FaultKind::Refused => refused(scene, attempt, address, port),
        FaultKind::TimedOut => silent(scene, attempt.flow, address, port),
        _ => Finding::cannot_tell(format!("no connection to {address}:{port}: {}", fault.says)),
    }
}

/// This host's own rules.
pub(super) fn host_firewall(confidence: Confidence, port: u16, protocol: &str) -> Finding {
    let says = format!("this host's own firewall does not let {port}/{protocol} out");
    Finding::blocked(confidence, Cause::new(Code::HostFirewall, says))
}

/// No way there.
fn net_unreachable(scene: Scene<'_>, address: IpAddr, is_local: bool) -> Finding {
    if is_local {
        let says = format!("this host has no route to {address}");
        return Finding::blocked(Confidence::High, Cause::new(Code::NoRoute, says));
    }
    if scene.is_answered(Some(address)) {
        let says = format!(
            "a device on the way answers \"network unreachable\" for this port, and lets others \
             of {address} through"
        );
        return Finding::blocked(Confidence::Medium, Cause::new(Code::FirewallReject, says));
    }
    let says = format!("a router on the way knows no route to {address}");
    Finding::blocked(Confidence::Medium, Cause::new(Code::NoRoute, says))
}

fn host_unreachable(scene: Scene<'_>, attempt: &Attempt, address: IpAddr) -> Finding {
    let own = &scene.seen.own;
    // Over IPv6 a rejection by this host itself comes to light with the second packet alone.
    let is_resend = own.resends_refused > 0
        && own
            .refused_over_loopback
            .is_none_or(|(tries, _)| tries == 0);
    if is_rejected_here(scene, address) || is_resend {
        let port = scene.seen.target.port(attempt.flow);
        return rejected_here(port);
    }
    let prohibited = scene.icmp(Some(address)).find(|icmp| is_prohibited(icmp));
    if let Some(icmp) = prohibited.filter(|icmp| !icmp.is_local) {
        return prohibited_by(scene, icmp);
    }
    if scene.is_answered(Some(address)) {
        let says = format!(
            "a firewall on the way rejects this port by ICMP, and lets others of {address} through"
        );
        return Finding::blocked(Confidence::High, Cause::new(Code::FirewallReject, says));
    }
    let took = attempt.took(Stage::Tcp).unwrap_or_default();
    let told = scene.icmp(Some(address)).find(|icmp| !icmp.is_local);
    match told.and_then(|icmp| icmp.offender) {
        Some(router) => {
            let says = format!("the router {router} says that it does not reach {address}");
            let cause = Cause::new(Code::NoRoute, says).at(router);
            Finding::blocked(Confidence::Medium, cause)
        }
        None if took >= NEIGHBOUR_WAIT => {
            let says = format!(
                "a device on the way found nobody at {address} on its network: the host is off, or \
                 has another address"
            );
            Finding::blocked(Confidence::Medium, Cause::new(Code::NoRoute, says))
        }
        None => Finding::cannot_tell(format!(
            "an ICMP error says that {address} is not reached: a firewall that rejects, or a \
             router without a route; nothing tells them apart"
        )),
    }
}

/// A firewall has said so.
pub(super) fn prohibited_by(scene: Scene<'_>, icmp: &Icmp) -> Finding {
    let own = |address: IpAddr| {
        let mut attempts = scene.seen.attempts.iter();
        let here = attempts.any(|one| one.from.is_some_and(|from| from.ip() == address));
        let mut udp = scene.seen.udp.iter();
        here || udp.any(|one| one.from.is_some_and(|from| from.ip() == address))
    };
    let (kind, code) = (icmp.kind, icmp.code);
    let cause = match icmp.offender {
        Some(offender) if own(offender) => {
            let says =
                format!("this host's own firewall rejects it (ICMP type {kind} code {code})");
            Cause::new(Code::HostFirewall, says).at(offender)
        }
        Some(offender) => {
            let says = format!("the firewall {offender} rejects it (ICMP type {kind} code {code})");
            Cause::new(Code::FirewallReject, says).at(offender)
        }
        None => {
            let says = format!("a firewall rejects it (ICMP type {kind} code {code})");
            Cause::new(Code::FirewallReject, says)
        }
    };
    Finding::blocked(Confidence::High, cause)
}

/// Whether refusals came over this host's own loopback: it has made them itself.
fn is_rejected_here(scene: Scene<'_>, address: IpAddr) -> bool {
    let own = scene.seen.own.refused_over_loopback;
    own.is_some_and(|(tries, over)| tries >= 3 && over == tries) && !address.is_loopback()
}

fn rejected_here(port: u16) -> Finding {
    let says = format!("this host's own firewall rejects {port}/tcp");
    Finding::blocked(Confidence::Medium, Cause::new(Code::HostFirewall, says))
}

fn refused(scene: Scene<'_>, attempt: &Attempt, address: IpAddr, port: u16) -> Finding {
    if is_rejected_here(scene, address) {
        return rejected_here(port);
    }
    let who = scene.refuser(address, port);
    if let Refuser::Before(hop) = who {
        return rejected_before(scene, address, port, hop);
    }
    if let Some(finding) = by_icmp(scene, (address, port), who) {
        return finding;
    }
    // Ours or those of another host of this network: the relay takes what reaches it.
    let arrivals = scene.arrivals(attempt.flow);
    if arrivals.as_ref().is_some_and(|list| !list.is_empty()) {
        let says = format!(
            "a firewall refuses {port}/tcp in the relay's place: meanwhile the relay has taken \
             connections there from this network's own address"
        );
        let cause = Cause::new(Code::FirewallReject, says);
        return Finding::blocked(Confidence::Medium, cause);
    }
    if scene.serves_tunnel() && scene.is_refused(Flow::Websocket) {
        let says = format!(
            "a firewall refuses {port}/tcp in the relay's place: the relay serves its tunnel's \
             port, over UDP, and so also over TCP"
        );
        let confidence = match attempt.flow {
            Flow::Websocket => Confidence::High,
            Flow::Https | Flow::Quic => Confidence::Medium,
        };
        return Finding::blocked(confidence, Cause::new(Code::FirewallReject, says));
    }
    match who {
        Refuser::AsFarAsRelay => {
            let says = format!(
                "{address} is reached, and itself refuses {port}/tcp: nothing listens there"
            );
            Finding::blocked(
                Confidence::Medium,
                Cause::new(Code::Relay, says).at(address),
            )
        }
        _ => Finding::cannot_tell(format!(
            "{port}/tcp of {address} is refused, by the relay's host or by a firewall before it: \
             neither hops nor times tell them apart{}",
            match arrivals {
                // It sees none where its own kernel refuses, either.
                Some(_) => ", nor does it that the relay saw none of it",
                None => "",
            }
        )),
    }
}

fn rejected_before(scene: Scene<'_>, address: IpAddr, port: u16, hop: Option<u8>) -> Finding {
    // What is refused at one count was to be sent on by the device before it.
    let device = hop.and_then(|hop| scene.router_at(hop.checked_sub(1)));
    let place = match (device, hop) {
        (Some(device), _) => format!("the firewall {device}"),
        (None, Some(hop)) => format!("a firewall about {hop} hops away"),
        (None, None) => "a firewall on the way".to_owned(),
    };
    let says = format!("{place} refuses {port}/tcp in the place of {address}");
    let cause = Cause::new(Code::FirewallReject, says);
    let cause = match device {
        Some(device) => cause.at(device),
        None => cause,
    };
    Finding::blocked(Confidence::High, cause)
}

/// What ICMP errors about UDP say of a refusal over TCP. A firewall that rejects UDP is not the
/// one that refuses where the refusal comes from as far as the relay.
fn by_icmp(scene: Scene<'_>, (address, port): (IpAddr, u16), who: Refuser) -> Option<Finding> {
    let mut told = scene.icmp(Some(address));
    let by = told.find(|icmp| is_port_unreachable(icmp) || is_prohibited(icmp))?;
    let offender = by.offender?;
    if offender == address {
        let says = format!(
            "{address} itself says that nothing listens there, by ICMP for UDP and by a refusal \
             for {port}/tcp"
        );
        let cause = Cause::new(Code::Relay, says).at(address);
        return Some(Finding::blocked(Confidence::Medium, cause));
    }
    if who == Refuser::AsFarAsRelay {
        return None;
    }
    let says =
        format!("the firewall {offender} rejects UDP by ICMP, and {port}/tcp is refused as well");
    let cause = Cause::new(Code::FirewallReject, says).at(offender);
    Some(Finding::blocked(Confidence::Medium, cause))
}

/// Nothing comes back.
pub(super) fn silent(scene: Scene<'_>, flow: Flow, address: IpAddr, port: u16) -> Finding {
    let protocol = flow.protocol();
    let dropped = |confidence, says: String| {
        Finding::blocked(confidence, Cause::new(Code::FirewallDrop, says))
    };
    if flow != Flow::Quic && scene.seen.own.resends_refused > 0 {
        return host_firewall(Confidence::Medium, port, protocol);
    }
    let arrivals = scene.arrivals(flow);
    if arrivals.as_ref().is_some_and(|list| !list.is_empty()) {
        return dropped(
            Confidence::High,
            format!(
                "the relay saw {port}/{protocol} arrive, and its answers are dropped on the way back"
            ),
        );
    }
    if flow == Flow::Quic && scene.is_mute(address) {
        return Finding::cannot_tell(format!(
            "{address} accepts connections over TCP and says nothing more, and nothing comes back \
             for {port}/{protocol}: a firewall that drops, or a relay that hangs"
        ));
    }
    if scene.is_answered(Some(address)) {
        let saw = match arrivals {
            Some(_) => ", and the relay saw nothing of it",
            None => "",
        };
        return dropped(
            Confidence::High,
            format!(
                "a firewall on the way drops {port}/{protocol} without a word: {address} answers \
                 otherwise{saw}"
            ),
        );
    }
    if scene.seen.proxy.is_some() && Flow::ALL.iter().any(|one| scene.is_open(*one)) {
        let says = format!(
            "a firewall on the way drops {port}/{protocol} without a word: the relay is up, and is \
             reached through the proxy"
        );
        return dropped(Confidence::High, says);
    }
    if scene
        .icmp(Some(address))
        .any(|icmp| !icmp.is_local && is_prohibited(icmp))
    {
        let says = format!("a firewall on the way drops {port}/{protocol}, and rejects others");
        return dropped(Confidence::Medium, says);
    }
    if let Some(says) = scene.tells_of_no_way(address) {
        return Finding::blocked(Confidence::Medium, Cause::new(Code::NoRoute, says));
    }
    if is_private(address) && !scene.seen.is_pinned_address && !scene.seen.look_ups.is_empty() {
        return Finding::cannot_tell(format!(
            "the relay's name leads to the private address {address}, where nothing answers: a \
             resolver that answers wrongly, or a firewall that drops"
        ));
    }
    dropped(
        Confidence::Low,
        format!(
            "nothing comes back from {address}, on no port and over no protocol: a firewall that \
             drops everything, if the vendor says that the relay is up"
        ),
    )
}

/// Nobody in the Internet has it.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
