//! What works without a change, what images need, and what is worth to know.

use super::scene::Scene;
use crate::{
    observe::{Flow, RateTest, RegistryTest},
    verdict::{FlowReport, FlowVerdict, ImageReport},
};

/// What works without any change, and at what cost.
pub(super) fn without_change(scene: Scene<'_>, flows: &[FlowReport]) -> String {
    let is_usable = |wanted: Flow| {
        let mut flows = flows.iter();
        flows.any(|flow| flow.flow == wanted && flow.verdict.is_usable())
    };
    let way = match scene.is_proxied(Flow::Https) {
        true => " through the proxy",
        false => "",
    };
    let works = [Flow::Https, Flow::Websocket, Flow::Quic].map(is_usable);
    match works {
        [true, true, true] => {
            "Everything: the agent takes QUIC, and a WebSocket where it fails.".into()
        }
        [_, true, false] => format!(
            "The agent runs over a WebSocket on {}/tcp{way}. Without QUIC one lost packet holds \
             all streams up for a moment, and a change of address costs a reconnect.",
            scene.seen.target.tunnel_port
        ),
        [true, false, false] => format!(
            "The agent runs over a WebSocket on {}/tcp{way}, beside the relay's HTTPS. It costs \
             one failed try at every first connection, and what QUIC would have saved.",
            scene.seen.target.https_port
        ),
        [_, _, true] => format!(
            "The agent runs over QUIC on {}/udp. Where a network drops UDP for a while it has \
             nothing to fall back to{}.",
            scene.seen.target.tunnel_port,
            if works[0] || works[1] {
                " but one WebSocket"
            } else {
                ""
            }
        ),
        [false, false, false] => "Nothing: no way to the relay is known to work from here.".into(),
    }
}

/// Hosts of images; none of them are needed where a session works.
pub(super) fn images(scene: Scene<'_>, flows: &[FlowReport]) -> Vec<ImageReport> {
    if scene.seen.registry.is_empty() {
        let is_usable = flows.iter().any(|flow| flow.verdict.is_usable());
        return vec![ImageReport {
            host: "no registry was asked about (--registry HOST)".to_owned(),
            role: "images".to_owned(),
            verdict: match is_usable {
                true => FlowVerdict::Open,
                false => FlowVerdict::Blocked,
            },
            says: match is_usable {
                true => "images can travel through the session".to_owned(),
                false => "images could travel through a session, and none works".to_owned(),
            },
        }];
    }
    scene.seen.registry.iter().map(image).collect()
}

fn image(test: &RegistryTest) -> ImageReport {
    let way = match &test.proxy {
        Some(proxy) => format!(" through {proxy}"),
        None => String::new(),
    };
    let (verdict, says) = match (&test.fault, &test.not_vouched, test.status) {
        (Some(fault), _, _) => (
            FlowVerdict::Blocked,
            format!("not reached{way}: {}", fault.says),
        ),
        (None, Some(why), _) => (
            FlowVerdict::Caveat,
            format!("reached{way}; Docker will not trust its certificate: {why}"),
        ),
        (None, None, Some(407)) => (
            FlowVerdict::Blocked,
            format!("the proxy wants a login{way}"),
        ),
        (None, None, Some(status)) if test.role == "registry" && !matches!(status, 200 | 401) => (
            FlowVerdict::Caveat,
            format!("reached{way}, and does not answer as a registry (HTTP {status})"),
        ),
        (None, None, status) => {
            let status = status.map_or_else(String::new, |status| format!(" (HTTP {status})"));
            (FlowVerdict::Open, format!("reached{way}{status}"))
        }
    };
    ImageReport {
        host: test.host.clone(),
        role: test.role.clone(),
        verdict,
        says,
    }
}

