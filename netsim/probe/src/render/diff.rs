//! What is different between two runs: before a change of the network, and after it.

use std::fmt::Write;

use crate::verdict::{FlowReport, FlowVerdict, Report};

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In words, a line a flow.
    pub text: String,
    /// Something works that did not.
    pub is_better: bool,
    /// Something does not work that did.
    pub is_worse: bool,
}

/// Compares two runs.
pub fn diff(before: &Report, after: &Report) -> Difference {
    let mut difference = Difference {
        text: String::new(),
        is_better: false,
        is_worse: false,
    };
    let host = &after.target.host;
    let (was, is) = (before.verdict.words(), after.verdict.words());
    let out = &mut difference.text;
    // Writing to a string cannot fail.
    let _written = match was == is {
        true => writeln!(out, "{host}: {is}, as before"),
        false => writeln!(out, "{host}: {was} → {is}"),
    };
    if before.target != after.target {
        let _written = writeln!(out, "the two runs asked for different relays or ports");
    }
    for now in &after.flows {
        let then = before.flows.iter().find(|flow| flow.flow == now.flow);
        let (line, better, worse) = of_flow(then, now);
        let _written = writeln!(difference.text, "{line}");
        difference.is_better |= better;
        difference.is_worse |= worse;
    }
    difference
}

fn of_flow(then: Option<&FlowReport>, now: &FlowReport) -> (String, bool, bool) {
    let name = format!("{}/{} {}", now.port, now.protocol, now.flow.name());
    let Some(then) = then else {
        return (
            format!("{name}: {}, not tried before", now.verdict.words()),
            false,
            false,
        );
    };
    let codes = |flow: &FlowReport| {
        let codes: Vec<&str> = flow.causes.iter().map(|cause| cause.code.name()).collect();
        match codes.as_slice() {
            [] => String::new(),
            codes => format!(" ({})", codes.join(", ")),
        }
    };
    let (was, is) = (codes(then), codes(now));
    let line = match (then.verdict == now.verdict, was == is) {
        (true, true) => format!("{name}: {}{is}, as before", now.verdict.words()),
        _ => format!(
            "{name}: {}{was} → {}{is}",
            then.verdict.words(),
            now.verdict.words()
        ),
    };
    (
        line,
        rank(now.verdict) > rank(then.verdict),
        rank(now.verdict) < rank(then.verdict),
    )
}

const fn rank(verdict: FlowVerdict) -> u8 {
    match verdict {
        FlowVerdict::Open => 3,
        FlowVerdict::Caveat => 2,
        FlowVerdict::CannotTell => 1,
        FlowVerdict::Blocked => 0,
    }
}
