//! An edge's firewall and NAT in the kernel's own words: nftables rules and conntrack's
//! parameters, made from the model.
//!
//! TCP in the middle of a flow that nobody knows is caught by its flags, whatever
//! `nf_conntrack_tcp_loose` says: otherwise a flow that has expired would go on as if
//! nothing were, and every idle timeout would be a lie. Nothing here touches a kernel.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use ipnet::IpNet;
use netsim_core::{
    middlebox::Cause,
    model::{Dependence, Edge, Expired, Firewall, Nat, Protocol, Proxy, Rule, Ruling, Timeouts},
    term::{PortRange, Term},
};

/// The table's name.
pub(super) const TABLE: &str = "edge";

/// Named counters, and what each counts.
pub(super) const COUNTERS: [(&str, Cause); 6] = [
    ("ruled", Cause::Rule),
    ("unsolicited", Cause::Unsolicited),
    ("expired", Cause::Expired),
    ("translated", Cause::Translated),
    ("exhausted", Cause::Exhausted),
    ("rebound", Cause::Rebound),
];

/// As good as never: conntrack's parameters are 32 bits of jiffies.
const NEVER_SECONDS: u64 = 2_000_000;

/// The interfaces of an edge, by side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sides {
    pub(super) inside: Vec<String>,
    pub(super) outside: Vec<String>,
}

/// What the kernel cannot do of an edge, as sentences.
pub(super) fn beyond_the_kernel(edge: &Edge, proxies: &[Proxy]) -> Vec<String> {
    let has_proxies = proxies.iter().any(|proxy| *proxy.on == *edge.name);
    let mut beyond = Vec::new();
    let mut must = |is_fine: bool, what: &str| {
        if !is_fine {
            beyond.push(what.to_owned());
        }
    };
    must(edge.nat64.is_none(), "nat64 is not the kernel's");
    must(!has_proxies, "transparent proxies stand on it");
    if let Some(nat) = &edge.nat {
        must(
            nat.filtering == Dependence::AddressAndPort,
            "conntrack filters by address and port",
        );
        must(!nat.hairpin, "its rules here have no hairpin");
        must(
            is_in_a_row(nat),
            "the addresses of its NAT must be in a row, one row a family",
        );
    }
    beyond
}

/// Kernel parameters, as paths under `/proc/sys/net` and values.
pub(super) fn parameters(edge: &Edge) -> Vec<(String, String)> {
    let timeouts = edge.idle.timeouts();
    let seconds = |idle: Option<Duration>| {
        let whole = idle.map_or(NEVER_SECONDS, |idle| idle.as_millis().div_ceil(1000) as u64);
        whole.clamp(1, NEVER_SECONDS).to_string()
    };
    let Timeouts { tcp, udp, icmp, .. } = timeouts;
    let mut all = vec![
        ("ipv4/ip_forward".to_owned(), "1".to_owned()),
        ("ipv6/conf/all/forwarding".to_owned(), "1".to_owned()),
        ("ipv4/conf/all/send_redirects".to_owned(), "0".to_owned()),
        (
            "ipv4/conf/default/send_redirects".to_owned(),
            "0".to_owned(),
        ),
    ];
    for (name, value) in [
        ("tcp_timeout_established", seconds(tcp)),
        ("udp_timeout", seconds(udp)),
        ("udp_timeout_stream", seconds(udp)),
        ("icmp_timeout", seconds(icmp)),
        ("icmpv6_timeout", seconds(icmp)),
        // What may begin in its middle is for the rules to say.
        ("tcp_loose", "1".to_owned()),
    ] {
        all.push((format!("netfilter/nf_conntrack_{name}"), value));
    }
    all
}