/// What is worth to know, and no fault.
pub(super) fn all(scene: Scene<'_>) -> Vec<String> {
    let seen = scene.seen;
    let mut notes = Vec::new();
    identity(scene, &mut notes);
    translation(scene, &mut notes);
    if seen.is_nat64 {
        notes.push("the network translates addresses of IPv4 for hosts of IPv6 (NAT64)".into());
    }
    if seen.proxy.is_some() {
        direct(scene, &mut notes);
    }
    let is_reached = seen.attempts.iter().any(|one| scene.is_proven(one));
    let is_failing = seen.attempts.iter().any(|one| one.failure().is_some());
    if is_reached && is_failing && seen.witness.is_none() {
        notes.push(
            "the relay does not say what it saw arrive: it is an older one, its witness is \
             switched off, or it is reached through a proxy alone"
                .into(),
        );
    }
    for test in best_rates(&seen.rates) {
        let way = if test.is_down { "from" } else { "to" };
        let kilobits = test.per_second() * 8 / 1_000;
        let loaded = test.loaded_rtt.map_or_else(String::new, |rtt| {
            format!(", {} ms a round trip under load", rtt / 1_000)
        });
        notes.push(format!(
            "{} {way} the relay: {kilobits} kbit/s, {} ms a round trip{loaded}",
            test.flow.name(),
            test.idle_rtt / 1_000
        ));
    }
    notes
}

/// The fastest measurement of each flow, each way.
fn best_rates(all: &[RateTest]) -> Vec<&RateTest> {
    let mut best: Vec<&RateTest> = Vec::new();
    for test in all {
        let is_same = |one: &&mut &RateTest| one.flow == test.flow && one.is_down == test.is_down;
        match best.iter_mut().find(is_same) {
            Some(so_far) if so_far.per_second() < test.per_second() => *so_far = test,
            Some(_) => {}
            None => best.push(test),
        }
    }
    best
}

fn identity(scene: Scene<'_>, notes: &mut Vec<String>) {
    let mut proofs = scene
        .seen
        .attempts
        .iter()
        .filter_map(|one| one.proof.as_ref());
    let Some(proof) = proofs.find(|proof| proof.is_proven) else {
        return;
    };
    notes.push(match proof.is_pinned {
        Some(true) => format!(
            "the relay has proven the key that was given, {}",
            proof.identity
        ),
        Some(false) => format!(
            "the relay has proven another key than was given, {}",
            proof.identity
        ),
        None => format!(
            "the relay says to be {}, and has proven that nobody stands between; whether it is \
             the vendor's is known with its key alone (--pin)",
            proof.identity
        ),
    });
}

/// Whether addresses are translated on the way, and ports kept.
fn translation(scene: Scene<'_>, notes: &mut Vec<String>) {
    let echoed = scene
        .seen
        .attempts
        .iter()
        .filter(|one| !one.is_through_proxy);
    let echoed = echoed.filter_map(|one| Some((one.from?, one.echo.as_ref()?.from)));
    let mut outside: Vec<String> = Vec::new();
    let (mut all, mut kept, mut same) = (0, 0, 0);
    for (own, seen) in echoed {
        all += 1;
        kept += u32::from(own.port() == seen.port());
        same += u32::from(own.ip() == seen.ip());
        let address = seen.ip().to_string();
        if !outside.contains(&address) {
            outside.push(address);
        }
    }
    if all == 0 {
        return;
    }
    let list = outside.join(", ");
    notes.push(match (same == all, outside.len()) {
        (true, _) => "addresses are not translated on the way".to_owned(),
        (false, 1) => format!(
            "the relay sees this host as {list}; ports are kept in {kept} of {all} connections"
        ),
        (false, _) => format!("the relay sees this host from several addresses: {list}"),
    });
}

/// What goes without the proxy.
fn direct(scene: Scene<'_>, notes: &mut Vec<String>) {
    for flow in [Flow::Https, Flow::Websocket] {
        let mut direct = scene
            .seen
            .production(flow)
            .filter(|one| !one.is_through_proxy);
        if direct.any(|one| scene.is_proven(one)) {
            let port = scene.seen.target.port(flow);
            notes.push(format!("{port}/tcp works without the proxy as well"));
        }
    }
}
