//! From what was seen to a report. Pure: the same observations always give the same report.
//!
//! It prefers "cannot tell" to a wrong name: an administrator who was accused wrongly does not
//! read on.

mod caveat;
mod evidence;
mod finding;
mod notes;
mod proxy;
mod quic;
mod rate;
mod scene;
mod secured;
mod unreached;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use finding::Finding;
use scene::{Ended, Scene};

use crate::{
    observe::{Attempt, FaultKind, Flow, NameFault, Observations, Stage},
    rules,
    verdict::{
        Cause, Code, Confidence, FlowReport, FlowVerdict, REPORT_KIND, REPORT_VERSION, Report,
        Verdict,
    },
};

/// Judges a run.
pub fn judge(seen: Observations) -> Report {
    let scene = Scene { seen: &seen };
    let flows: Vec<FlowReport> = Flow::ALL
        .into_iter()
        .map(|flow| report(scene, flow))
        .collect();
    let images = notes::images(scene, &flows);
    let (without_change, notes) = (notes::without_change(scene, &flows), notes::all(scene));
    let mut verdict = Verdict::of(&flows);
    if verdict == Verdict::Open && images.iter().any(|one| !one.verdict.is_usable()) {
        verdict = Verdict::Degraded;
    }
    Report {
        kind: REPORT_KIND.to_owned(),
        version: REPORT_VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: seen.started_ms,
        took_ms: seen.took / 1_000,
        target: seen.target.clone(),
        verdict,
        flows,
        images,
        without_change,
        notes,
        observations: seen,
    }
}

fn report(scene: Scene<'_>, flow: Flow) -> FlowReport {
    let mut finding = find(scene, flow);
    caveat::add(scene, flow, &mut finding);
    let target = &scene.seen.target;
    let main = finding.causes.first().map(|cause| cause.code);
    let changes = main.map(|code| rules::changes(&[flow], target, &scene.seen.addresses, code));
    FlowReport {
        flow,
        port: target.port(flow),
        protocol: flow.protocol().to_owned(),
        required: flow.is_required(),
        route: match scene.is_proxied(flow) {
            true => "proxy".to_owned(),
            false => "direct".to_owned(),
        },
        verdict: finding.verdict,
        confidence: finding.confidence,
        causes: finding.causes,
        evidence: evidence::of(scene, flow),
        changes,
    }
}

fn find(scene: Scene<'_>, flow: Flow) -> Finding {
    if scene.is_open(flow) {
        return Finding::open(match scene.seen.target.pin {
            Some(_) => Confidence::High,
            None => Confidence::Medium,
        });
    }
    if let Some(direct) = without_the_proxy(scene, flow) {
        return direct;
    }
    why_not(scene, flow)
}

/// The agent tries both: what fails through the proxy may work without it.
fn without_the_proxy(scene: Scene<'_>, flow: Flow) -> Option<Finding> {
    if !scene.is_proxied(flow) {
        return None;
    }
    let mut direct = scene
        .seen
        .production(flow)
        .filter(|one| !one.is_through_proxy);
    if !direct.any(|one| scene.is_proven(one)) {
        return None;
    }
    let mut finding = Finding::open(Confidence::Medium);
    for mut cause in why_not(scene, flow).causes {
        cause.says.push_str("; it works without the proxy");
        finding.add_caveat(cause);
    }
    Some(finding)
}

fn why_not(scene: Scene<'_>, flow: Flow) -> Finding {
    if let Some(lie) = names(scene, flow) {
        return lie;
    }
    let Some((attempt, ended)) = furthest(scene, flow) else {
        return Finding::cannot_tell("it was not tried: no address of the relay is known");
    };
    match ended {
        Ended::Proven => Finding::open(Confidence::Medium),
        Ended::WrongProof => secured::between(attempt),
        Ended::WrongRelay => wrong_relay(attempt),
        Ended::Failed(Stage::Resolve, fault) => {
            Finding::cannot_tell(format!("names: {}", fault.says))
        }
        Ended::Failed(Stage::Tcp | Stage::Proxy, fault) if attempt.is_through_proxy => {
            proxy::judge(scene, attempt, fault)
        }
        Ended::Failed(Stage::Tcp | Stage::Proxy, fault) => unreached::tcp(scene, attempt, fault),
        Ended::Failed(Stage::Tls, fault) => secured::tls(scene, attempt, fault),
        Ended::Failed(Stage::Quic, fault) => quic::handshake(scene, attempt, fault),
        Ended::Failed(Stage::Http | Stage::Websocket | Stage::Proof, fault) => {
            secured::websocket(scene, attempt, fault)
        }
    }
}

