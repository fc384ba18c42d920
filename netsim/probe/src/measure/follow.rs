//! What failed is tried again, beside tests that change one thing; what works is asked for what
//! the relay saw.

use std::net::SocketAddr;

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    Plan, Progress, Run,
    attempt::{self, Goal, What},
    channel, one, own, place, proxy_of, sort, udp,
};
use crate::observe::{
    Attempt, Fault, FaultKind, Flow, Observations, Stage, UdpTest, Variation, WitnessSeen,
};

/// The largest segments that are tried, of packets of 576 to 1 500 bytes.
const SEGMENTS: [u16; 8] = [536, 900, 1_100, 1_200, 1_240, 1_320, 1_360, 1_400];

/// How somebody says no to a connection.
const REJECTED: [FaultKind; 2] = [FaultKind::Refused, FaultKind::HostUnreachable];

/// The rounds of what comes and goes.
const ROUNDS: u8 = 2;

/// Tries again what failed, and finds out about it.
pub(super) async fn up(run: &Run, plan: &Plan, seen: &mut Observations, progress: &Progress) {
    let is_hurried = is_all_silent(seen);
    let failed: Vec<What> = seen
        .attempts
        .iter()
        .filter(|attempt| is_worth_another(attempt, seen))
        .map(|attempt| again(plan, attempt))
        .map(|what| What { is_hurried, ..what })
        .collect();
    if failed.is_empty() {
        return;
    }
    progress("trying again what failed, and changing one thing at a time");
    let mut all = failed.clone();
    for attempt in seen
        .attempts
        .iter()
        .filter(|one| is_worth_another(one, seen))
    {
        let base = again(plan, attempt);
        let varied = variations(attempt, seen);
        all.extend(varied.into_iter().map(|variation| What {
            variation,
            goal: Goal::Tls,
            ..base.clone()
        }));
    }
    let trying: FuturesUnordered<_> = all.iter().map(|what| one(run, what)).collect();
    let relay = seen
        .addresses
        .first()
        .map(|address| SocketAddr::new(*address, 443));
    let portal = async {
        match needs_portal(seen) {
            true => Some(place::portal(run, relay).await),
            false => None,
        }
    };
    let (mut attempts, portal, (hops, routers)) =
        tokio::join!(trying.collect::<Vec<_>>(), portal, hops(plan, seen));
    (seen.portal, seen.hops, seen.routers) = (portal, hops, routers);
    // Alone, because they measure times, and what this host itself does meanwhile.
    if let Some(to) = refused(plan, seen, &REJECTED).first() {
        seen.own.refused_over_loopback = own::refused_over_loopback(*to).await;
    }
    let open = open_port(plan, seen);
    for to in refused(plan, seen, &[FaultKind::Refused]) {
        let mut udp = seen.udp.iter();
        let answers = |one: &UdpTest| one.to.ip() == to.ip() && one.answered_after.is_some();
        if open.is_some_and(|open| open.ip() == to.ip()) || udp.any(answers) {
            seen.paces.extend(place::pace(run, to, open).await);
        }
    }
    sort(&mut attempts);
    seen.attempts.extend(attempts);
}

/// A failure that time, or luck, may have a part in. That this host has no route has none, and
/// an ICMP error that was told twice is told.
fn is_worth_another(attempt: &Attempt, seen: &Observations) -> bool {
    let failure = attempt.failure();
    let is_told = attempt.flow == Flow::Quic
        && seen
            .udp
            .iter()
            .any(|test| Some(test.to.ip()) == attempt.address && test.icmp.len() > 1);
    attempt.round < ROUNDS
        && !is_told
        && (failure.is_some_and(|(_, fault)| !fault.is_local)
            || attempt.proof.as_ref().is_some_and(|proof| !proof.is_proven))
}

/// Whether nothing at all came back from anywhere, and no proxy may be slow for another.
fn is_all_silent(seen: &Observations) -> bool {
    let is_silent = |one: &Attempt| {
        let done = one.stages.iter().any(|stage| stage.fault.is_none());
        let timed_out = |(_, fault): (Stage, &Fault)| fault.kind == FaultKind::TimedOut;
        !done && one.failure().is_some_and(timed_out) && !one.is_through_proxy
    };
    let mut udp = seen.udp.iter();
    seen.attempts.iter().all(is_silent)
        && !udp.any(|one| one.answered_after.is_some() || !one.icmp.is_empty())
}

fn again(plan: &Plan, attempt: &Attempt) -> What {
    let is_echo = attempt.stages.iter().any(|seen| seen.stage == Stage::Http);
    let port = plan.target.port(attempt.flow);
    let to = attempt
        .address
        .map(|address| SocketAddr::new(address, port));
    let proxy = proxy_of(plan, attempt.flow).filter(|_| attempt.is_through_proxy);
    What {
        flow: attempt.flow,
        round: attempt.round + 1,
        variation: Variation::Production,
        to,
        proxy: proxy.cloned(),
        goal: if is_echo { Goal::Echo } else { Goal::Tunnel },
        is_hurried: false,
    }
}

