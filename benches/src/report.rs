//! A comparison as Markdown: the figures with their verdicts, then every table.

use std::fmt::Write;

use crate::{
    failure::Failure,
    figures::{FIGURES, REFERENCE},
    load::Test,
    plot::{self, Bar, Chart, Group},
    results::Results,
    run::{Metric, Run},
    statistics::Spread,
};

/// What others may use of a machine that still counts as quiet.
const QUIET_RATIO: f64 = 0.1;

/// A column of a table.
struct Column {
    title: &'static str,
    metric: Metric,
    /// With its ratio to direct and to the reference.
    has_ratios: bool,
}

const fn column(title: &'static str, test: Test, name: &'static str) -> Column {
    Column {
        title,
        metric: Metric { test, name },
        has_ratios: true,
    }
}

const fn bare(title: &'static str, test: Test, name: &'static str) -> Column {
    Column {
        title,
        metric: Metric { test, name },
        has_ratios: false,
    }
}

const BULK: [Column; 4] = [
    column("down × 1", Test::DownOne, "mb_per_s"),
    column("down × 16", Test::DownMany, "mb_per_s"),
    column("up × 1", Test::UpOne, "mb_per_s"),
    column("up × 16", Test::UpMany, "mb_per_s"),
];

const PROCESSOR: [Column; 6] = [
    bare("down × 1, server", Test::DownOne, "server_cpu_s_per_gb"),
    bare("client", Test::DownOne, "client_cpu_s_per_gb"),
    bare("up × 1, server", Test::UpOne, "server_cpu_s_per_gb"),
    bare("client", Test::UpOne, "client_cpu_s_per_gb"),
    bare("down × 16, server", Test::DownMany, "server_cpu_s_per_gb"),
    bare("client", Test::DownMany, "client_cpu_s_per_gb"),
];

const REQUESTS: [Column; 6] = [
    column("new + echo p50 µs", Test::Connect, "p50_us"),
    bare("p99 µs", Test::Connect, "p99_us"),
    column("new per s, 16 at a time", Test::ConnectMany, "per_s"),
    column("HTTP per s, 64 connections", Test::Http, "per_s"),
    bare("p50 µs", Test::Http, "p50_us"),
    bare("p99 µs", Test::Http, "p99_us"),
];

const LATENCY: [Column; 8] = [
    column("ping p50 µs", Test::Ping, "p50_us"),
    bare("p99 µs", Test::Ping, "p99_us"),
    column("on one processor p50 µs", Test::PingPinned, "p50_us"),
    bare("p99 µs", Test::PingPinned, "p99_us"),
    column("beside a download p50 µs", Test::PingBeside, "p50_us"),
    bare("p99 µs", Test::PingBeside, "p99_us"),
    bare("that download MB/s", Test::PingBeside, "download_mb_per_s"),
    bare("kept beside a stalled reader", Test::Stalled, "kept_ratio"),
];

/// A plot, and what it is made of.
struct Plot {
    /// Of the file.
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    groups: &'static [Column],
}

const PLOTS: [Plot; 6] = [
    Plot {
        name: "bulk",
        title: "Bulk",
        unit: "MB/s, medians with the range of the rounds; more is better",
        groups: &BULK,
    },
    Plot {
        name: "connect",
        title: "A new connection and 64 bytes there and back",
        unit: "µs, medians with the range of the rounds; less is better",
        groups: &[bare("one by one", Test::Connect, "p50_us")],
    },
    Plot {
        name: "connect-rate",
        title: "New connections with 64 bytes there and back",
        unit: "per second, medians with the range of the rounds; more is better",
        groups: &[bare("16 at a time", Test::ConnectMany, "per_s")],
    },
    Plot {
        name: "http",
        title: "HTTP requests over connections that are kept",
        unit: "per second, medians with the range of the rounds; more is better",
        groups: &[bare("64 connections", Test::Http, "per_s")],
    },
    Plot {
        name: "ping",
        title: "64 bytes there and back",
        unit: "µs, medians with the range of the rounds; less is better",
        groups: &[
            bare("all processors", Test::Ping, "p50_us"),
            bare("one processor", Test::PingPinned, "p50_us"),
        ],
    },
    Plot {
        name: "ping-beside",
        title: "64 bytes there and back, beside a download",
        unit: "µs, medians with the range of the rounds; less is better",
        groups: &[
            bare("median", Test::PingBeside, "p50_us"),
            bare("99th percentile", Test::PingBeside, "p99_us"),
        ],
    },
];

/// Writes section, plots and raw rounds.
///
/// # Errors
/// A file cannot be written.
pub fn write(run: &Run, results: &Results) -> Result<(), Failure> {
    let raw = results.raw("compare", run)?;
    let mut text = markdown(run);
    let mut images = String::new();
    for plot in &PLOTS {
        let chart = chart(run, plot);
        if !chart.groups.is_empty() {
            let path = results.plot(plot.name, &plot::svg(&chart))?;
            images.push_str(&format!("![{}: {}]({path})\n\n", chart.title, chart.unit));
        }
    }
    put(&mut text, &images);
    put(
        &mut text,
        &format!("Every figure of every round: [{raw}]({raw})."),
    );
    results.section("compare", &text)
}

