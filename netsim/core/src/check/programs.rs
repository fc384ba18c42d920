//! Real programs in the place of models: what each of them can be asked to do.

use crate::{
    model::{Host, Proxy, ProxyKind, RealProxy, Role, Scenario},
    term::{PortRange, Reader, Text},
};

/// The most ports that tinyproxy is told of, which wants each by itself.
const TINYPROXY_PORTS_MAX: u32 = 64;

pub(super) fn check(scenario: &Scenario, reader: &mut Reader<'_>) {
    for host in &scenario.hosts {
        resolver(host, reader);
    }
    tunnels(scenario, reader);
    for proxy in &scenario.proxies {
        let Some(real) = &proxy.real else {
            continue;
        };
        let problems = match **real {
            RealProxy::Tinyproxy => tinyproxy(proxy),
            RealProxy::Squid => squid(proxy),
            RealProxy::Mitmproxy => mitmproxy(proxy),
        };
        for problem in problems {
            reader.report(&real.place(), format!("{} {problem}", **real));
        }
    }
}

/// One tunnel of one host: its interface has one name.
fn tunnels(scenario: &Scenario, reader: &mut Reader<'_>) {
    let mut others = 0;
    for vpn in &scenario.vpns {
        let Some(real) = &vpn.real else {
            continue;
        };
        let copies = scenario.host(&vpn.host).map_or(1, |host| *host.count);
        if others > 0 || copies > 1 {
            let problem = format!(
                "{} is one tunnel of one host: leave `real` out, or let `{}` be one host",
                **real, *vpn.host
            );
            reader.report(&real.place(), problem);
        }
        others += 1;
    }
}

fn resolver(host: &Host, reader: &mut Reader<'_>) {
    if let Some(real) = host.real.as_ref().filter(|_| host.runs != Role::Resolver) {
        let problem = format!(
            "{} answers for names, and `{}` is no resolver: `runs = \"resolver\"`",
            **real, *host.name
        );
        reader.report(&real.place(), problem);
    }
}

fn tinyproxy(proxy: &Proxy) -> Vec<&'static str> {
    let ports: u32 = proxy.allows.iter().map(|ports| ports.count()).sum();
    let is_any = proxy.allows.contains(&PortRange::ALL);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let mut problems = of_forward(proxy);
    problems.extend(unless(
        is_any || ports <= TINYPROXY_PORTS_MAX,
        "is told of every port by itself: name fewer in `allows`, or leave it out",
    ));
    problems.extend(unless(
        login_is(&proxy.login, is_plain),
        "takes letters, digits and `-._` in a login",
    ));
    problems
}

fn squid(proxy: &Proxy) -> Vec<&'static str> {
    let mut problems = of_forward(proxy);
    // Its file of logins has a line each.
    problems.extend(unless(
        login_is(&proxy.login, |byte| byte.is_ascii_graphic()),
        "takes a login without spaces, in ASCII",
    ));
    problems
}

fn mitmproxy(proxy: &Proxy) -> Vec<&'static str> {
    let mut problems = Vec::new();
    problems.extend(unless(
        proxy.speaks == ProxyKind::Transparent && proxy.intercepts_as.is_some(),
        "intercepts TLS on an edge: `speaks = \"transparent\"`, `intercepts-as = \"…\"`",
    ));
    problems.extend(unless(
        proxy.cut_after.is_none() && !proxy.strips_upgrade && !proxy.captive,
        "only intercepts: leave out `cut-after`, `strips-upgrade` and `captive`",
    ));
    problems
}

/// A proxy that connects where it is told to, and does nothing else.
fn of_forward(proxy: &Proxy) -> Vec<&'static str> {
    let mut problems = Vec::new();
    problems.extend(unless(
        proxy.speaks == ProxyKind::Connect,
        "is spoken to by CONNECT: `speaks = \"connect\"`",
    ));
    problems.extend(unless(
        proxy.cut_after.is_none()
            && !proxy.strips_upgrade
            && !proxy.captive
            && proxy.intercepts_as.is_none(),
        "only connects: leave out `cut-after`, `strips-upgrade`, `captive` and `intercepts-as`",
    ));
    problems
}

fn login_is(login: &Option<Text>, fits: impl Fn(u8) -> bool) -> bool {
    login.as_ref().is_none_or(|login| {
        // One that is no login at all is complained about elsewhere.
        let both = login.as_str().split_once(':');
        both.is_none_or(|(user, password)| {
            let mut all = user.bytes().chain(password.bytes());
            !user.is_empty() && !password.is_empty() && all.all(fits)
        })
    })
}

fn unless(is_fine: bool, problem: &'static str) -> Option<&'static str> {
    (!is_fine).then_some(problem)
}
