//! The top of the page: the verdict, and a line for each scenario and world.

use std::{collections::BTreeSet, time::Duration};

use super::{
    anchor, put,
    scale::{Decades, Strip},
};
use crate::{
    outcome::Suite,
    report::{
        About,
        escape::markup,
        figure::{count, counted, percentile, span},
        summary::{self, Group},
    },
};

/// The verdict, and where the suite comes from.
pub(super) fn head(into: &mut String, suite: &Suite, groups: &[Group<'_>], about: &About) {
    let (class, word) = match (suite.runs.is_empty(), suite.passed()) {
        (_, false) => ("bad", "Failed"),
        (true, true) => ("odd", "Empty"),
        (false, true) => ("good", "Passed"),
    };
    let facts = [&about.began, &about.program, &about.command];
    let facts: Vec<String> = facts
        .into_iter()
        .filter(|fact| !fact.is_empty())
        .map(|fact| format!("<span>{}</span>", markup(fact)))
        .collect();
    put!(
        into,
        "<header><p class=\"eyebrow\">Sternline network simulator</p>\
         <h1><span class=\"badge {class}\">{word}</span> {}</h1>\
         <p class=\"facts\">{}</p></header>\n",
        markup(&summary::verdict(suite, groups)),
        facts.join(" "),
    );
}

/// The table of scenarios and worlds.
pub(super) fn table(into: &mut String, groups: &[Group<'_>]) {
    let all: Vec<Duration> = groups.iter().flat_map(Group::recoveries).collect();
    let decades = Decades::holding(all.iter().copied());
    put!(
        into,
        "<section aria-labelledby=\"overview\"><h2 id=\"overview\">Overview</h2>\
         <div class=\"scroll\"><table class=\"overview\"><thead><tr>\
         <th scope=\"col\">Scenario</th><th scope=\"col\">World</th>\
         <th scope=\"col\" class=\"number\">Runs</th>\
         <th scope=\"col\" class=\"number\">Passed</th>\
         <th scope=\"col\" class=\"number\">Vacuous faults</th>\
         <th scope=\"col\" class=\"number\">Recovery p50</th>\
         <th scope=\"col\" class=\"number\">p99</th>\
         <th scope=\"col\">Every recovery, from {} to {}</th></tr></thead>\n<tbody>\n",
        decades
            .ticks()
            .first()
            .copied()
            .map_or_else(String::new, span),
        decades
            .ticks()
            .last()
            .copied()
            .map_or_else(String::new, span),
    );
    let mut above = None;
    for group in groups {
        row(into, group, decades, above == Some(group.scenario));
        above = Some(group.scenario);
    }
    into.push_str("</tbody></table></div></section>\n");
}

fn row(into: &mut String, group: &Group<'_>, decades: Decades, is_repeated: bool) {
    let (class, sign, word) = match (group.runs.is_empty(), group.has_failed()) {
        (true, _) => ("odd", "–", "skipped"),
        (_, true) => ("bad", "✗", "failed"),
        (_, false) => ("good", "✓", "passed"),
    };
    let recoveries = group.recoveries();
    let quantile = |hundredths| {
        let found = percentile(&recoveries, hundredths);
        found.map_or_else(|| "–".to_owned(), span)
    };
    let vacuous = match group.vacuous() {
        0 => "–".to_owned(),
        number => count(number),
    };
    let name = markup(group.scenario.as_str());
    // What was skipped has no runs to lead to.
    let link = if group.runs.is_empty() {
        name.clone()
    } else {
        let anchor = anchor(group.scenario, group.world);
        format!("<a href=\"#{anchor}\">{name}</a>")
    };
    put!(
        into,
        "<tr data-name=\"{name} {0}\" data-bad=\"{1}\"{2}><th scope=\"row\">\
         <span class=\"sign {class}\" title=\"{word}\" aria-label=\"{word}\">{sign}</span> \
         {link}</th><td>{0}</td>",
        group.world,
        if group.has_failed() { "yes" } else { "no" },
        if is_repeated { " class=\"again\"" } else { "" },
    );
    if group.runs.is_empty() {
        into.push_str("<td colspan=\"6\" class=\"muted\">skipped</td></tr>\n");
        return;
    }
    put!(
        into,
        "<td class=\"number\">{}</td><td class=\"number {class}\">{}</td>\
         <td class=\"number\">{vacuous}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td>",
        count(group.runs.len()),
        count(group.passed()),
        quantile(50),
        quantile(99),
    );
    strip(into, &recoveries, decades);
    into.push_str("</td></tr>\n");
}

/// Every recovery as a stroke, on the scale of all rows.
fn strip(into: &mut String, recoveries: &[Duration], decades: Decades) {
    let (Some(first), Some(last)) = (recoveries.first(), recoveries.last()) else {
        into.push_str("<span class=\"muted\">none was needed</span>");
        return;
    };
    put!(
        into,
        "<svg class=\"strip\" viewBox=\"0 0 240 18\" width=\"240\" height=\"18\" role=\"img\">\
         <title>{}, from {} to {}</title><path class=\"grid\" d=\"",
        counted(recoveries.len(), "recovery", "recoveries"),
        span(*first),
        span(*last),
    );
    for tick in decades.ticks() {
        put!(into, "M{} 2v14", Strip::pixel(decades.share(tick)));
    }
    into.push_str("\"/><path class=\"strokes\" d=\"");
    let pixels = recoveries
        .iter()
        .map(|span| Strip::pixel(decades.share(*span)));
    for pixel in pixels.collect::<BTreeSet<_>>() {
        put!(into, "M{pixel} 4v10");
    }
    into.push_str("\"/></svg>");
}
