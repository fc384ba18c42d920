//! Man pages and shell completions, from the description of a command line. A module of
//! each of the programs.

use std::{
    io::{self, Write},
    path::Path,
};

use clap::Command;
use clap_complete::Shell;

/// Prints the completions of a shell.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn print_completions(mut command: Command, shell: Shell) -> io::Result<()> {
    let program = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, &program, &mut text);
    let text = String::from_utf8_lossy(&text);
    // One of the two tables in bash's takes the hyphen in our name for the boundary
    // between two commands, and then knows no command that the other one names.
    let split = program.replace('-', "__subcmd__");
    let whole = program.replace('-', "__");
    io::stdout().write_all(text.replace(&split, &whole).as_bytes())
}

/// Writes a man page of each command into a folder, made where it is missing.
///
/// # Errors
///
/// The folder cannot be made or written.
pub fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}
