//! What people and programs read of runs: a table, JSON, JUnit, and one page of HTML.
//!
//! All but `write` and the terminal of `progress` are pure functions of a suite: the same
//! runs give the same bytes, so that two reports can be compared. What a clock or a
//! command line says is in [`About`], and an argument.

pub mod escape;
pub mod figure;
pub mod html;
pub mod json;
pub mod junit;
pub mod progress;
pub mod summary;
pub mod table;
pub mod write;

#[cfg(test)]
mod fixture;

/// Where a suite comes from, in words that reports repeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The program, with its release and commit.
    pub program: String,
    /// What was asked for: the command line.
    pub command: String,
    /// When that was, for a reader.
    pub began: String,
}