/// All but `direct`, beside which nobody else could be told apart.
fn chart(run: &Run, plot: &Plot) -> Chart {
    let bars = |metric: Metric| {
        let peers = run.peers.iter().filter(|peer| peer.name != "direct");
        peers.filter_map(move |peer| {
            Some(Bar {
                name: peer.name.clone(),
                spread: run.spread(&peer.name, metric)?,
                is_ours: peer.transport.is_some(),
            })
        })
    };
    let groups = plot.groups.iter().map(|column| Group {
        name: column.title.to_owned(),
        bars: bars(column.metric).collect(),
    });
    Chart {
        title: plot.title.to_owned(),
        unit: plot.unit.to_owned(),
        groups: groups.filter(|group| !group.bars.is_empty()).collect(),
    }
}

/// The whole comparison.
pub fn markdown(run: &Run) -> String {
    let mut text = String::from("## Beside its peers\n\n");
    put(&mut text, &format!("`{}`", run.command));
    put(&mut text, &run.machine.words());
    put(&mut text, &conditions(run));
    put(&mut text, &figures(run));
    put(&mut text, &builds(run));
    put(
        &mut text,
        "Cells are medians over the rounds with their range, then the ratio to `direct` and to \
         `rathole-tls` in this run.",
    );
    for (title, columns) in [
        ("Bulk, MB/s (10^6 bytes)", BULK.as_slice()),
        ("Processor seconds per GB, of both programs", &PROCESSOR),
        ("New connections and requests", &REQUESTS),
        ("Latency, and fairness", &LATENCY),
    ] {
        put(&mut text, &table(run, title, columns));
    }
    put(&mut text, &memory(run));
    put(&mut text, &miscarried(run));
    text
}

fn put(text: &mut String, paragraph: &str) {
    if !paragraph.is_empty() {
        text.push_str(paragraph.trim_end());
        text.push_str("\n\n");
    }
}

fn conditions(run: &Run) -> String {
    let mut words = format!(
        "{} rounds, each test measured for {} ms.",
        run.rounds, run.window_ms
    );
    if let Some(foreign) = run.over_all("foreign_ratio") {
        let percent = |ratio: f64| format!("{:.0} %", ratio * 100.0);
        write!(
            words,
            " Other processes and the kernel's own threads used {} of the machine meanwhile \
             (median of all tests; at worst {}).",
            percent(foreign.median),
            percent(foreign.most)
        )
        .expect("a String takes everything");
        if foreign.median > QUIET_RATIO {
            words.push_str(
                " **The machine was not quiet**: verdicts are provisional, and tails of latencies \
                 are mostly the others'.",
            );
        }
    }
    if !run.lacking.is_empty() {
        write!(words, " Not on the PATH: {}.", run.lacking.join(", "))
            .expect("a String takes everything");
    }
    words
}

