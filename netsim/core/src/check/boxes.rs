//! What stands on edges: boxes that can do what is asked of them.

use std::time::Duration;

use crate::{
    limits,
    model::{
        Cable, DnsTrick, Edge, Jitter, Line, Nat, Nat64, ProxyKind, Ruling, Scenario, TargetKind,
    },
    term::{At, Place, Reader},
};

pub(super) fn check(scenario: &Scenario, reader: &mut Reader<'_>) {
    for edge in &scenario.edges {
        if let Some(nat) = &edge.nat {
            translation(nat, reader);
        }
        if let Some(nat64) = &edge.nat64 {
            family_translation(nat64, reader);
        }
        refusals(edge, reader);
        names(edge, reader);
        if let Some(hole) = &edge.black_hole
            && hole.mtu.get() < limits::MTU_MIN
        {
            let problem = format!("below {} nothing works at all", limits::MTU_MIN);
            reader.report(&hole.mtu.place(), problem);
        }
    }
    for line in scenario.cables.iter().flat_map(lines) {
        if line
            .rate
            .as_ref()
            .is_some_and(|rate| rate.get().bits_per_second == 0)
        {
            reader.report(
                &line.mtu.place(),
                "a rate of nothing is a cut: use the event `cut`",
            );
        }
        if let Some(Jitter { spread, .. }) = &line.jitter
            && spread.get() > Duration::from_secs(3600)
        {
            reader.report(
                &line.mtu.place(),
                "a jitter beyond an hour is an outage: use `cut`",
            );
        }
    }
    proxies(scenario, reader);
    vpns(scenario, reader);
}

fn lines(cable: &Cable) -> impl Iterator<Item = &Line> {
    std::iter::once(&cable.line).chain(&cable.back)
}

fn translation(nat: &At<Nat>, reader: &mut Reader<'_>) {
    if nat.addresses.is_empty() {
        let problem = "a NAT needs an outer address: `addresses = \"198.51.100.1\"`";
        reader.report(&nat.place(), problem);
    }
    for address in nat.addresses.iter().filter(|address| address.is_ipv6()) {
        let problem = "a NAT translates IPv4; for IPv6 to IPv4 there is `nat64`";
        reader.report(&address.place(), problem);
    }
    if nat.ports.first == 0 {
        reader.report(
            &nat.place(),
            "port 0 cannot be used: let `ports` begin at 1 or later",
        );
    }
    if let Some(share) = nat.ports_per_host.as_ref().filter(|share| ***share == 0) {
        reader.report(
            &share.place(),
            "a host without ports reaches nothing; give it one",
        );
    }
    not_allow(&nat.exhausted, reader);
}

fn family_translation(nat64: &At<Nat64>, reader: &mut Reader<'_>) {
    if nat64.prefix.prefix_len() != 96 {
        let problem = "this prefix is not 96 bits long, and others are not supported";
        reader.report(&nat64.prefix.place(), problem);
    }
}

fn refusals(edge: &Edge, reader: &mut Reader<'_>) {
    let firewall = edge.firewall.iter().map(|firewall| &firewall.unsolicited);
    let dpi = edge.dpi.iter().map(|dpi| &dpi.ruling);
    let udp = edge.udp_block.iter().map(|block| &block.ruling);
    for ruling in firewall.chain(dpi).chain(udp) {
        not_allow(ruling, reader);
    }
    if let Some(dpi) = &edge.dpi
        && dpi.server_names.is_empty()
        && dpi.alpn.is_empty()
        && dpi.only.is_empty()
        && dpi.hello_max.is_none()
    {
        let problem =
            "`dpi` dislikes nothing: give it `server-names`, `alpn`, `only` or `hello-max`";
        reader.report(&edge.name.place(), problem);
    }
}

fn not_allow(ruling: &At<Ruling>, reader: &mut Reader<'_>) {
    if **ruling == Ruling::Allow {
        reader.report(
            &ruling.place(),
            "here `allow` would be no box at all: drop, reset or reject",
        );
    }
}

fn names(edge: &Edge, reader: &mut Reader<'_>) {
    for rule in &edge.dns {
        let place: Place = rule
            .answer
            .first()
            .map_or_else(|| edge.name.place(), At::place);
        match (rule.trick, rule.answer.is_empty()) {
            (DnsTrick::Lie, true) => {
                reader.report(&place, "a lie needs addresses: `answer = [\"192.0.2.1\"]`");
            }
            (
                DnsTrick::NoSuchName
                | DnsTrick::ServerFailure
                | DnsTrick::Refused
                | DnsTrick::Silence
                | DnsTrick::Slow,
                false,
            ) => {
                reader.report(&place, "`answer` belongs to `do = \"lie\"` alone");
            }
            (DnsTrick::Lie, false) | (_, true) => {}
        }
        if rule.names.is_empty() {
            reader.report(
                &place,
                "a rule without names fits nothing; `*` is every name",
            );
        }
        if rule.trick == DnsTrick::Slow && rule.delay.get().is_zero() {
            reader.report(&place, "`slow` needs a `delay`");
        }
    }
}

fn proxies(scenario: &Scenario, reader: &mut Reader<'_>) {
    for proxy in &scenario.proxies {
        let kind = match proxy.speaks {
            ProxyKind::Connect | ProxyKind::Socks5 => TargetKind::Host,
            ProxyKind::Transparent => TargetKind::Edge,
        };
        super::must_exist(scenario, kind, (&proxy.on, proxy.on.place()), reader);
        let is_transparent = proxy.speaks == ProxyKind::Transparent;
        if is_transparent && proxy.login.is_some() {
            let problem = "nobody speaks to a transparent proxy, so nobody can log in";
            reader.report(&proxy.name.place(), problem);
        }
        if !is_transparent && proxy.port.count() > 1 {
            let problem = "a proxy that is spoken to has one port";
            reader.report(&proxy.name.place(), problem);
        }
        let mut others = scenario.proxies.iter();
        let earlier = others
            .by_ref()
            .take_while(|other| *other.name != *proxy.name);
        let mut earlier = earlier.filter(|other| *other.on == *proxy.on);
        if let Some(other) = earlier.find(|other| other.port.overlaps(proxy.port)) {
            let problem = format!("the proxy `{}` has this port there already", *other.name);
            reader.report(&proxy.name.place(), problem);
        }
        if proxy
            .login
            .as_ref()
            .is_some_and(|login| !login.as_str().contains(':'))
        {
            let problem = "a login is written `user:password`";
            reader.report(&proxy.name.place(), problem);
        }
    }
}

fn vpns(scenario: &Scenario, reader: &mut Reader<'_>) {
    for vpn in &scenario.vpns {
        super::must_exist(
            scenario,
            TargetKind::Host,
            (&vpn.host, vpn.host.place()),
            reader,
        );
        super::must_exist(
            scenario,
            TargetKind::Cable,
            (&vpn.cable, vpn.cable.place()),
            reader,
        );
        if let Some(resolver) = &vpn.resolver {
            let name = (&**resolver, resolver.place());
            super::must_exist(scenario, TargetKind::Host, name, reader);
        }
        let least = if vpn.address.addr().is_ipv6() {
            limits::MTU_MIN_IPV6
        } else {
            limits::MTU_MIN
        };
        if vpn.mtu.get() < least {
            reader.report(
                &vpn.mtu.place(),
                format!("an MTU below {least} cannot be used here"),
            );
        }
    }
}
