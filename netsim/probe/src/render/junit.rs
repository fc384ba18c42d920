//! JUnit XML: a test case a flow. A caveat passes, and is told in its output; what cannot be
//! told is an error and no failure.

use std::fmt::Write;

use super::markup;
use crate::verdict::{FlowReport, FlowVerdict, Report};

/// Reports, a test suite each.
pub fn junit(reports: &[Report]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        suite(&mut out, report);
    }
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, report: &Report) {
    let count = |wanted: FlowVerdict| {
        let flows = report.flows.iter().filter(|flow| flow.required);
        flows.filter(|flow| flow.verdict == wanted).count()
    };
    // Writing to a string cannot fail.
    let _written = writeln!(
        out,
        "  <testsuite name=\"sternline-probe {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" \
         time=\"{}.{:03}\">",
        markup(&report.target.host),
        report.flows.len(),
        count(FlowVerdict::Blocked),
        count(FlowVerdict::CannotTell),
        report.took_ms / 1_000,
        report.took_ms % 1_000,
    );
    for flow in &report.flows {
        case(out, flow);
    }
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, flow: &FlowReport) {
    let causes: Vec<String> = flow
        .causes
        .iter()
        .map(|cause| format!("{}: {}", cause.code.name(), cause.says))
        .collect();
    let says = markup(&causes.join("; "));
    let (port, protocol) = (flow.port, &flow.protocol);
    let inner = match (flow.verdict, flow.required) {
        (FlowVerdict::Open, _) => String::new(),
        (FlowVerdict::Caveat, _) => format!("<system-out>{says}</system-out>"),
        // What is optional fails nobody's build.
        (_, false) => format!("<skipped message=\"{says}\"/>"),
        (FlowVerdict::Blocked, true) => format!("<failure message=\"{says}\"/>"),
        (FlowVerdict::CannotTell, true) => format!("<error message=\"{says}\"/>"),
    };
    // Writing to a string cannot fail.
    let _written = writeln!(
        out,
        "    <testcase classname=\"sternline-probe\" name=\"{} {port}/{protocol}\">{inner}\
         </testcase>",
        flow.flow.name()
    );
}
