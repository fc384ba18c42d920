//! What a person or a script gets to see: results on standard output, everything
//! else on standard error. Colour only on a terminal (`NO_COLOR` is honoured).

use std::io::{self, Write};

use super::failure::{Exit, Failure};

/// Ends any colour.
pub const PLAIN: &str = "\x1b[0m";
/// Headings and names.
pub const BOLD: &str = "\x1b[1m";
/// What is secondary.
pub const DIM: &str = "\x1b[2m";
/// Well.
pub const GREEN: &str = "\x1b[32m";
/// Not well, and may mend itself.
pub const YELLOW: &str = "\x1b[33m";
/// A person must act.
pub const RED: &str = "\x1b[31m";
/// The word that begins an error.
pub const RED_BOLD: &str = "\x1b[1;31m";

/// Who reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A person.
    Text,
    /// A script.
    Json,
}

/// Writes a result to standard output. A reader that went away is not an error:
/// `… | head` has seen what it wanted.
///
/// # Errors
///
/// Standard output cannot be written, on a full disk for example.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| {
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    });
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Internal,
            format!("cannot write to standard output: {error}"),
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a result to standard output as indented JSON.
///
/// # Errors
///
/// As [`print`].
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// Writes a note to standard error; where that is closed, nobody wants to know.
pub fn note(text: &str) {
    let mut stderr = anstream::stderr().lock();
    writeln!(stderr, "{text}").ok();
}

/// The text as it is shown where colour is not.
#[cfg(test)]
pub fn without_colour(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}
