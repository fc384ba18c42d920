//! A page to attach to a ticket: one file without script, that loads nothing.

use std::fmt::Write;

use super::markup;
use crate::verdict::{FlowReport, FlowVerdict, Report, Verdict};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8885;--open:#1a7f37;--caveat:#9a6700;--blocked:#cf222e}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;\
padding:.35rem .6rem;border-bottom:1px solid var(--line)}
.open{color:var(--open)}.caveat,.cannot-tell{color:var(--caveat)}.blocked{color:var(--blocked)}
.verdict{font-weight:600;white-space:nowrap}
pre{overflow:auto;border:1px solid var(--line);border-radius:6px;padding:.7rem;font-size:.85rem}
.muted{opacity:.75}td.at{text-align:right;white-space:nowrap}
@media (prefers-color-scheme:dark){:root{--open:#3fb950;--caveat:#d29922;--blocked:#f85149}}";

/// Adds formatted text to a `String`, which takes everything.
macro_rules! put {
    ($into:expr, $($arguments:tt)*) => {
        let _taken = write!($into, $($arguments)*);
    };
}

/// The page of a report, or of several addresses' reports.
pub fn page(reports: &[Report]) -> String {
    let mut page = String::with_capacity(32 * 1024);
    let titles: Vec<String> = reports
        .iter()
        .map(|one| format!("{}: {}", markup(&one.target.host), one.verdict.words()))
        .collect();
    put!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\"/><title>{} · sternline-probe</title>\
         <style>{STYLE}</style></head>\n<body><main>\n",
        titles.join(", ")
    );
    if reports.len() > 1 {
        put!(page, "<p>{}</p>\n", markup(&super::text::summary(reports)));
    }
    for report in reports {
        of_report(&mut page, report);
    }
    page.push_str("</main></body></html>\n");
    page
}

fn of_report(page: &mut String, report: &Report) {
    let class = match report.verdict {
        Verdict::Open => "open",
        Verdict::Degraded | Verdict::CannotTell => "caveat",
        Verdict::Blocked => "blocked",
    };
    put!(
        page,
        "<h1>{}: <span class=\"{class}\">{}</span></h1>\n",
        markup(&report.target.host),
        report.verdict.words()
    );
    put!(
        page,
        "<p class=\"muted\">What this network lets through to the relay, tried in {}.{} s by \
         sternline-probe {}.</p>\n<table><thead><tr><th>Port</th><th>Flow</th><th>Verdict</th>\
         <th>Who, and how it is known</th></tr></thead><tbody>\n",
        report.took_ms / 1_000,
        report.took_ms % 1_000 / 100,
        markup(&report.program)
    );
    for flow in &report.flows {
        row(page, flow);
    }
    page.push_str("</tbody></table>\n");
    put!(
        page,
        "<h2>Without any change</h2><p>{}</p>\n",
        markup(&report.without_change)
    );
    images(page, report);
    if !report.notes.is_empty() {
        page.push_str("<ul>\n");
        for note in &report.notes {
            put!(page, "<li>{}</li>\n", markup(note));
        }
        page.push_str("</ul>\n");
    }
    for flow in &report.flows {
        changes(page, flow);
    }
    for flow in &report.flows {
        evidence(page, flow);
    }
}

const fn class(verdict: FlowVerdict) -> &'static str {
    match verdict {
        FlowVerdict::Open => "open",
        FlowVerdict::Caveat => "caveat",
        FlowVerdict::Blocked => "blocked",
        FlowVerdict::CannotTell => "cannot-tell",
    }
}

fn row(page: &mut String, flow: &FlowReport) {
    let optional = if flow.required { "" } else { " (optional)" };
    put!(
        page,
        "<tr><td>{}/{}</td><td>{}{optional}</td><td class=\"verdict {}\">{}</td><td>",
        flow.port,
        markup(&flow.protocol),
        flow.flow.name(),
        class(flow.verdict),
        flow.verdict.words()
    );
    for cause in &flow.causes {
        put!(
            page,
            "<b>{}</b> {}<br/>",
            cause.code.name(),
            markup(&cause.says)
        );
    }
    let words = flow.confidence.words();
    put!(
        page,
        "<span class=\"muted\">{words} confidence</span></td></tr>\n"
    );
}

fn images(page: &mut String, report: &Report) {
    page.push_str("<h2>Images</h2><ul>\n");
    for image in &report.images {
        put!(
            page,
            "<li>{} {}: <span class=\"{}\">{}</span></li>\n",
            markup(&image.role),
            markup(&image.host),
            class(image.verdict),
            markup(&image.says)
        );
    }
    page.push_str("</ul>\n");
}

fn changes(page: &mut String, flow: &FlowReport) {
    let Some(changes) = &flow.changes else {
        return;
    };
    put!(
        page,
        "<h2>What to change for {}/{}</h2><p>{}</p>\n<details><summary>nftables</summary>\
         <pre>{}</pre></details>\n<details><summary>AWS security group, egress</summary>\
         <pre>{}</pre></details>\n",
        flow.port,
        markup(&flow.protocol),
        markup(&changes.ticket),
        in_lines(&changes.nft),
        in_lines(&format!("{:#}", changes.aws))
    );
}

fn evidence(page: &mut String, flow: &FlowReport) {
    let open = match flow.verdict {
        FlowVerdict::Open => "",
        _ => " open=\"open\"",
    };
    put!(
        page,
        "<details{open}><summary>What was seen of {}/{}</summary><table><tbody>\n",
        flow.port,
        markup(&flow.protocol)
    );
    for line in &flow.evidence {
        put!(
            page,
            "<tr><td class=\"at\">{} ms</td><td>{}</td><td>{}</td></tr>\n",
            line.at_ms,
            markup(&line.stage),
            markup(&line.says)
        );
    }
    page.push_str("</tbody></table></details>\n");
}

/// Line ends stay what they are.
fn in_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(markup).collect();
    lines.join("\n")
}
