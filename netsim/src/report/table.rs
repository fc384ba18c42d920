//! The table that ends a run, for a person at a terminal.
//!
//! It is written with colour, which is taken out where the reader is no terminal, and
//! fits a hundred columns. What is wrong comes last, because that is what is on the
//! screen when a long run has ended; the last line is the verdict.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    escape::terminal,
    figure::{count, counted, percentile, span},
    summary::{self, Failure, Group, replay_line},
};
use crate::outcome::Suite;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// The widest line.
const COLUMNS: usize = 100;

/// How many runs that fail alike have their replay line here; reports have all.
const REPLAYS_MAX: usize = 3;

/// Everything that is said at the end of a run.
pub fn text(suite: &Suite) -> String {
    let groups = summary::groups(suite);
    let mut page = Page::default();
    page.rows(&groups);
    page.skipped(suite);
    page.noticed(&groups);
    page.known_failing(&groups);
    page.failures(&summary::failures(&groups));
    page.rest(suite);
    page.verdict(suite, &groups);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(format_args!("{line}\n"))
            .expect("a String takes everything");
    }

    fn heading(&mut self, colour: &str, title: &str, number: usize) {
        self.line(format_args!(
            "\n{BOLD}{colour}{title}{PLAIN} {DIM}({}){PLAIN}",
            count(number)
        ));
    }

    /// A sentence, on as many lines as it takes, under each other.
    fn sentence(&mut self, indent: usize, colour: &str, sentence: &str) {
        for line in wrapped(&terminal(sentence), COLUMNS - indent) {
            self.line(format_args!("{:indent$}{colour}{line}{PLAIN}", ""));
        }
    }

    fn rows(&mut self, groups: &[Group<'_>]) {
        let run: Vec<_> = groups
            .iter()
            .filter(|group| !group.runs.is_empty())
            .collect();
        if run.is_empty() {
            return;
        }
        let names = run.iter().map(|group| group.scenario.as_str().len());
        let width = names.max().unwrap_or(0).max("scenario".len());
        self.line(format_args!(
            "{DIM}  {:width$}  world  {:>6}  {:>6}  {:>12}  {:>12}  {:>7}{PLAIN}",
            "scenario", "runs", "passed", "recovery p50", "p99", "vacuous"
        ));
        let mut above = None;
        for group in &run {
            let is_repeated = above == Some(group.scenario);
            above = Some(group.scenario);
            self.row(group, width, is_repeated);
        }
    }

    fn row(&mut self, group: &Group<'_>, width: usize, is_repeated: bool) {
        let (colour, sign) = if group.has_failed() {
            (RED, "✗")
        } else {
            (GREEN, "✓")
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
        self.line(format_args!(
            "{colour}{sign}{PLAIN} {}{:width$}{PLAIN}  {:5}  {:>6}  {colour}{:>6}{PLAIN}  \
             {:>12}  {:>12}  {:>7}",
            if is_repeated { DIM } else { "" },
            group.scenario.as_str(),
            group.world.as_str(),
            count(group.runs.len()),
            count(group.passed()),
            quantile(50),
            quantile(99),
            vacuous,
        ));
    }

    fn skipped(&mut self, suite: &Suite) {
        if suite.skipped.is_empty() {
            return;
        }
        self.heading(YELLOW, "Skipped", suite.skipped.len());
        for skipped in &suite.skipped {
            self.line(format_args!(
                "  {} {DIM}{}{PLAIN}",
                skipped.scenario, skipped.world
            ));
            self.sentence(4, DIM, &skipped.why);
        }
    }

    /// Each sentence once: what a world leaves out, it leaves out with every seed.
    fn noticed(&mut self, groups: &[Group<'_>]) {
        let mut noticed = BTreeSet::new();
        for run in groups.iter().flat_map(|group| &group.runs) {
            let of_it = run.notes.iter();
            noticed.extend(of_it.map(|note| (run.scenario.as_str(), run.world, note.as_str())));
        }
        if noticed.is_empty() {
            return;
        }
        self.heading(YELLOW, "Noticed", noticed.len());
        for (scenario, world, note) in noticed {
            self.line(format_args!("  {scenario} {DIM}{world}{PLAIN}"));
            self.sentence(4, DIM, note);
        }
    }

    fn known_failing(&mut self, groups: &[Group<'_>]) {
        let known = summary::known_failing(groups);
        if known.is_empty() {
            return;
        }
        self.heading(YELLOW, "Known to fail", known.len());
        for one in known {
            let of = counted(one.runs, "run", "runs");
            self.line(format_args!(
                "  {} {DIM}{}, in {of}{PLAIN}",
                one.scenario, one.world
            ));
            self.sentence(4, "", one.says);
            self.sentence(4, DIM, one.reason);
        }
    }

    fn failures(&mut self, failures: &[Failure<'_>]) {
        if failures.is_empty() {
            return;
        }
        self.heading(RED, "Failed", failures.len());
        for failure in failures {
            let of = counted(failure.runs.len(), "run", "runs");
            self.line(format_args!(
                "  {BOLD}{}{PLAIN} {DIM}{}, in {of}{PLAIN}",
                failure.scenario, failure.world
            ));
            self.sentence(4, "", failure.says);
            if let Some(became) = failure.became {
                self.sentence(4, RED, &became.to_string());
            }
            for run in failure.runs.iter().take(REPLAYS_MAX) {
                // Not wrapped: it is copied as one line.
                if let Some(line) = replay_line(run) {
                    self.line(format_args!("    {DIM}${PLAIN} {}", terminal(&line)));
                }
            }
            let left = failure.runs.len().saturating_sub(REPLAYS_MAX);
            if left > 0 {
                let seeds: Vec<_> = failure.runs[REPLAYS_MAX..]
                    .iter()
                    .take(10)
                    .map(|run| run.seed.0.to_string())
                    .collect();
                let more = if left > seeds.len() { ", …" } else { "" };
                let with = if left == 1 { "with seed" } else { "with seeds" };
                let others = format!("{} more {with} {}{more}", count(left), seeds.join(", "));
                self.sentence(4, DIM, &others);
            }
        }
    }

    /// What is wrong with all runs together.
    fn rest(&mut self, suite: &Suite) {
        if !suite.goals_missed.is_empty() {
            self.heading(
                RED,
                "Goals that no run has reached",
                suite.goals_missed.len(),
            );
        }
        for goal in &suite.goals_missed {
            let of = goal
                .scenario
                .as_ref()
                .map_or("all scenarios", |of| of.as_str());
            self.line(format_args!("  {of} {DIM}{}{PLAIN}", goal.world));
            self.sentence(4, "", &goal.says);
        }
        let disagree: Vec<_> = suite.parity.iter().filter(|one| !one.agrees()).collect();
        if !disagree.is_empty() {
            self.heading(RED, "The worlds disagree", disagree.len());
        }
        for parity in disagree {
            self.line(format_args!("  {}", parity.scenario));
            self.sentence(4, "", &parity.says);
            self.sentence(4, DIM, &format!("sim: {}", parity.sim));
            self.sentence(4, DIM, &format!("lab: {}", parity.lab));
        }
        if !suite.differing.is_empty() {
            self.heading(RED, "Run twice, and differing", suite.differing.len());
        }
        for sentence in &suite.differing {
            self.sentence(2, "", sentence);
        }
    }

    fn verdict(&mut self, suite: &Suite, groups: &[Group<'_>]) {
        let (colour, word) = match (suite.runs.is_empty(), suite.passed()) {
            (_, false) => (RED, "FAILED"),
            (true, true) => (YELLOW, "EMPTY"),
            (false, true) => (GREEN, "PASSED"),
        };
        let sentence = summary::verdict(suite, groups);
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        // As wide as the longest of the words and a gap.
        let lines = wrapped(&sentence, COLUMNS - 8);
        for (number, line) in lines.iter().enumerate() {
            let word = if number == 0 { word } else { "" };
            self.line(format_args!("{BOLD}{colour}{word:8}{PLAIN}{line}"));
        }
    }
}

/// Words on lines of at most so many characters; a longer word has a line of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        let length = line.chars().count() + 1 + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if length <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::fixture, *};

    fn plain(suite: &Suite) -> String {
        anstream::adapter::strip_str(&text(suite)).to_string()
    }

    #[test]
    fn the_table_has_a_line_for_each_scenario_and_world() {
        let text = plain(&fixture::suite());

        let rows: Vec<&str> = text.lines().take(4).collect();
        assert_eq!(
            rows,
            [
                "  scenario     world    runs  passed  recovery p50           p99  vacuous",
                "✓ open         sim         2       2        6.64 s        6.77 s        –",
                "✓ open         lab         1       1        6.64 s        6.64 s        –",
                "✗ udp-blocked  sim         7       2        7.05 s        7.46 s        1",
            ],
            "{text}"
        );
    }

    #[test]
    fn what_failed_is_told_with_lines_that_replay_it() {
        let text = plain(&fixture::suite());

        for told in [
            "Failed (2)\n  udp-blocked sim, in 5 runs\n    online within 10s after event:cut\n    \
             failed at 30.000000s: agent: online was not observed after 20.000000s\n    \
             $ sternline-netsim replay report/failures/udp-blocked-sim-3.toml\n",
            "    2 more with seeds 6, 7\n",
            "    cut of uplink touched no packet\n    $ sternline-netsim replay",
            "Known to fail (1)\n  udp-blocked sim, in 5 runs\n    never stream-reset\n",
            "Goals that no run has reached (1)\n  all scenarios sim\n",
            "The worlds disagree (1)\n  open\n    never stream-reset\n    sim: held\n    lab: failed",
            "Skipped (1)\n  vpn-flap lab\n    user namespaces",
            "Run twice, and differing (1)\n  open/sim seed 2",
        ] {
            assert!(text.contains(told), "{told}\nis not in\n{text}");
        }
        let (_, last) = text.rsplit_once("\n\n").expect("it stands apart");
        assert!(last.starts_with("FAILED  5 of 10 runs"), "{last}");
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
    }

    #[test]
    fn what_passed_ends_with_one_calm_line() {
        let suite = Suite {
            runs: vec![fixture::run("open", netsim_core::model::World::Sim, 1)],
            ..Suite::default()
        };

        assert!(plain(&suite).ends_with("\n\nPASSED  1 run of 1 scenario\n"));
        assert_eq!(plain(&Suite::default()), "EMPTY   nothing was run\n");
    }

    #[test]
    fn what_is_noticed_with_every_seed_is_said_once() {
        let lab = netsim_core::model::World::Lab;
        let mut suite = Suite {
            runs: vec![
                fixture::run("clock-skew", lab, 1),
                fixture::run("clock-skew", lab, 2),
            ],
            ..Suite::default()
        };
        for run in &mut suite.runs {
            run.notes.push("clocks are right".to_owned());
        }

        let shown = plain(&suite);

        assert!(
            shown.contains("Noticed (1)\n  clock-skew lab\n    clocks are right\n"),
            "{shown}"
        );
    }

    #[test]
    fn a_reason_cannot_move_the_cursor() {
        let mut suite = fixture::suite();
        suite.skipped[0].why = "\x1b[2J gone\r".to_owned();

        let shown = text(&suite);

        assert!(!shown.contains("\x1b[2J") && !shown.contains('\r'));
    }

    proptest! {
        #[test]
        fn a_sentence_is_wrapped_without_losing_a_word(
            words in prop::collection::vec("[a-zü]{1,30}", 0..40), columns in 30_usize..90,
        ) {
            let lines = wrapped(&words.join(" "), columns);

            prop_assert!(lines.iter().all(|line| line.chars().count() <= columns));
            prop_assert_eq!(lines.join(" "), words.join(" "));
        }
    }
}
