//! One screen for a terminal: a line a flow, who, and the change; the evidence below.

use std::fmt::Write;

use wire::token::HTTPS_PORT_DEFAULT;

use crate::verdict::{FlowReport, FlowVerdict, Report, Verdict};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Adds formatted text to a `String`, which takes everything.
macro_rules! put {
    ($into:expr, $($arguments:tt)*) => {
        let _taken = writeln!($into, $($arguments)*);
    };
}

/// Reports. Whoever writes them takes the colours out where nobody sees them.
pub fn text(reports: &[Report]) -> String {
    let mut out = String::new();
    if reports.len() > 1 {
        put!(out, "{}\n", plain(&summary(reports)));
    }
    for (number, report) in reports.iter().enumerate() {
        if number > 0 {
            put!(out, "");
        }
        of_report(&mut out, report);
    }
    out
}

/// Of several addresses, what an agent that has all of them makes of it.
pub fn summary(reports: &[Report]) -> String {
    let of = |one: &Report| match one.target.https_port {
        HTTPS_PORT_DEFAULT => one.target.host.clone(),
        port => format!("{}:{port}", one.target.host),
    };
    let usable = |one: &&Report| matches!(one.verdict, Verdict::Open | Verdict::Degraded);
    let usable: Vec<String> = reports.iter().filter(usable).map(of).collect();
    let count = reports.len();
    match (Verdict::of_any(reports), usable.as_slice()) {
        (Verdict::Open, _) => format!("The relay has {count} addresses, and all are open."),
        (verdict, []) => format!(
            "The relay has {count} addresses, and by none does the agent come online: {}.",
            verdict.words()
        ),
        (verdict, usable) => format!(
            "The relay has {count} addresses. The agent comes online by {}, and there is more \
             to say: {}.",
            usable.join(", "),
            verdict.words()
        ),
    }
}

fn of_report(out: &mut String, report: &Report) {
    let target = &report.target;
    let colour = match report.verdict {
        Verdict::Open => GREEN,
        Verdict::Degraded | Verdict::CannotTell => YELLOW,
        Verdict::Blocked => RED,
    };
    put!(
        out,
        "{BOLD}{}{PLAIN}  {colour}{BOLD}{}{PLAIN}  {DIM}({}.{} s){PLAIN}\n",
        plain(&target.host),
        report.verdict.words(),
        report.took_ms / 1_000,
        report.took_ms % 1_000 / 100
    );
    for flow in &report.flows {
        of_flow(out, flow);
    }
    for image in &report.images {
        let says = plain(&image.says);
        put!(
            out,
            "{:<24}{}: {says}",
            plain(&image.role),
            plain(&image.host)
        );
    }
    put!(
        out,
        "\n{BOLD}Without any change{PLAIN}  {}",
        plain(&report.without_change)
    );
    for note in &report.notes {
        put!(out, "{DIM}note{PLAIN}  {}", plain(note));
    }
    changes(out, report);
    evidence(out, report);
}

fn colour(verdict: FlowVerdict) -> &'static str {
    match verdict {
        FlowVerdict::Open => GREEN,
        FlowVerdict::Caveat | FlowVerdict::CannotTell => YELLOW,
        FlowVerdict::Blocked => RED,
    }
}

fn of_flow(out: &mut String, flow: &FlowReport) {
    let port = format!("{}/{}", flow.port, flow.protocol);
    let name = match flow.required {
        true => flow.flow.name().to_owned(),
        false => format!("{} (optional)", flow.flow.name()),
    };
    let route = match flow.route.as_str() {
        "proxy" => ", through the proxy",
        _ => "",
    };
    let colour = colour(flow.verdict);
    put!(
        out,
        "{port:<10}{name:<18}{colour}{:<18}{PLAIN}{DIM}{} confidence{route}{PLAIN}",
        flow.verdict.words(),
        flow.confidence.words()
    );
    for cause in &flow.causes {
        put!(
            out,
            "          {BOLD}{}{PLAIN}  {}",
            cause.code.name(),
            plain(&cause.says)
        );
    }
}

fn changes(out: &mut String, report: &Report) {
    let wanted = report
        .flows
        .iter()
        .filter_map(|flow| Some((flow, flow.changes.as_ref()?)));
    for (number, (flow, changes)) in wanted.enumerate() {
        if number == 0 {
            put!(
                out,
                "\n{BOLD}What to change{PLAIN}  (rules: --json, or `rules HOST`)"
            );
        }
        let port = format!("{}/{}", flow.port, flow.protocol);
        put!(out, "{port:<10}{}", plain(&changes.ticket));
    }
}

fn evidence(out: &mut String, report: &Report) {
    for flow in report
        .flows
        .iter()
        .filter(|flow| flow.verdict != FlowVerdict::Open)
    {
        put!(
            out,
            "\n{BOLD}What was seen of {}/{}{PLAIN}",
            flow.port,
            flow.protocol
        );
        for line in &flow.evidence {
            let stage = plain(&line.stage);
            put!(
                out,
                "{:>7} ms  {stage:<10}{}",
                line.at_ms,
                plain(&line.says)
            );
        }
    }
}

/// On one line, and without what would move a terminal's cursor.
fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}
