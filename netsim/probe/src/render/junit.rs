//! JUnit XML: a test case a flow. A caveat passes, and is told in its output; what cannot be
//! told is an error and no failure.

use std::fmt::Write;

use super::markup;
use crate::verdict::{FlowReport, FlowVerdict, Report};

/// The report.
pub fn junit(report: &Report) -> String {
    let count = |wanted: FlowVerdict| {
        let flows = report.flows.iter().filter(|flow| flow.required);
        flows.filter(|flow| flow.verdict == wanted).count()
    };
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite \
         name=\"sternline-probe {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{}.{:03}\">\n",
        markup(&report.target.host),
        report.flows.len(),
        count(FlowVerdict::Blocked),
        count(FlowVerdict::CannotTell),
        report.took_ms / 1_000,
        report.took_ms % 1_000,
    );
    for flow in &report.flows {
        case(&mut out, flow);
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
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
