//! What works, and will bite.

use super::{finding::Finding, rate, scene::Scene};
use crate::{
    observe::{Fault, FaultKind, Flow, IdleRung, Micros, Stage},
    verdict::{Cause, Code},
};

/// A clock that is off by more is told of.
const CLOCK_SECONDS: i64 = 60;

/// A name that takes longer is told of.
const SLOW_NAME: Micros = 2_000_000;

/// Adds all caveats of a flow that works.
pub(super) fn add(scene: Scene<'_>, flow: Flow, finding: &mut Finding) {
    if !finding.verdict.is_usable() {
        return;
    }
    let caveats = [
        names(scene, flow),
        families(scene, flow),
        clock(scene, flow),
        idle(scene, flow),
        sizes(scene, flow),
        ports(scene, flow),
        rate::caveat(scene, flow),
        now_and_then(scene, flow),
    ];
    for caveat in caveats.into_iter().flatten() {
        finding.add_caveat(caveat);
    }
}

fn names(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let seen = scene.seen;
    if scene.is_proxied(flow) || seen.look_ups.is_empty() {
        return None;
    }
    let host = &seen.target.host;
    if seen.look_ups.iter().all(|one| one.outcome.is_err()) {
        let says = format!("{host} is not resolved here: it works by its address alone");
        return Some(Cause::new(Code::Dns, says));
    }
    let took = |one: &crate::observe::LookUp| one.end.saturating_sub(one.start);
    let slowest = seen.look_ups.iter().map(took).max()?;
    (slowest >= SLOW_NAME).then(|| {
        let seconds = slowest / 1_000_000;
        Cause {
            seconds: i64::try_from(seconds).ok(),
            ..Cause::new(
                Code::Dns,
                format!("this host's resolver takes {seconds} s for {host}"),
            )
        }
    })
}

/// An address of one family works, and one of the other leads nowhere.
fn families(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let tries: Vec<_> = scene.tries(flow).collect();
    let works_by_4 = tries
        .iter()
        .any(|one| scene.is_proven(one) && one.address.is_some_and(|address| address.is_ipv4()));
    let by_6: Vec<_> = tries
        .iter()
        .filter(|one| one.address.is_some_and(|address| address.is_ipv6()))
        .collect();
    let is_none_here = |fault: &Fault| {
        fault.is_local && matches!(fault.kind, FaultKind::NetUnreachable | FaultKind::NoPort)
    };
    let fails = |one: &&&&crate::observe::Attempt| {
        one.failure().is_some_and(|(_, fault)| !is_none_here(fault))
    };
    let is_broken = !by_6.is_empty() && by_6.iter().filter(fails).count() == by_6.len();
    if !works_by_4 || !is_broken {
        return None;
    }
    let address = by_6.first()?.address?;
    let says = format!(
        "{address} of IPv6 leads nowhere from here, though this host has a route for it: every \
         connection waits for it first"
    );
    Some(Cause::new(Code::Ipv6, says).at(address))
}

fn clock(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let own = scene.seen.attempts.iter().filter(|one| one.flow == flow);
    let told = own.filter_map(|one| {
        let at = one.stages.last()?.end / 1_000;
        let ours = scene.seen.started_ms + i64::try_from(at).ok()?;
        Some((one.echo.as_ref()?.time_ms - ours) / 1_000)
    });
    let ahead = told.min_by_key(|seconds| seconds.abs())?;
    (ahead.abs() > CLOCK_SECONDS).then(|| {
        let (by, how) = match ahead > 0 {
            true => (ahead, "behind"),
            false => (-ahead, "ahead of"),
        };
        Cause {
            seconds: Some(ahead),
            ..Cause::new(
                Code::Clock,
                format!(
                    "this host's clock is {by} s {how} the relay's: certificates look expired or \
                     not yet valid to others"
                ),
            )
        }
    })
}

