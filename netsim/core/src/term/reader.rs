//! Reading a file: its text, and the mistakes found so far.

use std::fmt;

use toml::{Spanned, de::DeTable};

use super::Place;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.problem
        )
    }
}

/// A file being read.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    found: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    /// Parses the text. What is not TOML at all is the first mistake; what could be
    /// read beside it is returned all the same.
    pub fn parse(text: &'a str) -> (Self, Spanned<DeTable<'a>>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let found = errors
            .iter()
            .map(|error| {
                let at = error.span().map_or(0, |place| place.start);
                (at, error.message().to_owned())
            })
            .collect();
        (Self { text, found }, table)
    }

    /// Notes a mistake at a place.
    pub fn report(&mut self, place: &Place, problem: impl Into<String>) {
        self.found.push((place.start, problem.into()));
    }

    /// Whether nothing was wrong so far.
    pub const fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// All mistakes, in the order of the file.
    pub fn mistakes(mut self) -> Vec<Mistake> {
        self.found.sort();
        self.found.dedup();
        self.found
            .iter()
            .map(|(at, problem)| self.mistake(*at, problem))
            .collect()
    }

    fn mistake(&self, at: usize, problem: &str) -> Mistake {
        let before = self.text.get(..at.min(self.text.len())).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Mistake {
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_start..].chars().count(),
            problem: problem.to_owned(),
        }
    }
}
