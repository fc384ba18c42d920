//! Rules in words of nftables, for a host or an edge, each with a counter: a rule that touched
//! nothing was never there.

use std::{fmt::Write as _, io};

use crate::lab::{Namespace, feed};

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Those that it sends.
    Sent,
    /// Those that come to it.
    Received,
    /// Those that it hands on.
    Forwarded,
    /// The first of connections that it hands on, and may send elsewhere.
    Diverted,
}

impl Of {
    /// The name of the table that they have.
    const fn table(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Forwarded => "forwarded",
            Self::Diverted => "diverted",
        }
    }
}

/// Gives a host or an edge rules: what fits, and what is done.
pub(super) fn put(namespace: &Namespace, of: Of, rules: &[[String; 2]]) -> io::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let (hook, loopback) = match of {
        Of::Sent => ("filter hook output priority filter - 1", "oifname"),
        Of::Received => ("filter hook input priority filter - 1", "iifname"),
        Of::Forwarded => ("filter hook forward priority filter - 1", "iifname"),
        Of::Diverted => ("nat hook prerouting priority dstnat", "iifname"),
    };
    let mut text = format!("table inet {} {{\n", of.table());
    for number in 0..rules.len() {
        writeln!(text, " counter rule{number} {{ }}").map_err(io::Error::other)?;
    }
    writeln!(
        text,
        " chain own {{\n type {hook}; policy accept;\n {loopback} lo accept"
    )
    .map_err(io::Error::other)?;
    for (number, [fits, does]) in rules.iter().enumerate() {
        writeln!(text, " {fits} counter name rule{number} {does}").map_err(io::Error::other)?;
    }
    text.push_str(" }\n}\n");
    namespace
        .within(|| feed("nft", &["-f", "-"], &text))
        .map(drop)
}

/// Rules that have touched nothing, as sentences.
pub(super) fn idle(
    namespace: &Namespace,
    of: Of,
    rules: &[[String; 2]],
) -> io::Result<Vec<String>> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let command = ["list", "counters", "table", "inet", of.table()];
    let listed = namespace.within(|| feed("nft", &command, ""))?;
    let numbered = rules.iter().enumerate();
    let idle = numbered.filter(|(number, _)| packets(&listed, *number) == 0);
    Ok(idle
        .map(|(_, [fits, does])| format!("the rule `{fits} {does}` touched no packet"))
        .collect())
}

/// What a rule's counter has, as `nft` prints it.
fn packets(listed: &str, number: usize) -> u64 {
    let after = listed.split(&format!("counter rule{number} {{")).nth(1);
    let count = after.and_then(|rest| rest.split_whitespace().nth(1));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_each_rule_is_read_as_nft_prints_it() {
        let listed = "table inet own {\n\tcounter rule0 {\n\t\tpackets 3 bytes 180\n\t}\n\
                      \tcounter rule1 {\n\t\tpackets 0 bytes 0\n\t}\n}\n";

        assert_eq!([0, 1, 2].map(|number| packets(listed, number)), [3, 0, 0]);
    }
}