/// The rules of an edge. `turn` is how often its NAT was rebound: each time it takes
/// ports from the other half of its range.
pub(super) fn rules(edge: &Edge, sides: &Sides, turn: u32) -> String {
    let mut text =
        format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for (name, _) in COUNTERS {
        writeln!(text, " counter {name} {{ }}").expect("memory");
    }
    // Flows of before a rebinding may go on in their middle.
    text.push_str(
        " set rebound4 {\n type ipv4_addr . inet_service\n }\n \
         set rebound6 {\n type ipv6_addr . inet_service\n }\n \
         set hosts4 {\n type ipv4_addr\n flags dynamic\n }\n",
    );
    if edge.firewall.is_some() || edge.nat.is_some() {
        text.push_str(&filter(edge, sides));
    }
    if let Some(nat) = &edge.nat {
        text.push_str(&translation(nat, sides, turn));
    }
    text.push_str("}\n");
    text
}

fn filter(edge: &Edge, sides: &Sides) -> String {
    let blank = Firewall::blank();
    let firewall = edge.firewall.as_ref().unwrap_or(&blank);
    let (inside, outside) = (set(&sides.inside), set(&sides.outside));
    let expired = match edge.idle.timeouts().expired {
        Expired::Silent => Ruling::Drop,
        Expired::Reset => Ruling::Reset,
    };
    let unsolicited = *firewall.unsolicited;
    let mut text = String::from(" chain unsolicited {\n");
    text.push_str(&verdicts("", "unsolicited", unsolicited));
    text.push_str(" }\n chain expired {\n");
    for (family, set) in [("ip", "rebound4"), ("ip6", "rebound6")] {
        writeln!(
            text,
            " {family} saddr . tcp sport @{set} counter name rebound accept"
        )
        .expect("memory");
    }
    text.push_str(&verdicts("", "expired", expired));
    text.push_str(
        " }\n chain input {\n type filter hook input priority filter; policy accept;\n \
         ct state established,related accept\n meta l4proto { tcp, udp } goto unsolicited\n }\n \
         chain forward {\n type filter hook forward priority filter; policy accept;\n",
    );
    for same in [&inside, &outside] {
        writeln!(text, " iifname {same} oifname {same} accept").expect("memory");
    }
    text.push_str(" ct state established,related accept\n");
    writeln!(text, " iifname {outside} goto unsolicited").expect("memory");
    if !firewall.loose {
        text.push_str(" tcp flags & (syn | ack) != syn goto expired\n");
    }
    for rule in &firewall.rules {
        for fits in matches(rule) {
            text.push_str(&verdicts(&fits, "ruled", rule.ruling));
        }
    }
    text.push_str(&verdicts("", "ruled", firewall.otherwise));
    text.push_str(" }\n");
    text
}

fn translation(nat: &Nat, sides: &Sides, turn: u32) -> String {
    let outside = set(&sides.outside);
    let mut text = String::new();
    if let Some(most) = &nat.ports_per_host {
        let most = **most;
        text.push_str(
            " chain quotas {\n type filter hook forward priority filter + 1; policy accept;\n",
        );
        let count = format!(
            "oifname {outside} ct state new meta l4proto {{ tcp, udp }} \
             add @hosts4 {{ ip saddr ct count over {most} }}"
        );
        text.push_str(&verdicts(&count, "exhausted", *nat.exhausted));
        text.push_str(" }\n");
    }
    text.push_str(
        " chain translate {\n type nat hook postrouting priority srcnat; policy accept;\n",
    );
    let ports = half(nat.ports, turn);
    let flags = if nat.keep_port && turn == 0 {
        ""
    } else {
        " fully-random"
    };
    for (family, is_ipv4) in [("ip", true), ("ip6", false)] {
        let mut own = nat.addresses.iter().map(|one| **one);
        let own: Vec<IpAddr> = own
            .by_ref()
            .filter(|one| one.is_ipv4() == is_ipv4)
            .collect();
        let (Some(first), Some(last)) = (own.iter().min(), own.iter().max()) else {
            continue;
        };
        let range = |with_ports: bool| {
            let named = |one: &IpAddr| match one {
                IpAddr::V6(one) if with_ports => format!("[{one}]"),
                one => one.to_string(),
            };
            if first == last {
                named(first)
            } else {
                format!("{}-{}", named(first), named(last))
            }
        };
        let kind = if is_ipv4 { "ipv4" } else { "ipv6" };
        writeln!(
            text,
            " oifname {outside} meta nfproto {kind} meta l4proto {{ tcp, udp }} \
             counter name translated snat {family} to {}:{}-{}{flags}",
            range(true),
            ports.first,
            ports.last,
        )
        .expect("memory");
        writeln!(
            text,
            " oifname {outside} meta nfproto {kind} counter name translated snat {family} to {}",
            range(false)
        )
        .expect("memory");
    }
    text.push_str(" }\n");
    text
}