/// Silent connections end: between the longest silence that held and the shortest that did not.
fn idle(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let rungs = scene.seen.idle.iter().filter(|rung| rung.flow == flow);
    let rungs: Vec<&IdleRung> = rungs.collect();
    let dead = rungs.iter().filter(|rung| rung.fault.is_some());
    let shortest = dead.map(|rung| rung.idle_ms).min()?;
    // A silence that either end could break is one that held.
    let is_dead = |idle_ms| {
        let mut rungs = rungs.iter();
        rungs.any(|rung| rung.idle_ms == idle_ms && rung.fault.is_some())
    };
    let held = rungs.iter().map(|rung| rung.idle_ms);
    let longest = held.filter(|idle_ms| !is_dead(*idle_ms)).max();
    // One that held for longer says that no timer ended the shorter one.
    if longest.is_some_and(|longest| longest > shortest) {
        return None;
    }
    let ended = rungs.iter().filter(|rung| rung.idle_ms == shortest);
    let ended: Vec<&&IdleRung> = ended.collect();
    let is_told = ended.iter().any(|rung| {
        let fault = rung.fault.as_ref();
        fault.is_some_and(|fault| fault.kind != FaultKind::TimedOut)
    });
    let how = match (is_told, ended.iter().all(|rung| rung.fault.is_some())) {
        (true, _) => "with a reset",
        (false, true) => "without a word",
        (false, false) => "without a word, though one end can still wake them",
    };
    let seconds = |ms: u64| i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let at_most = seconds(shortest);
    let says = match longest {
        Some(longest) => format!(
            "connections that are silent for {} to {at_most} s are ended on the way, {how}",
            seconds(longest)
        ),
        None => format!("connections that are silent for {at_most} s are ended on the way, {how}"),
    };
    Some(Cause {
        seconds: Some(at_most),
        ..Cause::new(Code::IdleTimer, says)
    })
}

fn sizes(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let rungs: Vec<_> = scene
        .seen
        .sizes
        .iter()
        .filter(|rung| rung.flow == flow)
        .collect();
    let worked = rungs.iter().filter(|rung| rung.fault.is_none());
    let largest = worked.map(|rung| rung.bytes).max()?;
    let failed = rungs.iter().filter(|rung| rung.fault.is_some());
    let smallest = failed.map(|rung| rung.bytes).min()?;
    (smallest > largest).then(|| Cause {
        bytes: Some(largest),
        ..Cause::new(
            Code::Mtu,
            format!(
                "{largest} bytes at once get through, and {smallest} do not: packets of a \
                 size vanish on the way"
            ),
        )
    })
}

fn ports(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let test = scene
        .seen
        .parallel
        .as_ref()
        .filter(|_| flow == Flow::Websocket)?;
    let missing = test.wanted.saturating_sub(test.opened);
    // Who has no more ports turns the last ones away; a line that loses much, one here and one
    // there. One or two of many may be lost anywhere.
    let is_in_order = 4 * test.opened_first >= 3 * test.opened;
    (missing > test.wanted / 10 && is_in_order).then(|| {
        let (opened, wanted) = (test.opened, test.wanted);
        Cause::new(
            Code::PortExhaustion,
            format!(
                "of {wanted} connections at once {opened} came about: an address translation on \
                 the way has no more ports"
            ),
        )
    })
}

/// Some tries of the same thing failed.
fn now_and_then(scene: Scene<'_>, flow: Flow) -> Option<Cause> {
    let works = scene.tries(flow).find(|one| scene.is_proven(one))?;
    let same = scene.tries(flow).filter(|one| one.address == works.address);
    let (mut all, mut failed) = (0, 0);
    let mut last = None;
    for one in same {
        all += 1;
        if let Some((stage, fault)) = one.failure() {
            failed += 1;
            last = Some((stage, fault));
        }
    }
    let (stage, fault) = last?;
    let stage: Stage = stage;
    Some(Cause::new(
        Code::Unknown,
        format!(
            "it comes and goes: {failed} of {all} tries failed, the last at {} ({})",
            stage.name(),
            fault.says
        ),
    ))
}
