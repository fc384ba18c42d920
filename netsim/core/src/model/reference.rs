//! The format as a document: rendered from the declarations, so that it is true.

use std::fmt::Write as _;

use super::{
    BlackHole, Bursts, Cable, DnsRule, Dpi, Edge, Event, Expectation, Firewall, Host, Idle, Jitter,
    Line, Nat, Nat64, Preset, Proxy, Reorder, Rule, Scenario, UdpBlock, Vpn, Workload,
};
use crate::term::{Field, Record};

/// Every table of a scenario file with its keys, and every preset with its source, as
/// Markdown.
pub fn reference() -> String {
    let mut page = String::new();
    table::<Scenario>(&mut page, "The file");
    table::<Host>(&mut page, "`[[host]]`");
    table::<Cable>(&mut page, "`[[cable]]`");
    table::<Line>(&mut page, "Line: `line`, `back`");
    table::<Jitter>(&mut page, "Jitter: `jitter`");
    table::<Bursts>(&mut page, "Bursts: `bursts`");
    table::<Reorder>(&mut page, "Reorder: `reorder`");
    table::<Edge>(&mut page, "`[[edge]]`");
    table::<DnsRule>(&mut page, "DnsRule: `[[edge.dns]]`");
    table::<BlackHole>(&mut page, "BlackHole: `black-hole`");
    table::<UdpBlock>(&mut page, "UdpBlock: `udp-block`");
    table::<Dpi>(&mut page, "Dpi: `dpi`");
    table::<Firewall>(&mut page, "Firewall: `firewall`");
    table::<Rule>(&mut page, "Rule: `rules`");
    table::<Nat>(&mut page, "Nat: `nat`");
    table::<Nat64>(&mut page, "Nat64: `nat64`");
    table::<Idle>(&mut page, "Idle: `idle`");
    table::<Proxy>(&mut page, "`[[proxy]]`");
    table::<Vpn>(&mut page, "`[[vpn]]`");
    table::<Event>(&mut page, "`[[at]]`");
    table::<Workload>(&mut page, "`[workload]`");
    table::<Expectation>(&mut page, "`[[expect]]`");
    presets(&mut page);
    page
}

fn table<R: Record>(page: &mut String, heading: &str) {
    page.push_str(&format!(
        "### {heading}\n\n| Key | Value | Left out | Means |\n| --- | --- | --- | --- |\n"
    ));
    for field in R::FIELDS {
        page.push_str(&row(field));
    }
    page.push('\n');
}

fn row(field: &Field) -> String {
    let left_out = match field.default {
        None => "must be given".to_owned(),
        Some(default) => default().map_or_else(String::new, |value| format!("`{value}`")),
    };
    let meaning: String = field.meaning.concat();
    format!(
        "| `{}` | {} | {} | {} |\n",
        field.key,
        (field.kind)().replace('|', "\\|"),
        left_out,
        meaning.trim()
    )
}

fn presets(page: &mut String) {
    page.push_str("### Presets of `idle`\n\n");
    page.push_str("| Preset | TCP | UDP | Next packet | Observed |\n");
    page.push_str("| --- | --- | --- | --- | --- |\n");
    for preset in Preset::ALL {
        let timeouts = preset.timeouts();
        let seconds = |span: Option<std::time::Duration>| span.map_or(0, |span| span.as_secs());
        writeln!(
            page,
            "| `{preset}` | {} s | {} s | {} | {} |",
            seconds(timeouts.tcp),
            seconds(timeouts.udp),
            timeouts.expired,
            preset.observed()
        )
        .expect("a String takes everything");
    }
}