/// All of a range at first, then the upper and the lower half in turns.
fn half(ports: PortRange, turn: u32) -> PortRange {
    let middle = ports.first + (ports.last - ports.first) / 2;
    match (turn, turn % 2) {
        (0, _) => ports,
        (_, 1) => PortRange {
            first: middle.saturating_add(1).min(ports.last),
            last: ports.last,
        },
        (..) => PortRange {
            first: ports.first,
            last: middle,
        },
    }
}

/// Conditions of a rule: of either family, or one for each that it names.
fn matches(rule: &Rule) -> Vec<String> {
    let mut rest = String::new();
    let protocols = match (rule.protocol, rule.ports.is_empty()) {
        (Some(Protocol::Tcp), _) => "meta l4proto tcp ",
        (Some(Protocol::Udp), _) => "meta l4proto udp ",
        (Some(Protocol::Icmp), _) => "meta l4proto { icmp, icmpv6 } ",
        (None, false) => "meta l4proto { tcp, udp } ",
        (None, true) => "",
    };
    rest.push_str(protocols);
    if !rule.ports.is_empty() && rule.protocol != Some(Protocol::Icmp) {
        let ports = rule.ports.iter();
        let ports: Vec<String> = ports
            .map(|ports| format!("{}-{}", ports.first, ports.last))
            .collect();
        write!(rest, "th dport {{ {} }} ", ports.join(", ")).expect("memory");
    }
    if rule.from.is_empty() && rule.to.is_empty() {
        return vec![rest];
    }
    let of = |nets: &[IpNet], is_ipv4: bool| -> Vec<String> {
        let nets = nets.iter();
        nets.filter(|net| net.addr().is_ipv4() == is_ipv4)
            .map(|net| net.trunc().to_string())
            .collect()
    };
    let mut found = Vec::new();
    for (family, is_ipv4) in [("ip", true), ("ip6", false)] {
        let mut fits = String::new();
        let mut can_fit = true;
        for (nets, end) in [(&rule.from, "saddr"), (&rule.to, "daddr")] {
            let own = of(nets, is_ipv4);
            can_fit &= nets.is_empty() || !own.is_empty();
            if !own.is_empty() {
                write!(fits, "{family} {end} {{ {} }} ", own.join(", ")).expect("memory");
            }
        }
        if can_fit {
            found.push(format!("{fits}{rest}"));
        }
    }
    found
}

/// What becomes of packets that fit.
fn verdicts(fits: &str, counter: &str, ruling: Ruling) -> String {
    match ruling {
        Ruling::Allow => format!(" {fits} accept\n"),
        Ruling::Drop => format!(" {fits} counter name {counter} drop\n"),
        Ruling::Reject => {
            format!(" {fits} counter name {counter} reject with icmpx admin-prohibited\n")
        }
        Ruling::Reset => format!(
            " {fits} meta l4proto tcp counter name {counter} reject with tcp reset\n \
             {fits} counter name {counter} reject with icmpx admin-prohibited\n"
        ),
    }
}

fn set(interfaces: &[String]) -> String {
    let quoted: Vec<String> = interfaces.iter().map(|name| format!("{name:?}")).collect();
    format!("{{ {} }}", quoted.join(", "))
}

