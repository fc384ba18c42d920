//! What is wrong, and what is to be known: failures with the lines that replay them,
//! what is known to fail, goals, disagreements, what was skipped.

use super::{anchor, put};
use crate::{
    outcome::Suite,
    report::{
        escape::markup,
        figure::counted,
        summary::{self, Failure, Group, replay_line},
    },
};

/// How many lines that replay a failure are seen at once.
const REPLAYS_SEEN: usize = 3;

/// How many there are in all: the report for programs has every one.
const REPLAYS_MAX: usize = 50;

/// All of it.
pub(super) fn all(into: &mut String, suite: &Suite, groups: &[Group<'_>]) {
    let failures = summary::failures(groups);
    if !failures.is_empty() {
        heading(into, "bad", "failures", "What failed", failures.len());
        for failure in &failures {
            one_failure(into, failure);
        }
        into.push_str("</section>\n");
    }
    goals(into, suite);
    parity(into, suite);
    if !suite.differing.is_empty() {
        let number = suite.differing.len();
        heading(into, "bad", "differing", "Run twice, and differing", number);
        for sentence in &suite.differing {
            put!(into, "<p>{}</p>\n", markup(sentence));
        }
        into.push_str("</section>\n");
    }
    known_failing(into, groups);
    skipped(into, suite);
}

fn heading(into: &mut String, class: &str, id: &str, title: &str, number: usize) {
    put!(
        into,
        "<section class=\"problems {class}\" aria-labelledby=\"{id}\">\
         <h2 id=\"{id}\">{title} <span class=\"muted\">{number}</span></h2>\n",
    );
}

fn one_failure(into: &mut String, failure: &Failure<'_>) {
    put!(
        into,
        "<article class=\"problem\"><h3><a href=\"#{}\">{}</a> <span class=\"world\">{}</span> \
         <span class=\"muted\">in {}</span></h3><p class=\"says\">{}</p>\n",
        anchor(failure.scenario, failure.world),
        markup(failure.scenario.as_str()),
        failure.world,
        counted(failure.runs.len(), "run", "runs"),
        markup(failure.says),
    );
    if let Some(became) = failure.became {
        put!(
            into,
            "<p class=\"became\">{}</p>\n",
            markup(&became.to_string())
        );
    }
    let lines = failure.runs.iter().filter_map(|run| replay_line(run));
    let lines: Vec<String> = lines.map(|line| markup(&line)).collect();
    let (seen, folded) = lines.split_at(lines.len().min(REPLAYS_SEEN));
    if !seen.is_empty() {
        put!(into, "<pre>{}</pre>\n", seen.join("\n"));
    }
    if !folded.is_empty() {
        let shown = &folded[..folded.len().min(REPLAYS_MAX - REPLAYS_SEEN)];
        put!(
            into,
            "<details class=\"more\"><summary>{} more{}</summary><pre>{}</pre></details>\n",
            folded.len(),
            if shown.len() < folded.len() {
                format!(", of which {}; all are in report.json", shown.len())
            } else {
                String::new()
            },
            shown.join("\n"),
        );
    }
    into.push_str("</article>\n");
}

fn goals(into: &mut String, suite: &Suite) {
    let missed = &suite.goals_missed;
    if missed.is_empty() {
        return;
    }
    heading(
        into,
        "bad",
        "goals",
        "Goals that no run has reached",
        missed.len(),
    );
    into.push_str("<ul class=\"plain\">\n");
    for goal in missed {
        let of = goal.scenario.as_ref();
        put!(
            into,
            "<li>{} <span class=\"world\">{}</span> <span class=\"says\">{}</span></li>\n",
            of.map_or_else(|| "all scenarios".to_owned(), |name| markup(name.as_str())),
            goal.world,
            markup(&goal.says),
        );
    }
    into.push_str("</ul></section>\n");
}

fn parity(into: &mut String, suite: &Suite) {
    if suite.parity.is_empty() {
        return;
    }
    let disagree: Vec<_> = suite.parity.iter().filter(|one| !one.agrees()).collect();
    let class = if disagree.is_empty() { "good" } else { "bad" };
    let number = suite.parity.len();
    heading(into, class, "parity", "Both worlds compared", number);
    let agree = number - disagree.len();
    put!(
        into,
        "<p>{agree} of {} came out the same in virtual time and on the real kernel.</p>\n",
        counted(number, "expectation", "expectations"),
    );
    if !disagree.is_empty() {
        into.push_str(
            "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Scenario</th>\
             <th scope=\"col\">Expectation</th><th scope=\"col\">sim</th>\
             <th scope=\"col\">lab</th></tr></thead><tbody>\n",
        );
        for one in disagree {
            put!(
                into,
                "<tr><th scope=\"row\">{}</th><td class=\"says\">{}</td><td>{}</td>\
                 <td>{}</td></tr>\n",
                markup(one.scenario.as_str()),
                markup(&one.says),
                markup(&one.sim.to_string()),
                markup(&one.lab.to_string()),
            );
        }
        into.push_str("</tbody></table></div>\n");
    }
    into.push_str("</section>\n");
}

fn known_failing(into: &mut String, groups: &[Group<'_>]) {
    let known = summary::known_failing(groups);
    if known.is_empty() {
        return;
    }
    heading(into, "odd", "known", "Known to fail", known.len());
    into.push_str("<ul class=\"plain\">\n");
    for one in known {
        put!(
            into,
            "<li>{} <span class=\"world\">{}</span> <span class=\"says\">{}</span> \
             <span class=\"muted\">in {}</span><br/>{}</li>\n",
            markup(one.scenario.as_str()),
            one.world,
            markup(one.says),
            counted(one.runs, "run", "runs"),
            markup(one.reason),
        );
    }
    into.push_str("</ul></section>\n");
}

fn skipped(into: &mut String, suite: &Suite) {
    if suite.skipped.is_empty() {
        return;
    }
    heading(into, "odd", "skipped", "Skipped", suite.skipped.len());
    into.push_str("<ul class=\"plain\">\n");
    for one in &suite.skipped {
        put!(
            into,
            "<li>{} <span class=\"world\">{}</span><br/>{}</li>\n",
            markup(one.scenario.as_str()),
            one.world,
            markup(&one.why),
        );
    }
    into.push_str("</ul></section>\n");
}
