//! Events: at a time within the run, to something that is there, with what they need.

use std::time::Duration;

use crate::{
    limits,
    model::{Deed, Event, Scenario, Vpn},
    term::{At, Choice, Reader},
};

pub(super) fn check(scenario: &Scenario, reader: &mut Reader<'_>) {
    for event in &scenario.events {
        let (kind, target) = (event.deed.target(), (&*event.on, event.on.place()));
        if !super::is_copy(scenario, kind, target.0) {
            super::must_exist(scenario, kind, target, reader);
        }
        when(scenario, event, reader);
        what(scenario, event, reader);
    }
}

fn latest(choice: &Choice<Duration>) -> Duration {
    match choice {
        Choice::Fixed(span) | Choice::Between(_, span) => *span,
        Choice::OneOf(first, others) => others.iter().copied().fold(*first, Duration::max),
    }
}

fn when(scenario: &Scenario, event: &Event, reader: &mut Reader<'_>) {
    let every = event
        .every
        .as_ref()
        .map_or(Duration::ZERO, |every| latest(every));
    let times = *event.times;
    if times == 0 || times > limits::TIMES_MAX {
        let problem = format!("`times` lies in 1..={}", limits::TIMES_MAX);
        reader.report(&event.times.place(), problem);
        return;
    }
    if times > 1 && every.is_zero() {
        let problem = "`times` needs `every`: how long after each other";
        reader.report(&event.times.place(), problem);
    }
    if let Some(every) = event.every.as_ref().filter(|_| times == 1) {
        reader.report(&every.place(), "`every` needs `times`: how often");
    }
    let last = latest(&event.time).saturating_add(every.saturating_mul(times - 1));
    let run = scenario.duration.get();
    // A duration that is missing has been reported.
    if last >= run && !run.is_zero() {
        let problem = format!("this happens after {last:?}, and the run is over after {run:?}");
        reader.report(&event.time.place(), problem);
    }
    let Some(lasts) = &event.lasts else {
        return;
    };
    if !event.deed.is_reversible() {
        let problem = format!("`{}` is not undone: leave `for` out", *event.deed);
        reader.report(&lasts.place(), problem);
    }
    if times > 1 && latest(lasts) >= every {
        let problem = "each time lasts longer than the pause to the next: they run into each other";
        reader.report(&lasts.place(), problem);
    }
    if last.saturating_add(latest(lasts)) >= run && last < run {
        let problem = "this is undone only after the end of the run";
        reader.report(&lasts.place(), problem);
    }
}

fn what(scenario: &Scenario, event: &Event, reader: &mut Reader<'_>) {
    let needs = [
        ("line", event.line.is_some(), *event.deed == Deed::Line),
        ("by", event.by.is_some(), *event.deed == Deed::Skew),
        (
            "address",
            event.address.is_some(),
            *event.deed == Deed::Readdress,
        ),
    ];
    for (key, is_given, is_needed) in needs {
        let problem = match (is_given, is_needed) {
            (false, true) => format!("`{}` needs the key `{key}`", *event.deed),
            (true, false) => format!("`{key}` means nothing with `{}`", *event.deed),
            (true, true) | (false, false) => continue,
        };
        reader.report(&event.deed.place(), problem);
    }
    match *event.deed {
        Deed::Rebind => {
            let edge = scenario.edge(&event.on);
            if edge.is_some_and(|edge| edge.nat.is_none()) {
                let problem = format!("the edge `{}` has no NAT that could rebind", *event.on);
                reader.report(&event.on.place(), problem);
            }
        }
        Deed::Forget => {
            let edge = scenario.edge(&event.on);
            if edge.is_some_and(|edge| edge.nat.is_none() && edge.firewall.is_none()) {
                let problem = format!("the edge `{}` remembers nothing", *event.on);
                reader.report(&event.on.place(), problem);
            }
        }
        Deed::Release => {
            let mut proxies = scenario.proxies.iter();
            let proxy = proxies.find(|proxy| *proxy.name == *event.on);
            if proxy.is_some_and(|proxy| !proxy.captive) {
                reader.report(&event.on.place(), "this proxy is not captive");
            }
        }
        Deed::Mend => mended(scenario, event, reader),
        Deed::Cut
        | Deed::Line
        | Deed::Crash
        | Deed::Stop
        | Deed::Start
        | Deed::Suspend
        | Deed::Resume
        | Deed::Skew
        | Deed::Readdress
        | Deed::VpnUp
        | Deed::VpnDown => {}
    }
}

/// What is mended was cut before, or was never plugged in.
fn mended(scenario: &Scenario, event: &Event, reader: &mut Reader<'_>) {
    let is_cut = scenario.events.iter().any(|other| {
        *other.deed == Deed::Cut && *other.on == *event.on && other.time.get() < event.time.get()
    });
    let mut cables = scenario.cables.iter();
    let starts_up = cables.any(|cable| *cable.name == *event.on && cable.up);
    let is_vpn = |vpn: &Vpn| *vpn.cable == *event.on;
    if starts_up && !is_cut && !scenario.vpns.iter().any(is_vpn) {
        let problem = format!("the cable `{}` is whole at this time", *event.on);
        reader.report(&At::place(&event.on), problem);
    }
}
