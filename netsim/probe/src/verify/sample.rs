//! Destinations of the Internet that a strict network keeps closed: some that everybody reaches,
//! and one where nobody is.

use super::{Protocol, Rule, Rules, Via};

/// Address, port and protocol: web, names over TLS and plain, shell, mail.
const SAMPLE: [(&str, u16, Protocol); 10] = [
    ("1.1.1.1", 443, Protocol::Tcp),
    ("1.1.1.1", 80, Protocol::Tcp),
    ("1.1.1.1", 853, Protocol::Tcp),
    ("1.1.1.1", 53, Protocol::Udp),
    ("8.8.8.8", 443, Protocol::Tcp),
    ("8.8.8.8", 53, Protocol::Udp),
    ("9.9.9.9", 53, Protocol::Tcp),
    ("192.0.2.1", 22, Protocol::Tcp),
    ("192.0.2.1", 25, Protocol::Tcp),
    ("2606:4700:4700::1111", 443, Protocol::Tcp),
];

/// What must be closed, less what the rules open.
pub fn sample(rules: &Rules) -> Vec<Rule> {
    let is_open = |host: &str, port: u16| {
        let mut allowed = rules.allow.iter();
        allowed.any(|rule| rule.host == host && rule.port == port)
    };
    let wanted = SAMPLE
        .into_iter()
        .filter(|(host, port, _)| !is_open(host, *port));
    let rule = |(host, port, protocol): (&str, u16, Protocol)| Rule {
        name: None,
        host: host.to_owned(),
        port,
        protocol,
        via: Via::Direct,
    };
    wanted.map(rule).collect()
}
