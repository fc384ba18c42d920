//! How far a long run is, on standard error.
//!
//! On a terminal it is one line that is rewritten; elsewhere, as in the log of a CI
//! system, a line every few seconds. A failure is told at once. The clock is an argument,
//! and what is to be written comes back as text.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use super::{
    escape::terminal,
    figure::{count, span},
    summary::replay_line,
};
use crate::outcome::Run;

/// How often the line of a terminal is rewritten: as often as digits can be read.
const REWRITTEN_EVERY: Duration = Duration::from_millis(100);

/// How often a line is added elsewhere.
const ADDED_EVERY: Duration = Duration::from_secs(5);

/// How many failures are told one by one: after them, the table at the end tells more.
const TOLD_MAX: usize = 10;

/// The longest line: a rewritten one that wraps cannot be rewritten.
const COLUMNS: usize = 79;

/// How many steps the bar has.
const STEPS: usize = 16;

/// To the line's beginning, and empty it.
const CLEAR: &str = "\r\x1b[2K";

/// How far it is.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    done: usize,
    failed: usize,
    is_terminal: bool,
    /// When something was written last, if ever.
    written: Option<Duration>,
}

impl Progress {
    /// Of so many runs, on a terminal or elsewhere.
    pub const fn new(total: usize, is_terminal: bool) -> Self {
        Self {
            total,
            done: 0,
            failed: 0,
            is_terminal,
            written: None,
        }
    }

    /// Of so many runs, on standard error as it is.
    pub fn on_stderr(total: usize) -> Self {
        Self::new(total, io::stderr().is_terminal())
    }

    /// A run has ended, so long after the first began; the result is to be written as it
    /// is.
    pub fn done(&mut self, run: &Run, now: Duration) -> Option<String> {
        self.done += 1;
        let mut text = String::new();
        if !run.passed() {
            self.failed += 1;
            text.push_str(&self.failure(run));
        }
        let every = if self.is_terminal {
            REWRITTEN_EVERY
        } else {
            ADDED_EVERY
        };
        let is_due = self.written.is_none_or(|last| now >= last + every);
        if is_due || (self.is_terminal && !text.is_empty()) {
            self.written = Some(now);
            let line = self.line(run, now);
            let shown = if self.is_terminal {
                format!("{CLEAR}{line}")
            } else {
                format!("{line}\n")
            };
            text.push_str(&shown);
        }
        (!text.is_empty()).then_some(text)
    }

    /// All have ended: what makes room for the table.
    pub const fn finish(&self) -> Option<&'static str> {
        if self.is_terminal && self.written.is_some() {
            Some(CLEAR)
        } else {
            None
        }
    }

    fn failure(&self, run: &Run) -> String {
        let clear = if self.is_terminal { CLEAR } else { "" };
        if self.failed > TOLD_MAX {
            return if self.failed == TOLD_MAX + 1 {
                format!("{clear}further failures are told at the end\n")
            } else {
                String::new()
            };
        }
        let seed = run.seed.0;
        let first = run.failures().into_iter().next().unwrap_or_default();
        let mut text = format!(
            "{clear}failed: {} {} seed {seed}: {}\n",
            run.scenario,
            run.world,
            terminal(&first)
        );
        if let Some(line) = replay_line(run) {
            text.push_str(&format!("    {}\n", terminal(&line)));
        }
        text
    }

    fn line(&self, run: &Run, now: Duration) -> String {
        let mut parts = vec![format!("{}/{}", count(self.done), count(self.total))];
        if self.failed > 0 {
            parts.push(format!("{} failed", count(self.failed)));
        }
        if let Some(left) = self.left(now) {
            parts.push(format!("about {} left", span(left)));
        }
        parts.push(format!("{} {}", run.scenario, run.world));
        let line = format!("[{}] {}", self.bar(), parts.join("  "));
        if line.chars().count() <= COLUMNS {
            return line;
        }
        let cut: String = line.chars().take(COLUMNS - 1).collect();
        format!("{cut}…")
    }

    fn bar(&self) -> String {
        let done = (self.done * STEPS).checked_div(self.total);
        let done = done.unwrap_or(STEPS).min(STEPS);
        format!("{}{}", "=".repeat(done), " ".repeat(STEPS - done))
    }

    /// How long it will still take, if what is left takes as long as what is done.
    fn left(&self, now: Duration) -> Option<Duration> {
        let left = u32::try_from(self.total.saturating_sub(self.done)).ok()?;
        let each = now.checked_div(u32::try_from(self.done).ok()?)?;
        let left = each.saturating_mul(left);
        // Tenths of a second would flicker.
        let whole = Duration::from_secs(left.as_secs());
        (!whole.is_zero()).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use netsim_core::model::World;

    use super::{super::fixture, *};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_terminal_has_one_line_that_is_rewritten() {
        let mut progress = Progress::new(40, true);
        let run = fixture::run("open", World::Sim, 1);

        let first = progress.done(&run, SECOND);
        let too_soon = progress.done(&run, SECOND + Duration::from_millis(9));
        for _ in 0..7 {
            progress.done(&run, SECOND + Duration::from_millis(9));
        }
        let tenth = progress.done(&run, SECOND * 10);

        assert_eq!(
            first.as_deref(),
            Some("\r\x1b[2K[                ] 1/40  about 39.0 s left  open sim")
        );
        assert_eq!(too_soon, None);
        assert_eq!(
            tenth.as_deref(),
            Some("\r\x1b[2K[====            ] 10/40  about 30.0 s left  open sim")
        );
        assert_eq!(progress.finish(), Some(CLEAR));
    }

    #[test]
    fn a_log_has_a_line_every_few_seconds_and_nothing_to_rewrite() {
        let mut progress = Progress::new(2_000, false);
        let run = fixture::run("open", World::Sim, 1);

        let written: String = (0..2_000_u32)
            .filter_map(|number| progress.done(&run, SECOND / 100 * number))
            .collect();

        assert_eq!(written.lines().count(), 4, "{written}");
        assert!(!written.contains(['\r', '\x1b']));
        assert_eq!(progress.finish(), None);
    }

    #[test]
    fn a_failure_is_told_at_once_with_its_replay_line() {
        let mut progress = Progress::new(9, false);
        progress.done(&fixture::run("open", World::Sim, 1), SECOND);

        let told = progress.done(&fixture::failed_run(3), SECOND);

        let told = told.expect("a failure is told");
        assert!(
            told.starts_with("failed: udp-blocked sim seed 3: online within 10s"),
            "{told}"
        );
        assert!(
            told.ends_with("sternline-netsim replay report/failures/udp-blocked-sim-3.toml\n"),
            "{told}"
        );
    }

    #[test]
    fn a_thousand_failures_do_not_fill_the_screen() {
        let mut progress = Progress::new(1_000, false);

        let told: String = (0..1_000)
            .filter_map(|seed| progress.done(&fixture::failed_run(seed), SECOND))
            .collect();

        assert_eq!(told.matches("failed: ").count(), TOLD_MAX);
        assert_eq!(told.matches("further failures").count(), 1);
    }

    #[test]
    fn the_longest_name_does_not_wrap_the_line() {
        let mut progress = Progress::new(1_000_000, true);
        let run = fixture::run(&"long-".repeat(8), World::Sim, 1);

        let line = progress.done(&run, SECOND * 4_000).expect("the first line");

        let shown = line.trim_start_matches(CLEAR);
        assert!(shown.chars().count() <= COLUMNS, "{shown}");
    }
}
