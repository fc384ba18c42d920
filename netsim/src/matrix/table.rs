//! The confusion matrix as people read it: in a terminal, and as a page of the documentation.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    case::Kind,
    claim::{CAUSES, Cause, Claim},
    score::{Mark, Said, Score, Scored},
};

/// The column and the row of what nothing is wrong with.
const OPEN: &str = "open";

/// A case in a line, with a line for each flow that is not as it should be.
pub fn line(one: &Scored) -> String {
    let name = &one.case.name;
    if let Some(why) = &one.outcome.skipped {
        return format!("skipped      {name}: {why}\n");
    }
    let seconds = one.outcome.took_ms / 1000;
    let mut text = format!("{:<12} {name} ({seconds} s)\n", word(one));
    for ((flow, truth), (_, said, mark)) in one.case.truths().into_iter().zip(one.flows()) {
        if mark != Mark::Right {
            let said = told(said);
            text.push_str(&format!(
                "             {flow} is {truth}; reported: {said}\n"
            ));
        }
    }
    for problem in &one.outcome.problems {
        text.push_str(&format!("             {problem}\n"));
    }
    text
}

fn word(one: &Scored) -> &'static str {
    match (one.is_sound(), one.mark()) {
        (false, _) => "void",
        (true, Mark::Right) => "right",
        (true, Mark::CannotTell) => "cannot tell",
        (true, Mark::Wrong) => "WRONG",
    }
}

fn told(said: Option<Claim>) -> String {
    said.map_or_else(|| "nothing".to_owned(), |said| said.to_string())
}

/// The figures, a line each.
pub fn summary(score: &Score) -> String {
    let run = score.run();
    let of = |kind: Kind| score.cases.get(&kind).copied().unwrap_or(0);
    let (faulty, named) = score.faulty_flows;
    format!(
        "cases: {run} ({} with a fault, {} mixed, {} healthy), {} skipped\n\
         every flow's cause right: {} ({})\n\
         cannot tell: {}\n\
         wrong: {}\n\
         flows with a fault: {faulty}, their cause right: {named} ({})\n\
         healthy networks called blocked: {}\n",
        of(Kind::Fault),
        of(Kind::Mixed),
        of(Kind::Healthy),
        score.skipped,
        score.right,
        percent(score.right, run),
        score.cannot_tell,
        score.wrong,
        percent(named, faulty),
        score.false_alarms,
    )
}

