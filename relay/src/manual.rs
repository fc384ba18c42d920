//! Man pages and shell completions, from the command line's own description.

use std::{
    io::{self, Write},
    path::Path,
};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Arguments;

/// As it is called.
const PROGRAM: &str = "sternline-relay";

/// Prints the completions of a shell.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn print_completions(shell: Shell) -> io::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), PROGRAM, &mut text);
    let text = String::from_utf8_lossy(&text);
    // One of the two tables in bash's takes the hyphen in our name for the boundary
    // between two commands, and then knows no command that the other one names.
    let split = PROGRAM.replace('-', "__subcmd__");
    let whole = PROGRAM.replace('-', "__");
    io::stdout().write_all(text.replace(&split, &whole).as_bytes())
}

/// Writes a man page of each command into a folder, made where it is missing.
///
/// # Errors
///
/// The folder cannot be made or written.
pub fn write_pages(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)
}