fn figures(run: &Run) -> String {
    let mut rows = String::new();
    for figure in &FIGURES {
        for peer in &run.peers {
            let transport = peer.transport.as_deref().unwrap_or_default();
            if !figure.transports.contains(&transport) {
                continue;
            }
            let Some(verdict) = figure.verdict(run, &peer.name) else {
                continue;
            };
            writeln!(
                rows,
                "| {} | {} | {} | {} | {} |",
                figure.words,
                peer.name,
                figure.bound.words(),
                figure.bound.show(verdict.measured),
                if verdict.is_reached {
                    "pass"
                } else {
                    "**miss**"
                }
            )
            .expect("a String takes everything");
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!("| Figure | of | to be | is | |\n| --- | --- | --- | --- | --- |\n{rows}")
}

/// Builds of ours beside each other: how each relates to the first.
fn builds(run: &Run) -> String {
    let mut rows = String::new();
    for transport in ["ws", "quic"] {
        let mut ours = run
            .peers
            .iter()
            .filter(|peer| peer.transport.as_deref() == Some(transport));
        let Some(first) = ours.next() else { continue };
        for other in ours {
            for column in BULK
                .iter()
                .chain(&PROCESSOR)
                .chain(&REQUESTS)
                .chain(&LATENCY)
            {
                let metric = column.metric;
                let (Some(ratio), Some(range)) = (
                    run.ratio(&other.name, &first.name, metric),
                    run.ratio_by_round(&other.name, &first.name, metric),
                ) else {
                    continue;
                };
                writeln!(
                    rows,
                    "| {} | {} | {} / {} | {ratio:.2} | {:.2}–{:.2} |",
                    metric.test.name(),
                    metric.name,
                    other.name,
                    first.name,
                    range.least,
                    range.most
                )
                .expect("a String takes everything");
            }
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "### Builds beside each other\n\n\
         | test | figure | of | ratio of medians | ratios of the rounds |\n\
         | --- | --- | --- | --- | --- |\n{rows}"
    )
}

fn table(run: &Run, title: &str, columns: &[Column]) -> String {
    let has_any = |column: &&Column| {
        let metric = column.metric;
        run.peers
            .iter()
            .any(|peer| run.spread(&peer.name, metric).is_some())
    };
    let columns: Vec<&Column> = columns.iter().filter(has_any).collect();
    if columns.is_empty() {
        return String::new();
    }
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let mut text = format!(
        "### {title}\n\n| | {} |\n|{}\n",
        titles.join(" | "),
        " --- |".repeat(columns.len() + 1)
    );
    for peer in &run.peers {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| cell(run, &peer.name, column))
            .collect();
        if cells.iter().any(|cell| cell != "–") {
            writeln!(text, "| {} | {} |", peer.name, cells.join(" | "))
                .expect("a String takes everything");
        }
    }
    text
}

fn cell(run: &Run, peer: &str, column: &Column) -> String {
    let Some(spread) = run.spread(peer, column.metric) else {
        return "–".to_owned();
    };
    let mut text = range(spread);
    if column.has_ratios {
        for to in ["direct", REFERENCE] {
            if let Some(ratio) = run.ratio(peer, to, column.metric) {
                write!(text, " · {ratio:.2}").expect("a String takes everything");
            }
        }
    }
    text
}

fn range(spread: Spread) -> String {
    if spread.least.total_cmp(&spread.most).is_eq() {
        return number(spread.median);
    }
    format!(
        "{} ({}–{})",
        number(spread.median),
        number(spread.least),
        number(spread.most)
    )
}

/// Three digits or all before the point: more would be noise.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn memory(run: &Run) -> String {
    let mut rows = String::new();
    for peer in &run.peers {
        let of = |side: &str| {
            let metric = format!("{side}_peak_mb");
            let all = run
                .samples
                .iter()
                .filter(|one| one.peer == peer.name && one.test == "memory")
                .filter(|one| one.metric == metric);
            Spread::of(all.map(|one| one.value))
        };
        if let (Some(server), Some(client)) = (of("server"), of("client")) {
            writeln!(
                rows,
                "| {} | {} | {} |",
                peer.name,
                range(server),
                range(client)
            )
            .expect("a String takes everything");
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "### Largest resident memory during all tests, MB\n\n| | server | client |\n| --- | --- | --- |\n{rows}"
    )
}

fn miscarried(run: &Run) -> String {
    if run.miscarried.is_empty() {
        return String::new();
    }
    let mut text = String::from("### Tests without a figure\n\n");
    for one in &run.miscarried {
        let why = one.why.lines().next().unwrap_or_default();
        writeln!(
            text,
            "- round {}, {}, {}: {why}",
            one.round, one.peer, one.what
        )
        .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::run;

    #[test]
    fn the_report_has_medians_ranges_ratios_and_verdicts() {
        let text = markdown(&run(&[
            ("direct", &[1000.0, 2000.0]),
            (REFERENCE, &[100.0, 200.0]),
            ("sternline-ws", &[90.0, 30.0]),
        ]));

        assert!(
            text.contains("| sternline-ws | 60.0 (30.0–90.0) · 0.04 · 0.40 |"),
            "{text}"
        );
        assert!(
            text.contains(
                "| one stream down | sternline-ws | ≥ 1× rathole-tls | 0.40× | **miss** |"
            ),
            "{text}"
        );
    }

    #[test]
    fn two_builds_of_ours_are_set_against_each_other() {
        let text = markdown(&run(&[
            ("before-ws", &[10.0, 20.0]),
            ("after-ws", &[20.0, 20.0]),
        ]));

        assert!(
            text.contains("| down-1 | mb_per_s | after-ws / before-ws | 1.33 | 1.00–2.00 |"),
            "{text}"
        );
    }

    #[test]
    fn a_run_is_written_as_section_plots_and_raw_rounds() {
        let folder = tempfile::tempdir().unwrap();
        let measured = run(&[("direct", &[1000.0]), ("sternline-ws", &[90.0])]);

        write(&measured, &Results::new(folder.path())).unwrap();

        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(read("RESULTS.md").contains("(plots/bulk.svg)"));
        assert!(read("plots/bulk.svg").contains("sternline-ws"));
        assert!(!read("plots/bulk.svg").contains("direct"));
        assert!(!folder.path().join("plots/http.svg").exists());
        let again: Run = serde_json::from_str(&read("raw/compare.json")).unwrap();
        assert_eq!(again.samples.len(), measured.samples.len());
    }

    #[test]
    fn what_was_not_measured_has_no_table() {
        let text = markdown(&run(&[("direct", &[1.0])]));

        assert!(!text.contains("Latency"), "{text}");
        assert!(!text.contains("Builds"), "{text}");
    }
}
