//! A run in detail: what it was, its picture, its checks, what touched packets, and what
//! was observed.

use netsim_core::expect::Outcome;

use super::{lane::Mark, picture, put};
use crate::{
    outcome::Run,
    report::{
        escape::markup,
        figure::{count, counted, percentile, span},
        summary::replay_line,
    },
};

/// The most observations that are listed: as many as anybody scrolls through.
const OBSERVATIONS_MAX: usize = 200;

/// A run as an article.
pub(super) fn article(into: &mut String, run: &Run, id: &str) {
    let (class, word) = if run.passed() {
        ("good", "Passed")
    } else {
        ("bad", "Failed")
    };
    put!(
        into,
        "<article class=\"run\" aria-labelledby=\"{id}\"><h3 id=\"{id}\">\
         <span class=\"badge {class}\">{word}</span> Seed {}</h3>\n",
        run.seed.0
    );
    facts(into, run);
    if let Some(line) = replay_line(run) {
        put!(into, "<pre>{}</pre>\n", markup(&line));
    }
    let picture = picture::of(run, id);
    put!(into, "<figure><div class=\"scroll\">{}</div>", picture.svg);
    legend(into, &picture);
    into.push_str("</figure>\n");
    checks(into, run);
    observations(into, run);
    into.push_str("</article>\n");
}

fn facts(into: &mut String, run: &Run) {
    let mut facts = vec![
        format!("lasted {}", span(run.lasted)),
        format!("took {}", span(run.took)),
    ];
    let mut recoveries = run.recoveries();
    recoveries.sort_unstable();
    if let (Some(middle), Some(last)) = (percentile(&recoveries, 50), recoveries.last()) {
        let number = counted(recoveries.len(), "recovery", "recoveries");
        facts.push(if recoveries.len() == 1 {
            format!("{number} in {}", span(*last))
        } else {
            format!("{number}, median {}, longest {}", span(middle), span(*last))
        });
    }
    let facts: Vec<String> = facts
        .into_iter()
        .map(|fact| format!("<span>{fact}</span>"))
        .collect();
    put!(into, "<p class=\"facts\">{}</p>\n", facts.join(" "));
    let touched = run.touched.iter().map(|(cause, packets)| {
        let packets = count(usize::try_from(packets).unwrap_or(usize::MAX));
        format!(
            "<span class=\"chip\">{} <b>{packets}</b></span>",
            cause.as_str()
        )
    });
    let touched: Vec<String> = touched.collect();
    if !touched.is_empty() {
        put!(
            into,
            "<p class=\"touched\">Packets touched {}</p>\n",
            touched.join(" ")
        );
    }
}

/// What in the picture stands for what, and what is not in it.
fn legend(into: &mut String, picture: &picture::Picture) {
    into.push_str("<figcaption><ul class=\"legend\">");
    for transport in &picture.transports {
        let known = ["quic", "ws", "ws-443"];
        let class = known.iter().find(|known| *known == transport);
        put!(
            into,
            "<li><svg class=\"key band {}\" viewBox=\"0 0 22 12\" width=\"22\" height=\"12\" \
             aria-hidden=\"true\"><rect width=\"22\" height=\"12\" rx=\"2\"/></svg> \
             online over {}</li>",
            class.unwrap_or(&"other"),
            markup(transport),
        );
    }
    let present = |mark: &Mark| picture.marks.contains(mark);
    for mark in Mark::ALL.into_iter().filter(present) {
        put!(
            into,
            "<li><svg class=\"key\" viewBox=\"-6 -6 12 12\" width=\"12\" height=\"12\" \
             aria-hidden=\"true\"><use href=\"#mark-{}\"/></svg> {}</li>",
            mark.symbol(),
            mark.says(),
        );
    }
    into.push_str("</ul>");
    for sentence in &picture.left_out {
        put!(into, "<p class=\"muted\">{}</p>", markup(sentence));
    }
    into.push_str("</figcaption>");
}

fn checks(into: &mut String, run: &Run) {
    into.push_str(
        "<div class=\"scroll\"><table class=\"checks\"><caption>Expectations</caption><tbody>\n",
    );
    for check in &run.checks {
        let (class, sign, word) = judged(&check.outcome);
        let became = match &check.outcome {
            Outcome::Held | Outcome::Goal { .. } => String::new(),
            outcome => outcome.to_string(),
        };
        let origin = if check.is_built_in { "built in" } else { "" };
        put!(
            into,
            "<tr><td class=\"{class}\"><span aria-hidden=\"true\">{sign}</span> {word}</td>\
             <th scope=\"row\" class=\"says\">{}</th><td>{}</td>\
             <td class=\"muted\">{origin}</td></tr>\n",
            markup(&check.says),
            markup(&became),
        );
    }
    for sentence in &run.vacuous {
        put!(
            into,
            "<tr><td class=\"bad\"><span aria-hidden=\"true\">✗</span> vacuous</td>\
             <th scope=\"row\">{}</th><td></td><td class=\"muted\">built in</td></tr>\n",
            markup(sentence),
        );
    }
    into.push_str("</tbody></table></div>\n");
}

/// An outcome's class, sign and word: never colour alone.
const fn judged(outcome: &Outcome) -> (&'static str, &'static str, &'static str) {
    match outcome {
        Outcome::Held => ("good", "✓", "held"),
        Outcome::Goal { is_seen: true } => ("good", "✓", "seen"),
        Outcome::Goal { is_seen: false } => ("muted", "–", "not seen"),
        Outcome::KnownFailing { .. } => ("odd", "!", "known"),
        Outcome::Failed { .. } => ("bad", "✗", "failed"),
        Outcome::Vacuous { .. } => ("bad", "✗", "not judged"),
        Outcome::HeldUnexpectedly => ("bad", "✗", "holds"),
    }
}

fn observations(into: &mut String, run: &Run) {
    let number = run.observations.len();
    put!(
        into,
        "<details class=\"more\"><summary>{}</summary>\n",
        counted(number, "observation", "observations")
    );
    if number > OBSERVATIONS_MAX {
        put!(
            into,
            "<p class=\"muted\">The first {OBSERVATIONS_MAX}; more are in report.json.</p>\n"
        );
    }
    into.push_str(
        "<table class=\"observations\"><thead><tr><th scope=\"col\" class=\"number\">Time</th>\
         <th scope=\"col\">Host</th><th scope=\"col\">What</th><th scope=\"col\">Detail</th>\
         </tr></thead><tbody>\n",
    );
    for one in run.observations.iter().take(OBSERVATIONS_MAX) {
        put!(
            into,
            "<tr><td class=\"number\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            one.at,
            one.host
                .as_ref()
                .map_or_else(String::new, |host| markup(host.as_str())),
            one.word,
            markup(&one.detail),
        );
    }
    into.push_str("</tbody></table></details>\n");
}
