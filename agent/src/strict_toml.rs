//! Strict reading of TOML: every mistake of a file at once, each with its line.

use std::fmt;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One mistake in a file, in the environment or on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `line 3`, `STERNLINE_AGENT_TRANSPORT`, `--transport`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// A parsed file that knows the lines of its values.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    /// Its top-level table.
    pub table: DeTable<'a>,
}

impl<'a> Document<'a> {
    /// Parses the text; what is not TOML at all ends up in `mistakes`.
    pub fn parse(text: &'a str, mistakes: &mut Vec<Mistake>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let document = Self {
            text,
            table: table.into_inner(),
        };
        mistakes.extend(errors.iter().map(|error| Mistake {
            place: document.place(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        }));
        document
    }

    /// Names the line of a byte of the text.
    pub fn place(&self, offset: usize) -> String {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        format!(
            "line {}",
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        )
    }

    /// A mistake at a value.
    pub fn mistake<T>(&self, at: &Spanned<T>, problem: impl Into<String>) -> Mistake {
        Mistake {
            place: self.place(at.span().start),
            problem: problem.into(),
        }
    }
}

/// What a value is, for a message that says what was expected.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Joins names for a message: "`a`, `b` or `c`".
pub fn alternatives(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_toml_is_named_with_its_line() {
        let mut mistakes = Vec::new();

        Document::parse("a = 1\nb = = 2\n", &mut mistakes);

        assert_eq!(mistakes[0].place, "line 2");
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(alternatives(&["a"]), "`a`");
    }
}
