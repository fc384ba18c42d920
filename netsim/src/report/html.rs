//! The report for people: one page that needs no server, no network and no script.
//!
//! Everything is in the file: style, pictures as SVG, and a few lines of script that only
//! filter. Its own policy forbids it to load anything. Only some runs are drawn (see
//! [`super::summary::Group::detailed`]), and lanes, marks, plots and lists are bounded, so
//! that the page of a hundred thousand runs opens as that of ten. It is well-formed XML,
//! which is how tests see that nothing of others breaks out of its place.

mod event;
mod fleet;
mod lane;
mod overview;
mod picture;
mod plot;
mod problem;
mod run;
mod scale;

use netsim_core::{model::World, term::Name};

use super::{
    About,
    escape::markup,
    figure::count,
    summary::{self, Group},
};
use crate::outcome::Suite;

/// Adds formatted text to a `String`.
macro_rules! put {
    ($into:expr, $($arguments:tt)*) => {
        std::fmt::Write::write_fmt($into, format_args!($($arguments)*))
            .expect("a String takes everything")
    };
}
use put;

/// How the page looks, by day and by night, and on paper.
const STYLE: &str = include_str!("html/page.css");

/// Filters; the page is read without it.
const SCRIPT: &str = include_str!("html/page.js");

/// Patterns and symbols that pictures share.
const SYMBOLS: &str = include_str!("html/symbols.svg");

/// How many groups are unfolded though they passed: where there are few, there is room.
const UNFOLDED_MAX: usize = 2;

/// The page.
pub fn page(suite: &Suite, about: &About) -> String {
    let groups = summary::groups(suite);
    let verdict = summary::verdict(suite, &groups);
    let mut page = String::with_capacity(1 << 20);
    put!(
        &mut page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/>\
         <link rel=\"icon\" href=\"data:,\"/>\
         <title>{} · sternline-netsim</title>\n<style>{STYLE}</style></head>\n<body>{SYMBOLS}\
         <main>\n",
        markup(&verdict)
    );
    overview::head(&mut page, suite, &groups, about);
    page.push_str(TOOLS);
    overview::table(&mut page, &groups);
    problem::all(&mut page, suite, &groups);
    details(&mut page, &groups);
    put!(
        &mut page,
        "</main>\n<script>{SCRIPT}</script></body></html>\n"
    );
    page
}

/// Unhidden by the script, without which it would do nothing.
const TOOLS: &str = "<form id=\"tools\" role=\"search\" hidden=\"hidden\">\
    <label>Scenario <input id=\"wanted\" type=\"search\" placeholder=\"name or world\"/></label> \
    <label><input id=\"only-bad\" type=\"checkbox\"/> only what failed</label></form>\n";

fn details(page: &mut String, groups: &[Group<'_>]) {
    let groups: Vec<_> = groups
        .iter()
        .filter(|group| !group.runs.is_empty())
        .collect();
    if groups.is_empty() {
        return;
    }
    put!(
        page,
        "<section aria-labelledby=\"runs\"><h2 id=\"runs\">Runs</h2>\
         <p class=\"muted\">Drawn are, of each scenario and world, the first {} runs that failed \
         and the first that passed.</p>\n",
        summary::FAILED_IN_DETAIL_MAX
    );
    let is_short = groups.len() <= UNFOLDED_MAX;
    for group in groups {
        details_of(page, group, is_short || group.has_failed());
    }
    page.push_str("</section>\n");
}

fn details_of(page: &mut String, group: &Group<'_>, is_open: bool) {
    let failed = group.runs.len() - group.passed();
    let (class, came) = if failed > 0 {
        (
            "bad",
            format!("{} of {} failed", count(failed), count(group.runs.len())),
        )
    } else {
        ("good", format!("{} passed", count(group.runs.len())))
    };
    let name = markup(group.scenario.as_str());
    let anchor = anchor(group.scenario, group.world);
    put!(
        page,
        "<details class=\"group\" id=\"{anchor}\" data-name=\"{name} {0}\" data-bad=\"{1}\"{2}>\
         <summary><span class=\"name\">{name}</span> <span class=\"world\">{0}</span> \
         <span class=\"{class}\">{came}</span></summary>\n",
        group.world,
        if failed > 0 { "yes" } else { "no" },
        if is_open { " open=\"open\"" } else { "" },
    );
    for run in group.detailed() {
        run::article(page, run, &format!("{anchor}-{}", run.seed.0));
    }
    page.push_str("</details>\n");
}

/// Where on the page a scenario's runs in a world are.
fn anchor(scenario: &Name, world: World) -> String {
    format!("run-{}-{world}", markup(scenario.as_str()))
}

#[cfg(test)]
mod tests;