/// Whether the addresses of each family are all those between its first and last.
fn is_in_a_row(nat: &Nat) -> bool {
    let bits = |one: &IpAddr| match one {
        IpAddr::V4(one) => u128::from(one.to_bits()),
        IpAddr::V6(one) => one.to_bits(),
    };
    [true, false].into_iter().all(|is_ipv4| {
        let own = nat.addresses.iter().map(|one| **one);
        let mut own: Vec<u128> = own
            .filter(|one| one.is_ipv4() == is_ipv4)
            .map(|one| bits(&one))
            .collect();
        own.sort_unstable();
        own.windows(2).all(|pair| pair[1] - pair[0] <= 1)
    })
}

#[cfg(test)]
mod tests {
    use netsim_core::check::check;

    use super::*;

    fn edge(text: &str) -> Edge {
        let text = format!(
            "name = \"test\"\nsummary = \"s\"\nobserved = \"o\"\nduration = \"1m\"\n\
             [[host]]\nname = \"a\"\nruns = \"agent\"\naddresses = \"10.1.0.2/24\"\n\
             [[host]]\nname = \"b\"\nruns = \"relay\"\naddresses = \"10.2.0.2/24\"\n\
             [[edge]]\nname = \"office\"\nkernel = true\n{text}\n\
             [[cable]]\nname = \"x\"\nends = [\"a\", \"office:inside\"]\n\
             [[cable]]\nname = \"y\"\nends = [\"b\", \"office:outside\"]\n\
             [[expect]]\nnever = \"inbound-flow\"\n"
        );
        let scenario = check(&text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
        scenario.edges[0].clone()
    }

    fn sides() -> Sides {
        Sides {
            inside: vec!["l0".to_owned()],
            outside: vec!["l1".to_owned()],
        }
    }

    #[test]
    fn tcp_in_its_middle_is_told_by_its_flags_unless_the_firewall_is_loose() {
        let strict = rules(&edge("firewall = {}"), &sides(), 0);
        let loose = rules(&edge("firewall = { loose = true }"), &sides(), 0);

        assert!(strict.contains("tcp flags & (syn | ack) != syn goto expired"));
        assert!(!loose.contains("goto expired"));
    }

    #[test]
    fn a_rule_names_its_ports_and_refuses_as_it_says() {
        let edge = edge(
            "firewall = { rules = [{ to = \"192.0.2.0/24\", ports = 8000, do = \"reset\" }] }",
        );

        let rules = rules(&edge, &sides(), 0);

        let wanted = "ip daddr { 192.0.2.0/24 } meta l4proto { tcp, udp } th dport { 8000-8000 }";
        assert!(rules.contains(wanted), "{rules}");
        assert!(rules.contains("reject with tcp reset"), "{rules}");
    }

    #[test]
    fn a_rebound_nat_takes_ports_of_another_half() {
        let edge = edge("nat = { addresses = \"198.51.100.1\", ports = \"1000-1999\" }");

        let turns: Vec<String> = (0..3).map(|turn| rules(&edge, &sides(), turn)).collect();

        assert!(
            turns[0].contains("snat ip to 198.51.100.1:1000-1999\n"),
            "{}",
            turns[0]
        );
        assert!(
            turns[1].contains("198.51.100.1:1500-1999 fully-random"),
            "{}",
            turns[1]
        );
        assert!(
            turns[2].contains("198.51.100.1:1000-1499 fully-random"),
            "{}",
            turns[2]
        );
    }

    #[test]
    fn what_conntrack_cannot_do_is_said() {
        let edge =
            edge("nat = { addresses = \"198.51.100.1\", filtering = \"endpoint-independent\" }");

        assert_eq!(
            beyond_the_kernel(&edge, &[]),
            ["conntrack filters by address and port"]
        );
    }

    #[test]
    fn timeouts_are_whole_seconds_and_never_is_long() {
        let edge = edge("firewall = {}\nidle = { tcp = \"1500ms\" }");

        let parameters = parameters(&edge);

        let of = |name: &str| {
            let found = parameters.iter().find(|(path, _)| path.ends_with(name));
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(of("tcp_timeout_established"), Some("2"));
        assert_eq!(of("udp_timeout"), Some("2000000"));
    }
}