fn percent(part: usize, whole: usize) -> String {
    // In tenths, cut: 94.96 is not 95.
    let tenths = (part * 1000).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Rows and columns of the matrix that have anything in them, with their names.
struct Axes {
    rows: Vec<(Option<Cause>, &'static str)>,
    columns: Vec<(Said, &'static str)>,
}

impl Axes {
    fn of(score: &Score) -> Self {
        let causes: Vec<Cause> = CAUSES.iter().filter_map(|one| one.parse().ok()).collect();
        let all = causes.iter().copied();
        let rows = all.clone().map(|one| (Some(one), one.as_str()));
        let columns = all.map(|one| (Said::Cause(one), one.as_str()));
        let others = [
            (Said::CannotTell, "cannot tell"),
            (Said::Nothing, "nothing"),
        ];
        let used = || score.matrix.keys();
        let rows = std::iter::once((None, OPEN)).chain(rows);
        let columns = std::iter::once((Said::Open, OPEN))
            .chain(columns)
            .chain(others);
        Self {
            rows: rows
                .filter(|(row, _)| used().any(|(is, _)| is == row))
                .collect(),
            columns: columns
                .filter(|(column, _)| used().any(|(_, said)| said == column))
                .collect(),
        }
    }
}

/// The matrix in a terminal: rows are what is true, numbered columns what was reported.
pub fn matrix(score: &Score) -> String {
    let Axes { rows, columns } = Axes::of(score);
    let mut text = format!("{:<20}", "true \\ reported");
    for number in 1..=columns.len() {
        // Into a string, which takes everything.
        write!(text, "{number:>4}").ok();
    }
    text.push('\n');
    for (row, name) in rows {
        write!(text, "{name:<20}").ok();
        for (column, _) in &columns {
            match score.matrix.get(&(row, *column)) {
                Some(count) => write!(text, "{count:>4}").ok(),
                None => write!(text, "{:>4}", "·").ok(),
            };
        }
        text.push('\n');
    }
    for (number, (_, name)) in columns.iter().enumerate() {
        writeln!(text, "{:>4}  {name}", number + 1).ok();
    }
    text
}

/// What a person reads when all have been run.
pub fn text(all: &[Scored]) -> String {
    let score = Score::of(all);
    format!("\n{}\n{}", matrix(&score), summary(&score))
}

/// The page of the documentation.
pub fn page(all: &[Scored]) -> String {
    let score = Score::of(all);
    let mut page = String::from(BEGIN);
    for line in summary(&score).lines() {
        page.push_str(&format!("- {line}\n"));
    }
    page.push_str("\n## The matrix\n\n");
    page.push_str(
        "Flows, by what is true of them (rows) and by the cause that was reported first \
         (columns).\nA flow whose truth nobody can know from there, such as an interceptor \
         without a pin to\ntell it by, is right where the probe says that it cannot tell.\n\n",
    );
    page.push_str(&grid(&score));
    for (kind, title) in [
        (Kind::Healthy, "Healthy networks"),
        (Kind::Fault, "One fault"),
        (Kind::Mixed, "Two faults"),
    ] {
        page.push_str(&format!("\n## {title}\n\n"));
        page.push_str("| Case | The network | 443/tcp | 8000/tcp | 8000/udp | |\n");
        page.push_str("|---|---|---|---|---|---|\n");
        for one in all.iter().filter(|one| one.case.kind == kind) {
            page.push_str(&row(one));
        }
    }
    page
}

const BEGIN: &str = "\
# The probe's confusion matrix

What `sternline-probe` says of networks of which is known what is wrong with them. Each case is a
network in namespaces of a real kernel (nftables, conntrack, the boxes of `sternline-netsim`, real
proxies and resolvers where the case names them), with the programs `sternline-relay` and
`sternline-probe` themselves; the probe runs as an ordinary user. Every fault must have touched
a packet, or its case is void. Written by

```
sternline-netsim matrix --write docs/probe-matrix.md
```

The cases are in [netsim/cases](../netsim/cases). Where a flow is not as it is reported, the cell
has both.

";

fn grid(score: &Score) -> String {
    let Axes { rows, columns } = Axes::of(score);
    let mut text = String::from("| true \\ reported |");
    for (_, name) in &columns {
        text.push_str(&format!(" {name} |"));
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|".repeat(columns.len()));
    text.push('\n');
    for (row, name) in rows {
        text.push_str(&format!("| **{name}** |"));
        for (column, _) in &columns {
            match score.matrix.get(&(row, *column)) {
                Some(count) => text.push_str(&format!(" {count} |")),
                None => text.push_str(" |"),
            }
        }
        text.push('\n');
    }
    text
}

fn row(one: &Scored) -> String {
    let answer = one.outcome.answer.as_ref();
    let registry = match answer.and_then(|answer| answer.images) {
        Some(said) if one.case.images.is_some() => format!(" Registry: {}.", said.as_str()),
        _ => String::new(),
    };
    let mut text = format!("| `{}` | {}{registry} |", one.case.name, one.case.says);
    let truths = one.case.truths().into_iter();
    for ((_, truth), (_, said, mark)) in truths.zip(one.flows()) {
        let cell = match (&one.outcome.skipped, mark) {
            (Some(_), _) => format!("{}", truth.first()),
            (None, Mark::Right) => told(said),
            (None, _) => format!("{} (reported: **{}**)", truth.first(), told(said)),
        };
        text.push_str(&format!(" {cell} |"));
    }
    let last = if one.outcome.skipped.is_some() {
        "not run"
    } else {
        word(one)
    };
    text.push_str(&format!(" {last} |\n"));
    text
}

/// The same for programs.
pub fn json(all: &[Scored]) -> Value {
    let score = Score::of(all);
    let cases = all.iter().map(|one| {
        let truths = one.case.truths().into_iter();
        let flows = truths
            .zip(one.flows())
            .map(|((flow, truth), (_, said, mark))| {
                json!({
                    "flow": flow,
                    "truth": truth.to_string(),
                    "reported": said.map(|said| said.to_string()),
                    "right": mark == Mark::Right,
                })
            });
        json!({
            "name": one.case.name,
            "says": one.case.says,
            "kind": one.case.kind,
            "result": word(one),
            "skipped": one.outcome.skipped,
            "took_ms": one.outcome.took_ms,
            "problems": one.outcome.problems,
            "flows": flows.collect::<Vec<_>>(),
        })
    });
    json!({
        "kind": "sternline-netsim matrix",
        "version": 1,
        "good_enough": score.is_good_enough(),
        "cases_run": score.run(),
        "right": score.right,
        "cannot_tell": score.cannot_tell,
        "wrong": score.wrong,
        "false_alarms": score.false_alarms,
        "skipped": score.skipped,
        "cases": cases.collect::<Vec<_>>(),
    })
}
