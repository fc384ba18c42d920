//! What was seen of one flow, in order, in words.

use super::scene::Scene;
use crate::{
    observe::{Attempt, Fault, Flow, Micros, Stage, UdpTest, Variation},
    verdict::Evidence,
};

/// Lines of a flow; more is in the observations.
const LINES_MAX: usize = 48;

/// Of one flow.
pub(super) fn of(scene: Scene<'_>, flow: Flow) -> Vec<Evidence> {
    let seen = scene.seen;
    let mut lines = Vec::new();
    for look_up in &seen.look_ups {
        let says = match &look_up.outcome {
            Ok(addresses) => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("{} → {}", seen.target.host, list.join(", "))
            }
            Err(fault) => format!("{}: {fault:?}", seen.target.host),
        };
        lines.push(line(
            look_up.end,
            "DNS",
            with_time(&says, look_up.end - look_up.start),
        ));
    }
    for attempt in seen.attempts.iter().filter(|one| one.flow == flow) {
        of_attempt(attempt, &mut lines);
    }
    if flow == Flow::Quic {
        lines.extend(seen.udp.iter().flat_map(of_udp));
    }
    let port = seen.target.port(flow);
    for hop in seen.hops.iter().filter(|hop| hop.to.port() == port) {
        let says = format!("{} within {} hops: {:?}", hop.to, hop.hops, hop.outcome);
        lines.push(line(seen.took, "hops", says));
    }
    if let (Some(arrivals), Some(witness)) = (scene.arrivals(flow), &seen.witness) {
        let says = match arrivals.iter().map(|one| one.stage).max() {
            Some(furthest) => format!(
                "the relay saw {} arrive here, at best: {furthest:?}",
                arrivals.len()
            ),
            None => "the relay saw nothing arrive here".to_owned(),
        };
        lines.push(line(witness.at, "witness", says));
    }
    for rung in seen.idle.iter().filter(|rung| rung.flow == flow) {
        let came = rung
            .fault
            .as_ref()
            .map_or("alive", |fault| fault.says.as_str());
        let says = format!("silent for {} ms: {came}", rung.idle_ms);
        lines.push(line(seen.took, "idle", says));
    }
    if flow != Flow::Quic && seen.own.resends_refused > 0 {
        let says = format!(
            "this host's kernel refused to send {} segments again",
            seen.own.resends_refused
        );
        lines.push(line(seen.took, "host", says));
    }
    // Stable: what happened at once stays in the order in which it was written.
    lines.sort_by_key(|line| line.at_ms);
    lines.truncate(LINES_MAX);
    lines
}

fn line(at: Micros, stage: &str, says: String) -> Evidence {
    Evidence {
        at_ms: at / 1_000,
        stage: stage.to_owned(),
        says,
    }
}

fn with_time(says: &str, took: Micros) -> String {
    format!("{says} ({}.{} ms)", took / 1_000, took % 1_000 / 100)
}

fn of_attempt(attempt: &Attempt, lines: &mut Vec<Evidence>) {
    let to = match (attempt.address, attempt.is_through_proxy) {
        (Some(address), _) => address.to_string(),
        (None, true) => "through the proxy".to_owned(),
        (None, false) => String::new(),
    };
    let varied = match attempt.variation {
        Variation::Production => String::new(),
        Variation::NeutralName => " with another server name".to_owned(),
        Variation::NeutralAlpn => " with another application protocol".to_owned(),
        Variation::SmallHello => " with a small ClientHello".to_owned(),
        Variation::Mss(bytes) => format!(" in segments of {bytes} bytes"),
        Variation::Plain => " with plain bytes".to_owned(),
    };
    for seen in &attempt.stages {
        let outcome = match &seen.fault {
            None => done(attempt, seen.stage),
            Some(fault) => failed(fault),
        };
        let says = format!("{to}{varied}, try {}: {outcome}", attempt.round);
        let says = with_time(&says, seen.end.saturating_sub(seen.start));
        lines.push(line(seen.end, seen.stage.name(), says));
    }
}

fn done(attempt: &Attempt, stage: Stage) -> String {
    match stage {
        Stage::Tls | Stage::Quic => {
            match attempt.chain.as_ref().and_then(|c| c.certificates.first()) {
                Some(leaf) => format!(
                    "certificate of {}, vouched for by {}",
                    leaf.subject, leaf.issuer
                ),
                None => "done".to_owned(),
            }
        }
        Stage::Proof => match &attempt.proof {
            Some(proof) if !proof.is_proven => {
                "the relay's proof is of another TLS connection".to_owned()
            }
            Some(proof) => format!("the relay has proven to be {}", proof.identity),
            None => "none came".to_owned(),
        },
        Stage::Http => match &attempt.answer {
            Some(answer) => format!("answered {}", answer.status),
            None => "answered".to_owned(),
        },
        _ => "done".to_owned(),
    }
}

fn failed(fault: &Fault) -> String {
    match fault.errno {
        Some(errno) => format!("{} (errno {errno})", fault.says),
        None => fault.says.clone(),
    }
}

fn of_udp(test: &UdpTest) -> Vec<Evidence> {
    let mut lines = Vec::new();
    let answer = match (test.answered_after, &test.fault) {
        (Some(after), _) => with_time("answered", after),
        (None, Some(fault)) => failed(fault),
        (None, None) => format!("no answer to {} datagrams", test.sent),
    };
    lines.push(line(
        test.start,
        "UDP",
        format!("a bare datagram to {}: {answer}", test.to),
    ));
    for icmp in &test.icmp {
        let by = match icmp.offender {
            Some(address) => format!(" from {address}"),
            None => String::new(),
        };
        let says = format!("ICMP type {} code {}{by}", icmp.kind, icmp.code);
        lines.push(line(test.start, "ICMP", says));
    }
    lines
}
