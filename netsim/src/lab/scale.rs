//! Time made shorter, so that a run in real time ends within minutes: what is long in a
//! scenario is divided by one common factor.
//!
//! Divided are when events happen and how long they last, the length of the run, the
//! workload's pauses, idle timeouts of boxes, and how long a proxy lets a connection live. Not
//! divided is what the product decides: its own timers, which a release binary has no switch
//! for, and so the deadlines of expectations, which are about them, and from when on they
//! count. For the same reason no idle timeout becomes shorter than what a heartbeat keeps open
//! ([`SHORTEST_IDLE`]): it would be a fault that nobody has modelled.

use std::time::Duration;

use netsim_core::{
    model::{Deed, Event, Expectation, Idle, Scenario},
    term::{At, Choice},
};

/// Twice and a half the pause of the product's heartbeats on an idle connection. Timeouts
/// that are shorter in the scenario stay as they are.
pub const SHORTEST_IDLE: Duration = Duration::from_secs(50);

/// Streams do not follow each other faster than this, but where they do in the scenario: a
/// scaled run is no test of load.
pub const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// A proxy lets connections live for this long, but where it does not in the scenario: a
/// session comes up and carries something meanwhile.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(5);

/// A host that has crashed is away for this long, but where it comes back sooner in the scenario:
/// within less, nobody sends it anything, and the fault would touch nothing.
pub const SHORTEST_AWAY: Duration = Duration::from_secs(1);

/// A run is not made shorter than this: within it, the deadlines of what follows its beginning
/// pass, which are not divided.
pub const SHORTEST_RUN: Duration = Duration::from_secs(12);

/// The scenario with what is long in it divided by `factor`; 1 is full length.
#[must_use]
pub fn scaled(scenario: &Scenario, factor: u32) -> Scenario {
    let mut scenario = scenario.clone();
    let factor = factor.max(1);
    if factor == 1 {
        return scenario;
    }
    let divide = |span: &mut At<Choice<Duration>>| *span = at(span.get() / factor);
    let whole = scenario.duration.get();
    scenario.duration = at((whole / factor).max(whole.min(SHORTEST_RUN)));
    for event in &mut scenario.events {
        divide_event(event, factor);
    }
    for expectation in &mut scenario.expectations {
        let mut one: Expectation = (**expectation).clone();
        one.until.iter_mut().for_each(divide);
        *expectation = At::nowhere(one);
    }
    for edge in &mut scenario.edges {
        edge.idle = divided(&edge.idle, factor);
    }
    for proxy in &mut scenario.proxies {
        if let Some(life) = &mut proxy.cut_after {
            let whole = life.get();
            *life = Choice::Fixed((whole / factor).max(whole.min(SHORTEST_LIFE)));
        }
    }
    let workload = &mut scenario.workload;
    let every = workload.every.get();
    workload.every = Choice::Fixed((every / factor).max(every.min(SHORTEST_PAUSE)));
    workload.lasts = Choice::Fixed(workload.lasts.get() / factor);
    scenario
}

/// Why a drawn scenario is not for a lab that has this long, if so.
pub fn too_long(scenario: &Scenario, budget: Duration) -> Option<String> {
    let takes = scenario.duration.get();
    (takes > budget).then(|| {
        format!(
            "a run takes {takes:?} of real time, and the quick lab has {budget:?}: run it at \
             full length, or in virtual time"
        )
    })
}

fn at(span: Duration) -> At<Choice<Duration>> {
    At::nowhere(Choice::Fixed(span))
}

fn divide_event(event: &mut Event, factor: u32) {
    event.time = at(event.time.get() / factor);
    let is_crash = *event.deed == Deed::Crash;
    if let Some(lasts) = &mut event.lasts {
        let whole = lasts.get();
        let least = whole.min(if is_crash {
            SHORTEST_AWAY
        } else {
            Duration::ZERO
        });
        *lasts = at((whole / factor).max(least));
    }
}

fn divided(idle: &Idle, factor: u32) -> Idle {
    let timeouts = idle.timeouts();
    let shorter = |span: Option<Duration>| {
        span.map(|span| {
            let least = span.min(SHORTEST_IDLE);
            Choice::Fixed((span / factor).max(least))
        })
    };
    Idle {
        preset: None,
        tcp: shorter(timeouts.tcp),
        udp: shorter(timeouts.udp),
        icmp: shorter(timeouts.icmp),
        expired: Some(timeouts.expired),
    }
}

#[cfg(test)]
mod tests {
    use netsim_core::random::Seed;

    use super::*;
    use crate::shipped;

    fn drawn(name: &str) -> Scenario {
        let all = shipped::all();
        let found = all.iter().find(|one| one.name.as_str() == name);
        found.expect("it is shipped").drawn(Seed(1))
    }

    #[test]
    fn a_long_idle_timeout_is_divided_down_to_what_heartbeats_keep_open() {
        let before = drawn("idle-350-silent");

        let after = scaled(&before, 20);

        let tcp = |scenario: &Scenario| {
            let mut edges = scenario.edges.iter().map(|edge| edge.idle.timeouts().tcp);
            edges.find_map(|tcp| tcp)
        };
        assert_eq!(tcp(&before), Some(Duration::from_secs(350)));
        assert_eq!(tcp(&after), Some(SHORTEST_IDLE));
        assert_eq!(after.duration.get(), before.duration.get() / 20);
    }

    #[test]
    fn a_timeout_that_is_short_already_stays() {
        let after = scaled(&drawn("udp-30s-nat"), 20);

        let mut edges = after.edges.iter().map(|edge| edge.idle.timeouts().udp);
        let udp = edges.find_map(|udp| udp);
        assert_eq!(udp, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_host_that_crashes_is_away_for_long_enough_to_be_missed() {
        let after = scaled(&drawn("crash-and-login-again"), 20);

        let lasts = after.events.iter().filter_map(|event| event.lasts.as_ref());
        let lasts: Vec<Duration> = lasts.map(|lasts| lasts.get()).collect();
        assert!(!lasts.is_empty() && lasts.iter().all(|lasts| *lasts >= SHORTEST_AWAY));
    }

    #[test]
    fn a_scenario_longer_than_the_budget_is_too_long() {
        let scenario = drawn("open");
        let takes = scenario.duration.get();

        assert_eq!(too_long(&scenario, takes), None);
        assert!(too_long(&scenario, takes / 2).is_some());
    }
}