/// What to change about an attempt that failed as it did.
fn variations(attempt: &Attempt, seen: &Observations) -> Vec<Variation> {
    let Some((stage, fault)) = attempt.failure() else {
        return Vec::new();
    };
    let is_cut = matches!(
        fault.kind,
        FaultKind::TimedOut | FaultKind::Reset | FaultKind::Ended | FaultKind::Alert
    );
    let segments = || SEGMENTS.into_iter().map(Variation::Mss);
    match (attempt.flow, stage) {
        (Flow::Quic, Stage::Quic) => {
            let answered = seen
                .udp
                .iter()
                .any(|one| Some(one.to.ip()) == attempt.address && one.answered_after.is_some());
            match answered {
                true => vec![Variation::NeutralName, Variation::NeutralAlpn],
                false => Vec::new(),
            }
        }
        (_, Stage::Tls) if is_cut => {
            let mut all = vec![
                Variation::NeutralName,
                Variation::NeutralAlpn,
                Variation::SmallHello,
                Variation::Plain,
            ];
            if fault.kind == FaultKind::TimedOut && !attempt.is_through_proxy {
                all.extend(segments());
            }
            all
        }
        (_, Stage::Websocket | Stage::Http) if fault.kind == FaultKind::TimedOut => {
            match attempt.is_through_proxy {
                true => Vec::new(),
                false => segments().collect(),
            }
        }
        _ => Vec::new(),
    }
}

/// Whether something may answer in the relay's place.
fn needs_portal(seen: &Observations) -> bool {
    seen.attempts.iter().any(|attempt| {
        let failure = attempt.failure();
        failure.is_some_and(|(stage, fault)| {
            let is_odd = matches!(
                fault.kind,
                FaultKind::NotTls | FaultKind::Status | FaultKind::Protocol | FaultKind::Alert
            );
            let is_cut = matches!(fault.kind, FaultKind::Reset | FaultKind::Ended);
            is_odd || is_cut && stage >= Stage::Tls && stage != Stage::Quic
        })
    })
}

/// Ports of the relay that are refused, in one of these words.
fn refused(plan: &Plan, seen: &Observations, words: &[FaultKind]) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for attempt in seen.attempts.iter().filter(|one| !one.is_through_proxy) {
        let is_refused = attempt.failure().is_some_and(|(stage, fault)| {
            stage == Stage::Tcp && words.contains(&fault.kind) && !fault.is_local
        });
        let to = attempt
            .address
            .filter(|_| is_refused && attempt.flow != Flow::Quic);
        let port = plan.target.port(attempt.flow);
        let to = to.map(|address| SocketAddr::new(address, port));
        all.extend(to.filter(|to| !all.contains(to) && !to.ip().is_loopback()));
    }
    all
}

/// A port of the relay that TCP reaches.
fn open_port(plan: &Plan, seen: &Observations) -> Option<SocketAddr> {
    let mut attempts = seen.attempts.iter();
    let open = attempts.find(|one| !one.is_through_proxy && one.has_done(Stage::Tcp))?;
    let port = plan.target.port(open.flow);
    open.address.map(|address| SocketAddr::new(address, port))
}

/// How far away refusals are, and what is open beside them.
async fn hops(
    plan: &Plan,
    seen: &Observations,
) -> (Vec<crate::observe::HopTest>, Vec<crate::observe::Router>) {
    let refused = refused(plan, seen, &REJECTED);
    let Some(first) = refused.first().copied() else {
        return (Vec::new(), Vec::new());
    };
    let open = open_port(plan, seen).filter(|open| open.ip() == first.ip());
    let tested = refused
        .into_iter()
        .filter(|to| to.ip() == first.ip())
        .chain(open);
    let tests = futures_util::future::join_all(tested.map(place::hops));
    let port = plan.target.tunnel_port;
    let routers = udp::routers(SocketAddr::new(first.ip(), port), place::HOPS_MAX / 2);
    let (tests, routers) = tokio::join!(tests, routers);
    (tests.into_iter().flatten().collect(), routers)
}

/// A way that works, for a flow; for TCP either port.
pub(super) fn working(seen: &Observations, plan: &Plan, flow: Flow) -> Option<What> {
    let flows = match flow {
        Flow::Quic => [Flow::Quic, Flow::Quic],
        Flow::Https | Flow::Websocket => [Flow::Websocket, Flow::Https],
    };
    flows.into_iter().find_map(|flow| {
        let mut works = seen
            .production(flow)
            .filter(|attempt| attempt.proof.as_ref().is_some_and(|proof| proof.is_proven));
        let works = works.next()?;
        let port = plan.target.port(flow);
        let to = works.address.map(|address| SocketAddr::new(address, port));
        let proxy = proxy_of(plan, flow).filter(|_| works.is_through_proxy);
        Some(channel::to(flow, to, proxy))
    })
}

/// Asks the relay what it saw, where something failed.
pub(super) async fn witness(run: &Run, plan: &Plan, seen: &mut Observations) {
    let is_well = |attempt: &Attempt| attempt.is_well();
    if seen.attempts.iter().all(is_well) {
        return;
    }
    // Through a proxy the relay sees the proxy, and behind an interceptor the interceptor.
    let is_direct = |one: &&Attempt| {
        let is_proven = one.proof.as_ref().is_some_and(|proof| proof.is_proven);
        is_proven && !one.is_through_proxy
    };
    let doors = [Flow::Https, Flow::Websocket].into_iter();
    let mut ways = doors.filter_map(|flow| {
        let works = seen.production(flow).find(is_direct)?;
        let port = plan.target.port(flow);
        let to = works
            .address
            .map(|address| SocketAddr::new(address, port))?;
        Some(channel::to(flow, Some(to), None))
    });
    let Some(way) = ways.next() else {
        return;
    };
    let second = ways.next();
    drop(ways);
    for way in [Some(way), second].into_iter().flatten() {
        let at = run.now();
        if let Some((witness, from)) = attempt::witness(run, &way).await {
            seen.witness = Some(WitnessSeen { at, from, witness });
            return;
        }
    }
}