/// The attempt that came furthest; a rejection by this host itself counts least.
fn furthest<'a>(scene: Scene<'a>, flow: Flow) -> Option<(&'a Attempt, Ended<'a>)> {
    let rank = |ended: &Ended<'_>| match ended {
        Ended::Proven => (4, None),
        Ended::WrongProof => (3, None),
        Ended::WrongRelay => (2, None),
        Ended::Failed(_, fault) if fault.is_local => (0, None),
        Ended::Failed(stage, _) => (1, Some(*stage)),
    };
    let ended = |attempt| Some((attempt, scene.ended(attempt)?));
    let mut best: Option<(&Attempt, Ended<'_>)> = None;
    for (attempt, ended) in scene.tries(flow).filter_map(ended) {
        // The first of equals: addresses come in the order of the system.
        if best.is_none_or(|(_, so_far)| rank(&ended) > rank(&so_far)) {
            best = Some((attempt, ended));
        }
    }
    best
}

fn wrong_relay(attempt: &Attempt) -> Finding {
    let identity = attempt.proof.as_ref().map(|proof| proof.identity.as_str());
    let identity = identity.unwrap_or_default();
    let says = format!(
        "a relay answers, and it is another one: its key is {identity}, and not the one that was \
         given; a wrong key or name was given, or somebody plays a relay"
    );
    // Whoever it is, the relay is not to blame.
    Finding::blocked(Confidence::Medium, Cause::new(Code::Unknown, says))
}

/// Names that lead nowhere, or where no relay can be.
fn names(scene: Scene<'_>, flow: Flow) -> Option<Finding> {
    let seen = scene.seen;
    if scene.is_proxied(flow) || seen.is_pinned_address || seen.look_ups.is_empty() {
        return None;
    }
    let host = &seen.target.host;
    let mut faults = seen.look_ups.iter().map(|one| one.outcome.as_ref().err());
    if let Some(last) = faults.clone().next_back().flatten()
        && faults.all(|fault| fault.is_some())
    {
        let (confidence, says) = match last {
            NameFault::NoSuchName => (
                Confidence::High,
                format!("this host's resolver says that there is no {host}"),
            ),
            // On a line that loses much, several questions may be lost too.
            NameFault::TimedOut => (
                Confidence::Medium,
                format!("no resolver answers this host when it asks for {host}"),
            ),
            NameFault::Failed(says) => (
                Confidence::Medium,
                format!("this host's resolver fails for {host}: {says}"),
            ),
        };
        return Some(Finding::blocked(confidence, Cause::new(Code::Dns, says)));
    }
    let nobodys = |address: &IpAddr| address.is_loopback() || address.is_unspecified();
    let is_lie = !seen.addresses.is_empty() && seen.addresses.iter().all(nobodys);
    let mut failures = scene.tries(flow).filter_map(Attempt::failure);
    let is_nobody = failures.any(|(stage, fault)| {
        stage == Stage::Tcp && fault.kind == FaultKind::Refused || stage == Stage::Quic
    });
    if !is_lie || host.eq_ignore_ascii_case("localhost") || !is_nobody {
        return None;
    }
    let address = seen.addresses.first()?;
    let says = format!("this host's resolver answers {address} for {host}: this host itself");
    Some(Finding::blocked(
        Confidence::High,
        Cause::new(Code::Dns, says).at(address),
    ))
}

/// Whether every required flow can be used; for whoever asks no more.
pub fn is_usable(report: &Report) -> bool {
    let mut required = report.flows.iter().filter(|flow| flow.required);
    required.all(|flow| matches!(flow.verdict, FlowVerdict::Open | FlowVerdict::Caveat))
}
